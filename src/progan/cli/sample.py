"""`progan sample`: images from a generator."""

import argparse
import math
from pathlib import Path

from progan.cli.base import (
    DEVICE,
    Parser,
    add_label_flags,
    add_source,
    answer,
    beside,
    check_resolution,
    check_truncation,
    note_numbered,
    refuse,
)
from progan.config import MOST_SEED
from progan.errors import ConfigError
from progan.pretrained import locate
from progan.progress import log_line

MOST_IMAGES = 1_000_000
"""Largest number of images of one command."""


def add_arguments(parser: Parser) -> None:
    add = parser.add_argument
    add_source(parser)
    text = "number of images, for each label if there are several (default: 64, or 8 for each label)"
    add("--num", type=int, metavar="N", help=text)
    text = "seed of the first image; the others have S+1, S+2, … (default: 0)"
    add("--seed", type=int, metavar="S", help=text)
    add("--seeds", metavar="LIST", help="seeds of the images, for example 3,7,20-29 (default: --num seeds from --seed)")
    text = (
        "name of a class, or attributes such as hat=cap,glasses=none; repeat the option for several labels, a row each "
        "(default: all classes; attributes as in the data)"
    )
    add_label_flags(parser, text)
    text = "pick the K images to which the discriminator gives the highest scores out of --of, for each label"
    add("--best", type=int, metavar="K", help=f"{text} (default: take all)")
    add("--of", type=int, metavar="N", help="number of images that --best picks from (default: ten times K)")
    text = "of a run: use the snapshot of that resolution; of a snapshot: average the images down to it"
    add("--resolution", type=int, metavar="R", help=f"{text} (default: the highest)")
    add("--truncation", type=float, default=1.0, metavar="PSI", help="below 1: less variety, more typical images")
    add("--columns", type=int, metavar="N", help="columns of the grid (default: about as many as rows)")
    add("--upscale", type=int, metavar="N", help="show each pixel as N x N (default: 1)")
    add("--captions", action="store_true", help="write seed and label below each image of the grid")
    text = "write a file for every seed instead of a grid; the same command goes on with what was interrupted"
    add("--separate", action="store_true", help=text)
    add("--format", choices=["png", "jpg", "webp"], help="kind of the files of --separate (default: png)")
    text = "the grid (.png, .jpg, .webp) or arrays (.npz); with --separate a folder or .zip (default: generated.png)"
    add("--out", metavar="PATH", help=text)
    add("--device", default="auto", metavar="DEVICE", help=DEVICE)
    add("--quiet", action="store_true", help="show no progress")


