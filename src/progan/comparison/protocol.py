"""The steps of a comparison: split the data, fit the schedules, train, measure, write."""

import dataclasses
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from progan.comparison import plan as plans
from progan.comparison.controls import controls
from progan.comparison.measuring import Measurer, gather
from progan.comparison.runs import train_all
from progan.comparison.summary import summarize, to_csv, to_json
from progan.config import CompareConfig
from progan.data.cache import open_data
from progan.data.dataset import Dataset, Manifest
from progan.data.sources.named import preparation
from progan.data.split import split
from progan.errors import DatasetError
from progan.files import write_whole
from progan.metrics.evaluation import LEAST
from progan.options import json_text
from progan.progress import Log, log_line, silent
from progan.report.comparison_page import comparison_page
from progan.report.results import Comparison
from progan.run_folder import DataFacts
from progan.training.observers.run_files import picture
from progan.training.signals import stop_on_signals


@dataclass(frozen=True)
class Outcome:
    """What `compare` leaves behind."""

    path: Path
    comparison: Comparison | None
    """None: stopped before its end; the same call goes on."""

    @property
    def page(self) -> Path:
        return self.path / "report.html"


def compare(data: str | Path, out: str | Path, quiet: bool = False, reals: bool = True, **options: Any) -> Outcome:
    """Train and measure several models alike; `options` are the fields of CompareConfig.

    Goes on where an earlier call with the same options stopped. Raises a ProganError for what cannot be.
    """
    log: Log = silent if quiet else log_line
    config, folder = CompareConfig(**options), Path(out)
    dataset = open_data(data, preparation(data, resolution=config.resolution), log)
    resolution = config.resolution or dataset.resolutions[-1]
    # The plan is made once; its request is all that decides the numbers, not how they are shown or found.
    request = {**dataclasses.asdict(config), "data": dataset.fingerprint}
    planned = plans.read(folder, request)
    train, held_out, num = _split(folder, dataset, config)
    threads = max(1, torch.get_num_threads() // config.jobs)
    if planned is None:
        planned = plans.make(plans.contestants(config, train, resolution), config, train, num, threads, log)
        plans.write(folder, request, planned)
    members = plans.members(folder, planned, config)
    with stop_on_signals() as stopped:
        for member in members:
            member.folder.begin(member.config, DataFacts.of(train), allow_change=False)
        if not train_all(members, train.path, config.jobs, threads, log, stopped):
            log("stopped, all saved. The same command goes on")
            return Outcome(folder, None)
    metrics = tuple(name.strip() for name in config.metrics.split(","))
    measurer = Measurer(train, held_out, metrics, num, resolution, folder / "measured")
    first = next(iter(planned.values())).config
    chosen = list(controls(train, held_out, num, resolution, first)) if config.controls else []
    log(f"measuring {len(members)} runs" + (f" and {len(chosen)} controls" if chosen else ""))
    measurer.all(members, chosen, config.seeds, config.jobs)
    comparison = summarize(config, dataset, planned, members, chosen, measurer, threads)
    pictures = gather(members, chosen, train, held_out, resolution, reals)
    write_whole(folder / "comparison.json", (json_text(to_json(comparison), indent=1) + "\n").encode())
    write_whole(folder / "comparison.csv", to_csv(comparison).encode())
    (folder / "grids").mkdir(exist_ok=True)
    for name in planned:
        write_whole(folder / "grids" / f"{name}.png", picture(pictures.grids[name], across=8))
    write_whole(folder / "report.html", comparison_page(comparison, pictures).encode())
    return Outcome(folder, comparison)


def _split(folder: Path, dataset: Dataset, config: CompareConfig) -> tuple[Dataset, Dataset, int]:
    """What is trained on, what is measured with, and how many images of each kind a measurement takes.

    Held out are `num` images to measure against and `num` more for each seed of the control, at most half of the data.
    """
    held = min((1 + config.seeds) * config.num, dataset.count // 2)
    num = held // (1 + config.seeds)
    if num < LEAST:
        raise DatasetError(f"{dataset.name} has {dataset.count} images: too few to hold some out for measuring")
    places = folder / "data" / "train", folder / "data" / "held-out"
    if not all(Manifest.is_in(place) for place in places):
        for place in places:
            shutil.rmtree(place, ignore_errors=True)  # half made
            place.parent.mkdir(parents=True, exist_ok=True)
        split(dataset.path, *places, count=held)
    return Dataset.open(places[0]), Dataset.open(places[1]), num
