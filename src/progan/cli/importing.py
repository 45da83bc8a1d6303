"""`progan import`: networks of other implementations."""

import argparse
from pathlib import Path

from progan.cli.base import Parser, answer
from progan.errors import ConfigError


def add_arguments(parser: Parser) -> None:
    parser.add_argument("source", metavar="SOURCE", help="a .pkl file")
    parser.add_argument("out", metavar="OUT", help="the snapshot to write, a .safetensors file")
    parser.add_argument("--licence", metavar="TEXT", help="licence of the network (default: CC BY-NC 4.0)")


def run(arguments: argparse.Namespace) -> int:
    """Turn a network of the authors' code into a snapshot.

    Reads network pickles of the authors' TensorFlow code (network-final.pkl, network-snapshot-….pkl). Nothing in a
    pickle is run; it is read as data, or refused.

        progan import network-final.pkl celebahq.safetensors

    The networks that the authors published may not be used commercially (CC BY-NC 4.0). Give --licence for a network
    with another licence.
    """
    from progan.importers import LICENCE, import_official

    out = Path(arguments.out)
    if out.suffix != ".safetensors":
        raise ConfigError(f"{out}: the name of a snapshot must end in .safetensors")
    snapshot = import_official(Path(arguments.source), LICENCE if arguments.licence is None else arguments.licence)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        snapshot.save(out)
    except OSError as error:
        raise ConfigError(f"{out} cannot be written: {error.strerror}") from None
    shape, size, licence = snapshot.info.shape, snapshot.resolution, snapshot.info.licence
    facts = {
        "out": str(out),
        "resolution": size,
        "channels": shape.channels,
        "labels": shape.label_size,
        "licence": licence,
    }
    kind = {1: "grey", 3: "RGB"}[shape.channels]
    lines = [f"{out}: {size}x{size}, {kind}, {shape.label_size or 'no'} labels. Licence: {licence or 'unknown'}"]
    if arguments.licence is None:
        lines.append("(the licence of the networks that the authors published; for another network, give --licence)")
    return answer(arguments, facts, "\n".join([*lines, f"next: progan sample {out}"]))
