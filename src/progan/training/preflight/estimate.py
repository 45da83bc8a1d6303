"""Plan of a run before it begins: stages, time, memory and disk, by arithmetic on networks without values."""

import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from progan import models
from progan.config import BaseModelConfig, RunConfig
from progan.models import Discriminator, Generator
from progan.progress import duration
from progan.schedule import Phase, Schedule
from progan.training.numerics import Numerics
from progan.training.preflight.memory import estimate
from progan.training.setup import RunSetup

EFFICIENCY = 0.5
"""Fraction of a plain convolution's speed that a training step reaches (measured, benchmarks/estimates.py)."""
TRUST, HALF = 10.0, 600.0
"""Seconds, see `Pace`."""
LONG, DAY = 3600.0, 24 * 3600.0
"""Seconds of a run from which on it is said how to make it shorter, and from which on what else takes less."""
OVERHEAD = 0.003
"""Seconds per doubling of the resolution that a D or a G step takes however few images it has (measured there)."""


@dataclass(frozen=True)
class PlannedStage:
    """Line of a plan."""

    resolution: int
    phase: Phase
    images: int
    batch_size: int
    iterations: int
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
        iterations = -(-images // (batch * config.schedule.d_steps))
        stages.append(PlannedStage(resolution, span.phase, images, batch, iterations, lr, memory, seconds))
    resolutions = len({stage.resolution for stage in stages})
    states = 4 if config.health.on_divergence == "rewind" else 2  # and as many good ones to go back to
    every = config.runtime.snapshot_kimg
    snapshots = resolutions + (0 if every is None else int(setup.schedule.total_nimg / (1000 * every)))
    disk = states * 4 * (4 * g_weights + 3 * d_weights) + snapshots * 4 * g_weights
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


def build_seconds(resolution: int) -> float:
    """Seconds that compiling one stage's step takes, about (measured, docs/performance.md)."""
    return 10 + 8 * math.log2(resolution / 4)


class Pace:
    """Time that a run takes: foreseen for each resolution, and corrected by what its stages are measured to take.

    Every estimate is multiplied by measured over foreseen seconds, first of all resolutions together, then of its own;
    TRUST seconds in which it was right are added to both, so that no short measurement decides. What lies HALF seconds
    of training back counts half.
    """

    def __init__(self, schedule: Schedule, cost: Mapping[int, float], builds: Mapping[int, float]) -> None:
        self._schedule, self._cost, self._builds = schedule, cost, builds
        self._seconds: dict[int, tuple[float, float]] = {}
        """Measured and foreseen seconds of training at each resolution, the older the less."""
        self._built: dict[tuple[int, Phase], float] = {}

    def become(self, other: "Pace") -> None:
        """Take the estimates of another, before anything is measured."""
        self._schedule, self._cost, self._builds = other._schedule, other._cost, other._builds

    def measure(self, resolution: int, images: int, seconds: float) -> None:
        """Note that so many images took so long, with all that is done beside training."""
        weight = 0.5 ** (seconds / HALF)
        for other, (measured, foreseen) in self._seconds.items():
            self._seconds[other] = weight * measured, weight * foreseen
        measured, foreseen = self._seconds.get(resolution, (0.0, 0.0))
        self._seconds[resolution] = measured + seconds, foreseen + images * self._cost[resolution]

    def follow(self, lines: Iterable[Mapping[str, Any]]) -> "Pace":
        """Note what the lines of a stats.jsonl say; itself."""
        images, seconds = 0, 0.0
        for line in lines:
            now, elapsed, resolution = line["cur_nimg"], line.get("elapsed"), line.get("resolution")
            if not isinstance(elapsed, int | float) or not isinstance(resolution, int) or resolution not in self._cost:
                continue
            if now > images and elapsed > seconds:
                self.measure(resolution, now - images, elapsed - seconds)
            images, seconds = now, elapsed
        return self

    def built(self, stage: tuple[int, Phase], seconds: float) -> None:
        """Note how long compiling a stage's step took."""
        self._built[stage] = seconds

    def build(self, resolution: int) -> float:
        """Seconds that compiling one stage's step will take."""
        known = [(seconds, self._foreseen_build(resolution)) for (resolution, _), seconds in self._built.items()]
        return self._foreseen_build(resolution) * _correction(known)

    def over(self, schedule: Schedule | None = None) -> "Pace":
        """The same for this or another schedule of the same stages, before anything is measured."""
        return Pace(schedule or self._schedule, self._cost, self._builds)

    def left(self, cur_nimg: int) -> float:
        """Seconds from here to the end: of training, and of compiling the stages that are still to come."""
        return self.training(cur_nimg) + self.building(cur_nimg)

    def training(self, cur_nimg: int) -> float:
        """Seconds of training from here to the end."""
        everywhere = _correction(self._seconds.values())
        total = 0.0
        for span, images in self._schedule.extents():
            cost = self._cost[span.resolution] * _correction([self._seconds.get(span.resolution, (0, 0))], everywhere)
            total += max(0, span.start + images - max(span.start, cur_nimg)) * cost
        return total

    def building(self, cur_nimg: int) -> float:
        """Seconds of compiling the stages that are still to come."""
        return sum(
            self.build(span.resolution)
            for span, images in self._schedule.extents()
            if span.resolution in self._builds
            and (span.resolution, span.phase) not in self._built
            and span.start + images > cur_nimg
        )

    def _foreseen_build(self, resolution: int) -> float:
        return self._builds.get(resolution) or build_seconds(resolution)


def _correction(known: Iterable[tuple[float, float]], prior: float = 1.0) -> float:
    """Factor of estimates: of pairs of measured and foreseen seconds, and TRUST seconds in which `prior` was right."""
    pairs = list(known)
    return (prior * TRUST + sum(pair[0] for pair in pairs)) / (TRUST + sum(pair[1] for pair in pairs))


def announcement(config: RunConfig, pace: Pace, cur_nimg: int, shorten: bool = False) -> list[str]:
    """Lines on how long a run will take, where it is more than a minute; `shorten`: and how to make it shorter."""
    seconds, building = pace.left(cur_nimg), pace.building(cur_nimg)
    compiling = f", {duration(building)} of it to compile" if building else ""
    if (long := too_long(config, seconds)) is not None:
        return [long]
    shorter = "; a new run with --minutes 30 is shorter" if shorten and seconds > LONG else ""
    return [f"this will take about {duration(seconds)}{compiling}{shorter}"] if seconds > 60 else []


def too_long(config: RunConfig, seconds: float) -> str | None:
    """A line on a run that takes more than a day, with what takes less; None for others."""
    if seconds <= DAY:
        return None
    narrower = _narrower(config.model)
    return (
        f"note: this run will take about {duration(seconds)} here. Less takes: "
        f"{f'narrower networks ({narrower}), ' if narrower else ''}"
        f"{'' if config.preset == 'quickstart' else 'a smaller preset (quickstart), '}"
        "a given time (--minutes 60), or a GPU (--device cuda)"
    )


def _narrower(model: BaseModelConfig) -> str | None:
    """Option that makes networks narrower; None where they are narrow, and for models that have no such option."""
    if hasattr(model, "width"):
        return "--width"
    if getattr(model, "fmaps", None) is not None:  # which --fmap-max does not change
        return "--fmaps"
    most = getattr(model, "fmap_max", 0)
    return f"--fmap-max {max(16, most // 4)}" if most > 16 else None


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
