"""Collapse events, found in the measurements made while training.

Of the generator in training, not its average, within the stable part of one resolution. Two kinds, each with a
threshold to begin and a lower one to end, so that noise makes no events:

- *variety*: excess = (MS-SSIM - floor) / (1 - floor), 0 where fakes are as varied as reals, 1 where all are the same.
  It begins where the excess is above 0.5 after it had been below 0.25, and ends below 0.25 again.
- *quality*: it begins where the SWD is above three times the best so far and above twice its floor, and ends below
  one and a half times that best.

A generator that never had variety has not lost it: that is what the final numbers say.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from progan.report.history import Stats, at_resolution


@dataclass(frozen=True)
class Collapse:
    """One event."""

    kind: Literal["variety", "quality"]
    resolution: int
    begin: int
    """`cur_nimg` of the first measurement that shows it."""
    end: int | None
    """Of the first that shows it gone; None: not recovered by the end of the resolution."""

    @property
    def recovered(self) -> bool:
        return self.end is not None


def collapses(stats: Stats) -> list[Collapse]:
    """The events of a run, in order."""
    resolutions = dict.fromkeys(line["resolution"] for line in stats)
    found = []
    for resolution in resolutions:
        lines = at_resolution(stats, resolution)
        found += [*_variety(lines, resolution), *_quality(lines, resolution)]
    return sorted(found, key=lambda event: event.begin)


def _variety(lines: Sequence[Mapping[str, Any]], resolution: int) -> list[Collapse]:
    events: list[Collapse] = []
    varied, begin = False, None
    for nimg, value, floor in _points(lines, "ms_ssim"):
        excess = (value - floor) / (1 - floor)
        if begin is None and varied and excess > 0.5:
            begin = nimg
        elif begin is not None and excess < 0.25:
            events.append(Collapse("variety", resolution, begin, nimg))
            begin = None
        varied |= excess < 0.25
    return events if begin is None else [*events, Collapse("variety", resolution, begin, None)]


def _quality(lines: Sequence[Mapping[str, Any]], resolution: int) -> list[Collapse]:
    events: list[Collapse] = []
    best, begin = float("inf"), None
    for nimg, value, floor in _points(lines, "swd"):
        if begin is None and value > max(3 * best, 2 * floor):
            begin = nimg
        elif begin is not None and value < 1.5 * best:
            events.append(Collapse("quality", resolution, begin, nimg))
            begin = None
        best = min(best, value)
    return events if begin is None else [*events, Collapse("quality", resolution, begin, None)]


def _points(lines: Sequence[Mapping[str, Any]], name: str) -> list[tuple[int, float, float]]:
    """(cur_nimg, value, floor) of the generator in training."""
    keys = (f"metrics/G/{name}", f"metrics/floor/{name}")
    return [(line["cur_nimg"], line[keys[0]], line[keys[1]]) for line in lines if all(key in line for key in keys)]
