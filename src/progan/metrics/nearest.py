"""Nearest neighbours: among points, and of generated images among the images of a dataset."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from progan.data.cache import open_data
from progan.data.dataset import Dataset, Indices
from progan.data.sources.named import preparation
from progan.errors import ConfigError, RunError
from progan.images import downscale
from progan.progress import Log
from progan.run_folder import RunFolder

SIDE = 32
"""Resolution at which images are compared pixel by pixel; smaller ones at their own."""
MOST = 100_000
"""Number of images of a dataset that are looked at for those nearest in pixels."""
_ROWS = 2048  # points whose distances to all others are computed at a time
_IMAGES = 1024  # images of a dataset that are read at a time
_SAME = 1e-11
"""Squared distances below this part of the squared norms are rounding: the points are the same."""

Look = Callable[[Tensor], Tensor]
"""Pixels uint8 [n, C, R, R] -> points float [n, F]."""


def distances(a: Tensor, b: Tensor) -> Tensor:
    """Squared Euclidean distances of float [N, F] and [M, F], float64 [N, M]; exactly 0 between equal points."""
    a, b = a.double(), b.double()
    norms = a.square().sum(1)[:, None] + b.square().sum(1)
    squares = torch.addmm(norms, a, b.mT, alpha=-2)
    return squares.masked_fill_(squares <= _SAME * norms, 0)


def blocks(a: Tensor, b: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """The squared distances of a to all of b, some rows of a at a time."""
    b = b.double()
    for start in range(0, len(a), _ROWS):
        rows = slice(start, min(start + _ROWS, len(a)))
        yield rows, distances(a[rows], b)


def radii(points: Tensor, k: int) -> Tensor:
    """Squared distance of each point, float [N, F], to its k-th nearest other: float64 [N]. N > k."""
    found = []
    for rows, squares in blocks(points, points):
        squares[torch.arange(len(squares)), torch.arange(rows.start, rows.stop)] = torch.inf
        found.append(squares.kthvalue(k, 1).values)
    return torch.cat(found)


def points_of(dataset: Dataset, resolution: int, look: Look, among: Indices) -> Tensor:
    """The points of images of a dataset, float [N, F]."""
    return torch.cat([points for _, points in _points(dataset, resolution, look, among)])


def search(
    points: Tensor, dataset: Dataset, resolution: int, look: Look, k: int = 1, among: Indices | None = None
) -> tuple[Tensor, Tensor]:
    """The k images of a dataset nearest to each point float [N, F], nearest first.

    Squared distances float64 [N, k], and numbers in the dataset int64 [N, k]. `among`: numbers of the images to be
    looked at, default all.
    """
    among = np.arange(dataset.count) if among is None else among
    k = min(k, len(among))
    best = points.new_full((len(points), k), torch.inf, dtype=torch.float64)
    numbers = torch.zeros(len(points), k, dtype=torch.long, device=points.device)
    # The best so far compete with every further block of images.
    for block, others in _points(dataset, resolution, look, among):
        joined = torch.cat([best, distances(points, others)], 1)
        best, places = joined.topk(k, largest=False)
        found = torch.from_numpy(block).to(points.device).expand(len(points), -1)
        numbers = torch.cat([numbers, found], 1).gather(1, places)
    return best, numbers


@torch.no_grad()
def nearest_images(pixels: Tensor, dataset: Dataset, k: int = 3, among: Indices | None = None) -> tuple[Tensor, Tensor]:
    """The k images of a dataset nearest to pixels uint8 [N, C, R, R], compared pixel by pixel at up to 32x32.

    Root of the mean squared difference float32 [N, k] in 0…255, 0 for a copy, and numbers int64 [N, k]. `among`:
    default the first 100,000.
    """
    side = min(SIDE, pixels.shape[2])

    def look(some: Tensor) -> Tensor:
        return downscale(some.cpu().float(), some.shape[2] // side).flatten(1)

    queries = look(pixels)
    _, numbers = search(
        queries, dataset, side, look, k, np.arange(min(MOST, dataset.count)) if among is None else among
    )
    # Differences of the pixels themselves, without the rounding of |a|² + |b|² - 2ab.
    found = torch.stack([look(torch.from_numpy(dataset.pixels(side, row.numpy()))) for row in numbers])
    return (queries[:, None] - found).square().mean(2).sqrt(), numbers


def training_images(source: Path, data: str | None, resolution: int, channels: int, log: Log) -> Dataset | None:
    """Images of `data`, a dataset or what can be prepared, else those of the run whose folder `source` is; None if they
    are not at hand. Raises ConfigError where pictures of this shape cannot be compared with them.
    """
    try:
        place = data or (RunFolder(source).images() if source.is_dir() else None)
    except RunError as error:
        log(f"note: {error}")
        return None
    if place is None:
        return None
    dataset = open_data(place, preparation(place, resolution=resolution), log)
    if dataset.channels != channels or resolution not in dataset.resolutions:
        made, there = ("grey" if count == 1 else "RGB" for count in (channels, dataset.channels))
        raise ConfigError(
            f"{dataset.name} has {there} images up to {dataset.resolutions[-1]} pixels, the pictures are {made} of "
            f"{resolution}: name the images that the generator learned from"
        )
    return dataset


def nearest_in_training(pixels: Tensor, dataset: Dataset, k: int) -> Tensor:
    """The k images of a dataset that are nearest to pixels uint8 [C, R, R]: uint8 [k, C, R, R]."""
    numbers = nearest_images(pixels[None], dataset, k=k)[1][0]
    return torch.from_numpy(dataset.pixels(pixels.shape[2], numbers.numpy()))


def beside(queries: Tensor, dataset: Dataset, numbers: Tensor) -> Tensor:
    """Each of uint8 [N, C, R, R] followed by the images of the dataset with numbers [N, k]: [N, 1 + k, C, R, R]."""
    rows = (torch.from_numpy(dataset.pixels(queries.shape[2], row.cpu().numpy())) for row in numbers)
    return torch.stack([torch.cat([query[None].cpu(), row]) for query, row in zip(queries, rows, strict=True)])


def _points(dataset: Dataset, resolution: int, look: Look, among: Indices) -> Iterator[tuple[Indices, Tensor]]:
    """Numbers and points of images of a dataset, a block at a time."""
    for start in range(0, len(among), _IMAGES):
        block = among[start : start + _IMAGES]
        yield block, look(torch.from_numpy(dataset.pixels(resolution, block)))
