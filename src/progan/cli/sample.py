"""`progan sample`: pictures from a generator."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from progan.errors import ConfigError

if TYPE_CHECKING:
    from progan.snapshot import Snapshot


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

    from progan.sampling import load, write_files, write_grid
    from progan.sampling.pictures import generate
    from progan.training.precision import find_device

    if arguments.seed < 0 or (arguments.num is not None and arguments.num < 1):
        raise ConfigError("--num must be at least 1 and --seed at least 0")
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
        columns = arguments.columns or (len(chosen) if len(rows) > 1 else math.ceil(math.sqrt(len(seeds))))
        out.parent.mkdir(parents=True, exist_ok=True)
        write_grid(out, snapshot, seeds, torch.cat(list(batches)), columns)
    size = smaller or snapshot.resolution
    report = {"out": str(out), "images": len(seeds), "resolution": size, "snapshot": snapshot.digest}
    own = snapshot.resolution
    note = f", box-averaged from {own}x{own}" if size < own else ""
    print(json.dumps(report) if arguments.json else f"{len(seeds)} images of {size}x{size}{note}: {out}")
    return 0


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
        seeds.extend(range(int(first), int(last or first) + 1))
    return seeds
