"""Choices of `auto` that depend on speed: threads, precision and compilation, and the speed that a run will have.

All are decided by trials (trials.py). Where it is not sure which of two things is faster, the safe one is taken: fewer
threads, fp32, uncompiled.
"""

import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

import torch

from progan import models
from progan.config import FixedPrecision
from progan.devices import computing_with, free_bytes, is_out_of_memory, release, sixteen_bits
from progan.models import winograd
from progan.models.layers import EqualizedConv2d
from progan.options import to_dict
from progan.schedule import Schedule, Stage, for_kimg, for_seconds
from progan.training.accelerate.traced import missing
from progan.training.numerics import Numerics, thread_count, wished_threads
from progan.training.preflight.estimate import Pace, build_seconds, seconds_per_image
from progan.training.preflight.fit import MARGIN, PLENTY, largest_first, needed, trial
from progan.training.preflight.memory import estimate
from progan.training.preflight.trials import BUSY, Evidence, compare, recalled, remembered
from progan.training.setup import RunSetup
from progan.training.state import TrainingState

SAVED = 0.1
"""Fraction of an iteration's time that compiling saves at least where it saves any (measured, docs/performance.md)."""
TRIAL, TRIAL_ON_GPU = 16, 128
"""Largest resolution of a trial: the middle of a small run, and seconds of work in a large one. A GPU spends small ones
on launches, as many in every precision."""
SPEEDS, SPEEDS_SHARE = 10.0, 0.02
"""Seconds that measuring the speed of a run's stages takes at most, and as a fraction of the run."""


# Threads


def decide_threads(setup: RunSetup) -> Numerics:
    """Numerics of a new run with as many threads as are surely faster than fewer, up to those of the setup."""
    now, runtime = setup.numerics, setup.config.runtime
    if setup.device.type != "cpu" or now.threads == 1 or wished_threads(runtime) is not None:
        return now
    stage = trial_stage(setup)
    fp32 = replace(setup, numerics=replace(now, precision="fp32"))
    evidence = _evidence("threads", fp32, stage, lambda: try_threads(fp32, stage))
    if evidence is None:
        return now
    at, all_of_them = f"{stage.resolution}x{stage.resolution}", evidence.threads == now.threads
    said = f"they are {evidence} as fewer" if all_of_them else f"more would be {evidence}"
    busy = "; other programs are busy here" if evidence.waited > BUSY else ""
    setup.log(f"{thread_count(evidence.threads)} of {now.threads}: at {at}, {said}{busy}")
    return replace(now, threads=evidence.threads)


def try_threads(setup: RunSetup, stage: Stage) -> Evidence:
    """Evidence of the last doubling of the number of threads, the first that was not surely faster if there is one.

    Raises what says that memory ran out.
    """
    most, (_, train) = setup.numerics.threads, _networks(setup, stage)
    return climb(most, lambda few, many: compare(_with(few, train), _with(many, train), processor=False))


def climb(most: int, compare: Callable[[int, int], Evidence]) -> Evidence:
    """Evidence of the last doubling, with the number of threads that is to be taken."""
    few, waited = 1, 0.0
    while True:
        many = min(2 * few, most)
        evidence = compare(few, many)
        waited = waited or evidence.waited  # of one thread
        few = many if evidence.faster else few
        if few < many or many == most:
            return replace(evidence, threads=few, waited=waited)


def _with(threads: int, train: Callable[[], None]) -> Callable[[], None]:
    def call() -> None:
        with computing_with(threads):
            train()

    return call


# Precision


def decide_precision(setup: RunSetup) -> Numerics:
    """Numerics of a new run, before its steps are compiled. Where there is no room for a trial, 16 bits it is."""
    now, fast = setup.numerics, _to_be_tried(setup)
    if fast is None:
        return now
    stage = trial_stage(setup)
    other = replace(now, precision=fast)
    evidence = _evidence(fast, setup, stage, lambda: measure_gain(setup, other, stage))
    if evidence is None:
        setup.log(f"precision {fast}: there is no memory left to try fp32 as well")
        return replace(now, precision=fast)
    now = replace(now, precision=fast if evidence.faster else "fp32")
    at = f"{stage.resolution}x{stage.resolution}"
    setup.log(f"precision {now.precision}: at {at}, a step in {fast} is {evidence} as in fp32")
    return now


