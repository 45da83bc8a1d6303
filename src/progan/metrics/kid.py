"""Kernel inception distance (Bińkowski et al. 2018): an unbiased distance between features of reals and fakes."""

from collections.abc import Callable

import torch
from torch import Tensor

from progan.errors import ConfigError
from progan.metrics.base import Value
from progan.metrics.inception import FEATURES
from progan.metrics.intervals import spread_of
from progan.metrics.setting import Setting

PARTS = 8


class KernelDistance:
    """`kid`: squared maximum mean discrepancy with the kernel (x·y / F + 1)³; 0 in the mean for one distribution.

    The mean of the unbiased estimates of eight disjoint parts of the images; their spread gives the interval.
    `look`: pixels uint8 [N, C, R, R] -> features float [N, F].
    """

    def __init__(self, look: Callable[[Tensor], Tensor]) -> None:
        self._look = look
        self._kept: dict[bool, list[Tensor]] = {True: [], False: []}

    def update(self, pixels: Tensor, real: bool) -> None:
        """See Metric."""
        self._kept[real].append(self._look(pixels).clone())

    def result(self) -> dict[str, Value]:
        """See Metric."""
        if min(sum(map(len, parts)) for parts in self._kept.values()) < 2 * PARTS:
            raise ConfigError(f"kid needs at least {2 * PARTS} images of each kind")
        reals, fakes = (torch.cat(self._kept[real]) for real in (True, False))
        parts = torch.tensor([discrepancy(reals[i::PARTS], fakes[i::PARTS]) for i in range(PARTS)])
        return {"kid": spread_of(float(parts.mean()), parts)}


def discrepancy(a: Tensor, b: Tensor) -> float:
    """Unbiased squared MMD of features float [N, F] and [M, F] (Gretton et al. 2012, equation 3)."""
    a, b = a.double(), b.double()
    within = [(kernel(x, x).sum() - kernel(x, x).trace()) / (len(x) * (len(x) - 1)) for x in (a, b)]
    return float(within[0] + within[1] - 2 * kernel(a, b).mean())


def kernel(a: Tensor, b: Tensor) -> Tensor:
    """The cubic polynomial kernel of features [N, F] and [M, F]: [N, M]."""
    return (a @ b.mT / a.shape[1] + 1) ** 3


def make(setting: Setting) -> KernelDistance:
    """See METRICS."""
    network = setting.inception("kid")
    return KernelDistance(lambda pixels: network(pixels)[:, :FEATURES])
