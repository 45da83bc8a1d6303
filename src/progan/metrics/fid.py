"""Fréchet inception distance (Heusel et al. 2017): between Gaussians fitted to features of reals and fakes."""

from collections.abc import Callable

import torch
from torch import Tensor

from progan.errors import ConfigError
from progan.metrics.base import Value
from progan.metrics.inception import FEATURES
from progan.metrics.intervals import jackknife, parts_of
from progan.metrics.setting import Setting

PARTS = 8


class Moments:
    """Count, sum and sum of products of features in eight parts, whatever the batches: 268 MB for 2,048 features."""

    def __init__(self) -> None:
        self.count = torch.zeros(PARTS, dtype=torch.float64)
        self._sums: tuple[Tensor, Tensor] | None = None

    def add(self, features: Tensor) -> None:
        """Features float [n, F]."""
        parts = parts_of(int(self.count.sum()), len(features), PARTS).to(features.device)
        size = features.shape[1]
        if self._sums is None:
            empty = features.new_zeros(PARTS, size, size, dtype=torch.float64)
            self._sums = (empty[:, 0].clone(), empty)
        for part in range(PARTS):
            some = features[parts == part].double()
            self.count[part] += len(some)
            self._sums[0][part] += some.sum(0)
            self._sums[1][part].addmm_(some.mT, some)

    def gaussian(self, without: int | None = None) -> tuple[Tensor, Tensor]:
        """Mean [F] and unbiased covariance [F, F] of all, or of all but one part."""
        assert self._sums is not None
        keep = [part for part in range(PARTS) if part != without]
        n = float(self.count[keep].sum())
        mean = self._sums[0][keep].sum(0) / n
        products = self._sums[1].sum(0) if without is None else self._sums[1].sum(0) - self._sums[1][without]
        return mean, (products - n * torch.outer(mean, mean)) / (n - 1)


class FrechetDistance:
    """`fid`: 0 if means and covariances are the same. It falls with the number of images: compare equal numbers.

    The interval is a jackknife over eight parts of the images; it does not know of that fall, which the floor shows.
    `look`: pixels uint8 [N, C, R, R] -> features float [N, F].
    """

    def __init__(self, look: Callable[[Tensor], Tensor]) -> None:
        self._look = look
        self._moments = {True: Moments(), False: Moments()}

    def update(self, pixels: Tensor, real: bool) -> None:
        """See Metric."""
        self._moments[real].add(self._look(pixels))

    def result(self) -> dict[str, Value]:
        """See Metric."""
        if min(int(moments.count.sum()) for moments in self._moments.values()) < 2 * PARTS:
            raise ConfigError(f"fid needs at least {2 * PARTS} images of each kind")
        reals, fakes = self._moments[True], self._moments[False]
        without = [frechet(*reals.gaussian(part), *fakes.gaussian(part)) for part in range(PARTS)]
        return {"fid": jackknife(frechet(*reals.gaussian(), *fakes.gaussian()), torch.tensor(without))}


def frechet(mean_a: Tensor, covariance_a: Tensor, mean_b: Tensor, covariance_b: Tensor) -> float:
    """|a - b|² + tr(A + B - 2 (A B)^½) of means [F] and covariances [F, F], float64 (Dowson and Landau 1982).

    The roots of the eigenvalues of A B are those of A^½ B A^½, which is symmetric: singular covariances are no matter.
    """
    values, vectors = torch.linalg.eigh(covariance_a)
    root = (vectors * values.clamp_min(0).sqrt()) @ vectors.mT
    product = root @ covariance_b @ root
    overlap = torch.linalg.eigvalsh((product + product.mT) / 2).clamp_min(0).sqrt().sum()
    return float((mean_a - mean_b).square().sum() + covariance_a.trace() + covariance_b.trace() - 2 * overlap)


def make(setting: Setting) -> FrechetDistance:
    """See METRICS."""
    network = setting.inception("fid")
    return FrechetDistance(lambda pixels: network(pixels)[:, :FEATURES])
