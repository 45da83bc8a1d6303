"""What a comparison or a sweep is, fixed before its first run: models with schedules that fit the budget.

It is kept in `plan.json`, so that the same command goes on with it.
"""

import dataclasses
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from progan.commands import CompareConfig, ProtocolConfig, SweepConfig
from progan.comparison.contestants import folders
from progan.comparison.runs import Member, try_stages
from progan.config import RunConfig
from progan.data.dataset import Dataset
from progan.errors import RunError
from progan.files import write_whole
from progan.metrics.evaluation import LEAST
from progan.options import from_dict, override, to_dict
from progan.progress import Log
from progan.run.assemble import image_shape
from progan.run_folder import RunFolder
from progan.schedule import Cost, Schedule, cost_of, for_kimg, for_seconds
from progan.training.numerics import choose
from progan.training.preflight import autotune
from progan.training.setup import RunSetup

COMPARISON, SWEEP = "progan comparison", "progan sweep"
"""Formats of plans."""
VERSION = 1
FILE = "plan.json"
SMALLEST = 16
"""Resolution from which images are measured."""
_TRIAL_SHARE = 0.02
"""Fraction of the budget that the trial of a stage may take, up to `_LONG`."""
_LONG, _SHORT = 3.0, 0.2
"""Seconds of the trial of a stage: where it decides the length of the run, and where it only estimates the time."""


@dataclass(frozen=True)
class Planned:
    """A model, its lengths fitted to the budget."""

    config: RunConfig
    training_flops: float
    estimate: float
    """Seconds of training, by the trial."""
    given: str = ""
    """Preset and options as they were asked for."""
    rungs: tuple[int, ...] = ()
    """Images at the end of every rung of a sweep; the last are all."""


