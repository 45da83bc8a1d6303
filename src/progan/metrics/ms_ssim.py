"""Multi-scale structural similarity between pairs of generated images: how alike they are (Wang et al. 2003).

Odena et al. 2017 proposed it to see a GAN that makes the same image again and again; Karras et al. 2018, section 6.1.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from progan.errors import ConfigError
from progan.metrics.base import Setting, Value, mean_of

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Weights of the scales, finest first (Wang et al. 2003, section 3.2)."""
WINDOW, SIGMA = 11, 1.5
"""Pixels of the Gaussian window and its deviation; both shrink with images below 11 pixels."""
LOWEST = 16
"""Resolution from which there are five scales."""
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
_CHUNK_BYTES = 2**22  # of one of about a dozen arrays, which stay in a processor's cache


class MultiScaleSsim:
    """`ms_ssim`: the mean similarity of fakes 0 and 1, 2 and 3 … in the order they come; 1 if all are the same.

    Low is varied, but the reals are not 0 either: the real-vs-real baseline says what they have. The paper takes 10,000
    pairs. The interval is over pairs. Real images are not looked at.
    """

    def __init__(self, setting: Setting) -> None:
        setting.need_resolution("ms-ssim", LOWEST)
        self._left: Tensor | None = None
        self._scores: list[Tensor] = []

    def update(self, pixels: Tensor, real: bool) -> None:
        if real:
            return
        # The first image of a batch belongs to the one left over from the batch before.
        if self._left is not None:
            pixels = torch.cat([self._left, pixels])
        pairs = len(pixels) // 2
        self._left = pixels[2 * pairs :].clone()
        images = max(1, _CHUNK_BYTES // (8 * pixels.shape[1:].numel()))
        for chunk in torch.split(pixels[: 2 * pairs], 2 * images):
            self._scores.append(ms_ssim(chunk[0::2], chunk[1::2]).cpu())

    def result(self) -> dict[str, Value]:
        if sum(map(len, self._scores)) < 2:
            raise ConfigError("ms-ssim needs at least two pairs of images")
        return {"ms_ssim": mean_of(torch.cat(self._scores))}


class Excess:
    """`ms_ssim_excess`: MS-SSIM of the fakes less that of the reals; 0 is right, above 0 too little variety.

    The interval is over pairs of both kinds, which are independent: its half width is the root of the sum of squares.
    """

    def __init__(self, setting: Setting) -> None:
        setting.need_resolution("ms-ssim-excess", LOWEST)
        self._of = {True: MultiScaleSsim(setting), False: MultiScaleSsim(setting)}

    def update(self, pixels: Tensor, real: bool) -> None:
        self._of[real].update(pixels, real=False)

    def result(self) -> dict[str, Value]:
        fakes, reals = (self._of[real].result()["ms_ssim"] for real in (False, True))
        value = fakes.value - reals.value
        half = math.hypot(fakes.high - fakes.value, reals.high - reals.value)
        return {"ms_ssim_excess": Value(value, value - half, value + half)}


def ms_ssim(a: Tensor, b: Tensor) -> Tensor:
    """Similarity of each of a with that of b, pixels uint8 [N, C, R, R]: float64 [N] in 0…1."""
    a, b = a.double(), b.double()
    similarity = a.new_ones(len(a))
    for scale, weight in enumerate(WEIGHTS):
        if scale > 0:
            a, b = F.avg_pool2d(a, 2), F.avg_pool2d(b, 2)
        ssim, contrast = ssim_terms(a, b)
        term = ssim if scale == len(WEIGHTS) - 1 else contrast  # brightness counts at the coarsest scale only
        similarity = similarity * term.clamp_min(0) ** weight
    return similarity


def ssim_terms(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Mean SSIM and mean contrast·structure of float64 [N, C, R, R] in 0…255, each [N] (Wang et al. 2004, eq. 12)."""
    window = gaussian(min(WINDOW, a.shape[2]))
    mean_a, mean_b = _filter(a, window), _filter(b, window)
    product, squares = mean_a * mean_b, mean_a.square() + mean_b.square()
    covariance = _filter(a * b, window) - product
    variances = _filter(a.square() + b.square(), window) - squares
    contrast = (2 * covariance + _C2) / (variances + _C2)
    brightness = (2 * product + _C1) / (squares + _C1)
    return (brightness * contrast).mean((1, 2, 3)), contrast.mean((1, 2, 3))


def gaussian(size: int) -> Tensor:
    """A window of `size` pixels, float64 [size], sum 1, its middle between two pixels where the size is even."""
    x = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    window = torch.exp(-x.square() / (2 * (size * SIGMA / WINDOW) ** 2))
    return window / window.sum()


def _filter(x: Tensor, window: Tensor) -> Tensor:
    """[N, C, H, W] under the window in both directions, without borders: [N, C, H-size+1, W-size+1]."""
    for _ in range(2):  # rows, then columns
        width = x.shape[-1] - len(window) + 1
        total = torch.zeros_like(x[..., :width])
        for start, weight in enumerate(window.tolist()):
            total.add_(x[..., start : start + width], alpha=weight)  # PyTorch's float64 convolution is 4 times slower
        x = total.mT
    return x
