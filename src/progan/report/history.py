"""What a run's statistics say over time: curves, steps of growth, measurements, and collapses.

Collapses are found in the measurements made while training, of the generator in training, not its average, within the
stable part of one resolution. Two kinds, each with a threshold to begin and a lower one to end, so that noise makes no
events:

- *variety*: excess = (MS-SSIM - baseline) / (1 - baseline), 0 where fakes are as varied as reals, 1 where all are the
  same. It begins where the excess is above 0.5 after it had been below 0.25, and ends below 0.25 again.
- *quality*: it begins where the SWD is above three times the best so far and above twice its real-vs-real baseline, and
  ends below one and a half times that best.

A generator that never had variety has not lost it: that is what the final numbers say.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

Stats = Sequence[Mapping[str, Any]]
"""Lines of stats.jsonl."""


LABEL_LOSSES = ("D/labels", "G/labels")
"""Names of the losses of the labels."""


def growth(stats: Stats) -> list[tuple[float, str]]:
    """Where a new resolution began, in kimg, and its name; the first is left out."""
    return [
        (before["cur_nimg"] / 1000, str(line["resolution"]))
        for before, line in pairwise(stats)
        if line["resolution"] != before["resolution"]
    ]


def loss_names(stats: Stats, prefix: str | tuple[str, ...] = ("D/", "G/")) -> list[str]:
    """`D/real`, `D/penalty`, `G/fake` … in the order they appear, without those of the labels."""
    names = dict.fromkeys(name for line in stats for name in line if name.startswith(prefix))
    return [name for name in names if name not in LABEL_LOSSES]


def curve(
    stats: Stats, name: str, key: str = "cur_nimg", scale: float = 1000, broken: bool = False
) -> tuple[list[float], list[float]]:
    """x and y of a number, where it was written; y is NaN, a gap, where it is not finite.

    `broken`: with a gap where the resolution changes, too.
    """
    points: list[tuple[float, float]] = []
    before = None
    for line in stats:
        if line.get(name) is None:
            continue
        if broken and before not in (None, line["resolution"]):
            points.append((line[key] / scale, math.nan))
        before = line.get("resolution")
        points.append((line[key] / scale, line[name] if math.isfinite(line[name]) else math.nan))
    return [x for x, _ in points], [y for _, y in points]


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


@dataclass(frozen=True)
class Collapse:
    """One event."""

    kind: Literal["variety", "quality"]
    resolution: int
    begin: int
    """`cur_nimg` of the first measurement that shows it."""
    end: int | None
    """`cur_nimg` of the first that shows it gone; None: not recovered by the end of the resolution."""

    @property
    def recovered(self) -> bool:
        return self.end is not None


Sign = tuple[int, bool, bool]
"""A measurement: `cur_nimg`, and whether a collapse would begin there, and end."""


def collapses(stats: Stats) -> list[Collapse]:
    """The collapses of a run, in order."""
    found = []
    for resolution in dict.fromkeys(line["resolution"] for line in stats):
        lines = at_resolution(stats, resolution)
        found += _events("variety", resolution, _variety(lines)) + _events("quality", resolution, _quality(lines))
    return sorted(found, key=lambda event: event.begin)


def _events(kind: Literal["variety", "quality"], resolution: int, signs: Iterable[Sign]) -> list[Collapse]:
    events, begin = [], None
    for nimg, begins, ends in signs:
        # Two thresholds: what lies between them neither begins nor ends a collapse.
        if begin is None and begins:
            begin = nimg
        elif begin is not None and ends:
            events.append(Collapse(kind, resolution, begin, nimg))
            begin = None
    return events if begin is None else [*events, Collapse(kind, resolution, begin, None)]


def _variety(lines: Stats) -> Iterator[Sign]:
    varied = False
    for nimg, value, floor in _points(lines, "ms_ssim"):
        excess = ms_ssim_excess(value, floor)
        yield nimg, varied and excess > 0.5, excess < 0.25
        varied |= excess < 0.25


def ms_ssim_excess(value: float, floor: float) -> float:
    """MS-SSIM above that of real images, as a fraction of what there is: 1 if all images are alike, 0 if as real ones.

    Real images that are all alike leave nothing: 0.
    """
    return (value - floor) / (1 - floor) if floor < 1 else 0.0


def _quality(lines: Stats) -> Iterator[Sign]:
    best = math.inf
    for nimg, value, floor in _points(lines, "swd"):
        yield nimg, value > max(3 * best, 2 * floor), value < 1.5 * best
        best = min(best, value)


def _points(lines: Stats, name: str) -> list[tuple[int, float, float]]:
    """`cur_nimg`, value and real-vs-real baseline of the generator in training."""
    keys = (f"metrics/G/{name}", f"metrics/floor/{name}")
    return [(line["cur_nimg"], line[keys[0]], line[keys[1]]) for line in lines if all(key in line for key in keys)]
