"""Convolutions of networks in the manner of DCGAN: 4x4 kernels, weights that begin as N(0, 0.02)."""

import torch
from torch import Tensor, nn

from progan.models.convolution import convolve
from progan.models.layers import Layer, filled, wide
from progan.scores import Scores

STD = 0.02
"""Standard deviation of initial weights (around 0) and of initial batch-norm scales (around 1)."""


class StridedConv2d(Layer):
    """[N, in, 2H, 2W] -> [N, out, H, W], or the reverse if `transposed`; stride 2, no bias."""

    def __init__(self, inputs: int, outputs: int, transposed: bool = False) -> None:
        super().__init__()
        self.transposed = transposed
        shape = (inputs, outputs) if transposed else (outputs, inputs)
        self.weight = nn.Parameter(STD * torch.randn(*shape, 4, 4))

    def forward(self, x: Tensor) -> Tensor:
        return convolve(x, self.weight.to(x.dtype), None, stride=2, padding=1, transposed=self.transposed)

    def plain(self) -> nn.Module:
        a, b = self.weight.shape[:2]
        if self.transposed:
            return filled(nn.ConvTranspose2d(a, b, 4, stride=2, padding=1), self.weight)
        return filled(nn.Conv2d(b, a, 4, stride=2, padding=1), self.weight)


class FromLatents(nn.Module):
    """Latents [N, z_dim] with labels [N, L] -> [N, out, 4, 4]: a transposed convolution of one pixel, no bias."""

    def __init__(self, z_dim: int, label_size: int, outputs: int) -> None:
        super().__init__()
        self.label_size = label_size
        self.weight = nn.Parameter(STD * torch.randn(z_dim + label_size, outputs, 4, 4))

    def forward(self, z: Tensor, labels: Tensor | None) -> Tensor:
        assert (labels is not None) == (self.label_size > 0), "labels go with a generator that was built for them"
        if labels is not None:
            z = torch.cat([z, labels.to(z.dtype)], 1)
        return (z @ self.weight.to(z.dtype).flatten(1)).view(z.shape[0], *self.weight.shape[1:])


class ToScores(nn.Module):
    """[N, in, 4, 4] -> scores: a convolution over the whole, no bias."""

    def __init__(self, inputs: int, label_size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(STD * torch.randn(1 + label_size, inputs, 4, 4))

    def forward(self, x: Tensor) -> Scores:
        x = x.to(wide(x.dtype))  # the score itself is never rounded to 16 bits
        out = x.flatten(1) @ self.weight.to(x.dtype).flatten(1).T
        return Scores(out[:, 0], out[:, 1:] if out.shape[1] > 1 else None)


class Pointwise(Layer):
    """[N, in, R, R] -> [N, out, R, R]: a 1x1 convolution, to or from RGB."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(STD * torch.randn(outputs, inputs, 1, 1))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        return convolve(x, self.weight.to(x.dtype), self.bias.to(x.dtype))

    def plain(self) -> nn.Module:
        outputs, inputs = self.weight.shape[:2]
        return filled(nn.Conv2d(inputs, outputs, 1), self.weight, self.bias)
