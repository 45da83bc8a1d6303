"""Training loop, from top to bottom: a run, its blocks, its ticks, and one iteration.

The loop knows schedule, step and state; who wants to see something is an observer. Everything random follows from the
seed and `cur_nimg`, everything else from the state, so that a run can stop anywhere and continue bit for bit.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from torch import Tensor
from torch.profiler import record_function

from progan.files import PendingWrites
from progan.progress import log_line
from progan.randomness import Rng
from progan.schedule import Block, Schedule, Stage
from progan.training import augment, recovery
from progan.training.accelerate.traced import Executors
from progan.training.feed import Feed, Reals, Request
from progan.training.meter import Meter, Tally, together
from progan.training.observers.base import Observer, Tick
from progan.training.preflight.estimate import Pace
from progan.training.recovery import Diverged, GoodStates
from progan.training.setup import RunSetup
from progan.training.state import CheckpointWriter, StateFolder, TrainingState, checkpoint_on_oom, share
from progan.training.step import Step

LOOK_EVERY = 64
"""Iterations on a GPU between two looks at which updates were left out, since a look waits for it."""


@dataclass(frozen=True)
class Job:
    """What is trained with what."""

    setup: RunSetup
    feed: Feed
    state: TrainingState
    states: StateFolder
    pending: PendingWrites = field(default_factory=lambda: PendingWrites(log_line))
    executors: Executors | None = None
    """Executors of the stages; None: all are eager."""
    pace: Pace | None = None
    """Time that the run takes, where anybody asks for it."""


def never() -> bool:
    """A run that nobody stops."""
    return False


def train(
    job: Job,
    observers: Sequence[Observer],
    stopped: Callable[[], bool] = never,
    over: Callable[[], bool] = never,
) -> bool:
    """Train from the job's state to the end of the schedule, or until `stopped`; True at the end.

    `over` ends the run before its schedule does: it is asked at the start and after every tick. All of several
    processes are called with the same state, and only the first with observers; `stopped` or `over` in one holds for
    all. A run that diverges goes back to its last good state: for observers, one run ends and another starts.
    """
    setup, state = job.setup, job.state
    good = GoodStates(job.states, job.pending.log) if setup.config.health.on_divergence == "rewind" else None
    if good is not None and setup.processes.first and state.cur_nimg == 0:
        good.keep(state)
    while True:
        try:
            return _train_until_divergence(job, observers, stopped, over, good)
        except Diverged as sign:
            if good is None:
                raise recovery.stopped(state, str(sign)) from None
            if setup.processes.first:
                good.go_back(state, str(sign))
            share(state, setup.processes)


def _train_until_divergence(
    job: Job,
    observers: Sequence[Observer],
    stopped: Callable[[], bool],
    over: Callable[[], bool],
    good: GoodStates | None,
) -> bool:
    """Train to the end, or until `stopped`; True at the end. Raises Diverged."""
    setup, state, schedule, processes = job.setup, job.state, job.setup.schedule, job.setup.processes

    # Settings that the run changed itself hold from the start; observers see the state before the first iteration.
    state.adjustments.apply_to(state.D, setup.config.model.dropout_rate)
    for observer in observers:
        observer.on_start(state, state.adjustments.apply(schedule.at(state.cur_nimg)))
    ended = processes.any(over())

    meter, writer = Meter(state.tally, setup.device), CheckpointWriter(job.states, job.pending)
    batches = job.feed.stream(requests(schedule, state.cur_nimg))
    for block in () if ended else schedule.walk(state.cur_nimg):
        # A block has one stage. The authors reset both optimisers when resolution or phase change.
        stage = state.adjustments.apply(block.stage)
        if stage.key != state.stage:
            state.g_optimizer.reset()
            state.d_optimizer.reset()
            state.stage = stage.key

        # Iterations, all with one executor; running means of batch norm are those of all processes afterwards.
        with checkpoint_on_oom(state, meter, writer):
            _iterations(job, block, stage, batches, meter)
        state.cur_nimg = block.end
        processes.average(state.buffers())
        for observer in observers:
            observer.on_progress(block.end, stage)

        # A tick is due at the end of a stage, and after tick_kimg unless the stage is about to end.
        following = schedule.at(block.end) if block.end < schedule.total_nimg else None
        stage_ends = following is None or following.key != stage.key
        due = meter.images >= 1000 * setup.config.runtime.tick_kimg.at(stage.resolution)
        due = due and schedule.at(block.end + 1).key == stage.key
        if stage_ends or due or _looks(schedule, block, setup.device.type):
            state.settle()
        ticks = stage_ends or due or recovery.no_update_gets_through(state) is not None
        stop = processes.any(stopped())

        # Report, and keep a state to go back to; a stop between ticks leaves the numbers to the next one.
        if ticks:
            _tick(job, observers, together(meter.take(), processes), stage)
            ended = following is None or processes.any(over())
            if stage_ends or ended:
                for observer in observers:
                    observer.on_stage_end(stage, None if ended else following, state)
            if good is not None and processes.first:
                good.keep(state)
        elif stop:
            state.tally = together(meter.tally(), processes)

        # Write the state; the time that observers and files took is not training.
        if ticks or stop:
            if processes.first:
                writer.write(state, force=stop or ended)
            processes.wait()
        if ticks:
            state.elapsed += meter.leave_out()
        if stop or ended:
            break
    finished = ended or state.cur_nimg >= schedule.total_nimg
    for observer in observers:
        observer.on_end(finished, state)
    return finished


def _iterations(job: Job, block: Block, stage: Stage, batches: Iterator[Reals], meter: Meter) -> None:
    """Iterations of a block. The executor is held by nobody where the next is made: it takes as much memory."""
    with meter.aside():  # compiling is not training
        executor = None if job.executors is None else job.executors.of(stage)
    step = Step(job.setup, job.state, stage, executor)
    for cur_nimg in block.iterations:
        iterate(step, batches, job.feed.random_labels, cur_nimg, meter)


def requests(schedule: Schedule, cur_nimg: int) -> Iterator[Request]:
    """Every batch of the rest of a run, in the order in which `iterate` takes them."""
    for block in schedule.walk(cur_nimg):
        stage = block.stage
        for start in block.iterations:
            for i in range(schedule.config.d_steps):
                yield Request(stage.resolution, start + i * stage.batch_size, stage.batch_size)


def iterate(
    step: Step,
    batches: Iterator[Reals],
    random_labels: Callable[[Rng, int], Tensor | None],
    cur_nimg: int,
    meter: Meter,
) -> None:
    """One training iteration: `d_steps` D steps, each followed by the average of G, then one G step (n_critic)."""
    stage = step.stage
    for i in range(step.setup.config.schedule.d_steps):
        now = cur_nimg + i * stage.batch_size
        with meter.waiting(), record_function("data"):
            batch = next(batches)
        assert batch.request == (stage.resolution, now, stage.batch_size), "images of another iteration"
        draws = step.rng(now, "D")
        reals = step.process(batch.pixels, draws)
        with record_function("D step"):
            terms = step.d(reals, batch.labels, draws)
            penalty = step.lazy_penalty(reals, batch.labels, now)
        with record_function("average"):
            step.average()
        meter.add("D", terms, images=stage.batch_size)
        if penalty:
            meter.add("D penalty", penalty)

    # Labels of fakes are those of images drawn at random, as the data has them.
    draws = step.rng(cur_nimg, "G")
    labels = random_labels(draws, step.size)
    with record_function("G step"):
        terms = step.g(labels, draws, reals)
    meter.add("G", terms)


def _tick(job: Job, observers: Sequence[Observer], tally: Tally, stage: Stage) -> None:
    """Report, and change what the numbers ask to be changed. Raises Diverged."""
    state, config = job.state, job.setup.config
    state.tally = Tally()
    state.elapsed += tally.seconds
    losses, noted, ada = tally.losses, state.adjustments, config.dataset.augment == "ada"
    tick = Tick(
        cur_nimg=state.cur_nimg,
        stage=stage,
        losses=losses,
        images=tally.images,
        seconds=tally.seconds,
        data_wait=tally.data_wait,
        elapsed=state.elapsed,
        skipped=dict(state.skipped),
        metrics={"augment/p": noted.augment_p} if ada else {},
    )
    # The probability of the next tick, from the mean sign of D's scores of all processes' reals.
    if ada:
        noted.augment_p = augment.adapt(noted.augment_p, losses["D/real_sign"], tally.images, config.dataset)
    sign = recovery.find_divergence(state, losses)
    if sign is not None:
        tick.notices.append(f"diverged: {sign}")
    elif config.health.rescue:
        dropout = config.model.dropout_rate
        tick.notices.extend(recovery.rescue(state.adjustments, losses, job.setup.loss, dropout))
        state.adjustments.apply_to(state.D, dropout)
    for observer in observers:
        observer.on_tick(tick, state)
    if sign is not None:
        for observer in observers:
            observer.on_end(False, state)
        raise Diverged(sign)


def _looks(schedule: Schedule, block: Block, device: str) -> bool:
    """True if it is time to see which updates were left out: always on a CPU, where nothing waits."""
    images = LOOK_EVERY * block.stage.batch_size * schedule.config.d_steps
    return device == "cpu" or block.end // images != block.iterations.start // images
