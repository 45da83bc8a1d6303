"""`progan prepare`: from raw images to a prepared dataset."""

import argparse
import dataclasses
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from progan.cli.base import DOWNLOAD, Parser, add_flags, answer, given
from progan.config import PrepareConfig
from progan.options import options
from progan.progress import log_line, progress_bar, speed

if TYPE_CHECKING:
    from progan.data.prepare.report import PrepareReport


def add_arguments(parser: Parser) -> None:
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help="a folder, zip or tar of images, also StyleGAN's; an npy, npz or HDF5 file; a TIFF or DICOM file of many "
        "pages; MNIST, CIFAR, CelebA, LSUN (LMDB), parquet files and the authors' TFRecords as they are downloaded; "
        "a published set, as `mnist` or `celeba=PATH` (docs/data.md); one of these at s3://, gs:// or az://; "
        "`avatars` or `avatars:N` for N drawn faces; `stacked:SOURCE` (docs/preparing.md has the list)",
    )
    parser.add_argument("out", metavar="OUT", help="folder of the dataset, or the file or folder that --to writes")
    kinds = ("dataset", "stylegan-zip", "npz", "imagefolder", "parquet")
    text = (
        "`dataset`: a folder for progan. The others are for other programs, and progan reads them, too: a zip of the "
        "StyleGAN family, a compressed npz, folders of PNGs, Hugging Face's parquet (SOURCE may be a dataset then)"
    )
    parser.add_argument("--to", choices=kinds, default="dataset", help=text)
    channels = parser.add_mutually_exclusive_group()
    for name, text in (("grey", "one channel (default: decided by looking at the images)"), ("rgb", "three channels")):
        channels.add_argument(
            f"--{name}", dest="channels", action="store_const", const=name, default=argparse.SUPPRESS, help=text
        )
    add_flags(parser, [option for option in options(PrepareConfig) if option.name != "channels"])
    parser.add_argument("--download", action="store_true", help=DOWNLOAD)
    parser.add_argument("--quiet", action="store_true", help="print nothing")


def run(arguments: argparse.Namespace) -> int:
    """Make a dataset of images.

    Images are decoded, cropped and resized once, for training. The same command continues where it was stopped.

        progan prepare my-photos/ datasets/mine --resolution 128
        progan prepare my-photos/ datasets/faces --resolution 128 --crop faces
        progan prepare datasets/mine mine.zip --to stylegan-zip
        progan prepare my-photos/ crops.npz --to npz --resolution 256
    """
    from progan.data.prepare import prepare
    from progan.data.prepare.writers import prepare_as
    from progan.data.sources.named import fetch, preparation

    write = prepare if arguments.to == "dataset" else partial(prepare_as, arguments.to)
    if arguments.download:
        fetch(arguments.source, log_line)
    config = preparation(arguments.source, **given(arguments, PrepareConfig))
    try:
        with progress_bar("preparing", hidden=arguments.quiet or arguments.json) as progress:
            report = write(arguments.source, arguments.out, config, progress)
    except KeyboardInterrupt:
        print("progan: stopped; the same command goes on from here", file=sys.stderr)
        return 130
    return answer(arguments, dataclasses.asdict(report), None if arguments.quiet else report_table(report))


def report_table(report: "PrepareReport") -> str:
    """The report as lines of text."""
    from progan.data.dataset import Manifest
    from progan.data.prepare.report import remarks

    size = report.resolutions[-1]
    separator = "/" if Manifest.is_in(Path(report.out)) else "."  # what --to writes has it beside itself
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in report.skipped.items())
    skipped = f"{sum(report.skipped.values()):,}: {reasons} (named in {report.out}{separator}skipped.csv)"
    labels = "none"
    if report.label_kind is not None:
        noun = "classes" if report.label_kind == "class" else "attributes"
        more = " …" if len(report.label_names) > 10 else ""
        labels = f"{len(report.label_names)} {noun}: {', '.join(report.label_names[:10])}{more}"
    rate = speed(report.read, report.seconds, "images") if report.state == "prepared" else ""
    used = report.read - sum(report.skipped.values())  # fewer than images where a picture has several faces
    several = f" from {used:,}" if used != report.count else ""
    rows = {
        "images": f"{report.count:,}{several} of {report.read:,} candidates in {report.source}",
        "skipped": skipped if reasons else "0",
        "upscaled": f"{report.upscaled:,} (smaller than {size}x{size})" if report.upscaled else "0",
        "channels": {1: "1 (grey)", 3: "3 (RGB)"}[report.channels],
        "pixels": f"\n{'':10}".join(remarks(report)),
        "levels": " ".join(map(str, report.resolutions)),
        "labels": labels,
        "on disk": f"{report.bytes / 1e6:,.1f} MB in {report.out}",
        "time": ", ".join(filter(None, [f"{report.seconds:.1f} s", rate])),
        "state": report.state.replace("already", "images already"),  # what --to makes of them may be new
    }
    lines = [*rows.items(), *(("note", note) for note in report.notes)]
    return "\n".join(f"{name:10}{text}" for name, text in lines if text)
