"""All that a run trains with, as new or as its newest state has it."""

import dataclasses

import torch

from progan import losses
from progan.config import RunConfig
from progan.data.dataset import Dataset
from progan.models import ImageShape
from progan.progress import Say, warn
from progan.runfolder import RunFolder
from progan.schedule import Schedule
from progan.training import precision, tuning
from progan.training import state as states
from progan.training.distributed import Processes
from progan.training.feed import Feed
from progan.training.iteration import Job
from progan.training.precision import Numerics
from progan.training.tracing import Tracer


def numerics_of(
    config: RunConfig, shape: ImageShape, folder: RunFolder | None, say: Say, processes: Processes
) -> Numerics:
    """How the run is computed: as its newest state has it, or as `auto` finds it best, compiling left open.

    What is in the run folder only the first process reads, and tells the others. Raises DeviceError for what this
    machine lacks, RunError if a newer progan wrote the state.
    """
    now = precision.choose(config.runtime, processes)
    recorded = states.StateFolder(folder.state).numerics() if processes.first and folder is not None else None
    if recorded is not None:
        now = dataclasses.replace(now, precision=recorded.precision, compiled=recorded.compiled)
    elif processes.first:
        now = tuning.decide_precision(config, shape, now, say)
    if recorded is not None and (changed := precision.differences(recorded, now)):
        say(f"note: not the machine or versions the run began on ({', '.join(changed)}): the bits may differ")
    return precision.agree(now, processes)


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
        numerics = tuning.decide_compiled(config, shape, numerics, say)
    numerics = precision.agree(numerics, processes)
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
