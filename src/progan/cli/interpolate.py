"""`progan interpolate` and `progan video`: a generator and a training as pictures that change."""

import argparse
import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from progan.cli.base import (
    DEVICE,
    Parser,
    add_label_flags,
    add_source,
    answer,
    beside,
    check_resolution,
    check_truncation,
    refuse,
)
from progan.config import MOST_SEED
from progan.errors import ConfigError
from progan.pretrained import locate
from progan.progress import log_line

if TYPE_CHECKING:
    from progan.sampling.interpolation import Moment
    from progan.snapshot import Snapshot

_PAIRS = 8
"""Number of pairs by default, as in the paper's video."""
_CELL = 128
"""Least number of pixels of an image in a film by default: smaller ones are enlarged."""
_SECONDS, _FPS = 4.0, 30
"""Length of the way in a film, and frames a second, by default."""
_MOST = 100_000
"""Largest number of frames."""


def add_arguments(parser: Parser) -> None:
    add = parser.add_argument
    add_source(parser)
    text = "a grid (.png, .jpg), or a film (.mp4, .webp, a folder of frames) (default: interpolation.png beside it)"
    add("--out", metavar="PATH", help=text)
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--grid", action="store_true", help="a grid, also as .webp")
    kind.add_argument("--film", action="store_true", help="a film, also as .webp or into a folder that is to be made")
    text = "pairs of seeds, for example 12:97,3:5, a row each (default: eight pairs from --seed on)"
    add("--pairs", metavar="A:B,…", help=text)
    add("--seed", type=int, metavar="S", help="first seed where --pairs is not given (default: 0)")
    add_label_flags(parser, "name of the class, or attributes such as hat=cap, of all images (default: one a row)")
    add("--label-from", metavar="NAME", help="go from this class to --label-to, with the first seed of each pair")
    add("--label-to", metavar="NAME", help="see --label-from")
    text = "film instead that wanders through the latents and ends where it begins, so many images in a grid"
    add("--loop", type=int, metavar="N", help=f"{text} (default: go from seed to seed)")
    text = (
        "images from one seed to the other, both included (default: 9 in a grid; in a film as many as --seconds gives)"
    )
    add("--frames", type=int, metavar="N", help=text)
    text = "length of the way in a film, which also goes back (default: 4, or what --frames gives)"
    add("--seconds", type=float, metavar="X", help=text)
    add("--fps", type=int, metavar="N", help=f"frames a second of a film (default: {_FPS})")
    add("--truncation", type=float, default=1.0, metavar="PSI", help="below 1: less variety, more typical images")
    text = "of a run: use the snapshot of that resolution; of a snapshot: average the images down to it"
    add("--resolution", type=int, metavar="R", help=f"{text} (default: the highest)")
    text = "show each pixel as N x N (default: 1; in a film as many as make 128 pixels of an image)"
    add("--upscale", type=int, metavar="N", help=text)
    add("--device", default="auto", metavar="DEVICE", help=DEVICE)


