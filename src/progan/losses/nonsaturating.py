"""Cross-entropy with the non-saturating G loss (Goodfellow et al. 2014), R1 where asked (Mescheder et al. 2018)."""

import torch.nn.functional as F
from torch import Tensor

from progan.config import NonsaturatingConfig
from progan.losses.base import Critic, Loss, Uniform, zero_centred_penalty


class Nonsaturating(Loss):
    """D: E[-log σ(D(real))] + E[-log(1 - σ(D(fake)))] + γ/2·E[|∇D(real)|²]; G: E[-log σ(D(fake))]."""

    config: NonsaturatingConfig

    def d_scores(self, real: Tensor, fake: Tensor) -> dict[str, Tensor]:
        return {"real": F.softplus(-real).mean(), "fake": F.softplus(fake).mean()}

    def g_scores(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        return F.softplus(-fake).mean()

    def penalty(self, critic: Critic, reals: Tensor, fakes: Tensor, rng: Uniform) -> dict[str, Tensor]:
        if not self.config.penalised:
            return {}
        return {"penalty": zero_centred_penalty(self.config.r1_weight, critic, reals)}
