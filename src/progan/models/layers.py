"""Layers of Progressive GANs (Karras et al. 2018, sections 3 and 4).

Every layer computes in the dtype of its input, whatever that of its weights; norms and statistics in at least 32 bits.
Convolutions with channels_last weights give channels_last activations.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from progan.config import group_divisor
from progan.images import downscale, upscale
from progan.models.convolution import convolve


def wide(dtype: torch.dtype) -> torch.dtype:
    """The dtype itself, or float32 for narrower ones."""
    return torch.promote_types(dtype, torch.float32)


def leaky_relu(x: Tensor) -> Tensor:
    """Slope 0.2 below 0 (table 2)."""
    return F.leaky_relu(x, 0.2)


class Scaled(nn.Module):
    """A weight with equalised learning rate: N(0, 1) entries, times gain/√fan_in at run time (section 4.1).

    With `use_wscale=False` the constant is put into the initial weight instead (He et al. 2015).
    """

    def __init__(self, shape: tuple[int, ...], fan_in: int, gain: float, use_wscale: bool) -> None:
        super().__init__()
        std = gain / math.sqrt(fan_in)
        self.scale = std if use_wscale else 1.0
        self.weight = nn.Parameter(torch.randn(shape) * (1.0 if use_wscale else std))

    def scaled(self, dtype: torch.dtype) -> Tensor:
        return (self.weight * self.scale).to(dtype)


class EqualizedLinear(Scaled):
    """[N, in] -> [N, out]. Equalised learning rate; the bias starts at 0 and is not scaled."""

    def __init__(self, inputs: int, outputs: int, gain: float = math.sqrt(2), use_wscale: bool = True) -> None:
        super().__init__((outputs, inputs), inputs, gain, use_wscale)
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.scaled(x.dtype), self.bias.to(x.dtype))


class EqualizedConv2d(Scaled):
    """[N, in, H, W] -> [N, out, H, W], same padding, equalised learning rate."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int = 3, gain: float = math.sqrt(2), use_wscale: bool = True
    ) -> None:
        super().__init__((outputs, inputs, kernel, kernel), inputs * kernel**2, gain, use_wscale)
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        weight = self.scaled(x.dtype)
        return convolve(x, weight, self.bias.to(x.dtype), padding=weight.shape[2] // 2)


class UpscaleConv2d(EqualizedConv2d):
    """[N, in, H, W] -> [N, out, 2H, 2W]: nearest upscaling, then a 3x3 convolution.

    `fused` computes the same function with the same weight as one transposed convolution.
    """

    def __init__(self, inputs: int, outputs: int, fused: bool, use_wscale: bool = True) -> None:
        super().__init__(inputs, outputs, use_wscale=use_wscale)
        self.fused = fused

    def forward(self, x: Tensor) -> Tensor:
        if not self.fused:
            return super().forward(upscale(x))
        weight = _sum_shifts(self.scaled(x.dtype).flip(2, 3)).transpose(0, 1)
        return convolve(x, weight, self.bias.to(x.dtype), stride=2, padding=1, transposed=True)


class ConvDownscale2d(EqualizedConv2d):
    """[N, in, 2H, 2W] -> [N, out, H, W]: a 3x3 convolution, bias, leaky ReLU and the mean of each 2x2 square.

    `fused` takes the mean *before* bias and activation, as one strided convolution: a different function.
    """

    def __init__(self, inputs: int, outputs: int, fused: bool, use_wscale: bool = True) -> None:
        super().__init__(inputs, outputs, use_wscale=use_wscale)
        self.fused = fused

    def forward(self, x: Tensor, activation: Callable[[Tensor], Tensor] = leaky_relu) -> Tensor:
        if not self.fused:
            return downscale(activation(super().forward(x)))
        weight = _sum_shifts(self.scaled(x.dtype)) * 0.25
        return activation(convolve(x, weight, self.bias.to(x.dtype), stride=2, padding=1))


def _sum_shifts(weight: Tensor) -> Tensor:
    """A 3x3 kernel after a 2x2 box: [O, I, 3, 3] -> [O, I, 4, 4]."""
    out: Tensor = _Box.apply(weight, True)
    return out


class _Box(torch.autograd.Function):
    """Sums of 2x2 neighbours, with zeros around or without: each is the other's gradient.

    What autograd makes of slices, which fills and copies whole tensors, took a fifth of an iteration at 8x8.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, padded: bool) -> Tensor:
        ctx.padded = padded
        x = F.pad(x, (1, 1, 1, 1)) if padded else x
        rows = x[:, :, 1:] + x[:, :, :-1]
        return rows[..., 1:] + rows[..., :-1]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        return _Box.apply(gradient, not ctx.padded), None


def pixel_norm(x: Tensor, eps: float = 1e-8) -> Tensor:
    """[N, C, ...] divided by the root mean square over C (section 4.2)."""
    square = x.to(wide(x.dtype)).square().mean(1, keepdim=True)
    return x * torch.rsqrt(square + eps).to(x.dtype)


class PixelNorm(nn.Module):
    """`pixel_norm` as a layer."""

    def forward(self, x: Tensor) -> Tensor:
        return pixel_norm(x)


def minibatch_stddev(x: Tensor, group_size: int, eps: float = 1e-8) -> Tensor:
    """[N, C, H, W] -> [N, C+1, H, W]: the group's standard deviation, averaged over C, H and W, appended (section 3).

    Sample n belongs to group n mod (N/G), where G is the largest divisor of N not above `group_size` (0 = N).
    """
    n, c, h, w = x.shape
    size = group_divisor(n, group_size)
    groups = x.to(wide(x.dtype)).reshape(size, n // size, c, h, w)
    variance = (groups - groups.mean(0)).square().mean(0)  # `var` takes forty times as long on a CPU
    deviation = (variance + eps).sqrt().mean((1, 2, 3))  # [N/G]
    channel = deviation.repeat(size).view(n, 1, 1, 1).expand(n, 1, h, w).to(x.dtype)
    return torch.cat([x, channel], 1)
