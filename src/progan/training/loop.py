"""The training loop. It knows schedule, step and state; who wants to see something is an observer."""

import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Protocol

import torch
from torch.profiler import record_function

from progan.config import RunConfig
from progan.losses import Loss
from progan.progress import warn
from progan.randomness import Rng
from progan.schedule import Block, Schedule, Stage
from progan.training import divergence, memory, rescue
from progan.training.compiled import Compiler
from progan.training.distributed import ALONE, Processes
from progan.training.divergence import Diverged, GoodStates
from progan.training.feed import Batch, Feed, Request
from progan.training.meter import Meter, Tally, together
from progan.training.outputs import Outputs
from progan.training.state import StateFolder, TrainingState, agree
from progan.training.step import Compiled, average, process_reals, train_d, train_g

STATE_SHARE = 0.02
"""Of the time that writing states may take."""
LOOK_EVERY = 64
"""Iterations on a GPU between two looks at what it has done."""


@dataclass(frozen=True)
class Tick:
    """What happened since the tick before."""

    cur_nimg: int
    stage: Stage
    losses: dict[str, float]
    """Mean of every term: `D/real`, `D/penalty`, `G/fake` …"""
    images: int
    seconds: float
    data_wait: float
    """Seconds spent waiting for images."""
    elapsed: float
    """Seconds of training since the run began."""
    skipped: dict[str, int]
    """Updates left out since the run began, of D and of G."""
    metrics: dict[str, float] = field(default_factory=dict)
    """Put in by observers that measure, for those after them that write things down."""
    notices: list[str] = field(default_factory=list)
    """What people should know, a sentence each; put in by the loop and by observers."""

    @property
    def img_per_sec(self) -> float:
        return self.images / max(self.seconds, 1e-9)


class Observer(Protocol):
    """Watches a run, in its first process. Nothing it does may change a number of the training."""

    def on_start(self, state: TrainingState, stage: Stage) -> None:
        """Before the first iteration, also of a continued run."""

    def on_progress(self, cur_nimg: int, stage: Stage) -> None:
        """After every evaluation of the schedule."""

    def on_tick(self, tick: Tick, state: TrainingState) -> None:
        """Every tick_kimg, at the end of every stage, and at the end."""

    def on_stage_end(self, stage: Stage, following: Stage | None, state: TrainingState) -> None:
        """After the last tick of a stage, `following` being None at the end of the run."""

    def on_end(self, finished: bool, state: TrainingState) -> None:
        """After the last iteration; `finished` unless the run was stopped."""


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
    outputs: Outputs = field(default_factory=lambda: Outputs(warn))
    compiler: Compiler | None = None

    @property
    def dropout(self) -> float | None:
        """D's, as configured; None for a model without."""
        found: float | None = getattr(self.config.model, "dropout", None)
        return found


def train(job: Job, observers: Sequence[Observer], stopped: Callable[[], bool] = lambda: False) -> bool:
    """Go on from the job's state to the end of the schedule, or until `stopped`; True at the end.

    Everything random follows from the seed and `cur_nimg`, everything else from the state. A run that diverges goes
    back to its last good state, which for the observers is the end of one run and the start of another.

    Of several processes all are called with the same state, and only the first with observers; `stopped` in one stops
    all.
    """
    good = GoodStates(job.states, job.outputs.warn) if job.config.health.on_divergence == "rewind" else None
    if good is not None and job.processes.first and job.state.cur_nimg == 0:
        good.keep(job.state)
    while True:
        try:
            _go_on(job, observers, stopped, good)
        except Diverged as sign:
            if good is None:
                divergence.stop(job.state, str(sign))
            elif job.processes.first:
                good.go_back(job.state, str(sign))
            agree(job.state, job.processes)
        else:
            return job.state.cur_nimg >= job.schedule.total_nimg


def _go_on(job: Job, observers: Sequence[Observer], stopped: Callable[[], bool], good: GoodStates | None) -> None:
    """Train to the end of the schedule, until `stopped`, or until Diverged is raised."""
    state, schedule, processes = job.state, job.schedule, job.processes
    state.adjustments.apply_to(state.D, job.dropout)
    for observer in observers:
        observer.on_start(state, state.adjustments.apply(schedule.at(state.cur_nimg)))
    processes.wait()
    meter, keeper = Meter(state.tally, torch.device(state.numerics.device)), StateKeeper(job.states, job.outputs)
    batches = job.feed.stream(_requests(schedule, state.cur_nimg))
    for block in schedule.walk(state.cur_nimg):
        stage = state.adjustments.apply(block.stage)
        if stage.key != state.stage:
            state.g_optimizer.reset()
            state.d_optimizer.reset()
            state.stage = stage.key
        compiled = _compiled(job, stage, meter)
        with _spared(state, meter, keeper):
            for cur_nimg in block.iterations:
                _iterate(job, stage, cur_nimg, batches, meter, compiled)
        state.cur_nimg = block.end
        processes.average(state.buffers())
        for observer in observers:
            observer.on_progress(block.end, stage)

        following = schedule.at(block.end) if block.end < schedule.total_nimg else None
        stage_ends = following is None or following.key != stage.key
        due = meter.images >= 1000 * job.config.runtime.tick_kimg.at(stage.resolution)
        due = due and schedule.at(block.end + 1).key == stage.key  # else the stage's own is next
        if stage_ends or due or _looks(schedule, block, state):
            state.settle()
        ticks, stop = stage_ends or due or divergence.left_out(state) is not None, processes.any(stopped())
        if ticks:
            _tick(job, observers, together(meter.take(), processes), stage)
            if stage_ends:
                for observer in observers:
                    observer.on_stage_end(stage, following, state)
            if good is not None and processes.first:
                good.keep(state)
        elif stop:
            state.tally = together(meter.tally(), processes)
        if ticks or stop:
            if processes.first:
                keeper.write(state, force=stop or following is None)
            processes.wait()
        if ticks:
            state.elapsed += meter.leave_out()
        if stop:
            break
    for observer in observers:
        observer.on_end(state.cur_nimg >= schedule.total_nimg, state)


