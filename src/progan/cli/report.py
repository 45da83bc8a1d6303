"""`progan report`: a run on one page."""

import argparse
from pathlib import Path

from progan.cli.base import DEVICE, Parser, answer
from progan.errors import DatasetError


def add_arguments(parser: Parser) -> None:
    parser.add_argument("source", metavar="RUN", help="a run folder")
    parser.add_argument("--data", metavar="DATASET", help="the training images (default: where they were in training)")
    parser.add_argument("--no-reals", action="store_true", help="keep real images out of the page")
    parser.add_argument("--out", metavar="FILE", help="the page to write (default: report.html in the run folder)")
    parser.add_argument("--device", default="auto", metavar="DEVICE", help=DEVICE)


def run(arguments: argparse.Namespace) -> int:
    """Show a run on a page of its own.

    The page, complete in one file, has samples, growth, interpolations, charts and the configuration of the run.
    `progan train` writes it at its end; this command writes it again, or for a run that is still training.

        progan report runs/digits
        progan report runs/digits --no-reals --out page.html
    """
    from progan.data.dataset import Dataset, Manifest
    from progan.devices import find_device
    from progan.files import output_path
    from progan.report.run_page import write_run_page
    from progan.run_folder import RunFolder

    folder = RunFolder(Path(arguments.source))
    config, data = folder.read()
    place = Path(arguments.data or data.path)
    there = not arguments.no_reals and (arguments.data is not None or Manifest.is_in(place))
    dataset = Dataset.open(place) if there else None
    if dataset and (dataset.channels != data.channels or config.schedule.resolution not in dataset.resolutions):
        raise DatasetError(
            f"{place} has other images than those {folder.path} was trained on. Name these with --data, or leave it out"
        )
    out = output_path(arguments.out, "report.html", (".html", ".htm")) if arguments.out else None
    path = write_run_page(folder, dataset, find_device(arguments.device), out)
    missing = "" if dataset or arguments.no_reals else f" (without real images: {place} does not exist, see --data)"
    return answer(arguments, {"report": str(path), "reals": dataset is not None}, f"{path}{missing}")
