"""Options tried under a budget: many candidates, of which the worse are dropped again and again (successive halving).

A rung is a part of every survivor's whole run: it is stopped where the rung ends and goes on from there, bit for bit.
"""

import dataclasses
import json
import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Any

from progan.commands import SweepConfig
from progan.comparison import plan as plans
from progan.comparison.contestants import Entrant, configurations, in_epochs, parse, read_models, refuse_same
from progan.comparison.measuring import Measurer, gather
from progan.comparison.plan import Ladder, Planned
from progan.comparison.protocol import begin, lay, publish, undiverged
from progan.comparison.runs import Member, train_all
from progan.comparison.summary import summarize, to_json
from progan.config import RunConfig, flag
from progan.errors import ConfigError, RunError
from progan.metrics import Value
from progan.options import from_flags, override, to_flags
from progan.presets import preset
from progan.progress import Log, log_line, silent
from progan.report.comparison_tables import rungs as rungs_html
from progan.report.results import AVERAGE, Comparison, Rung, Standing, mean, overlap
from progan.run_folder import DataFacts
from progan.schedule import Schedule
from progan.training.signals import deadline, stop_on_signals

MOST = 100
"""Candidates of a sweep."""
METRIC = "swd"
"""What candidates are ranked by."""


@dataclass(frozen=True)
class Swept:
    """What `sweep` leaves behind."""

    path: Path
    rungs: Sequence[Rung]
    command: str = ""
    """Command line that trains the winner."""
    comparison: Comparison | None = None
    """Comparison of the candidates that were never dropped. None: stopped before the end; the same call goes on."""

    @property
    def page(self) -> Path:
        return self.path / "report.html"


# From words to candidates


def candidates(base: str, vary: Sequence[str], choices: str) -> list[Entrant]:
    """Every combination of the values in `vary` with every entry of `choices`, as options added to `base`.

    `vary`: `--lr 0.001,0.002`, with spaces between values that have commas themselves. `choices`: options with `;`
    between, or a file with one on each line. Raises ConfigError.
    """
    entrants = parse(base)
    if len(entrants) != 1:
        raise ConfigError(f"a sweep has one model: {base!r} are {len(entrants)}")
    start, axes, seen = entrants[0], [], set(entrants[0].options)
    listed = [from_flags(_words(entry, "--choices")) for entry in read_models(choices).split(";") if entry.strip()]
    if listed:
        axes.append(listed)
    for text in vary:
        axes += _axes(text)
    if not axes:
        raise ConfigError('what is tried? Give --vary "--lr 0.001,0.002", or --choices "--lr 0.001; --lr 0.002"')
    for axis in axes:
        names = {name for entry in axis for name in entry}
        if again := names & seen:
            raise ConfigError(f"--{flag(min(again))} is given twice")
        refuse_same(names)
        seen |= names
    if (number := math.prod(map(len, axes))) > MOST:
        raise ConfigError(f"{number} combinations are too many; at most {MOST}")
    found: dict[str, Entrant] = {}
    for combination in product(*axes):
        own = {name: value for part in combination for name, value in part.items()}
        name = " ".join(f"{flag(each)}={value}" for each, value in own.items()) or start.text
        if name in found:
            raise ConfigError(f"{name!r} is there twice. Leave one out")
        found[name] = Entrant(name, start.preset, {**start.options, **own})
    if len(found) < 2:
        raise ConfigError("a sweep needs two candidates at least: give --vary more values")
    return list(found.values())


