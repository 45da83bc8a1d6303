"""What a metric is, what it is made with, and how the numbers get their 95 % intervals.

Importing this module does not import torch or numpy, so that `progan evaluate --help` starts at once.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from progan.errors import ConfigError
from progan.progress import Log, silent

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from torch import Tensor

    from progan.data.dataset import Dataset

    Counts = npt.NDArray[np.integer[Any]]

Better = Literal["lower", "higher", "floor"]
"""Direction in which a number is better; `floor`: as near as possible to that of real images."""
PARTS = 8
"""Number of disjoint parts of the images whose spread gives an interval."""
DRAWS = 200
"""Number of bootstraps for an interval."""
NORMAL_95 = 1.959964
"""Standard deviations around the mean that hold 95 % of a normal distribution."""
STUDENT_95 = {8: 2.364624, 10: 2.262157}
"""Half width of the interval of a mean of so many numbers, in its standard errors (Student's t)."""


@dataclass(frozen=True)
class Value:
    """A measured number and its 95 % interval; each metric says over what."""

    value: float
    low: float
    high: float
    floor: "Value | None" = None
    """The real-vs-real baseline: the same number for other real images, which is what a perfect generator would get."""

    def within(self, least: float, most: float) -> "Value":
        """The number and its interval, cut where there are no such numbers: no distance is below 0.

        An interval loses no coverage by this, since the true number does not lie in what is cut off.
        """
        value, low, high = (min(max(number, least), most) for number in (self.value, self.low, self.high))
        return replace(self, value=value, low=low, high=high)


class Metric(Protocol):
    """Takes images in any batches and in bounded memory; the result does not depend on how they were batched."""

    def update(self, pixels: "Tensor", real: bool) -> None:
        """Add pixels uint8 [N, C, R, R] to the real or to the generated images.

        An `unclipped` metric gets images float [N, C, R, R] about -1…1 instead.
        """

    def result(self) -> dict[str, Value]:
        """Numbers by name. Raises ConfigError if there are too few images."""


class Entry(NamedTuple):
    """What the registry knows of a metric before it is made."""

    home: str
    """Module of this package and class, e.g. `fid.KernelDistance`; or, of another package, `module:Class`. The class is
    called with a Setting."""
    about: str
    """One line for the help."""
    values: dict[str, Better]
    """The numbers it gives and which way each is better."""
    unclipped: bool = False
    """True if it takes images as the generator makes them instead of pixels."""
    limits: tuple[float, float] = (0.0, math.inf)
    """Least and greatest that its numbers can be; their intervals end there."""
    fractions: tuple[str, ...] = ()
    """Those of its numbers that cannot be above 1 either."""
    own_floor: bool = False
    """True if it finds its real-vs-real baseline itself: other images of the dataset would not be one."""
    uneven: bool = False
    """True if it can be measured with fewer reals than fakes."""


@dataclass(frozen=True)
class Setting:
    """What a metric is made with."""

    seed: int = 0
    """Seed of whatever a metric draws."""
    resolution: int = 0
    """Resolution of the images to be measured; 0 if it is not known."""
    dataset: "Dataset | None" = None
    """Training images of the generator."""
    held_out: "Dataset | None" = None
    """Images of the same kind that it was not trained on."""
    inception_weights: Path | None = None
    """File with the weights of Inception-v3."""
    inception_statistics: Path | None = None
    """File with mean and covariance of its features of the real images, in the place of those of the data."""
    device: str = "cpu"
    notes: list[str] = field(default_factory=list)
    """Lines that are shown with the numbers."""
    log: Log = silent
    """Called with a line before something that takes long."""
    networks: dict[str, Any] = field(default_factory=dict, init=False, repr=False)
    """Networks that several metrics look through, by name; `features` puts them here."""

    def note(self, text: str) -> None:
        """Add a line to the notes, once."""
        if text not in self.notes:
            self.notes.append(text)

    def need_resolution(self, name: str, least: int) -> None:
        """Raise ConfigError if the images are too small for the metric of this name."""
        if 0 < self.resolution < least:
            raise ConfigError(f"{name} needs images of at least {least}x{least}; these have {self.resolution}")

    def need_dataset(self, name: str) -> "Dataset":
        """The training images. Raises ConfigError if there are none."""
        if self.dataset is None:
            raise ConfigError(f"{name} needs the dataset that the images come from")
        return self.dataset


class Collecting:
    """Base of the metrics that keep a few numbers of every image until the end."""

    name = ""
    """Name in messages."""
    fakes_only = False
    """True if real images are not looked at."""

    def __init__(self, setting: Setting, look: "Callable[[Tensor], Tensor]") -> None:
        self.setting = setting
        self.look = look
        """Pixels uint8 [n, C, R, R] (images of an `unclipped` metric) -> what is kept, a row for each image [n, …]."""
        self._rows: dict[bool, list[Tensor]] = {True: [], False: []}

    def update(self, pixels: "Tensor", real: bool) -> None:
        if not (real and self.fakes_only):
            self._rows[real].append(self.look(pixels))

    def rows(self, real: bool, least: int) -> "Tensor":
        """What was kept of all real or all generated images, [N, …]. Raises ConfigError for N < `least`."""
        import torch

        if sum(map(len, self._rows[real])) < least:
            raise ConfigError(f"{self.name} needs at least {least} {'real' if real else 'generated'} images")
        return torch.cat(self._rows[real])


def around(value: float, error: float) -> Value:
    """A value with a normal interval of this standard error."""
    return Value(value, value - NORMAL_95 * error, value + NORMAL_95 * error)


def mean_of(samples: "Tensor") -> Value:
    """The mean of independent samples float [N], N ≥ 2, with a normal interval."""
    return around(float(samples.mean()), float(samples.std()) / len(samples) ** 0.5)


def median_of(samples: "Tensor") -> Value:
    """The median of independent samples float [N], N ≥ 8, with the interval of order statistics."""
    ordered, n = samples.double().sort().values, len(samples)
    reach = NORMAL_95 * math.sqrt(n) / 2
    low, high = max(0, math.floor(n / 2 - reach)), min(n - 1, math.ceil(n / 2 + reach))
    middle = (float(ordered[(n - 1) // 2]), float(ordered[n // 2]))
    value = middle[0] if middle[0] == middle[1] else sum(middle) / 2  # two infinities have no mean
    return Value(value, float(ordered[low]), float(ordered[high]))


def fraction_of(hits: "Tensor") -> Value:
    """Fraction of bool [N] that is true, with Wilson's interval, which is no point at 0 and 1 (Wilson 1927)."""
    n, fraction = len(hits), float(hits.double().mean())
    shrink = 1 + NORMAL_95**2 / n
    middle = (fraction + NORMAL_95**2 / (2 * n)) / shrink
    half = NORMAL_95 / shrink * math.sqrt(fraction * (1 - fraction) / n + (NORMAL_95 / (2 * n)) ** 2)
    # At 0 and 1 an end is the fraction itself, up to rounding.
    low, high = (end if abs(end - fraction) > 1e-12 else fraction for end in (middle - half, middle + half))
    return Value(fraction, low, high)


def spread_of(value: float, parts: "Tensor") -> Value:
    """A value with the interval of the mean of float [8] or [10]: the same number of disjoint parts of the images."""
    half = STUDENT_95[len(parts)] * float(parts.double().std()) / math.sqrt(len(parts))
    return Value(value, value - half, value + half)


def jackknife(value: float, without: "Tensor") -> Value:
    """A value with the interval that follows from it without each of the 8 or 10 parts, float [8] (Tukey 1958)."""
    parts = len(without)
    error = math.sqrt((parts - 1) / parts * float((without.double() - without.double().mean()).square().sum()))
    return Value(value, value - STUDENT_95[parts] * error, value + STUDENT_95[parts] * error)


def kl(counts: "Counts", expected: "npt.NDArray[np.floating[Any]]") -> float:
    """Kullback-Leibler divergence in nats of a histogram [K] from probabilities [K] that are above 0."""
    import numpy as np

    found = counts / counts.sum()
    present = found > 0
    return float((found[present] * np.log(found[present] / expected[present])).sum())


def spread(function: Callable[..., float], histograms: "Sequence[Counts]", seed: int) -> float:
    """Standard deviation of a function of histograms over 200 bootstraps of the images in them."""
    import numpy as np

    random = np.random.default_rng(seed)
    draws = [random.multinomial(counts.sum(), counts / counts.sum(), DRAWS) for counts in histograms]
    return float(np.std([function(*some) for some in zip(*draws, strict=True)]))
