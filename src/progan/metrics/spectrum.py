"""Distance between radial power spectra: are fine structures there in the strength the reals have them?"""

import torch
from torch import Tensor

from progan.errors import ConfigError
from progan.metrics.base import Value
from progan.metrics.intervals import jackknife, parts_of
from progan.metrics.setting import Setting

PARTS = 8
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
        """See Metric."""
        for some in torch.split(pixels, max(1, _CHUNK_BYTES // (8 * pixels.shape[1:].numel()))):
            power = radial_power(some.double())
            if real not in self._sums:
                self._sums[real] = power.new_zeros(PARTS, power.shape[1])
            self._sums[real].index_add_(0, parts_of(self._count[real], len(some), PARTS), power)
            self._count[real] += len(some)

    def result(self) -> dict[str, Value]:
        """See Metric."""
        if min(self._count.values()) < PARTS:
            raise ConfigError(f"spectrum needs at least {PARTS} images of each kind")
        fakes, reals = self._sums[False], self._sums[True]
        without = [distance(reals.sum(0) - reals[i], fakes.sum(0) - fakes[i], *self._rest(i)) for i in range(PARTS)]
        whole = distance(reals.sum(0), fakes.sum(0), self._count[True], self._count[False])
        return {"spectrum": jackknife(whole, torch.tensor(without))}

    def _rest(self, part: int) -> tuple[int, int]:
        """Reals and fakes that are not of this part."""
        reals, fakes = (self._count[real] - len(range(part, self._count[real], PARTS)) for real in (True, False))
        return reals, fakes


def distance(reals: Tensor, fakes: Tensor, real_count: int, fake_count: int) -> float:
    """Of sums of powers float64 [R/2] over so many images."""
    decibels = 10 * ((fakes / fake_count + _SILENCE) / (reals / real_count + _SILENCE)).log10()
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
    centred = (pixels - pixels.mean((2, 3), keepdim=True)) * window
    power = (torch.fft.fft2(centred).abs().square().mean(1) / window.square().sum()).cpu()  # GPUs add in any order
    frequency = torch.fft.fftfreq(size, 1 / size, dtype=pixels.dtype)
    radius = torch.hypot(frequency[:, None], frequency).round().long().flatten()
    sums = power.new_zeros(len(power), int(radius.max()) + 1).index_add_(1, radius, power.flatten(1))
    mean: Tensor = sums / radius.bincount()
    return mean[:, 1 : size // 2 + 1]


make = Spectrum
