"""What a source offers, and how to write a new one.

A source is anything that a user can name and that holds images. To add a kind of source, write a file with an opener
and add its line to the table in `sources/__init__.py`:

    def open_lmdb(source: str, scratch: Path, config: PrepareConfig) -> Source | None

`source` is what the user wrote, `config` what they want (`config.labels == "none"`: labels are not needed, and dropped
later if they are there). The opener returns None for what is not of its kind; it looks at the name and the first bytes
only, because it is asked about everything. It returns a `Source` otherwise, or raises DatasetError with one line that
says what to do. What must be unpacked to be read goes into the folder `scratch`, which the opener makes when it needs
it and which is deleted when everything is prepared.

A `Source` consists of

- `entries`: a sequence with one small picklable thing per candidate, in an order that is always the same; `str(entry)`
  is the candidate's name in `images.csv` and `skipped.csv`. For an array, `range(N)` will do.
- `reader`: a small picklable object, whose `read(entries, resolution)` opens some of the entries in any process. It
  yields for each of them, in turn, a PIL image of any mode and size, or `Values` (numbers of any range), or an
  `Unreadable` that says why there is none; it does not raise for a bad entry. What it yields is used before the next is
  asked for.
- `labels`: None, or a `Labels`; `class_labels`, `attribute_labels` and `array_labels` make them of numpy arrays, and
  `labels.column_labels` of a table's columns. They raise NoLabelsError for values that are no labels; the source is
  then opened without, and says so.
- `notes`: lines about what was seen and not used, for people.

Preparing does everything else: it brings values to 0 … 255, crops, resizes, counts, splits the work among processes and
continues what was interrupted.
"""

import importlib
import math
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

from progan.config import PrepareConfig
from progan.data.dataset import LabelKind
from progan.errors import DatasetError
from progan.files import printable

MAX_CLASSES = 10_000
"""Most classes of a column or an array: labels take 4 bytes for every class and image."""
_FEW = 7  # classes that any number of images may have
_FEW_MEASURED = 10  # different numbers with fractions: more are a measurement
_WORDS_OF_A_NAME = 5  # on average; more are captions


class NoLabelsError(DatasetError):
    """Raised for values that are no labels: captions, measurements, identifiers, numbers that are no attributes."""


class Unreadable(Exception):
    """A candidate that gives no image: the reason in a few fixed words, and what exactly went wrong."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail

    def __str__(self) -> str:
        return f"{self.reason} ({self.detail})" if self.detail else self.reason


@dataclass(frozen=True)
class Values:
    """A picture as numbers of any type and range, which `prepare/ranges.py` brings to 0 … 255."""

    numbers: npt.NDArray[Any]
    """[H, W] or [H, W, C] with 1 to 4 channels, of which the last of 2 or 4 is transparency."""
    inverted: bool = False
    """True if the lowest value is white."""
    window: tuple[float, float] | None = None
    """The values that the file itself wants to be black and white."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height, as a PIL image has it."""
        return self.numbers.shape[1], self.numbers.shape[0]

    @property
    def colours(self) -> npt.NDArray[Any]:
        """The numbers without transparency: [H, W] or [H, W, 3]."""
        if self.numbers.ndim == 2:
            return self.numbers
        return self.numbers[..., :3] if self.numbers.shape[2] > 2 else self.numbers[..., 0]

    @property
    def alpha(self) -> npt.NDArray[Any] | None:
        """Transparency [H, W], if there is any."""
        return self.numbers[..., -1] if self.numbers.ndim == 3 and self.numbers.shape[2] in (2, 4) else None


Picture = Image.Image | Values


class Reader(Protocol):
    """Opens candidates. Small and picklable: it travels to the worker processes."""

    def read(self, entries: Sequence[Any], resolution: int) -> Iterator[Picture | Unreadable]:
        """An opened image (not yet decoded where that can wait) or the reason why not, for each entry in turn.

        `resolution` tells readers that draw their images how large to draw them.
        """


@dataclass(frozen=True)
class Labels:
    """Labels of all candidates of a source."""

    kind: LabelKind
    names: tuple[str, ...]
    """Name of each of the L columns."""
    rows: Callable[[Sequence[int]], npt.NDArray[np.float32]]
    """Positions of n candidates -> float32 [n, L]; asked for a few at a time, since one-hot rows may be large."""

    def of(self, kept: Sequence[int]) -> "Labels":
        """Labels of some of the candidates, at these positions."""
        return replace(self, rows=lambda positions: self.rows([kept[position] for position in positions]))


@dataclass(frozen=True)
class Source:
    """Candidates for images, in a fixed order."""

    name: str
    """The dataset's name."""
    reader: Reader
    entries: Sequence[Any]
    """One per candidate, in order; `str(entry)` is its name for people."""
    labels: Labels | None = None
    drawn_at: int | None = None
    """Pixels of a side where the source draws its images and none are asked for."""
    has_files: bool = False
    """True if the entries are named files, so that a table of the user (`--labels FILE`) can give their labels."""
    has_columns: bool = False
    """True if a table gives the labels, so that `--label-column` chooses from it."""
    has_partitions: bool = False
    """True if it comes in parts for training and testing, of which `--partition` takes one."""
    points: npt.NDArray[np.float32] | None = None
    """Both eyes, the nose and the corners of the mouth of one face in each candidate, where a table has them: x and y
    in pixels [N, 5, 2], as `faces.Point`; NaN where there is none."""
    notes: tuple[str, ...] = ()
    """Lines for people: what was seen and not used, and how it would be."""