def decide_winograd(setup: RunSetup, recall: bool = False) -> Numerics:
    """Numerics of a new run, whose precision is decided, with Winograd's algorithm if that surely makes it faster and
    surely finds memory; `recall`: as far as an earlier trial tells.
    """
    now, wish = setup.numerics, setup.config.runtime.winograd
    if wish == "off" or setup.device.type != "cpu" or now.precision != "fp32":
        return now
    quick = replace(now, winograd=True)
    if wish == "on":
        return quick
    stage = trial_stage(setup)
    if not _wide(setup, stage) or not _roomy(replace(setup, numerics=quick)):
        return now
    if recall:
        known = recalled("winograd", _facts(setup, stage))
        return quick if known is not None and known.faster else now
    evidence = _evidence("winograd", setup, stage, lambda: measure_gain(setup, quick, stage))
    if evidence is None:
        return now
    at, left_out = f"{stage.resolution}x{stage.resolution}", "" if evidence.faster else "not used: "
    setup.log(f"Winograd's algorithm: {left_out}at {at}, a step with it is {evidence} as one without")
    return quick if evidence.faster else now


def _wide(setup: RunSetup, stage: Stage) -> bool:
    """True if the networks have a convolution for which Winograd's algorithm was found to be faster."""
    with torch.device("meta"):
        networks = models.build(setup.config.model, setup.shape, seed=0)
        x = torch.zeros(1, 1, stage.resolution, stage.resolution)
    layers = [each for net in networks for each in net.modules() if isinstance(each, EqualizedConv2d)]
    return any(winograd.quicker(x, layer.weight, (1, 1, False)) for layer in layers)


def _roomy(setup: RunSetup) -> bool:
    """True if all stages surely fit into the memory of this machine."""
    free, stages = free_bytes(setup.device), largest_first(setup, 0)
    if free is None or (1 + PLENTY) * needed(setup, *stages[0]) <= free:
        return True
    return all((1 + MARGIN) * needed(setup, *each) <= free for each in stages)


def foresee(setup: RunSetup) -> tuple[Numerics, str]:
    """Numerics that would be chosen, as far as earlier trials tell, and words for the precision."""
    now, fast = setup.numerics, _to_be_tried(setup)
    fp32 = replace(setup, numerics=replace(now, precision="fp32"))
    if wished_threads(setup.config.runtime) is None and setup.device.type == "cpu":
        threads = recalled("threads", _facts(fp32, trial_stage(setup)))
        now = now if threads is None else replace(now, threads=threads.threads)
        setup = replace(setup, numerics=now)
    if fast is not None:
        evidence = recalled(fast, _facts(setup, trial_stage(setup)))
        if evidence is None:
            return now, undecided(fast)
        now = replace(now, precision=fast if evidence.faster else "fp32")
    return decide_winograd(replace(setup, numerics=now), recall=True), now.precision


def undecided(fast: FixedPrecision) -> str:
    """Words for a precision that was not measured on this machine yet."""
    return f"{fast} or fp32, whichever a short trial finds faster"


def _to_be_tried(setup: RunSetup) -> FixedPrecision | None:
    """Precision of 16 bits that is compared with fp32; None where there is nothing to choose."""
    return sixteen_bits(setup.device) if setup.config.runtime.precision == "auto" else None


def _evidence(what: str, setup: RunSetup, stage: Stage, measure: Callable[[], Evidence]) -> Evidence | None:
    """Evidence of a trial, made now or before; None where memory does not suffice for it."""
    try:
        return remembered(what, _facts(setup, stage), measure)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        return None
    finally:
        release(setup.device)


def _facts(setup: RunSetup, stage: Stage) -> list[Any]:
    """Everything that the trial of a precision depends on."""
    described = to_dict(setup.config)
    config = {group: described[group] for group in ("model", "loss")}
    return [setup.numerics, config, setup.shape.channels, stage.resolution, stage.batch_size, *_augmented(setup)]


def _augmented(setup: RunSetup) -> list[str]:
    """Name of the augmentation, which is part of a step, if there is one."""
    return [] if setup.augmentation is None else [setup.config.dataset.augment]


# Compiling


