"""`progan evaluate`: how good a generator is."""

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from progan.errors import ConfigError

if TYPE_CHECKING:
    from progan.data.dataset import Dataset
    from progan.metrics import Entry, Value
    from progan.metrics.evaluation import Yardstick
    from progan.snapshot import Snapshot

_WAYS = {"lower": "lower is better", "higher": "higher is better", "floor": "best near its floor"}


def register(commands: "argparse._SubParsersAction[Any]") -> None:
    """Add the command."""
    from progan.metrics import METRICS

    width = max(map(len, METRICS)) + 2
    listed = [f"{_spelled(name):{width}}{entry.about}; {_directions(entry)}" for name, entry in METRICS.items()]
    parser = commands.add_parser(
        "evaluate",
        help="measure how good a generator's images are",
        description="Compare a generator's images with real ones. Beside each number stands its floor: the same number "
        "for other\nreal images in the place of the generated ones, which is the best that can be reached.",
        epilog="metrics:\n" + "\n".join(listed),
    )
    parser.add_argument("source", metavar="RUN|SNAPSHOT", help="a run folder or a .safetensors file")
    parser.add_argument("--data", metavar="DATASET", help="prepared or not [of a run: what it was trained on]")
    parser.add_argument(
        "--metrics",
        default="swd,ms-ssim",
        metavar="LIST",
        help="some of those below, or `all` that the data allows [swd,ms-ssim]",
    )
    parser.add_argument("--held-out", metavar="DATASET", help="images like the data that were not trained on")
    parser.add_argument(
        "--inception-weights",
        metavar="FILE",
        help="a state_dict of Inception-v3 for fid, kid and inception-score, e.g. "
        "pt_inception-2015-12-05-6726825d.pth from the releases of github.com/mseitzer/pytorch-fid",
    )
    parser.add_argument(
        "--neighbours", metavar="PNG", help="write a picture: fakes beside the training images nearest to them"
    )
    parser.add_argument("--num", type=int, metavar="N", help="images of each kind [half of the data, at most 16384]")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of latents, reals, patches, directions [0]")
    parser.add_argument("--resolution", type=int, metavar="R", help="of a run: that resolution's own snapshot")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda … [auto]")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--quiet", action="store_true", help="no progress on the screen")
    parser.set_defaults(run=run)


def _spelled(name: str) -> str:
    return name.replace("_", "-")


def _directions(entry: "Entry") -> str:
    """Which way is better, in a word or one for each of the numbers."""
    ways = set(entry.values.values())
    if len(ways) == 1:
        return _WAYS[ways.pop()]
    return ", ".join(f"{_spelled(name)} {_WAYS[way]}" for name, way in entry.values.items())


def run(arguments: argparse.Namespace) -> int:
    """Handle the command."""
    from progan.files import write_whole
    from progan.metrics.evaluation import measure_snapshot
    from progan.progress import progress_bar

    if arguments.seed < 0:
        raise ConfigError("--seed must be at least 0")
    quiet = arguments.quiet or arguments.json
    snapshot = open_snapshot(arguments)
    dataset, yardstick = open_yardstick(arguments, snapshot, quiet)
    with progress_bar("measuring", hidden=quiet) as progress:
        values = measure_snapshot(snapshot, yardstick, progress)
    if arguments.neighbours:
        write_whole(Path(arguments.neighbours), neighbours_picture(snapshot, yardstick))
    facts = {
        "source": str(arguments.source),
        "snapshot": snapshot.digest,
        "resolution": snapshot.resolution,
        "dataset": dataset.name,
        "dataset_fingerprint": dataset.fingerprint,
        "images": yardstick.num,
        "floor_images": yardstick.floor_num,
        "seed": yardstick.seed,
        "latent_seeds": [yardstick.first_seed, yardstick.first_seed + yardstick.num - 1],
        "notes": yardstick.notes,
    }
    if arguments.json:
        print(json.dumps({**facts, "metrics": {name: asdict(value) for name, value in values.items()}}))
    else:
        print(table(facts, values))
    return 0


def open_snapshot(arguments: argparse.Namespace) -> "Snapshot":
    """The snapshot to be measured, on its device."""
    from progan.devices import find_device
    from progan.sampling import load

    source = Path(arguments.source)
    if arguments.resolution and not source.is_dir():
        raise ConfigError("--resolution chooses among the snapshots of a run; a snapshot has only its own")
    snapshot = load(source, arguments.resolution).to(find_device(arguments.device))
    if arguments.data is None and not source.is_dir():
        raise ConfigError("--data: name the images to compare with, a dataset, folder or zip")
    return snapshot


def open_yardstick(arguments: argparse.Namespace, snapshot: "Snapshot", quiet: bool) -> "tuple[Dataset, Yardstick]":
    """What it is measured with."""
    import sys

    from progan.config import PrepareConfig
    from progan.data.cache import open_data
    from progan.metrics.evaluation import Yardstick
    from progan.run_folder import RunFolder

    tell = (lambda text: None) if quiet else (lambda text: print(text, file=sys.stderr))
    data = arguments.data or RunFolder(Path(arguments.source)).read()[1].path
    wanted = PrepareConfig(resolution=snapshot.info.shape.resolution)
    dataset = open_data(data, wanted, tell)
    held_out = None if arguments.held_out is None else open_data(arguments.held_out, wanted, tell)
    weights = Path(arguments.inception_weights) if arguments.inception_weights else None
    names = arguments.metrics.split(",")
    return dataset, Yardstick(dataset, names, arguments.num, arguments.seed, snapshot.device, held_out, weights, tell)


def neighbours_picture(snapshot: "Snapshot", yardstick: "Yardstick") -> bytes:
    """A PNG: of 512 fakes those nearest to a training image, each in a row with its five nearest."""
    from progan.metrics.evaluation import first_fakes
    from progan.metrics.neighbours import sheet
    from progan.sampling.pictures import png

    fakes = first_fakes(snapshot, yardstick, 512)
    seeds = range(yardstick.first_seed, yardstick.first_seed + len(fakes))
    return png(sheet(fakes, yardstick.setting(snapshot.resolution)), snapshot, seeds)


def table(facts: dict[str, Any], values: "dict[str, Value]") -> str:
    """The report as lines for people."""
    size, (first, last) = facts["resolution"], facts["latent_seeds"]
    floor_num = facts["floor_images"]
    fewer = ", fewer than above: it is too high" if floor_num < facts["images"] else ""
    width = max(map(len, values)) + 1
    lines = [
        f"{facts['images']:,} images of {size}x{size} (latents of seeds {first} … {last}) against as many of "
        f"{facts['dataset']} (seed {facts['seed']})",
        f"floor: {floor_num:,} of {facts['dataset']} against {floor_num:,} others{fewer}",
        "",
        f"{'':{width}}{'value':>10}   {'95 % interval':21}{'floor':>10}   95 % interval",
    ]
    for name, value in values.items():
        cells = [f"{v.value:10.4g}   {f'{v.low:.4g} … {v.high:.4g}':21}" for v in (value, value.floor) if v]
        lines.append(f"{_spelled(name):{width}}{''.join(cells)}".rstrip())
    return "\n".join([*lines, *facts["notes"]])
