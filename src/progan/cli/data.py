"""`progan data show` and `progan data split`: look at a prepared dataset, or part it in two."""

import argparse
import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from progan import typed

if TYPE_CHECKING:
    from progan.data.inspection import Inspection
    from progan.data.prepare import PrepareReport

_LINES = 10  # of labels, duplicates and suspects in a terminal


def register(commands: "argparse._SubParsersAction[Any]") -> None:
    """Add the commands."""
    group = commands.add_parser("data", help="look at a dataset, or part it in two")
    kinds = group.add_subparsers(title="commands", metavar="COMMAND", required=True)
    show = kinds.add_parser(
        "show",
        help="what is in a dataset, and what looks wrong",
        description="Counts, sizes, class balance, duplicates and images that deserve a second look.",
    )
    show.add_argument("dataset", metavar="DATASET", help="a prepared dataset, or what `progan prepare` takes")
    show.add_argument("--sheets", metavar="DIR", help="write contact sheets there: one per resolution and label")
    show.add_argument("--html", metavar="FILE", help="write a page with everything, complete in one file")
    show.add_argument("--verify", action="store_true", help="compare every byte with its hash first")
    show.add_argument("--json", action="store_true", help="print one JSON object")
    show.set_defaults(run=run_show)
    split = kinds.add_parser(
        "split",
        help="hold images out for metrics",
        description="Part a prepared dataset: images chosen by the seed go to HELDOUT, the others to TRAIN.",
    )
    split.add_argument("dataset", metavar="DATASET", help="a prepared dataset")
    split.add_argument("train", metavar="TRAIN", help="folder for the dataset to train on")
    split.add_argument("heldout", metavar="HELDOUT", help="folder for the dataset to measure with")
    size = split.add_mutually_exclusive_group(required=True)
    size.add_argument("--count", type=int, metavar="N", help="images to hold out")
    size.add_argument("--fraction", type=float, metavar="X", help="part of the images to hold out, e.g. 0.1")
    split.add_argument("--seed", type=int, default=0, metavar="S", help="decides which images [0]")
    split.add_argument("--json", action="store_true", help="print one JSON object")
    split.set_defaults(run=run_split)


def run_show(arguments: argparse.Namespace) -> int:
    """Handle `progan data show`."""
    import sys

    from progan.data.cache import open_data
    from progan.data.dataset import Dataset
    from progan.data.inspection import inspect
    from progan.files import write_whole

    dataset = open_data(arguments.dataset, log=lambda message: print(message, file=sys.stderr))
    if arguments.verify:
        Dataset.open(dataset.path, verify=True)
    inspection = inspect(dataset)
    rows = facts(inspection)
    if arguments.sheets or arguments.html:
        from progan.report.dataset_page import page, write_sheets

        if arguments.sheets:
            write_sheets(dataset, Path(arguments.sheets))
        if arguments.html:
            write_whole(Path(arguments.html), page(dataset, inspection, rows).encode())
    if arguments.json:
        print(json.dumps(dataclasses.asdict(inspection)))
    else:
        print("\n".join(f"{name:12}{text}" for name, text in [*rows, *findings(inspection)]))
    return 0


def run_split(arguments: argparse.Namespace) -> int:
    """Handle `progan data split`."""
    from progan.data.split import split

    report = split(
        arguments.dataset, arguments.train, arguments.heldout, arguments.count, arguments.fraction, arguments.seed
    )
    if arguments.json:
        print(json.dumps(dataclasses.asdict(report)))
    else:
        print(f"{report.train_count:,} images to train on in {report.train}")
        print(f"{report.heldout_count:,} images held out in {report.heldout}")
    return 0


def facts(inspection: "Inspection") -> list[tuple[str, str]]:
    """What the dataset is, as rows for people."""
    made = _report(inspection.preparation.get("report"))
    sizes = ", ".join(f"{name} {width}x{height}" for name, (width, height) in inspection.original_sizes.items())
    return [
        ("dataset", f"{inspection.name} ({inspection.fingerprint[:8]}) in {inspection.path}"),
        ("images", f"{inspection.count:,}, {'grey' if inspection.channels == 1 else 'RGB'}"),
        (
            "resolutions",
            " ".join(map(str, inspection.resolutions)) + f", {sum(inspection.bytes.values()) / 1e6:,.1f} MB",
        ),
        ("originals", sizes or "not recorded"),
        ("upscaled", f"{made.upscaled:,}" if made else "not recorded"),
        ("skipped", f"{sum(made.skipped.values()):,} of {made.read:,} files" if made else "not recorded"),
        ("labels", f"{len(inspection.label_counts)}, {inspection.label_kind}" if inspection.label_kind else "none"),
        ("duplicates", f"{len(inspection.duplicates):,} groups, {sum(map(len, inspection.duplicates)):,} images"),
        ("suspicious", f"{len(inspection.suspects):,}"),
    ]


def _report(content: Any) -> "PrepareReport | None":
    """What the preparation said, where it did."""
    from progan.data.prepare import PrepareReport

    try:
        return typed.parse(PrepareReport, content)
    except ValueError:
        return None


def findings(inspection: "Inspection") -> list[tuple[str, str]]:
    """Class balance and the first of what deserves a second look, as rows for people."""
    balance = [f"{count:8,} {count / inspection.count:6.1%}  {name}" for name, count in inspection.label_counts.items()]
    duplicates = [" = ".join(files) for files in inspection.duplicate_files]
    suspects = [f"{suspect.file}: {suspect.reason}" for suspect in inspection.suspects]
    rows: list[tuple[str, str]] = []
    for title, lines, most in (
        ("balance", balance, 60),
        ("duplicate", duplicates, _LINES),
        ("suspicious", suspects, _LINES),
    ):
        rows += [(title, line) for line in lines[:most]]
        if len(lines) > most:
            rows.append((title, f"… {len(lines) - most:,} more: --json or --html"))
    return rows
