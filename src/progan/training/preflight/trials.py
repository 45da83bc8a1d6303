"""Trials of speed: two things in alternation, until it is sure which one is faster or the time is up; and their memory.

What was sure is remembered, with its evidence, so that the same command does the same again; what was not is tried
again.
"""

import hashlib
import json
import math
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch

from progan.data.cache import cache_folder
from progan.files import write_whole
from progan.options import parse_json

LEAST, MOST = 6, 24
"""Rounds of a trial: the fewest of which all agree by chance in less than one case of twenty, and where it ends."""
PATIENCE = 20.0
"""Seconds after which a trial ends that is still not sure, if it has had its fewest rounds."""
BUSY = 1.2
"""Elapsed time of one thread, in multiples of its processor time, from which other programs are in its way."""


class Seconds(NamedTuple):
    """Time of an iteration by both clocks."""

    elapsed: float
    processor: float
    """Seconds of all threads of this process; other processes are not in it."""


Clock = Callable[[], Seconds]


@dataclass(frozen=True)
class Evidence:
    """How many times as fast as the safe thing the other one is."""

    gain: float
    """Median over the rounds."""
    low: float
    high: float
    """95 % interval of the median."""
    rounds: int
    sure: bool
    """True if the interval, which does not contain 1, says which is faster."""
    waited: float = 1.0
    """Elapsed time in multiples of processor time, of the safe thing: 1 for a thread that nothing is in the way of."""
    threads: int = 0
    """Threads that were chosen, in a trial of these."""
    build: float = 0.0
    """Seconds that building took, in a trial of a compiled step."""

    @property
    def faster(self) -> bool:
        """True if it is surely faster than the safe thing."""
        return self.sure and self.gain > 1

    @property
    def lasts(self) -> bool:
        """True if it holds the next time as well: how many threads are best on a busy machine depends on the others."""
        return self.sure and (self.threads == 0 or self.waited <= BUSY)

    def __str__(self) -> str:
        unsure = "" if self.sure else ", which is not sure"
        return f"{self.gain:.2f} times as fast ({self.low:.2f} to {self.high:.2f}{unsure})"


def judge(safe: Sequence[Seconds], other: Sequence[Seconds], processor: bool = True) -> Evidence:
    """Evidence of the rounds of a trial, in each of which both were timed.

    Elapsed time is what people wait for; processor time is the same on a busy machine. The clock whose ratios spread
    less decides, unless the other one is as sure of the contrary. `processor`: False where that clock does not see the
    work, as on a GPU or where numbers of threads are compared.
    """
    found = []
    for clock in range(2 if processor else 1):
        ratios = sorted(slow[clock] / max(quick[clock], 1e-9) for slow, quick in zip(safe, other, strict=True))
        left_out = _beyond(len(ratios))
        found.append((statistics.median(ratios), ratios[left_out], ratios[-1 - left_out]))
    gain, low, high = min(found, key=lambda each: each[2] / max(each[1], 1e-9))
    sure = low > 1 or high < 1
    contrary = any(lo > 1 for _, lo, _ in found) and any(hi < 1 for _, _, hi in found)
    waited = statistics.median(slow.elapsed / max(slow.processor, 1e-9) for slow in safe)
    return Evidence(gain, low, high, len(safe), sure and not contrary, waited)


def _beyond(n: int) -> int:
    """Number of the n sorted values on each side that lie beyond the 95 % interval of the median (sign test)."""
    k, tail = 0, 0.5**n
    while (tail := tail + math.comb(n, k + 1) * 0.5**n) <= 0.025:
        k += 1
    return k


def clock() -> Seconds:
    """Both clocks now."""
    return Seconds(time.perf_counter(), time.process_time())


def compare(
    safe: Callable[[], None], other: Callable[[], None], processor: bool = True, clock: Clock = clock
) -> Evidence:
    """Evidence of a trial of two functions, which are called in turns."""
    calls = safe, other
    times: tuple[list[Seconds], list[Seconds]] = [], []
    for call in calls:  # the first of each is slow
        call()
    began = clock().elapsed
    while True:
        # Who is first changes from round to round, so that a machine that slows down slows both alike.
        for i in (0, 1) if len(times[0]) % 2 == 0 else (1, 0):
            before = clock()
            calls[i]()
            after = clock()
            times[i].append(Seconds(after.elapsed - before.elapsed, after.processor - before.processor))
        rounds = len(times[0])
        if rounds >= LEAST and rounds % 3 == 0:
            evidence = judge(*times, processor)
            if evidence.sure or rounds >= MOST or clock().elapsed - began > PATIENCE:
                return evidence


# What is remembered


def remembered(what: str, facts: list[Any], measure: Callable[[], Evidence]) -> Evidence:
    """Evidence of an earlier trial on this machine under these conditions, if it lasts, or of one made now."""
    if (evidence := recalled(what, facts)) is not None:
        return evidence
    evidence = measure()
    try:
        path = _measured()
        path.parent.mkdir(parents=True, exist_ok=True)
        known = {**_known(), _key(what, facts): asdict(evidence)}
        write_whole(path, json.dumps(known, indent=1).encode())
    except OSError:
        pass  # then it is measured again the next time
    return evidence


def recalled(what: str, facts: list[Any]) -> Evidence | None:
    """Evidence of an earlier trial that holds still; None if there is none."""
    try:
        evidence = parse_json(Evidence, _known().get(_key(what, facts)))
    except (ValueError, TypeError):
        return None  # also what an earlier version wrote
    return evidence if evidence.lasts else None


def _key(what: str, facts: list[Any]) -> str:
    machine = [platform.node(), platform.machine(), torch.backends.cpu.get_cpu_capability()]
    if torch.cuda.is_available():
        machine.append(torch.cuda.get_device_name())
    return f"{what}-{hashlib.sha256(json.dumps([machine, facts], default=str).encode()).hexdigest()[:16]}"


def _known() -> dict[str, Any]:
    try:
        known = json.loads(_measured().read_bytes())
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def _measured() -> Path:
    return cache_folder().parent / "measured.json"
