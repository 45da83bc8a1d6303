"""What is in a prepared dataset, and what in it deserves a second look."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from progan.data.dataset import Dataset
from progan.data.duplicates import find_duplicates
from progan.data.prepare.ledger import IMAGES, read_ledger
from progan.errors import DatasetError

_BLOCK = 4096
_BLANK = 1.0  # standard deviation of pixels
_FAINT = 6.0
_LONG = 3.0  # sides
_ENLARGED = 3.0


@dataclass(frozen=True)
class Suspect:
    """An image that may not belong."""

    index: int
    file: str
    reason: str


@dataclass(frozen=True)
class Inspection:
    """What `progan data show` tells."""

    path: str
    name: str
    fingerprint: str
    count: int
    channels: int
    resolutions: tuple[int, ...]
    bytes: Mapping[int, int]
    """Resolution -> bytes."""
    label_kind: str | None
    label_counts: Mapping[str, int]
    """Label -> images that have it."""
    original_sizes: Mapping[str, tuple[int, int]]
    """`smallest`, `median` and `largest` width and height of the originals, by area."""
    preparation: Mapping[str, Any]
    """Settings and counts of the preparation."""
    duplicates: list[list[int]]
    """Groups of images that look the same."""
    duplicate_files: list[list[str]]
    """The same by name."""
    suspects: list[Suspect]


def inspect(dataset: Dataset) -> Inspection:
    """Look at every image, at a low resolution."""
    rows = list(read_ledger(dataset.path / IMAGES))
    files = [row["file"] for row in rows] or [str(index) for index in range(dataset.count)]
    try:
        sizes = np.array([(int(row["width"]), int(row["height"])) for row in rows], np.int64).reshape(-1, 2)
        if len(rows) not in (0, dataset.count) or not (sizes > 0).all():
            raise ValueError("not of these images")
    except (KeyError, ValueError, OverflowError) as error:
        raise DatasetError(f"{dataset.path / IMAGES} is damaged ({error}). Prepare the images again") from None
    duplicates = find_duplicates(dataset)
    reasons = {**_odd_shapes(sizes, dataset.resolutions[-1]), **_empty(dataset)}
    return Inspection(
        path=str(dataset.path),
        name=dataset.name,
        fingerprint=dataset.fingerprint,
        count=dataset.count,
        channels=dataset.channels,
        resolutions=dataset.resolutions,
        bytes={resolution: dataset.level_bytes(resolution) for resolution in dataset.resolutions},
        label_kind=dataset.label_kind,
        label_counts={name: len(have) for name, have in label_members(dataset).items()},
        original_sizes=_size_range(sizes),
        preparation=dataset.preparation,
        duplicates=duplicates,
        duplicate_files=[[files[index] for index in group] for group in duplicates],
        suspects=[Suspect(index, files[index], reason) for index, reason in sorted(reasons.items())],
    )


def label_members(dataset: Dataset) -> dict[str, npt.NDArray[np.int64]]:
    """Label -> indices of the images that have it (a value above 0.5)."""
    found: list[list[npt.NDArray[np.int64]]] = [[] for _ in dataset.label_names]
    for start in range(0, dataset.count, _BLOCK):
        labels = dataset.labels(np.arange(start, min(start + _BLOCK, dataset.count)))
        for column, parts in enumerate(found):
            assert labels is not None
            parts.append(start + np.flatnonzero(labels[:, column] > 0.5))
    return {name: np.concatenate(parts) for name, parts in zip(dataset.label_names, found, strict=True)}


def _size_range(sizes: npt.NDArray[np.int64]) -> dict[str, tuple[int, int]]:
    if not len(sizes):
        return {}
    by_area = sizes[np.argsort(sizes.prod(1), kind="stable")].tolist()
    chosen = {"smallest": by_area[0], "median": by_area[len(by_area) // 2], "largest": by_area[-1]}
    return {name: (width, height) for name, (width, height) in chosen.items()}


def _odd_shapes(sizes: npt.NDArray[np.int64], resolution: int) -> dict[int, str]:
    """Index -> reason for long and for tiny originals."""
    if not len(sizes):
        return {}
    short, long = sizes.min(1), sizes.max(1)
    tiny = {i: f"enlarged {resolution / short[i]:.0f} times" for i in np.flatnonzero(short * _ENLARGED <= resolution)}
    stretched = {i: f"extreme shape, {sizes[i, 0]}x{sizes[i, 1]}" for i in np.flatnonzero(long >= short * _LONG)}
    return {int(index): reason for index, reason in {**tiny, **stretched}.items()}


def _empty(dataset: Dataset) -> dict[int, str]:
    """Index -> reason for pictures that show next to nothing."""
    side = min(32, dataset.resolutions[-1])
    reasons: dict[int, str] = {}
    for start in range(0, dataset.count, _BLOCK):
        pixels = dataset.pixels(side, np.arange(start, min(start + _BLOCK, dataset.count))).astype(np.float32)
        contrast = pixels.std((2, 3)).max(1)  # of the liveliest channel
        for offset in np.flatnonzero(contrast < _FAINT):
            reasons[start + int(offset)] = "blank" if contrast[offset] < _BLANK else "nearly one colour"
    return reasons
