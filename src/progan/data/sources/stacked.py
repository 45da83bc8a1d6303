"""Stacked digits: three grey images in the three colours of one, drawn from any labelled source of digits."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from progan.config import PrepareConfig
from progan.data.sources.base import Labels, Reader, Source, Unreadable
from progan.errors import DatasetError

COUNT = 128_000
"""Images, where `--max-images` does not say fewer."""
COLOURS = ("red", "green", "blue")
LABEL_NAMES = tuple(f"{colour}={digit}" for colour in COLOURS for digit in range(10))

Opener = Callable[[str, Path, PrepareConfig], Source]


def open_stacked(source: str, scratch: Path, config: PrepareConfig, opener: Opener) -> Source | None:
    """`stacked:FILE`, where FILE is what `opener` opens: grey images with ten classes."""
    kind, _, name = source.partition(":")
    if kind != "stacked":
        return None
    digits = opener(name, scratch, dataclasses.replace(config, labels="auto"))
    if digits.labels is None or digits.labels.kind != "class" or len(digits.labels.names) != 10:
        raise DatasetError(
            f"{name} has no labels of ten classes. Stack digits that have them, such as MNIST's idx files"
        )
    reader = StackedReader(digits.reader, digits.entries, config.seed)
    rows = digits.labels.rows

    def labels(positions: Sequence[int]) -> npt.NDArray[np.float32]:
        return np.concatenate([rows(column.tolist()) for column in reader.drawn(positions).T], 1)

    return Source(f"stacked-{digits.name}", reader, range(COUNT), Labels("attributes", LABEL_NAMES, labels))


@dataclass(frozen=True)
class StackedReader:
    """Opens images whose colours are images of another reader."""

    base: Reader
    entries: Sequence[Any]
    seed: int

    def drawn(self, positions: Sequence[int]) -> npt.NDArray[np.int64]:
        """Which images of the base become red, green and blue: int64 [n, 3], uniform, a function of the position."""
        return (
            np.stack([self._draw(position) for position in positions]) if len(positions) else np.empty((0, 3), np.int64)
        )

    def _draw(self, position: int) -> npt.NDArray[np.int64]:
        return np.random.default_rng([self.seed, position]).integers(0, len(self.entries), 3)

    def read(self, entries: Sequence[int], resolution: int) -> Iterator[Image.Image | Unreadable]:
        """See candidates.Reader."""
        for numbers in self.drawn(entries):
            opened = list(self.base.read([self.entries[number] for number in numbers], resolution))
            broken = next((image for image in opened if isinstance(image, Unreadable)), None)
            images = [image for image in opened if not isinstance(image, Unreadable)]
            yield broken or Image.merge("RGB", [image.convert("L") for image in images])
