"""The networks of Karras et al. 2018 (section 4, table 2), for any power of two from 4 to 1024.

All layers exist from the start; `resolution` and `alpha` say which of them a call uses.
"""

import math
from collections.abc import Iterator
from typing import cast

import torch
from torch import Tensor, nn

from progan.config import ProGANConfig
from progan.images import downscale, upscale
from progan.models import base
from progan.models.base import Draws
from progan.models.layers import (
    Activation,
    AdaptiveNoise,
    BatchNorm2d,
    ConvDownscale2d,
    EqualizedConv2d,
    EqualizedLinear,
    LayerNorm,
    MinibatchDiscrimination,
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
    if config.fmaps is not None:
        return int(config.fmaps.at(resolution))
    return max(1, min(2 * config.fmap_base // resolution, config.fmap_max))


def _doublings(resolution: int) -> list[int]:
    return [2**k for k in range(3, int(math.log2(resolution)) + 1)]  # 8 … resolution


def _g_activation(config: ProGANConfig, maps: int) -> Activation:
    norm = BatchNorm2d(maps, momentum=config.batch_norm) if config.batch_norm else None
    return Activation(norm, leak=0 if config.g_activation == "relu" else config.leak)


def _mix(before: Tensor, newest: Tensor, alpha: float | Tensor) -> Tensor:
    """Rounded once, also where alpha is a tensor of more bits."""
    if isinstance(alpha, float):
        return torch.lerp(before, newest, alpha)
    bits = wide(newest.dtype)
    return torch.lerp(before.to(bits), newest.to(bits), alpha.to(bits)).to(newest.dtype)


class Generator(base.Generator):
    """Latents to images."""

    def __init__(self, config: ProGANConfig, resolution: int, channels: int, label_size: int = 0) -> None:
        super().__init__()
        self.z_dim, self.label_size, self.resolution = config.z_dim, label_size, resolution
        self.latents = config.latents
        self.normalize_latents = config.normalize_latents
        wscale = config.use_wscale
        first = fmaps(config, 4)
        # A smaller gain, "to match the original Theano implementation", as the authors' code says.
        self.dense = EqualizedLinear(config.z_dim + label_size, first * 16, math.sqrt(2) / 4, wscale)
        self.dense.bias = nn.Parameter(torch.zeros(first * 16 if config.g_first == "unit-bias" else first))
        self.conv = EqualizedConv2d(first, first, use_wscale=wscale)
        self.norm = PixelNorm() if config.pixel_norm in ("g", "both") else nn.Identity()
        self.first_norm = nn.Identity() if config.g_first == "no-norm" else self.norm
        self.tanh, self.tanh_last = config.tanh and not config.tanh_last, config.tanh and config.tanh_last
        self.activations = nn.ModuleDict({name: _g_activation(config, first) for name in ("dense", "conv")})
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
            self.activations[str(r)] = nn.ModuleList(_g_activation(config, maps) for _ in range(2))
            self.to_rgb[str(r)] = EqualizedConv2d(maps, channels, 1, gain=1, use_wscale=wscale)

    def embed(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """First activation [N, C, 4, 4]: latents on the hypersphere, a dense layer, pixel norm."""
        assert (labels is not None) == (self.label_size > 0), "labels go with a generator that was built for them"
        z = self.distributed(z)
        if labels is not None:
            z = torch.cat([z, labels.to(z.dtype)], 1)
        if self.normalize_latents:
            z = pixel_norm(z)
        x = torch.nn.functional.linear(z, self.dense.scaled(z.dtype)).view(z.shape[0], -1, 16)
        x = x + self.dense.bias.to(z.dtype).view(x.shape[1], -1)  # one for each map, or for each of its units
        normed: Tensor = self.first_norm(self.activations["dense"](x.view(z.shape[0], -1, 4, 4)))
        return normed

    def synthesize(self, x: Tensor, resolution: int | None = None, alpha: float | Tensor = 1.0) -> Tensor:
        """Images; in a fade the newest block is mixed with the upscaled output of the one before (figure 2)."""
        resolution = resolution or self.resolution
        x = self.norm(self.activations["conv"](self.conv(x)))
        before = x
        for r in _doublings(resolution):
            before = x
            convs, activations = (cast(nn.ModuleList, each[str(r)]) for each in (self.blocks, self.activations))
            for conv, activation in zip(convs, activations, strict=True):
                x = self.norm(activation(conv(x)))
        images = self._rgb(x, resolution)
        if resolution > 4 and not (isinstance(alpha, float) and alpha == 1):
            images = _mix(upscale(self._rgb(before, resolution // 2)), images, alpha)
        return torch.tanh(images) if self.tanh_last else images

    def _rgb(self, x: Tensor, resolution: int) -> Tensor:
        rgb: Tensor = self.to_rgb[str(resolution)](x)
        rgb = rgb.to(wide(rgb.dtype))
        return torch.tanh(rgb) if self.tanh else rgb


def _d_activation(config: ProGANConfig, maps: int) -> Activation:
    return Activation(LayerNorm(maps) if config.layer_norm else None, config.leak)


class Discriminator(base.Discriminator):
    """Images to scores, the mirror of G."""

    def __init__(self, config: ProGANConfig, resolution: int, channels: int, label_size: int = 0) -> None:
        super().__init__()
        self.mbstd_group = config.mbstd_group
        wscale = config.use_wscale
        self.norm = PixelNorm() if config.pixel_norm == "both" else nn.Identity()
        self.noise = AdaptiveNoise(config.d_noise) if config.d_noise else None
        self.watches = config.d_noise > 0
        self.leak = config.leak
        self.blocks, self.activations = nn.ModuleDict(), nn.ModuleDict()
        self.from_rgb = nn.ModuleDict()
        for r in [*reversed(_doublings(resolution)), 4]:
            maps = fmaps(config, r)
            self.from_rgb[str(r)] = EqualizedConv2d(channels, maps, 1, use_wscale=wscale)
            if r > 4:
                below = fmaps(config, r // 2)
                down = ConvDownscale2d(maps, below, config.fused_scale, wscale)
                self.blocks[str(r)] = nn.ModuleList([EqualizedConv2d(maps, maps, use_wscale=wscale), down])
                self.activations[str(r)] = nn.ModuleList(_d_activation(config, n) for n in (maps, below))
        last = fmaps(config, 4)
        self.conv = EqualizedConv2d(last + (self.mbstd_group != 1), last, use_wscale=wscale)
        hidden, kernels = config.d_hidden or fmaps(config, 2), config.mbdisc_kernels
        self.dense0 = EqualizedLinear(last * 16, hidden, use_wscale=wscale)
        self.activations["conv"] = _d_activation(config, last)
        self.activations["dense0"] = _d_activation(config, hidden)
        self.discrimination = MinibatchDiscrimination(hidden, kernels, wscale) if kernels else nn.Identity()
        self.dense1 = EqualizedLinear(hidden + kernels, 1 + label_size, gain=1, use_wscale=wscale)

    def features(
        self, images: Tensor, alpha: float | Tensor = 1.0, noise: Draws | None = None
    ) -> Iterator[tuple[str, Tensor]]:
        """Features; in a fade the newest block is mixed with the downscaled images' features (figure 2)."""
        resolution = images.shape[2]
        x = self._from_rgb(images, resolution)
        if resolution > 4:
            x = self._down(x, resolution, noise)
            if not (isinstance(alpha, float) and alpha == 1):
                below = self._from_rgb(downscale(images), resolution // 2)
                x = _mix(below, x, alpha)
            yield f"{resolution}x{resolution}", x
            for r in reversed(_doublings(resolution // 2)):
                x = self._down(x, r, noise)
                yield f"{r}x{r}", x
        if self.mbstd_group != 1:
            x = minibatch_stddev(x, self.mbstd_group)
        x = self.norm(self.activations["conv"](self.conv(self._noisy(x, noise))))
        yield "4x4", x
        x = self.activations["dense0"](self.dense0(self._noisy(x, noise).flatten(1)))
        yield "last", self.discrimination(x)

    def score(self, x: Tensor) -> Scores:
        """Last features [N, F] -> scores."""
        out = self.dense1(x.to(wide(x.dtype)))  # the score itself is never rounded to 16 bits
        return Scores(out[:, 0], out[:, 1:] if out.shape[1] > 1 else None)

    def _from_rgb(self, images: Tensor, resolution: int) -> Tensor:
        x: Tensor = self.norm(leaky_relu(self.from_rgb[str(resolution)](images), self.leak))
        return x

    def _down(self, x: Tensor, resolution: int, noise: Draws | None = None) -> Tensor:
        conv, down = cast(nn.ModuleList, self.blocks[str(resolution)])
        first, second = cast(nn.ModuleList, self.activations[str(resolution)])
        x = self.norm(first(conv(self._noisy(x, noise))))
        out: Tensor = self.norm(down(self._noisy(x, noise), second))
        return out

    def _noisy(self, x: Tensor, noise: Draws | None) -> Tensor:
        """The input of a 3x3 or 4x4 convolution (appendix B)."""
        return x if self.noise is None else self.noise(x, noise)

    def watch(self, d: Tensor) -> None:
        """Update the noise by the mean score [] of a step's reals (appendix B)."""
        if self.noise is not None:
            self.noise.watch(d)
