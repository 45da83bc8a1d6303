"""Whether the stages of a run fit into the memory, asked before the first step: estimated on a CPU, tried on a GPU."""

import dataclasses
import os
from collections.abc import Callable

import torch

from progan import losses
from progan.config import ProGANConfig, RunConfig
from progan.devices import free_on_gpu, release
from progan.errors import MemoryShortError
from progan.models import ImageShape
from progan.per_resolution import PerResolution
from progan.progress import Say
from progan.randomness import Rng
from progan.schedule import Schedule, Stage
from progan.training import state as states
from progan.training.accelerate.traced import Tracer
from progan.training.feed import RESIDENT_SHARE
from progan.training.numerics import Numerics
from progan.training.observers.run_files import sample
from progan.training.parallel.processes import ALONE, Processes
from progan.training.preflight import memory
from progan.training.step import average, process_reals, train_d, train_g

MARGIN = 0.2
"""By which the estimate may be off, either way (docs/memory.md)."""
PLENTY = 3
"""The margin with which, if the first of `largest_first` fits, the others are not looked at."""
BALLAST = 0.1
"""Of a GPU's free memory that a trial leaves alone: a long run's memory is less tidy than a short one's, and where a
convolution's workspace finds no room cuDNN takes another, which rounds otherwise."""

Fits = Callable[[int, int], bool]
"""Whether a stage of this resolution fits with a batch of this size, that of all processes together."""
Attempt = Callable[[RunConfig, ImageShape, Numerics, int, int, int], None]
"""`train_a_little`, or what stands for it."""


def ensure(
    config: RunConfig,
    shape: ImageShape,
    numerics: Numerics,
    level_bytes: Callable[[int], int],
    auto: bool,
    start: int,
    say: Say,
    processes: Processes = ALONE,
) -> RunConfig:
    """`check` on the device of the run, from `start` images on. `level_bytes` are those of all images of a resolution.

    On a CPU, what surely does not fit is refused, and what may not fit gets a warning of the same words.
    """
    size = processes.size
    if numerics.device != "cpu":
        return check(config, numerics, tried(config, shape, numerics, level_bytes, processes), auto, start, size)
    free = memory.free_bytes(torch.device("cpu"))
    if free is None:
        return config

    def fits(margin: float) -> Fits:
        return estimated(config, shape, numerics, free, margin, processes)

    if fits(PLENTY)(*largest_first(config, start)[0]):
        return config
    if auto:
        return check(config, numerics, fits(MARGIN), auto, start, size)
    check(config, numerics, fits(-MARGIN), auto, start, size)
    try:
        return check(config, numerics, fits(MARGIN), auto, start, size)
    except MemoryShortError as error:
        say(f"warning: perhaps {error}")
    return config


def check(config: RunConfig, numerics: Numerics, fits: Fits, auto: bool, start: int = 0, size: int = 1) -> RunConfig:
    """The configuration, if all stages from `start` images on fit; with smaller batches where `auto` allows them.

    Raises MemoryShortError with the batches that would fit. Batches stay multiples of `size` processes.
    """
    short = {}
    for resolution, batch in largest_first(config, start):
        if not fits(resolution, batch):
            short[resolution] = largest_fitting(config, fits, resolution, batch, size)
            if short[resolution] == 0:
                raise MemoryShortError(
                    f"{resolution}x{resolution} does not fit into the memory of {numerics.device} with any batch. Use "
                    "a smaller --resolution or narrower networks (--fmap-max, --fmap-base, --width)"
                )
    if not short:
        return config
    smaller = with_batches(config, short)
    if not auto:
        where = ", ".join(f"{config.schedule.batch_size.at(r):g} at {r}x{r}" for r in sorted(short))
        raise MemoryShortError(
            f"the memory of {numerics.device} is too small for a batch of {where}. This would fit: --batch-size "
            f"{smaller} (and --batch-size auto finds it)"
        )
    return dataclasses.replace(config, schedule=dataclasses.replace(config.schedule, batch_size=smaller))


def largest_first(config: RunConfig, start: int) -> list[tuple[int, int]]:
    """Resolutions of the stages after `start` images with their batches, those that take most memory first."""
    schedule = Schedule(config.schedule)
    ahead = {span.resolution for span in schedule.spans if span.end > start and span.start < schedule.total_nimg}
    batches = [(r, int(config.schedule.batch_size.at(r))) for r in ahead or {config.schedule.resolution}]
    return sorted(
        batches, key=lambda stage: (stage[0] * stage[1], stage[0]), reverse=True
    )  # maps halve where pixels double


