"""Runs the studies of this folder, one declarative file each, on top of `progan compare`.

    python studies/run.py --data DIR [STUDY ...] [--for 50m] [--out runs/studies] [--results studies/results] [--jobs 1]
    python studies/run.py --check          # every study at a tiny scale on drawn images: does it run?
    python studies/run.py --list           # what there is, and how far it is

DIR has the downloads that `SOURCES` names; one that is not there is looked for as a published set. STUDY is a number;
default: all, in their order of worth. A sitting ends after `--for`, and the next one goes on: finished runs are kept in
RESULTS as statistics, numbers and snapshots, with which another checkout goes on as well. A part is reported when all
its runs are finished: `result.json`, grids of generated images, and a table in markdown. Those stay, the runs go.
"""

import argparse
import dataclasses
import json
import math
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from measures import NUM, finite, of_images, of_statistics, seconds_to, timeline

import progan
from progan.commands import CompareConfig
from progan.comparison import plan as plans
from progan.comparison.contestants import configurations, parse
from progan.comparison.measuring import networks
from progan.comparison.protocol import Ground, Outcome, begin, compare, lay
from progan.comparison.runs import Member
from progan.config import PrepareConfig
from progan.data.dataset import Manifest
from progan.data.prepare import prepare
from progan.errors import ProganError
from progan.files import write_whole
from progan.options import json_text, parse_json
from progan.progress import silent
from progan.randomness import latents
from progan.report.results import differences, mean
from progan.schedule import Schedule
from progan.snapshot import generate
from progan.training.observers.run_files import read_stats
from progan.training.signals import seconds

HERE = Path(__file__).resolve().parent
ORDER = (3, 1, 2, 4, 7, 8, 5, 6)
"""Studies by worth, those first that say most."""
SOURCES = {
    "mnist": "train-images-idx3-ubyte.gz",
    "fashion-mnist": "fashion-mnist",
    "cifar10": "cifar10-train-jpg.zip",
    "faces": "faces64-gray.zip",
    "stacked-mnist": "stacked:train-images-idx3-ubyte.gz",
}
"""Name in a study -> file in the folder of downloads, or published set."""
RESOLUTION = 32


@dataclass(frozen=True)
class Part:
    """One comparison."""

    name: str
    data: str
    """Name of SOURCES."""
    models: tuple[str, ...]
    """As `progan compare --models` takes them, one each."""
    report: tuple[str, ...]
    """Numbers of the table: of the metrics, or of `measures`."""
    metrics: str = "swd,ms-ssim"
    minutes: float | None = 5.0
    kimg: float | None = None
    seeds: int = 3
    width: int | None = 32
    images: int | None = None
    """The first images of the data; None: all."""
    num: int = 1024
    measurements: int = 16
    mirror: bool = False
    swd_factor: float = 4.0
    """SWD, as a multiple of the real-vs-real baseline, to which `seconds_to_swd` counts."""


@dataclass(frozen=True)
class Study:
    """A file of this folder."""

    number: int
    title: str
    claims: tuple[str, ...]
    differs: str
    """What differs from what the claims were made of."""
    parts: tuple[Part, ...]


def studies() -> list[Study]:
    """All, in their order of worth. Raises ValueError for a file that is none."""
    found = [parse_json(Study, json.loads(path.read_text(encoding="utf-8"))) for path in HERE.glob("[0-9]*.json")]
    return sorted(found, key=lambda study: ORDER.index(study.number))


def folder_of(study: Study, part: Part) -> Path:
    """Place of a part below any of the folders."""
    return Path(f"study-{study.number}") / part.name


def reported(study: Study, part: Part, results: Path) -> bool:
    """True if the part, as its file now says, is finished."""
    path = results / folder_of(study, part) / "result.json"
    asked = json.loads(json_text(part))
    return path.exists() and json.loads(path.read_text(encoding="utf-8"))["part"] == asked


# The images


def dataset(part: Part, downloads: Path, out: Path) -> Path:
    """The part's images, prepared once."""
    place = out / "data" / f"{part.data}-{part.images or 'all'}"
    if not Manifest.is_in(place):
        prefix, _, name = SOURCES[part.data].rpartition(":")
        source = str(downloads / name) if (downloads / name).exists() else name
        place.parent.mkdir(parents=True, exist_ok=True)
        config = PrepareConfig(resolution=RESOLUTION, max_images=part.images)
        prepare(f"{prefix}:{source}" if prefix else source, place, config)
    return place


# What is kept from one sitting to the next: plan, measured numbers, and of finished runs statistics and last snapshot


