"""Generated images as files that say where they come from."""

import itertools
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from PIL import ExifTags, Image, ImageDraw, ImageFont, PngImagePlugin
from torch import Tensor

from progan import pretrained, snapshot
from progan.errors import ConfigError, SnapshotError
from progan.files import write_whole
from progan.images import at_once, pil_image, to_pixels, upscale
from progan.run_folder import RunFolder
from progan.sampling.archive import GrowingZip
from progan.snapshot import Critic, Snapshot

T = TypeVar("T")
Progress = Callable[[int, int], None]
"""Called with the number of images made so far and the number of all."""
FORMATS = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp"}
"""Suffix of a picture -> format of Pillow."""
NOTE = ".progan-samples.json"
"""Note of which images a folder is being filled with."""
WRITERS = 4
"""Threads that compress pictures and write them."""
LARGEST = {"jpeg": 65_535, "webp": 16_383, "mp4": 16_384}
"""Pixels of a side that a format has room for, or its encoder."""
MOST_PIXELS = 2**28
"""Pixels of a grid, which is made in memory."""


def load(path: str | os.PathLike[str], resolution: int | None = None) -> Snapshot:
    """The snapshot of a run folder (the newest, or that of a resolution), a .safetensors file, or a generator of the
    package by its name.

    Raises SnapshotError if there is none, and for a file of another resolution.
    """
    path = pretrained.locate(path)
    if not path.exists():
        raise SnapshotError(
            f"{path} does not exist. Give a run folder, a snapshot (RUN/snapshots/….safetensors), or the name of a "
            f"generator in the package ({', '.join(pretrained.names())})"
        )
    found = snapshot.load(RunFolder(path).snapshot(resolution) if path.is_dir() else path)
    if resolution not in (None, found.resolution):
        size = f"{found.resolution}x{found.resolution}"
        raise SnapshotError(
            f"{path} makes {size}, not {resolution}x{resolution}: give the run folder, or no resolution"
        )
    return found


@dataclass(frozen=True)
class Drawing:
    """What is to be drawn by a snapshot: an image for each seed, with its label if it has any."""

    source: Snapshot
    seeds: Sequence[int]
    labels: Sequence[str | int] = ()
    truncation: float = 1.0
    resolution: int | None = None
    upscale: int = 1
    rows: Tensor | None = None
    """Label rows float32 [N, L] where they do not follow from the labels and their places."""
    picked: str = ""
    """How the images were picked out of more, if they were."""

    def best(self, critic: Critic, num: int) -> "Drawing":
        """The `num` images with the highest scores of D, best first. Raises SnapshotError for D of another resolution.

        The score of an image depends a little on the others of its batch (minibatch standard deviation).
        """
        if critic.resolution != self.source.resolution:
            raise SnapshotError(
                f"the discriminator is at {critic.resolution}x{critic.resolution}, the generator makes "
                f"{self.source.resolution}x{self.source.resolution}"
            )
        full = replace(self, resolution=None, upscale=1)
        scores = torch.cat([critic(pixels).value.cpu() for pixels in full.pixels()])
        chosen = scores.argsort(descending=True, stable=True)[:num].tolist()
        return self.take(chosen, f"the best {len(chosen)} of {len(self.seeds)} by the discriminator's score")

    def take(self, numbers: Sequence[int], picked: str = "") -> "Drawing":
        """Some of the images, as they are here."""
        rows, labels = self.label_rows(numbers), [self.labels[i] for i in numbers] if self.labels else ()
        return replace(self, seeds=[self.seeds[i] for i in numbers], labels=labels, rows=rows, picked=picked)

    def label_rows(self, numbers: Sequence[int]) -> Tensor | None:
        """Label rows float32 [n, L] of some images; an attribute that is not named follows from the image's place."""
        if self.rows is not None:
            return self.rows[list(numbers)]
        return self.source.labels([self.labels[i] for i in numbers], numbers) if self.labels else None

    def names(self) -> list[str]:
        """Name of each label."""
        known = self.source.info.label_names
        return [known[label] if isinstance(label, int) else label for label in self.labels]

    def pixels(self, numbers: Sequence[int] | None = None, batch_size: int | None = None) -> Iterator[Tensor]:
        """Pixels uint8 [n, C, R, R] of some of the images, or of all, a batch at a time, on the CPU."""
        numbers = range(len(self.seeds)) if numbers is None else numbers
        size = batch_size or at_once(self.source.resolution)
        for start in range(0, len(numbers), size):
            some = list(numbers[start : start + size])
            z, rows = self.source.latents([self.seeds[i] for i in some]), self.label_rows(some)
            pixels = to_pixels(self.source.generate(z, rows, self.truncation, self.resolution)).cpu()
            yield pixels if self.upscale == 1 else upscale(pixels.float(), self.upscale).to(torch.uint8)