def decide_compiled(setup: RunSetup, cost: Mapping[int, float]) -> tuple[Numerics, Pace]:
    """Numerics of a new run with the resolutions whose steps are to be compiled, and the pace it will have.

    `cost`: seconds per image at each resolution, uncompiled.
    """
    compiled, gain, slow = _compiled(setup, cost)
    quick = {resolution: each / (gain if resolution in compiled else 1) for resolution, each in cost.items()}
    builds = {resolution: slow * build_seconds(resolution) for resolution in compiled}
    return replace(setup.numerics, compiled=compiled), Pace(setup.schedule, quick, builds)


def pace_of(setup: RunSetup, lines: Iterable[Mapping[str, Any]] = ()) -> Pace:
    """Pace of a run that goes on: estimates, corrected by the lines of its stats.jsonl."""
    builds, cost = {each: build_seconds(each) for each in setup.numerics.compiled}, seconds_per_image(setup)
    return Pace(setup.schedule, cost, builds).follow(lines)


def fit_into(setup: RunSetup, minutes: float) -> tuple[RunSetup, Pace]:
    """Setup of a new run whose schedule is stretched or shrunk to so many minutes, compiling included, and its pace.

    Raises ConfigError where that leaves a stage less than a batch.
    """
    seconds = 60 * minutes
    cost = speeds(setup, min(SPEEDS, max(1.0, SPEEDS_SHARE * seconds)))
    everything = {(span.resolution, span.phase): cost[span.resolution] for span in setup.schedule.spans}
    setup = replace(setup, config=for_seconds(setup.config, seconds, everything))
    # What is compiled leaves room for more images.
    numerics, pace = decide_compiled(setup, cost)
    building = pace.left(0) - pace.training(0)
    kimg = setup.schedule.total_nimg / 1000 * max(seconds - building, 0.5 * seconds) / pace.training(0)
    setup = replace(setup, config=for_kimg(setup.config, kimg), numerics=numerics)
    return setup, pace.over(setup.schedule)


