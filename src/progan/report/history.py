"""What a run's statistics say over time: curves, steps of growth, measurements."""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

Stats = Sequence[Mapping[str, Any]]
"""Lines of stats.jsonl."""

_LOSSES = ("D/", "G/")


def growth(stats: Stats, key: str = "cur_nimg", scale: float = 1000) -> list[tuple[float, str]]:
    """Where a new resolution began, in kimg (or seconds, with `elapsed`), and its name; the first is left out."""
    marks = []
    for before, line in pairwise(stats):
        if line["resolution"] != before["resolution"]:
            marks.append((before[key] / scale, f"{line['resolution']}"))
    return marks


def loss_names(stats: Stats) -> list[str]:
    """`D/real`, `D/penalty`, `G/fake` … in the order they appear."""
    return list(dict.fromkeys(name for line in stats for name in line if name.startswith(_LOSSES)))


def curve(stats: Stats, name: str, key: str = "cur_nimg", scale: float = 1000) -> tuple[list[float], list[float]]:
    """x and y of a number, where it was written; losses that are not finite are gaps."""
    points = [(line[key] / scale, line[name]) for line in stats if line.get(name) is not None]
    return [x for x, _ in points], [y if math.isfinite(y) else math.nan for _, y in points]


def measured(stats: Stats) -> list[str]:
    """Names of the metrics that were measured while training: `swd`, `ms_ssim` …"""
    prefix = "metrics/G_ema/"
    return list(dict.fromkeys(n.removeprefix(prefix) for line in stats for n in line if n.startswith(prefix)))


def with_training_time(stats: Stats) -> list[dict[str, Any]]:
    """The lines with `trained`, the seconds of training so far: `elapsed` counts measuring and writing too."""
    lines, seconds, before = [], 0.0, 0
    for line in stats:
        seconds += (line["cur_nimg"] - before) / line["img_per_sec"]
        before = line["cur_nimg"]
        lines.append({**line, "trained": seconds})
    return lines


def at_resolution(stats: Stats, resolution: int, phase: str = "stable") -> list[Mapping[str, Any]]:
    """The lines of one stage: metrics of different resolutions, or of a fade, do not compare."""
    return [line for line in stats if line["resolution"] == resolution and line["phase"] == phase]
