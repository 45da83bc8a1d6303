"""What a comparison found, and what few seeds can say: means with intervals, differences with intervals and tests.

Student's t for a mean and for paired differences, Welch's t (1947) for two means of unequal spread, Holm's correction
(1979) for several tests.
Permutation tests are no way out of few seeds: three against three have 20 arrangements, so p is never below 0.1.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from statistics import fmean, variance

import numpy as np

from progan.metrics import Value
from progan.report.history import Collapse, Stats

AVERAGE = "G_ema"
"""The averaged generator, by which models are judged."""
MEMORISATION, COPIES = "memorisation", "copies"
"""Mean distance to the nearest training image over that to the nearest held-out one; and the share of images that are
copies of training images."""
LEVEL = 0.05
"""Level of significance, after Holm's correction."""
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(200)


@dataclass(frozen=True)
class Trained:
    """A run with one seed; for a control, its images with one seed."""

    seed: int
    folder: str
    """Run folder below that of the comparison; empty for a control."""
    values: Mapping[str, Mapping[str, Value]]
    """Network (`G_ema`, `G`) -> metric -> number."""
    kimg: float = 0.0
    seconds: float = 0.0
    """Duration of training, without measuring."""
    peak_memory: int = 0
    """Bytes."""
    collapses: tuple[Collapse, ...] = ()
    stats: Stats = ()


@dataclass(frozen=True)
class Contestant:
    """A model with all its seeds, or a control."""

    name: str
    about: str
    control: bool
    runs: Sequence[Trained]
    resolution: int
    parameters: tuple[int, int] | None = None
    """Number of parameters of G and of D."""
    image_flops: tuple[int, int] | None = None
    """Operations of a forward pass of G and of D for one image of the final resolution."""
    training_flops: float | None = None
    """Operations of a whole run, counted in one block of each stage."""
    begins: str = ""
    """What networks the runs begin with: of two models with the same, runs of one seed have the same initial weights,
    images and latents, and are compared with each other. Empty: not known."""

    def numbers(self, metric: str, network: str = AVERAGE) -> list[float]:
        """The metric's number of each seed."""
        return [run.values[network][metric].value for run in self.runs if network in run.values]


@dataclass(frozen=True)
class Difference:
    """Mean of `a` minus mean of `b`, with its 95 % interval."""

    a: str
    b: str
    value: float
    low: float
    high: float
    p: float
    """Two-sided p of the t-test; corrected where `differences` made it."""
    better: str | None
    """The one whose mean is nearer to what real images get; None without a significant difference."""
    paired: bool = False
    """True if the interval and p are of the differences of runs with the same seed, False if they are Welch's."""

    @property
    def significant(self) -> bool:
        return self.p < LEVEL


@dataclass(frozen=True)
class Comparison:
    """The numbers of all models and controls."""

    title: str
    facts: Sequence[tuple[str, str]]
    """The protocol, in words."""
    metrics: Sequence[str]
    floors: Mapping[str, float]
    """Real-vs-real baseline of each metric."""
    contestants: Sequence[Contestant]
    notes: Sequence[str] = ()
    """Warnings to the reader, e.g. that times differ."""

    @property
    def models(self) -> list[Contestant]:
        return [each for each in self.contestants if not each.control]

    def differences(self, metric: str) -> list[Difference]:
        """Differences between all models; controls are not tested."""
        alike = {e.name: (e.begins, *(run.seed for run in e.runs)) for e in self.models if e.begins}
        return differences({each.name: each.numbers(metric) for each in self.models}, self.floors.get(metric), alike)

    def ranking(self, metric: str) -> list[str]:
        """Names of models and controls, nearest to the real-vs-real baseline first."""
        distance = {each.name: abs(fmean(each.numbers(metric)) - self.floors[metric]) for each in self.contestants}
        return sorted(distance, key=lambda name: distance[name])


@dataclass(frozen=True)
class Standing:
    """A candidate of a sweep at the end of a rung."""

    name: str
    values: Sequence[float]
    """The metric's number of each seed."""
    mean: Value
    """Its mean; the interval is that over the seeds, or over images where there is one seed."""
    kimg: float
    """Thousands of real images so far."""
    kept: bool
    """True if it goes on, or is among the last."""
    overlaps: bool
    """True if it was dropped though its interval overlaps that of the last one kept."""


