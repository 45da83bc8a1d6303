"""`progan prepare`: from raw images to a prepared dataset."""

import argparse
import dataclasses
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from progan.cli.flags import add_flags
from progan.config import PrepareConfig
from progan.options import coerce, options
from progan.progress import progress_bar

if TYPE_CHECKING:
    from progan.data.prepare import PrepareReport

_OPTIONS = {option.name: option for option in options(PrepareConfig)}


def register(commands: "argparse._SubParsersAction[Any]") -> None:
    """Add the command."""
    parser = commands.add_parser(
        "prepare",
        help="make a dataset of images",
        description="Decode, crop and resize images once, for training. The same command goes on where it was stopped.",
    )
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help="a folder, zip or tar of images, StyleGAN's too; MNIST's idx, CIFAR's binary, an npy or npz file; the "
        "authors' TFRecords; `avatars`, `avatars:N`",
    )
    parser.add_argument("out", metavar="OUT", help="folder for the dataset, or the zip to be written")
    parser.add_argument(
        "--to",
        choices=("dataset", "stylegan-zip"),
        default="dataset",
        help="what to write: a folder for progan [dataset], or a zip for the StyleGAN family, also of a dataset",
    )
    channels = parser.add_mutually_exclusive_group()
    for name in ("grey", "rgb"):
        text = {"grey": "one channel [decided by looking]", "rgb": "three channels"}[name]
        channels.add_argument(f"--{name}", dest="channels", action="store_const", const=name, help=text)
    add_flags(parser, "options", [option for option in _OPTIONS.values() if option.name != "channels"])
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--quiet", action="store_true", help="print nothing")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Handle the command."""
    from progan.data.prepare import prepare
    from progan.data.prepare.stylegan_zip import prepare_stylegan_zip

    write = prepare if arguments.to == "dataset" else prepare_stylegan_zip
    given = {name: value for name, value in vars(arguments).items() if name in _OPTIONS and value is not None}
    changes = {name: coerce(name, value, _OPTIONS[name].type) for name, value in given.items()}
    try:
        with progress_bar("preparing", hidden=arguments.quiet or arguments.json) as progress:
            report = write(arguments.source, arguments.out, PrepareConfig(**changes), progress)
    except KeyboardInterrupt:
        print("progan: stopped; the same command goes on from here", file=sys.stderr)
        return 130
    if arguments.json:
        print(json.dumps(dataclasses.asdict(report)))
    elif not arguments.quiet:
        print(report_table(report))
    return 0


def report_table(report: "PrepareReport") -> str:
    """The report as lines for people."""
    size = report.resolutions[-1]
    separator = "/" if Path(report.out).is_dir() else "."
    skipped = ", ".join(f"{count:,} {reason}" for reason, count in report.skipped.items())
    rows = {
        "images": f"{report.count:,} of {report.read:,} candidates in {report.source}",
        "skipped": f"{sum(report.skipped.values()):,}: {skipped} (named in {report.out}{separator}skipped.csv)"
        if skipped
        else "0",
        "upscaled": f"{report.upscaled:,} (smaller than {size}x{size})" if report.upscaled else "0",
        "channels": {1: "1 (grey)", 3: "3 (RGB)"}[report.channels],
        "levels": " ".join(map(str, report.resolutions)),
        "labels": _labels(report),
        "on disk": f"{report.bytes / 1e6:,.1f} MB in {report.out}",
        "time": f"{report.seconds:.1f} s, {report.read / max(report.seconds, 1e-9):,.0f} images/s",
        "state": report.state,
    }
    return "\n".join(f"{name:10}{text}" for name, text in rows.items())


def _labels(report: "PrepareReport") -> str:
    if report.label_kind is None:
        return "none"
    noun = "classes" if report.label_kind == "class" else "attributes"
    names = ", ".join(report.label_names[:10])
    return f"{len(report.label_names)} {noun}: {names}{' …' if len(report.label_names) > 10 else ''}"
