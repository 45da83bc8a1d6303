"""How far the gradients of the fast modes are from float64: every resolution, batches that fill groups and that do not.

The networks are narrow, where few terms average out: wider ones are nearer.
"""

import pytest
import torch
from torch import Tensor

from progan import losses
from progan.config import OptimizerConfig, ProGANConfig, WganGpConfig
from progan.models import ImageShape
from progan.schedule import Stage
from progan.training import state
from progan.training.optimizer import Adam
from progan.training.precision import Numerics
from progan.training.step import train_d, train_g

RESOLUTIONS = (4, 8, 16, 32, 64)
BATCHES = (3, 4, 8, 14, 16)
ALPHAS = (0.3, 1.0)
BOUNDS = {torch.float32: (2e-4, 1e-4), torch.bfloat16: (0.25, 0.3)}
"""Of D's and of G's gradient: length of the error over length of the gradient, all weights together."""


class Draws:
    """The same numbers in every precision."""

    def __init__(self) -> None:
        self._generator = torch.Generator().manual_seed(1)

    def normal(self, n: int, size: int) -> Tensor:
        return torch.randn(n, size, generator=self._generator)

    def uniform(self, n: int) -> Tensor:
        return torch.rand(n, generator=self._generator)


def gradients(resolution: int, batch: int, alpha: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """All of D's and of G's, each as one float64 vector, at learning rate 0."""
    numerics = Numerics("cpu", "fp32", 1, torch.__version__)
    s = state.new(ProGANConfig(z_dim=16, fmap_max=16), OptimizerConfig(), ImageShape(resolution, 3), 0, numerics)
    if dtype == torch.float64:
        s.G.double(), s.D.double()
    d_adam, g_adam = (Adam(net.parameters(), OptimizerConfig()) for net in (s.D, s.G))
    generator = torch.Generator().manual_seed(0)
    reals = torch.rand(batch, 3, resolution, resolution, generator=generator) * 2 - 1
    if dtype == torch.float64:
        reals = reals.double()
    stage = Stage(resolution, "stable" if alpha == 1 else "fade", alpha, batch, 0.0, 0.0)
    loss = losses.build(WganGpConfig())
    train_d(s.G, s.D, d_adam, loss, reals, None, stage, Draws(), dtype)
    train_g(s.G, s.D, g_adam, loss, batch, None, stage, Draws(), dtype)
    return flat(s.D), flat(s.G)


def flat(network: torch.nn.Module) -> Tensor:
    return torch.cat([p.grad.double().flatten() for p in network.parameters() if p.grad is not None])


@pytest.mark.parametrize("resolution", RESOLUTIONS)
@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("alpha", ALPHAS)
def test_gradients_of_the_fast_modes_are_near_those_in_float64(resolution: int, batch: int, alpha: float) -> None:
    exact = gradients(resolution, batch, alpha, torch.float64)
    for dtype, bounds in BOUNDS.items():
        for name, found, right, bound in zip(
            "DG", gradients(resolution, batch, alpha, dtype), exact, bounds, strict=True
        ):
            error = float((found - right).norm() / right.norm())
            assert error < bound, f"{name} in {dtype}: {error:.1e}"
