"""What every metric is: images come in batches, numbers with intervals go out."""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

_NORMAL_95 = 1.959964  # standard deviations around the mean that hold 95 % of a normal distribution


@dataclass(frozen=True)
class Value:
    """A measured number and its 95 % interval; each metric says over what."""

    value: float
    low: float
    high: float
    floor: "Value | None" = None
    """The same number for real images in the place of the fakes: what a perfect generator would get."""


class Metric(Protocol):
    """Takes images in any batches and in bounded memory; the result does not depend on how they were batched."""

    def update(self, pixels: Tensor, real: bool) -> None:
        """Add pixels uint8 [N, C, R, R] to the real images or to the fakes."""

    def result(self) -> dict[str, Value]:
        """The numbers by name. Raises ConfigError where there are too few images."""


def mean_of(samples: Tensor) -> Value:
    """The mean of independent samples float [N], N ≥ 2, with a normal interval."""
    mean, error = float(samples.mean()), float(samples.std()) / len(samples) ** 0.5
    return Value(mean, mean - _NORMAL_95 * error, mean + _NORMAL_95 * error)