def run(arguments: argparse.Namespace) -> int:
    """Make images with a trained generator.

    A seed gives the same image in every batch and on every machine.

        progan sample
        progan sample runs/digits --num 64
        progan sample runs/digits --seeds 3,7,20-29 --separate --truncation 0.7
        progan sample runs/faces --num 100000 --separate --out faces.zip
        progan sample runs/faces --label hat=cap,glasses=none --label hat=none
        progan sample runs/pets --label dog --label-index 0
        progan sample runs/faces --best 16 --of 500
    """
    import torch

    from progan.devices import find_device
    from progan.files import output_path
    from progan.images import grid
    from progan.progress import progress_bar
    from progan.run import networks
    from progan.sampling import load
    from progan.sampling.pictures import (
        FORMATS,
        Drawing,
        captioned,
        check_grid,
        joined,
        write_arrays,
        write_files,
        write_grid,
        write_zip,
    )

    _check(arguments)
    source, resolution = locate(arguments.source, log_line), arguments.resolution
    # A run has a snapshot of each resolution; the images of a single snapshot are averaged down.
    own, smaller = (resolution, None) if source.is_dir() else (None, resolution)
    snapshot = load(source, own).to(find_device(arguments.device))
    info, rows = snapshot.info, arguments.label
    note_numbered(info.label_names, rows)
    # What cannot be drawn is refused before anything is written.
    if (smaller or 0) > snapshot.resolution:
        raise ConfigError(f"--resolution {smaller} is above {snapshot.resolution}, which this snapshot makes")
    snapshot.labels(rows)
    if info.label_kind == "class":  # by name or by index it is the same one
        rows = [snapshot.label_index(row) for row in rows]
    if len(set(rows)) < len(rows):
        raise ConfigError("a label is given twice: name each once")
    if not rows:
        rows = [""] if info.label_kind == "attributes" else list(range(len(info.label_names)))
    num = arguments.num or (8 if len(rows) > 1 else 64)
    if arguments.best:
        num = arguments.of or 10 * arguments.best
    first = arguments.seed or 0
    if first + num - 1 > MOST_SEED:
        raise ConfigError(f"--seed {first} is too high: the last of {num:,} seeds must be below 2^63")
    chosen = list(range(first, first + num)) if arguments.seeds is None else parse_seeds(arguments.seeds)
    if (arguments.best or 0) > len(chosen):
        raise ConfigError(f"--best {arguments.best} cannot be picked from {len(chosen)} seeds")
    if len(chosen) * max(1, len(rows)) > MOST_IMAGES:
        raise ConfigError(f"{len(chosen):,} images for each of {len(rows)} labels are more than {MOST_IMAGES:,}")
    seeds, labels = chosen * max(1, len(rows)), [label for label in rows for _ in chosen]
    drawing, across = (
        Drawing(snapshot, seeds, labels, arguments.truncation, smaller, arguments.upscale or 1),
        len(chosen),
    )
    if arguments.best:  # of each label
        critic = networks.load(source, network="D").to(snapshot.device)
        parts = (drawing.take(range(i, i + across)) for i in range(0, len(seeds), across))
        drawing = joined([part.best(critic, arguments.best) for part in parts])
        seeds, across = list(drawing.seeds), arguments.best
    name = "generated" if arguments.separate else "generated.png"
    out = str(arguments.out or beside(source, name))
    if arguments.separate:
        place, suffix = Path(out), f".{arguments.format or 'png'}"
        with progress_bar("sampling", hidden=arguments.quiet or arguments.json) as progress:
            (write_zip if place.suffix.lower() == ".zip" else write_files)(place, drawing, suffix, progress)
    else:
        place = output_path(out, name, (*FORMATS, ".npz"))
        columns = arguments.columns or (across if len(rows) > 1 else math.ceil(math.sqrt(len(seeds))))
        columns = min(columns, len(seeds))
        if place.suffix.lower() == ".npz":
            write_arrays(place, drawing)
        else:
            side = (smaller or snapshot.resolution) * drawing.upscale
            check_grid(-(-len(seeds) // columns), columns, side, place.suffix, "--separate, or fewer images")
            pixels, words = torch.cat(list(drawing.pixels())), drawing.names() or [""] * len(seeds)
            said = [f"{seed} {word}".strip() for seed, word in zip(seeds, words, strict=True)]
            sheet = captioned(pixels, said, columns) if arguments.captions else grid(pixels, columns)
            write_grid(place, drawing, sheet)
    full = snapshot.resolution
    size = smaller or full
    facts = {"out": str(place), "images": len(seeds), "resolution": size, "snapshot": snapshot.digest}
    note = f", box-averaged from {full}x{full}" if size < full else ""
    if drawing.picked:
        facts["picked"] = drawing.picked
        note += f", {drawing.picked}"
    return answer(arguments, facts, f"{len(seeds)} images of {size}x{size}{note}: {place}")


def _check(arguments: argparse.Namespace) -> None:
    """Raises ConfigError for numbers that cannot be."""
    if not 1 <= (1 if arguments.num is None else arguments.num) <= MOST_IMAGES:
        raise ConfigError(f"--num must be from 1 to {MOST_IMAGES:,}; got {arguments.num}")
    if (arguments.seed or 0) < 0:
        raise ConfigError(f"--seed must be at least 0; got {arguments.seed}")
    of = MOST_IMAGES // 10 if arguments.of is None else arguments.of
    if arguments.best is not None and not 1 <= arguments.best <= of <= MOST_IMAGES:
        raise ConfigError(f"--best must be from 1 to --of, and that at most {MOST_IMAGES:,}")
    if not 1 <= (1 if arguments.upscale is None else arguments.upscale) <= 64:
        raise ConfigError(f"--upscale must be from 1 to 64; got {arguments.upscale}")
    if arguments.columns is not None and arguments.columns < 1:
        raise ConfigError(f"--columns must be at least 1; got {arguments.columns}")
    check_truncation(arguments.truncation)
    check_resolution(arguments.resolution)
    _check_together(arguments)


def _check_together(a: argparse.Namespace) -> None:
    """Raises ConfigError for options of which one would do nothing."""
    suffix = Path(a.out or "").suffix.lower()
    if a.best is None:
        refuse(a, "of", "is the number of images that --best picks from: give --best")
    else:
        refuse(a, "num", "does not go with --best, which takes K images: leave it out")
    if a.seeds is not None:
        refuse(a, "num seed of", "does not go with --seeds, which names every seed: leave it out")
    if a.separate:
        refuse(a, "columns captions", "is of a grid: leave out --separate")
        if suffix in (".png", ".jpg", ".jpeg", ".webp", ".npz"):
            raise ConfigError(f"--separate writes into a folder or .zip; {a.out} is the name of a single file")
        if a.out and suffix != ".zip" and Path(a.out).is_file():
            raise ConfigError(f"--separate writes into a folder or .zip; {a.out} is a file")
        if suffix == ".zip" and Path(a.out).is_dir():
            raise ConfigError(f"--separate cannot write the zip {a.out}: {a.out} is a folder")
        if a.seeds is not None and len(set(chosen := parse_seeds(a.seeds))) < len(chosen):
            raise ConfigError("--seeds names a seed twice, which --separate writes once: name each once")
    else:
        refuse(a, "format", "is the kind of the files of --separate; a single file's is the suffix of --out")
        if suffix == ".npz":
            refuse(a, "columns captions upscale", "is of pictures; an .npz holds the images as they are")
        if suffix == ".zip":
            raise ConfigError(f"{a.out} is for many files: give --separate")


def parse_seeds(text: str) -> list[int]:
    """`3,7,20-29` as numbers. Raises ConfigError."""
    seeds: list[int] = []
    for part in text.split(","):
        first, _, last = part.strip().partition("-")
        if not first.isdecimal() or (last and not last.isdecimal()) or part.strip().endswith("-"):
            raise ConfigError(f"--seeds must look like 3,7,20-29; got {text!r}")
        start, end = int(first), int(last or first)
        if end < start:
            raise ConfigError(f"--seeds {part.strip()} goes backwards: write {last}-{first}")
        if end > MOST_SEED or end - start + 1 + len(seeds) > MOST_IMAGES:
            raise ConfigError(f"--seeds may be up to {MOST_IMAGES:,} numbers below 2^63; got {text!r}")
        seeds.extend(range(start, end + 1))
    return seeds
