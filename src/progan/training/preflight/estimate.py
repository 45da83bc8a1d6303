"""What a run will take, before it begins: arithmetic on networks that hold no numbers."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from progan import models
from progan.config import RunConfig
from progan.models import Discriminator, Generator, ImageShape
from progan.schedule import Phase, Schedule, Span
from progan.training.numerics import Numerics
from progan.training.preflight.memory import estimate

EFFICIENCY = 0.5
"""Share of a plain convolution's speed that a training step reaches (measured, benchmarks/estimates.py)."""
OVERHEAD = 0.003
"""Seconds per doubling of the resolution that a D or a G step takes however few images it has (measured there)."""


@dataclass(frozen=True)
class PlannedStage:
    """One line of the plan."""

    resolution: int
    phase: Phase
    images: int
    batch_size: int
    lr: float
    memory: int
    """Estimated bytes at the peak of a step."""
    seconds: float
    """Estimated."""


@dataclass(frozen=True)
class Plan:
    """A run before it begins."""

    stages: tuple[PlannedStage, ...]
    parameters: tuple[int, int]
    """Of G and of D."""
    disk: int
    """Bytes of states and snapshots."""
    precision: str = ""
    """For people: the one it has, or those that are to be tried."""
    notes: tuple[str, ...] = ()
    """What people should know before they begin."""

    @property
    def seconds(self) -> float:
        return sum(stage.seconds for stage in self.stages)

    @property
    def images(self) -> int:
        return sum(stage.images for stage in self.stages)


@dataclass(frozen=True)
class Work:
    """Floating-point operations of a forward pass of one image."""

    g_flops: float
    d_flops: float


def plan(config: RunConfig, shape: ImageShape, numerics: Numerics) -> Plan:
    """Stages with images, batch, memory and time, all estimated; nothing is trained."""
    schedule = Schedule(config.schedule)
    cost = seconds_per_image(config, shape, numerics)
    G, D = _hollow(config, shape)
    g_weights, d_weights = (sum(p.numel() for p in net.parameters()) for net in (G, D))
    stages = []
    for span, images in extents(schedule):
        resolution = span.resolution
        batch, lr = int(config.schedule.batch_size.at(resolution)), config.schedule.lr.at(resolution)
        memory = estimate(config, shape, numerics.precision, resolution, batch)
        stages.append(PlannedStage(resolution, span.phase, images, batch, lr, memory, images * cost[resolution]))
    resolutions = len({stage.resolution for stage in stages})
    states = 4 if config.health.on_divergence == "rewind" else 2  # and as many good ones to go back to
    disk = states * 4 * (4 * g_weights + 3 * d_weights) + resolutions * 4 * g_weights
    return Plan(tuple(stages), (g_weights, d_weights), disk)


def extents(schedule: Schedule) -> Iterator[tuple[Span, int]]:
    """Every stage the run reaches, with its number of images."""
    for span in schedule.spans:
        end = schedule.total_nimg if span is schedule.spans[-1] else min(span.end, schedule.total_nimg)
        if end > span.start:
            yield span, end - span.start


def seconds_per_image(config: RunConfig, shape: ImageShape, numerics: Numerics) -> dict[int, float]:
    """Estimated for every resolution of the run, from the work of an image and the speed of one convolution."""
    G, D = _hollow(config, shape)
    speed = EFFICIENCY * _convolution_speed(numerics)
    d_steps = config.schedule.d_steps
    costs = {}
    for resolution in {span.resolution for span in Schedule(config.schedule).spans}:
        flops = operations(config, shape, numerics.dtype, resolution, (G, D))
        overhead = OVERHEAD * math.log2(resolution) * (1 + d_steps) / config.schedule.batch_size.at(resolution)
        costs[resolution] = (flops / speed + overhead) / d_steps
    return costs


def operations(
    config: RunConfig, shape: ImageShape, dtype: torch.dtype, resolution: int, networks: tuple[Generator, Discriminator]
) -> float:
    """Floating-point operations of an iteration, for an image of the batch, at alpha 1."""
    work = _work(*networks, shape, resolution, dtype)
    # D's step: fakes g; forward and backward of reals and fakes 6 d; a penalty 6 d. G's step: 3 g and 2 d.
    d_work = work.g_flops + (12 if config.loss.penalised else 6) * work.d_flops
    return config.schedule.d_steps * d_work + 3 * work.g_flops + 2 * work.d_flops


def _hollow(config: RunConfig, shape: ImageShape) -> tuple[Generator, Discriminator]:
    with torch.device("meta"):
        return models.build(config.model, shape, seed=0)


def _work(G: Generator, D: Discriminator, shape: ImageShape, resolution: int, dtype: torch.dtype) -> Work:
    """Of one forward pass of each network at alpha 1."""
    batch = 4
    labels = torch.zeros(batch, shape.label_size, device="meta") if shape.label_size else None
    z = torch.zeros(batch, G.z_dim, device="meta", dtype=dtype)
    images = torch.zeros(batch, shape.channels, resolution, resolution, device="meta", dtype=dtype)
    return Work(count_operations(lambda: G(z, labels, resolution)) / batch, count_operations(lambda: D(images)) / batch)


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
    """Floating-point operations of a call."""
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
