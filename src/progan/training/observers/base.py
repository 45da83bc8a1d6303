"""Observers of a training: their interface, and what a tick tells them."""

from dataclasses import dataclass, field

from progan.schedule import Stage
from progan.training.state import TrainingState


@dataclass(frozen=True)
class Tick:
    """Numbers since the tick before."""

    cur_nimg: int
    stage: Stage
    losses: dict[str, float]
    """Mean of every term of the losses: `D/real`, `D/penalty`, `G/fake` …"""
    images: int
    seconds: float
    data_wait: float
    """Seconds spent waiting for images."""
    elapsed: float
    """Seconds of training since the run began."""
    skipped: dict[str, int]
    """Number of updates of D and of G left out since the run began."""
    metrics: dict[str, float] = field(default_factory=dict)
    """Values added by observers that measure, for those after them that write."""
    notices: list[str] = field(default_factory=list)
    """Sentences for people, added by the loop and by observers."""

    @property
    def img_per_sec(self) -> float:
        return self.images / max(self.seconds, 1e-9)


class Observer:
    """Watches a run, in its first process; this one does nothing. No observer may change a number of the training."""

    def on_start(self, state: TrainingState, stage: Stage) -> None:
        """Before the first iteration, also of a continued run."""

    def on_progress(self, cur_nimg: int, stage: Stage) -> None:
        """After every evaluation of the schedule."""

    def on_tick(self, tick: Tick, state: TrainingState) -> None:
        """Every tick_kimg, at the end of every stage, and at the end."""

    def on_stage_end(self, stage: Stage, following: Stage | None, state: TrainingState) -> None:
        """After the last tick of a stage; `following` is None at the end of the run, also of one that ends early."""

    def on_end(self, finished: bool, state: TrainingState) -> None:
        """After the last iteration; `finished` unless the run was stopped."""