def watched(config: RunConfig, measurements: int, num: int) -> RunConfig:
    """The run measured so often, with a sample grid each time; half as many images as at the end are enough there."""
    every = 0.999 * Schedule(config.schedule).total_nimg / 1000 / measurements  # so that the last is at the end
    changes = {"tick_kimg": every / 4, "grid_kimg": every, "metrics_kimg": every, "metrics_num": max(LEAST, num // 2)}
    return override(config, changes)


# The rungs of a sweep


@dataclass(frozen=True)
class Ladder:
    """Successive halving (Jamieson and Talwalkar 2016): fewer and fewer go on, at equal training times."""

    fractions: tuple[float, ...]
    """Ends of the rungs, as fractions of a whole run's training time; the last is 1."""
    sizes: tuple[int, ...]
    """How many candidates are trained in each rung."""

    @property
    def work(self) -> float:
        """Training time of all, in whole runs."""
        starts = (0.0, *self.fractions)
        return sum(size * (end - start) for size, start, end in zip(self.sizes, starts, self.fractions, strict=False))


def ladder(candidates: int, halving: float, earliest: float) -> Ladder:
    """Rungs at 1, 1/halving, 1/halving² … of a run, not before `earliest`; each keeps the same share, the last two."""
    cuts = max(0, math.ceil(math.log(candidates / 2, halving) - 1e-9)) if candidates > 2 else 0
    fractions = sorted({max(halving**-k, min(earliest, 1.0)) for k in range(cuts + 1)})
    share = (2 / candidates) ** (1 / max(1, len(fractions) - 1))
    sizes = (max(min(2, candidates), round(candidates * share**i)) for i in range(len(fractions)))
    return Ladder(tuple(fractions), tuple(sizes))


def earliest(config: RunConfig, cost: Cost) -> float:
    """Fraction of a run's training time from which its images can be measured: at 16x16, without a fade into that."""
    small = sum(
        images * cost[span.resolution, span.phase]
        for span, images in Schedule(config.schedule).extents()
        if span.resolution < SMALLEST or (span.resolution == SMALLEST and span.phase == "fade")
    )
    return small / cost_of(config.schedule, cost)


def images_after(config: RunConfig, cost: Cost, fraction: float) -> int:
    """Number of images that a run has shown after a fraction of its training time."""
    left, schedule = fraction * cost_of(config.schedule, cost), Schedule(config.schedule)
    for span, images in schedule.extents():
        each = cost[span.resolution, span.phase]
        if left < images * each:
            return span.start + round(left / each)
        left -= images * each
    return schedule.total_nimg


# The plan


@dataclass(frozen=True)
class _Tried:
    """A model after its trial: seconds and operations per image."""

    config: RunConfig
    cost: Cost
    flops: Cost


def make(
    contestants: Mapping[str, RunConfig], config: CompareConfig, train: Dataset, num: int, threads: int, log: Log
) -> dict[str, Planned]:
    """Every model with its budget, by the speed of short trials, of which `jobs` run at once as the runs will."""
    kimg, minutes = config.budget_kimg, config.budget_minutes
    models = dict(contestants) if kimg is None else {name: for_kimg(each, kimg) for name, each in contestants.items()}
    plans = {}
    for name, each in _tried(models, config, train, threads, minutes, log).items():
        model = each.config if minutes is None else for_seconds(each.config, 60 * minutes, each.cost)
        plans[name] = _planned(model, each, config, num)
    return plans


def make_sweep(
    contestants: Mapping[str, RunConfig], config: SweepConfig, train: Dataset, num: int, threads: int, log: Log
) -> tuple[dict[str, Planned], Ladder]:
    """Every candidate with the schedule of a whole run, and where its rungs end.

    What is the budget of all is divided so that the runs of all rungs take it together.
    """
    tried = _tried(contestants, config, train, threads, config.minutes, log)
    first = max(earliest(each.config, each.cost) for each in tried.values())
    rungs, plans = ladder(len(contestants), config.halving, first), {}
    for name, each in tried.items():
        if config.minutes is None:
            assert config.kimg is not None
            model = for_kimg(each.config, config.kimg)
        else:
            seconds = 60 * config.minutes * max(config.jobs, 1) / (config.seeds * rungs.work)
            model = for_seconds(each.config, seconds, each.cost)
        ends = tuple(images_after(model, each.cost, fraction) for fraction in rungs.fractions[:-1])
        whole = Schedule(model.schedule).total_nimg
        plans[name] = dataclasses.replace(_planned(model, each, config, num), rungs=(*ends, whole))
    return plans, rungs


def _tried(
    contestants: Mapping[str, RunConfig],
    config: ProtocolConfig,
    train: Dataset,
    threads: int,
    minutes: float | None,
    log: Log,
) -> dict[str, _Tried]:
    """The speed of every model. Those of which no step differs in its operations have one trial."""
    # All compute in the precision that `auto` chooses for the first, and none is compiled: not every model can be.
    first = override(next(iter(contestants.values())), {"compile": "off"})
    setup = RunSetup(
        first, image_shape(first, train), choose(dataclasses.replace(first.runtime, threads=threads)), log=log
    )
    alike = {"compile": "off", "winograd": "off", "precision": autotune.decide_precision(setup).precision}
    seconds = _SHORT if minutes is None else min(_LONG, 60 * minutes * _TRIAL_SHARE)
    found: dict[str, _Tried] = {}
    trials: dict[RunConfig, tuple[Cost, Cost]] = {}
    for name, model in contestants.items():
        model = override(model, alike)
        key = _without_rates(model)
        if key not in trials:
            log(f"trying how fast {name} is")
            trials[key] = try_stages(model, train, config.jobs, threads, seconds)
        found[name] = _Tried(model, *trials[key])
    return found


def _without_rates(model: RunConfig) -> RunConfig:
    """The model without the options that change numbers but no operation."""
    plain = RunConfig().optimizer
    rates = {name: getattr(plain, name) for name in ("beta1", "beta2", "adam_eps", "ema_decay")}
    return override(model, {**rates, "lr": 0.001, "d_lr": None})


def _planned(model: RunConfig, tried: _Tried, config: ProtocolConfig, num: int) -> Planned:
    return Planned(
        watched(model, config.measurements, num),
        cost_of(model.schedule, tried.flops),
        cost_of(model.schedule, tried.cost),
    )


def read(folder: Path, request: Mapping[str, Any], format: str = COMPARISON) -> dict[str, Planned] | None:
    """The plan in the folder; None if there is none. Raises RunError if it is that of another comparison."""
    path = folder / FILE
    if not path.exists():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != format and content["format"] in (COMPARISON, SWEEP):
            raise RunError(f"{folder} holds a {content['format'].split()[1]}. Name another folder with --out")
        if (content["format"], content["version"]) != (format, VERSION):
            raise RunError(f"{path} is of another version of progan. Name another folder with --out")
        old = content["request"]
        plans = {
            name: Planned(**{**plan, "config": from_dict(plan["config"]), "rungs": tuple(plan.get("rungs", ()))})
            for name, plan in content["models"].items()
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunError(f"{path} cannot be read: {error}. Name another folder with --out") from None
    if changed := [f"{key}: {old.get(key)} -> {request.get(key)}" for key in request if old.get(key) != request[key]]:
        raise RunError(
            f"{folder} holds another {format.split()[1]} ({'; '.join(changed)}). Name another folder with --out"
        )
    return plans


def write(folder: Path, request: Mapping[str, Any], plans: Mapping[str, Planned], format: str = COMPARISON) -> None:
    """Write `plan.json`, whole. `request`: all that decides the numbers."""
    models = {name: {**vars(plan), "config": to_dict(plan.config)} for name, plan in plans.items()}
    content = {"format": format, "version": VERSION, "request": request, "models": models}
    write_whole(folder / FILE, (json.dumps(content, indent=1) + "\n").encode())


def members(folder: Path, plans: Mapping[str, Planned], config: ProtocolConfig, train: Dataset) -> list[Member]:
    """All runs, one seed of every model after the other, so that a machine that slows down slows all models.

    `train`: the images, which may have moved since the plan was made. Models have the same seeds; one that is compared
    with itself takes those after the seeds of its first.
    """
    found, places = [], folders(plans)
    for k in range(config.seeds):
        for name, plan in plans.items():
            seed = config.seed + _again(name, plans) * config.seeds + k
            run = override(plan.config, {"seed": seed, "data": str(train.path)})
            found.append(Member(name, seed, run, RunFolder(folder / "runs" / f"{places[name]}-seed{seed}")))
    return found


def _again(name: str, plans: Mapping[str, Planned]) -> int:
    """1 for `a-2`, 2 for `a-3`, where that is the model `a` once more; else 0."""
    match = re.fullmatch(r"(.*)-(\d+)", name)
    return int(match[2]) - 1 if match and match[1] in plans and plans[match[1]] == plans[name] else 0
