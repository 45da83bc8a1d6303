"""Layers: those of Progressive GANs (Karras et al. 2018, sections 3 and 4), normalisation, dropout and noise.

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
from progan.models.base import Draws
from progan.models.convolution import convolve

DIMENSIONS = 5
"""Dimensions of each kernel's projection in minibatch discrimination, as in the code of Salimans et al."""
LIMIT, DECAY = 0.5, 0.9
"""Average score from which D's adaptive noise grows, and decay of that average (appendix B)."""


def wide(dtype: torch.dtype) -> torch.dtype:
    """The dtype itself, or float32 for a narrower one."""
    return torch.promote_types(dtype, torch.float32)


def leaky_relu(x: Tensor, leak: float = 0.2) -> Tensor:
    """Leaky ReLU, of slope 0.2 in the paper (table 2)."""
    return F.leaky_relu(x, leak)


class Layer(nn.Module):
    """Layer that can be replaced by one of PyTorch's own, which cannot be differentiated as well."""

    def plain(self) -> nn.Module:
        """A layer that computes the same from the same input, up to rounding; this one is not used any more."""
        raise NotImplementedError


def let_winograd(network: nn.Module) -> None:
    """Let the network's convolutions take Winograd's algorithm where it is faster."""
    for layer in network.modules():
        if isinstance(layer, EqualizedConv2d):
            layer.fast = True


def plain(network: nn.Module) -> nn.Module:
    """The network with every `Layer` replaced, in place: for those who trace, export or serve it."""
    for name, child in network.named_children():
        setattr(network, name, child.plain() if isinstance(child, Layer) else plain(child))
    return network


def filled(layer: nn.Conv2d | nn.ConvTranspose2d, weight: Tensor, bias: Tensor | None = None) -> nn.Module:
    """A convolution of PyTorch with copies of this weight and bias."""
    layer.weight = nn.Parameter(weight.detach().clone(memory_format=torch.contiguous_format))
    layer.bias = None if bias is None else nn.Parameter(bias.detach().clone())
    return layer.requires_grad_(False)


class Scaled(Layer):
    """Weight with equalised learning rate: N(0, 1) entries, times gain/√fan_in at run time (section 4.1).

    With `use_wscale=False` the constant is put into the initial weight instead (He et al. 2015).
    """

    def __init__(self, shape: tuple[int, ...], fan_in: int, gain: float, use_wscale: bool) -> None:
        super().__init__()
        std = gain / math.sqrt(fan_in)
        self.scale = std if use_wscale else 1.0
        self.weight = nn.Parameter(torch.randn(shape) * (1.0 if use_wscale else std))

    def scaled(self, dtype: torch.dtype) -> Tensor:
        weight = self.weight if self.scale == 1 else self.weight * self.scale
        return weight.to(dtype)

    def plain(self) -> nn.Module:
        """The same function with the scale inside its weight; other layers give layers of PyTorch."""
        with torch.no_grad():
            self.weight.mul_(self.scale)
        self.scale = 1.0
        return self


class EqualizedLinear(Scaled):
    """[N, in] -> [N, out]. Equalised learning rate; the bias starts at 0 and is not scaled."""

    def __init__(self, inputs: int, outputs: int, gain: float = math.sqrt(2), use_wscale: bool = True) -> None:
        super().__init__((outputs, inputs), inputs, gain, use_wscale)
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.scaled(x.dtype), self.bias.to(x.dtype))