def restore(kept: Path, folder: Path) -> None:
    """Bring back what earlier sittings kept, where this checkout does not have it."""
    for path in sorted(kept.glob("*.json")) + sorted(kept.glob("measured/*")):
        target = folder / path.relative_to(kept)
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
    for run in sorted(kept.glob("runs/*")):
        if not (folder / "runs" / run.name).exists():
            shutil.copytree(run, folder / "runs" / run.name)


def keep(folder: Path, kept: Path, members: Sequence[Member]) -> None:
    """Copy what `restore` needs of these runs, which are measured."""
    wanted = [folder / plans.FILE, *sorted((folder / "measured").glob("*.json"))]
    for member in members:
        wanted += [member.folder.path / "config.json", member.folder.stats, member.folder.snapshot()]
    for path in wanted:
        target = kept / path.relative_to(folder)
        if not target.exists() or target.stat().st_size != path.stat().st_size:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)


# A part


def request(part: Part, **others: Any) -> dict[str, Any]:
    """Options of `progan compare`."""
    options: dict[str, Any] = {
        "models": "; ".join(part.models),
        "budget_minutes": part.minutes if part.kimg is None else None,
        "budget_kimg": part.kimg,
        "metrics": part.metrics,
    }
    names = ("seeds", "width", "num", "measurements", "mirror")
    return {**options, **{name: getattr(part, name) for name in names}, **others}


def measured(member: Member, ground: Ground) -> dict[str, Any]:
    """Numbers of a finished run beyond the metrics, and its time line; remembered beside these."""
    path, key = ground.folder / "measured" / f"study-{member.name}.json", [NUM, ground.num]
    if not path.exists() or json.loads(path.read_text(encoding="utf-8")).get("key") != key:
        stats = read_stats(member.folder.stats)
        indices = ground.held_out.order(0, min(NUM, ground.held_out.count), 0)
        reals = torch.from_numpy(ground.held_out.pixels(ground.resolution, indices))
        images = {}
        for name, G in networks(member, ground.train)[0].items():
            z = torch.from_numpy(latents(range(min(NUM, ground.num)), G.z_dim))
            with torch.no_grad():
                images[name] = torch.cat(list(generate(G, z, None, ground.resolution)))
        numbers = {**of_statistics(stats), **of_images(images, reals)}
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, json_text({"key": key, "numbers": numbers, "timeline": timeline(stats)}).encode())
    return dict(json.loads(path.read_text(encoding="utf-8")))


def run_part(study: Study, part: Part, data: Path, out: Path, results: Path, **options: Any) -> Outcome:
    """Go on with a part; when all runs are finished, write what it found."""
    place, kept = out / folder_of(study, part), results / folder_of(study, part) / "kept"
    restore(kept, place)
    outcome = compare(data, place, **options)
    finished = [member for member in outcome.members if member.reached(member.total_nimg)]
    if finished:
        outcome.ground.measurer(part.metrics).all(finished, [], 0, 1)
        extra = {member.name: measured(member, outcome.ground) for member in finished}
        keep(place, kept, finished)
    if outcome.comparison is not None:
        report(study, part, outcome, extra, results / folder_of(study, part))
    return outcome


def report(study: Study, part: Part, outcome: Outcome, extra: dict[str, dict[str, Any]], target: Path) -> None:
    """Write `result.json`, the grids and `table.md`."""
    comparison = outcome.comparison
    assert comparison is not None
    target.mkdir(parents=True, exist_ok=True)
    values: dict[str, dict[str, list[float]]] = {}
    for each in comparison.models:
        metrics = {name: each.numbers(name) for name in comparison.metrics}
        times = seconds_to([run.stats for run in each.runs], part.swd_factor)
        runs = [{**extra[Path(run.folder).name]["numbers"], **time} for run, time in zip(each.runs, times, strict=True)]
        measures = {name: [math.nan if run[name] is None else run[name] for run in runs] for name in runs[0]}
        values[each.name] = {**metrics, **measures}
    if missing := [name for name in part.report if name not in next(iter(values.values()))]:
        raise ProganError(f"study {study.number}, {part.name}: there is no number {missing[0]}")
    alike = {each.name: (each.begins, *(run.seed for run in each.runs)) for each in comparison.models}
    found = {}
    for name in part.report:
        whole = {model: numbers[name] for model, numbers in values.items() if len(finite(numbers[name])) == part.seeds}
        found[name] = {
            "values": {model: numbers[name] for model, numbers in values.items()},
            "means": {model: mean(numbers) for model, numbers in whole.items()},
            "differences": differences(whole, comparison.floors.get(name), alike),
        }
    content = {
        "study": study.number,
        "part": dataclasses.asdict(part),
        "claims": study.claims,
        "protocol": dict(comparison.facts),
        "notes": list(comparison.notes),
        "floors": dict(comparison.floors),
        "numbers": found,
        "timelines": {name: each["timeline"] for name, each in extra.items()},
        "progan": progan.__version__,
    }
    write_whole(target / "result.json", (json_text(content) + "\n").encode())
    shutil.rmtree(target / "grids", ignore_errors=True)
    shutil.copytree(outcome.path / "grids", target / "grids")
    write_whole(target / "table.md", table(part, found, comparison.floors, list(values)).encode())
    names = {each.name: [Path(run.folder).name for run in each.runs] for each in comparison.models}
    draw({model: [extra[name]["timeline"] for name in runs] for model, runs in names.items()}, target)


