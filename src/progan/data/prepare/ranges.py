"""Which values become 0 … 255: decided once for a whole set, whatever the dtype and the container.

Pictures of 8 unsigned bits are what they are; only a set of them whose largest value is 1 is a set of masks, and is
scaled. The range of all other numbers is the smallest usual one that holds every finite value of the set, to within 1 %
of its width, else their minimum and maximum. Integers and floats share one range, unless the floats lie in 0 … 1 or
-1 … 1, which then are another unit than that of the integers.
"""

import dataclasses
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from progan.data.prepare.values import values_of, wide
from progan.data.sources.base import Reader, Unreadable, Values
from progan.errors import DatasetError

Ends = tuple[float, float]
"""Lowest and highest value."""

USUAL: tuple[Ends, ...] = ((0, 1), (-1, 1), (0, 255), (0, 1023), (0, 4095), (0, 16383), (0, 65535))
"""Smallest first: floats, floats around 0, and unsigned integers of 8, 10, 12, 14 and 16 bits."""
_USED, _OVERSHOOT = 0.1, 0.1
_TOLERANCE = 0.01  # of a range's width: interpolation overshoots, sensors have an offset
_NOTHING = (math.inf, -math.inf)  # extremes of no number


class Unmeasured(Exception):
    """A picture has numbers of a kind whose range nobody has looked for yet."""


@dataclass(frozen=True)
class Ranges:
    """The values that become 0 and 255, of each kind of number in a set."""

    bytes: Ends = (0, 255)
    """Range of pictures of 8 unsigned bits: 0 … 1 for masks."""
    integers: Ends | None = None
    """Range of all other integers; None: there are none, as far as is known."""
    floats: Ends | None = None
    alpha: Ends | None = None
    """Range of the transparency that comes with such numbers."""
    given: bool = False
    """True if the user gave the range: then windows that files bring (DICOM) do not count."""

    @staticmethod
    def by_user(low: float, high: float) -> "Ranges":
        """The range of `--range`. Pictures of 8 bits keep theirs where it reaches beyond 255, as that of 16 does."""
        ends = (low, high)
        return Ranges(ends if low >= 0 and high <= 255 else (0, 255), ends, ends, None, given=True)

    def of(self, kind: str) -> Ends:
        """Range of a kind of number (`kind_of`). Raises Unmeasured."""
        ends: Ends | None = (0, 1) if kind == "booleans" else getattr(self, kind)
        if ends is None:
            raise Unmeasured
        return ends


def kind_of(dtype: np.dtype[Any]) -> str:
    """`booleans`, `bytes` (8 unsigned bits), `integers` or `floats`. Raises Unreadable for what cannot be pixels."""
    if dtype.kind not in "buif":
        raise Unreadable("not pixels", f"values of type {dtype}")
    return {"b": "booleans", "f": "floats"}.get(dtype.kind) or ("bytes" if dtype == np.uint8 else "integers")


# --- the first pass


@dataclass(frozen=True)
class Extremes:
    """Lowest and highest finite value of each kind of number that was met."""

    ends: dict[str, Ends] = dataclasses.field(default_factory=dict)

    def joined(self, other: "Extremes") -> "Extremes":
        """Those of both."""
        ends = dict(self.ends)
        for kind, (low, high) in other.ends.items():
            before = ends.get(kind, (low, high))
            ends[kind] = (min(low, before[0]), max(high, before[1]))
        return Extremes(ends)

    def with_numbers(self, kind: str, numbers: npt.NDArray[Any]) -> "Extremes":
        """Those of the finite numbers, too."""
        if numbers.dtype.kind == "f":
            numbers = numbers[np.isfinite(numbers)]
        ends = (float(numbers.min()), float(numbers.max())) if numbers.size else _NOTHING
        return self.joined(Extremes({kind: ends}))

    @property
    def has_masks(self) -> bool:
        """True as long as pictures of 8 bits may be masks: none has a value above 1."""
        return self.ends.get("bytes", (0, 255))[1] <= 1


