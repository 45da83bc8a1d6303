"""What a comparison found, from its runs and measurements."""

from collections.abc import Mapping, Sequence
from statistics import fmean

import torch
from torch.utils.flop_counter import FlopCounterMode

import progan
from progan import models
from progan.comparison.controls import Control
from progan.comparison.measuring import Measurer
from progan.comparison.plan import Planned
from progan.comparison.runs import Member
from progan.config import CompareConfig, RunConfig
from progan.data.dataset import Dataset
from progan.models import ImageShape
from progan.report.collapse import collapses
from progan.report.history import with_training_time
from progan.report.results import Comparison, Contestant, Trained
from progan.training.numerics import thread_count
from progan.training.observers.run_files import read_stats
from progan.training.state import StateFolder

TOLERANCE = 0.05
"""Of the mean training time, by which models of one budget may differ before the page says so."""


def summarize(
    config: CompareConfig,
    dataset: Dataset,
    planned: Mapping[str, Planned],
    members: Sequence[Member],
    some: Sequence[Control],
    measurer: Measurer,
    threads: int,
) -> Comparison:
    """Numbers of all that was trained, and of the controls."""
    found = [_contestant(name, plan, members, measurer) for name, plan in planned.items()]
    for control in some:
        runs = [Trained(k, "", measurer.control(control, k)) for k in range(config.seeds)]
        found.append(Contestant(control.name, control.about, True, runs, found[0].resolution))
    first = found[0].runs[0].values["G_ema"]
    floors = {name: value.floor.value for name, value in first.items() if value.floor}
    title = f"{', '.join(planned)} on {dataset.name}"
    facts = _facts(config, dataset, planned, members, measurer, threads)
    return Comparison(title, facts, list(first), floors, found, _notes(found, members))


def _contestant(name: str, plan: Planned, members: Sequence[Member], measurer: Measurer) -> Contestant:
    runs = []
    for member in (member for member in members if member.model == name):
        stats = with_training_time(read_stats(member.folder.stats))
        last = stats[-1]
        runs.append(
            Trained(
                member.seed,
                f"runs/{member.name}",
                measurer.member(member),
                last["cur_nimg"] / 1000,
                last["trained"],
                last["peak_memory"],
                tuple(collapses(stats)),
                stats,
            )
        )
    _, data = members[0].folder.read()
    shape = ImageShape(plan.config.schedule.resolution, data.channels)
    parameters, flops = _size(plan.config, shape)
    about = f"preset {plan.config.preset}, {plan.config.model.kind}, {plan.config.loss.kind}"
    return Contestant(name, about, False, runs, shape.resolution, parameters, flops, plan.training_flops)


def _size(config: RunConfig, shape: ImageShape) -> tuple[tuple[int, int], tuple[int, int]]:
    """Weights of G and of D, and the operations of a forward pass for one image of the final resolution."""
    with torch.device("meta"):
        G, D = models.build(config.model, shape, seed=0)
    G.eval(), D.eval()
    counts = []
    for network, given in ((G, (1, G.z_dim)), (D, (1, shape.channels, shape.resolution, shape.resolution))):
        with FlopCounterMode(display=False) as counter:
            network(torch.zeros(given, device="meta"))
        counts.append(counter.get_total_flops())
    weights = [sum(p.numel() for p in network.parameters()) for network in (G, D)]
    return (weights[0], weights[1]), (counts[0], counts[1])


def _facts(
    config: CompareConfig,
    dataset: Dataset,
    planned: Mapping[str, Planned],
    members: Sequence[Member],
    measurer: Measurer,
    threads: int,
) -> list[tuple[str, str]]:
    """The protocol, for people."""
    budget = (
        f"{config.budget_kimg:g} thousand real images" if config.budget_kimg else f"{config.budget_minutes:g} minutes"
    )
    resolution = members[0].config.schedule.resolution
    together = "one after the other" if config.jobs == 1 else f"{config.jobs} at a time"
    numerics = {StateFolder(member.folder.state).numerics() for member in members}
    computed = " or ".join(f"{n}, torch {n.torch_version}" for n in numerics if n is not None)
    return [
        (
            "data",
            f"{dataset.name}, {resolution}x{resolution}: {measurer.train_count:,} images to learn from, "
            f"{dataset.count - measurer.train_count:,} held out",
        ),
        ("fingerprint of the data", dataset.fingerprint),
        ("models", "; ".join(f"{name}: preset {plan.config.preset}" for name, plan in planned.items())),
        ("width", "as in the presets" if config.width is None else str(config.width)),
        ("budget of a run", budget + (" of training, measuring not counted" if config.budget_minutes else "")),
        ("seeds", ", ".join(dict.fromkeys(str(member.seed) for member in members))),
        ("runs", f"{together}, {thread_count(threads)} each"),
        ("computed on", computed),
        (
            "measured with",
            f"{measurer.num:,} generated images against {measurer.num:,} held-out ones, latents the same for all",
        ),
        ("progan", progan.__version__),
    ]


def _notes(found: Sequence[Contestant], members: Sequence[Member]) -> list[str]:
    """What the reader must know."""
    notes = []
    seconds = {each.name: fmean(run.seconds for run in each.runs) for each in found if not each.control}
    low, high = min(seconds, key=lambda name: seconds[name]), max(seconds, key=lambda name: seconds[name])
    if seconds[high] - seconds[low] > TOLERANCE * fmean(seconds.values()):
        notes.append(f"{high} trained {seconds[high]:.0f} seconds, {low} {seconds[low]:.0f}.")
    numerics = {StateFolder(member.folder.state).numerics() for member in members}
    if len(numerics) > 1:
        notes.append("Not all runs were computed on the same machine, in the same precision or by the same torch.")
    if len(found[0].runs) < 2:
        notes.append("One seed says nothing about differences between models: give --seeds 3 or more.")
    return notes
