"""`--rescue`: what is done when D wins, as it does where its cost falls to nothing and G learns no more.

Looked at once a tick, by the means of the tick: the same in a run that was stopped in between.
"""

from collections.abc import Mapping

import torch

from progan.losses import Loss
from progan.training.adjustments import Adjustments

D_SHARE = 0.05
"""Of what D pays where it takes no side: below, it has won."""
G_SHARE = 3.0
"""Of what G pays where D takes no side: above, its loss soars."""
PATIENCE = 3
"""Ticks, one after another, before something is done; and again before the next thing."""
LR_STEP = 0.5
LEAST_LR_FACTOR = 1 / 16
DROPOUT_STEP = 0.1
MOST_DROPOUT = 0.5


def shares(losses: Mapping[str, float], loss: Loss) -> tuple[float, float] | None:
    """What the scores cost D and G in a tick, in multiples of what an undecided D makes them pay; None for losses
    whose scores have no scale of their own.
    """
    if loss.undecided is None:
        return None
    score = torch.tensor([loss.undecided])
    idle = loss.d_scores(score, score)
    paid = sum(losses[f"D/{name}"] for name in idle)
    return paid / float(sum(idle.values())), losses["G/fake"] / float(loss.g_scores(score))


def d_wins(losses: Mapping[str, float], loss: Loss) -> bool:
    """Whether D's cost is as good as nothing while G's soars."""
    found = shares(losses, loss)
    return found is not None and found[0] < D_SHARE and found[1] > G_SHARE


def review(noted: Adjustments, losses: Mapping[str, float], loss: Loss, dropout: float | None) -> list[str]:
    """Look at a tick's losses; what was changed, in a sentence. `dropout` is D's as configured, None if it has none."""
    noted.won_ticks = noted.won_ticks + 1 if d_wins(losses, loss) else 0
    if noted.won_ticks < PATIENCE:
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
    return [f"rescue: D won for {PATIENCE} ticks, {what}"]