def look(pictures: Iterable[Image.Image | Values | Unreadable], every: bool = True) -> Extremes:
    """Extremes of pictures; those of 8 bits are decoded only until one cannot be a mask.

    `every` False: the first of each kind will do, to see what there is.
    """
    found = Extremes()
    for picture in pictures:
        if isinstance(picture, Unreadable):
            continue
        try:
            if isinstance(picture, Image.Image) and not wide(picture):
                if found.has_masks or "bytes" not in found.ends:
                    found = found.joined(Extremes({"bytes": _peak(picture)}))
                continue
            if not every and found.ends.keys() & {"integers", "floats"}:
                continue
            values = values_of(picture) if isinstance(picture, Image.Image) else picture
            kind = kind_of(values.numbers.dtype)
            if kind != "booleans" and values.window is None and values.numbers.size:
                found = found.with_numbers(kind, values.colours)
            if values.alpha is not None and kind in ("integers", "floats"):
                found = found.with_numbers("alpha", values.alpha)
        except Exception:  # damaged: will be said when it is its turn
            continue
    return found


def _peak(image: Image.Image) -> Ends:
    """Extremes of a picture of 8 bits, without its transparency."""
    if image.mode in ("1", "CMYK", "YCbCr", "LAB", "HSV"):
        return 0, 255
    flat = image if image.mode in ("L", "RGB") else image.convert("L" if image.mode in ("LA", "La") else "RGB")
    extrema: Any = flat.getextrema()
    bands = extrema if flat.mode == "RGB" else (extrema,)
    return min(low for low, _ in bands), max(high for _, high in bands)


def look_at(reader: Reader, entries: Sequence[Any], resolution: int) -> Extremes:
    """Extremes of a part of a source, for a worker process."""
    return look(reader.read(entries, resolution))


def decide(found: Extremes) -> Ranges:
    """The ranges of a set from the extremes of all its pictures. Raises DatasetError where there is nothing to see."""
    if found.ends and set(found.ends.values()) == {_NOTHING}:
        raise DatasetError("all values are NaN or infinite, which are no pixels. Save numbers")
    ends = {kind: each for kind, each in found.ends.items() if each != _NOTHING}
    integers, floats = ends.get("integers"), ends.get("floats")
    ranges = Ranges(
        bytes=(0, 1) if ends.get("bytes", (0, 255)) in ((0, 1), (1, 1)) else (0, 255),
        integers=usual(*integers) if integers else None,
        floats=usual(*floats, floats=True) if floats else None,
        alpha=usual(*ends["alpha"]) if "alpha" in ends else None,
    )
    if integers and floats and ranges.floats not in USUAL[:2]:  # one unit
        both = usual(min(integers[0], floats[0]), max(integers[1], floats[1]))
        ranges = dataclasses.replace(ranges, integers=both, floats=both)
    return ranges


def usual(low: float, high: float, floats: bool = False) -> Ends:
    """The smallest usual range that holds low … high to within 1 % of its width, else that itself.

    A range is not taken where less than a tenth of it would be used: all of 0 … 9 would be black in 0 … 255. Nor is a
    wider one for `floats` that overshoot one by up to a tenth: -0.05 … 1 would be washed out in -1 … 1.
    """
    for least, most in USUAL:
        width = most - least
        within = [low >= least - part * width and high <= most + part * width for part in (_TOLERANCE, _OVERSHOOT)]
        if within[0] and (width <= 2 or high >= most * _USED):
            return least, most
        if within[1] and floats:
            break
    if low == high:
        raise DatasetError(f"all values are {low:g}. Say with --range LOW:HIGH which become black and white")
    return low, high


def range_text(ends: Ends) -> str:
    """`LOW:HIGH`, exact, as `--range` takes it."""
    return ":".join(str(int(value)) if value == int(value) else repr(value) for value in ends)


# --- from numbers to pixels


