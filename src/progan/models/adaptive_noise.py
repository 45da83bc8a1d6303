"""Noise in D that keeps least squares from running away (Karras et al. 2018, appendix B)."""

import torch
from torch import Tensor, nn

from progan.models.base import Noise

LIMIT = 0.5
DECAY = 0.9


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

    def forward(self, x: Tensor, noise: Noise | None) -> Tensor:
        if noise is None:
            return x
        factor = 1 + self.strength * noise.normal(*x.shape[:2])
        return x * factor.to(x.dtype).view(*factor.shape, 1, 1)

    def watch(self, d: Tensor) -> None:
        """Take the mean score [] of a step's reals into d̂, unless it is not finite."""
        self.d_hat.copy_(torch.where(d.isfinite(), (1 - DECAY) * d + DECAY * self.d_hat, self.d_hat))