class EqualizedConv2d(Scaled):
    """[N, in, H, W] -> [N, out, H, W], same padding, equalised learning rate."""

    fast = False
    """True if it may take Winograd's algorithm, see `convolve`."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int = 3, gain: float = math.sqrt(2), use_wscale: bool = True
    ) -> None:
        super().__init__((outputs, inputs, kernel, kernel), inputs * kernel**2, gain, use_wscale)
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        weight = self.scaled(x.dtype)
        return convolve(x, weight, self.bias.to(x.dtype), padding=weight.shape[2] // 2, fast=self.fast)

    def plain(self) -> nn.Module:
        weight = self.scaled(self.weight.dtype)
        outputs, inputs, kernel, _ = weight.shape
        return filled(nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2), weight, self.bias)


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
        weight, bias = self._transposed(x.dtype), self.bias.to(x.dtype)
        return convolve(x, weight, bias, stride=2, padding=1, transposed=True, fast=self.fast)

    def plain(self) -> nn.Module:
        """One transposed convolution, `fused` or not: 1.4 times as fast in onnxruntime-web as what it stands for."""
        weight = self._transposed(self.weight.dtype)
        inputs, outputs, kernel, _ = weight.shape
        return filled(nn.ConvTranspose2d(inputs, outputs, kernel, stride=2, padding=1), weight, self.bias)

    def _transposed(self, dtype: torch.dtype) -> Tensor:
        """Kernel [in, out, 4, 4] of upscaling and convolution in one."""
        return _sum_shifts(self.scaled(dtype).flip(2, 3)).transpose(0, 1)


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
        return activation(convolve(x, weight, self.bias.to(x.dtype), stride=2, padding=1, fast=self.fast))


def _sum_shifts(weight: Tensor) -> Tensor:
    """Kernel of a 3x3 convolution after a 2x2 box: [O, I, 3, 3] -> [O, I, 4, 4]."""
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


class MinibatchDiscrimination(Scaled):
    """[N, A] -> [N, A + B]: appends, for every kernel b, how near the batch is: o_b(i) = Σ_j exp(-|M_ib - M_jb|₁).

    M_ib is a learned projection of image i. The sum takes in j = i, as printed, which adds 1 to every entry.
    """

    def __init__(self, inputs: int, kernels: int, use_wscale: bool = True) -> None:
        super().__init__((kernels * DIMENSIONS, inputs), inputs, gain=1, use_wscale=use_wscale)

    def forward(self, x: Tensor) -> Tensor:
        projected = F.linear(x, self.scaled(x.dtype)).to(wide(x.dtype)).view(len(x), -1, DIMENSIONS)  # [N, B, 5]
        distance = (projected[:, None] - projected[None]).abs().sum(3)  # [N, N, B]
        return torch.cat([x, torch.exp(-distance).sum(1).to(x.dtype)], 1)


class BatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation (Ioffe and Szegedy 2015); `std` is that of the initial scales, round 1.

    PyTorch's has statistics of 32 bits for inputs of 16, in both derivatives too. In evaluation mode it uses running
    means, which move by `momentum` with every batch: 0.2 is what Keras calls 0.8.
    """

    def __init__(self, maps: int, momentum: float = 0.1, std: float = 0.0) -> None:
        super().__init__(maps, momentum=momentum)
        with torch.no_grad():
            self.weight.normal_(1.0, std)


def dropout(x: Tensor, rate: float, noise: Draws | None) -> Tensor:
    """Sets whole maps of [N, C, H, W] to 0, each with probability `rate`, and divides the others by 1 - rate.

    Neighbouring pixels of a map say much the same, so that single ones would hardly be missed (Tompson et al. 2015).
    """
    if noise is None or rate == 0:
        return x
    kept = noise.uniform(*x.shape[:2]) >= rate
    return x * (kept.to(x.dtype) / (1 - rate)).view(*kept.shape, 1, 1)


class LayerNorm(nn.GroupNorm):
    """Layer normalisation of [N, C, ...]: each image over all of its maps, scale and shift by map (Ba et al. 2016)."""

    def __init__(self, maps: int) -> None:
        super().__init__(1, maps)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.to(wide(x.dtype))).to(x.dtype)


class Activation(nn.Module):
    """Activation after a convolution: a normalisation, where there is one, then ReLU, leaky by `leak`."""

    def __init__(self, norm: nn.Module | None = None, leak: float = 0.2) -> None:
        super().__init__()
        self.norm, self.leak = norm, leak

    def forward(self, x: Tensor) -> Tensor:
        if self.norm is not None:
            x = self.norm(x)
        return F.leaky_relu(x, self.leak) if self.leak else torch.relu(x)


class AdaptiveNoise(nn.Module):
    """Multiplies each map of each image by 1 + strength·N(0, 1), strength = coefficient·max(0, d̂ - 0.5)².

    d̂ is a moving average of D's output, d̂ = 0.1·d + 0.9·d̂; the paper's coefficient is 0.2. The paper calls training
    unstable where d nears 1; with our targets (1 for reals) that is the mean score of reals, which is what we take.
    """

    d_hat: Tensor

    def __init__(self, coefficient: float) -> None:
        super().__init__()
        self.coefficient = coefficient
        self.register_buffer("d_hat", torch.zeros(()))

    @property
    def strength(self) -> Tensor:
        return self.coefficient * (self.d_hat - LIMIT).clamp(min=0).square()

    def forward(self, x: Tensor, noise: Draws | None) -> Tensor:
        if noise is None:
            return x
        factor = 1 + self.strength * noise.normal(*x.shape[:2])
        return x * factor.to(x.dtype).view(*factor.shape, 1, 1)

    def watch(self, d: Tensor) -> None:
        """Update d̂ by the mean score [] of a step's reals, unless it is not finite."""
        self.d_hat.copy_(torch.where(d.isfinite(), (1 - DECAY) * d + DECAY * self.d_hat, self.d_hat))
