"""What images are compared by where no trained network is at hand: convolutions with fixed random weights."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from progan.images import to_images
from progan.randomness import latents, mix

_FIRST, _MOST, _LAST = 32, 128, 32  # feature maps
_LOWEST = 4  # resolution the images are brought to
_CHUNK = 64  # images at a time
_ENERGY = 1e-3  # added to mean squares of responses to images in -1…1 before the logarithm
_LEAST_DEVIATION = 0.1  # of the mean deviation: a feature that hardly varies does not count for more than ten


class RandomConvolutions:
    """Pixels uint8 [N, C, R, R] -> features float32 [N, F], R a power of two from 8.

    3x3 convolutions of stride 2 and LeakyReLU 0.2 down to 4x4, with 32, 64, 128, 128 … maps and normal weights of
    variance 2/(9·C), the latents of fixed seeds. Features are 32 random mixtures of the last maps at each of the 16
    places, which say what is where, and the logarithm of the mean square of every map of every layer, which say how
    fine it is.
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self._device = device
        self._weights: dict[tuple[int, int, int, int], Tensor] = {}

    def __call__(self, pixels: Tensor) -> Tensor:
        """See the class."""
        return torch.cat([self._features(part) for part in torch.split(pixels, _CHUNK)])

    @torch.no_grad()
    def _features(self, pixels: Tensor) -> Tensor:
        x = to_images(pixels.to(self._device))
        energies, layer, maps = [], 0, _FIRST
        while x.shape[2] > _LOWEST:
            x = F.leaky_relu(F.conv2d(x, self._weight(layer, maps, x.shape[1], 3), stride=2, padding=1), 0.2)
            energies.append((x.square().mean((2, 3)) + _ENERGY).log())
            layer, maps = layer + 1, min(2 * maps, _MOST)
        places = F.conv2d(x, self._weight(layer, _LAST, x.shape[1], 1))
        return torch.cat([places.flatten(1), *energies], 1)

    def _weight(self, layer: int, outputs: int, inputs: int, size: int) -> Tensor:
        key = (layer, outputs, inputs, size)
        if key not in self._weights:
            normals = torch.from_numpy(latents([mix(*key)], outputs * inputs * size * size))
            scale = (2 / (inputs * size * size)) ** 0.5
            self._weights[key] = (scale * normals).view(outputs, inputs, size, size).to(self._device)
        return self._weights[key]


class Features:
    """A network that several metrics ask about the same batch, one after another: it looks once."""

    def __init__(self, network: Callable[[Tensor], Tensor]) -> None:
        self._network = network
        self._last: tuple[Tensor | None, Tensor | None] = (None, None)

    def __call__(self, pixels: Tensor) -> Tensor:
        """Pixels uint8 [N, C, R, R] -> float32 [N, F]."""
        if self._last[0] is not pixels:
            self._last = (pixels, self._network(pixels))
        features = self._last[1]
        assert features is not None
        return features
