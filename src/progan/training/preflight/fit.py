"""Fit of a run's stages into the memory, checked before the first step: estimated on a CPU, tried on a GPU."""

import itertools
import os
from collections.abc import Callable
from dataclasses import replace

import torch

from progan.config import RunConfig
from progan.devices import free_bytes, free_on_gpu, is_out_of_memory, release
from progan.errors import MemoryShortError
from progan.per_resolution import PerResolution
from progan.progress import silent
from progan.schedule import Stage
from progan.training.accelerate.traced import Executors
from progan.training.feed import RESIDENT_SHARE, Reals, Request
from progan.training.loop import iterate
from progan.training.meter import Meter, Tally
from progan.training.observers.run_files import sample
from progan.training.preflight.memory import estimate
from progan.training.setup import RunSetup
from progan.training.state import TrainingState
from progan.training.step import Step

MARGIN = 0.2
"""Relative error of the estimate, either way (docs/memory.md)."""
PLENTY = 3
"""Margin with which, if the largest stage fits, the others are not looked at."""
BALLAST = 0.1
"""Fraction of a GPU's free memory that a trial leaves alone: a long run's memory is less tidy than a short one's, and
where a convolution's workspace finds no room cuDNN takes another, which rounds otherwise."""

Fits = Callable[[int, int], bool]
"""True if a stage of this resolution fits with this batch size, that of all processes together."""
Attempt = Callable[[RunSetup, int, int, int], None]
"""`train_a_little`, or a stand-in for it."""


def ensure(setup: RunSetup, level_bytes: Callable[[int], int], auto: bool, start: int) -> RunConfig:
    """Configuration of the setup, after `check` on its device of the stages from `start` images on.

    `level_bytes` are those of all images of a resolution. On a CPU, what surely does not fit is refused, and what may
    not fit gets a warning of the same words.
    """
    if setup.numerics.device != "cpu":
        return check(setup, tried(setup, level_bytes), auto, start)
    free = free_bytes(torch.device("cpu"))
    if free is None or estimated(setup, free, PLENTY)(*largest_first(setup, start)[0]):
        return setup.config
    if auto:
        return check(setup, estimated(setup, free, MARGIN), auto, start)
    check(setup, estimated(setup, free, -MARGIN), auto, start)
    try:
        return check(setup, estimated(setup, free, MARGIN), auto, start)
    except MemoryShortError as error:
        setup.log(f"warning: perhaps {error}")
    return setup.config


def check(setup: RunSetup, fits: Fits, auto: bool, start: int = 0) -> RunConfig:
    """Configuration of the setup if all stages from `start` images on fit, with smaller batches where `auto` is set.

    Raises MemoryShortError with the batches that would fit. Batches stay multiples of the number of processes.
    """
    device, short = setup.numerics.device, {}
    for resolution, batch in largest_first(setup, start):
        if not fits(resolution, batch):
            short[resolution] = largest_fitting(setup, fits, resolution, batch)
            if short[resolution] == 0:
                raise MemoryShortError(
                    f"{resolution}x{resolution} does not fit into the memory of {device} with any batch. Use a smaller "
                    "--resolution or narrower networks (--fmap-max, --fmap-base, --width)"
                )
    if not short:
        return setup.config
    smaller = with_batches(setup, short)
    if not auto:
        where = ", ".join(f"{setup.batch_size(r)} at {r}x{r}" for r in sorted(short))
        raise MemoryShortError(
            f"the memory of {device} is too small for a batch of {where}. This would fit: --batch-size {smaller} (and "
            "--batch-size auto finds it)"
        )
    return replace(setup.config, schedule=replace(setup.config.schedule, batch_size=smaller))


def largest_first(setup: RunSetup, start: int) -> list[tuple[int, int]]:
    """Resolutions of the stages after `start` images with their batches, those that use most memory first."""
    schedule = setup.schedule
    ahead = {span.resolution for span in schedule.spans if span.end > start and span.start < schedule.total_nimg}
    batches = [(r, setup.batch_size(r)) for r in ahead or {setup.config.schedule.resolution}]
    return sorted(batches, key=lambda stage: (stage[0] * stage[1], stage[0]), reverse=True)  # maps halve, pixels double


