"""Films: a sequence of pictures as an animated WebP, an MP4 that browsers play, or a folder of PNGs.

An MP4 is H.264, written by PyAV (extra `video`), whose wheel carries FFmpeg with libx264, which is under the GPL.
"""

import bisect
import functools
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from progan.errors import ConfigError, RunError
from progan.files import UNFINISHED, write_whole
from progan.images import pil_image
from progan.progress import Log
from progan.run_folder import GRID_GAP, SMALLEST_CELL, RunFolder
from progan.sampling.pictures import check_size

FILMS = (".mp4", ".webp")
"""Suffixes of films; a folder is filled with PNGs."""
_LEAST_SIDE = 16
"""Pixels of a side that encoders of H.264 want at least."""
_INSTEAD = "a folder of frames"
"""What frames of any size go into."""
_FRAME = re.compile(r"frame-(\d{5}|[1-9]\d{5,})\.png")
"""Name of a frame in a folder."""
_GRID = re.compile(r"fakes-(\d+)-([1-9]\d*)x\2\.png")
"""Name of a sample grid."""


def write_film(out: Path, frames: Iterator[Tensor], fps: int, log: Log) -> int:
    """Write the frames, uint8 [C, H, W] of one size, in the kind of the suffix; the number of them.

    Frames are taken one at a time, but for WebP, which needs all at once. Raises ConfigError where PyAV is missing, and
    for frames larger than the kind can have.
    """
    if out.suffix.lower() == ".mp4":
        return _write_mp4(out, frames, fps, log)
    start = next(frames)  # before anything is made: it may be one that cannot be drawn
    if out.suffix.lower() == ".webp":
        check_size("webp", start.shape[2], start.shape[1], _INSTEAD)
        first, *rest = (pil_image(frame).convert("RGB") for frame in itertools.chain([start], frames))
        file = BytesIO()
        first.save(file, "webp", save_all=True, append_images=rest, duration=round(1000 / fps), loop=0, quality=85)
        write_whole(out, file.getvalue())
        return 1 + len(rest)
    out.mkdir(parents=True, exist_ok=True)
    count = 0
    for frame in itertools.chain([start], frames):
        file = BytesIO()
        pil_image(frame).save(file, "png")
        write_whole(out / f"frame-{count:05d}.png", file.getvalue())
        count += 1
    # What an earlier, longer film has left goes last: whatever fails before, the same command mends.
    for path in out.iterdir():
        match = _FRAME.fullmatch(path.name)
        if match and int(match[1]) >= count:
            path.unlink()
    return count


def _write_mp4(out: Path, frames: Iterator[Tensor], fps: int, log: Log) -> int:
    try:
        import av

        video_frame: Any = av.VideoFrame.from_image  # has no types
    except ImportError:
        raise ConfigError(
            "an .mp4 needs PyAV: pip install '.[video]' (its wheel carries libx264, GPL); .webp needs nothing more"
        ) from None
    first = next(frames)
    height, width = first.shape[1:]
    check_size("mp4", width, height, _INSTEAD)
    # In yuv420p, the only format that all browsers play, colour has half the resolution: sides must be even.
    wide, high = (max(_LEAST_SIDE, side + side % 2) for side in (width, height))
    if (wide, high) != (width, height):
        log(f"note: an .mp4 has even sides of at least {_LEAST_SIDE}: {width}x{height} is padded to {wide}x{high}")
    unfinished, count = out.with_name(out.name + UNFINISHED), 0
    unfinished.touch()  # or an error that names the file, which PyAV's would not
    try:
        with av.open(str(unfinished), "w", format="mp4", options={"movflags": "faststart"}) as container:
            stream = container.add_stream("libx264", rate=Fraction(fps))
            stream.width, stream.height, stream.pix_fmt = wide, high, "yuv420p"
            stream.options = {"crf": "17", "preset": "medium"}
            for frame in itertools.chain([first], frames):
                picture = Image.new("RGB", (wide, high))
                picture.paste(pil_image(frame).convert("RGB"), (0, 0))
                container.mux(stream.encode(video_frame(picture)))
                count += 1
            container.mux(stream.encode())
        unfinished.replace(out)
    finally:
        unfinished.unlink(missing_ok=True)
    return count


