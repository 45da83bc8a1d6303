"""The networks of Karras et al. 2018 (section 4, table 2), for any power of two from 4 to 1024.

All layers exist from the start; `resolution` and `alpha` say which of them a call uses.
"""

import math
from typing import cast

import torch
from torch import Tensor, nn

from progan.config import ProGANConfig
from progan.images import downscale, upscale
from progan.models import interface
from progan.models.interface import Noise
from progan.models.layers import (
    ConvDownscale2d,
    EqualizedConv2d,
    EqualizedLinear,
    PixelNorm,
    UpscaleConv2d,
    leaky_relu,
    minibatch_stddev,
    pixel_norm,
    wide,
)
from progan.scores import Scores


def fmaps(config: ProGANConfig, resolution: int) -> int:
    """Feature maps of the block at `resolution` (of G's output; of D's input)."""
    return max(1, min(2 * config.fmap_base // resolution, config.fmap_max))


def _doublings(resolution: int) -> list[int]:
    return [2**k for k in range(3, int(math.log2(resolution)) + 1)]  # 8 … resolution


class Generator(interface.Generator):
    """Latents to images."""

    def __init__(self, config: ProGANConfig, resolution: int, channels: int, label_size: int = 0) -> None:
        super().__init__()
        self.z_dim, self.label_size, self.resolution = config.z_dim, label_size, resolution
        self.normalize_latents = config.normalize_latents
        wscale = config.use_wscale
        first = fmaps(config, 4)
        # A smaller gain, "to match the original Theano implementation", as the authors' code says.
        self.dense = EqualizedLinear(config.z_dim + label_size, first * 16, math.sqrt(2) / 4, wscale)
        self.dense.bias = nn.Parameter(torch.zeros(first))  # one per map, not per unit
        self.conv = EqualizedConv2d(first, first, use_wscale=wscale)
        self.norm = PixelNorm() if config.pixel_norm in ("g", "both") else nn.Identity()
        self.blocks = nn.ModuleDict()
        self.to_rgb = nn.ModuleDict({"4": EqualizedConv2d(first, channels, 1, gain=1, use_wscale=wscale)})
        for r in _doublings(resolution):
            maps = fmaps(config, r)
            self.blocks[str(r)] = nn.ModuleList(
                [
                    UpscaleConv2d(fmaps(config, r // 2), maps, config.fused_scale, wscale),
                    EqualizedConv2d(maps, maps, use_wscale=wscale),
                ]
            )
            self.to_rgb[str(r)] = EqualizedConv2d(maps, channels, 1, gain=1, use_wscale=wscale)

    def embed(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """See interface.Generator."""
        assert (labels is not None) == (self.label_size > 0), "labels go with a generator that was built for them"
        if labels is not None:
            z = torch.cat([z, labels.to(z.dtype)], 1)
        if self.normalize_latents:
            z = pixel_norm(z)
        x = torch.nn.functional.linear(z, self.dense.scaled(z.dtype)).view(len(z), -1, 4, 4)
        x = x + self.dense.bias.to(z.dtype).view(1, -1, 1, 1)
        normed: Tensor = self.norm(leaky_relu(x))
        return normed

    def synthesize(self, x: Tensor, resolution: int | None = None, alpha: float | Tensor = 1.0) -> Tensor:
        """See interface.Generator."""
        resolution = resolution or self.resolution
        x = self.norm(leaky_relu(self.conv(x)))
        before = x
        for r in _doublings(resolution):
            before = x
            for conv in cast(nn.ModuleList, self.blocks[str(r)]):
                x = self.norm(leaky_relu(conv(x)))
        images = self._rgb(x, resolution)
        if resolution == 4 or (isinstance(alpha, float) and alpha == 1):
            return images
        return torch.lerp(upscale(self._rgb(before, resolution // 2)), images, alpha)

    def _rgb(self, x: Tensor, resolution: int) -> Tensor:
        rgb: Tensor = self.to_rgb[str(resolution)](x)
        return rgb.to(wide(rgb.dtype))


class Discriminator(interface.Discriminator):
    """Images to scores, the mirror of G."""

    def __init__(self, config: ProGANConfig, resolution: int, channels: int, label_size: int = 0) -> None:
        super().__init__()
        self.mbstd_group = config.mbstd_group
        wscale = config.use_wscale
        self.norm = PixelNorm() if config.pixel_norm == "both" else nn.Identity()
        self.blocks = nn.ModuleDict()
        self.from_rgb = nn.ModuleDict()
        for r in [*reversed(_doublings(resolution)), 4]:
            maps = fmaps(config, r)
            self.from_rgb[str(r)] = EqualizedConv2d(channels, maps, 1, use_wscale=wscale)
            if r > 4:
                down = ConvDownscale2d(maps, fmaps(config, r // 2), config.fused_scale, wscale)
                self.blocks[str(r)] = nn.ModuleList([EqualizedConv2d(maps, maps, use_wscale=wscale), down])
        last = fmaps(config, 4)
        self.conv = EqualizedConv2d(last + (self.mbstd_group != 1), last, use_wscale=wscale)
        self.dense0 = EqualizedLinear(last * 16, fmaps(config, 2), use_wscale=wscale)
        self.dense1 = EqualizedLinear(fmaps(config, 2), 1 + label_size, gain=1, use_wscale=wscale)

    def forward(self, images: Tensor, alpha: float | Tensor = 1.0, noise: Noise | None = None) -> Scores:
        """See interface.Discriminator."""
        resolution = images.shape[2]
        x = self._features(images, resolution)
        if resolution > 4:
            x = self._down(x, resolution)
            if not (isinstance(alpha, float) and alpha == 1):
                below = self._features(downscale(images), resolution // 2)
                x = torch.lerp(below, x, alpha if isinstance(alpha, float) else alpha.to(x.dtype))
            for r in reversed(_doublings(resolution // 2)):
                x = self._down(x, r)
        if self.mbstd_group != 1:
            x = minibatch_stddev(x, self.mbstd_group)
        x = self.norm(leaky_relu(self.conv(x)))
        x = leaky_relu(self.dense0(x.flatten(1)))
        out = self.dense1(x.to(wide(x.dtype)))  # the score itself is never rounded to 16 bits
        return Scores(out[:, 0], out[:, 1:] if out.shape[1] > 1 else None)

    def _features(self, images: Tensor, resolution: int) -> Tensor:
        x: Tensor = self.norm(leaky_relu(self.from_rgb[str(resolution)](images)))
        return x

    def _down(self, x: Tensor, resolution: int) -> Tensor:
        conv, down = cast(nn.ModuleList, self.blocks[str(resolution)])
        out: Tensor = self.norm(down(self.norm(leaky_relu(conv(x)))))
        return out