@dataclass
class Tally:
    """What was done to the pictures of a set and should be said; counts add up."""

    wide: int = 0
    """Pictures of numbers that are not 8 unsigned bits."""
    stretched: int = 0
    """Pictures of 8 bits that were scaled: masks, or by the user's range."""
    windowed: int = 0
    """Pictures shown through the window of their file (DICOM)."""
    not_finite: int = 0
    """Values that are NaN or infinite: black, or the end of the range."""
    outside: int = 0
    """Values more than 1 % outside the range, which were cut off."""
    values: int = 0
    """Values of these pictures."""
    recoloured: int = 0
    """Pictures brought from another colour profile to sRGB."""
    profiles_ignored: int = 0
    """Pictures whose colour profile is broken or not for their kind of pixels."""
    first_frames: int = 0
    """Pictures that are the first one of an animation."""
    extended: int = 0
    """Faces whose square reaches beyond their picture."""

    def add(self, other: "Tally") -> "Tally":
        """Sum of two."""
        return Tally(*(a + b for a, b in zip(vars(self).values(), vars(other).values(), strict=True)))


def to_picture(values: Values, ranges: Ranges, tally: Tally) -> Image.Image:
    """A picture of mode L, LA, RGB or RGBA. Raises Unreadable without a finite value, Unmeasured without a range."""
    numbers, kind = values.colours, kind_of(values.numbers.dtype)
    finite = np.isfinite(numbers)
    missing = int(numbers.size - np.count_nonzero(finite))
    if missing == numbers.size:
        raise Unreadable("no finite value", "all are NaN or infinite")
    windowed = values.window is not None and not ranges.given
    low, high = values.window if values.window is not None and windowed else ranges.of(kind)
    scaled = _scaled(numbers, low, high)
    slack = 255 * _TOLERANCE
    if not windowed:  # a window is meant to cut
        tally.outside += int(np.count_nonzero(((scaled < -slack) | (scaled > 255 + slack)) & finite))
    pixels = np.rint(np.nan_to_num(scaled, nan=0, posinf=255, neginf=0)).clip(0, 255).astype(np.uint8)
    if values.inverted:
        pixels = np.where(np.isnan(numbers), 0, 255 - pixels).astype(np.uint8) if missing else 255 - pixels
    tally.wide += kind != "bytes"
    tally.stretched += kind == "bytes" and not windowed and (low, high) != (0, 255)
    tally.windowed += windowed
    tally.not_finite += missing
    tally.values += numbers.size
    if values.alpha is not None:
        ends = (0, 255) if kind == "bytes" else (0, 1) if kind == "booleans" else ranges.alpha
        if ends is None:
            ends = usual(float(values.alpha.min()), float(values.alpha.max()))
        alpha = np.rint(np.nan_to_num(_scaled(values.alpha, *ends))).clip(0, 255).astype(np.uint8)
        pixels = np.concatenate([pixels.reshape(*alpha.shape, -1), alpha[..., None]], -1)
    return Image.fromarray(np.ascontiguousarray(pixels))


def _scaled(numbers: npt.NDArray[Any], low: float, high: float) -> npt.NDArray[Any]:
    """Floats that are 0 at `low` and 255 at `high`: of 32 bits where these hold the numbers exactly, else of 64."""
    with np.errstate(all="ignore"):
        floats = numbers.astype(np.result_type(numbers.dtype, np.float32))
        return (floats - low) * (255 / (high - low))


def stretched(image: Image.Image, ranges: Ranges, tally: Tally) -> Image.Image:
    """A picture of 8 bits with its colours brought from `ranges.bytes` to 0 … 255; by default as it is."""
    if ranges.bytes == (0, 255) or image.mode in ("1", "CMYK", "YCbCr", "LAB", "HSV"):
        return image
    clear = image.has_transparency_data
    grey = image.mode in ("L", "LA", "La")
    mode = ("LA" if clear else "L") if grey else ("RGBA" if clear else "RGB")
    scaled = to_picture(Values(np.asarray(image.convert(mode))), ranges, tally)
    if profile := image.info.get("icc_profile"):
        scaled.info["icc_profile"] = profile
    return scaled
