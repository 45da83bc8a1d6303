"""What a source offers: candidates in a fixed order, a reader that opens them in any process, labels where known."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

from progan.data.manifest import LabelKind


class Unreadable(Exception):
    """A candidate that gives no image: the reason in a few fixed words, and what exactly went wrong."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.reason} ({self.detail})" if self.detail else self.reason


class Reader(Protocol):
    """Opens candidates. Small and picklable: it travels to the worker processes."""

    def read(self, entries: Sequence[Any], resolution: int) -> Iterator[Image.Image | Unreadable]:
        """An opened image (not yet decoded where that can wait) or the reason why not, for each entry in turn.

        `resolution` tells readers that draw their images how large to draw them.
        """


@dataclass(frozen=True)
class Labels:
    """Labels of all candidates of a source."""

    kind: LabelKind
    names: tuple[str, ...]
    rows: Callable[[Sequence[int]], npt.NDArray[np.float32]]
    """Positions of candidates -> float32 [n, L]; asked for a few at a time, since one-hot rows may be large."""


@dataclass(frozen=True)
class Source:
    """Where images come from."""

    name: str
    reader: Reader
    entries: Sequence[Any]
    """One per candidate, in order; `str(entry)` is its name for people."""
    labels: Labels | None = None
    drawn_at: int | None = None
    """Pixels of a side where the source draws its images and none are asked for."""


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
