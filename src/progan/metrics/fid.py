"""Numbers of Inception-v3's features and classes: Fréchet and kernel distance, and the Inception score."""

import zipfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from progan.errors import ConfigError
from progan.metrics.base import PARTS, Collecting, Setting, Value, jackknife, spread_of
from progan.metrics.features import FEATURES, PORTED, inception_features

SPLITS = 10
"""Number of parts of the images that the published Inception scores are means of."""


class FrechetDistance:
    """`fid` (Heusel et al. 2017): distance of Gaussians fitted to features of reals and fakes, 0 if they are the same.

    With published statistics these are the Gaussian of the reals, and real images are not looked at. It falls with the
    number of images: compare equal numbers. The interval is a jackknife over eight parts of the images; it does not
    know of that fall, which the real-vs-real baseline shows.
    """

    def __init__(self, setting: Setting) -> None:
        self._look = inception_features(setting, "fid")
        self._published = published(setting)
        self._moments = {True: Moments(), False: Moments()}

    def update(self, pixels: Tensor, real: bool) -> None:
        if not (real and self._published):
            self._moments[real].add(self._look(pixels)[:, :FEATURES])

    def result(self) -> dict[str, Value]:
        reals, fakes = self._moments[True], self._moments[False]
        looked_at = [fakes] if self._published else [reals, fakes]
        if any(int(moments.count.sum()) < 2 * PARTS for moments in looked_at):
            raise ConfigError(f"fid needs at least {2 * PARTS} images of each kind")
        # Of all images, then without each of the eight parts; published statistics have no parts.
        distances = [
            frechet(*(self._published or reals.gaussian(part)), *fakes.gaussian(part)) for part in (None, *range(PARTS))
        ]
        return {"fid": jackknife(distances[0], torch.tensor(distances[1:]))}


class Moments:
    """Count, sum and sum of products of features in eight parts, whatever the batches: 268 MB for 2,048 features."""

    def __init__(self) -> None:
        self.count = torch.zeros(PARTS, dtype=torch.float64)
        self._sums = self._products = torch.empty(0)

    def add(self, features: Tensor) -> None:
        """Features float [n, F]; image i of all belongs to part i % 8."""
        size, first = features.shape[1], int(self.count.sum())
        if first == 0:
            self._sums = features.new_zeros(PARTS, size, dtype=torch.float64)
            self._products = features.new_zeros(PARTS, size, size, dtype=torch.float64)
        for part in range(PARTS):
            some = features[(part - first) % PARTS :: PARTS].double()
            self.count[part] += len(some)
            self._sums[part] += some.sum(0)
            self._products[part].addmm_(some.mT, some)

    def gaussian(self, without: int | None = None) -> tuple[Tensor, Tensor]:
        """Mean [F] and unbiased covariance [F, F] of all, or of all but one part."""
        keep = [part for part in range(PARTS) if part != without]
        n = float(self.count[keep].sum())
        mean = self._sums[keep].sum(0) / n
        # Sums of all parts less those of one: the jackknife needs no second pass over the images.
        products = self._products.sum(0) if without is None else self._products.sum(0) - self._products[without]
        return mean, (products - n * torch.outer(mean, mean)) / (n - 1)


def frechet(mean_a: Tensor, covariance_a: Tensor, mean_b: Tensor, covariance_b: Tensor) -> float:
    """|a - b|² + tr(A + B - 2 (A B)^½) of means [F] and covariances [F, F], float64 (Dowson and Landau 1982).

    The roots of the eigenvalues of A B are those of A^½ B A^½, which is symmetric: singular covariances are no matter.
    """
    values, vectors = torch.linalg.eigh(covariance_a)
    root = (vectors * values.clamp_min(0).sqrt()) @ vectors.mT
    product = root @ covariance_b @ root
    overlap = torch.linalg.eigvalsh((product + product.mT) / 2).clamp_min(0).sqrt().sum()
    return float((mean_a - mean_b).square().sum() + covariance_a.trace() + covariance_b.trace() - 2 * overlap)


def published(setting: Setting) -> tuple[Tensor, Tensor] | None:
    """Mean [F] and covariance [F, F] of the reals' features, float64, from the setting's file; None without one.

    Raises ConfigError for a file that is none, and where the weights are not those that such files are made with.
    """
    path = setting.inception_statistics
    if path is None:
        return None
    if "statistics" not in setting.networks:
        network = setting.networks["inception"]
        if network.classes not in (0, PORTED):
            raise ConfigError(
                f"--inception-statistics {path} is of the network with {PORTED:,} classes; "
                f"--inception-weights has one with {network.classes:,}"
            )
        # Kept only once all is well: whoever asks again must get the same answer.
        setting.networks["statistics"] = _read_statistics(path)
        setting.note(f"fid: the real images are those of {path}; its baseline compares images of the data with them")
    statistics: tuple[Tensor, Tensor] = setting.networks["statistics"]
    return statistics