def table(part: Part, found: dict[str, Any], floors: Any, models: Sequence[str]) -> str:
    """Means and intervals in markdown; where not all seeds have a number, those that have."""
    lines = [f"| | {' | '.join(part.report)} |", f"|---{'|---' * len(part.report)}|"]
    for model in models:
        cells = []
        for name in part.report:
            value = found[name]["means"].get(model)
            some = finite(found[name]["values"][model])
            ends = "" if value is None or math.isnan(value.low) else f" ({value.low:.3g} … {value.high:.3g})"
            few = ", ".join(f"{number:.3g}" for number in some) or "–"
            cells.append(few if value is None else f"{value.value:.3g}{ends}")
        lines.append(f"| {model} | {' | '.join(cells)} |")
    floor = [f"{floors[name]:.3g}" if name in floors else "" for name in part.report]
    return "\n".join([*lines, f"| other real images | {' | '.join(floor)} |", ""])


def draw(timelines: Mapping[str, Sequence[Mapping[str, Sequence[Any]]]], target: Path) -> None:
    """`timelines.png`: variety and distance during training, a column for each model and a line for each seed."""
    from matplotlib.figure import Figure  # slow to import
    from matplotlib.ticker import LogLocator, NullLocator

    figure = Figure(figsize=(1 + 1.7 * len(timelines), 3.6), layout="constrained")
    axes = figure.subplots(2, len(timelines), sharex="col", sharey="row", squeeze=False)
    for column, (model, seeds) in enumerate(timelines.items()):
        axes[0, column].set_title(model, fontsize=8)
        axes[1, column].set_xlabel("kimg", fontsize=8)
        for row, name in enumerate(("excess", "swd")):
            for seed in seeds:
                points = [(x, y) for x, y in zip(seed["kimg"], seed[name], strict=True) if y is not None]
                x, y = [x for x, _ in points], [y for _, y in points]
                axes[row, column].plot(x, y, linewidth=1, marker=".", markersize=3)
    axes[0, 0].set_ylim(-0.1, 1.05)
    axes[0, 0].set_ylabel("excess of MS-SSIM\n(1: all the same)", fontsize=8)
    axes[1, 0].set_yscale("log")
    axes[1, 0].yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes[1, 0].yaxis.set_major_formatter("{x:g}")
    axes[1, 0].yaxis.set_minor_locator(NullLocator())
    axes[1, 0].set_ylabel("SWD", fontsize=8)
    for each in axes.flat:
        each.tick_params(labelsize=7)
    figure.savefig(target / "timelines.png", dpi=110)


# Does it run?

TINY = {"resolution": 16, "width": 4, "seeds": 1, "num": 80, "measurements": 2, "jobs": 0, "device": "cpu"}
SLOW_METRICS = {"stacked-mnist", "classes"}
"""Metrics that train a classifier, which a check leaves out."""


def tiny(part: Part) -> Part:
    """The part with the same models and numbers, far too small to say anything."""
    names = [name.strip() for name in part.metrics.split(",")]
    metrics = ",".join(name for name in names if name not in SLOW_METRICS)
    report = tuple(name for name in part.report if not name.startswith(("stacked", "class")))
    changed = {"metrics": metrics, "report": report, "minutes": None, "kimg": 0.6}
    models = tuple(model.replace("--start-resolution 32", "--start-resolution 16") for model in part.models)
    return dataclasses.replace(part, **changed, models=models, num=80, seeds=1, width=4, measurements=2)


