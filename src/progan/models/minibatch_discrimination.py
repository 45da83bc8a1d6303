"""Minibatch discrimination (Salimans et al. 2016, section 3.2)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from progan.models.layers import Scaled, wide

DIMENSIONS = 5
"""Of each kernel's projection, as in the code of Salimans et al."""


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
