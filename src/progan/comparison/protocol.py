"""The steps of a comparison: split the data, fit the schedules, train, measure, write."""

import dataclasses
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from progan.commands import CompareConfig, ProtocolConfig
from progan.comparison import plan as plans
from progan.comparison.contestants import configurations, parse, read_models
from progan.comparison.controls import controls
from progan.comparison.measuring import Measurer, gather
from progan.comparison.runs import Member, train_all
from progan.comparison.summary import summarize, to_csv, to_json
from progan.data.cache import open_data
from progan.data.dataset import Dataset, Manifest
from progan.data.sources.named import preparation
from progan.data.split import split
from progan.errors import ConfigError, DatasetError, RunError
from progan.files import write_whole
from progan.metrics.evaluation import ALL, LEAST, OF_INCEPTION, known
from progan.options import json_text
from progan.progress import Log, log_line, silent
from progan.report.comparison_page import Pictures, comparison_page
from progan.report.results import Comparison
from progan.run_folder import DataFacts
from progan.training.observers.run_files import picture
from progan.training.signals import deadline, stop_on_signals


@dataclass(frozen=True)
class Outcome:
    """What `compare` leaves behind."""

    path: Path
    comparison: Comparison | None
    """None: stopped before its end; the same call goes on."""
    ground: "Ground"
    members: Sequence[Member]
    """All runs, finished or not."""

    @property
    def page(self) -> Path:
        return self.path / "report.html"


@dataclass(frozen=True)
class Ground:
    """What all runs of a comparison have in common."""

    folder: Path
    dataset: Dataset
    train: Dataset
    held_out: Dataset
    num: int
    """Images of each kind in a measurement."""
    resolution: int
    threads: int
    """Threads of a run."""

    def measurer(self, metrics: str, resolution: int | None = None, place: str = "measured") -> Measurer:
        """What measures runs, and remembers that below `place`; at another resolution than that of the data.

        Raises ConfigError for metrics that there are not, or that lack what they need.
        """
        names, size = tuple(name.strip() for name in metrics.split(",")), resolution or self.resolution
        if metrics != ALL and (found := [name for name in known(names) if name in OF_INCEPTION]):
            raise ConfigError(
                f"{found[0].replace('_', '-')} is not measured in comparisons; afterwards, progan evaluate has it"
            )
        return Measurer(self.train, self.held_out, names, self.num, size, self.folder / place)


def compare(
    data: str | Path,
    out: str | Path,
    quiet: bool = False,
    reals: bool = True,
    time_limit: str | float | None = None,
    **options: Any,
) -> Outcome:
    """Train and measure several models alike; `options` are the fields of CompareConfig.

    Goes on where an earlier call with the same options stopped. `time_limit` stops training after so many seconds from
    now, or `90s`, `50m`. Raises a ProganError for what cannot be.
    """
    until = deadline(time_limit)
    log: Log = silent if quiet else log_line
    config = CompareConfig(**options)
    config = dataclasses.replace(config, models=read_models(config.models))
    entrants = parse(config.models)
    folder, dataset, request = begin(data, out, config, log)
    planned = plans.read(folder, request)
    ground = lay(folder, dataset, config)
    measurer = ground.measurer(config.metrics)  # what it lacks is said before anything is trained
    if planned is None:
        models = configurations(entrants, config, ground.train, ground.resolution)
        planned = plans.make(models, config, ground.train, ground.num, ground.threads, log)
        given = {each.name: each.text for each in entrants}
        planned = {name: dataclasses.replace(plan, given=given[name]) for name, plan in planned.items()}
        plans.write(folder, request, planned)
    members = plans.members(folder, planned, config, ground.train)
    # Pseudo-models to be ranked beside the others.
    first = next(iter(planned.values())).config
    chosen = (
        list(controls(ground.train, ground.held_out, ground.num, ground.resolution, first)) if config.controls else []
    )
    if same := [control.name for control in chosen if control.name in planned]:
        raise ConfigError(f"--controls has {same[0]!r} as well. Give that model another name")
    with stop_on_signals(until) as stopped:
        for member in members:
            member.folder.begin(member.config, DataFacts.of(ground.train), allow_change=False)
        if not train_all(members, ground.train.path, config.jobs, ground.threads, log, stopped):
            log("stopped, all saved. The same command goes on")
            return Outcome(folder, None, ground, members)
    finished, lost = undiverged(members, log)
    log(f"measuring {len(finished)} runs" + (f" and {len(chosen)} controls" if chosen else ""))
    measurer.all(finished, chosen, config.seeds, config.jobs)
    if config.budget_kimg:
        budget = f"{config.budget_kimg:g} thousand real images"
    else:
        budget = f"{config.budget_minutes:g} minutes of training, measuring not counted"
    planned = {name: plan for name, plan in planned.items() if any(member.model == name for member in finished)}
    comparison = summarize(config, budget, dataset, planned, finished, chosen, measurer, ground.threads)
    comparison = dataclasses.replace(comparison, notes=[*comparison.notes, *lost])
    pictures = gather(finished, chosen, ground.train, ground.held_out, ground.resolution, reals)
    publish(folder, comparison, pictures, to_json(comparison), finished)
    return Outcome(folder, comparison, ground, members)


