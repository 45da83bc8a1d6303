"""Least squares GAN (Mao et al. 2017, equation 9)."""

from torch import Tensor

from progan.config import LsganConfig
from progan.losses.base import Loss


class Lsgan(Loss):
    """D: ½E[(D(real) - 1)²] + ½E[D(fake)²]; G: ½E[(D(fake) - 1)²]."""

    config: LsganConfig

    def d_scores(self, real: Tensor, fake: Tensor) -> dict[str, Tensor]:
        return {"real": 0.5 * (real - 1).square().mean(), "fake": 0.5 * fake.square().mean()}

    def g_scores(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        return 0.5 * (fake - 1).square().mean()
