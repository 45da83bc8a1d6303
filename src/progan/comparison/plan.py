"""What a comparison is, fixed before its first run: models that fit the data, with schedules that fit the budget.

It is kept in `plan.json`, so that the same command goes on with it.
"""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from progan.comparison.runs import Member, try_stages
from progan.config import CompareConfig, RunConfig
from progan.data.dataset import Dataset
from progan.errors import ConfigError, RunError
from progan.files import write_whole
from progan.metrics.evaluation import LEAST
from progan.options import from_dict, override, to_dict
from progan.presets import PRESETS, preset
from progan.progress import Log
from progan.run.assemble import image_shape
from progan.run_folder import RunFolder
from progan.schedule import Schedule, cost_of, for_kimg, for_seconds, in_images
from progan.training.numerics import choose
from progan.training.preflight import autotune
from progan.training.setup import RunSetup

FORMAT, VERSION = "progan comparison", 1
FILE = "plan.json"
_LARGE = 128
"""Resolution from which ProGAN has the widths of `folder128`."""
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


# From the names of models to configurations that fit the data


def contestants(config: CompareConfig, dataset: Dataset, resolution: int) -> dict[str, RunConfig]:
    """What is to be trained, by the name it has in the comparison; lengths are still the presets' own.

    A model that is named twice is there twice, the second time as `progan-2`. Raises ConfigError for what cannot be.
    """
    found: dict[str, RunConfig] = {}
    names = [name.strip() for name in config.models.split(",") if name.strip()]
    if not names:
        raise ConfigError("--models: name at least one, e.g. --models progan,dcgan")
    for i, name in enumerate(names):
        times = names[: i + 1].count(name)
        found[name if times == 1 else f"{name}-{times}"] = fit(name, config, dataset, resolution)
    return found


def fit(name: str, config: CompareConfig, dataset: Dataset, resolution: int) -> RunConfig:
    """One model, at the data's resolution, with the comparison's width and settings."""
    chosen = preset(_preset_for(name, resolution, dataset.channels))
    fixed = chosen.schedule.start_resolution == chosen.schedule.resolution
    changes: dict[str, Any] = {
        "data": str(dataset.path),
        "mirror": config.mirror,
        "labels": False,
        "resolution": resolution,
        "start_resolution": resolution if fixed else chosen.schedule.start_resolution,
        "device": config.device,
        "precision": config.precision,
    }
    if config.width is not None and hasattr(chosen.model, "width"):
        changes["width"] = config.width
    elif config.width is not None:  # the widest layers up to 16x16, half as wide at each doubling
        changes |= {"fmap_max": config.width, "fmap_base": 8 * config.width}
    fitted = override(chosen, changes)
    return dataclasses.replace(fitted, schedule=in_images(fitted.schedule, dataset.count))


def _preset_for(name: str, resolution: int, channels: int) -> str:
    """The preset that a short name stands for; another name is a preset's own."""
    if name == "progan":
        if resolution >= _LARGE:
            return "folder128"
        return "mnist32" if channels == 1 else "quickstart"
    rests = [other.removeprefix(name) for other in PRESETS if other.startswith(name)]
    sizes = sorted(int(rest) for rest in rests if rest.isdecimal())
    if name in PRESETS or not sizes:
        return name  # of an unknown name `preset` tells the nearest one
    return f"{name}{max((size for size in sizes if size <= resolution), default=sizes[0])}"


def watched(config: RunConfig, measurements: int, num: int) -> RunConfig:
    """The run measured so often, with a sample grid each time; half as many images as at the end are enough there."""
    every = 0.999 * Schedule(config.schedule).total_nimg / 1000 / measurements  # so that the last is at the end
    changes = {"tick_kimg": every / 4, "grid_kimg": every, "metrics_kimg": every, "metrics_num": max(LEAST, num // 2)}
    return override(config, changes)


# The plan


def make(
    contestants: Mapping[str, RunConfig], config: CompareConfig, train: Dataset, num: int, threads: int, log: Log
) -> dict[str, Planned]:
    """Every model with its budget, by the speed of short trials, of which `jobs` run at once as the runs will."""
    # All compute in the precision that `auto` chooses for the first, and none is compiled: not every model can be.
    first = override(next(iter(contestants.values())), {"compile": "off"})
    setup = RunSetup(
        first, image_shape(first, train), choose(dataclasses.replace(first.runtime, threads=threads)), log=log
    )
    alike = {"compile": "off", "precision": autotune.decide_precision(setup).precision}
    plans: dict[str, Planned] = {}
    for name, model in contestants.items():
        # A model that is compared with itself has one plan.
        if twin := next((other for other in plans if contestants[other] == model), None):
            plans[name] = plans[twin]
            continue
        log(f"trying how fast {name} is")
        model = override(model, alike)
        if config.budget_kimg is not None:
            model = for_kimg(model, config.budget_kimg)
        seconds = _SHORT if config.budget_minutes is None else min(_LONG, 60 * config.budget_minutes * _TRIAL_SHARE)
        cost, flops = try_stages(model, train, config.jobs, threads, seconds)
        if config.budget_minutes is not None:
            model = for_seconds(model, 60 * config.budget_minutes, cost)
        plans[name] = Planned(
            watched(model, config.measurements, num), cost_of(model.schedule, flops), cost_of(model.schedule, cost)
        )
    return plans


def read(folder: Path, request: Mapping[str, Any]) -> dict[str, Planned] | None:
    """The plan in the folder; None if there is none. Raises RunError if it is that of another comparison."""
    path = folder / FILE
    if not path.exists():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if (content["format"], content["version"]) != (FORMAT, VERSION):
            raise RunError(f"{path} is of another version of progan. Name another folder with --out")
        old = content["request"]
        plans = {
            name: Planned(**{**plan, "config": from_dict(plan["config"])}) for name, plan in content["models"].items()
        }
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path} cannot be read: {error}. Name another folder with --out") from None
    if changed := [f"{key}: {old.get(key)} -> {request.get(key)}" for key in request if old.get(key) != request[key]]:
        raise RunError(f"{folder} holds another comparison ({'; '.join(changed)}). Name another folder with --out")
    return plans


def write(folder: Path, request: Mapping[str, Any], plans: Mapping[str, Planned]) -> None:
    """Write `plan.json`, whole. `request`: all that decides the numbers."""
    models = {name: {**vars(plan), "config": to_dict(plan.config)} for name, plan in plans.items()}
    content = {"format": FORMAT, "version": VERSION, "request": request, "models": models}
    write_whole(folder / FILE, (json.dumps(content, indent=1) + "\n").encode())


def members(folder: Path, plans: Mapping[str, Planned], config: CompareConfig) -> list[Member]:
    """All runs, one seed of every model after the other, so that a machine that slows down slows all models.

    A model that is compared with itself takes the seeds after those of its first.
    """
    found = []
    for k in range(config.seeds):
        for name, plan in plans.items():
            again = int(name.rpartition("-")[2]) - 1 if name.rpartition("-")[0] in plans else 0
            seed = config.seed + again * config.seeds + k
            run = override(plan.config, {"seed": seed})
            found.append(Member(name, seed, run, RunFolder(folder / "runs" / f"{name}-seed{seed}")))
    return found
