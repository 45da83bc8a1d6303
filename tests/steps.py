"""Single steps of training, on networks, losses and random numbers of a test's own."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from progan.config import ModelConfig, OptimizerConfig, ProGANConfig, RunConfig, ScheduleConfig
from progan.losses import Loss
from progan.models import Discriminator, Generator, ImageShape
from progan.options import override
from progan.schedule import Stage
from progan.training.accelerate.traced import Traced, launched
from progan.training.numerics import Numerics
from progan.training.optimizer import Adam
from progan.training.setup import RunSetup
from progan.training.state import TrainingState
from progan.training.step import Executor, Step

CPU = Numerics("cpu", "fp32", 1, torch.__version__)


def new_state(
    model: ModelConfig = ProGANConfig(),  # noqa: B008
    optimizer: OptimizerConfig = OptimizerConfig(),  # noqa: B008
    shape: ImageShape = ImageShape(8, 3),  # noqa: B008
    seed: int = 0,
    numerics: Numerics = CPU,
) -> TrainingState:
    """State before the first image."""
    schedule = ScheduleConfig(resolution=shape.resolution, start_resolution=shape.resolution)
    config = RunConfig(model=model, optimizer=optimizer, schedule=schedule)
    return TrainingState.new(RunSetup(override(config, {"seed": seed}), shape, numerics))


def in_dtype(dtype: torch.dtype, device: str = "cpu") -> Numerics:
    """Numerics that compute in a dtype which no option may ask for."""
    return type("InDtype", (Numerics,), {"dtype": dtype})(device, "fp32", 1, torch.__version__)  # type: ignore[no-any-return]


def setup_of(G: Generator, loss: Loss, dtype: torch.dtype, channels: int = 3) -> RunSetup:
    """Setup of steps with a loss of its own."""
    device = str(next(G.parameters()).device)
    shape = ImageShape(G.resolution, channels, G.label_size)
    setup = RunSetup(RunConfig(loss=loss.config), shape, in_dtype(dtype, device), label_kind=loss.label_kind)
    setup.__dict__["loss"] = loss
    return setup


def make_step(
    G: Generator,
    D: Discriminator,
    adam: Adam,
    loss: Loss,
    stage: Stage,
    dtype: torch.dtype,
    executor: Executor | None = None,
) -> Step:
    """Step of both networks with one optimiser, that of the network to be trained."""
    setup = setup_of(G, loss, dtype)
    return Step(setup, TrainingState(G, D, G, adam, adam, setup.numerics), stage, executor)


def train_d(
    G: Generator,
    D: Discriminator,
    adam: Adam,
    loss: Loss,
    reals: Tensor,
    labels: Tensor | None,
    stage: Stage,
    draws: Any,
    dtype: torch.dtype,
    traced: Executor | None = None,
) -> tuple[dict[str, Tensor], Tensor]:
    """D step on processed reals [N, C, R, R]: terms of the loss; whether D was updated, bool []."""
    step = make_step(G, D, adam, loss, stage, dtype, traced)
    return step.d(reals, labels, draws), step.state.uncounted[-1][1]


def train_g(
    G: Generator,
    D: Discriminator,
    adam: Adam,
    loss: Loss,
    size: int,
    labels: Tensor | None,
    stage: Stage,
    draws: Any,
    dtype: torch.dtype,
    traced: Executor | None = None,
    reals: Tensor | None = None,
) -> tuple[dict[str, Tensor], Tensor]:
    """G step on `size` fresh latents: terms of the loss; whether G was updated, bool []."""
    step = make_step(G, D, adam, loss, stage, dtype, traced)
    assert size == step.size
    return step.g(labels, draws, reals), step.state.uncounted[-1][1]


def traced_step(
    G: Generator,
    D: Discriminator,
    loss: Loss,
    shape: ImageShape,
    stage: Stage,
    size: int,
    dtype: torch.dtype,
    kernels: bool = True,
    finish: Callable[[Sequence[Any]], Sequence[Any]] = launched,
) -> Traced:
    """Executor of a stage's steps, traced and with `kernels` compiled."""
    setup = setup_of(G, loss, dtype, shape.channels)
    adam = Adam(D.parameters(), OptimizerConfig())
    return Traced(setup, TrainingState(G, D, G, adam, adam, setup.numerics), stage, size, kernels, finish)
