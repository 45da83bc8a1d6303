"""`progan find`: the latent that reproduces a picture."""

import argparse
import contextlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

from progan.cli.base import DEVICE, Parser, add_label_flags, add_source, answer, beside, check_resolution, refuse
from progan.config import MOST_SEED
from progan.errors import ConfigError, SnapshotError
from progan.pretrained import locate
from progan.progress import log_line, progress_bar

if TYPE_CHECKING:
    from torch import Tensor

_NEIGHBOURS = 4
_FPS, _LEAST_SIDE = 15, 128


def add_arguments(parser: Parser) -> None:
    add = parser.add_argument
    add_source(parser)
    add("image", metavar="IMAGE", help="the picture, of any size; its middle square is taken")
    add("--out", metavar="DIR", help="folder for the result (default: found-IMAGE beside the run or snapshot)")
    add_label_flags(parser, "class that it is to be, or attributes such as hat=cap (default: every class is tried)")
    add("--steps", type=int, default=300, metavar="N", help="steps of the search")
    add("--seed", type=int, default=0, metavar="S", help="seed of the random latents that it begins with")
    add(
        "--resolution",
        type=int,
        metavar="R",
        help="of a run: use the snapshot of that resolution (default: the highest)",
    )
    text = "images among which the nearest are shown (default: of a run, its training images)"
    add("--data", metavar="DATASET", help=text)
    add("--no-reals", action="store_true", help="show no training images")
    add("--device", default="auto", metavar="DEVICE", help=DEVICE)
    add("--quiet", action="store_true", help="show no progress")


def run(arguments: argparse.Namespace) -> int:
    """Find the latent whose image is most like a picture.

    It is searched by pixels, edges and, where the discriminator is at hand, its features. The folder has the picture,
    what was found and the nearest training images side by side (found.png), the search as a film (search.webp) and the
    latent (latent.json).

        progan find runs/faces portrait.jpg
        progan find runs/digits seven.png --label 7 --steps 1000 --out seven
    """
    import torch

    from progan.devices import find_device
    from progan.files import write_whole
    from progan.metrics.nearest import nearest_in_training, training_images
    from progan.run.networks import load
    from progan.sampling.films import write_film
    from progan.sampling.finding import find, read_picture
    from progan.sampling.interpolation import sheet
    from progan.sampling.pictures import encode

    a = arguments
    if not 0 <= a.steps <= 100_000 or not 0 <= a.seed <= MOST_SEED // 2:
        raise ConfigError("--steps must be from 0 to 100,000, and --seed at least 0")
    if a.no_reals:
        refuse(a, "data", "is where training images are shown from: leave out --no-reals")
    source, quiet = locate(a.source, log_line), a.quiet or a.json
    if not source.is_dir():
        refuse(a, "resolution", "is of a run; a snapshot has one resolution: leave it out")
    check_resolution(a.resolution)
    snapshot = load(source, a.resolution).to(find_device(a.device))
    critic = None
    with contextlib.suppress(SnapshotError):  # a snapshot of a run has no discriminator
        critic = load(source, network="D").to(snapshot.device)
    if critic is not None and critic.resolution != snapshot.resolution:
        critic = None
    target = read_picture(Path(a.image), snapshot.resolution, snapshot.info.shape.channels)
    if not snapshot.G.label_size:
        refuse(a, "label", "is of a generator with labels; this one was trained without: leave it out")
    names = a.label or (range(snapshot.G.label_size) if snapshot.info.label_kind == "class" else [""])
    labels = snapshot.labels(names) if snapshot.G.label_size else None

    shape = snapshot.info.shape
    images = None if a.no_reals else training_images(source, a.data, snapshot.resolution, shape.channels, log_line)
    # The frames of the film: the picture beside what is found by then.
    frames: list[Tensor] = []
    factor, every = max(1, _LEAST_SIDE // snapshot.resolution), max(1, a.steps // 90)
    with progress_bar("searching", "step", hidden=quiet) as progress:

        def watch(step: int, pixels: "Tensor") -> None:
            progress(step, a.steps)
            if step % every == 0 or step == a.steps:
                frames.append(sheet(torch.stack([target, pixels]), 2, factor))

        found = find(snapshot, target, labels, critic, a.steps, a.seed, watch)

    near = None if images is None else nearest_in_training(found.pixels, images, _NEIGHBOURS)
    shown = (
        torch.stack([target, found.pixels]) if near is None else torch.cat([torch.stack([target, found.pixels]), near])
    )
    folder = Path(a.out) if a.out else beside(source, f"found-{Path(a.image).stem}")
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / "found.png", encode(sheet(shown, len(shown), factor), snapshot, []))
    write_film(folder / "search.webp", iter(frames + frames[-1:] * _FPS), _FPS, log_line)
    facts = {
        "z": found.z.tolist(),
        "labels": None if found.labels is None else found.labels.tolist(),
        "snapshot": snapshot.digest,
        "distance": found.distance,
        "random_distance": found.random_distance,
        "discriminator": critic is not None,
    }
    write_whole(folder / "latent.json", json.dumps(facts).encode())
    words = f"distance {found.distance:.4g} (nearest of the random images: {found.random_distance:.4g}): {folder}"
    return answer(a, {"out": str(folder), "nearest": near is not None, **facts}, words)