@dataclass(frozen=True)
class Grid:
    """A sample grid of a run."""

    path: Path
    cur_nimg: int
    resolution: int

    @property
    def cell(self) -> int:
        """Pixels of a side of a cell: small images are stored enlarged."""
        return self.resolution * max(1, SMALLEST_CELL // self.resolution)

    def columns(self) -> int:
        """Number of cells in a row."""
        with Image.open(self.path) as image:
            return int(image.width + GRID_GAP) // (self.cell + GRID_GAP)

    def picture(self, columns: int, keep_rows: bool, side: int) -> Image.Image:
        """Its first cells as a square of `columns` x `columns`, RGB, `side` pixels wide.

        With `keep_rows` a row stays a row, as for classes; else the cells fill the square one after another.
        """
        with Image.open(self.path) as image:
            full, step = image.convert("RGB"), self.cell + GRID_GAP
        own = (full.width + GRID_GAP) // step
        square = Image.new("RGB", (columns * self.cell, columns * self.cell), "white")
        for i in range(columns**2):
            row, column = divmod(i, columns if keep_rows else own)
            corner = column * step, row * step
            cell = full.crop((*corner, corner[0] + self.cell, corner[1] + self.cell))
            square.paste(cell, (i % columns * self.cell, i // columns * self.cell))
        smooth = side < square.width
        return square.resize((side, side), Image.Resampling.BOX if smooth else Image.Resampling.NEAREST)


def growth(folder: RunFolder, side: int, seconds: float, fps: int) -> Iterator[Tensor]:
    """Frames uint8 [3, side + caption, side] of a training, from its sample grids.

    Every resolution gets an equal part of the film; within it grids are faded into each other by the images shown in
    between. So the first minutes of a run, in which most happens, are not over in a moment. The caption says resolution
    and progress. Raises RunError for a run with fewer than two grids.
    """
    grids = sample_grids(folder)
    if len(grids) < 2:
        raise RunError(f"{folder.path} has too few sample grids for a film: samples/ needs at least two")
    config, data = folder.read()
    keep_rows = config.dataset.labels and data.label_kind == "class"
    columns = min(grid.columns() for grid in grids)  # grids of high resolutions have fewer
    load = functools.lru_cache(2)(lambda grid: grid.picture(columns, keep_rows, side))
    resolutions = sorted({grid.resolution for grid in grids})
    total = max(2, round(seconds * fps))
    for i in range(total):
        number, part = divmod(i * len(resolutions) / total, 1)
        resolution = resolutions[int(number)]
        here = [grid for grid in grids if grid.resolution == resolution]
        now = here[0].cur_nimg + part * (here[-1].cur_nimg - here[0].cur_nimg)
        after = bisect.bisect_left(here, now, key=lambda grid: grid.cur_nimg)
        a, b = here[max(0, after - 1)], here[after]
        weight = (now - a.cur_nimg) / (b.cur_nimg - a.cur_nimg) if a is not b else 0.0
        yield _captioned(Image.blend(load(a), load(b), weight), f"{resolution}x{resolution}", f"{now / 1000:,.4g} kimg")


def sample_grids(folder: RunFolder) -> list[Grid]:
    """The sample grids of a run in the order of time."""
    found = ((path, _GRID.fullmatch(path.name)) for path in sorted(folder.samples.glob("fakes-*.png")))
    return [Grid(path, int(match[1]), int(match[2])) for path, match in found if match]


def _captioned(picture: Image.Image, left: str, right: str) -> Tensor:
    """The picture over a line of text, uint8 [3, H, W]."""
    height = max(14, picture.width // 16)
    frame = Image.new("RGB", (picture.width, picture.height + 2 * height), "black")
    frame.paste(picture, (0, 0))
    draw, font = ImageDraw.Draw(frame), ImageFont.load_default(height)
    for text, x, anchor in ((left, height // 2, "lm"), (right, picture.width - height // 2, "rm")):
        draw.text((x, picture.height + height), text, fill="white", font=font, anchor=anchor)
    return torch.from_numpy(np.array(frame)).permute(2, 0, 1)