def _tick(job: Job, observers: Sequence[Observer], tally: Tally, stage: Stage) -> None:
    """Report, and change what the numbers ask to be changed. Raises Diverged."""
    state = job.state
    state.tally = Tally()
    state.elapsed += tally.seconds
    losses = {f"{network}/{name}": value for network, terms in tally.means.items() for name, value in terms.items()}
    images, seconds, wait = tally.images, tally.seconds, tally.data_wait
    tick = Tick(state.cur_nimg, stage, losses, images, seconds, wait, state.elapsed, dict(state.skipped))
    sign = divergence.review(state, losses)
    if sign is not None:
        tick.notices.append(f"diverged: {sign}")
    elif job.config.health.rescue:
        tick.notices.extend(rescue.review(state.adjustments, losses, job.loss, job.dropout))
        state.adjustments.apply_to(state.D, job.dropout)
    for observer in observers:
        observer.on_tick(tick, state)
    if sign is not None:
        for observer in observers:
            observer.on_end(False, state)
        raise Diverged(sign)


def _looks(schedule: Schedule, block: Block, state: TrainingState) -> bool:
    """Whether to see which updates were left out: always on a CPU; every LOOK_EVERY iterations where that waits."""
    images = LOOK_EVERY * block.stage.batch_size * schedule.config.d_steps
    waits = torch.device(state.numerics.device).type != "cpu"
    return not waits or block.end // images != block.iterations.start // images


def _requests(schedule: Schedule, cur_nimg: int) -> Iterator[Request]:
    """Every batch of the rest of the run, in the order in which `_iterate` takes them."""
    for block in schedule.walk(cur_nimg):
        stage = block.stage
        for start in block.iterations:
            for i in range(schedule.config.d_steps):
                yield Request(stage.resolution, start + i * stage.batch_size, stage.batch_size)


def _compiled(job: Job, stage: Stage, meter: Meter) -> Compiled | None:
    """The compiled step of the stage, if it is to have one. That one cannot be built becomes part of the state."""
    numerics, size = job.state.numerics, stage.batch_size // job.processes.size
    if job.compiler is None or stage.resolution not in numerics.compiled:
        return None
    if job.compiler.has(stage, size):
        return job.compiler.step(stage, size)
    with meter.aside():
        step = job.compiler.step(stage, size)
        failed = job.processes.any(step is None)
    if failed:
        left = tuple(resolution for resolution in numerics.compiled if resolution != stage.resolution)
        job.state.numerics = replace(numerics, compiled=left)
        return None
    return step


def _iterate(
    job: Job, stage: Stage, cur_nimg: int, batches: Iterator[Batch], meter: Meter, compiled: Compiled | None
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
                state.G, state.D, state.d_optimizer, job.loss, reals, labels, stage, rng, dtype, processes, compiled
            )
        state.count("D", updated)
        with record_function("average"):
            average(state.G_ema, state.G, config.optimizer.ema_decay)
        meter.add("D", terms, images=size)
    rng = Rng(config.runtime.seed, cur_nimg, "G", device, *where)
    labels = job.feed.labels(rng.integers(share, job.feed.count)) if config.dataset.labels else None
    with record_function("G step"):
        terms, updated = train_g(
            state.G, state.D, state.g_optimizer, job.loss, share, labels, stage, rng, dtype, processes, compiled
        )
    state.count("G", updated)
    meter.add("G", terms)


@contextmanager
def _spared(state: TrainingState, meter: Meter, keeper: "StateKeeper") -> Iterator[None]:
    """If memory runs out inside before anything was changed, as where a larger stage begins, the state is written."""
    clocks, counted = state.clocks(), len(state.uncounted)
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        untouched = len(state.uncounted) == counted and torch.equal(state.clocks(), clocks)
        if memory.ran_out(error) and untouched:
            traceback.clear_frames(error.__traceback__)  # which hold the tensors of the failed step
            state.tally = meter.tally()
            keeper.write(state, force=True)
        raise


class StateKeeper:
    """Writes states as often as its share of the time allows. One that cannot be written is tried again next time."""

    def __init__(self, states: StateFolder, outputs: Outputs) -> None:
        self._states, self._outputs = states, outputs
        self._cost = 0.0
        self._written = time.perf_counter()

    def write(self, state: TrainingState, force: bool) -> None:
        start = time.perf_counter()
        if force or self._cost <= STATE_SHARE * (start - self._written):
            with self._outputs.attempt("the training state"):
                self._states.write(state)
                self._written = time.perf_counter()
                self._cost = self._written - start
