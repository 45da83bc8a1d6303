"""Are the modes of the data there in the right proportions? Bins of the reals, and how many images fall into them.

Richardson and Weiss 2018 ("On GANs and GMMs"), section 3.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from progan.images import downscale
from progan.metrics.base import NORMAL_95, Collecting, Setting, Value, around, fraction_of, kl, spread
from progan.randomness import mix

BINS = 100
PER_BIN = 20
"""Images that a bin is made of in the mean, at least: of fewer images there are fewer bins."""
LARGEST = 32
"""Resolution at which images are compared, pixel by pixel."""
_ROUNDS = 30

Counts = npt.NDArray[np.integer[Any]]


class Modes(Collecting):
    """`ndb` and `jsd` over the bins of k-means in pixels: every second real makes the bins, the others are counted.

    `ndb`: fraction of the bins that fakes and reals fill differently at the 5 % level (two-proportion z test), so about
    0.05 for a perfect generator; interval: Wilson's over bins. `jsd`: Jensen-Shannon divergence of the two histograms
    in nats, at most ln 2; interval: normal, from 200 bootstraps over images.
    """

    name = "modes"

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting, thumbnails)

    def result(self) -> dict[str, Value]:
        reals, fakes = (self.rows(real, 4 * PER_BIN).float() for real in (True, False))
        bins, seed = min(BINS, len(reals) // 2 // PER_BIN), self.setting.seed
        # Bins fit the images they were made of better than others, so those are not counted.
        centres = k_means(reals[0::2], bins, seed)
        counts = [np.bincount(assign(x, centres).cpu().numpy(), minlength=bins) for x in (reals[1::2], fakes)]
        error = spread(divergence, counts, mix(seed, bins))
        return {"ndb": fraction_of(different(*counts)), "jsd": around(divergence(*counts), error)}


def thumbnails(pixels: Tensor) -> Tensor:
    """Pixels uint8 [N, C, R, R] -> the pixels uint8 [N, F] of the images at up to 32x32."""
    return downscale(pixels.float(), max(1, pixels.shape[2] // LARGEST)).round().to(torch.uint8).flatten(1)


def divergence(a: Counts, b: Counts) -> float:
    """Jensen-Shannon divergence of two histograms [K] in nats, 0 … ln 2."""
    middle = (a / a.sum() + b / b.sum()) / 2
    return (kl(a, middle) + kl(b, middle)) / 2


def different(a: Counts, b: Counts) -> Tensor:
    """True for the bins of two histograms [K] whose proportions differ at the 5 % level: bool [K]."""
    difference, whole = a / a.sum() - b / b.sum(), (a + b) / (a.sum() + b.sum())
    error = np.sqrt(whole * (1 - whole) * (1 / a.sum() + 1 / b.sum()))  # of the difference, were they the same
    return torch.from_numpy(np.abs(difference) > NORMAL_95 * error)


def k_means(points: Tensor, k: int, seed: int) -> Tensor:
    """Centres float32 [k, F] of points [N, F]: k-means++ (Arthur and Vassilvitskii 2007), then up to 30 rounds."""
    generator = torch.Generator().manual_seed(mix(seed, k))
    centres = points[torch.randint(len(points), (1,), generator=generator)]
    squares = (points - centres).square().sum(1)
    # A point becomes a centre with probability proportional to its squared distance from the nearest one so far.
    while len(centres) < k:
        weights = squares.double().cpu() if float(squares.sum()) > 0 else torch.ones(len(points)).double()
        next_one = points[torch.multinomial(weights, 1, generator=generator)]
        centres = torch.cat([centres, next_one])
        squares = torch.minimum(squares, (points - next_one).square().sum(1))
    # Lloyd's rounds, until no point changes its bin. A bin that lost all its points keeps its centre.
    before = None
    for _ in range(_ROUNDS):
        bins = assign(points, centres)
        if before is not None and torch.equal(bins, before):
            break
        before = bins
        counts = bins.bincount(minlength=k)[:, None]
        means = torch.zeros_like(centres).index_add_(0, bins, points) / counts.clamp_min(1)
        centres = torch.where(counts > 0, means, centres)
    return centres


def assign(points: Tensor, centres: Tensor) -> Tensor:
    """Number of the nearest centre of each point: int64 [N]."""
    return torch.addmm(centres.square().sum(1), points, centres.mT, alpha=-2).argmin(1)
