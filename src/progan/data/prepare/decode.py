"""From an image of any kind to pixels of the wanted size: crop or pad, reduce or enlarge, grey or RGB."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from progan.data.sources.base import Reader, Unreadable

Pixels = npt.NDArray[np.uint8]

_ORIENTATION = 0x0112  # EXIF tag
_UPRIGHT = {  # how the camera was held -> what makes the picture upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
CELEBA_SIZE, CELEBA_SIDE, CELEBA_CORNER = (178, 218), 128, (25, 57)
"""The aligned pictures, and the part that the paper's authors cut out: 128x128 around (89, 121)."""
# JPEG's factor -> how many times the resolution an image must have for it. The decoder averages over blocks when it
# reduces by 4 or 8, so that more must be left to the resampling, which costs less the less is left to it.
_DRAFTS = {2: 2, 4: 5, 8: 11}


@dataclass(frozen=True)
class Target:
    """What every image becomes."""

    resolution: int
    channels: int
    crop: Literal["center", "none", "celeba"] = "center"
    background: tuple[int, int, int] = (255, 255, 255)
    pad_28: bool = False
    """Zero-pad 28x28 to 32x32 first, as the paper's authors do with MNIST."""

    @property
    def resolutions(self) -> tuple[int, ...]:
        """4 … resolution."""
        return tuple(2**k for k in range(2, self.resolution.bit_length()))


@dataclass(frozen=True)
class Chunk:
    """A few candidates, decoded."""

    levels: list[Pixels]
    """uint8 [n, R, R, C] of the n good ones for R = 4 … resolution."""
    kept: list[tuple[int, int, int]]
    """Position within the chunk, width and height before anything was done."""
    skipped: list[tuple[int, Unreadable]]
    """Position within the chunk and why."""
    upscaled: int


def decode_chunk(reader: Reader, entries: Sequence[Any], target: Target) -> Chunk:
    """Open, decode and fit the candidates, and build the lower resolutions."""
    images: list[Pixels] = []
    kept: list[tuple[int, int, int]] = []
    skipped: list[tuple[int, Unreadable]] = []
    upscaled = 0
    with without_warnings():
        for position, image in enumerate(reader.read(entries, target.resolution)):
            try:
                if isinstance(image, Unreadable):
                    raise image
                size = image.size
                if target.crop == "celeba" and size != CELEBA_SIZE:
                    raise Unreadable("not 178x218", f"{size[0]}x{size[1]} is no aligned picture of CelebA")
                pixels, enlarged = fit(image, target)
            except Unreadable as error:
                skipped.append((position, error))
                continue
            images.append(pixels)
            kept.append((position, *size))
            upscaled += enlarged
    shape = (len(images), target.resolution, target.resolution, target.channels)
    top = np.stack(images) if images else np.empty(shape, np.uint8)
    return Chunk(pyramid(top), kept, skipped, upscaled)


