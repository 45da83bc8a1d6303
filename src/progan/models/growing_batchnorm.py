"""A DCGAN that grows: blocks of a strided convolution, batch norm and leaky ReLU, images through tanh.

All layers exist from the start, the first images have 8x8 pixels. D mirrors G.
"""

from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor, nn

from progan.config import GrowingBatchNormConfig
from progan.images import downscale, upscale
from progan.models import base
from progan.models.base import Draws
from progan.models.layers import Activation, BatchNorm2d, leaky_relu, wide
from progan.models.strided import STD, FromLatents, Pointwise, StridedConv2d, ToScores
from progan.scores import Scores


def fmaps(config: GrowingBatchNormConfig, resolution: int) -> int:
    """Feature maps at `resolution`, as in a Progressive GAN."""
    return max(1, min(2 * config.fmap_base // resolution, config.fmap_max))


def _resolutions(final: int) -> list[int]:
    return [2**k for k in range(2, final.bit_length())]  # 4 … final


class Generator(base.Generator):
    """Latents to images."""

    def __init__(self, config: GrowingBatchNormConfig, resolution: int, channels: int, label_size: int = 0) -> None:
        super().__init__()
        self.z_dim, self.label_size, self.resolution = config.z_dim, label_size, resolution
        self.latents = config.latents
        maps = {r: fmaps(config, r) for r in _resolutions(resolution)}
        self.first = FromLatents(config.z_dim, label_size, maps[4])
        self.activation = Activation(BatchNorm2d(maps[4], std=STD))
        self.blocks, self.to_rgb = nn.ModuleDict(), nn.ModuleDict()
        for below, r in pairwise(maps):
            conv = StridedConv2d(maps[below], maps[r], transposed=True)
            self.blocks[str(r)] = nn.Sequential(conv, Activation(BatchNorm2d(maps[r], std=STD)))
            self.to_rgb[str(r)] = Pointwise(maps[r], channels)

    def embed(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """First activation [N, C, 4, 4]. Latents are not normalised."""
        x: Tensor = self.activation(self.first(self.distributed(z), labels))
        return x

    def synthesize(self, x: Tensor, resolution: int | None = None, alpha: float | Tensor = 1.0) -> Tensor:
        """Images; below alpha 1 mixed with those of the block before."""
        resolution = resolution or self.resolution
        before = x
        for r in _resolutions(resolution)[1:]:
            before, x = x, self.blocks[str(r)](x)
        images = self._rgb(x, resolution)
        if resolution == 8 or (isinstance(alpha, float) and alpha == 1):
            return images
        return torch.lerp(upscale(self._rgb(before, resolution // 2)), images, alpha)

    def _rgb(self, x: Tensor, resolution: int) -> Tensor:
        rgb: Tensor = self.to_rgb[str(resolution)](x)
        return torch.tanh(rgb.to(wide(rgb.dtype)))


class Discriminator(base.Discriminator):
    """Images to scores, the mirror of G."""

    def __init__(self, config: GrowingBatchNormConfig, resolution: int, channels: int, label_size: int = 0) -> None:
        super().__init__()
        maps = {r: fmaps(config, r) for r in _resolutions(resolution)}
        self.from_rgb, self.blocks = nn.ModuleDict(), nn.ModuleDict()
        for below, r in pairwise(maps):
            self.from_rgb[str(r)] = Pointwise(channels, maps[r])
            conv = StridedConv2d(maps[r], maps[below])
            self.blocks[str(r)] = nn.Sequential(conv, Activation(BatchNorm2d(maps[below], std=STD)))
        self.last = ToScores(maps[4], label_size)

    def features(
        self, images: Tensor, alpha: float | Tensor = 1.0, noise: Draws | None = None
    ) -> Iterator[tuple[str, Tensor]]:
        """Features; below alpha 1 the newest block is mixed with the one before."""
        resolution = images.shape[2]
        x = self.blocks[str(resolution)](self._from_rgb(images, resolution))
        if resolution > 8 and not (isinstance(alpha, float) and alpha == 1):
            below = self._from_rgb(downscale(images), resolution // 2)
            x = torch.lerp(below, x, alpha if isinstance(alpha, float) else alpha.to(x.dtype))
        yield f"{resolution}x{resolution}", x
        for r in reversed(_resolutions(resolution // 2)[1:]):
            x = self.blocks[str(r)](x)
            yield f"{r}x{r}", x
        yield "last", x

    def score(self, x: Tensor) -> Scores:
        """Last features [N, C, 4, 4] -> scores."""
        scores: Scores = self.last(x)
        return scores

    def _from_rgb(self, images: Tensor, resolution: int) -> Tensor:
        return leaky_relu(self.from_rgb[str(resolution)](images))
