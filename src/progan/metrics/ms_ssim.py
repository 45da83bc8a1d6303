"""Multi-scale structural similarity between pairs of generated images: how alike they are (Wang et al. 2003).

Odena et al. 2017 proposed it to see a GAN that makes the same image again and again; Karras et al. 2018, section 6.1.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from progan.errors import ConfigError
from progan.metrics.interface import Value, mean_of

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Of the scales, finest first (Wang et al. 2003, section 3.2)."""
WINDOW, SIGMA = 11, 1.5
"""Pixels of the Gaussian window and its deviation; both shrink with images below 11 pixels."""
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
_CHUNK_BYTES = 2**25  # of one of about a dozen arrays; what fits the caches is quicker


class MultiScaleSsim:
    """`ms_ssim`: the mean similarity of fakes 0 and 1, 2 and 3 … in the order they come; 1 if all are the same.

    Low is varied, but the reals are not 0 either: the floor says what they have. The paper takes 10,000 pairs. The
    interval is over pairs. Real images are not looked at.
    """

    def __init__(self) -> None:
        self._left: Tensor | None = None
        self._scores: list[Tensor] = []

    def update(self, pixels: Tensor, real: bool) -> None:
        """See Metric."""
        if real:
            return
        if pixels.shape[2] < 2 ** (len(WEIGHTS) - 1):
            raise ConfigError(f"ms-ssim needs images of at least 16x16; these have {pixels.shape[2]}")
        if self._left is not None:
            pixels = torch.cat([self._left, pixels])
        pairs = len(pixels) // 2
        self._left = pixels[2 * pairs :].clone()
        for chunk in pixels[: 2 * pairs].split(2 * max(1, _CHUNK_BYTES // (8 * pixels[:1].numel() + 1))):
            self._scores.append(ms_ssim(chunk[0::2], chunk[1::2]).cpu())

    def result(self) -> dict[str, Value]:
        """See Metric."""
        if sum(map(len, self._scores)) < 2:
            raise ConfigError("ms-ssim needs at least two pairs of images")
        return {"ms_ssim": mean_of(torch.cat(self._scores))}


def ms_ssim(a: Tensor, b: Tensor) -> Tensor:
    """Similarity of each of a with that of b, pixels uint8 [N, C, R, R]: float64 [N] in 0…1."""
    a, b = a.double(), b.double()
    result = torch.ones((), dtype=a.dtype, device=a.device)
    for scale, weight in enumerate(WEIGHTS):
        ssim, contrast = ssim_terms(a, b)
        term = ssim if scale == len(WEIGHTS) - 1 else contrast
        result = result * term.clamp_min(0) ** weight
        a, b = F.avg_pool2d(a, 2), F.avg_pool2d(b, 2)
    return result


def ssim_terms(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Mean SSIM and mean contrast·structure of float64 [N, C, R, R], each [N] (Wang et al. 2004, section III.B)."""
    window = gaussian(min(WINDOW, a.shape[2]), a.device)
    mean_a, mean_b, square, product = (
        _filter(x, window) for x in (a, b, a * a + b * b, a * b)
    )  # the variances are only ever added
    ...
