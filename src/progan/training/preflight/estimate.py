"""Plan of a run before it begins: stages, time, memory and disk, by arithmetic on networks without values."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from progan import models
from progan.models import Discriminator, Generator
from progan.schedule import Phase
from progan.training.numerics import Numerics
from progan.training.preflight.memory import estimate
from progan.training.setup import RunSetup

EFFICIENCY = 0.5
"""Fraction of a plain convolution's speed that a training step reaches (measured, benchmarks/estimates.py)."""
OVERHEAD = 0.003
"""Seconds per doubling of the resolution that a D or a G step takes however few images it has (measured there)."""


@dataclass(frozen=True)
class PlannedStage:
    """Line of a plan."""

    resolution: int
    phase: Phase
    images: int
    batch_size: int
    lr: float
    memory: int
    """Bytes at the peak of a step, estimated."""
    seconds: float
    """Seconds of training, estimated."""


@dataclass(frozen=True)
class Plan:
    """Estimated stages, time and size of a run."""

    stages: tuple[PlannedStage, ...]
    parameters: tuple[int, int]
    """Number of parameters of G and of D."""
    disk: int
    """Bytes of states and snapshots on the disk."""
    precision: str = ""
    """Precision, or those that are to be tried, in words."""
    notes: tuple[str, ...] = ()
    """Sentences on what to know before the run begins."""

    @property
    def seconds(self) -> float:
        return sum(stage.seconds for stage in self.stages)

    @property
    def images(self) -> int:
        return sum(stage.images for stage in self.stages)


def plan(setup: RunSetup) -> Plan:
    """Stages with images, batch, memory and time, all estimated; nothing is trained."""
    config, cost = setup.config, seconds_per_image(setup)
    G, D = _without_values(setup)
    g_weights, d_weights = (sum(p.numel() for p in net.parameters()) for net in (G, D))
    stages = []
    for span, images in setup.schedule.extents():
        resolution, batch = span.resolution, setup.batch_size(span.resolution)
        memory, seconds = estimate(setup, resolution, batch), images * cost[resolution]
        lr = config.schedule.lr.at(resolution)
        stages.append(PlannedStage(resolution, span.phase, images, batch, lr, memory, seconds))
    resolutions = len({stage.resolution for stage in stages})
    states = 4 if config.health.on_divergence == "rewind" else 2  # and as many good ones to go back to
    disk = states * 4 * (4 * g_weights + 3 * d_weights) + resolutions * 4 * g_weights
    return Plan(tuple(stages), (g_weights, d_weights), disk)


def seconds_per_image(setup: RunSetup) -> dict[int, float]:
    """Estimated seconds at every resolution of a run, from the work of an image and the speed of one convolution."""
    networks, schedule = _without_values(setup), setup.config.schedule
    speed = EFFICIENCY * _convolution_speed(setup.numerics)
    costs = {}
    for resolution in {span.resolution for span in setup.schedule.spans}:
        flops = operations(setup, resolution, networks)
        overhead = OVERHEAD * math.log2(resolution) * (1 + schedule.d_steps) / schedule.batch_size.at(resolution)
        costs[resolution] = (flops / speed + overhead) / schedule.d_steps
    return costs


def operations(setup: RunSetup, resolution: int, networks: tuple[Generator, Discriminator]) -> float:
    """Floating-point operations of an iteration, per image of the batch, at alpha 1."""
    (G, D), shape, dtype, batch = networks, setup.shape, setup.numerics.dtype, 4
    labels = torch.zeros(batch, shape.label_size, device="meta") if shape.label_size else None
    z = torch.zeros(batch, G.z_dim, device="meta", dtype=dtype)
    images = torch.zeros(batch, shape.channels, resolution, resolution, device="meta", dtype=dtype)
    g, d = (count_operations(call) / batch for call in (lambda: G(z, labels, resolution), lambda: D(images)))
    # D's step: fakes g; forward and backward of reals and fakes 6 d; a penalty 6 d, in one of k steps where it is lazy.
    # G's step: 3 g and 2 d, and d for reals where the loss wants them.
    loss, every = setup.config.loss, setup.config.optimizer.penalty_every
    d_step = g + 6 * d + (6 * d / every if loss.penalised else 0)
    return setup.config.schedule.d_steps * d_step + 3 * g + (3 if loss.wants_reals else 2) * d


def _without_values(setup: RunSetup) -> tuple[Generator, Discriminator]:
    with torch.device("meta"):
        return models.build(setup.config.model, setup.shape, seed=0)


class Operations(TorchDispatchMode):
    """Counts floating-point operations as PyTorch's FlopCounterMode does, which fails at gradients of gradients."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if (formula := flop_registry.get(func._overloadpacket)) is not None:
            self.count += formula(*args, **(kwargs or {}), out_val=out)
        return out


def count_operations(call: Callable[[], object]) -> int:
    """Number of floating-point operations of a call."""
    with Operations() as operations:
        call()
    return int(operations.count)


def _convolution_speed(numerics: Numerics) -> float:
    """Floating-point operations a second of a 3x3 convolution of middling size."""
    device, size = torch.device(numerics.device), 32 if numerics.device == "cpu" else 128
    x, weight = (
        torch.randn(shape, device=device, dtype=numerics.dtype).to(memory_format=torch.channels_last)
        for shape in ((8, 128, size, size), (128, 128, 3, 3))
    )
    best = math.inf
    for _ in range(4):  # the first is slow
        start = time.perf_counter()
        for _ in range(3):
            out = torch.nn.functional.conv2d(x, weight, padding=1)
        out.float().sum().item()  # waits for a GPU
        best = min(best, time.perf_counter() - start)
    return 3 * 2 * x.numel() * 128 * 9 / best
