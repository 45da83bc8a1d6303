"""What an avatar is: its attributes and measures, drawn by a counter-based generator from (seed, index)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]
"""Always float32; said less precisely because numpy's stubs think float + float32 were float64."""

Choices = NDArray[np.intp]

ATTRIBUTES: dict[str, dict[str, float]] = {
    "skin": {"porcelain": 0.20, "light": 0.25, "tan": 0.20, "brown": 0.20, "dark": 0.15},
    "hair_style": {
        "bald": 0.10,
        "short": 0.18,
        "spiky": 0.12,
        "curly": 0.15,
        "bob": 0.15,
        "long": 0.18,
        "buns": 0.12,
    },
    "hair_colour": {"black": 0.25, "brown": 0.25, "blonde": 0.18, "ginger": 0.12, "silver": 0.10, "pink": 0.10},
    "eyes": {"brown": 0.35, "blue": 0.25, "green": 0.22, "amber": 0.18},
    "mouth": {"smile": 0.35, "laugh": 0.20, "neutral": 0.18, "sad": 0.13, "surprised": 0.14},
    "beard": {"none": 0.62, "moustache": 0.16, "full": 0.22},
    "glasses": {"none": 0.60, "round": 0.15, "square": 0.15, "tinted": 0.10},
    "hat": {"none": 0.58, "cap": 0.14, "beanie": 0.15, "sunhat": 0.13},
    "background": {"sky": 0.20, "mint": 0.18, "coral": 0.17, "lavender": 0.16, "sunny": 0.15, "slate": 0.14},
    "clothes": {"red": 0.22, "navy": 0.22, "green": 0.20, "mustard": 0.20, "white": 0.16},
}
"""Attribute -> value -> frequency. The labels."""

DETAILS: dict[str, dict[str, float]] = {
    "freckles": {"no": 0.75, "yes": 0.25},
    "earrings": {"none": 0.70, "studs": 0.18, "hoops": 0.12},
    "lashes": {"no": 0.60, "yes": 0.40},
    "outfit": {"tee": 0.35, "stripes": 0.20, "shirt": 0.25, "hoodie": 0.20},
    "frame": {"ink": 0.50, "tortoise": 0.25, "crimson": 0.25},
}
"""Fine detail without a label -> value -> frequency."""

MEASURES: dict[str, tuple[float, float]] = {
    "head_x": (-0.045, 0.045),
    "head_y": (0.055, 0.105),
    "tilt": (-0.085, 0.085),  # tangent of the angle
    "zoom": (1.00, 1.08),
    "body_x": (-0.02, 0.02),
    "shoulders": (0.84, 0.98),
    "head_width": (0.435, 0.495),  # half of it, as are all widths
    "jaw": (0.80, 0.97),  # of the head width
    "chin": (0.45, 0.515),
    "neck": (0.15, 0.19),
    "eye_spacing": (0.20, 0.235),
    "eye_size": (0.93, 1.08),
    "eye_height": (-0.015, 0.015),
    "gaze_x": (-0.022, 0.022),
    "gaze_y": (-0.012, 0.018),
    "brow_lift": (-0.02, 0.015),
    "brow_slope": (-0.10, 0.20),
    "brow_bend": (0.015, 0.045),
    "nose_size": (0.85, 1.2),
    "mouth_width": (0.90, 1.12),
    "mouth_bend": (0.85, 1.2),
    "blush": (0.10, 0.45),
    "parting": (-1.0, 1.0),
    "volume": (-0.02, 0.03),
    "hair_length": (-0.05, 0.05),
    "disc": (0.78, 0.92),
    **{f"{part}_{channel}": (-1.0, 1.0) for part in ("skin", "hair", "page", "cloth", "eye") for channel in "rgb"},
}
"""Continuous measure -> lowest and highest value, uniform between. The picture spans -1 ... 1, y pointing down."""

LABEL_NAMES: tuple[str, ...] = tuple(
    f"{attribute}={value}" for attribute in ATTRIBUTES for value in ATTRIBUTES[attribute]
)
"""A name for each label column: "skin=porcelain", ... in the order of ATTRIBUTES."""

_TABLES: dict[str, tuple[str, ...]] = {name: tuple(table) for name, table in (ATTRIBUTES | DETAILS).items()}


@dataclass(frozen=True)
class Faces:
    """The traits of n avatars: everything `render` needs."""

    choices: Mapping[str, Choices]
    """Attribute or detail -> position of its value in the table, intp [n]."""
    measures: Mapping[str, Array]
    """Measure -> value, float32 [n, 1, 1], to go with pixels [n, R, R]."""

    def __len__(self) -> int:
        return len(self.choices["skin"])

    def __getitem__(self, measure: str) -> Array:
        return self.measures[measure]

    def at(self, rows: Choices) -> "Faces":
        """The faces at `rows` intp [m], in that order."""
        return Faces({k: v[rows] for k, v in self.choices.items()}, {k: v[rows] for k, v in self.measures.items()})

    def rows(self, name: str, *values: str) -> NDArray[np.bool_]:
        """Which faces have one of `values` of attribute or detail `name`: bool [n]."""
        return np.array([value in values for value in _TABLES[name]])[self.choices[name]]

    def having(self, **values: str) -> "Faces":
        """The same faces with some attributes or details set: `faces.having(hat="cap")`."""
        fixed = {k: np.full(len(self), _TABLES[k].index(v), np.intp) for k, v in values.items()}
        return replace(self, choices={**self.choices, **fixed})


def sample(indices: Sequence[int] | NDArray[np.integer[Any]], seed: int) -> Faces:
    """The traits of avatars `indices` [n] of `seed`."""
    keys = _keys(indices, seed)
    choices = {
        name: np.searchsorted(np.cumsum(list(table.values()))[:-1], _uniform(keys, name), side="right")
        for name, table in (ATTRIBUTES | DETAILS).items()
    }
    measures = {
        name: (low + (high - low) * _uniform(keys, name)).astype(np.float32)[:, None, None]
        for name, (low, high) in MEASURES.items()
    }
    return Faces(choices, measures)


def one_hot(faces: Faces) -> Array:
    """Labels float32 [n, L] in {0, 1}, columns LABEL_NAMES."""
    return np.concatenate(
        [np.eye(len(ATTRIBUTES[name]), dtype=np.float32)[faces.choices[name]] for name in ATTRIBUTES], axis=1
    )


def _keys(indices: Sequence[int] | NDArray[np.integer[Any]], seed: int) -> NDArray[np.uint64]:
    """One 64-bit key per avatar, uint64 [n]."""
    counter = np.asarray(indices, dtype=np.int64).reshape(-1).astype(np.uint64)
    return _mix(_mix(np.full(1, seed % 2**64, np.uint64)) + counter)


def _uniform(keys: NDArray[np.uint64], stream: str) -> NDArray[np.float64]:
    """Uniform numbers in [0, 1), float64 [n], one stream per *name*: a new trait leaves the others as they were."""
    bits = _mix(keys ^ np.uint64(crc32(stream.encode()) << 16)) >> np.uint64(11)
    return np.asarray(bits * 2.0**-53, np.float64)


def _mix(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """SplitMix64 (Steele, Lea and Flood 2014, figure 17): one step of the counter, then the finaliser. uint64 [n]."""
    state = state + np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        state = (state ^ (state >> np.uint64(shift))) * np.uint64(factor)
    return np.asarray(state ^ (state >> np.uint64(31)), np.uint64)
