"""Console observer: a progress bar on a terminal, one line a tick elsewhere."""

from tqdm import tqdm

from progan.progress import duration, log_line, on_terminal, speed
from progan.schedule import Schedule, Stage
from progan.training.observers.base import Observer, Tick
from progan.training.observers.run_files import grid_name
from progan.training.preflight.estimate import Pace
from progan.training.state import TrainingState

RECOGNISABLE = 16
"""Resolution from which on one sees what pictures are of: a face at 8x8 is a blot."""


class Console(Observer):
    """Observer that shows resolution, phase, alpha, images per second and the time left."""

    def __init__(self, schedule: Schedule, pace: Pace) -> None:
        self._schedule, self._pace = schedule, pace
        self._last = 0, 0.0
        """Images and seconds at the tick before."""
        self._bar: tqdm[None] | None = None

    def on_start(self, state: TrainingState, stage: Stage) -> None:
        self._last = state.cur_nimg - state.tally.images, state.elapsed
        if changed := state.adjustments.describe():
            log_line(f"from {state.cur_nimg / 1000:g} kimg on with {changed}")
        if on_terminal():
            total = self._schedule.total_nimg / 1000
            self._bar = tqdm(total=total, initial=min(state.cur_nimg / 1000, total), unit="kimg", bar_format=_BAR)

    def on_progress(self, cur_nimg: int, stage: Stage) -> None:
        if self._bar is not None:
            self._bar.set_description_str(describe(stage), refresh=False)
            self._bar.update(min(cur_nimg / 1000, self._bar.total) - self._bar.n)  # the last batch goes beyond

    def on_tick(self, tick: Tick, state: TrainingState) -> None:
        images, seconds = self._last
        self._last = tick.cur_nimg, tick.elapsed
        self._pace.measure(tick.stage.resolution, tick.cur_nimg - images, tick.elapsed - seconds)
        left = duration(self._pace.left(tick.cur_nimg))
        shown = [*filter(None, [speed(tick.images, tick.seconds)]), f"{left} left"]
        ada = {name: value for name, value in tick.metrics.items() if name == "augment/p"}
        if self._bar is not None:
            self._bar.set_postfix_str(", ".join([*shown, *(f"p {p:.2f}" for p in ada.values())]))
        else:
            losses = "  ".join(f"{name} {value:.3g}" for name, value in (tick.losses | ada).items())
            done = f"{tick.cur_nimg / 1000:8.1f} of {self._schedule.total_nimg / 1000:g} kimg"
            log_line("  ".join([done, describe(tick.stage), *shown, losses]))
        for notice in tick.notices:
            log_line(notice)

    def on_stage_end(self, stage: Stage, following: Stage | None, state: TrainingState) -> None:
        """Say where the first pictures are in which one recognises something, unless the run ends with them."""
        if (stage.resolution, stage.phase) == (RECOGNISABLE, "stable") and following is not None:
            log_line(f"the first pictures that show something: samples/{grid_name(state.cur_nimg, stage.resolution)}")

    def on_end(self, finished: bool, state: TrainingState) -> None:
        if self._bar is not None:
            self._bar.close()


_BAR = "{desc} {percentage:3.0f}%|{bar}| {n:.1f}/{total:g} kimg [{elapsed}{postfix}]"


def describe(stage: Stage) -> str:
    """`32x32 fade 0.35`."""
    phase = f"fade {stage.alpha:.2f}" if stage.phase == "fade" else "stable   "
    return f"{stage.resolution}x{stage.resolution} {phase}"
