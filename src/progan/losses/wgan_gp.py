"""Wasserstein loss with gradient penalty (Gulrajani et al. 2017) and drift (Karras et al. 2018, appendix A.1)."""

import torch
from torch import Tensor

from progan.config import WganGpConfig
from progan.losses.base import Critic, Loss, Uniform, gradient_norms


class WganGp(Loss):
    """D: E[D(fake)] - E[D(real)] + λ/γ²·E[(|∇D(mixed)| - γ)²] + ε·E[D(real)²]; G: -E[D(fake)]."""

    config: WganGpConfig

    def d_scores(self, real: Tensor, fake: Tensor) -> dict[str, Tensor]:
        drift = self.config.drift_weight * real.square().mean()
        return {"real": -real.mean(), "fake": fake.mean(), "drift": drift}

    def g_scores(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        return -fake.mean()

    def penalty(self, critic: Critic, reals: Tensor, fakes: Tensor, rng: Uniform) -> dict[str, Tensor]:
        weight, target = self.config.gp_weight, self.config.gp_target
        if not self.config.penalised:
            return {}
        norms = gradient_norms(critic, mix(reals, fakes, rng.uniform(len(reals))))
        return {"penalty": weight / target**2 * (norms - target).square().mean()}


def mix(reals: Tensor, fakes: Tensor, uniform: Tensor) -> Tensor:
    """reals + (fakes - reals)·u, one u of [N] for each image."""
    return torch.lerp(reals, fakes, uniform.to(reals.dtype).view(-1, 1, 1, 1))
