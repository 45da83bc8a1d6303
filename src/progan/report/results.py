"""What a comparison found, as its page, JSON and table are made from it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from progan.metrics import Value
from progan.report.collapse import Collapse
from progan.report.history import Stats
from progan.report.statistics import Difference, differences

AVERAGE = "G_ema"
"""The averaged generator: the one that models are judged by."""
MEMORISATION = "memorisation"
"""Distance to the nearest training image over that to the nearest held-out one."""


@dataclass(frozen=True)
class Trained:
    """A run with one seed; of a control, its images with one seed."""

    seed: int
    folder: str
    """Below the comparison's folder; empty for a control."""
    values: Mapping[str, Mapping[str, Value]]
    """Network (`G_ema`, `G`) -> metric -> number."""
    kimg: float = 0.0
    seconds: float = 0.0
    """Of training, without measuring."""
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
    """Of G and D."""
    image_flops: tuple[int, int] | None = None
    """Of a forward pass of G and of D for one image of the final resolution."""
    training_flops: float | None = None
    """Of a whole run, counted in one block of each stage."""

    def numbers(self, metric: str, network: str = AVERAGE) -> list[float]:
        """One for each seed."""
        return [run.values[network][metric].value for run in self.runs if network in run.values]


@dataclass(frozen=True)
class Comparison:
    """All of it."""

    title: str
    facts: Sequence[tuple[str, str]]
    """The protocol, for people."""
    metrics: Sequence[str]
    floors: Mapping[str, float]
    """What other real images get."""
    contestants: Sequence[Contestant]
    notes: Sequence[str] = ()
    """What the reader must know, e.g. that times differ."""

    @property
    def models(self) -> list[Contestant]:
        return [each for each in self.contestants if not each.control]

    def differences(self, metric: str) -> list[Difference]:
        """Between all models; controls are not tested."""
        return differences({each.name: each.numbers(metric) for each in self.models}, self.floors.get(metric))

    def ranking(self, metric: str) -> list[str]:
        """Names, nearest to the floor first, controls included."""
        floor = self.floors[metric]
        return sorted(
            (each.name for each in self.contestants),
            key=lambda name: abs(fmean(self._of(name).numbers(metric)) - floor),
        )

    def _of(self, name: str) -> Contestant:
        return next(each for each in self.contestants if each.name == name)
