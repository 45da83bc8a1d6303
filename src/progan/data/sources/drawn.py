"""Images that are drawn from a seed: the embedded faces, and digits stacked from any labelled source of digits."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from progan import avatars
from progan.config import PrepareConfig
from progan.data.sources.base import Labels, Picture, Reader, Source, Unreadable, Values
from progan.errors import DatasetError

AVATARS_COUNT, AVATARS_RESOLUTION = 20_000, 64
STACKED_COUNT = 128_000
"""Numbers of images, unless `--max-images` asks for fewer."""
STACKED_NAMES = tuple(f"{colour}={digit}" for colour in ("red", "green", "blue") for digit in range(10))


def open_avatars(source: str, scratch: Path, config: PrepareConfig) -> Source | None:
    """`avatars` or `avatars:COUNT`: the embedded faces (progan.avatars)."""
    number = source.partition(":")[2]
    if number and not (number.isdecimal() and int(number) > 0):
        raise DatasetError(f"{source} is not understood. Write `avatars` or `avatars:5000`")
    labels = Labels("attributes", avatars.LABEL_NAMES, partial(avatars.attributes, seed=config.seed))
    count = int(number) if number else AVATARS_COUNT
    return Source("avatars", AvatarReader(config.seed), range(count), labels, AVATARS_RESOLUTION)


@dataclass(frozen=True)
class AvatarReader:
    """Draws the embedded faces."""

    seed: int

    def read(self, entries: Sequence[int], resolution: int) -> Iterator[Image.Image | Unreadable]:
        """Portrait of each number, in turn, RGB, `resolution` pixels a side."""
        yield from (Image.fromarray(pixels) for pixels in avatars.draw(entries, resolution, self.seed))


def open_stacked(
    source: str, scratch: Path, config: PrepareConfig, opener: Callable[[str, Path, PrepareConfig], Source]
) -> Source | None:
    """`stacked:FILE`, where FILE is what `opener` opens: images with ten classes, three to a picture as its colours."""
    name = source.partition(":")[2]
    digits = opener(name, scratch, dataclasses.replace(config, labels="auto"))
    if digits.labels is None or digits.labels.kind != "class" or len(digits.labels.names) != 10:
        raise DatasetError(
            f"{name} has no labels of ten classes. Stack digits that have them, such as MNIST's idx files"
        )
    reader, rows = StackedReader(digits.reader, digits.entries, config.seed), digits.labels.rows

    def labels(positions: Sequence[int]) -> npt.NDArray[np.float32]:
        return np.concatenate([rows(column.tolist()) for column in reader.drawn(positions).T], 1)

    named = Labels("attributes", STACKED_NAMES, labels)
    parts = digits.has_partitions
    return Source(f"stacked-{digits.name}", reader, range(STACKED_COUNT), named, has_partitions=parts)


@dataclass(frozen=True)
class StackedReader:
    """Opens images whose colours are images of another reader."""

    base: Reader
    entries: Sequence[Any]
    seed: int

    def drawn(self, positions: Sequence[int]) -> npt.NDArray[np.int64]:
        """Entries of the base that become red, green and blue: int64 [n, 3], uniform, a function of the position."""
        draws = (np.random.default_rng([self.seed, p]).integers(0, len(self.entries), 3) for p in positions)
        return np.array(list(draws), np.int64).reshape(-1, 3)

    def read(self, entries: Sequence[int], resolution: int) -> Iterator[Picture | Unreadable]:
        """RGB image of each position, in turn; unreadable if one of its three parts is."""
        for numbers in self.drawn(entries):
            opened = list(self.base.read([self.entries[number] for number in numbers], resolution))
            broken = next((image for image in opened if isinstance(image, Unreadable)), None)
            images = [image.convert("L") for image in opened if isinstance(image, Image.Image)]
            numbers = [image.colours for image in opened if isinstance(image, Values)]
            if numbers and not broken and {array.ndim for array in numbers} != {2}:
                broken = Unreadable("not grey", "only grey digits can be stacked")
            yield broken or (Values(np.stack(numbers, -1)) if numbers else Image.merge("RGB", images))