@dataclass(frozen=True)
class Rung:
    """A part of a sweep, after which the worse candidates are dropped."""

    fraction: float
    """Training time from the start to its end, as a fraction of a whole run's."""
    resolution: int
    """Resolution at which all are measured, the smallest that one of them is at."""
    floor: float
    """Real-vs-real baseline there."""
    standings: Sequence[Standing]
    """Best first."""


def overlap(a: Value, b: Value) -> bool:
    """True if the intervals of two numbers have something in common; also where one has none."""
    return not (a.high < b.low or b.high < a.low)


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
    if error == 0:  # numbers that do not vary, as counts, do not say how far they could
        return value, value, value, 1.0
    dof = sum(parts) ** 2 / (parts[0] ** 2 / (len(a) - 1) + parts[1] ** 2 / (len(b) - 1))
    half = t_quantile(dof) * error
    return value, value - half, value + half, p_value(value / error, dof)


def paired(a: Sequence[float], b: Sequence[float]) -> tuple[float, float, float, float]:
    """As `welch`, of groups whose i-th numbers belong together: the t-test of their differences."""
    found = mean([x - y for x, y in zip(a, b, strict=True)])
    if found.low == found.high:
        return found.value, found.low, found.high, 1.0
    error = (found.high - found.low) / 2 / t_quantile(len(a) - 1)
    return found.value, found.low, found.high, p_value(found.value / error, len(a) - 1)


def differences(
    groups: Mapping[str, Sequence[float]], floor: float | None, alike: Mapping[str, object] | None = None
) -> list[Difference]:
    """Every pair of groups with at least two seeds each, their p corrected for the number of pairs.

    Without a real-vs-real baseline (`floor`) none is better. Groups for which `alike` has equal things are paired: what
    they have in common by design, the initial weights and the images, is no part of their difference.
    """
    alike = alike or {}
    pairs = [(a, b) for a, b in combinations(groups, 2) if min(len(groups[a]), len(groups[b])) > 1]
    raw = []
    for a, b in pairs:
        together = a in alike and alike[a] == alike.get(b)
        numbers = (paired if together else welch)(groups[a], groups[b])
        raw.append(Difference(a, b, *numbers, better=None, paired=together))
    found = [replace(each, p=p) for each, p in zip(raw, holm([each.p for each in raw]), strict=True)]
    if floor is None:
        return found
    distance = {name: abs(fmean(values) - floor) for name, values in groups.items()}
    return [
        replace(each, better=min(each.a, each.b, key=lambda name: distance[name])) if each.significant else each
        for each in found
    ]


def holm(p: Sequence[float]) -> list[float]:
    """p-values corrected so that all of them together err as seldom as one (Holm 1979)."""
    corrected, least = [1.0] * len(p), 0.0
    known = [i for i in range(len(p)) if not math.isnan(p[i])]
    for rank, i in enumerate(sorted(known, key=lambda i: p[i])):
        least = max(least, min(1.0, p[i] * (len(known) - rank)))
        corrected[i] = least
    return corrected


def p_value(t: float, dof: float) -> float:
    """Two-sided tail of Student's t: with t = √dof · tan θ its density is that of cos(θ)^(dof-1)."""
    theta = math.atan(abs(t) / math.sqrt(dof))
    return _cosine_power(theta, dof - 1) / _cosine_power(0, dof - 1)


def t_quantile(dof: float, p: float = LEVEL) -> float:
    """The t whose two-sided tail is p: 4.303 for 2 degrees of freedom and 5 %."""
    low, high = 0.0, 1e6
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if p_value(middle, dof) > p else (low, middle)
    return high


def _cosine_power(start: float, power: float) -> float:
    """The integral of cos(θ)^power from `start` to π/2, by Gauss-Legendre quadrature."""
    width = math.pi / 2 - start
    angles = start + width * (_NODES + 1) / 2
    return float((np.cos(angles) ** power * _WEIGHTS).sum() * width / 2)
