"""Distances between many points, a block at a time."""

from collections.abc import Iterator

import torch
from torch import Tensor

_BLOCK = 2048
_SAME = 1e-11
"""Squared distances below this part of the squared norms are rounding: the points are the same."""


def distances(a: Tensor, b: Tensor) -> Tensor:
    """Squared Euclidean distances of float [N, F] and [M, F], float64 [N, M]; exactly 0 between equal points."""
    a, b = a.double(), b.double()
    norms = a.square().sum(1)[:, None] + b.square().sum(1)
    squares = torch.addmm(norms, a, b.mT, alpha=-2)
    return squares.masked_fill_(squares <= _SAME * norms, 0)


def blocks(a: Tensor, b: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """The distances of a to all b, some rows of a at a time."""
    b = b.double()
    for start in range(0, len(a), _BLOCK):
        rows = slice(start, min(start + _BLOCK, len(a)))
        yield rows, distances(a[rows], b)


def radii(points: Tensor, k: int) -> Tensor:
    """Squared distance of each point, float [N, F], to its k-th nearest other: float64 [N]. N > k."""
    found = []
    for rows, squares in blocks(points, points):
        squares[torch.arange(len(squares)), torch.arange(rows.start, rows.stop)] = torch.inf
        found.append(squares.kthvalue(k, 1).values)
    return torch.cat(found)


class Collected:
    """Features of reals and fakes as they come, put into the reals' units: float32 [N, F] each."""

    def __init__(self) -> None:
        self._parts: dict[bool, list[Tensor]] = {True: [], False: []}

    def add(self, features: Tensor, real: bool) -> None:
        """Keep features float32 [n, F]."""
        self._parts[real].append(features)

    def count(self, real: bool) -> int:
        """How many there are."""
        return sum(map(len, self._parts[real]))

    def standardized(self) -> tuple[Tensor, Tensor]:
        """Reals and fakes, every feature less its mean over the reals and divided by its deviation there."""
        reals, fakes = (torch.cat(self._parts[real]) for real in (True, False))
        scale = Scale(reals)
        return scale(reals), scale(fakes)


class Scale:
    """Brings features to mean 0 and deviation 1 over some, float [N, F]."""

    def __init__(self, features: Tensor) -> None:
        deviation = features.double().std(0)
        # A feature that hardly varies among the reals must not outweigh all others.
        self._deviation = deviation.clamp_min(max(0.1 * float(deviation.mean()), 1e-9))
        self._mean = features.double().mean(0)

    def __call__(self, features: Tensor) -> Tensor:
        """float [N, F] -> float32 [N, F]."""
        return ((features - self._mean) / self._deviation).float()
