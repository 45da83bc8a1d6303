"""Improved precision and recall (Kynkäänniemi et al. 2019): are fakes like reals, and is every kind of real there?"""

import torch
from torch import Tensor

from progan.errors import ConfigError
from progan.metrics.base import Value
from progan.metrics.intervals import share_of
from progan.metrics.nearest import Collected, blocks, radii
from progan.metrics.setting import Setting

NEIGHBOURS = 3
"""Each image stands for a ball that reaches to its third nearest neighbour (section 3)."""


class PrecisionRecall:
    """`precision`: share of the fakes that lie in the ball of a real; `recall`: of the reals in the ball of a fake.

    Balls are in the space of `features`, in the reals' units. The intervals are Wilson's over the images whose share
    it is, the balls being given.
    """

    def __init__(self, setting: Setting) -> None:
        self._features, self._points = setting.features, Collected()

    def update(self, pixels: Tensor, real: bool) -> None:
        """See Metric."""
        self._points.add(self._features(pixels), real)

    def result(self) -> dict[str, Value]:
        """See Metric."""
        if min(self._points.count(True), self._points.count(False)) <= NEIGHBOURS:
            raise ConfigError(f"precision-recall needs more than {NEIGHBOURS} images of each kind")
        precision, recall = inside(*self._points.standardized())
        return {"precision": share_of(precision), "recall": share_of(recall)}


def inside(reals: Tensor, fakes: Tensor, k: int = NEIGHBOURS) -> tuple[Tensor, Tensor]:
    """Features float [N, F] and [M, F] -> which fakes lie in a real's ball, bool [M]; which reals in a fake's, [N]."""
    of_reals, of_fakes = radii(reals, k), radii(fakes, k)
    precision, recall = torch.zeros_like(of_fakes, dtype=torch.bool), torch.zeros_like(of_reals, dtype=torch.bool)
    for rows, squares in blocks(reals, fakes):
        precision |= (squares <= of_reals[rows, None]).any(0)
        recall[rows] = (squares <= of_fakes).any(1)
    return precision, recall


make = PrecisionRecall
