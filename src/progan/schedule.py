"""Schedule: all that depends on the number of real images shown (Karras et al. 2018, section 2, appendix A.1)."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from progan.config import RunConfig, ScheduleConfig
from progan.errors import ConfigError
from progan.per_resolution import PerResolution

Phase = Literal["fade", "stable"]

Cost = Mapping[tuple[int, Phase], float]
"""Something per real image (seconds of training, operations) at each stage."""


@dataclass(frozen=True)
class Stage:
    """Settings at one moment of training."""

    resolution: int
    phase: Phase
    alpha: float
    """Weight of the newest block: 0 at the start of a fade, 1 when stable."""
    batch_size: int
    g_lr: float
    d_lr: float

    @property
    def key(self) -> tuple[int, Phase]:
        """Name of a stage; the optimisers are reset whenever it changes."""
        return self.resolution, self.phase


class Span(NamedTuple):
    """Extent of a stage in images: `start` ≤ cur_nimg ≤ `end`, the next stage's start being this one's end."""

    resolution: int
    phase: Phase
    start: int
    end: int


class Block(NamedTuple):
    """Iterations between two evaluations of the schedule; states are written between blocks only.

    An iteration is `d_steps` D steps of `stage.batch_size` reals each, then one G step.
    """

    stage: Stage
    iterations: range
    """`cur_nimg` at the start of each."""

    @property
    def end(self) -> int:
        """`cur_nimg` after the last."""
        return self.iterations.stop


class Schedule:
    """Stages of a run."""

    def __init__(self, config: ScheduleConfig) -> None:
        assert config.stable_epochs is None, "in_images comes first"
        self.config = config
        self.spans = tuple(_spans(config))
        total = config.total_kimg
        self.total_nimg = self.spans[-1].end if total is None else round(total * 1000)
        if self.total_nimg == 0:
            raise ConfigError("no images are left to train on: raise --total-kimg, or --stable-kimg and --fade-kimg")

    def at(self, cur_nimg: int) -> Stage:
        """Stage at `cur_nimg` images. At the very start of a fade (alpha 0) the old resolution still holds."""
        resolution, phase, start, end = next(
            (
                span
                for span in self.spans[:-1]
                if cur_nimg < span.end or (cur_nimg == span.end and span.phase == "stable")
            ),
            self.spans[-1],  # which never ends by itself
        )
        config = self.config
        lr = config.lr.at(resolution)
        return Stage(
            resolution,
            phase,
            alpha=(cur_nimg - start) / (end - start) if phase == "fade" else 1.0,
            batch_size=int(config.batch_size.at(resolution)),
            g_lr=lr,
            d_lr=lr if config.d_lr is None else config.d_lr.at(resolution),
        )

    def before(self, cur_nimg: int, resolution: int) -> Stage:
        """Stage of the block that ends at `cur_nimg` and has that resolution."""
        images = int(self.config.batch_size.at(resolution)) * self.config.d_steps * self.config.schedule_every
        return self.at(cur_nimg - images)

    def walk(self, cur_nimg: int) -> Iterator[Block]:
        """Blocks from an evaluation of the schedule at `cur_nimg` on, until `total_nimg` images are shown."""
        while cur_nimg < self.total_nimg:
            stage = self.at(cur_nimg)
            images = stage.batch_size * self.config.d_steps
            yield Block(stage, range(cur_nimg, cur_nimg + images * self.config.schedule_every, images))
            cur_nimg += images * self.config.schedule_every

    def extents(self) -> Iterator[tuple[Span, int]]:
        """Stages that the run reaches, each with its number of images."""
        for span in self.spans:
            end = self.total_nimg if span is self.spans[-1] else min(span.end, self.total_nimg)
            if end > span.start:
                yield span, end - span.start


def in_images(config: ScheduleConfig, count: int) -> ScheduleConfig:
    """Schedule with its epochs, if it has any, as thousands of images, `count` an epoch."""
    if config.stable_epochs is None:
        return config
    kimg = PerResolution(tuple((key, epochs * count / 1000) for key, epochs in config.stable_epochs.values))
    return replace(config, stable_kimg=kimg, stable_epochs=None)


def unreached(config: ScheduleConfig) -> str | None:
    """Words on a run that ends before its final resolution; None for one that gets there."""
    schedule = Schedule(config)
    last = max(span.resolution for span, _ in schedule.extents())
    if last == config.resolution:
        return None
    if config.total_kimg is None:
        return (
            f"{config.resolution}x{config.resolution} gets no images: raise --stable-kimg or --fade-kimg there, or ask "
            f"for --resolution {last}"
        )
    begins = next(span.start for span in schedule.spans if span.resolution == config.resolution) / 1000
    return (
        f"--total-kimg {config.total_kimg:g} ends at {last}x{last}: {config.resolution}x{config.resolution} begins "
        f"after {begins:g} kimg. Give more, shorten all stages alike with --minutes, or ask for --resolution {last}"
    )


# Schedules stretched or shrunk to a budget; every stage keeps its fraction of the images


def for_kimg(config: RunConfig, kimg: float) -> RunConfig:
    """The run with so many thousand images. Raises ConfigError where a stage would have less than a batch."""
    return _times(config, 1000 * kimg / Schedule(config.schedule).total_nimg)


def for_seconds(config: RunConfig, seconds: float, cost: Cost) -> RunConfig:
    """The run that trains so many seconds. Raises ConfigError where a stage would have less than a batch."""
    return _times(config, seconds / cost_of(config.schedule, cost))


def cost_of(config: ScheduleConfig, cost: Cost) -> float:
    """Cost of the whole run."""
    return sum(images * cost[span.resolution, span.phase] for span, images in Schedule(config).extents())


def _times(config: RunConfig, factor: float) -> RunConfig:
    for span, images in Schedule(config.schedule).extents():
        left = round(images * factor)
        if left < config.schedule.batch_size.at(span.resolution):
            raise ConfigError(
                f"the budget leaves {config.preset} {left} images at {span.resolution}x{span.resolution}, less than a "
                "batch. Give more"
            )
    return replace(config, schedule=stretch(config.schedule, factor))


def stretch(schedule: ScheduleConfig, factor: float) -> ScheduleConfig:
    """All lengths times a factor."""

    def times(value: PerResolution) -> PerResolution:
        return PerResolution(tuple((key, number * factor) for key, number in value.values))

    total = None if schedule.total_kimg is None else schedule.total_kimg * factor
    stable, fade = times(schedule.stable_kimg), times(schedule.fade_kimg)
    return replace(schedule, stable_kimg=stable, fade_kimg=fade, total_kimg=total)


def _spans(config: ScheduleConfig) -> Iterator[Span]:
    """Stable at the first resolution, then fade and stable for each other one; none without images but the last."""
    resolution, now = config.start_resolution, 0
    while True:
        if resolution > config.start_resolution:
            end = now + round(config.fade_kimg.at(resolution) * 1000)
            if end > now:
                yield Span(resolution, "fade", now, end)
            now = end
        end = now + round(config.stable_kimg.at(resolution) * 1000)
        if end > now or resolution == config.resolution:
            yield Span(resolution, "stable", now, end)
        now = end
        if resolution == config.resolution:
            return
        resolution *= 2
