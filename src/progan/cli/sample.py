"""`progan sample`: pictures from a generator."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from progan.config import MOST_SEED
from progan.errors import ConfigError
from progan.per_resolution import RESOLUTIONS

if TYPE_CHECKING:
    from progan.snapshot import Snapshot

MOST_IMAGES = 1_000_000
"""Of one command."""


def register(commands: "argparse._SubParsersAction[Any]") -> None:
    """Add the command."""
    parser = commands.add_parser(
        "sample",
        help="make pictures with a trained generator",
        description="Make pictures. Seed 7 is the same picture in every batch and on every machine.",
    )
    parser.add_argument("source", metavar="RUN|SNAPSHOT", help="a run folder or a .safetensors file")
    parser.add_argument("--num", type=int, metavar="N", help="how many, of labelled models for each label [64, or 8]")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="the first one's seed; then S+1 … [0]")
    parser.add_argument("--seeds", metavar="LIST", help="these instead: 3,7,20-29")
    parser.add_argument(
        "--label",
        action="append",
        default=[],
        metavar="NAME",
        help="class, or attributes such as hat=cap,glasses=none; several give a row each [all classes; as in the data]",
    )
    parser.add_argument("--resolution", type=int, metavar="R", help="of a run: that resolution's own snapshot")
    parser.add_argument("--truncation", type=float, default=1.0, metavar="PSI", help="below 1: less variety [1]")
    parser.add_argument("--columns", type=int, metavar="N", help="of the grid [about square]")
    parser.add_argument("--separate", action="store_true", help="a file for every seed instead of a grid")
    parser.add_argument("--out", metavar="PATH", help="grid.png, or the folder of --separate [beside the source]")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda … [auto]")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Handle the command."""
    import math

    import torch

    from progan.devices import find_device
    from progan.sampling import load, write_files, write_grid
    from progan.sampling.pictures import generate

    _check(arguments)
    is_run = Path(arguments.source).is_dir()
    snapshot = load(arguments.source, arguments.resolution if is_run else None).to(find_device(arguments.device))
    rows = arguments.label or default_labels(snapshot)
    each = arguments.num or (8 if len(rows) > 1 else 64)
    chosen = parse_seeds(arguments.seeds) if arguments.seeds else list(range(arguments.seed, arguments.seed + each))
    seeds, labels = chosen * max(1, len(rows)), [label for label in rows for _ in chosen]
    smaller = arguments.resolution if arguments.resolution and not is_run else None
    batches = generate(snapshot, seeds, labels, arguments.truncation, smaller)
    out = Path(arguments.out) if arguments.out else default_out(Path(arguments.source), arguments.separate)
    if arguments.separate:
        write_files(out, snapshot, seeds, labels, batches)
    else:
        wanted = arguments.columns or (len(chosen) if len(rows) > 1 else math.ceil(math.sqrt(len(seeds))))
        columns = min(wanted, len(seeds))
        out.parent.mkdir(parents=True, exist_ok=True)
        write_grid(out, snapshot, seeds, torch.cat(list(batches)), columns)
    size = smaller or snapshot.resolution
    report = {"out": str(out), "images": len(seeds), "resolution": size, "snapshot": snapshot.digest}
    own = snapshot.resolution
    note = f", box-averaged from {own}x{own}" if size < own else ""
    print(json.dumps(report) if arguments.json else f"{len(seeds)} images of {size}x{size}{note}: {out}")
    return 0


def _check(arguments: argparse.Namespace) -> None:
    """Raises ConfigError for numbers that cannot be."""
    if not 1 <= (1 if arguments.num is None else arguments.num) <= MOST_IMAGES:
        raise ConfigError(f"--num must be from 1 to {MOST_IMAGES:,}; got {arguments.num}")
    if not 0 <= arguments.seed <= MOST_SEED - MOST_IMAGES:
        raise ConfigError(f"--seed must be at least 0 and below 2^63; got {arguments.seed}")
    if arguments.columns is not None and arguments.columns < 1:
        raise ConfigError(f"--columns must be at least 1; got {arguments.columns}")
    if not -100 <= arguments.truncation <= 100:  # which nan is not
        raise ConfigError(f"--truncation must be a number about 0 to 1; got {arguments.truncation}")
    if arguments.resolution is not None and arguments.resolution not in RESOLUTIONS:
        raise ConfigError(f"--resolution must be a power of two from 4 to 1024; got {arguments.resolution}")


def default_labels(snapshot: "Snapshot") -> list[str]:
    """A row for every class; attributes as the data has them; nothing for a model without labels."""
    if snapshot.info.label_kind == "attributes":
        return [""]
    return list(snapshot.info.label_names)


def default_out(source: Path, separate: bool) -> Path:
    """In a run `generated.png`, or the folder `generated`; beside a file the same with its name before."""
    name = "generated" if separate else "generated.png"
    return source / name if source.is_dir() else source.with_name(f"{source.stem}-{name}")


def parse_seeds(text: str) -> list[int]:
    """`3,7,20-29` as numbers. Raises ConfigError."""
    seeds: list[int] = []
    for part in text.split(","):
        first, _, last = part.strip().partition("-")
        if not first.isdecimal() or (last and not last.isdecimal()) or part.strip().endswith("-"):
            raise ConfigError(f"--seeds must look like 3,7,20-29; got {text!r}")
        numbers = range(int(first), int(last or first) + 1)
        if int(last or first) > MOST_SEED or len(numbers) + len(seeds) > MOST_IMAGES:
            raise ConfigError(f"--seeds may be up to {MOST_IMAGES:,} numbers below 2^63; got {text!r}")
        seeds.extend(numbers)
    return seeds
