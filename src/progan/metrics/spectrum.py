"""Distance between radial power spectra: are fine structures there in the strength the reals have them?"""

import torch
from torch import Tensor

from progan.errors import ConfigError
from progan.metrics.base import PARTS, Setting, Value, jackknife

_CHUNK_BYTES = 2**24
_SILENCE = 1e-3
"""Power per pixel far below that of rounding (1/12): images of one colour have a number too."""


class Spectrum:
    """`spectrum`: root mean square, over the radii 1 … R/2, of the ratio of the mean powers of fakes and reals in dB.

    0 if they are the same; 3 if fakes have half or twice the power at every scale. The interval is a jackknife over
    eight parts of the images. Kept are sums only.
    """

    def __init__(self, setting: Setting) -> None:
        self._sums: dict[bool, Tensor] = {}
        self._count = {True: 0, False: 0}

    def update(self, pixels: Tensor, real: bool) -> None:
        for some in torch.split(pixels, max(1, _CHUNK_BYTES // (8 * pixels.shape[1:].numel()))):
            power = radial_power(some.double())
            if real not in self._sums:
                self._sums[real] = power.new_zeros(PARTS, power.shape[1])
            # Image i of all belongs to part i % 8, whatever the batches.
            parts = torch.arange(self._count[real], self._count[real] + len(some)) % PARTS
            self._sums[real].index_add_(0, parts, power)
            self._count[real] += len(some)

    def result(self) -> dict[str, Value]:
        if min(self._count.values()) < PARTS:
            raise ConfigError(f"spectrum needs at least {PARTS} images of each kind")
        without = torch.tensor([self._distance(part) for part in range(PARTS)])
        return {"spectrum": jackknife(self._distance(None), without)}

    def _distance(self, without: int | None) -> float:
        """The distance of all images, or of all but one part."""
        means = []
        for real in (True, False):
            total, count = self._sums[real].sum(0), self._count[real]
            if without is not None:
                total, count = total - self._sums[real][without], count - len(range(without, count, PARTS))
            means.append(total / count)
        return distance(*means)


def distance(reals: Tensor, fakes: Tensor) -> float:
    """Root mean square ratio in dB of mean powers float64 [R/2]."""
    decibels = 10 * ((fakes + _SILENCE) / (reals + _SILENCE)).log10()
    return float(decibels.square().mean().sqrt())


def radial_power(pixels: Tensor) -> Tensor:
    """Pixels float64 [N, C, R, R] -> mean power per pixel at the radii 1 … R/2, mean of the colours: float64 [N, R/2].

    It lies on the CPU. The mean is taken off and a Hann window put on, as the borders of a picture do not meet. White
    noise of variance v has power v at every radius (at 1 a little less). Frequencies count for the nearest whole
    radius; the corners beyond R/2 are left out.
    """
    size = pixels.shape[2]
    window = torch.hann_window(size, periodic=True, dtype=pixels.dtype, device=pixels.device)
    window = window[:, None] * window
    # Power of each frequency, whatever the size of the picture and the window.
    centred = (pixels - pixels.mean((2, 3), keepdim=True)) * window
    power = (torch.fft.fft2(centred).abs().square().mean(1) / window.square().sum()).cpu()  # GPUs add in any order
    # Mean over the frequencies of each radius.
    frequency = torch.fft.fftfreq(size, 1 / size, dtype=pixels.dtype)
    radius = torch.hypot(frequency[:, None], frequency).round().long().flatten()
    sums = power.new_zeros(len(power), int(radius.max()) + 1).index_add_(1, radius, power.flatten(1))
    mean: Tensor = sums / radius.bincount()
    return mean[:, 1 : size // 2 + 1]
