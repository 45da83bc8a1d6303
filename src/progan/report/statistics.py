"""What few seeds can say: means with intervals, and differences with intervals and tests.

Student's t for a mean, Welch's t (1947) for two means of unequal spread, Holm's correction (1979) for several tests.
Permutation tests are no way out of few seeds: three against three have 20 arrangements, so p is never below 0.1.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from statistics import fmean, variance

import numpy as np

from progan.metrics import Value

LEVEL = 0.05
"""Of significance, after Holm's correction."""
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(200)


@dataclass(frozen=True)
class Difference:
    """Mean of `a` minus mean of `b`, with its 95 % interval."""

    a: str
    b: str
    value: float
    low: float
    high: float
    p: float
    """Two-sided, of Welch's test; corrected where `differences` made it."""
    better: str | None
    """The one whose mean is nearer to what real images get; None without a significant difference."""

    @property
    def significant(self) -> bool:
        return self.p < LEVEL


def mean(values: Sequence[float]) -> Value:
    """The mean of at least two seeds with Student's 95 % interval over them; of one, without an interval."""
    value = fmean(values)
    if len(values) < 2:
        return Value(value, math.nan, math.nan)
    half = t_quantile(len(values) - 1) * math.sqrt(variance(values) / len(values))
    return Value(value, value - half, value + half)


def welch(a: Sequence[float], b: Sequence[float]) -> tuple[float, float, float, float]:
    """Difference of the means of two groups of at least two, its 95 % interval, and p: (value, low, high, p)."""
    value = fmean(a) - fmean(b)
    parts = [variance(group) / len(group) for group in (a, b)]
    error = math.sqrt(sum(parts))
    if error == 0:
        return value, value, value, float(value == 0)
    dof = sum(parts) ** 2 / sum(
        part**2 / (len(group) - 1) for part, group in zip(parts, (a, b), strict=True)
    )  # Welch 1947
    half = t_quantile(dof) * error
    return value, value - half, value + half, p_value(value / error, dof)


def differences(groups: Mapping[str, Sequence[float]], floor: float | None) -> list[Difference]:
    """Every pair of groups with at least two seeds each, their p corrected for the number of pairs."""
    pairs = [(a, b) for a, b in combinations(groups, 2) if min(len(groups[a]), len(groups[b])) > 1]
    raw = [Difference(a, b, *welch(groups[a], groups[b]), better=None) for a, b in pairs]
    found = [replace(each, p=p) for each, p in zip(raw, holm([each.p for each in raw]), strict=True)]
    return [
        replace(each, better=_nearer(each, groups, floor)) if each.significant and floor is not None else each
        for each in found
    ]


def _nearer(pair: Difference, groups: Mapping[str, Sequence[float]], floor: float) -> str:
    return min((pair.a, pair.b), key=lambda name: abs(fmean(groups[name]) - floor))


def holm(p: Sequence[float]) -> list[float]:
    """p-values corrected so that all of them together err as seldom as one (Holm 1979)."""
    corrected, least = [0.0] * len(p), 0.0
    for rank, i in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        least = max(least, min(1.0, p[i] * (len(p) - rank)))
        corrected[i] = least
    return corrected


def p_value(t: float, dof: float) -> float:
    """Two-sided tail of Student's t: with t = √dof · tan θ its density is that of cos(θ)^(dof-1)."""
    theta = math.atan(abs(t) / math.sqrt(dof))
    return _cosine_power(theta, math.pi / 2, dof - 1) / _cosine_power(0, math.pi / 2, dof - 1)


def t_quantile(dof: float, p: float = LEVEL) -> float:
    """The t whose two-sided tail is p: 4.303 for 2 degrees of freedom and 5 %."""
    low, high = 0.0, 1e6
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if p_value(middle, dof) > p else (low, middle)
    return high


def _cosine_power(start: float, end: float, power: float) -> float:
    """The integral of cos(θ)^power, by Gauss and Legendre."""
    angles = start + (end - start) * (_NODES + 1) / 2
    return float((np.cos(angles) ** power * _WEIGHTS).sum() * (end - start) / 2)
