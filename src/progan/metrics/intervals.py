"""95 % intervals of what metrics measure."""

import math

import torch
from torch import Tensor

from progan.metrics.base import Value

NORMAL_95 = 1.959964
"""Standard deviations around the mean that hold 95 % of a normal distribution."""
STUDENT_95 = {8: 2.364624, 10: 2.262157}
"""Half width of the interval of a mean of so many, in its standard errors (Student's t)."""


def around(value: float, error: float) -> Value:
    """A value with a normal interval of this standard error."""
    return Value(value, value - NORMAL_95 * error, value + NORMAL_95 * error)


def mean_of(samples: Tensor) -> Value:
    """The mean of independent samples float [N], N ≥ 2, with a normal interval."""
    return around(float(samples.mean()), float(samples.std()) / len(samples) ** 0.5)


def share_of(hits: Tensor) -> Value:
    """The share of bool [N] that hold, with Wilson's interval, which is no point at 0 and 1 (Wilson 1927)."""
    n, share = len(hits), float(hits.double().mean())
    shrink = 1 + NORMAL_95**2 / n
    middle = (share + NORMAL_95**2 / (2 * n)) / shrink
    half = NORMAL_95 / shrink * math.sqrt(share * (1 - share) / n + (NORMAL_95 / (2 * n)) ** 2)
    low, high = (end if abs(end - share) > 1e-12 else share for end in (middle - half, middle + half))  # at 0 and 1
    return Value(share, low, high)


def spread_of(value: float, parts: Tensor) -> Value:
    """A value with the interval of the mean of float [8] or [10]: the same number of disjoint parts of the images."""
    half = STUDENT_95[len(parts)] * float(parts.double().std()) / math.sqrt(len(parts))
    return Value(value, value - half, value + half)


def jackknife(value: float, without: Tensor) -> Value:
    """A value with the interval that follows from it without each of the 8 or 10 parts, float [8] (Tukey 1958)."""
    parts = len(without)
    error = math.sqrt((parts - 1) / parts * float((without.double() - without.double().mean()).square().sum()))
    return Value(value, value - STUDENT_95[parts] * error, value + STUDENT_95[parts] * error)


def parts_of(first: int, n: int, parts: int = 8) -> Tensor:
    """Which part images first … first+n of a stream belong to, int64 [n], whatever the batches."""
    return torch.arange(first, first + n) % parts


def median_of(samples: Tensor) -> Value:
    """The median of independent samples float [N], N ≥ 8, with the interval of order statistics."""
    ordered, n = samples.double().sort().values, len(samples)
    reach = NORMAL_95 * math.sqrt(n) / 2
    low, high = max(0, math.floor(n / 2 - reach)), min(n - 1, math.ceil(n / 2 + reach))
    return Value(float(ordered.quantile(0.5)), float(ordered[low]), float(ordered[high]))
