"""What the processes of test_distributed.py do: short runs in float64, whose numbers they leave in files."""

import functools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import safetensors.torch
import torch
import torch.distributed as dist
from torch import Tensor

from progan.config import (
    DatasetConfig,
    HingeConfig,
    MinimaxConfig,
    OptimizerConfig,
    ProGANConfig,
    RelativisticConfig,
    RunConfig,
    ScheduleConfig,
    WganConfig,
)
from progan.data.dataset import Dataset
from progan.per_resolution import per_resolution
from progan.run.assemble import image_shape
from progan.training import loop, step
from progan.training import state as states
from progan.training.feed import Feed
from progan.training.loop import Job
from progan.training.numerics import Numerics
from progan.training.observers.base import Observer
from progan.training.parallel.processes import ALONE, Processes, Several
from progan.training.setup import RunSetup

# Eight iterations: three at 4x4, three in the fade, two after it, and a reset of the optimisers at each change.
CONFIG = RunConfig(
    dataset=DatasetConfig(mirror=True, labels=True),
    schedule=ScheduleConfig(
        resolution=8,
        stable_kimg=per_resolution(0.032),
        fade_kimg=per_resolution(0.064),
        total_kimg=0.128,
        batch_size=per_resolution(16),
        lr=per_resolution(0.01),
    ),
    optimizer=OptimizerConfig(beta1=0.5),
    model=ProGANConfig(z_dim=8, fmap_base=64, fmap_max=8),
)
OTHERS = {
    "relativistic": replace(CONFIG, loss=RelativisticConfig()),
    "hinge": replace(CONFIG, loss=HingeConfig(r1_weight=2.0)),
    "minimax": replace(CONFIG, loss=MinimaxConfig(r1_weight=2.0)),
    "wgan": replace(CONFIG, loss=WganConfig(clip_weight=0.1)),
    "lazy": replace(CONFIG, optimizer=OptimizerConfig(beta1=0.5, penalty_every=2)),
    "ada": replace(CONFIG, dataset=DatasetConfig(labels=True, augment="ada", ada_target=-0.9, ada_kimg=0.1)),
}
"""Runs whose losses have what the first one's has not."""
BIG = 8 * 2**20
"""Floats: more than a bucket of gradients."""


class Double(Numerics):
    """Everything in float64, which no option asks for."""

    dtype = torch.float64


class Watcher(Observer):
    """Keeps every gradient of every iteration, and the losses of every tick."""

    def __init__(self) -> None:
        self.seen: dict[str, Tensor] = {}

    def on_start(self, state, stage):
        self._state = state

    def on_progress(self, cur_nimg, stage):
        for part, network in (("G", self._state.G), ("D", self._state.D)):
            for name, parameter in network.named_parameters():
                if parameter.grad is not None:
                    self.seen[f"{cur_nimg}.{part}.{name}"] = parameter.grad.clone(memory_format=torch.contiguous_format)

    def on_tick(self, tick, state):
        for name, value in tick.losses.items():
            self.seen[f"{tick.cur_nimg}.{name}"] = torch.tensor(value, dtype=torch.float64)


def make(data: Path, folder: Path, processes: Processes = ALONE, config: RunConfig = CONFIG) -> Job:
    """The job, from the newest state in the folder where there is one."""
    dataset = Dataset.open(data)
    numerics = Double("cpu", "fp32", 1, torch.__version__, processes.size)
    setup = RunSetup(
        config, image_shape(config, dataset), numerics, processes, label_kind=dataset.label_kind or "class"
    )
    state = states.TrainingState.new(setup)
    for network in (state.G, state.D, state.G_ema):
        network.double()
    kept = states.StateFolder(folder / "state")
    if processes.first and not kept.empty:
        assert kept.restore(state) == []
    states.share(state, processes)
    return Job(setup, Feed(setup, dataset), state, kept)


def train(job: Job, stop: Callable[[], bool] = lambda: False, poison: int | None = None) -> dict[str, Tensor]:
    """Run the job and return all its numbers. The reals of D's step number `poison` are made NaN."""
    original, steps = step.process_reals, iter(range(1000))

    def process_reals(pixels, alpha, mirrored=None):
        reals = original(pixels, alpha, mirrored).double()
        return reals * float("nan") if next(steps) == poison else reals

    watcher = Watcher()
    with patch.object(step, "process_reals", process_reals):
        loop.train(job, [watcher], stop)
    return {**safetensors.torch.load(job.state.serialize()), **watcher.seen}


def after(blocks: int) -> Callable[[], bool]:
    """A request to stop that comes after so many blocks."""
    asked = iter(range(1, 1000))
    return lambda: next(asked) >= blocks


def process(rank: int, size: int, folder: Path, data: Path) -> None:
    """One of `size` processes: every run that the tests look at."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder / f'store-{size}'}", rank=rank, world_size=size)
    processes = Several()
    begin = functools.partial(make, data, processes=processes)
    mine = folder / f"{size}-{rank}"
    mine.mkdir()

    safetensors.torch.save_file(train(begin(mine / "whole")), mine / "whole.safetensors")
    if size == 2:
        for name, config in OTHERS.items():
            safetensors.torch.save_file(train(begin(mine / name, config=config)), mine / f"{name}.safetensors")
        _average(rank, processes)
        _poisoned(begin(mine / "poisoned"), rank)
        _buffers(begin(mine / "buffers"), rank)
        train(begin(folder / "resumed" if rank == 0 else mine / "resumed"), after(3 if rank == 1 else 1000))
    else:
        safetensors.torch.save_file(train(begin(folder / "resumed")), mine / "resumed.safetensors")
    processes.wait()
    dist.destroy_process_group()


def _average(rank: int, processes: Processes) -> None:
    a = torch.full((2, 3, 4, 4), float(rank)).to(memory_format=torch.channels_last)
    a[1, 2, 3, 0] += 8
    b = torch.tensor([rank, float("nan") if rank else 1.0], dtype=torch.float64)
    c = torch.ones(BIG) * rank
    processes.average([a, b, c])
    assert a[0, 0, 0, 0] == 0.5
    assert a[1, 2, 3, 0] == 8.5
    assert a.is_contiguous(memory_format=torch.channels_last)
    assert b[0] == 0.5
    assert b[1].isnan()
    assert (c == 0.5).all()
    assert processes.means([1, rank]) == [1, 0.5]
    assert processes.any(rank == 1) is True
    assert processes.any(False) is False
    assert processes.broadcast(b"first" if rank == 0 else b"") == b"first"


def _poisoned(job: Job, rank: int) -> None:
    """Where one process has a NaN, none updates."""
    numbers = train(job, poison=4 if rank == 1 else None)
    assert job.state.skipped == {"D": 1, "G": 0}
    assert all(value.isfinite().all() for name, value in numbers.items() if name.startswith(("D.", "G.", "G_ema.")))


def _buffers(job: Job, rank: int) -> None:
    """What networks hold besides weights becomes the same everywhere."""
    for network in (job.state.G, job.state.G_ema):
        network.register_buffer("running", torch.tensor(float(rank)))
        network.register_buffer("count", torch.tensor(rank))
    train(job, after(1))
    assert job.state.G.running == job.state.G_ema.running == 0.5
    assert job.state.G.count == rank