def joined(drawings: Sequence[Drawing]) -> Drawing:
    """One drawing of the same snapshot after the other."""
    rows = [drawing.label_rows(range(len(drawing.seeds))) for drawing in drawings]
    return replace(
        drawings[0],
        seeds=[seed for drawing in drawings for seed in drawing.seeds],
        labels=[label for drawing in drawings for label in drawing.labels],
        rows=torch.cat([row for row in rows if row is not None]) if rows[0] is not None else None,
    )


def samples(source: Snapshot, num: int) -> Tensor:
    """Pixels uint8 [num, C, R, R] of seeds 0 … num - 1, on the CPU: samples that nobody chose."""
    return torch.cat(list(Drawing(source, range(num), default_labels(source, num)).pixels()))


def default_labels(source: Snapshot, num: int) -> Sequence[str | int]:
    """Labels of `num` images: classes in turn, attributes as in the data; none if the snapshot has no labels."""
    if source.info.label_kind == "attributes":
        return [""] * num
    return [i % source.G.label_size for i in range(num)] if source.G.label_size else []


def write_grid(path: Path, drawing: Drawing, sheet: Tensor) -> None:
    """A picture uint8 [C, H, W] of the images, in the format of the path's suffix."""
    write_whole(path, encode(sheet, drawing.source, drawing.seeds, path.suffix, drawing.picked))