def begin(data: str | Path, out: str | Path, config: ProtocolConfig, log: Log) -> tuple[Path, Dataset, dict[str, Any]]:
    """Folder and images, and all that decides the runs, not how they are measured, shown or found."""
    dataset = open_data(data, preparation(data, resolution=config.resolution), log)
    request = {**dataclasses.asdict(config), "data": dataset.fingerprint}
    del request["metrics"]
    return Path(out), dataset, request


def undiverged(members: Sequence[Member], log: Log) -> tuple[list[Member], list[str]]:
    """The runs that did not diverge, and a line for each that did. Raises RunError if that are all."""
    kept = [member for member in members if member.diverged is None]
    lines = [f"{member.name} is left out: it {member.diverged}" for member in members if member.diverged is not None]
    if not kept:
        raise RunError(f"no run came to its end: {lines[0]}")
    for line in lines:
        log(f"warning: {line}")
    return kept, lines


def lay(folder: Path, dataset: Dataset, config: ProtocolConfig) -> Ground:
    """What is trained on, what is measured with, and how many images of each kind a measurement takes.

    Held out are `num` images to measure against and `num` more for each seed of the control, at most half of the data.
    """
    held = min((1 + config.seeds) * config.num, dataset.count // 2)
    num = held // (1 + config.seeds)
    if num < LEAST:
        raise DatasetError(f"{dataset.name} has {dataset.count} images: too few to hold some out for measuring")
    places = folder / "data" / "train", folder / "data" / "held-out"
    if not all(_is_part(place, dataset, held) for place in places):
        for place in places:
            shutil.rmtree(place, ignore_errors=True)  # half made, or left by a call that went no further
            place.parent.mkdir(parents=True, exist_ok=True)
        split(dataset.path, *places, count=held)
    threads = max(1, torch.get_num_threads() // max(1, config.jobs))
    resolution = config.resolution or dataset.resolutions[-1]
    return Ground(folder, dataset, Dataset.open(places[0]), Dataset.open(places[1]), num, resolution, threads)


def _is_part(place: Path, dataset: Dataset, held: int) -> bool:
    """True for a part of this dataset of which so many images are held out."""
    try:
        made = Manifest.read(place).preparation
    except DatasetError:  # there is none, or it is damaged
        return False
    return (made.get("parted_from"), made.get("held_out")) == (dataset.fingerprint, held)


def publish(
    folder: Path,
    comparison: Comparison,
    pictures: Pictures,
    content: Mapping[str, Any],
    members: Sequence[Member],
    name: str = "comparison",
    sweep: str = "",
) -> None:
    """Write `comparison.json`, `comparison.csv`, the grids and the page. `sweep`: HTML of what went before."""
    write_whole(folder / f"{name}.json", (json_text(content, indent=1) + "\n").encode())
    write_whole(folder / f"{name}.csv", to_csv(comparison).encode())
    (folder / "grids").mkdir(exist_ok=True)
    for member in members:
        if member.seed == min(other.seed for other in members if other.model == member.model):
            place = folder / "grids" / f"{member.name.rpartition('-seed')[0]}.png"
            write_whole(place, picture(pictures.grids[member.model], across=8))
    write_whole(folder / "report.html", comparison_page(comparison, pictures, sweep).encode())
