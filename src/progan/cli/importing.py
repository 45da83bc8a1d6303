"""`progan import`: networks of other implementations."""

import argparse
from pathlib import Path

from progan.cli.base import Parser, answer
from progan.errors import ConfigError
from progan.files import word
from progan.progress import log_line


def add_arguments(parser: Parser) -> None:
    parser.add_argument("source", metavar="SOURCE", help="a .pkl, .pth or .bin file")
    parser.add_argument("out", metavar="OUT", nargs="?", help="the snapshot to write, a .safetensors file")
    text = "licence of the network (default: CC BY-NC 4.0 for the authors' pickles, else unknown)"
    parser.add_argument("--licence", metavar="TEXT", help=text)
    text = "resolution at which a checkpoint of pro_gan_pytorch was trained last (default: the highest it has)"
    parser.add_argument("--resolution", type=int, metavar="R", help=text)


def run(arguments: argparse.Namespace) -> int:
    """Turn networks of another implementation into a snapshot.

    Reads network pickles of the authors' TensorFlow code (network-final.pkl, network-snapshot-….pkl), and checkpoints
    of facebookresearch/pytorch_GAN_zoo (progressive networks) and akanimax/pro_gan_pytorch. Nothing in a file is run;
    it is read as data, or refused. The snapshot makes images with the averaged generator; it also holds the trained one
    and the discriminator, where the file has them.

        progan import network-final.pkl celebahq.safetensors
        progan import celebaHQ_256.pth celebahq.safetensors
        progan import depth_7_epoch_10.bin mine.safetensors --resolution 128

    The networks that the authors published may not be used commercially (CC BY-NC 4.0). Give --licence for a network
    with another licence.
    """
    from progan.importers import import_network

    if not Path(arguments.source).exists():
        raise ConfigError(f"{arguments.source} does not exist")
    if arguments.out is None:
        raise ConfigError(f"name the snapshot to write: progan import {word(arguments.source)} OUT.safetensors")
    out = Path(arguments.out)
    if out.suffix != ".safetensors":
        raise ConfigError(f"{out}: the name of a snapshot must end in .safetensors")
    snapshot = import_network(Path(arguments.source), arguments.licence, arguments.resolution, log_line)
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
        "networks": ["Gs", *(["G"] if snapshot.raw else []), *(["D"] if snapshot.D else [])],
    }
    kind = {1: "grey", 3: "RGB"}[shape.channels]
    others = [name for name, there in (("trained G", snapshot.raw), ("D", snapshot.D)) if there]
    besides = f", and {' and '.join(others)}" if others else ""
    what = f"{size}x{size}, {kind}, {shape.label_size or 'no'} labels{besides}"
    lines = [f"{out}: {what}. Licence: {licence or 'unknown'}"]
    if arguments.licence is None and licence:
        lines.append("(the licence of the networks that the authors published; for another network, give --licence)")
    return answer(arguments, facts, "\n".join([*lines, f"next: progan sample {word(out)}"]))
