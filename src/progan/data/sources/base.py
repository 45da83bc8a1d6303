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
- `labels`: None, or a `Labels`; `class_labels`, `attribute_labels` and `array_labels` make them of numpy arrays.

Preparing does everything else: it brings values to 0 … 255, crops, resizes, counts, splits the work among processes and
continues what was interrupted.
"""

import importlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

from progan.config import PrepareConfig
from progan.data.dataset import LabelKind
from progan.errors import DatasetError


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


Opener = Callable[[str, Path, PrepareConfig], Source | None]


def import_extra(module: str, extra: str, why: str) -> Any:
    """A module of an optional dependency. Raises Unreadable, with the command to install it, where it is missing."""
    try:
        return importlib.import_module(module)
    except ImportError:
        package = module.partition(".")[0]
        raise Unreadable(
            f"{package} is missing", f"{why}: pip install '.[{extra}]' in the checkout of progan"
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
    """Labels of `count` candidates from class numbers [N] or [N, 1], or from a table [N, L], one-hot or not.

    Raises DatasetError, which calls the array `named`, where the shape does not fit.
    """
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim not in (1, 2) or len(values) != count or 0 in values.shape:
        raise DatasetError(f"{named} has labels of shape {list(values.shape)} for {count} images. Use --labels none")
    if values.ndim == 1:
        classes, codes = np.unique(values, return_inverse=True)
        return class_labels(tuple(str(name) for name in classes), codes)
    names = tuple(str(column) for column in range(values.shape[1]))
    if np.isin(values, (0, 1)).all() and (values.sum(1) == 1).all():
        return class_labels(names, values.argmax(1))
    return attribute_labels(names, values.astype(np.float32))