def _words(text: str, option: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise ConfigError(f"{option} {text!r} cannot be understood: {error}") from None


def _axes(text: str) -> list[list[dict[str, str]]]:
    """`--lr 0.001,0.002 --tanh false,true` -> for each option its values."""
    words = _words(text, "--vary")
    axes: list[list[dict[str, str]]] = []
    while words:
        option = words.pop(0)
        if not option.startswith("--"):
            raise ConfigError(f"--vary {text!r} does not begin with an option, as `--lr 0.001,0.002` does")
        number = next((i for i, word in enumerate(words) if word.startswith("--")), len(words))
        values, words = words[:number], words[number:]
        if len(values) == 1 and ":" not in values[0]:
            values = [value for value in values[0].split(",") if value]
        if len(values) < 2:
            raise ConfigError(
                f"--vary {text!r}: {option} needs several values, as in `--lr 0.001,0.002`, with spaces between those "
                "that have commas themselves"
            )
        axes.append([from_flags([option, value]) for value in values])
    return axes


def command(model: RunConfig, data: str) -> str:
    """Command line that trains a model with its preset's own lengths, on images that are named as in `data`."""
    # What the sweep decided, or what is the machine's, is no part of it.
    plain = preset(model.preset)
    alike = {name: getattr(plain.runtime, name) for name in ("device", "precision")}
    words = to_flags(override(model, {**alike, "data": plain.dataset.data}), plain)
    return shlex.join(["progan", "train", model.preset, "--data", data, *words])


# The sweep


def sweep(
    data: str | Path,
    out: str | Path,
    base: str = "progan",
    vary: Sequence[str] = (),
    choices: str = "",
    quiet: bool = False,
    reals: bool = True,
    time_limit: str | float | None = None,
    **options: Any,
) -> Swept:
    """Try candidates of one model, each a bit longer than those that were dropped; `options`: those of SweepConfig.

    Goes on where an earlier call with the same options stopped. `time_limit` stops training after so many seconds from
    now, or `90s`, `50m`. Raises a ProganError for what cannot be.
    """
    until = deadline(time_limit)
    log: Log = silent if quiet else log_line
    config, entrants = SweepConfig(**options), candidates(base, vary, choices)
    if METRIC not in config.metrics.replace(" ", "").split(","):
        raise ConfigError(f"--metrics: a sweep ranks by {METRIC}. Add it")
    folder, dataset, request = begin(data, out, config, log)
    request["candidates"] = {each.name: each.text for each in entrants}
    planned = plans.read(folder, request, plans.SWEEP)
    ground = lay(folder, dataset, config)
    measurer = ground.measurer(config.metrics)  # what it lacks is said before anything is trained
    if ground.resolution < plans.SMALLEST:
        raise ConfigError(f"images of {ground.resolution}x{ground.resolution} are too small to be measured")
    if planned is None:
        models = configurations(entrants, config, ground.train, ground.resolution)
        made, found = plans.make_sweep(models, config, ground.train, ground.num, ground.threads, log)
        planned = {each.name: dataclasses.replace(made[each.name], given=each.text) for each in entrants}
        plans.write(folder, {**request, "rungs": vars(found)}, planned, plans.SWEEP)
    rungs_planned = _ladder(folder)
    members, names, done = plans.members(folder, planned, config, ground.train), list(planned), list[Rung]()
    lost: list[str] = []
    with stop_on_signals(until) as stopped:
        for number, fraction in enumerate(rungs_planned.fractions):
            last = number == len(rungs_planned.fractions) - 1
            running = [member for member in members if member.model in names]
            log(f"rung {number + 1} of {len(rungs_planned.fractions)}: {len(names)} candidates")
            ends = {member.name: planned[member.model].rungs[number] for member in running}
            resolution = min(_resolution(member.config, ends[member.name]) for member in running)
            if not last:  # the last is measured with all metrics
                measurer = ground.measurer(METRIC, resolution, f"measured/rung-{number + 1}")
            else:
                measurer = ground.measurer(config.metrics)
            # Runs that were measured here before are further by now, or as far as they must be.
            waiting = [member for member in running if last or not measurer.knows(member)]
            for member in waiting:
                member.folder.begin(member.config, DataFacts.of(ground.train), allow_change=False)
            if not train_all(waiting, ground.train.path, config.jobs, ground.threads, log, stopped, ends):
                log("stopped, all saved. The same command goes on")
                return Swept(folder, done)
            running, lines = undiverged(running, log)
            lost += lines
            log(f"measuring {len(running)} runs")
            measurer.all(running, [], config.seeds, config.jobs)
            keep = rungs_planned.sizes[number if last else number + 1]
            done.append(_rung(running, measurer, fraction, resolution, keep, ends))
            names = [each.name for each in done[-1].standings if each.kept]
    # The last ones are compared as any models are.
    finalists = {name: planned[name] for name in planned if name in names}
    running = [member for member in members if member.model in finalists and member.diverged is None]
    whole = next(iter(finalists.values())).estimate
    budget = f"{whole / 60:.3g} minutes of training at the most, of {_minutes(config)}"
    comparison = summarize(config, budget, dataset, finalists, running, [], measurer, ground.threads)
    winner = next(each for each in entrants if each.name == done[-1].standings[0].name)
    line = command(in_epochs(winner, config, ground.train, ground.resolution), str(data))
    notes = [*comparison.notes, *dict.fromkeys(lost), *_doubts(done[-1])]
    title = f"Sweep of {len(planned)} candidates of {base} on {dataset.name}"
    comparison = dataclasses.replace(comparison, title=title, notes=notes)
    pictures = gather(running, [], ground.train, ground.held_out, ground.resolution, reals)
    content = {**to_json(comparison), **_content(done, line, planned)}
    publish(folder, comparison, pictures, content, running, "sweep", rungs_html(done, METRIC, line))
    return Swept(folder, done, line, comparison)


def _ladder(folder: Path) -> Ladder:
    """Rungs as `plan.json` has them: they follow from a trial, which is not repeated."""
    try:
        data = json.loads((folder / plans.FILE).read_text(encoding="utf-8"))["request"]["rungs"]
        return Ladder(tuple(map(float, data["fractions"])), tuple(map(int, data["sizes"])))
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(f"{folder / plans.FILE} cannot be read: {error}. Name another folder with --out") from None


def _resolution(config: RunConfig, cur_nimg: int) -> int:
    return Schedule(config.schedule).at(cur_nimg).resolution


def _minutes(config: SweepConfig) -> str:
    if config.minutes is None:
        return f"{config.kimg:g} thousand real images a run"
    return f"{config.minutes:g} minutes for all runs"


def _rung(
    members: Sequence[Member],
    measurer: Measurer,
    fraction: float,
    resolution: int,
    keep: int,
    ends: Mapping[str, int],
) -> Rung:
    """Candidates in order, of which the first `keep` go on."""
    values: dict[str, list[Value]] = {}
    for member in members:
        values.setdefault(member.model, []).append(measurer.member(member)[AVERAGE][METRIC])
    floor = next(value.floor.value for some in values.values() for value in some if value.floor)
    order = sorted(values, key=lambda name: abs(fmean(value.value for value in values[name]) - floor))
    means = {name: _mean(values[name]) for name in order}
    standings = []
    for place, name in enumerate(order):
        numbers, kept = [value.value for value in values[name]], place < keep
        kimg = fmean(ends[member.name] for member in members if member.model == name) / 1000
        overlaps = not kept and overlap(means[name], means[order[keep - 1]])
        standings.append(Standing(name, numbers, means[name], kimg, kept, overlaps))
    return Rung(fraction, resolution, floor, standings)


def _mean(values: Sequence[Value]) -> Value:
    """Over the seeds; of one seed the number itself, whose interval is over images."""
    return dataclasses.replace(values[0], floor=None) if len(values) == 1 else mean([value.value for value in values])


def _doubts(rung: Rung) -> list[str]:
    """A line where the first two of the last rung cannot be told apart."""
    if len(rung.standings) < 2 or not overlap(*(each.mean for each in rung.standings[:2])):
        return []
    first, second = rung.standings[:2]
    ends = (f"{each.mean.low:.3g} … {each.mean.high:.3g}" for each in (first, second))
    return [
        f"The 95 % intervals of {first.name} and {second.name} overlap ({' and '.join(ends)}): the first may be no "
        "better. More --seeds or minutes tell."
    ]


def _content(rungs: Sequence[Rung], line: str, planned: Mapping[str, Planned]) -> dict[str, Any]:
    """What JSON says of a sweep beside the comparison of the last ones."""
    first, *others = rungs[-1].standings
    winner = {
        "name": first.name,
        "given": planned[first.name].given,
        "command": line,
        "told_apart": not others or not overlap(first.mean, others[0].mean),
    }
    return {
        "winner": winner,
        "rungs": [{**vars(rung), "standings": [vars(each) for each in rung.standings]} for rung in rungs],
        "candidates": {name: plan.given for name, plan in planned.items()},
    }
