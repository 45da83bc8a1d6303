"""Signs of a run that goes wrong slowly, and what to do about each (docs/health.md has where the thresholds are from).

A sign is a function of the lines of stats.jsonl, so a continued run knows what the run knew before it was stopped.
"""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from progan.losses import Loss
from progan.schedule import Stage
from progan.training.observers.base import Tick
from progan.training.observers.probe import Sample, look
from progan.training.observers.run_files import Silent, read_stats, record
from progan.training.rescue import d_wins
from progan.training.state import TrainingState

Lines = Sequence[dict[str, Any]]

PATIENCE = 3
"""Ticks, one after another, before a sign is believed, and before it is believed to be gone."""
LEARNING = 5
"""Ticks at the start of a run in which fakes may all be alike."""
WINDOW = 20
"""Ticks that a sign is given, oldest first."""
LEAST_NEAREST = 0.3
"""Distance of a fake to the fake most like it, where it is 1 between reals."""
LEAST_VARIETY = 0.3
"""Root mean square distance of two fakes, where it is 1 between reals."""
MOST_MEMORISED = 0.25
"""Of the way from reals to fakes that D's scores of images it never saw have gone."""
LEAST_SEPARATION = 0.5
"""Share of the pairs of a real and a fake in which D prefers the real: chance."""
GRADIENT_FACTOR = 100
"""Between G's gradient and its median over the ticks before, either way."""
LEFT_OUT_SHARE = 0.01
"""Of a tick's updates."""


@dataclass(frozen=True)
class Sign:
    """Something to be seen in the last line, in view of those before it."""

    name: str
    seen: Callable[[Lines], bool]
    advice: str


def _repeats(lines: Lines) -> bool:
    last = lines[-1]
    nearest, variety = last.get("health/nearest", 1), last.get("health/variety", 1)
    return bool(nearest < LEAST_NEAREST or variety < LEAST_VARIETY)


def _memorises(lines: Lines) -> bool:
    last = lines[-1]
    if "health/score_held_out" not in last:
        return False
    real, fake = last["health/score_real"], last["health/score_fake"]
    return bool(real > fake and (real - last["health/score_held_out"]) / (real - fake) > MOST_MEMORISED)


def _is_blind(lines: Lines) -> bool:
    return bool(lines[-1].get("health/separation", 1) <= LEAST_SEPARATION)


def _gradient_jumps(lines: Lines) -> bool:
    *before, now = [line.get("health/g_gradient", 0) for line in lines]
    if len(before) < PATIENCE or not all(value > 0 for value in (*before, now)):
        return False
    return not 1 / GRADIENT_FACTOR < now / statistics.median(before) < GRADIENT_FACTOR


SIGNS = (
    Sign(
        "variety",
        _repeats,
        "fakes are much more alike than the images: G may be collapsing onto few pictures. Look at samples/; begin "
        "again, or from an earlier snapshot, with a lower --lr or a larger --batch-size",
    ),
    Sign(
        "memorising",
        _memorises,
        "D's scores of held-out images are nearer to those of fakes than to those of images it was trained on: it "
        "learns them by heart. More images, --mirror, or an end here",
    ),
    Sign(
        "blind",
        _is_blind,
        "D prefers fakes to images as often as not: it teaches G nothing. A higher --d-lr or more --d-steps",
    ),
    Sign(
        "gradient",
        _gradient_jumps,
        f"G's gradient is {GRADIENT_FACTOR} times off what it was: a divergence may be on its way. A lower --lr",
    ),
)


def d_won(loss: Loss) -> Sign:
    """That D has won, for losses that have a scale."""

    def seen(lines: Lines) -> bool:
        return "G/fake" in lines[-1] and d_wins(lines[-1], loss)

    advice = "D's cost is as good as nothing and G's is high: G learns little. Use --rescue, or a lower --d-lr"
    return Sign("d-wins", seen, advice)


@dataclass
class Watch:
    """The signs, each believed or not. Feed it line after line."""

    signs: tuple[Sign, ...] = SIGNS
    believed: set[str] = field(default_factory=set)
    _lines: list[dict[str, Any]] = field(default_factory=list)
    _against: dict[str, int] = field(default_factory=dict)
    """Lines, one after another, that spoke against what is believed."""
    _count: int = 0

    def see(self, line: dict[str, Any]) -> list[str]:
        """Take in a line of stats.jsonl; the advice of signs that have just come (or come back)."""
        self._lines = [*self._lines, line][-WINDOW:]
        self._count += 1
        come = []
        for sign in self.signs:
            seen = sign.seen(self._lines) and not (sign.name == "variety" and self._count <= LEARNING)
            against = self._against.get(sign.name, 0) + 1 if seen != (sign.name in self.believed) else 0
            if against == PATIENCE:
                self.believed ^= {sign.name}
                against = 0
                if seen:
                    come.append(f"{sign.name}: {sign.advice}")
            self._against[sign.name] = against
        return come


class Health(Silent):
    """Looks at G and D at every tick, for the observers after it to write down, and warns."""

    def __init__(self, reals: Sample, held_out: Sample | None, signs: tuple[Sign, ...], stats: Path) -> None:
        self._reals, self._held_out, self._signs, self._stats = reals, held_out, signs, stats

    def on_start(self, state: TrainingState, stage: Stage) -> None:
        self._watch = Watch(self._signs)
        for line in read_stats(self._stats):
            if line["cur_nimg"] <= state.cur_nimg:
                self._watch.see(line)

    def on_tick(self, tick: Tick, state: TrainingState) -> None:
        tick.metrics.update(look(state, tick.stage, self._reals, self._held_out, tick.images))
        tick.notices.extend(f"warning: {text}" for text in self._watch.see(record(tick)))