def largest_fitting(config: RunConfig, fits: Fits, resolution: int, batch: int, size: int) -> int:
    """The largest batch below `batch` that fits: whole groups of the minibatch statistics if possible, else 0."""
    group = config.model.mbstd_group if isinstance(config.model, ProGANConfig) else 1
    for step in dict.fromkeys((size * max(group, 1), size)):
        low, high = 0, -(-batch // step)  # in steps: `low` fits, `high` does not
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if fits(resolution, middle * step) else (low, middle)
        if low:
            return low * step
    return 0


def with_batches(config: RunConfig, smaller: dict[int, int]) -> PerResolution:
    """The configuration's batch sizes with some of them replaced."""
    found: dict[int, float] = {}
    resolution = config.schedule.start_resolution
    while resolution <= config.schedule.resolution:
        batch = smaller.get(resolution, config.schedule.batch_size.at(resolution))
        if not found or batch != list(found.values())[-1]:
            found[resolution] = batch
        resolution *= 2
    return PerResolution.of(found)


def estimated(
    config: RunConfig, shape: ImageShape, numerics: Numerics, free: int, margin: float, processes: Processes = ALONE
) -> Fits:
    """By the estimate for a CPU, times 1 + margin. Processes on one machine share its memory.

    All processes must ask together; what does not fit on one machine does not fit.
    """
    here = int(os.environ.get("LOCAL_WORLD_SIZE", 1)) if processes.size > 1 else 1

    def fits(resolution: int, batch: int) -> bool:
        each = memory.estimate(config, shape, numerics.precision, resolution, -(-batch // processes.size))
        return not processes.any(here * each * (1 + margin) > free)

    return fits


def tried(
    config: RunConfig,
    shape: ImageShape,
    numerics: Numerics,
    level_bytes: Callable[[int], int],
    processes: Processes = ALONE,
    attempt: "Attempt | None" = None,
) -> Fits:
    """By training on networks that are thrown away, with the images held on the device as the run would hold them.

    All processes must ask together; what does not fit in one of them does not fit.
    """
    train = attempt or train_a_little

    def fits(resolution: int, batch: int) -> bool:
        failed = False
        try:
            train(config, shape, numerics, resolution, -(-batch // processes.size), level_bytes(resolution))
        except (MemoryError, RuntimeError) as error:
            if not memory.ran_out(error):
                raise
            failed = True
        release(torch.device(numerics.device))
        return not processes.any(failed)

    return fits


def train_a_little(
    config: RunConfig, shape: ImageShape, numerics: Numerics, resolution: int, batch: int, held: int
) -> None:
    """Two iterations in the middle of a fade and a sample grid, on networks of their own; no random number is lost."""
    device = torch.device(numerics.device)
    ballast = None
    if device.type == "cuda":
        free = free_on_gpu(device)
        images = held if held < RESIDENT_SHARE * free else 0
        ballast = torch.empty(images + int(BALLAST * free), dtype=torch.uint8, device=device)
    state = states.new(config.model, config.optimizer, shape, config.runtime.seed, numerics)
    loss = losses.build(config.loss)
    fades = resolution > config.schedule.start_resolution
    stage = Stage(resolution, "fade" if fades else "stable", 0.5 if fades else 1.0, batch, 0.001, 0.001)
    labels = torch.zeros(batch, shape.label_size, device=device) if shape.label_size else None
    step = Tracer(config, state.G, state.D, loss, shape, numerics).step(stage, batch, kernels=False)
    for i in range(2):
        rng = Rng(config.runtime.seed, i, "D", device)
        pixels = torch.zeros(batch, shape.channels, resolution, resolution, dtype=torch.uint8, device=device)
        reals = process_reals(pixels, stage.alpha)
        train_d(state.G, state.D, state.d_optimizer, loss, reals, labels, stage, rng, numerics.dtype, traced=step)
        average(state.G_ema, state.G, config.optimizer.ema_decay)
        train_g(state.G, state.D, state.g_optimizer, loss, batch, labels, stage, rng, numerics.dtype, traced=step)
    rows = torch.zeros(64, shape.label_size) if shape.label_size else None
    sample(state, stage, torch.zeros(64, state.G.z_dim), rows)
    del ballast


def after_all(config: RunConfig, shape: ImageShape, numerics: Numerics, stage: Stage) -> str:
    """What to say of the batch where memory ran out in training, when all of it has been given back."""
    device = torch.device(numerics.device)
    release(device)
    free = memory.free_bytes(device)
    batch, said = stage.batch_size, f"out of memory at {stage.resolution}x{stage.resolution} with a batch of "
    if numerics.device == "cpu" and free is not None:
        fits = estimated(config, shape, numerics, free, MARGIN)
    else:
        fits = tried(config, shape, numerics, lambda resolution: 0)
    smaller = largest_fitting(config, fits, stage.resolution, batch, 1)
    advice = f"{smaller} would fit: --batch-size {with_batches(config, {stage.resolution: smaller})}"
    return f"{said}{batch}; {advice if smaller else 'no smaller one would fit either'}"
