"""Hinge loss (Lim and Ye 2017, "Geometric GAN"; Miyato et al. 2018, equations 16 and 17)."""

import torch
from torch import Tensor

from progan.losses.nonsaturating import Nonsaturating


class Hinge(Nonsaturating):
    """D: E[max(0, 1 - D(real))] + E[max(0, 1 + D(fake))] + γ/2·E[|∇D(real)|²]; G: -E[D(fake)]."""

    def d_scores(self, real: Tensor, fake: Tensor) -> dict[str, Tensor]:
        return {"real": torch.relu(1 - real).mean(), "fake": torch.relu(1 + fake).mean()}

    def g_scores(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        return -fake.mean()
