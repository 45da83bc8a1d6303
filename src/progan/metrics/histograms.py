"""How far two histograms are apart, and by how much that would vary with other images."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.integer[Any]]
DRAWS = 200
"""Bootstraps of an interval."""


def kl(counts: Counts, expected: npt.NDArray[np.floating[Any]]) -> float:
    """Kullback-Leibler divergence in nats of a histogram [K] from shares [K] that are above 0."""
    shares = counts / counts.sum()
    present = shares > 0
    return float((shares[present] * np.log(shares[present] / expected[present])).sum())


def divergence(a: Counts, b: Counts) -> float:
    """Jensen-Shannon divergence of two histograms [K] in nats, 0 … ln 2."""
    middle = (a / a.sum() + b / b.sum()) / 2
    return (kl(a, middle) + kl(b, middle)) / 2


def spread(function: Callable[..., float], histograms: Sequence[Counts], seed: int) -> float:
    """Standard deviation of a function of histograms over 200 bootstraps of the images in them."""
    random = np.random.default_rng(seed)
    draws = [random.multinomial(counts.sum(), counts / counts.sum(), DRAWS) for counts in histograms]
    return float(np.std([function(*some) for some in zip(*draws, strict=True)]))
