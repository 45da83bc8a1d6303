"""Relativistic pairing loss (Jolicoeur-Martineau 2018) with R1 and R2, as Huang et al. 2024 ("R3GAN") train it."""

import torch.nn.functional as F
from torch import Tensor

from progan.config import RelativisticConfig
from progan.losses.base import Critic, Loss, Uniform, zero_centred_penalty


class Relativistic(Loss):
    """D: E[-log σ(D(real) - D(fake))] + γ₁/2·E[|∇D(real)|²] + γ₂/2·E[|∇D(fake)|²]; G: E[-log σ(D(fake) - D(real))].

    Reals and fakes are judged in pairs, the first with the first and so on: no fixed score means "real".
    """

    config: RelativisticConfig

    def d_scores(self, real: Tensor, fake: Tensor) -> dict[str, Tensor]:
        return {"pairs": F.softplus(fake - real).mean()}

    def g_scores(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        assert real is not None, "a relativistic loss is given the reals of the last D step"
        return F.softplus(real - fake).mean()

    def penalty(self, critic: Critic, reals: Tensor, fakes: Tensor, rng: Uniform) -> dict[str, Tensor]:
        weighted = {"r1": (self.config.r1_weight, reals), "r2": (self.config.r2_weight, fakes)}
        return {
            name: zero_centred_penalty(weight, critic, images)
            for name, (weight, images) in weighted.items()
            if weight > 0
        }
