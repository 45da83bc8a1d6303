"""The training loop. It knows schedule, step and state; who wants to see something is an observer."""

from collections.abc import Callable, Iterator, Sequence

import torch

from progan.schedule import Block, Schedule, Stage
from progan.training import divergence, rescue
from progan.training.checkpoint_writer import StateKeeper, spared
from progan.training.divergence import Diverged, GoodStates
from progan.training.feed import Batch
from progan.training.iteration import Job, iterate, requests, traced_step
from progan.training.meter import Meter, Tally, together
from progan.training.observers.base import Observer, Tick
from progan.training.state import TrainingState, agree

LOOK_EVERY = 64
"""Iterations on a GPU between two looks at what it has done."""


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
    batches = job.feed.stream(requests(schedule, state.cur_nimg))
    for block in schedule.walk(state.cur_nimg):
        stage = state.adjustments.apply(block.stage)
        if stage.key != state.stage:
            state.g_optimizer.reset()
            state.d_optimizer.reset()
            state.stage = stage.key
        with spared(state, meter, keeper):
            _iterations(job, block, stage, batches, meter)
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


def _iterations(job: Job, block: Block, stage: Stage, batches: Iterator[Batch], meter: Meter) -> None:
    traced = traced_step(job, stage, meter)  # held by nobody where the next is made: it takes as much memory
    for cur_nimg in block.iterations:
        iterate(job, stage, cur_nimg, batches, meter, traced)


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
