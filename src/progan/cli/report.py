"""`progan report`: a run on one page."""

import argparse
import json
from pathlib import Path
from typing import Any

from progan.errors import DatasetError


def register(commands: "argparse._SubParsersAction[Any]") -> None:
    """Add the command."""
    parser = commands.add_parser(
        "report",
        help="show a run on a page of its own",
        description="Write a page, complete in one file, with samples, growth, interpolations, charts and "
        "configuration of a run.\n`progan train` does so at its end; this does it again, or of a run that still goes.",
    )
    parser.add_argument("source", metavar="RUN", help="a run folder")
    parser.add_argument("--data", metavar="DATASET", help="the images it learned from, where they lie elsewhere now")
    parser.add_argument("--no-reals", action="store_true", help="keep real images out of the page")
    parser.add_argument("--out", metavar="FILE", help="[report.html in the run folder]")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda … [auto]")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Handle the command."""
    from progan.data.dataset import Dataset
    from progan.data.manifest import Manifest
    from progan.devices import find_device
    from progan.report.run_page import write_run_page
    from progan.run_folder import RunFolder

    folder = RunFolder(Path(arguments.source))
    config, data = folder.read()
    place = Path(arguments.data or data.path)
    there = not arguments.no_reals and (arguments.data is not None or Manifest.is_in(place))
    dataset = Dataset.open(place) if there else None
    if dataset and (dataset.channels != data.channels or config.schedule.resolution not in dataset.resolutions):
        raise DatasetError(f"{place} holds other images than {folder.path} learned from. Leave --data out, or mend it")
    out = None if arguments.out is None else Path(arguments.out)
    path = write_run_page(folder, dataset, find_device(arguments.device), out)
    if arguments.json:
        print(json.dumps({"report": str(path), "reals": dataset is not None}))
    else:
        gone = "" if dataset or arguments.no_reals else f" (without real images: {place} is not there, see --data)"
        print(f"{path}{gone}")
    return 0
