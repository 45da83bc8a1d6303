"""Sliced Wasserstein distance between the local structures of two sets of images (Karras et al. 2018, section 5)."""

import functools
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from progan.errors import ConfigError
from progan.metrics.base import PARTS, Setting, Value, spread_of
from progan.randomness import latents, mix, philox

LOWEST = 16
"""Resolution of the coarsest level."""
PATCH = 7
"""Pixels of a side of a descriptor."""
PATCHES = 128
"""Descriptors of an image at each level."""
DIRECTIONS = 512
"""Random projections of a level (four times 128 in the authors' code, which averages them alike)."""
_SMALL = 64  # a level up to this resolution takes less memory than the descriptors in it
_CHUNK_BYTES = 2**24  # of what is computed at a time: it stays in a processor's cache
_BLOCK_BYTES = 2**28  # of projections, which are sorted at a time


class Draws:
    """Where patches lie and which way they are projected: functions of seed, level, set and image, not of batches."""

    def __init__(self, seed: int = 0) -> None:
        self._seed = seed

    def corners(self, size: int, real: bool, first: int, n: int) -> Tensor:
        """Top left corners (row, column), int64 [n, 128, 2], uniform over the level, of images first … first+n.

        Patch p of image i takes the first two words of Philox with counter 128·i + p and key mix(seed, size, real).
        """
        counter = np.arange(PATCHES * first, PATCHES * (first + n), dtype=np.uint64)
        words = philox(counter, np.array(mix(self._seed, size, int(real)), np.uint64))[:, :2]
        corners = (words * np.uint64(size - PATCH + 1)) >> np.uint64(32)
        return torch.from_numpy(corners.astype(np.int64)).view(n, PATCHES, 2)

    def directions(self, size: int, length: int) -> Tensor:
        """Unit vectors float32 [512, length]: the latents of seeds mix(seed, size, number), normalised."""
        normals = latents((mix(self._seed, size, number) for number in range(DIRECTIONS)), length)
        return torch.nn.functional.normalize(torch.from_numpy(normals))


