"""Recovery of a run: from numbers that went bad for good, and (`--rescue`) from a D that has won.

A single gradient that is not finite costs one update (`optimizer.Adam.update`). A divergence does not heal: the run
goes back to its last good state with lower learning rates. A D whose loss falls to nothing teaches G nothing: learning
rates are lowered and D's dropout is raised. Both are looked at once a tick, by the means of the tick, so that a run
that was stopped in between does the same.
"""

import dataclasses
import math
from collections.abc import Mapping

import torch
from torch import nn

from progan.errors import DivergenceError, RunError
from progan.files import PendingWrites
from progan.losses import Loss
from progan.progress import Log
from progan.training.state import GOOD, Adjustments, StateFolder, TrainingState

MOST_LEFT_OUT = 100
"""Consecutive updates of one network that are left out before the run has diverged."""
SANE = 1e4
"""Largest magnitude of a loss term's mean over a tick; those measured in healthy runs stay below 1e3."""
WILD_TICKS = 3
"""Consecutive ticks with larger means: a single one can be a spike that Adam's bounded updates survive."""
GOOD_EVERY = 4
"""Ticks between two states that are kept to go back to."""
LR_STEP = 0.5
"""Factor of the learning rates at each rewind, and at each rescue."""
MOST_REWINDS = 5
"""Rewinds of a whole run; with the sixth divergence it stops."""
D_SHARE = 0.05
"""D has won where its loss is below this fraction of what an undecided D would have …"""
G_SHARE = 3.0
"""… and G's loss is above this multiple of what it would be then."""
WON_TICKS = 3
"""Consecutive ticks in which D has won before something is changed, and again before the next change."""
LEAST_LR_FACTOR = 1 / 16
DROPOUT_STEP = 0.1
MOST_DROPOUT = 0.5


class Diverged(Exception):
    """Ends a stretch of training; its text is the sign of divergence."""


def no_update_gets_through(state: TrainingState) -> str | None:
    """Sign of divergence that can be seen between ticks; None if there is none."""
    for network, count in state.adjustments.left_out.items():
        if count >= MOST_LEFT_OUT:
            return f"the last {count} updates of {network} had gradients that are not finite"
    return None


def find_divergence(state: TrainingState, losses: Mapping[str, float]) -> str | None:
    """Sign of divergence in the mean losses of a tick, which is counted; None if there is none."""
    noted = state.adjustments
    noted.ticks += 1
    wild = [name for name, value in losses.items() if abs(value) > SANE]  # NaN is not: one bad step makes it
    noted.wild_ticks = noted.wild_ticks + 1 if wild else 0
    if noted.wild_ticks >= WILD_TICKS:
        return f"{wild[0]} is {losses[wild[0]]:.1e}, and losses were as far off in the two ticks before"
    if not finite(state):
        return "there are weights that are not finite"
    return no_update_gets_through(state)


def finite(state: TrainingState) -> bool:
    """True if every weight and buffer is a finite number."""
    tensors = [
        tensor.detach()
        for network in (state.G, state.D, state.G_ema)
        for tensor in (*network.parameters(), *network.buffers())
        if tensor.is_floating_point()
    ]
    return math.isfinite(float(nn.utils.get_total_norm(tensors, norm_type=math.inf)))


class GoodStates:
    """Folder `RUN/good`: states to go back to. When one is kept follows from the ticks, never from the clock.

    One that cannot be written is skipped: a run then has to go back further.
    """

    def __init__(self, states: StateFolder, log: Log) -> None:
        self._states = states
        self._good = StateFolder(states.folder.with_name(GOOD))
        self._pending = PendingWrites(log)

    def keep(self, state: TrainingState) -> None:
        """Write the state if its turn has come and nothing is suspicious."""
        noted = state.adjustments
        if noted.ticks % GOOD_EVERY == 0 and not noted.wild_ticks and not any(noted.left_out.values()):
            with self._pending.attempt("a state to go back to"):
                self._good.write(state)

    def go_back(self, state: TrainingState, sign: str) -> None:
        """Restore the last good state, with lower learning rates. Raises DivergenceError after the last rewind, and
        where there is no good state.

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
        try:
            self._good.restore(state, before=state.cur_nimg + 1)
        except RunError as error:  # the folder was deleted, or could never be written
            raise DivergenceError(
                f"diverged at {state.cur_nimg / 1000:g} kimg ({sign}), and there is nothing to go back to: {error}"
            ) from None
        if state.cur_nimg == latest and self._good.positions()[0] < latest:
            self._good.restore(state, before=latest)
        state.adjustments = dataclasses.replace(
            state.adjustments,
            lr_factor=now.lr_factor * LR_STEP,
            dropout=now.dropout,
            rewinds=(*now.rewinds, state.cur_nimg),
        )
        state.elapsed = elapsed
        with self._pending.attempt("the state it went back to"):
            self._states.write(state)
            self._states.drop_after(state.cur_nimg)
            self._good.drop_after(state.cur_nimg)


def relative_losses(losses: Mapping[str, float], loss: Loss) -> tuple[float, float] | None:
    """D's and G's mean losses of scores in a tick, relative to those of an undecided D; None if not known."""
    if loss.config.undecided is None:
        return None
    score = torch.tensor([loss.config.undecided])
    idle = loss.d_scores(score, score)
    d = sum(losses[f"D/{name}"] for name in idle) / float(sum(idle.values()))
    return d, losses["G/fake"] / float(loss.g_scores(score, score))


def d_wins(losses: Mapping[str, float], loss: Loss) -> bool:
    """True if D's loss is close to nothing while G's is far above that of an undecided D."""
    found = relative_losses(losses, loss)
    return found is not None and found[0] < D_SHARE and found[1] > G_SHARE


def rescue(noted: Adjustments, losses: Mapping[str, float], loss: Loss, dropout: float | None) -> list[str]:
    """Change settings where D has won; a sentence on each change. `dropout` is D's as configured, None if none."""
    noted.won_ticks = noted.won_ticks + 1 if d_wins(losses, loss) else 0
    if noted.won_ticks < WON_TICKS:
        return []
    noted.won_ticks = 0
    changed = []
    if noted.lr_factor * LR_STEP >= LEAST_LR_FACTOR:
        noted.lr_factor *= LR_STEP
        changed.append(f"learning rates now x {noted.lr_factor:g}")
    if dropout is not None and dropout + noted.dropout + DROPOUT_STEP <= MOST_DROPOUT:
        noted.dropout = round(noted.dropout + DROPOUT_STEP, 6)
        changed.append(f"D's dropout now {dropout + noted.dropout:g}")
    what = ", ".join(changed) or "there is nothing left to lower; begin again with a smaller --lr or another loss"
    return [f"rescue: D won for {WON_TICKS} ticks, {what}"]


def stopped(state: TrainingState, sign: str) -> DivergenceError:
    """Error of a run that diverged with `--on-divergence stop`."""
    return DivergenceError(
        f"diverged at {state.cur_nimg / 1000:g} kimg: {sign}. Begin again with a lower --lr, or with "
        "--on-divergence rewind"
    )