def captioned(pixels: Tensor, words: Sequence[str], columns: int) -> Tensor:
    """A sheet uint8 [C, H, W] of pixels uint8 [N, C, R, R] with a line of words below each."""
    n, c, r, _ = pixels.shape
    height = max(10, r // 8)
    columns, rows = min(columns, n), -(-n // columns)
    sheet = Image.new("L" if c == 1 else "RGB", (columns * (r + 2), rows * (r + height + 4)), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(height)
    for i in range(n):
        x, y = i % columns * (r + 2), i // columns * (r + height + 4)
        sheet.paste(pil_image(pixels[i]), (x, y))
        text = words[i]
        while text and draw.textlength(text, font) > r:  # what is too long ends early
            text = text[:-1]
        draw.text((x + r / 2, y + r + 1), text, fill="black", font=font, anchor="mt")
    array = torch.from_numpy(np.array(sheet))
    return array[None] if c == 1 else array.permute(2, 0, 1)


def write_files(folder: Path, drawing: Drawing, suffix: str = ".png", progress: Progress | None = None) -> int:
    """A file for every image: `seed-0000007.png`, with its label in the name if there are several.

    Labels whose names are the same as files have their index, too.

    Goes on where an earlier call for the same pictures was interrupted, which has left a note there. Returns how many
    images it made.
    """
    folder.mkdir(parents=True, exist_ok=True)
    name, note = _namer(drawing, suffix), _note(drawing, suffix)
    there = {path.name for path in folder.iterdir()}
    if not _noted(folder, note):
        # Before the note: files of these names are other pictures, which the next call would take for ours.
        for i in range(len(drawing.seeds)):
            if name(i) in there:
                (folder / name(i)).unlink()
        there = set()
        write_whole(folder / NOTE, note)
    # Files are written under other names first: one that has its name is whole.
    missing = [i for i in range(len(drawing.seeds)) if name(i) not in there] if there else range(len(drawing.seeds))
    for _ in _encoded(
        drawing, missing, suffix, lambda i, file: write_whole(folder / name(i), file, sync=False), progress
    ):
        pass
    (folder / NOTE).unlink()
    return len(missing)


def write_zip(path: Path, drawing: Drawing, suffix: str = ".png", progress: Progress | None = None) -> int:
    """The same files in a zip, of the same bytes whenever it is made.

    An interrupted call leaves what it has in a folder beside it, with which the next goes on.
    """
    folder, name = path.with_name(f"{path.name}.unfinished"), _namer(drawing, suffix)
    folder.mkdir(parents=True, exist_ok=True)
    unfinished, count, note = folder / path.name, len(drawing.seeds), _note(drawing, suffix)
    if not _noted(folder, note):
        unfinished.unlink(missing_ok=True)
        write_whole(folder / NOTE, note)
    archive = GrowingZip(unfinished, map(name, range(count)))
    try:
        missing = range(archive.count, count)
        for i, file in _encoded(drawing, missing, suffix, lambda i, file: (i, file), progress):
            archive.add(name(i), file)
        archive.finish()
    finally:
        archive.close()
    unfinished.replace(path)
    shutil.rmtree(folder)
    return len(missing)


def _namer(drawing: Drawing, suffix: str) -> Callable[[int], str]:
    """Name of the file of an image, by its number."""
    labels = list(dict.fromkeys(drawing.labels))
    words = [re.sub(r"[^\w=-]+", "_", name) for name in replace(drawing, labels=labels).names()]
    if len({word.casefold() for word in words}) < len(words):  # to some file systems A and a are the same
        classes = drawing.source.info.label_kind == "class"
        numbers = map(drawing.source.label_index, labels) if classes else range(len(labels))
        words = [f"{word}-{number}" for word, number in zip(words, numbers, strict=True)]
    word_of = dict(zip(labels, words, strict=True))

    def name(i: int) -> str:
        label = f"-{word_of[drawing.labels[i]]}" if len(labels) > 1 else ""
        return f"seed-{drawing.seeds[i]:07d}{label}{suffix}"

    return name


def _note(drawing: Drawing, suffix: str) -> bytes:
    """What a folder's note says while it is being filled with these pictures."""
    look = [drawing.source.digest, drawing.truncation, drawing.resolution, drawing.upscale, suffix, drawing.picked]
    return json.dumps([*look, list(drawing.seeds), list(drawing.labels)]).encode()


def _noted(folder: Path, note: bytes) -> bool:
    """True if the folder is being filled with the pictures of this note."""
    return (folder / NOTE).exists() and (folder / NOTE).read_bytes() == note


def _encoded(
    drawing: Drawing, numbers: Sequence[int], suffix: str, use: Callable[[int, bytes], T], progress: Progress | None
) -> Iterator[T]:
    """What `use` makes of the file of each image, in their order; several threads encode and call it.

    A batch is encoded while the next one is made: no more than two are in memory.
    """

    def encoded(i: int, image: Tensor) -> T:
        return use(i, encode(image, drawing.source, [drawing.seeds[i]], suffix, drawing.picked))

    begun, done, encoding = 0, 0, iter(list[T]())
    with ThreadPoolExecutor(WRITERS) as pool:
        for pixels in itertools.chain(drawing.pixels(numbers), [None]):
            yield from encoding
            if progress and begun:
                progress(begun, len(numbers))
            if pixels is not None:
                done, begun = begun, begun + len(pixels)
                encoding = pool.map(encoded, numbers[done:begun], pixels)


def write_arrays(path: Path, drawing: Drawing) -> None:
    """An .npz: `images` uint8 [N, R, R, C], `seeds` int64 [N], `labels` str [N] where there are any, `snapshot`."""
    images = torch.cat(list(drawing.pixels())).permute(0, 2, 3, 1).numpy()
    arrays: dict[str, Any] = {
        "images": images,
        "seeds": np.array(drawing.seeds, np.int64),
        "snapshot": drawing.source.digest,
    }
    if drawing.picked:
        arrays["picked"] = drawing.picked
    if drawing.labels:
        arrays["labels"] = np.array(drawing.names())
    file = BytesIO()
    np.savez_compressed(file, **arrays)
    write_whole(path, file.getvalue())


def check_size(kind: str, width: int, height: int, instead: str) -> None:
    """Raises ConfigError for a picture larger than its format, a key of LARGEST, can be."""
    if max(width, height) > LARGEST[kind]:
        raise ConfigError(f"{kind} has at most {LARGEST[kind]} pixels a side; {width}x{height} needs {instead}")


def check_grid(rows: int, columns: int, side: int, suffix: str, instead: str) -> None:
    """Raises ConfigError, before it is made, for a grid that is too large to be one picture. `side`: of an image."""
    width, height = columns * side, rows * side  # and what lies between the images
    if (kind := FORMATS[suffix.lower()]) in LARGEST:
        check_size(kind, width, height, "a PNG")
    if width * height > MOST_PIXELS:
        raise ConfigError(f"a grid of {columns:,} x {rows:,} images has {width:,}x{height:,} pixels: give {instead}")


def encode(pixels: Tensor, source: Snapshot, seeds: Sequence[int], suffix: str = ".png", picked: str = "") -> bytes:
    """Pixels uint8 [C, H, W] as a file of a kind in FORMATS that names its seeds and snapshot, and how it was picked.

    A PNG has them in text fields, the others in the description of their Exif. JPEG and WebP lose a little.

    Raises ConfigError for a picture larger than the format can be.
    """
    facts = {"seed": ",".join(map(str, seeds)), "snapshot": source.digest, "Software": "progan"}
    if source.info.licence:
        facts["Copyright"] = source.info.licence
    if picked:
        facts["picked"] = picked
    name, file, image = FORMATS[suffix.lower()], BytesIO(), pil_image(pixels)
    if name == "png":
        text = PngImagePlugin.PngInfo()
        for key, value in facts.items():
            text.add_text(key, value)
        image.save(file, "png", pnginfo=text)
        return file.getvalue()
    exif = Image.Exif()
    origin = f"{picked}, snapshot" if picked else "snapshot"
    exif[ExifTags.Base.ImageDescription] = f"{origin} {facts['snapshot']}, seed {facts['seed']}"[:2000]
    exif[ExifTags.Base.Software] = facts["Software"]
    if "Copyright" in facts:
        exif[ExifTags.Base.Copyright] = facts["Copyright"]
    check_size(name, *image.size, "a PNG")
    image.save(file, name, quality=95, exif=exif)
    return file.getvalue()