class SlicedWasserstein:
    """`swd_64` … `swd_16` for every level and `swd`, their mean; all times 1000, as the paper quotes them.

    It compares as many fakes as reals (16,384 in the paper). The distance between two samples of one distribution is
    not 0, so the number means little without its real-vs-real baseline. The interval covers another choice of images,
    patches and directions: it comes from the spread of eight disjoint parts, each measured along its own eighth of the
    directions. An image takes at most 128·49·C floats per level whatever its resolution: 1.2 GB per level and set for
    16,384 RGB images. Grey images are compared by their one channel; repeated three times they would come out 0.4 %
    lower.
    """

    def __init__(self, setting: Setting, draws: Draws | None = None) -> None:
        setting.need_resolution("swd", LOWEST)
        self._draws = draws or Draws(setting.seed)
        self._count = {True: 0, False: 0}
        self._kept: dict[tuple[int, bool], list[Callable[[], Tensor]]] = defaultdict(list)

    def update(self, pixels: Tensor, real: bool) -> None:
        for part in torch.split(pixels, max(1, _CHUNK_BYTES // (4 * pixels.shape[1:].numel()))):
            for level in laplacian_pyramid(part.float()):
                size = level.shape[2]
                corners = self._draws.corners(size, real, self._count[real], len(part))
                self._kept[size, real].append(_holder(level, corners.to(level.device)))
            self._count[real] += len(part)

    def result(self) -> dict[str, Value]:
        if self._count[True] != self._count[False] or self._count[True] < PARTS:
            fakes, reals = self._count[False], self._count[True]
            raise ConfigError(f"swd compares as many fakes as reals, at least {PARTS}; got {fakes} and {reals}")
        sizes = sorted({size for size, _ in self._kept}, reverse=True)
        levels = torch.tensor([self._level(size) for size in sizes], dtype=torch.float64)  # [levels, 1 + parts]
        rows = {f"swd_{size}": row for size, row in zip(sizes, levels, strict=True)} | {"swd": levels.mean(0)}
        return {name: spread_of(float(row[0]), row[1:]) for name, row in rows.items()}

    def _level(self, size: int) -> list[float]:
        """The distance at a level between the whole sets, then between each two parts of them."""
        reals, fakes = self._descriptors(size, real=True), self._descriptors(size, real=False)
        directions = self._draws.directions(size, reals[0].numel()).to(reals.device)
        rows = PATCHES * (self._count[True] // PARTS)
        tasks = [(reals, fakes, directions)]
        for part, along in enumerate(directions.chunk(PARTS)):
            some = slice(part * rows, (part + 1) * rows)
            tasks.append((reals[some], fakes[some], along))
        return [1000 * float(sliced_wasserstein(normalize(a), normalize(b), along).mean()) for a, b, along in tasks]

    def _descriptors(self, size: int, real: bool) -> Tensor:
        """All descriptors of a level and set, float32 [128·N, C, 7, 7]."""
        whole: Tensor | None = None
        row = 0
        for take in self._kept[size, real]:
            some = take()
            if whole is None:  # filled in place: joining them would take twice the memory
                whole = some.new_empty(PATCHES * self._count[real], *some.shape[1:])
            whole[row : row + len(some)] = some
            row += len(some)
        assert whole is not None
        return whole


def laplacian_pyramid(images: Tensor) -> list[Tensor]:
    """Images float [N, C, R, R] -> what each of R, R/2 … 32 adds to the next, and the 16x16 left (section 5)."""
    levels = []
    while images.shape[2] > LOWEST:
        below = halve(images)
        levels.append(images - double(below))
        images = below
    return [*levels, images]


# Elementwise sums: exact for the first levels of whole numbers, and the same whatever the batch. The borders mirror
# the finer image, so that the coarser one continues with x[1] on its left and repeats its last column on its right.


def halve(x: Tensor) -> Tensor:
    """[N, C, H, W] -> [N, C, H/2, W/2]: blurred by (1 4 6 4 1)/16, every second pixel (Burt and Adelson 1983)."""
    for _ in range(2):  # columns, then rows
        x = torch.cat([x[..., 2:3], x[..., 1:2], x, x[..., -2:-1]], -1)
        even, odd = x[..., 0::2], x[..., 1::2]
        x = ((even[..., :-2] + even[..., 2:] + 4 * (odd[..., :-1] + odd[..., 1:]) + 6 * even[..., 1:-1]) / 16).mT
    return x


def double(x: Tensor) -> Tensor:
    """[N, C, H, W] -> [N, C, 2H, 2W]: zeros put between the pixels, blurred by (1 4 6 4 1)/8."""
    for _ in range(2):
        x = torch.cat([x[..., 1:2], x, x[..., -1:]], -1)
        even = (x[..., :-2] + 6 * x[..., 1:-1] + x[..., 2:]) / 8
        odd = (x[..., 1:-1] + x[..., 2:]) / 2
        x = torch.stack([even, odd], -1).flatten(-2).mT
    return x


def patches(level: Tensor, corners: Tensor) -> Tensor:
    """Level [N, C, S, S] and corners [N, P, 2] -> descriptors [N·P, C, 7, 7]."""
    windows = level.unfold(2, PATCH, 1).unfold(3, PATCH, 1)  # [N, C, S-6, S-6, 7, 7]
    image = torch.arange(len(level), device=level.device)[:, None]
    return windows[image, :, corners[..., 0], corners[..., 1]].flatten(0, 1)


def _holder(level: Tensor, corners: Tensor) -> Callable[[], Tensor]:
    """Gives `patches(level, corners)`, keeping the smaller of level and patches."""
    take = functools.partial(patches, level, corners)
    if level.shape[2] <= _SMALL:
        return take
    kept = take()
    return lambda: kept


def normalize(descriptors: Tensor) -> Tensor:
    """[M, C, 7, 7] -> [M, C·49] with mean 0 and deviation 1 in every colour over the whole set. Works in place."""
    pixels = descriptors.flatten(2)  # [M, C, 49]
    chunks = torch.split(pixels, max(1, _CHUNK_BYTES // (4 * pixels[0].numel())))
    count = pixels[:, 0].numel()
    # Sums of 2^21 patches want 64 bits: the authors' 32 move the distance by up to 1e-4 of itself.
    mean = torch.stack([chunk.sum(2).double().sum(0) for chunk in chunks]).sum(0) / count
    for chunk in chunks:
        chunk.sub_(mean.to(chunk)[:, None])
    variance = torch.stack([chunk.square().sum(2).double().sum(0) for chunk in chunks]).sum(0) / count
    deviation = variance.sqrt().clamp_min(1e-8)  # images of one colour have none
    for chunk in chunks:
        chunk.div_(deviation.to(chunk)[:, None])
    return pixels.flatten(1)


def sliced_wasserstein(a: Tensor, b: Tensor, directions: Tensor) -> Tensor:
    """Between samples a and b, float32 [M, D], along each direction [K, D]: float32 [K].

    In one dimension the Wasserstein-1 distance is the mean distance of the sorted samples.
    """
    size = min(len(directions), max(1, _BLOCK_BYTES // (4 * len(a))))
    buffers = a.new_empty(2, size, len(a))  # used again: fresh memory costs as much time as the products
    distances = []
    for block in torch.split(directions, size):
        products = (torch.mm(block, x.mT, out=buffer[: len(block)]) for x, buffer in zip((a, b), buffers, strict=True))
        one, two = map(_sorted, products)
        distances.append(one.sub_(two).abs_().mean(1))
    return torch.cat(distances)


def _sorted(rows: Tensor) -> Tensor:
    """Each row of float32 [K, M] sorted, in place on a CPU, where numpy is 30 times as fast as torch."""
    if rows.device.type != "cpu":
        return rows.sort(1).values
    count = torch.get_num_threads()
    with ThreadPoolExecutor(count) as threads:  # many rows a task: to hand over a short one takes as long as to sort it
        list(threads.map(np.ndarray.sort, np.array_split(rows.numpy(), 4 * count)))
    return rows
