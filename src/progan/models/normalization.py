"""Normalisation with learned scale and shift, and dropout."""

import torch
from torch import Tensor, nn

from progan.models.base import Noise
from progan.models.layers import leaky_relu, wide


class BatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation (Ioffe and Szegedy 2015); `std` is that of the initial scales, round 1.

    PyTorch's has statistics of 32 bits for inputs of 16, in both derivatives too. In evaluation mode it uses running
    means, which move by `momentum` with every batch: 0.2 is what Keras calls 0.8.
    """

    def __init__(self, maps: int, momentum: float = 0.1, std: float = 0.0) -> None:
        super().__init__(maps, momentum=momentum)
        with torch.no_grad():
            self.weight.normal_(1.0, std)


def dropout(x: Tensor, rate: float, noise: Noise | None) -> Tensor:
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
    """What follows a convolution: a normalisation, where there is one, then ReLU, leaky by 0.2 unless `relu`."""

    def __init__(self, norm: nn.Module | None = None, relu: bool = False) -> None:
        super().__init__()
        self.norm, self.relu = norm, relu

    def forward(self, x: Tensor) -> Tensor:
        if self.norm is not None:
            x = self.norm(x)
        return torch.relu(x) if self.relu else leaky_relu(x)
