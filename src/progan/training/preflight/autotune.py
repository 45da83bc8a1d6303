"""What `auto` means for speed here: measured once and remembered, so that the same command does the same again."""

import dataclasses
import hashlib
import json
import math
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from progan import losses
from progan.config import FixedPrecision, RunConfig
from progan.data.cache import cache_folder
from progan.devices import release
from progan.files import write_whole
from progan.models import ImageShape
from progan.options import to_dict
from progan.randomness import Rng
from progan.schedule import Schedule, Stage
from progan.training import state
from progan.training.accelerate.traced import Tracer, missing, traceable
from progan.training.numerics import Numerics, sixteen_bits
from progan.training.preflight import memory
from progan.training.preflight.estimate import extents, seconds_per_image
from progan.training.step import process_reals, train_d, train_g

SAVED = 0.1
"""Share of an iteration's time that compiling saves at least (measured, docs/performance.md)."""
TRIAL, TRIAL_ON_GPU = 16, 128
"""Largest resolution of the trial of a precision: the middle of a small run, and seconds of work in a large one. A GPU
spends small ones on launches, as many in every precision."""


def decide_precision(config: RunConfig, shape: ImageShape, now: Numerics, tell: Callable[[str], None]) -> Numerics:
    """The numerics of a new run, before its steps are compiled. Where there is no room for a trial, 16 bits it is."""
    fast, device = _to_be_tried(config, now), torch.device(now.device)
    if fast is None:
        return now
    stage = _trial(config, device)
    try:
        gain = remembered(fast, _facts(config, shape, now, stage), lambda: _gain(config, shape, now, fast, stage))
    except (MemoryError, RuntimeError) as error:
        if not memory.ran_out(error):
            raise
        tell(f"precision {fast}: there is no memory left to try fp32 as well")
        return dataclasses.replace(now, precision=fast)
    finally:
        release(device)
    now = dataclasses.replace(now, precision=fast if gain > 1 else "fp32")
    at = f"{stage.resolution}x{stage.resolution}"
    tell(f"precision {now.precision}: at {at}, a step in {fast} is {gain:.2f} times as fast as in fp32")
    return now


def decide_compiled(config: RunConfig, shape: ImageShape, now: Numerics, tell: Callable[[str], None]) -> Numerics:
    """The same with the resolutions whose steps are to be compiled."""
    return dataclasses.replace(now, compiled=_compiled(config, shape, now, tell))


def foresee(config: RunConfig, shape: ImageShape, now: Numerics) -> tuple[Numerics, str]:
    """What `decide_precision` would choose and words for it, without a trial: `now` where none is remembered."""
    fast = _to_be_tried(config, now)
    if fast is None:
        return now, now.precision
    gain = _known().get(_key(fast, _facts(config, shape, now, _trial(config, torch.device(now.device)))))
    if gain is None:
        return now, undecided(fast)
    now = dataclasses.replace(now, precision=fast if gain > 1 else "fp32")
    return now, now.precision


def undecided(fast: FixedPrecision) -> str:
    """For people: the precision, before it was measured on this machine."""
    return f"{fast} or fp32, whichever a short trial finds faster"


def _to_be_tried(config: RunConfig, now: Numerics) -> FixedPrecision | None:
    """The 16 bits that are to be compared with fp32; None where there is nothing to choose."""
    return sixteen_bits(torch.device(now.device)) if config.runtime.precision == "auto" else None


def _facts(config: RunConfig, shape: ImageShape, now: Numerics, stage: Stage) -> list[Any]:
    """What the trial of a precision depends on."""
    return [now, _described(config, "model", "loss"), shape.channels, stage.resolution, stage.batch_size]


def _compiled(config: RunConfig, shape: ImageShape, now: Numerics, tell: Callable[[str], None]) -> tuple[int, ...]:
    choice = config.runtime.compile
    if choice == "off":
        return ()
    if not traceable(config.model):
        if choice == "on":
            tell("steps are not compiled: networks with batch norm, dropout or noise cannot be")
        return ()
    if lacking := missing(torch.device(now.device)):
        tell(f"steps are not compiled: that needs {lacking}")
        return ()
    if choice == "on":
        return tuple(sorted({span.resolution for span, _ in extents(Schedule(config.schedule))}))
    key = [now, _described(config, "model", "schedule"), SAVED]
    found: list[int] = remembered("compile", key, lambda: _worth_it(config, shape, now))
    return tuple(found)


