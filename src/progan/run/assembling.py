"""All that a run trains with, as new or as its newest state has it."""

import dataclasses

import torch

from progan import losses
from progan.config import RunConfig
from progan.data.dataset import Dataset
from progan.models import ImageShape
from progan.progress import Say, warn
from progan.run_folder import RunFolder
from progan.schedule import Schedule
from progan.training import state as states
from progan.training.accelerate.traced import Tracer
from progan.training.feed import Feed
from progan.training.iteration import Job
from progan.training.numerics import Numerics, agree_on_numerics, choose_numerics, numerics_differences
from progan.training.parallel.processes import Processes
from progan.training.preflight import autotune


def numerics_of(
    config: RunConfig, shape: ImageShape, folder: RunFolder | None, say: Say, processes: Processes
) -> Numerics:
    """How the run is computed: as its newest state has it, or as `auto` finds it best, compiling left open.

    What is in the run folder only the first process reads, and tells the others. Raises DeviceError for what this
    machine lacks, RunError if a newer progan wrote the state.
    """
    now = choose_numerics(config.runtime, processes)
    recorded = states.StateFolder(folder.state).numerics() if processes.first and folder is not None else None
    if recorded is not None:
        now = dataclasses.replace(now, precision=recorded.precision, compiled=recorded.compiled)
    elif processes.first:
        now = autotune.decide_precision(config, shape, now, say)
    if recorded is not None and (changed := numerics_differences(recorded, now)):
        say(f"note: not the machine or versions the run began on ({', '.join(changed)}): the bits may differ")
    return agree_on_numerics(now, processes)


def assemble(
    config: RunConfig,
    dataset: Dataset,
    shape: ImageShape,
    folder: RunFolder,
    numerics: Numerics,
    say: Say,
    processes: Processes,
) -> tuple[Job, bool]:
    """Networks, optimisers and data, as new or as the newest state has them; whether it was a state."""
    state_folder = states.StateFolder(folder.state)
    if processes.first and state_folder.empty:
        numerics = autotune.decide_compiled(config, shape, numerics, say)
    numerics = agree_on_numerics(numerics, processes)
    state = states.new(config.model, config.optimizer, shape, config.runtime.seed, numerics)
    resumed = processes.first and not state_folder.empty
    if resumed:
        for problem in state_folder.restore(state):
            warn(f"warning: {problem}; going on from the one before")
        say(f"going on with {folder.path} at {state.cur_nimg / 1000:g} kimg")
    device, runtime = torch.device(numerics.device), config.runtime
    processes.use(device)
    states.agree(state, processes)
    feed = Feed(dataset, runtime.seed, device, runtime.workers, config.dataset.labels, processes)
    loss = losses.build(config.loss, dataset.label_kind or "class")
    tracer = Tracer(config, state.G, state.D, loss, shape, numerics, say)
    return Job(config, Schedule(config.schedule), loss, feed, state, state_folder, processes, tracer=tracer), resumed
