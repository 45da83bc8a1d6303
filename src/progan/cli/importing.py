"""`progan import`: networks of other implementations."""

import argparse
import json
from pathlib import Path
from typing import Any

from progan.errors import ConfigError


def register(commands: "argparse._SubParsersAction[Any]") -> None:
    """Add the command."""
    parser = commands.add_parser(
        "import",
        help="turn a network of the authors' code into a snapshot",
        description="Turn a network pickle of the authors' TensorFlow code (network-final.pkl, network-snapshot-….pkl) "
        "into a snapshot.\nNothing in the pickle is run; it is read as data, or refused.",
        epilog="The networks the authors published may not be used commercially (CC BY-NC 4.0). Say --licence where "
        "yours is another.",
    )
    parser.add_argument("source", metavar="SOURCE", help="a .pkl file")
    parser.add_argument("out", metavar="OUT", help="the snapshot to write, a .safetensors file")
    parser.add_argument("--licence", metavar="TEXT", help="of the network [CC BY-NC 4.0]")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Handle the command."""
    from progan.importers import LICENCE, import_official

    out = Path(arguments.out)
    if out.suffix != ".safetensors":
        raise ConfigError(f"{out}: snapshots are called ….safetensors")
    snapshot = import_official(Path(arguments.source), LICENCE if arguments.licence is None else arguments.licence)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        snapshot.save(out)
    except OSError as error:
        raise ConfigError(f"{out} cannot be written: {error.strerror}") from None
    info, size = snapshot.info, snapshot.resolution
    facts = {
        "out": str(out),
        "resolution": size,
        "channels": info.shape.channels,
        "labels": info.shape.label_size,
        "licence": info.licence,
    }
    if arguments.json:
        print(json.dumps(facts))
        return 0
    kind = {1: "grey", 3: "RGB"}[info.shape.channels]
    print(f"{out}: {size}x{size}, {kind}, {info.shape.label_size or 'no'} labels. Licence: {info.licence or 'unknown'}")
    if arguments.licence is None:
        print("(that of the networks the authors published; if this is one of yours, say --licence)")
    print(f"next: progan sample {out}")
    return 0