def largest_fitting(setup: RunSetup, fits: Fits, resolution: int, batch: int) -> int:
    """Largest batch below `batch` that fits, of whole groups of the minibatch statistics if possible; else 0."""
    size = setup.processes.size
    group = setup.config.model.group_size
    for step in dict.fromkeys((size * group, size)):
        low, high = 0, -(-batch // step)  # in steps: `low` fits, `high` does not
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if fits(resolution, middle * step) else (low, middle)
        if low:
            return low * step
    return 0


def with_batches(setup: RunSetup, smaller: dict[int, int]) -> PerResolution:
    """Batch sizes of the configuration with some of them replaced."""
    found: dict[int, float] = {}
    resolution = setup.config.schedule.start_resolution
    while resolution <= setup.config.schedule.resolution:
        batch = smaller.get(resolution, setup.batch_size(resolution))
        if not found or batch != list(found.values())[-1]:
            found[resolution] = batch
        resolution *= 2
    return PerResolution.of(found)


def estimated(setup: RunSetup, free: int, margin: float) -> Fits:
    """Fit by the estimate for a CPU, times 1 + margin. Processes on one machine share its memory.

    All processes must ask together; what does not fit on one machine does not fit.
    """
    return lambda resolution, batch: not setup.processes.any((1 + margin) * needed(setup, resolution, batch) > free)


def needed(setup: RunSetup, resolution: int, batch: int) -> int:
    """Bytes that all processes on this machine take for a stage, by the estimate for a CPU."""
    here = int(os.environ.get("LOCAL_WORLD_SIZE", 1)) if setup.processes.size > 1 else 1
    return here * estimate(setup, resolution, -(-batch // setup.processes.size))


def tried(setup: RunSetup, level_bytes: Callable[[int], int], attempt: Attempt | None = None) -> Fits:
    """Fit by training networks that are thrown away, with the images held on the device as the run would hold them.

    All processes must ask together; what does not fit in one of them does not fit.
    """
    train = attempt or train_a_little

    def fits(resolution: int, batch: int) -> bool:
        failed = False
        try:
            train(setup, resolution, -(-batch // setup.processes.size), level_bytes(resolution))
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            failed = True
        release(setup.device)
        return not setup.processes.any(failed)

    return fits


def train_a_little(setup: RunSetup, resolution: int, batch: int, held: int) -> None:
    """Two iterations in the middle of a fade and a sample grid, with `held` bytes of images beside them."""
    ballast = None
    if setup.device.type == "cuda":
        free = free_on_gpu(setup.device)
        images = held if held < RESIDENT_SHARE * free else 0
        ballast = torch.empty(images + int(BALLAST * free), dtype=torch.uint8, device=setup.device)
    fades = resolution > setup.config.schedule.start_resolution
    stage = Stage(resolution, "fade" if fades else "stable", 0.5 if fades else 1.0, batch, 0.001, 0.001)
    state, train = trial(setup, stage)
    for _ in range(2):
        train()
    rows = torch.zeros(64, setup.shape.label_size) if setup.shape.label_size else None
    sample(state, stage, torch.zeros(64, state.G.z_dim), rows)
    del ballast


def trial(setup: RunSetup, stage: Stage, compiled: bool = False) -> tuple[TrainingState, Callable[[], None]]:
    """New networks, and a function that trains them for an iteration on grey images, as runs do that are not compiled,
    or are.

    One process alone, without the random numbers of the run, and only with its messages on compiling.
    """
    numerics = replace(setup.numerics, compiled=(stage.resolution,) if compiled else ())
    alone = RunSetup(setup.config, setup.shape, numerics, log=setup.log if compiled else silent)
    state, size, r = TrainingState.new(alone), stage.batch_size, stage.resolution
    step = Step(alone, state, stage, Executors(alone, state).of(stage))
    pixels = torch.full((size, setup.shape.channels, r, r), 100, dtype=torch.uint8, device=setup.device)
    labels = torch.zeros(size, state.G.label_size, device=setup.device) if state.G.label_size else None
    batches = (Reals(Request(r, start, size), pixels, labels) for start in itertools.count(0, size))
    starts, meter = itertools.count(0, size * setup.config.schedule.d_steps), Meter(Tally(), setup.device)
    return state, lambda: iterate(step, batches, lambda rng, n: labels, next(starts), meter)


def after_all(setup: RunSetup, stage: Stage) -> str:
    """Words on the batch where memory ran out in training, when all of it has been given back."""
    release(setup.device)
    free = free_bytes(setup.device)
    if setup.numerics.device == "cpu" and free is not None:
        fits = estimated(setup, free, MARGIN)
    else:
        fits = tried(setup, lambda resolution: 0)
    smaller = largest_fitting(setup, fits, stage.resolution, stage.batch_size)
    said = f"out of memory at {stage.resolution}x{stage.resolution} with a batch of {stage.batch_size}; "
    if not smaller:
        return said + "no smaller one would fit either"
    return f"{said}{smaller} would fit: --batch-size {with_batches(setup, {stage.resolution: smaller})}"
