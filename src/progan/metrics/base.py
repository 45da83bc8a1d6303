"""What every metric is: images come in batches, numbers with intervals go out."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

if TYPE_CHECKING:
    from torch import Tensor

Better = Literal["lower", "higher", "floor"]
"""Which way is better; `floor`: as the real images have it."""


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

    def update(self, pixels: "Tensor", real: bool) -> None:
        """Add pixels uint8 [N, C, R, R] to the real images or to the fakes.

        Of an `unclipped` metric: images float [N, C, R, R] about -1…1.
        """

    def result(self) -> dict[str, Value]:
        """The numbers by name. Raises ConfigError where there are too few images."""


class Entry(NamedTuple):
    """What the registry knows of a metric before it is made."""

    about: str
    """One line for people."""
    values: dict[str, Better]
    """The numbers it gives and which way each is better."""
    unclipped: bool = False
    """Whether it takes images as the generator makes them instead of pixels."""
    own_floor: bool = False
    """Whether it finds its floors itself: other images of the dataset would not be one."""
