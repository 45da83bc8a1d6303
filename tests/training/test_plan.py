"""Estimates of a run before it begins, against what a step does."""

import pytest
import torch

from progan import losses, models
from progan.config import (
    DcganConfig,
    GrowingBatchNormConfig,
    LossConfig,
    LsganConfig,
    ModelConfig,
    NonsaturatingConfig,
    ProGANConfig,
    RunConfig,
    ScheduleConfig,
    WganGpConfig,
)
from progan.models import ImageShape
from progan.randomness import Rng
from progan.schedule import Stage
from progan.training.optimizer import Adam
from progan.training.preflight.estimate import Operations, operations
from progan.training.setup import RunSetup
from steps import CPU, train_d, train_g

SHAPE, BATCH = ImageShape(32, 3), 4
MODELS: dict[str, ModelConfig] = {
    "progan": ProGANConfig(fmap_max=32, fmap_base=512, z_dim=32),
    "dcgan": DcganConfig(width=16, z_dim=32),
    "growing-batchnorm": GrowingBatchNormConfig(fmap_max=32, fmap_base=512, z_dim=32),
}
LOSSES: dict[str, LossConfig] = {
    "wgan-gp": WganGpConfig(),
    "no penalty": WganGpConfig(gp_weight=0),
    "lsgan": LsganConfig(),
    "nonsaturating": NonsaturatingConfig(),
    "r1": NonsaturatingConfig(r1_weight=5),
}


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("d_steps", [1, 3])
def test_as_many_operations_as_the_steps_do(model: str, loss: str, d_steps: int) -> None:
    """Counted; the estimate has also the gradient by images, which a step spares itself."""
    config = RunConfig(
        model=MODELS[model],
        loss=LOSSES[loss],
        schedule=ScheduleConfig(resolution=32, start_resolution=32, d_steps=d_steps),
    )
    G, D = models.build(config.model, SHAPE, seed=0)
    rules, stage, rng = losses.build(config.loss), Stage(32, "stable", 1.0, BATCH, 1e-3, 1e-3), Rng(0, 0, "D")
    reals = torch.rand(BATCH, 3, 32, 32)
    optimizers = [Adam(net.parameters(), config.optimizer) for net in (G, D)]
    with Operations() as counted:
        for _ in range(d_steps):
            train_d(G, D, optimizers[1], rules, reals, None, stage, rng, torch.float32)
        train_g(G, D, optimizers[0], rules, BATCH, None, stage, rng, torch.float32)
    with torch.device("meta"):
        hollow = models.build(config.model, SHAPE, seed=0)
    expected = counted.count / BATCH
    assert operations(RunSetup(config, SHAPE, CPU), 32, hollow) == pytest.approx(expected, rel=0.1)
