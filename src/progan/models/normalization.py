"""Normalisation with learned scale and shift, and dropout."""

import torch
from torch import Tensor, nn

from progan.models.interface import Noise


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
