"""Wasserstein loss whose D is kept Lipschitz by clipped weights (Arjovsky et al. 2017, algorithm 1)."""

import torch
from torch import Tensor, nn

from progan.config import WganConfig
from progan.losses.base import Loss


class Wgan(Loss):
    """D: E[D(fake)] - E[D(real)], every weight clipped to -c…c after each step; G: -E[D(fake)]."""

    config: WganConfig

    def d_scores(self, real: Tensor, fake: Tensor) -> dict[str, Tensor]:
        return {"real": -real.mean(), "fake": fake.mean()}

    def g_scores(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        return -fake.mean()

    @torch.no_grad()
    def constrain(self, D: nn.Module) -> None:
        # With equalised learning rate a layer uses scale·weight, and that product is what the paper bounds.
        for module in D.modules():
            for name, parameter in module.named_parameters(recurse=False):
                scale = getattr(module, "scale", 1.0) if name == "weight" else 1.0
                parameter.clamp_(-self.config.clip_weight / scale, self.config.clip_weight / scale)