def _worth_it(config: RunConfig, shape: ImageShape, now: Numerics) -> list[int]:
    """The resolutions at which compiling saves more time than it takes."""
    cost = seconds_per_image(config, shape, now)
    seconds: dict[int, float] = {}
    builds: dict[int, float] = {}
    for span, images in extents(Schedule(config.schedule)):
        seconds[span.resolution] = seconds.get(span.resolution, 0.0) + images * cost[span.resolution]
        builds[span.resolution] = builds.get(span.resolution, 0.0) + build_seconds(span.resolution)
    return [resolution for resolution in seconds if SAVED * seconds[resolution] > builds[resolution]]


def build_seconds(resolution: int) -> float:
    """About what building one stage's step takes (measured, docs/performance.md)."""
    return 10 + 8 * math.log2(resolution / 4)


def _trial(config: RunConfig, device: torch.device) -> Stage:
    largest = TRIAL if device.type == "cpu" else TRIAL_ON_GPU
    resolution = max(config.schedule.start_resolution, min(largest, config.schedule.resolution))
    size = min(8, int(config.schedule.batch_size.at(resolution)))
    return Stage(resolution, "stable", 1.0, size, 1e-3, 1e-3)


def _gain(config: RunConfig, shape: ImageShape, now: Numerics, fast: FixedPrecision, stage: Stage) -> float:
    """How many times as fast as in fp32 a step is in `fast`: medians of alternating steps of equal networks.

    Raises MemoryError, or what PyTorch raises, if there is no room.
    """
    precisions: tuple[FixedPrecision, ...] = ("fp32", fast)
    shape = dataclasses.replace(shape, label_size=0)
    free = memory.free_bytes(torch.device(now.device))
    need = sum(memory.estimate(config, shape, name, stage.resolution, stage.batch_size) for name in precisions)
    if free is not None and need > free:
        raise MemoryError
    steps = {name: _step(config, shape, dataclasses.replace(now, precision=name), stage) for name in precisions}
    seconds: dict[str, list[float]] = {name: [] for name in precisions}
    for i in range(4):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            seconds[name].append(time.perf_counter() - start if i else math.inf)
    medians = {name: sorted(found)[1] for name, found in seconds.items()}
    return medians["fp32"] / medians[fast]


def _step(config: RunConfig, shape: ImageShape, numerics: Numerics, stage: Stage) -> Callable[[], None]:
    """A step of D and one of G, as a run takes them where nothing is compiled."""
    trial, loss = state.new(config.model, config.optimizer, shape, 0, numerics), losses.build(config.loss)
    device, dtype, r = torch.device(numerics.device), numerics.dtype, stage.resolution
    pixels = torch.full((stage.batch_size, shape.channels, r, r), 100, dtype=torch.uint8, device=device)
    tracer = Tracer(config, trial.G, trial.D, loss, shape, numerics)
    traced = tracer.step(stage, stage.batch_size, kernels=False)

    def step() -> None:
        rng = Rng(0, 0, "D", device)
        reals = process_reals(pixels, 1.0)
        train_d(trial.G, trial.D, trial.d_optimizer, loss, reals, None, stage, rng, dtype, traced=traced)
        train_g(trial.G, trial.D, trial.g_optimizer, loss, len(reals), None, stage, rng, dtype, traced=traced)
        trial.settle()
        float(next(trial.G.parameters()).detach().sum())  # waits for a GPU

    return step


def remembered(what: str, facts: list[Any], measure: Callable[[], Any]) -> Any:
    """What was measured before on this machine under these conditions, or what is measured now."""
    known, key = _known(), _key(what, facts)
    if key not in known:
        known[key] = measure()
        try:
            path = _measured()
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, json.dumps(known, indent=1).encode())
        except OSError:
            pass  # then it is measured again the next time
    return known[key]


def _key(what: str, facts: list[Any]) -> str:
    machine = [platform.node(), platform.machine(), torch.backends.cpu.get_cpu_capability()]
    if torch.cuda.is_available():
        machine.append(torch.cuda.get_device_name())
    return f"{what}-{hashlib.sha256(json.dumps([machine, facts], default=str).encode()).hexdigest()[:16]}"


def _known() -> dict[str, Any]:
    try:
        known: dict[str, Any] = json.loads(_measured().read_bytes())
    except (OSError, ValueError):
        return {}
    return known


def _measured() -> Path:
    return cache_folder().parent / "measured.json"


def _described(config: RunConfig, *groups: str) -> dict[str, Any]:
    described = to_dict(config)
    return {group: described[group] for group in groups}
