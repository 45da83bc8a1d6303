"""What a comparison found, from its runs and measurements; and the same as JSON and CSV for other programs."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

import torch

import progan
from progan import models
from progan.commands import ProtocolConfig
from progan.comparison.controls import Control
from progan.comparison.measuring import Measurer
from progan.comparison.plan import Planned
from progan.comparison.runs import Member
from progan.config import RunConfig
from progan.data.dataset import Dataset
from progan.models import ImageShape
from progan.options import to_dict
from progan.report.history import collapses, with_training_time
from progan.report.results import AVERAGE, Comparison, Contestant, Trained
from progan.training.numerics import thread_count
from progan.training.observers.run_files import read_stats
from progan.training.preflight.estimate import count_operations
from progan.training.state import StateFolder

TOLERANCE = 0.05
"""Fraction of the mean training time by which models of one budget may differ before the page says so."""
_LONG_TITLE = 80


def summarize(
    config: ProtocolConfig,
    budget: str,
    dataset: Dataset,
    planned: Mapping[str, Planned],
    members: Sequence[Member],
    controls: Sequence[Control],
    measurer: Measurer,
    threads: int,
) -> Comparison:
    """Numbers of all that was trained, and of the controls. `budget`: of a run, in words."""
    found = [
        _contestant(name, plan, [member for member in members if member.model == name], measurer)
        for name, plan in planned.items()
    ]
    for control in controls:
        runs = [Trained(seed, "", measurer.control(control, seed)) for seed in range(config.seeds)]
        found.append(Contestant(control.name, control.about, True, runs, found[0].resolution))
    first = found[0].runs[0].values[AVERAGE]
    floors = {name: value.floor.value for name, value in first.items() if value.floor}
    # The machines, precisions and versions of torch that the runs were computed by.
    numerics = {each for each in (StateFolder(member.folder.state).numerics() for member in members) if each}
    notes = [*_unequal_times(found), *_lowered_rates(members)]
    if len(numerics) > 1:
        notes.append("Not all runs were computed on the same machine, in the same precision or by the same torch.")
    if len(found[0].runs) < 2:
        notes.append("One seed says nothing about differences between models: give --seeds 3 or more.")
    together = "one after the other" if config.jobs <= 1 else f"{config.jobs} at a time"
    resolution, num = found[0].resolution, measurer.num
    facts = {
        "data": f"{dataset.name}, {resolution}x{resolution}: {measurer.train_count:,} images to learn from, "
        f"{dataset.count - measurer.train_count:,} held out",
        "fingerprint of the data": dataset.fingerprint,
        "models": "; ".join(f"{name}: {_given(name, plan)}" for name, plan in planned.items()),
        "width": "as in the presets" if config.width is None else str(config.width),
        "budget of a run": budget,
        "seeds": ", ".join(dict.fromkeys(str(member.seed) for member in members)),
        "runs": f"{together}, {thread_count(threads)} each",
        "computed on": " or ".join(f"{each}, torch {each.torch_version}" for each in numerics),
        "measured with": f"{num:,} generated images against {num:,} held-out ones, latents the same for all",
        "progan": progan.__version__,
    }
    names = ", ".join(planned)
    title = f"{names if len(names) <= _LONG_TITLE else f'{len(planned)} models'} on {dataset.name}"
    return Comparison(title, list(facts.items()), list(first), floors, found, notes)


def _contestant(name: str, plan: Planned, members: Sequence[Member], measurer: Measurer) -> Contestant:
    runs = []
    for member in members:
        stats = with_training_time(read_stats(member.folder.stats))
        kimg, seconds, memory = stats[-1]["cur_nimg"] / 1000, stats[-1]["trained"], stats[-1]["peak_memory"]
        values, events = measurer.member(member), tuple(collapses(stats))
        runs.append(Trained(member.seed, f"runs/{member.name}", values, kimg, seconds, memory, events, stats))
    shape = ImageShape(plan.config.schedule.resolution, members[0].folder.read()[1].channels)
    parameters, flops = _size(plan.config, shape)
    about = f"{_given(name, plan)}, {plan.config.model.kind}, {plan.config.loss.kind}"
    begins = json.dumps(to_dict(plan.config)["model"], sort_keys=True)  # initial weights follow from this and the seed
    return Contestant(name, about, False, runs, shape.resolution, parameters, flops, plan.training_flops, begins)


def _given(name: str, plan: Planned) -> str:
    """The model's preset, and its options where its name does not say them."""
    options = plan.given.partition(" ")[2]
    return f"preset {plan.config.preset}" + (f" {options}" if options and name != plan.given else "")


def _size(config: RunConfig, shape: ImageShape) -> tuple[tuple[int, int], tuple[int, int]]:
    """Parameters of G and of D, and the operations of a forward pass for one image of the final resolution."""
    with torch.device("meta"):
        G, D = models.build(config.model, shape, seed=0)
        z, images = torch.zeros(1, G.z_dim), torch.zeros(1, shape.channels, shape.resolution, shape.resolution)
    G.eval(), D.eval()
    g_parameters, d_parameters = (sum(p.numel() for p in network.parameters()) for network in (G, D))
    return (g_parameters, d_parameters), (count_operations(lambda: G(z)), count_operations(lambda: D(images)))


def _unequal_times(found: Sequence[Contestant]) -> list[str]:
    """A line if the models did not train equally long."""
    seconds = {each.name: fmean(run.seconds for run in each.runs) for each in found if not each.control}
    low, high = (extreme(seconds, key=lambda name: seconds[name]) for extreme in (min, max))
    if seconds[high] - seconds[low] <= TOLERANCE * fmean(seconds.values()):
        return []
    return [f"{high} trained {seconds[high]:.0f} seconds, {low} {seconds[low]:.0f}."]


def _lowered_rates(members: Sequence[Member]) -> list[str]:
    """A line for each run whose learning rates are lower than it was told, since it diverged."""
    lines = []
    for member in members:
        last = read_stats(member.folder.stats)[-1]
        factor = last["lr"] / member.config.schedule.lr.at(last["resolution"])
        if factor < 1:
            lines.append(
                f"{member.name} diverged and went back; its learning rates ended at {factor:.3g} of those given."
            )
    return lines


def to_json(comparison: Comparison) -> dict[str, Any]:
    """All numbers, curves aside: those lie in the runs' stats.jsonl."""
    contestants = [{**vars(each), "runs": [_run(run) for run in each.runs]} for each in comparison.contestants]
    differences = {
        metric: [{**vars(each), "significant": each.significant} for each in comparison.differences(metric)]
        for metric in comparison.metrics
    }
    return {
        "title": comparison.title,
        "protocol": dict(comparison.facts),
        "notes": list(comparison.notes),
        "floors": dict(comparison.floors),
        "contestants": contestants,
        "differences": differences,
        "ranking": {metric: comparison.ranking(metric) for metric in comparison.metrics},
    }


def _run(run: Trained) -> dict[str, Any]:
    events = [{**vars(event), "recovered": event.recovered} for event in run.collapses]
    return {**{key: value for key, value in vars(run).items() if key != "stats"}, "collapses": events}


def to_csv(comparison: Comparison) -> str:
    """A line for every model, seed, network and metric."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow("model control seed network metric value low high floor kimg seconds".split())
    for contestant in comparison.contestants:
        for run in contestant.runs:
            for network, values in run.values.items():
                for metric, value in values.items():
                    floor = value.floor.value if value.floor else ""
                    numbers = [value.value, value.low, value.high, floor, run.kimg, run.seconds]
                    writer.writerow([contestant.name, contestant.control, run.seed, network, metric, *numbers])
    return file.getvalue()
