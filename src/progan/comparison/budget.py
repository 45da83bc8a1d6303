"""Schedules stretched or shrunk so that every run ends with its budget."""

import dataclasses
from collections.abc import Mapping

from progan.config import RunConfig, ScheduleConfig
from progan.errors import ConfigError
from progan.metrics.evaluation import LEAST
from progan.options import override
from progan.per_resolution import PerResolution
from progan.schedule import Phase, Schedule

Cost = Mapping[tuple[int, Phase], float]
"""Seconds of training per real image at each stage."""


def for_kimg(config: RunConfig, kimg: float) -> RunConfig:
    """The run with so many thousand images; every stage keeps its share of them."""
    return _times(config, 1000 * kimg / Schedule(config.schedule).total_nimg)


def for_seconds(config: RunConfig, seconds: float, cost: Cost) -> RunConfig:
    """The run that trains so many seconds; every stage keeps its share of the images."""
    own = sum(images * cost[span.resolution, span.phase] for span, images in Schedule(config.schedule).extents())
    return _times(config, seconds / own)


def stretch(schedule: ScheduleConfig, factor: float) -> ScheduleConfig:
    """All lengths times a factor."""

    def times(value: PerResolution) -> PerResolution:
        return PerResolution(tuple((key, number * factor) for key, number in value.values))

    total = None if schedule.total_kimg is None else schedule.total_kimg * factor
    stable, fade = times(schedule.stable_kimg), times(schedule.fade_kimg)
    return dataclasses.replace(schedule, stable_kimg=stable, fade_kimg=fade, total_kimg=total)


def watched(config: RunConfig, measurements: int, num: int) -> RunConfig:
    """The run measured so often, with a sample grid each time; half as many images as at the end are enough there."""
    every = 0.999 * Schedule(config.schedule).total_nimg / 1000 / measurements  # so that the last is at the end
    changes = {"tick_kimg": every / 4, "grid_kimg": every, "metrics_kimg": every, "metrics_num": max(LEAST, num // 2)}
    return override(config, changes)


def _times(config: RunConfig, factor: float) -> RunConfig:
    schedule = stretch(config.schedule, factor)
    for span, images in Schedule(schedule).extents():
        if images < schedule.batch_size.at(span.resolution):
            raise ConfigError(
                f"the budget leaves {config.preset} {images} images at {span.resolution}x{span.resolution}, less than "
                "a batch. Give more"
            )
    return dataclasses.replace(config, schedule=schedule)
