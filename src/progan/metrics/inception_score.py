"""Inception score (Salimans et al. 2016): does a classifier see something definite, and something else each time?"""

from collections.abc import Callable

import torch
from torch import Tensor

from progan.errors import ConfigError
from progan.metrics.base import Value
from progan.metrics.inception import FEATURES
from progan.metrics.intervals import spread_of
from progan.metrics.setting import Setting

SPLITS = 10


class InceptionScore:
    """`inception_score`: exp of the mean divergence of an image's class probabilities from their mean; 1 … classes.

    The mean over ten splits of the fakes, as published; their spread gives the interval. Reals are not looked at, and
    it says little of images that are none of ImageNet's classes.
    `look`: pixels uint8 [N, C, R, R] -> logits float [N, classes].
    """

    def __init__(self, look: Callable[[Tensor], Tensor]) -> None:
        self._look = look
        self._logits: list[Tensor] = []

    def update(self, pixels: Tensor, real: bool) -> None:
        """See Metric."""
        if not real:
            self._logits.append(self._look(pixels).clone())

    def result(self) -> dict[str, Value]:
        """See Metric."""
        if sum(map(len, self._logits)) < SPLITS:
            raise ConfigError(f"inception-score needs at least {SPLITS} images")
        logits = torch.cat(self._logits)
        splits = torch.tensor([score(part) for part in torch.tensor_split(logits, SPLITS)])
        return {"inception_score": spread_of(float(splits.mean()), splits)}


def score(logits: Tensor) -> float:
    """Of one split, float [N, classes]."""
    log_shares = logits.double().log_softmax(1)
    shares = log_shares.exp()
    divergence = (shares * (log_shares - shares.mean(0).log())).nan_to_num(0).sum(1)
    return float(divergence.mean().exp())


def make(setting: Setting) -> InceptionScore:
    """See METRICS."""
    network = setting.inception("inception-score")
    return InceptionScore(lambda pixels: network(pixels)[:, FEATURES:])
