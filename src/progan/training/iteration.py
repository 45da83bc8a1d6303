"""One training iteration: the batches it takes, and the step that computes its gradients."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import torch
from torch.profiler import record_function

from progan.config import RunConfig
from progan.files import PendingWrites
from progan.losses import Loss
from progan.progress import warn
from progan.randomness import Rng
from progan.schedule import Schedule, Stage
from progan.training.accelerate.traced import Tracer
from progan.training.feed import Batch, Feed, Request
from progan.training.meter import Meter
from progan.training.parallel.processes import ALONE, Processes
from progan.training.state import StateFolder, TrainingState
from progan.training.step import Traced, average, process_reals, train_d, train_g


@dataclass(frozen=True)
class Job:
    """What is to be trained with what."""

    config: RunConfig
    schedule: Schedule
    loss: Loss
    feed: Feed
    state: TrainingState
    states: StateFolder
    processes: Processes = ALONE
    outputs: PendingWrites = field(default_factory=lambda: PendingWrites(warn))
    tracer: Tracer | None = None

    @property
    def dropout(self) -> float | None:
        """D's, as configured; None for a model without."""
        found: float | None = getattr(self.config.model, "dropout", None)
        return found


def requests(schedule: Schedule, cur_nimg: int) -> Iterator[Request]:
    """Every batch of the rest of the run, in the order in which `iterate` takes them."""
    for block in schedule.walk(cur_nimg):
        stage = block.stage
        for start in block.iterations:
            for i in range(schedule.config.d_steps):
                yield Request(stage.resolution, start + i * stage.batch_size, stage.batch_size)


def traced_step(job: Job, stage: Stage, meter: Meter) -> Traced | None:
    """The step of the stage; None where a process is eager. That it cannot be compiled becomes part of the state."""
    numerics, size = job.state.numerics, stage.batch_size // job.processes.size
    kernels = stage.resolution in numerics.compiled
    if job.tracer is None:
        return None
    if job.tracer.has(stage, size, kernels):
        return job.tracer.step(stage, size, kernels)
    with meter.aside():
        step = job.tracer.step(stage, size, kernels)
        failed = job.processes.any(step is None)
    if failed and kernels:
        left = tuple(resolution for resolution in numerics.compiled if resolution != stage.resolution)
        job.state.numerics = replace(numerics, compiled=left)
        return traced_step(job, stage, meter)
    if failed:
        job.tracer.drop()
        return None
    return step


def iterate(
    job: Job, stage: Stage, cur_nimg: int, batches: Iterator[Batch], meter: Meter, traced: Traced | None
) -> None:
    """`d_steps` D steps, each followed by the average of G, then one G step."""
    state, config, size, processes = job.state, job.config, stage.batch_size, job.processes
    share, where = size // processes.size, (processes.rank, processes.size)
    device, dtype = torch.device(state.numerics.device), state.numerics.dtype
    for i in range(config.schedule.d_steps):
        with meter.waiting(), record_function("data"):
            pixels, labels = next(batches)
        rng = Rng(config.runtime.seed, cur_nimg + i * size, "D", device, *where)
        mirrored = rng.uniform(share) if config.dataset.mirror else None
        reals = process_reals(pixels, stage.alpha, mirrored)
        with record_function("D step"):
            terms, updated = train_d(
                state.G, state.D, state.d_optimizer, job.loss, reals, labels, stage, rng, dtype, processes, traced
            )
        state.count("D", updated)
        with record_function("average"):
            average(state.G_ema, state.G, config.optimizer.ema_decay)
        meter.add("D", terms, images=size)
    rng = Rng(config.runtime.seed, cur_nimg, "G", device, *where)
    labels = job.feed.labels(rng.integers(share, job.feed.count)) if config.dataset.labels else None
    with record_function("G step"):
        terms, updated = train_g(
            state.G, state.D, state.g_optimizer, job.loss, share, labels, stage, rng, dtype, processes, traced
        )
    state.count("G", updated)
    meter.add("G", terms)
