"""Choices of `auto` that depend on speed: precision and compilation.

They are measured once on a machine and remembered, so that the same command does the same again.
"""

import hashlib
import json
import math
import platform
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from progan.config import FixedPrecision, RunConfig
from progan.data.cache import cache_folder
from progan.devices import free_bytes, is_out_of_memory, release, sixteen_bits
from progan.files import write_whole
from progan.options import to_dict
from progan.schedule import Stage
from progan.training.accelerate.traced import missing
from progan.training.numerics import Numerics
from progan.training.preflight.estimate import seconds_per_image
from progan.training.preflight.fit import trial
from progan.training.preflight.memory import estimate
from progan.training.setup import RunSetup

SAVED = 0.1
"""Fraction of an iteration's time that compiling saves at least (measured, docs/performance.md)."""
TRIAL, TRIAL_ON_GPU = 16, 128
"""Largest resolution of the trial of a precision: the middle of a small run, and seconds of work in a large one. A GPU
spends small ones on launches, as many in every precision."""


def decide_precision(setup: RunSetup) -> Numerics:
    """Numerics of a new run, before its steps are compiled. Where there is no room for a trial, 16 bits it is."""
    now, fast = setup.numerics, _to_be_tried(setup)
    if fast is None:
        return now
    stage = trial_stage(setup)
    try:
        gain = remembered(fast, _facts(setup, stage), lambda: measure_gain(setup, fast, stage))
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        setup.log(f"precision {fast}: there is no memory left to try fp32 as well")
        return replace(now, precision=fast)
    finally:
        release(setup.device)
    now = replace(now, precision=fast if gain > 1 else "fp32")
    at = f"{stage.resolution}x{stage.resolution}"
    setup.log(f"precision {now.precision}: at {at}, a step in {fast} is {gain:.2f} times as fast as in fp32")
    return now


def foresee(setup: RunSetup) -> tuple[Numerics, str]:
    """Numerics that `decide_precision` would choose and words for them, without a trial."""
    now, fast = setup.numerics, _to_be_tried(setup)
    if fast is None:
        return now, now.precision
    gain = _known().get(_key(fast, _facts(setup, trial_stage(setup))))
    if gain is None:
        return now, undecided(fast)
    now = replace(now, precision=fast if gain > 1 else "fp32")
    return now, now.precision


def undecided(fast: FixedPrecision) -> str:
    """Words for a precision that was not measured on this machine yet."""
    return f"{fast} or fp32, whichever a short trial finds faster"


def _to_be_tried(setup: RunSetup) -> FixedPrecision | None:
    """Precision of 16 bits that is compared with fp32; None where there is nothing to choose."""
    return sixteen_bits(setup.device) if setup.config.runtime.precision == "auto" else None


def _facts(setup: RunSetup, stage: Stage) -> list[Any]:
    """Everything that the trial of a precision depends on."""
    config = _described(setup.config, "model", "loss")
    return [setup.numerics, config, setup.shape.channels, stage.resolution, stage.batch_size, *_augmented(setup)]


def _augmented(setup: RunSetup) -> list[str]:
    """Name of the augmentation, which is part of a step, if there is one."""
    return [] if setup.augmentation is None else [setup.config.dataset.augment]


def decide_compiled(setup: RunSetup) -> Numerics:
    """Numerics of the setup with the resolutions whose steps are to be compiled."""
    return replace(setup.numerics, compiled=_compiled(setup))


def _compiled(setup: RunSetup) -> tuple[int, ...]:
    choice, now = setup.config.runtime.compile, setup.numerics
    if choice == "off":
        return ()
    if not setup.config.model.traceable:
        if choice == "on":
            setup.log("steps are not compiled: networks with batch norm, dropout or noise cannot be")
        return ()
    if lacking := missing(setup.device):
        setup.log(f"steps are not compiled: that needs {lacking}")
        return ()
    if choice == "on":
        return tuple(sorted({span.resolution for span, _ in setup.schedule.extents()}))
    key = [now, _described(setup.config, "model", "schedule"), SAVED, *_augmented(setup)]
    found: list[int] = remembered("compile", key, lambda: _worth_it(setup))
    return tuple(found)


def _worth_it(setup: RunSetup) -> list[int]:
    """Resolutions at which compiling saves more time than it takes."""
    cost = seconds_per_image(setup)
    seconds: dict[int, float] = {}
    builds: dict[int, float] = {}
    for span, images in setup.schedule.extents():
        seconds[span.resolution] = seconds.get(span.resolution, 0.0) + images * cost[span.resolution]
        builds[span.resolution] = builds.get(span.resolution, 0.0) + build_seconds(span.resolution)
    return [resolution for resolution in seconds if SAVED * seconds[resolution] > builds[resolution]]


def build_seconds(resolution: int) -> float:
    """Seconds that building one stage's step takes, about (measured, docs/performance.md)."""
    return 10 + 8 * math.log2(resolution / 4)


def trial_stage(setup: RunSetup) -> Stage:
    """Stage in which precisions are compared."""
    largest, schedule = TRIAL if setup.device.type == "cpu" else TRIAL_ON_GPU, setup.config.schedule
    resolution = max(schedule.start_resolution, min(largest, schedule.resolution))
    return Stage(resolution, "stable", 1.0, min(8, setup.batch_size(resolution)), 1e-3, 1e-3)


def measure_gain(setup: RunSetup, fast: FixedPrecision, stage: Stage) -> float:
    """Time of an iteration in fp32 divided by that in `fast`: medians of alternating ones of equal networks.

    Raises MemoryError, or what PyTorch raises, if there is no room.
    """
    shape = replace(setup.shape, label_size=0)
    setups = [replace(setup, shape=shape, numerics=replace(setup.numerics, precision=name)) for name in ("fp32", fast)]
    free = free_bytes(setup.device)
    if free is not None and sum(estimate(each, stage.resolution, stage.batch_size) for each in setups) > free:
        raise MemoryError
    trials = [trial(each, stage) for each in setups]
    seconds: list[list[float]] = [[] for _ in trials]
    for i in range(4):
        for found, (state, train) in zip(seconds, trials, strict=True):
            start = time.perf_counter()
            train()
            state.settle()
            float(next(state.G.parameters()).detach().sum())  # waits for a GPU
            found.append(time.perf_counter() - start if i else math.inf)  # the first is slow
    slow, quick = (sorted(found)[1] for found in seconds)
    return slow / quick


def remembered(what: str, facts: list[Any], measure: Callable[[], Any]) -> Any:
    """Result of an earlier measurement on this machine under these conditions, or of one made now."""
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
