"""Numbers gone bad for good: what they are known by, and the way back to the last good state.

A single gradient that is not finite costs one update (`optimizer.Adam.update`). What is handled here does not heal.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping

from torch import nn

from progan.errors import DivergenceError
from progan.files import PendingWrites
from progan.training.state import StateFolder, TrainingState

MOST_LEFT_OUT = 100
"""Updates of one network, left out one after another."""
SANE = 1e4
"""Magnitude that the mean of a loss's term over a tick must not pass; those measured in healthy runs stay below 1e3."""
WILD_TICKS = 3
"""Ticks, one after another, with such a mean: a single one can be a spike that Adam's bounded updates survive."""
GOOD_EVERY = 4
"""Ticks between two states that are kept for going back."""
LR_STEP = 0.5
"""What the learning rates are multiplied by at each return."""
MOST_REWINDS = 5
"""Returns of a whole run; with the sixth divergence it stops."""


class Diverged(Exception):
    """Ends a stretch of training; says by what the divergence was known."""


def left_out(state: TrainingState) -> str | None:
    """The sign that can be seen between ticks: no update gets through."""
    for network, count in state.adjustments.left_out.items():
        if count >= MOST_LEFT_OUT:
            return f"the last {count} updates of {network} had gradients that are not finite"
    return None


def review(state: TrainingState, losses: Mapping[str, float]) -> str | None:
    """Look at the mean losses of a tick, count it, and name the sign of divergence, if there is one."""
    noted = state.adjustments
    noted.ticks += 1
    wild = [name for name, value in losses.items() if abs(value) > SANE]  # NaN is not: one bad step makes it
    noted.wild_ticks = noted.wild_ticks + 1 if wild else 0
    if noted.wild_ticks >= WILD_TICKS:
        return f"{wild[0]} is {losses[wild[0]]:.1e}, and losses were as far off in the two ticks before"
    if not finite(state):
        return "there are weights that are not finite"
    return left_out(state)


def finite(state: TrainingState) -> bool:
    """Whether every weight and buffer is a number."""
    tensors = [
        tensor.detach()
        for network in (state.G, state.D, state.G_ema)
        for tensor in (*network.parameters(), *network.buffers())
        if tensor.is_floating_point()
    ]
    return math.isfinite(float(nn.utils.get_total_norm(tensors, norm_type=math.inf)))


class GoodStates:
    """`RUN/good`: states to go back to. Where they lie follows from the ticks, never from the clock.

    One that cannot be written is told and left out: a run then has to go back further.
    """

    def __init__(self, states: StateFolder, warn: Callable[[str], None]) -> None:
        self._states = states
        self._good = StateFolder(states.folder.with_name("good"))
        self._outputs = PendingWrites(warn)

    def keep(self, state: TrainingState) -> None:
        """Write the state if its turn has come and nothing is suspicious."""
        noted = state.adjustments
        if noted.ticks % GOOD_EVERY == 0 and not noted.wild_ticks and not any(noted.left_out.values()):
            with self._outputs.attempt("a state to go back to"):
                self._good.write(state)

    def go_back(self, state: TrainingState, sign: str) -> None:
        """Make the state the last good one, with lower learning rates. Raises DivergenceError after the last try.

        Coming back to a state a second time means that its numbers were already on the way: then the one before is
        taken. The later states on the disk are dropped only when this one is there, so that a run that is killed in
        between diverges once more and goes back to the same numbers.
        """
        now, elapsed = state.adjustments, state.elapsed
        if len(now.rewinds) == MOST_REWINDS:
            raise DivergenceError(
                f"diverged at {state.cur_nimg / 1000:g} kimg ({sign}), after {MOST_REWINDS} returns to good states and "
                f"even with learning rates x {now.lr_factor:g}. Begin again with a much lower --lr"
            )
        latest = now.rewinds[-1] if now.rewinds else None
        self._good.restore(state, before=state.cur_nimg + 1)
        if state.cur_nimg == latest and self._good.positions()[0] < latest:
            self._good.restore(state, before=latest)
        state.adjustments = dataclasses.replace(
            state.adjustments,
            lr_factor=now.lr_factor * LR_STEP,
            dropout=now.dropout,
            rewinds=(*now.rewinds, state.cur_nimg),
        )
        state.elapsed = elapsed
        with self._outputs.attempt("the state it went back to"):
            self._states.write(state)
            self._states.drop_after(state.cur_nimg)
            self._good.drop_after(state.cur_nimg)


def stop(state: TrainingState, sign: str) -> None:
    """What `--on-divergence stop` does."""
    raise DivergenceError(
        f"diverged at {state.cur_nimg / 1000:g} kimg: {sign}. Begin again with a lower --lr, or with "
        "--on-divergence rewind"
    )
