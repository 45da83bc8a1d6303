"""Console observer: a progress bar on a terminal, one line a tick elsewhere."""

from tqdm import tqdm

from progan.progress import log_line, on_terminal, speed
from progan.schedule import Schedule, Stage
from progan.training.observers.base import Observer, Tick
from progan.training.state import TrainingState


class Console(Observer):
    """Observer that shows resolution, phase, alpha, images per second and the time left."""

    def __init__(self, schedule: Schedule, cost: dict[int, float]) -> None:
        self._schedule = schedule
        self._cost = dict(cost)
        """Seconds per image at each resolution, estimated until they are measured."""
        self._bar: tqdm[None] | None = None

    def on_start(self, state: TrainingState, stage: Stage) -> None:
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
        self._measure(tick)
        left = duration(self.seconds_left(tick.cur_nimg))
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

    def on_end(self, finished: bool, state: TrainingState) -> None:
        if self._bar is not None:
            self._bar.close()

    def _measure(self, tick: Tick) -> None:
        """Replace the estimate of this resolution by what was measured, and scale those of later ones alike."""
        resolution = tick.stage.resolution
        measured = max(tick.seconds, 1e-9) / max(tick.images, 1)
        ratio = measured / self._cost[resolution]
        for other in self._cost:
            if other > resolution:
                self._cost[other] *= ratio
        self._cost[resolution] = measured

    def seconds_left(self, cur_nimg: int) -> float:
        """Seconds from here to the end, by the costs known so far."""
        return sum(
            max(0, span.start + images - max(span.start, cur_nimg)) * self._cost[span.resolution]
            for span, images in self._schedule.extents()
        )


_BAR = "{desc} {percentage:3.0f}%|{bar}| {n:.1f}/{total:g} kimg [{elapsed}{postfix}]"


def describe(stage: Stage) -> str:
    """`32x32 fade 0.35`."""
    phase = f"fade {stage.alpha:.2f}" if stage.phase == "fade" else "stable   "
    return f"{stage.resolution}x{stage.resolution} {phase}"


def duration(seconds: float) -> str:
    """`45 s`, `12 min`, `3 h 20 min`, `4 d 3 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"
