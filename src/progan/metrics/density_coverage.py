"""Density and coverage (Naeem et al. 2020): precision and recall that one outlier cannot carry."""

import torch
from torch import Tensor

from progan.errors import ConfigError
from progan.metrics.base import Value
from progan.metrics.intervals import mean_of, share_of
from progan.metrics.nearest import Collected, blocks, radii
from progan.metrics.setting import Setting

NEIGHBOURS = 5
"""Each real stands for a ball that reaches to its fifth nearest neighbour (section 3)."""


class DensityCoverage:
    """`density`: in how many reals' balls a fake lies, divided by 5; `coverage`: share of balls that hold a fake.

    Where both come from one distribution density is about 1 and coverage 1 - 2⁻⁵ = 0.97. Balls are in the space of
    `features`, in the reals' units. Intervals are over the fakes (density, normal) and over the reals (coverage,
    Wilson), the others being given.
    """

    def __init__(self, setting: Setting) -> None:
        self._features, self._points = setting.features, Collected()

    def update(self, pixels: Tensor, real: bool) -> None:
        """See Metric."""
        self._points.add(self._features(pixels), real)

    def result(self) -> dict[str, Value]:
        """See Metric."""
        if self._points.count(True) <= NEIGHBOURS or self._points.count(False) < 2:
            raise ConfigError(f"density-coverage needs more than {NEIGHBOURS} real images and two fakes")
        balls, covered = counts(*self._points.standardized())
        return {"density": mean_of(balls / NEIGHBOURS), "coverage": share_of(covered)}


def counts(reals: Tensor, fakes: Tensor, k: int = NEIGHBOURS) -> tuple[Tensor, Tensor]:
    """Features float [N, F] and [M, F] -> balls each fake lies in, float64 [M]; which hold a fake, bool [N]."""
    reach = radii(reals, k)
    balls, covered = reach.new_zeros(len(fakes)), torch.zeros_like(reach, dtype=torch.bool)
    for rows, squares in blocks(reals, fakes):
        hits = squares <= reach[rows, None]
        balls += hits.sum(0)
        covered[rows] = hits.any(1)
    return balls, covered


make = DensityCoverage