def _read_statistics(path: Path) -> tuple[Tensor, Tensor]:
    """The arrays mu [F] and sigma [F, F] of an .npz, float64; nothing is unpickled."""
    try:
        with np.load(path, allow_pickle=False) as file:
            mean, covariance = (torch.from_numpy(np.asarray(file[name], np.float64)) for name in ("mu", "sigma"))
    except OSError as error:
        raise ConfigError(f"--inception-statistics {path} cannot be read: {error.strerror or error}") from None
    except (ValueError, TypeError, LookupError, AttributeError, EOFError, zipfile.BadZipFile):
        raise ConfigError(
            f"--inception-statistics {path} is no .npz with arrays mu [{FEATURES}] and sigma [{FEATURES}, {FEATURES}]"
        ) from None
    if mean.shape != (FEATURES,) or covariance.shape != (FEATURES, FEATURES):
        found = f"mu {list(mean.shape)} and sigma {list(covariance.shape)}"
        raise ConfigError(f"--inception-statistics {path} has {found}; Inception-v3 has {FEATURES} features")
    if not (mean.isfinite().all() and covariance.isfinite().all()) or not torch.allclose(covariance, covariance.mT):
        raise ConfigError(
            f"--inception-statistics {path} holds no mean and covariance: sigma is not symmetric or not finite"
        )
    return mean, covariance


class KernelDistance(Collecting):
    """`kid` (Bińkowski et al. 2018): squared maximum mean discrepancy of features with the kernel (x·y / F + 1)³.

    The mean of the unbiased estimates of eight disjoint parts of the images, 0 in the mean for one distribution; their
    spread gives the interval.
    """

    name = "kid"

    def __init__(self, setting: Setting) -> None:
        network = inception_features(setting, self.name)
        super().__init__(setting, lambda pixels: network(pixels)[:, :FEATURES].clone())

    def result(self) -> dict[str, Value]:
        reals, fakes = (self.rows(real, 2 * PARTS) for real in (True, False))
        parts = torch.tensor([discrepancy(reals[i::PARTS], fakes[i::PARTS]) for i in range(PARTS)])
        return {"kid": spread_of(float(parts.mean()), parts)}


def discrepancy(a: Tensor, b: Tensor) -> float:
    """Unbiased squared MMD of features float [N, F] and [M, F] (Gretton et al. 2012, equation 3)."""
    a, b = a.double(), b.double()
    # The kernel of a point with itself is left out: with it the estimate would be biased.
    within = [(kernel(x, x).sum() - kernel(x, x).trace()) / (len(x) * (len(x) - 1)) for x in (a, b)]
    return float(within[0] + within[1] - 2 * kernel(a, b).mean())


def kernel(a: Tensor, b: Tensor) -> Tensor:
    """The cubic polynomial kernel of features [N, F] and [M, F]: [N, M]."""
    return (a @ b.mT / a.shape[1] + 1) ** 3


class InceptionScore(Collecting):
    """`inception_score` (Salimans et al. 2016): exp of the mean divergence of class probabilities from their mean.

    From 1 to the number of classes; the mean over ten splits of the fakes, as published, whose spread gives the
    interval. Reals are not looked at, and it says little of images that are none of ImageNet's classes.
    """

    name, fakes_only = "inception-score", True

    def __init__(self, setting: Setting) -> None:
        network = inception_features(setting, self.name)
        super().__init__(setting, lambda pixels: network(pixels)[:, FEATURES:].clone())

    def result(self) -> dict[str, Value]:
        splits = torch.tensor([score(part) for part in torch.tensor_split(self.rows(False, SPLITS), SPLITS)])
        return {"inception_score": spread_of(float(splits.mean()), splits)}


def score(logits: Tensor) -> float:
    """The score of one split, logits float [N, classes]."""
    log_p = logits.double().log_softmax(1)
    p = log_p.exp()
    divergence = (p * (log_p - p.mean(0).log())).nan_to_num(0).sum(1)  # a class that no image has gives 0 · ∞
    return float(divergence.mean().exp())