def check(study: Study, folder: Path) -> None:
    """Run every part of a study in seconds on drawn images."""
    for part in map(tiny, study.parts):
        grey = part.data not in ("cifar10", "stacked-mnist")
        data = folder / ("grey" if grey else "rgb")
        if not Manifest.is_in(data):
            prepare("avatars:320", data, PrepareConfig(resolution=16, channels="grey" if grey else "rgb", workers=1))
        out, options = folder / "runs", {**request(part, **TINY), "precision": "fp32"}
        settle(data, out / folder_of(study, part), options)
        outcome = run_part(study, part, data, out, folder / "results", quiet=True, reals=False, **options)
        assert outcome.comparison is not None
        print(f"study {study.number}, {part.name}: {len(outcome.members)} runs")


def settle(data: Path, folder: Path, options: dict[str, Any]) -> None:
    """Write a plan with so many images and without a trial of speed, which would take longer than the runs."""
    config = CompareConfig(**options)
    place, opened, asked = begin(data, folder, config, silent)
    ground, entrants = lay(place, opened, config), parse(config.models)
    models = configurations(entrants, config, ground.train, ground.resolution)
    planned = {}
    for each in entrants:
        model = models[each.name]
        # As many images in every stage as make two batches at the least.
        least = min(images for _, images in Schedule(model.schedule).extents())
        most = max(value for _, value in model.schedule.batch_size.values)
        total = Schedule(model.schedule).total_nimg
        kimg = max(config.budget_kimg or 0.0, 1.1 * most * total / least / 1000)
        fitted = plans.watched(plans.for_kimg(model, kimg), config.measurements, ground.num)
        planned[each.name] = plans.Planned(fitted, 0.0, 0.0, each.text)
    plans.write(folder, asked, planned)


# The command


def main() -> int:
    """Run, check or list; exit code 2 for a mistake."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("studies", nargs="*", type=int, metavar="STUDY")
    parser.add_argument("--data", type=Path, help="folder with the downloads")
    parser.add_argument("--out", type=Path, default=Path("runs/studies"))
    parser.add_argument("--results", type=Path, default=HERE / "results")
    parser.add_argument("--for", dest="time_limit", default="1d", help="length of this sitting: 50m, 2h …")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--list", action="store_true")
    arguments = parser.parse_args()
    chosen = [study for study in studies() if not arguments.studies or study.number in arguments.studies]
    if not chosen:
        parser.error(f"there are studies {', '.join(str(study.number) for study in studies())}")
    try:
        if arguments.check:
            torch.set_num_threads(1)
            with tempfile.TemporaryDirectory() as folder:
                for study in chosen:
                    check(study, Path(folder))
        elif arguments.list:
            show(chosen, arguments.results)
        elif arguments.data is None:
            parser.error("name the folder of the downloads with --data")
        else:
            return sitting(chosen, arguments)
    except ProganError as error:
        print(f"studies: {error}", file=sys.stderr)
        return 2
    return 0


def sitting(chosen: Sequence[Study], arguments: argparse.Namespace) -> int:
    """Go on with the studies until all are finished or the time is over; 130 if there is more to do."""
    until = time.monotonic() + seconds(arguments.time_limit)
    for study in chosen:
        for part in study.parts:
            left = until - time.monotonic()
            if reported(study, part, arguments.results):
                continue
            if left <= 0:
                return 130
            data = dataset(part, arguments.data, arguments.out)
            options = request(part, resolution=RESOLUTION, jobs=arguments.jobs, precision=arguments.precision)
            places = data, arguments.out, arguments.results
            outcome = run_part(study, part, *places, time_limit=left, device="cpu", reals=False, **options)
            if outcome.comparison is None:
                return 130
            place = arguments.results / folder_of(study, part)
            shutil.rmtree(place / "kept")
            print((place / "table.md").read_text(encoding="utf-8"))
    return 0


def show(chosen: Sequence[Study], results: Path) -> None:
    """A line for each part: runs that are kept, and whether it is reported."""
    for study in chosen:
        print(f"{study.number}. {study.title}")
        for part in study.parts:
            place, runs = results / folder_of(study, part), len(part.models) * part.seeds
            finished = reported(study, part, results)
            kept = runs if finished else len(list(place.glob("kept/runs/*")))
            state = "finished" if finished else "not finished" if kept else "not run"
            hours = f", {runs * part.minutes / 60:.2g} core-hours" if part.minutes and part.kimg is None else ""
            print(f"   {part.name}: {state}, {kept} of {runs} runs{hours}")


if __name__ == "__main__":
    sys.exit(main())