Opener = Callable[[str, Path, PrepareConfig], Source | None]


def import_extra(module: str, extra: str, wanted_for: str) -> Any:
    """A module of an optional dependency. Raises Unreadable, with the command to install it, where it is missing."""
    try:
        return importlib.import_module(module)
    except ImportError:
        package = module.partition(".")[0]
        raise Unreadable(
            f"{package} is missing", f"{wanted_for}: pip install '.[{extra}]' in the checkout of progan"
        ) from None


def class_labels(names: tuple[str, ...], codes: npt.NDArray[np.integer[Any]]) -> Labels:
    """One-hot labels from the class number of each candidate, [N]; -1 is no class and gives a row of zeros."""

    def rows(positions: Sequence[int]) -> npt.NDArray[np.float32]:
        chosen = codes[list(positions)]
        one_hot = np.zeros((len(chosen), len(names)), np.float32)
        known = np.flatnonzero(chosen >= 0)
        one_hot[known, chosen[known]] = 1
        return one_hot

    return Labels("class", names, rows)


def attribute_labels(names: tuple[str, ...], values: npt.NDArray[np.float32]) -> Labels:
    """Labels from a table float32 [N, L]."""
    return Labels("attributes", names, lambda positions: values[list(positions)])


def array_labels(values: npt.NDArray[Any], count: int, named: Path) -> Labels:
    """Labels of `count` candidates from class numbers or names [N] or [N, 1], or from a table [N, L], one-hot or not.

    Raises DatasetError, which calls the array `named`, where the shape does not fit, and NoLabelsError for values that
    are no labels.
    """
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim not in (1, 2) or len(values) != count or 0 in values.shape:
        raise DatasetError(f"{named} has labels of shape {list(values.shape)} for {count} images. Use --labels none")
    if values.ndim == 1:
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise NoLabelsError(f"{named} has labels that are no classes (a value that is no number)")
        found, positions = np.unique(values, return_inverse=True)
        names = [_word(value) for value in found]
        if reason := why_no_classes(names, count):
            raise NoLabelsError(f"{named} has labels that are no classes ({reason})")
        order = sorted(range(len(names)), key=lambda position: by_number(names[position]))
        return class_labels(tuple(names[position] for position in order), np.argsort(order)[positions])
    names = [str(column) for column in range(values.shape[1])]
    if values.dtype.kind in "buif" and np.isin(values, (0, 1)).all() and (values.sum(1) == 1).all():
        codes = values.argmax(1)
        used = [names[code] for code in np.unique(codes)]
        if len(used) > 1 and (reason := why_no_classes(used, count)):
            raise NoLabelsError(f"{named} has labels that are no classes ({reason})")
        return class_labels(tuple(names), codes)
    try:
        return attribute_labels(tuple(names), attribute_values(values.astype(np.float32)))
    except ValueError as error:
        raise NoLabelsError(f"{named} has labels that are no attributes ({error})") from None


def why_no_classes(names: Collection[str], count: int) -> str:
    """Reason why the different values of a column of `count` images are not names of classes; empty if they are."""
    if len(names) < 2:
        return "one value for all images"
    if len(names) > max(_FEW, count // 2):
        return f"{len(names):,} different values for {count:,} images, as identifiers and captions have"
    if len(names) > MAX_CLASSES:
        return f"{len(names):,} different values, more than {MAX_CLASSES:,} classes"
    if sum(len(name.split()) for name in names) > _WORDS_OF_A_NAME * len(names):
        return "captions of many words"
    if len(names) > _FEW_MEASURED and all(map(_is_number, names)) and any(float(name) % 1 for name in names):
        return f"{len(names):,} different numbers with fractions, as measurements have"
    return ""


def by_number(name: str) -> tuple[float, str]:
    """Sorting key of class names: numbers by their value (2 before 10), then words."""
    return (float(name) if _is_number(name) else math.inf, name)


def attribute_values(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Attributes 0 … 1, [N, L], from 0 … 1 or from -1 and 1 as CelebA has them. Raises ValueError for other numbers.

    An attribute is learnt with a cross-entropy, which has no lower bound for a target outside 0 … 1.
    """
    if not np.isfinite(values).all():
        raise ValueError("a value that is no number")
    if set(np.unique(values)) <= {-1.0, 1.0}:
        return (values > 0).astype(np.float32)
    if values.min() < 0 or values.max() > 1:
        raise ValueError(f"values from {values.min():g} to {values.max():g}, outside 0 … 1")
    return values


def _is_number(name: str) -> bool:
    try:
        return math.isfinite(float(name))
    except ValueError:
        return False


def _word(value: Any) -> str:
    """A class as it is called: 3 for 3.0, which is how many programs save numbers of classes."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "backslashreplace")
    if isinstance(value, float | np.floating) and float(value).is_integer():
        value = int(value)
    return printable(str(value).strip())