def run(arguments: argparse.Namespace) -> int:
    """Show the way from one generated image to another.

    Latents go along great circles, classes along straight lines. The suffix of --out decides between a grid, a row for
    each pair, and a film that plays all pairs side by side, there and back.

        progan interpolate runs/faces
        progan interpolate runs/faces --pairs 12:97,3:5 --out way.mp4
        progan interpolate runs/faces --loop 16 --seconds 20 --out loop.webp
        progan interpolate runs/digits --label-from 3 --label-to 8 --out morph.png
    """
    import torch

    from progan.devices import find_device
    from progan.files import output_path, write_whole
    from progan.sampling import load
    from progan.sampling.films import FILMS, write_film
    from progan.sampling.interpolation import between, sheet, show, there_and_back, wander
    from progan.sampling.pictures import FORMATS, check_grid, encode

    a = arguments
    _check(a)
    check_truncation(a.truncation)
    check_resolution(a.resolution)
    source, out = locate(a.source, log_line), a.out or None
    own, smaller = (a.resolution, None) if source.is_dir() else (None, a.resolution)
    snapshot = load(source, own).to(find_device(a.device))
    if out is None:
        name = "interpolation.mp4" if a.film or a.loop else "interpolation.png"
        out = str(beside(source, name))
    folder = Path(out).is_dir() or out.endswith(("/", os.sep)) or not Path(out).suffix
    film = a.film or a.loop is not None or (not a.grid and (folder or Path(out).suffix.lower() in FILMS))
    if not film:
        refuse(a, "seconds fps", "is of a film: give an --out that ends in .mp4 or .webp, or --film")
    side, pairs, fps = smaller or snapshot.resolution, _pairs(a), a.fps or _FPS
    factor = a.upscale or (max(1, _CELL // side) if film else 1)
    frames = a.frames or (max(2, round((a.seconds or _SECONDS) * fps)) if film else 9)
    start, end = _ends(a, snapshot, pairs)
    if not film:
        place = output_path(out, "interpolation.png", tuple(FORMATS))
        check_grid(len(pairs), frames, side * factor, place.suffix, "fewer --frames or --pairs, or --film")
        pixels = torch.stack([show(snapshot, each, a.truncation, smaller) for each in between(start, end, frames)], 1)
        seeds = [seed for pair in pairs for seed in (pair if a.label_from is None else pair[:1])]
        write_whole(place, encode(sheet(pixels.flatten(0, 1), frames, factor), snapshot, seeds, place.suffix))
        words = f"{len(pairs)} ways of {frames} images: {place}"
    else:
        # All cells of a frame are of one moment; a way is played back as well, so that the film can go round.
        place = Path(out) if folder else output_path(out, "interpolation.mp4", FILMS)
        if a.loop is None:
            moments: Iterable[Moment] = there_and_back(list(between(start, end, frames)))
        else:
            moments = ((z, start[1]) for z in wander(snapshot, a.loop, frames, fps, a.seed or 0))
        columns = math.ceil(math.sqrt(a.loop or len(pairs)))
        sheets = (sheet(show(snapshot, each, a.truncation, smaller), columns, factor) for each in moments)
        frames = write_film(place, sheets, fps, log_line)
        words = f"{frames} frames, {frames / fps:.3g} s: {place}"
    return answer(a, {"out": str(place), "frames": frames, "resolution": side, "snapshot": snapshot.digest}, words)


def _check(a: argparse.Namespace) -> None:
    """Raises ConfigError for numbers that cannot be."""
    limits = {"frames": (2, _MOST), "fps": (1, 240), "upscale": (1, 64), "loop": (1, 1024), "seed": (0, MOST_SEED // 2)}
    for name, (least, most) in limits.items():
        value = getattr(a, name)
        if value is not None and not least <= value <= most:
            raise ConfigError(f"--{name} must be from {least} to {most}; got {value}")
    if a.seconds is not None and not 0 < a.seconds * (a.fps or _FPS) <= _MOST:
        raise ConfigError(f"--seconds must be above 0, for at most {_MOST:,} frames; got {a.seconds:g}")
    if (a.label_from is None) != (a.label_to is None):
        raise ConfigError("--label-from and --label-to go together")
    if a.loop is not None:
        refuse(a, "label-from label-to", "is of a way; --loop stays with its labels: leave it out")
        refuse(a, "pairs", "is of a way; --loop wanders from --seed on: leave it out")
        refuse(a, "grid", "does not go with --loop, which is a film: leave it out")
    if a.label_from is not None:
        refuse(a, "label", "does not go with --label-from and --label-to: leave it out")
        if a.label_from == a.label_to:
            raise ConfigError(f"the way from {a.label_from} to {a.label_to} ends where it begins: give two labels")
    if a.pairs is not None:
        refuse(a, "seed", "does not go with --pairs, which names every seed: leave it out")
    if a.frames is not None:
        refuse(a, "seconds", "does not go with --frames, which is the length of the way already: leave it out")
    if len(a.label) > (ways := a.loop or len(_pairs(a))):
        raise ConfigError(f"there are {len(a.label)} labels for {ways} rows: give one for each at most")


def _pairs(a: argparse.Namespace) -> list[tuple[int, int]]:
    """Pairs of seeds; of a way from class to class a single seed is enough. Raises ConfigError."""
    if a.pairs is None:
        first = a.seed or 0
        return [(first + 2 * i, first + 2 * i + 1) for i in range(a.loop or _PAIRS)]
    found = []
    for part in a.pairs.split(","):
        words = [word.strip() for word in part.split(":")]
        if len(words) > 2 or not all(word.isdecimal() and int(word) <= MOST_SEED for word in words):
            raise ConfigError(f"--pairs must look like 12:97,3:5; got {a.pairs!r}")
        found.append((int(words[0]), int(words[-1])))
        if found[-1][0] == found[-1][1] and a.label_from is None:
            raise ConfigError(f"--pairs {part.strip()} ends where it begins: give two seeds, such as 12:97")
    return found


def _ends(a: argparse.Namespace, snapshot: "Snapshot", pairs: list[tuple[int, int]]) -> "tuple[Moment, Moment]":
    """Where the ways begin and end. Raises SnapshotError for a label that the snapshot does not know."""
    from progan.sampling.pictures import default_labels

    first, second = (snapshot.latents([pair[i] for pair in pairs]) for i in (0, 1))
    if a.label_from is not None:
        start, end = (snapshot.labels([label] * len(pairs)) for label in (a.label_from, a.label_to))
        return (first, start), (first, end)
    names = [a.label[i % len(a.label)] for i in range(len(pairs))] if a.label else default_labels(snapshot, len(pairs))
    labels = snapshot.labels(names) if names else None
    return (first, labels), (second, labels)


def add_video_arguments(parser: Parser) -> None:
    add = parser.add_argument
    add("source", metavar="RUN", help="a run folder")
    add("--out", metavar="PATH", help="film (.mp4, .webp) or folder of frames (default: training.mp4 in the run)")
    add("--seconds", type=float, default=20.0, metavar="X", help="length of the film")
    add("--fps", type=int, default=30, metavar="N", help="frames a second")
    add("--size", type=int, default=512, metavar="N", help="pixels of a side of the pictures")


def video(arguments: argparse.Namespace) -> int:
    """Show a training as a film.

    It is made of the run's sample grids: every resolution has an equal part of the film, with the resolution and the
    thousands of images shown written below.

        progan video runs/faces
        progan video runs/faces --seconds 60 --size 1024 --out faces.webp
    """
    from progan.files import output_path
    from progan.run_folder import RunFolder
    from progan.sampling.films import FILMS, growth, write_film

    a = arguments
    if not 0 < a.seconds * a.fps <= _MOST or not 1 <= a.fps <= 240:
        raise ConfigError(f"--seconds must be above 0, --fps from 1 to 240, for at most {_MOST:,} frames")
    if not 64 <= a.size <= 4096:
        raise ConfigError(f"--size must be from 64 to 4096; got {a.size}")
    folder = RunFolder(Path(a.source))
    folder.read()  # or RunError
    out = a.out or str(folder.path / "training.mp4")
    place = output_path(out, "training.mp4", FILMS) if Path(out).suffix else Path(out)
    frames = write_film(place, growth(folder, a.size, a.seconds, a.fps), a.fps, log_line)
    return answer(a, {"out": str(place), "frames": frames}, f"{frames} frames, {frames / a.fps:.3g} s: {place}")