@contextmanager
def without_warnings() -> Iterator[None]:
    """Pillow warns of large images, which are no fault, and of damage, which becomes a reason or does not matter."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def pyramid(top: Pixels) -> list[Pixels]:
    """uint8 [n, R, R, C] -> the same at 4, 8 … R: each the 2x2 mean of the *unrounded* one above.

    Rounded at the end, halves to even as the authors do. The sums that stand for the means are whole numbers.
    """
    levels, sums, bits = [top], top, 0
    while sums.shape[1] > 4:
        bits += 2  # a sum is of 2^bits pixels
        sums = _sums(sums, np.uint16 if bits <= 8 else np.uint32)
        whole, rest, half = sums >> bits, sums & ((1 << bits) - 1), 1 << (bits - 1)
        levels.append((whole + (rest + (whole & 1) > half)).astype(np.uint8))
    return levels[::-1]


def _sums(pixels: npt.NDArray[Any], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """Of each 2x2: [n, R, R, C] -> [n, R/2, R/2, C]."""
    rows = np.add(pixels[:, 0::2], pixels[:, 1::2], dtype=dtype)
    sums: npt.NDArray[Any] = np.empty_like(rows[:, :, 0::2])
    for channel in range(rows.shape[3]):  # one by one, else numpy's innermost loop is over three numbers
        np.add(rows[:, :, 0::2, channel], rows[:, :, 1::2, channel], out=sums[..., channel])
    return sums


def fit(image: Image.Image, target: Target) -> tuple[Pixels, bool]:
    """Pixels uint8 [R, R, C] of an opened image, and whether it had to be enlarged."""
    try:
        factor, size = _draft(image, target)
        image.load()
        flat = _flatten(image, target)
        if factor == 1:
            size = flat.size  # loading may have turned it
        if target.pad_28 and size == (28, 28):
            flat, size = _centred(flat, 32), (32, 32)
        square = _square(flat, factor, size, target)
        upright = _UPRIGHT.get(image.getexif().get(_ORIENTATION, 1))
    except Exception as error:  # Pillow's plugins raise almost anything on damaged data
        raise Unreadable("damaged", f"{type(error).__name__}: {error}") from None
    if upright is not None:  # a centred square may be turned last, when it is small
        square = square.transpose(upright)
    enlarged = _side(size, target) < target.resolution
    return np.asarray(square).reshape(target.resolution, target.resolution, target.channels), enlarged


def _side(size: tuple[int, int], target: Target) -> int:
    """Of the square that becomes the picture: cut out of the image, or padded around it."""
    if target.crop == "celeba":
        return CELEBA_SIDE
    return min(size) if target.crop == "center" else max(size)


def _draft(image: Image.Image, target: Target) -> tuple[int, tuple[int, int]]:
    """Let a JPEG decode at a part of its size where that leaves enough. The factor and the full size.

    Only both together say where a box of the full image lies: 350 / 4 is not 88. benchmarks/preparation.py measures
    what it costs in likeness and spares in time.
    """
    size = image.size
    enough = _side(size, target) / target.resolution
    factor = max((factor for factor, least in _DRAFTS.items() if enough >= least), default=1)
    if factor > 1:
        image.draft("L" if target.channels == 1 else "RGB", (size[0] // factor, size[1] // factor))
    return round(size[0] / image.width), size


def _flatten(image: Image.Image, target: Target) -> Image.Image:
    """Mode L or RGB, transparency over the background."""
    mode = "L" if target.channels == 1 else "RGB"
    if image.mode.startswith(("I", "F")):
        image = _eight_bits(image)
    if image.has_transparency_data:
        canvas = Image.new("RGBA", image.size, target.background)
        image = Image.alpha_composite(canvas, image.convert("RGBA"))
    return image if image.mode == mode else image.convert(mode)


def _eight_bits(image: Image.Image) -> Image.Image:
    """Mode L from 16-bit integers (Pillow's I too: a container for them) or floats in 0…1 or 0…255."""
    values = np.asarray(image).astype(np.float32)
    if image.mode != "F":
        values /= 257
    elif values.max() <= 1:
        values *= 255
    return Image.fromarray(np.rint(values.clip(0, 255)).astype(np.uint8))


def _square(image: Image.Image, factor: int, full: tuple[int, int], target: Target) -> Image.Image:
    """A square of the wanted size from an image that was decoded at 1/factor of its full size."""
    (width, height), side, size = full, _side(full, target), target.resolution
    if target.crop != "none":
        left, top = ((width - side) // 2, (height - side) // 2) if target.crop == "center" else CELEBA_CORNER
        return _resize(image, factor, (size, size), (left, top, left + side, top + side))
    inner = (max(1, round(width * size / side)), max(1, round(height * size / side)))
    return _centred(_resize(image, factor, inner, (0, 0, width, height)), size)


def _resize(image: Image.Image, factor: int, size: tuple[int, int], box: tuple[int, int, int, int]) -> Image.Image:
    """A box of the full image, antialiased; a box of the right size is only cut out."""
    left, top, right, bottom = box
    if factor == 1 and (right - left, bottom - top) == size:
        return image.crop(box)
    part = (left / factor, top / factor, right / factor, bottom / factor)
    return image.resize(size, Image.Resampling.LANCZOS, part, reducing_gap=3.0)


def _centred(image: Image.Image, side: int) -> Image.Image:
    """The image in the middle of a black square."""
    canvas = Image.new(image.mode, (side, side))
    canvas.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return canvas
