"""A comparison as JSON and as a table for other programs."""

import csv
import dataclasses
import io
import math
from typing import Any

from progan.report.results import Comparison, Contestant, Trained


def to_json(comparison: Comparison) -> dict[str, Any]:
    """All numbers, curves aside: those lie in the runs' stats.jsonl."""
    return {
        "title": comparison.title,
        "protocol": dict(comparison.facts),
        "notes": list(comparison.notes),
        "floors": dict(comparison.floors),
        "contestants": [_contestant(each) for each in comparison.contestants],
        "differences": {
            metric: [
                _plain(dataclasses.asdict(each) | {"significant": each.significant})
                for each in comparison.differences(metric)
            ]
            for metric in comparison.metrics
        },
        "ranking": {metric: comparison.ranking(metric) for metric in comparison.metrics},
    }


def to_csv(comparison: Comparison) -> str:
    """A line for every model, seed, network and metric."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(
        ["model", "control", "seed", "network", "metric", "value", "low", "high", "floor", "kimg", "seconds"]
    )
    for contestant in comparison.contestants:
        for run in contestant.runs:
            for network, values in run.values.items():
                for metric, value in values.items():
                    floor = value.floor.value if value.floor else ""
                    numbers = [value.value, value.low, value.high, floor, run.kimg, run.seconds]
                    writer.writerow([contestant.name, contestant.control, run.seed, network, metric, *numbers])
    return file.getvalue()


def _contestant(contestant: Contestant) -> dict[str, Any]:
    runs = contestant.runs
    return _plain({**vars(contestant), "runs": [_run(run) for run in runs]})


def _run(run: Trained) -> dict[str, Any]:
    values = {network: {k: dataclasses.asdict(v) for k, v in found.items()} for network, found in run.values.items()}
    events = [dataclasses.asdict(event) | {"recovered": event.recovered} for event in run.collapses]
    plain = {key: value for key, value in vars(run).items() if key != "stats"}
    return _plain({**plain, "values": values, "collapses": events})


def _plain(data: dict[str, Any]) -> dict[str, Any]:
    """NaN is no JSON."""
    return {key: None if isinstance(value, float) and math.isnan(value) else value for key, value in data.items()}
