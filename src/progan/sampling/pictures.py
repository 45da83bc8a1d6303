"""Generated images as files that say where they come from."""

import os
import re
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path

import torch
from PIL import ExifTags, Image, PngImagePlugin
from torch import Tensor

from progan import snapshot
from progan.errors import ConfigError, SnapshotError
from progan.files import write_whole
from progan.images import grid, pil_image, to_pixels
from progan.run_folder import RunFolder
from progan.snapshot import Snapshot

FORMATS = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp"}
"""Suffix of a picture -> format of Pillow."""
LARGEST = {"jpeg": 65_535, "webp": 16_383}
"""Pixels of a side that a format has room for."""


def load(path: str | os.PathLike[str], resolution: int | None = None) -> Snapshot:
    """The snapshot of a run folder (the newest, or that of a resolution) or of a .safetensors file.

    Raises SnapshotError if there is none.
    """
    path = Path(path)
    if not path.exists():
        raise SnapshotError(f"{path} does not exist. Give a run folder or a snapshot (RUN/snapshots/….safetensors)")
    return snapshot.load(RunFolder(path).snapshot(resolution) if path.is_dir() else path)


def draw(
    source: Snapshot,
    seeds: Sequence[int],
    labels: Sequence[str | int] = (),
    truncation: float = 1.0,
    resolution: int | None = None,
    batch_size: int = 32,
) -> Iterator[Tensor]:
    """Pixels uint8 [n, C, R, R] of the seeds, a batch at a time, on the CPU; `labels`: one for each, if it has any."""
    rows = source.labels(labels) if labels else None
    for i in range(0, len(seeds), batch_size):
        some = slice(i, i + batch_size)
        z, given = source.latents(seeds[some]), None if rows is None else rows[some]
        yield to_pixels(source.generate(z, given, truncation, resolution)).cpu()


def samples(source: Snapshot, num: int) -> Tensor:
    """Pixels uint8 [num, C, R, R] of seeds 0 … num - 1, on the CPU: samples that nobody chose."""
    return torch.cat(list(draw(source, range(num), default_labels(source, num))))


def default_labels(source: Snapshot, num: int) -> Sequence[str | int]:
    """Labels of `num` images: classes in turn, attributes as in the data; none if the snapshot has no labels."""
    if source.info.label_kind == "attributes":
        return [""] * num
    return [i % source.G.label_size for i in range(num)] if source.G.label_size else []


def write_grid(path: Path, source: Snapshot, seeds: Sequence[int], pixels: Tensor, columns: int) -> None:
    """One picture of pixels uint8 [N, C, R, R], in the format of the path's suffix."""
    write_whole(path, encode(grid(pixels, columns), source, seeds, path.suffix))


def write_files(
    folder: Path, source: Snapshot, seeds: Sequence[int], labels: Sequence[str | int], batches: Iterator[Tensor]
) -> None:
    """A PNG for every seed: `seed-0000007.png`, with its label in the name if there are several."""
    folder.mkdir(parents=True, exist_ok=True)
    several = len(set(labels)) > 1
    called = [source.info.label_names[label] if isinstance(label, int) else label for label in labels]
    names = iter(zip(seeds, called or [""] * len(seeds), strict=True))
    for pixels in batches:
        for image in pixels:
            seed, label = next(names)
            suffix = "-" + re.sub(r"[^\w=-]+", "_", label) if several else ""
            write_whole(folder / f"seed-{seed:07d}{suffix}.png", encode(image, source, [seed]))


def encode(pixels: Tensor, source: Snapshot, seeds: Sequence[int], suffix: str = ".png") -> bytes:
    """Pixels uint8 [C, H, W] as a file of a kind in FORMATS that names its seeds and snapshot.

    A PNG has them in text fields, the others in the description of their Exif. JPEG and WebP lose a little.

    Raises ConfigError for a picture larger than the format can be.
    """
    facts = {"seed": ",".join(map(str, seeds)), "snapshot": source.digest, "Software": "progan"}
    if source.info.licence:
        facts["Copyright"] = source.info.licence
    name, file, image = FORMATS[suffix.lower()], BytesIO(), pil_image(pixels)
    if name == "png":
        text = PngImagePlugin.PngInfo()
        for key, value in facts.items():
            text.add_text(key, value)
        image.save(file, "png", pnginfo=text)
        return file.getvalue()
    exif = Image.Exif()
    exif[ExifTags.Base.ImageDescription] = f"snapshot {facts['snapshot']}, seed {facts['seed']}"[:2000]
    exif[ExifTags.Base.Software] = facts["Software"]
    if "Copyright" in facts:
        exif[ExifTags.Base.Copyright] = facts["Copyright"]
    if max(image.size) > LARGEST[name]:
        raise ConfigError(f"{name} has at most {LARGEST[name]} pixels a side; {image.width}x{image.height} needs a PNG")
    image.save(file, name, quality=95, exif=exif)
    return file.getvalue()
