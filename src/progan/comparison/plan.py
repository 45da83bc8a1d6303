"""What a comparison is, fixed before its first run: `plan.json`, so that the same command goes on with it."""

import dataclasses
import json
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from progan.comparison.budget import Cost, for_kimg, for_seconds, watched
from progan.comparison.runs import Member, call
from progan.config import CompareConfig, RunConfig
from progan.data.dataset import Dataset
from progan.errors import RunError
from progan.files import write_whole
from progan.options import from_dict, override, to_dict
from progan.progress import Say
from progan.run.assemble import image_shape
from progan.run_folder import DataFacts, RunFolder
from progan.schedule import Phase, Schedule
from progan.training.numerics import choose
from progan.training.preflight import autotune
from progan.training.setup import RunSetup

FORMAT, VERSION = "progan comparison", 1
FILE = "plan.json"
_TRIAL_SHARE = 0.02
"""Of the budget that the trial of a stage may take, up to `_LONG`."""
_LONG, _SHORT = 3.0, 0.2
"""Seconds of the trial of a stage: where it decides the length of the run, and where it only estimates the time."""


@dataclass(frozen=True)
class Planned:
    """A model, its lengths fitted to the budget."""

    config: RunConfig
    training_flops: float
    estimate: float
    """Seconds of training, by the trial."""


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
    """Write `plan.json`, whole."""
    models = {name: {**vars(plan), "config": to_dict(plan.config)} for name, plan in plans.items()}
    content = {"format": FORMAT, "version": VERSION, "request": request, "models": models}
    write_whole(folder / FILE, (json.dumps(content, indent=1) + "\n").encode())


def make(
    contestants: Mapping[str, RunConfig],
    config: CompareConfig,
    train: Dataset,
    num: int,
    threads: int,
    say: Say,
) -> dict[str, Planned]:
    """Every model with its budget, by the speed of short trials, of which `jobs` run at once as the runs will."""
    plans: dict[str, Planned] = {}
    contestants = _alike(contestants, train, say)
    for name, model in contestants.items():
        if twin := next((other for other in plans if contestants[other] == model), None):
            plans[name] = plans[twin]
            continue
        say(f"trying how fast {name} is")
        if config.budget_kimg is not None:
            model = for_kimg(model, config.budget_kimg)
        seconds = _SHORT if config.budget_minutes is None else min(_LONG, 60 * config.budget_minutes * _TRIAL_SHARE)
        cost, flops = _trial(model, train, config.jobs, threads, seconds)
        if config.budget_minutes is not None:
            model = for_seconds(model, 60 * config.budget_minutes, cost)
        stages = [(images, (span.resolution, span.phase)) for span, images in Schedule(model.schedule).extents()]
        estimate = sum(images * cost[stage] for images, stage in stages)
        model = watched(model, config.measurements, num)
        plans[name] = Planned(model, sum(images * flops[stage] for images, stage in stages), estimate)
    return plans


def _alike(contestants: Mapping[str, RunConfig], train: Dataset, say: Say) -> dict[str, RunConfig]:
    """All in the precision that `auto` chooses for the first, and none compiled: not every model can be."""
    first = next(iter(contestants.values()))
    first = override(first, {"compile": "off"})
    setup = RunSetup(first, image_shape(first, train), choose(first.runtime), log=say)
    numerics = autotune.decide_precision(setup)
    same = {"compile": "off", "precision": numerics.precision}
    return {name: override(model, same) for name, model in contestants.items()}


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


def _trial(
    model: RunConfig, train: Dataset, jobs: int, threads: int, seconds: float
) -> tuple[Cost, dict[tuple[int, Phase], float]]:
    """Seconds and operations per image at every stage: the mean over `jobs` processes at the same time."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = RunFolder(Path(scratch))
        folder.write(model, DataFacts.of(train))
        command = ["-m", "progan.comparison.trial", scratch, str(seconds)]
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        processes = [call(command, threads, **pipes) for _ in range(jobs)]
        try:
            answers = [_answer(process, model) for process in processes]
        finally:
            for process in processes:
                process.kill()
    keys: list[tuple[int, Phase]] = [(stage["resolution"], stage["phase"]) for stage in answers[0]]
    cost = {key: sum(answer[i]["seconds_per_image"] for answer in answers) / jobs for i, key in enumerate(keys)}
    return cost, {key: answers[0][i]["flops_per_image"] for i, key in enumerate(keys)}


def _answer(process: "subprocess.Popen[Any]", model: RunConfig) -> Sequence[Any]:
    out, errors = process.communicate()
    if process.returncode != 0:
        raise RunError(f"{model.preset} cannot be trained: {errors.strip().splitlines()[-1]}")
    answer: Sequence[Any] = json.loads(out.splitlines()[-1])
    return answer


def request_of(config: CompareConfig, data: Dataset) -> dict[str, Any]:
    """All that decides the numbers; what only decides how they are shown or found is left out."""
    return {**dataclasses.asdict(config), "data": data.fingerprint}
