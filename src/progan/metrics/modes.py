"""Are the modes of the data there in the right shares? Bins of the reals, and who falls into them.

Richardson and Weiss 2018 ("On GANs and GMMs"), section 3.
"""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from progan.errors import ConfigError
from progan.images import downscale
from progan.metrics.base import Value
from progan.metrics.histograms import divergence, spread
from progan.metrics.intervals import NORMAL_95, around, share_of
from progan.metrics.setting import Setting
from progan.randomness import mix

BINS = 100
PER_BIN = 20
"""Images that a bin is made of in the mean, at least: of fewer images there are fewer bins."""
LARGEST = 32
"""Resolution at which images are compared, pixel by pixel."""
_ROUNDS = 30


class Modes:
    """`ndb` and `jsd` over the bins of k-means in pixels: every second real makes the bins, the others are counted.

    `ndb`: share of the bins in which the shares of fakes and reals differ at the 5 % level (two-proportion z test), so
    about 0.05 for a perfect generator; interval: Wilson's over bins. `jsd`: Jensen-Shannon divergence of the two
    histograms in nats, at most ln 2; interval: normal, from 200 bootstraps over images.
    """

    def __init__(self, setting: Setting) -> None:
        self._seed = setting.seed
        self._parts: dict[bool, list[Tensor]] = {True: [], False: []}

    def update(self, pixels: Tensor, real: bool) -> None:
        """See Metric."""
        small = downscale(pixels.float(), max(1, pixels.shape[2] // LARGEST)).round().to(torch.uint8)
        self._parts[real].append(small.flatten(1))

    def result(self) -> dict[str, Value]:
        """See Metric."""
        if any(sum(map(len, parts)) < 4 * PER_BIN for parts in self._parts.values()):
            raise ConfigError(f"modes needs at least {4 * PER_BIN} images of each kind")
        reals, fakes = (torch.cat(self._parts[real]).float() for real in (True, False))
        bins = min(BINS, len(reals) // 2 // PER_BIN)
        centres = k_means(reals[0::2], bins, self._seed)
        counts = [np.bincount(assign(x, centres).cpu().numpy(), minlength=bins) for x in (reals[1::2], fakes)]
        of_reals, of_fakes = counts
        value = divergence(of_reals, of_fakes)
        error = spread(divergence, [of_reals, of_fakes], mix(self._seed, bins))
        return {"ndb": share_of(different(of_reals, of_fakes)), "jsd": around(value, error)}


def different(a: npt.NDArray[np.int64], b: npt.NDArray[np.int64]) -> Tensor:
    """Which bins of two histograms int64 [K] differ in their shares at the 5 % level: bool [K]."""
    shares, whole = a / a.sum() - b / b.sum(), (a + b) / (a.sum() + b.sum())
    error = np.sqrt(whole * (1 - whole) * (1 / a.sum() + 1 / b.sum()))
    return torch.from_numpy(np.abs(shares) > NORMAL_95 * error)


def k_means(points: Tensor, k: int, seed: int) -> Tensor:
    """Centres float32 [k, F] of points [N, F]: k-means++ (Arthur and Vassilvitskii 2007), then up to 30 rounds."""
    generator = torch.Generator().manual_seed(mix(seed, k))
    centres = points[torch.randint(len(points), (1,), generator=generator)]
    squares = (points - centres).square().sum(1)
    while len(centres) < k:
        weights = squares.double().cpu() if float(squares.sum()) > 0 else torch.ones(len(points)).double()
        next_one = points[torch.multinomial(weights, 1, generator=generator)]
        centres = torch.cat([centres, next_one])
        squares = torch.minimum(squares, (points - next_one).square().sum(1))
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
    """The nearest centre of each point: int64 [N]."""
    return torch.addmm(centres.square().sum(1), points, centres.mT, alpha=-2).argmin(1)


make = Modes
