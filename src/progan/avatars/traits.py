"""Traits of an avatar: its attributes, measures and colours, drawn by a counter-based generator from (seed, index)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]
"""Always float32; the type is wider because numpy's stubs think float + float32 were float64."""
Number = float | Array
Choices = NDArray[np.intp]
Indices = Sequence[int] | NDArray[np.integer[Any]]

ATTRIBUTES: dict[str, dict[str, float]] = {
    "skin": {"porcelain": 0.20, "light": 0.25, "tan": 0.20, "brown": 0.20, "dark": 0.15},
    "hair_style": {"bald": 0.1, "short": 0.18, "spiky": 0.12, "curly": 0.15, "bob": 0.15, "long": 0.18, "buns": 0.12},
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

# One designer's table, and a little jitter so that no two avatars share a tone.
PALETTE: dict[str, tuple[str, str, int, tuple[str, ...]]] = {
    "skin": ("skin", "skin", 5, ("#ffe2cf", "#f4c39b", "#d89c69", "#a76a41", "#7d4b2e")),
    "hair": ("hair_colour", "hair", 7, ("#231f29", "#56311a", "#f3ca62", "#d65f27", "#cfd4de", "#ea6da4")),
    "iris": ("eyes", "eye", 9, ("#5a3214", "#2f86e0", "#3f9c3d", "#e39a1b")),
    "page": ("background", "page", 7, ("#8fcdf4", "#9fe2bd", "#ffae96", "#c2b2f3", "#ffe292", "#56648f")),
    "cloth": ("clothes", "cloth", 7, ("#e2504a", "#34458f", "#2f9e73", "#f0aa35", "#f6f4ef")),
    "accent": ("clothes", "cloth", 4, ("#ffe9dc", "#f3c85a", "#eaf7dc", "#7a4a26", "#e2675f")),  # stripes, collars ...
    "frame": ("frame", "cloth", 0, ("#25242c", "#7a4526", "#a3283c")),
}
"""Part -> the attribute that decides, the measures that jitter, by how many levels of 255, a colour for each value."""
WHITE, INK, MAROON, GOLD = "#ffffff", "#2a2530", "#6b1f2b", "#f2bb3c"

LABEL_NAMES = tuple(f"{attribute}={value}" for attribute, table in ATTRIBUTES.items() for value in table)
"""A name for each label column: "skin=porcelain", ... in the order of ATTRIBUTES."""


@dataclass(frozen=True)
class Faces:
    """The traits of n avatars: everything that drawing needs."""

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

    def have(self, name: str, values: tuple[str, ...]) -> NDArray[np.bool_]:
        """True for each face that has one of `values` of attribute or detail `name`: bool [n]."""
        return np.array([value in values for value in (ATTRIBUTES | DETAILS)[name]])[self.choices[name]]

    def colour(self, part: str) -> Array:
        """Colour of a part of PALETTE, float32 [n, 3], 0 ... 255."""
        attribute, jitter, reach, table = PALETTE[part]
        base = np.concatenate([rgb(code) for code in table])[self.choices[attribute]]
        noise = np.concatenate([self[f"{jitter}_{channel}"][:, :, 0] for channel in "rgb"], axis=1)
        return np.asarray(np.clip(base + noise * np.float32(reach), 0, 255), np.float32)


def sample(indices: Indices, seed: int) -> Faces:
    """The traits of avatars `indices` [n] of `seed`."""
    counter = np.asarray(indices, dtype=np.int64).reshape(-1).astype(np.uint64)
    keys = _mix(_mix(np.full(1, seed % 2**64, np.uint64)) + counter)  # 64 bits for each avatar

    def uniform(stream: str) -> NDArray[np.float64]:
        """In [0, 1), float64 [n], one stream per *name*: a new trait leaves the others as they were."""
        bits = _mix(keys ^ np.uint64(crc32(stream.encode()) << 16)) >> np.uint64(11)
        return np.asarray(bits * 2.0**-53, np.float64)

    choices = {
        name: np.searchsorted(np.cumsum(list(table.values()))[:-1], uniform(name), side="right")
        for name, table in (ATTRIBUTES | DETAILS).items()
    }
    measures = {
        name: (low + (high - low) * uniform(name)).astype(np.float32)[:, None, None]
        for name, (low, high) in MEASURES.items()
    }
    return Faces(choices, measures)


def _mix(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """SplitMix64 (Steele, Lea and Flood 2014, figure 17): one step of the counter, then the finaliser. uint64 [n]."""
    state = state + np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        state = (state ^ (state >> np.uint64(shift))) * np.uint64(factor)
    return np.asarray(state ^ (state >> np.uint64(31)), np.uint64)


def rgb(code: str) -> Array:
    """The colour "#rrggbb" as float32 [1, 3], 0 ... 255."""
    return np.array([[int(code[i : i + 2], 16) for i in (1, 3, 5)]], np.float32)


def mix(one: Array, two: Array | str, share: float | Array) -> Array:
    """Colour between `one` (share 0) and `two` (share 1), float32 [n, 3]."""
    other = rgb(two) if isinstance(two, str) else two
    return np.asarray(one + (other - one) * share, np.float32)


def shade(colour: Array, amount: float = 1.0) -> Array:
    """`colour` in the shadow: darker and warmer, float32 [n, 3]."""
    return mix(colour, colour * rgb("#c79a9f") / np.float32(255), amount)


def dim(colour: Array, amount: float = 1.0) -> Array:
    """`colour` in the shadow, less warm: for hair and clothes, float32 [n, 3]."""
    return mix(colour, colour * rgb("#b5a3a5") / np.float32(255), amount)