def _compiled(setup: RunSetup, cost: Mapping[int, float]) -> tuple[tuple[int, ...], float, float]:
    """Resolutions that are to be compiled, how many times as fast they are then, and how many times as long as
    foreseen they take to build.
    """
    choice, none = setup.config.runtime.compile, ((), 1.0, 1.0)
    if choice == "off":
        return none
    if not setup.config.model.traceable:
        if choice == "on":
            setup.log("steps are not compiled: networks with batch norm, dropout or noise cannot be")
        return none
    if lacking := missing(setup.device):
        setup.log(f"steps are not compiled: that needs {lacking}")
        return none
    if choice == "on":
        return tuple(sorted({span.resolution for span, _ in setup.schedule.extents()})), 1.0, 1.0

    # Only what would pay its building back by the usual saving is worth a trial, which builds one of them.
    hopeful = worth_it(setup.schedule, cost, SAVED, 1.0)
    if not hopeful:
        return none
    resolution = max((each for each in hopeful if each <= _trial_resolution(setup)), default=hopeful[0])
    stage = Stage(resolution, "stable", 1.0, setup.batch_size(resolution) // setup.processes.size, 1e-3, 1e-3)
    evidence = _evidence("compile", setup, stage, lambda: try_compiled(setup, stage))
    if evidence is None:
        setup.log("steps are not compiled: there is no memory left to try it")
        return none
    said = f"at {resolution}x{resolution}, a compiled step is {evidence} as an uncompiled one"
    if not evidence.faster:
        setup.log(f"steps are not compiled: {said}")
        return none
    slow = evidence.build / build_seconds(resolution)
    found = worth_it(setup.schedule, cost, 1 - 1 / evidence.low, slow)
    setup.log(f"compiled: {', '.join(f'{each}x{each}' for each in found) or 'none, the run is too short'}; {said}")
    return tuple(found), evidence.gain, slow


def worth_it(schedule: Schedule, cost: Mapping[int, float], saved: float, slow: float) -> list[int]:
    """Resolutions at which compiling saves more time than it takes: the fraction `saved` of the time of training,
    against a build that takes `slow` times as long as usual.
    """
    seconds: dict[int, float] = {}
    builds: dict[int, float] = {}
    for span, images in schedule.extents():
        seconds[span.resolution] = seconds.get(span.resolution, 0.0) + images * cost[span.resolution]
        builds[span.resolution] = builds.get(span.resolution, 0.0) + slow * build_seconds(span.resolution)
    return [resolution for resolution in seconds if saved * seconds[resolution] > builds[resolution]]


def try_compiled(setup: RunSetup, stage: Stage) -> Evidence:
    """Evidence of a compiled step beside an uncompiled one. What is built is found again by the run.

    What cannot be built is not faster. Raises what says that memory ran out.
    """
    _, uncompiled = _networks(setup, stage)
    began = time.perf_counter()
    state, train = _networks(setup, stage, compiled=True)
    build = time.perf_counter() - began
    if not state.numerics.compiled:
        return Evidence(1.0, 1.0, 1.0, 0, sure=False)
    return replace(compare(uncompiled, train, setup.device.type == "cpu"), build=build)


# Speed


def speeds(setup: RunSetup, seconds: float | None = None) -> dict[int, float]:
    """Seconds per real image at every resolution, uncompiled: measured from the smallest on as long as `seconds` last
    (default: a small fraction of the run, none of a very short one), and extrapolated by the number of operations.
    """
    cost, ratio, began = seconds_per_image(setup), 1.0, time.perf_counter()
    if seconds is None:
        whole = sum(images * cost[span.resolution] for span, images in setup.schedule.extents())
        seconds = min(SPEEDS, SPEEDS_SHARE * whole)
        seconds = seconds if seconds > 1 else 0.0
    d_steps = setup.config.schedule.d_steps
    for resolution in sorted(cost):
        batch = max(1, setup.batch_size(resolution) // setup.processes.size)
        left = seconds - (time.perf_counter() - began)
        if 4 * ratio * cost[resolution] * d_steps * batch < left:
            try:
                took = _iteration_seconds(setup, Stage(resolution, "stable", 1.0, batch, 1e-3, 1e-3))
                ratio = took / (d_steps * batch) / cost[resolution]
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
            release(setup.device)  # of networks that are gone
        cost[resolution] *= ratio
    return cost


def _iteration_seconds(setup: RunSetup, stage: Stage) -> float:
    """Seconds of an iteration, the median of three after the first."""
    _, train = _networks(setup, stage)
    train()
    times = []
    for _ in range(3):
        began = time.perf_counter()
        train()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


# Networks that are thrown away


def trial_stage(setup: RunSetup) -> Stage:
    """Stage in which precisions and numbers of threads are compared."""
    resolution = _trial_resolution(setup)
    return Stage(resolution, "stable", 1.0, min(8, setup.batch_size(resolution)), 1e-3, 1e-3)


def _trial_resolution(setup: RunSetup) -> int:
    largest, schedule = TRIAL if setup.device.type == "cpu" else TRIAL_ON_GPU, setup.config.schedule
    return max(schedule.start_resolution, min(largest, schedule.resolution))


def measure_gain(setup: RunSetup, other: Numerics, stage: Stage) -> Evidence:
    """Evidence of an iteration with other numerics beside one in fp32 as PyTorch computes it, of equal networks.

    Raises MemoryError, or what PyTorch raises, if there is no room.
    """
    setups = [replace(setup, numerics=each) for each in (replace(setup.numerics, precision="fp32"), other)]
    free = free_bytes(setup.device)
    if free is not None and sum(estimate(each, stage.resolution, stage.batch_size) for each in setups) > free:
        raise MemoryError
    slow, quick = (_networks(each, stage)[1] for each in setups)
    with computing_with(setup.numerics.threads):
        return compare(slow, quick, setup.device.type == "cpu")


def _networks(setup: RunSetup, stage: Stage, compiled: bool = False) -> tuple[TrainingState, Callable[[], None]]:
    """New networks, and a function that trains them for an iteration and waits for it. MemoryError without room."""
    setup = replace(setup, shape=replace(setup.shape, label_size=0))
    free = free_bytes(setup.device)
    if setup.device.type == "cpu" and free is not None and estimate(setup, stage.resolution, stage.batch_size) > free:
        raise MemoryError
    state, train = trial(setup, stage, compiled)

    def iteration() -> None:
        train()
        state.settle()
        float(next(state.G.parameters()).detach().sum())  # waits for a GPU

    return state, iteration
