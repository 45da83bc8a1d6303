"""`progan evaluate`: how good a generator is."""

import argparse
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from progan.cli.base import DEVICE, Parser, add_source, answer, check_resolution
from progan.errors import ConfigError
from progan.metrics import METRICS
from progan.pretrained import locate
from progan.progress import log_line

if TYPE_CHECKING:
    from progan.metrics import Value
    from progan.metrics.evaluation import Yardstick
    from progan.snapshot import Snapshot


def add_arguments(parser: Parser) -> None:
    add = parser.add_argument
    add_source(parser)
    text = "real images to compare with, prepared or not (default: of a run, its training images)"
    add("--data", metavar="DATASET", help=text)
    text = "metrics listed below, `all` that the data allows, or `inception`: fid, kid, inception-score of 50,000 fakes"
    add("--metrics", default="swd,ms-ssim", metavar="LIST", help=text)
    add("--held-out", metavar="DATASET", help="images like the data that were not trained on")
    text = (
        "a state_dict of Inception-v3 for fid, kid and inception-score, for example "
        "pt_inception-2015-12-05-6726825d.pth from the releases of github.com/mseitzer/pytorch-fid"
    )
    add("--inception-weights", metavar="FILE", help=text)
    text = "an .npz with mu and sigma, the published statistics of the real images, for fid in the place of the data"
    add("--inception-statistics", metavar="FILE", help=text)
    add("--neighbours", metavar="FILE", help="write a picture of fakes beside the training images nearest to them")
    add("--num", type=int, metavar="N", help="images of each kind (default: half of the data, at most 16384)")
    add("--seed", type=int, default=0, metavar="S", help="seed of latents, real images, patches and directions")
    text = "of a run: use the snapshot of that resolution (default: the highest)"
    add("--resolution", type=int, metavar="R", help=text)
    add("--device", default="auto", metavar="DEVICE", help=DEVICE)
    add("--quiet", action="store_true", help="show no progress")
    parser.epilog = f"{parser.epilog}\n\nmetrics:\n{_metrics_listed()}"


def run(arguments: argparse.Namespace) -> int:
    """Measure how good a generator's images are.

    They are compared with real ones. Each number has a real-vs-real baseline: the same number for other real images
    in place of the generated ones, which is the best that a generator can be expected to reach.

        progan evaluate runs/digits
        progan evaluate runs/digits --metrics all --json
        progan evaluate runs/faces --metrics inception --inception-weights inception.pth
        progan evaluate celebahq.safetensors --data celebahq/ --num 10000
    """
    from progan.data.cache import open_data
    from progan.data.sources.named import preparation
    from progan.devices import find_device
    from progan.files import output_path, write_whole
    from progan.metrics.evaluation import Yardstick
    from progan.progress import progress_bar
    from progan.run_folder import RunFolder
    from progan.sampling import load
    from progan.sampling.pictures import FORMATS

    source, quiet = locate(arguments.source, log_line), arguments.quiet or arguments.json
    check_resolution(arguments.resolution)
    if arguments.resolution and not source.is_dir():
        raise ConfigError("--resolution chooses among the snapshots of a run; a snapshot has only its own")
    snapshot = load(source, arguments.resolution).to(find_device(arguments.device))
    if arguments.data is None and not source.is_dir():
        raise ConfigError("--data: name the images to compare with, a dataset, folder or zip")

    picture = None
    if arguments.neighbours:
        picture = output_path(arguments.neighbours, "neighbours.png", tuple(FORMATS))
    log = (lambda text: None) if quiet else log_line
    place = arguments.data or RunFolder(source).images()
    wanted = preparation(place, resolution=snapshot.info.shape.resolution)
    dataset = open_data(place, wanted, log)
    # Held-out images that are not prepared yet get the same range of values.
    same = replace(wanted, range=dataset.range)
    held_out = None if arguments.held_out is None else open_data(arguments.held_out, same, log)
    weights, statistics = (
        Path(given) if given else None for given in (arguments.inception_weights, arguments.inception_statistics)
    )
    names = arguments.metrics.split(",")
    yardstick = Yardstick(
        dataset, names, arguments.num, arguments.seed, snapshot.device, held_out, weights, statistics, log
    )
    with progress_bar("measuring", hidden=quiet) as progress:
        values = yardstick.measure_snapshot(snapshot, progress)
    if picture:
        write_whole(picture, neighbours_picture(snapshot, yardstick, picture.suffix))
    facts = {
        "source": str(arguments.source),
        "snapshot": snapshot.digest,
        "resolution": snapshot.resolution,
        "dataset": dataset.name,
        "dataset_fingerprint": dataset.fingerprint,
        "images": yardstick.num,
        "real_images": yardstick.real_num,
        "floor_images": yardstick.floor_num,
        "seed": yardstick.seed,
        "latent_seeds": [yardstick.first_seed, yardstick.first_seed + yardstick.num - 1],
        "notes": yardstick.notes,
    }
    numbers = {name: asdict(value) for name, value in values.items()}
    return answer(arguments, {**facts, "metrics": numbers}, table(facts, values))


def neighbours_picture(snapshot: "Snapshot", yardstick: "Yardstick", suffix: str = ".png") -> bytes:
    """Picture of those of 512 fakes that are nearest to a training image, each in a row with its five nearest."""
    from progan.metrics.neighbours import sheet
    from progan.sampling.pictures import encode

    fakes = yardstick.first_fakes(snapshot, 512)
    seeds = range(yardstick.first_seed, yardstick.first_seed + len(fakes))
    return encode(sheet(fakes, yardstick.setting(snapshot.resolution)), snapshot, seeds, suffix)


def table(facts: dict[str, Any], values: "dict[str, Value]") -> str:
    """The report as lines of text."""
    size, (first, last) = facts["resolution"], facts["latent_seeds"]
    num, data = facts["floor_images"], facts["dataset"]
    reals = "as many" if facts["real_images"] == facts["images"] else f"{facts['real_images']:,}"
    fewer = ", fewer than above: its distances are larger for that" if num < facts["images"] else ""
    width = max(map(len, values)) + 1
    lines = [
        f"{facts['images']:,} images of {size}x{size} (latents of seeds {first} … {last}) against {reals} of {data} "
        f"(seed {facts['seed']})",
        f"real-vs-real baseline: {num:,} images of {data} against {num:,} others{fewer}",
        "",
        f"{'':{width}}{'value':>10}   {'95 % interval':21}{'baseline':>10}   95 % interval",
    ]
    for name, value in values.items():
        cells = [f"{v.value:10.4g}   {f'{v.low:.4g} … {v.high:.4g}':21}" for v in (value, value.floor) if v]
        lines.append(f"{name.replace('_', '-'):{width}}{''.join(cells)}".rstrip())
    return "\n".join([*lines, *facts["notes"]])


def _metrics_listed() -> str:
    """Name, meaning and better direction of every metric, a line each."""
    ways = {"lower": "lower is better", "higher": "higher is better", "floor": "best near the baseline"}
    lines = []
    for name, entry in METRICS.items():
        better = {ways[way] for way in entry.values.values()}
        each = ", ".join(f"{value.replace('_', '-')} {ways[way]}" for value, way in entry.values.items())
        lines.append(f"  {name.replace('_', '-'):26}{entry.about}; {better.pop() if len(better) == 1 else each}")
    return "\n".join(lines)
