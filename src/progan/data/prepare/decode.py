"""Images of any kind become pixels of the wanted size and of all below: cropped or padded, resampled, grey or RGB."""

import dataclasses
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from progan.data.dataset import Pixels
from progan.data.prepare.faces import Face, FaceCrop, cut, face_at, find_faces, square_of
from progan.data.prepare.profiles import is_foreign, to_srgb
from progan.data.prepare.ranges import Ranges, Tally, Unmeasured, stretched, to_picture
from progan.data.prepare.values import ORIENTATION, values_of, wide
from progan.data.sources.base import Picture, Reader, Unreadable, Values
from progan.data.sources.folder import CELEBA_SIZE

_UPRIGHT = {  # how the camera was held -> what makes the picture upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
CELEBA_SIDE, CELEBA_CORNER = 128, (25, 57)
"""The part that the paper's authors cut out of an aligned picture: 128x128 around (89, 121)."""
_ANIMATED = ("GIF", "WEBP", "PNG", "AVIF")  # not MPO: what follows its picture is the same one in another form
# JPEG's factor -> how many times the resolution an image must have for it. The decoder averages over blocks when it
# reduces by 4 or 8, so that more must be left to the resampling, which costs less the less is left to it.
_DRAFTS = {2: 2, 4: 5, 8: 11}
_HELD_PIXELS = 2**22  # of pictures whose faces are looked for together, and of one more
LOOKED_AT_SIZE = 32
"""Pixels of a side of pictures that are reduced to see what they have."""
_COLOURED = 12  # difference of two channels of a reduced picture that grey pictures saved as JPEG do not reach
_MEAN = Image.Resampling.BOX


class Coloured(Exception):
    """A picture has colour, of a set whose pictures looked at have none."""


@dataclass(frozen=True)
class Target:
    """The form that every image is brought into."""

    resolution: int
    channels: int
    crop: Literal["center", "none", "celeba", "faces"] = "center"
    background: tuple[int, int, int] = (255, 255, 255)
    pad_28: bool = False
    """Zero-pad 28x28 to 32x32 first, as the paper's authors do with MNIST."""
    ranges: Ranges = field(default_factory=Ranges)
    """The values that become 0 … 255."""
    all_grey: bool = False
    """True if there is one channel because no picture that was looked at has colour."""
    faces: FaceCrop | None = None
    """Which faces are cut out, and how; None: none."""

    @property
    def resolutions(self) -> tuple[int, ...]:
        """4 … resolution."""
        return tuple(2**k for k in range(2, self.resolution.bit_length()))


@dataclass(frozen=True)
class Chunk:
    """A few candidates, decoded."""

    levels: list[Pixels]
    """uint8 [n, R, R, C] of the n good ones for R = 4 … resolution."""
    kept: list[tuple[Any, ...]]
    """Position within the chunk, width and height before anything was done; of a face also `output.FACE_COLUMNS`."""
    skipped: list[tuple[int, Unreadable]]
    """Position within the chunk and why."""
    upscaled: int
    tally: Tally = field(default_factory=Tally)
    """What was done to the good ones' values and colours."""


def decode_chunk(
    reader: Reader,
    entries: Sequence[Any],
    target: Target,
    device: str = "auto",
    points: npt.NDArray[np.float32] | None = None,
) -> Chunk:
    """Open, decode and fit the candidates, and build the lower resolutions.

    Faces are found on the device, unless `points` [n, 5, 2] says where they are (`Source.points`). Raises Unmeasured
    and Coloured.
    """
    images: list[Pixels] = []
    kept: list[tuple[Any, ...]] = []
    skipped: list[tuple[int, Unreadable]] = []
    upscaled, tally = 0, Tally()
    with without_warnings():
        pictures = reader.read(entries, target.resolution)
        for position, outcome in enumerate(
            _fitted(pictures, target)
            if target.faces is None
            else _faces(pictures, target, target.faces, device)
            if points is None
            else _known_faces(pictures, target, target.faces, points)
        ):
            if isinstance(outcome, Unreadable):
                skipped.append((position, outcome))
                continue
            tally = tally.add(outcome.tally)
            for pixels, enlarged, columns in outcome.images:
                images.append(pixels)
                kept.append((position, *columns))
                upscaled += enlarged
    shape = (len(images), target.resolution, target.resolution, target.channels)
    return Chunk(pyramid(np.array(images, np.uint8).reshape(shape)), kept, skipped, upscaled, tally)


@dataclass(frozen=True)
class _Fitted:
    """What a candidate gave."""

    images: list[tuple[Pixels, bool, tuple[Any, ...]]]
    """Pixels, True if they had to be enlarged, and the columns of the list of images after the first."""
    tally: Tally


def _fitted(pictures: Iterable[Picture | Unreadable], target: Target) -> Iterator[_Fitted | Unreadable]:
    """One image of each picture, or the reason why there is none."""
    for picture in pictures:
        tally = Tally()
        try:
            if isinstance(picture, Unreadable):
                raise picture
            size = picture.size
            if target.crop == "celeba" and size != CELEBA_SIZE:
                raise Unreadable("not 178x218", f"{size[0]}x{size[1]} is no aligned picture of CelebA")
            yield _Fitted([(*fit(picture, target, tally), size)], tally)
        except Unreadable as error:
            yield error


def _faces(
    pictures: Iterable[Picture | Unreadable], target: Target, options: FaceCrop, device: str
) -> Iterator[_Fitted | Unreadable]:
    """The faces of each picture, or the reason why there is none. Few pictures are held at a time."""
    held: list[tuple[Image.Image, Tally] | Unreadable] = []

    def results() -> Iterator[_Fitted | Unreadable]:
        found = iter(find_faces([each[0] for each in held if not isinstance(each, Unreadable)], options, device))
        for each in held:
            faces = each if isinstance(each, Unreadable) else next(found)
            if isinstance(each, Unreadable) or isinstance(faces, Unreadable):
                yield faces  # type: ignore[misc]
                continue
            picture, tally = each
            yield _Fitted(
                [_face_image(picture, face, number, options, target, tally) for number, face in enumerate(faces)], tally
            )
        held.clear()

    pixels = 0
    for picture in pictures:
        tally = Tally()
        try:
            whole = upright(picture, target, tally)
            held.append((whole, tally))
            pixels += whole.width * whole.height
        except Unreadable as error:
            held.append(error)
        if pixels > _HELD_PIXELS:
            yield from results()
            pixels = 0
    yield from results()


def _known_faces(
    pictures: Iterable[Picture | Unreadable], target: Target, options: FaceCrop, points: npt.NDArray[np.float32]
) -> Iterator[_Fitted | Unreadable]:
    """The face of each picture where a table says it is, or the reason why there is none."""
    for picture, place in zip(pictures, points, strict=True):
        tally = Tally()
        try:
            whole = upright(picture, target, tally)
            face = face_at(place, whole.size)
            if isinstance(face, Unreadable):
                raise face
            yield _Fitted([_face_image(whole, face, 0, options, target, tally)], tally)
        except Unreadable as error:
            yield error


def _face_image(
    picture: Image.Image, face: Face, number: int, options: FaceCrop, target: Target, tally: Tally
) -> tuple[Pixels, bool, tuple[Any, ...]]:
    """A face cut out of a picture, as `_Fitted.images` has it."""
    square = square_of(face, options)
    tally.extended += square.leaves(*picture.size)
    image = cut(picture if target.all_grey or target.channels == 3 else picture.convert("L"), square, target.resolution)
    image = _in_grey(image, target)
    pixels = np.asarray(image).reshape(target.resolution, target.resolution, target.channels)
    columns = (*picture.size, number, *(round(edge) for edge in face.box), round(square.side), face.confidence)
    return pixels, square.side < target.resolution, columns


def upright(picture: Picture | Unreadable, target: Target, tally: Tally) -> Image.Image:
    """A whole picture as mode RGB, upright. Raises Unreadable and Unmeasured."""
    if isinstance(picture, Unreadable):
        raise picture
    with _damage():
        image = _eight_bits(picture, target, tally)
        image.load()
        flat = _flatten(to_srgb(stretched(image, target.ranges, tally), tally), dataclasses.replace(target, channels=3))
        turn = _UPRIGHT.get(image.getexif().get(ORIENTATION, 1))
        return flat if turn is None else flat.transpose(turn)


@contextmanager
def _damage() -> Iterator[None]:
    """What goes wrong inside is Unreadable: Pillow's plugins raise almost anything on damaged data."""
    try:
        yield
    except (Unreadable, Unmeasured, Coloured):
        raise
    except Exception as error:
        raise Unreadable("damaged", f"{type(error).__name__}: {error}") from None


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
        rows = np.add(sums[:, 0::2], sums[:, 1::2], dtype=np.uint16 if bits <= 8 else np.uint32)
        sums = np.empty_like(rows[:, :, 0::2])
        for channel in range(rows.shape[3]):  # one by one, else numpy's innermost loop is over three numbers
            np.add(rows[:, :, 0::2, channel], rows[:, :, 1::2, channel], out=sums[..., channel])
        # sums / 2^bits, rounded half to even in whole numbers: up where the rest, plus one if odd, exceeds a half.
        whole, rest, half = sums >> bits, sums & ((1 << bits) - 1), 1 << (bits - 1)
        levels.append((whole + (rest + (whole & 1) > half)).astype(np.uint8))
    return levels[::-1]


def fit(picture: Picture, target: Target, tally: Tally | None = None) -> tuple[Pixels, bool]:
    """Pixels uint8 [R, R, C] of an opened picture, and True if it had to be enlarged; `tally` counts what was done.

    Raises Unreadable, Unmeasured where the target has no range for its values, and Coloured.
    """
    tally = Tally() if tally is None else tally
    with _damage():
        image = _eight_bits(picture, target, tally)
        factor, size = _draft(image, target)
        image.load()
        flat = _flatten(to_srgb(stretched(image, target.ranges, tally), tally), target)
        if factor == 1:
            size = flat.size  # loading may have turned it
        if target.pad_28 and size == (28, 28):  # as the authors' dataset tool does with MNIST
            flat, size = _centred(flat, 32), (32, 32)
        square = _in_grey(_square(flat, factor, size, target), target)
        turn = _UPRIGHT.get(image.getexif().get(ORIENTATION, 1))
    if turn is not None:  # a centred square may be turned last, when it is small
        square = square.transpose(turn)
    enlarged = _side(size, target) < target.resolution
    return np.asarray(square).reshape(target.resolution, target.resolution, target.channels), enlarged


def _eight_bits(picture: Picture, target: Target, tally: Tally) -> Image.Image:
    """The picture itself where it has 8 bits, else one that has, its values brought to 0 … 255."""
    if isinstance(picture, Values):
        return to_picture(picture, target.ranges, tally)
    if not wide(picture):
        if picture.format in _ANIMATED and getattr(picture, "is_animated", False):
            tally.first_frames += 1
        return picture
    image = to_picture(values_of(picture), target.ranges, tally)
    if profile := picture.info.get("icc_profile"):  # what the file says besides
        image.info["icc_profile"] = profile
    return image


def _side(size: tuple[int, int], target: Target) -> int:
    """Side of the square that becomes the picture: cut out of the image, or padded around it."""
    if target.crop == "celeba":
        return CELEBA_SIDE
    return min(size) if target.crop == "center" else max(size)


def _draft(image: Image.Image, target: Target) -> tuple[int, tuple[int, int]]:
    """Let a JPEG decode at a part of its size where that leaves enough. The factor and the full size.

    Only both together say where a box of the full image lies: 350 / 4 is not 88. benchmarks/large_jpegs.py measures
    what it costs in likeness and spares in time.
    """
    size = image.size
    enough = _side(size, target) / target.resolution
    factor = max((factor for factor, least in _DRAFTS.items() if enough >= least), default=1)
    if factor > 1:
        # A colour profile speaks of all three channels, so that they must not be dropped before it was heard.
        mode = "RGB" if is_foreign(image) else _mode(image, target)
        image.draft(mode, (size[0] // factor, size[1] // factor))
    return round(size[0] / image.width), size


def _flatten(image: Image.Image, target: Target) -> Image.Image:
    """Mode L or RGB, transparency over the background."""
    mode = _mode(image, target)
    if image.has_transparency_data:
        canvas = Image.new("RGBA", image.size, target.background)
        image = Image.alpha_composite(canvas, image.convert("RGBA"))
    return image if image.mode == mode else image.convert(mode)


def _mode(image: Image.Image, target: Target) -> Literal["L", "RGB"]:
    """Mode in which a picture is reduced: with its colours as long as these are to be looked for."""
    return "L" if target.channels == 1 and (not target.all_grey or is_grey(image.mode)) else "RGB"


def is_grey(mode: str) -> bool:
    """True for Pillow's modes that have no colours."""
    return mode in ("1", "L", "LA", "I", "F") or mode.startswith("I;")


def shows_colour(image: Image.Image) -> bool:
    """True for an RGB picture whose colours are no traces of its compression."""
    small = np.asarray(image if max(image.size) <= LOOKED_AT_SIZE else image.resize((LOOKED_AT_SIZE,) * 2, _MEAN))
    return bool((small.max(-1).astype(int) - small.min(-1)).max() > _COLOURED)


def _in_grey(image: Image.Image, target: Target) -> Image.Image:
    """The picture in one channel where the set has one. Raises Coloured where none should have been lost by that."""
    if target.channels == 3 or image.mode == "L":
        return image
    if target.all_grey and shows_colour(image):
        raise Coloured
    return image.convert("L")


def _square(image: Image.Image, factor: int, full: tuple[int, int], target: Target) -> Image.Image:
    """A square of the wanted size from an image that was decoded at 1/factor of its full size."""
    (width, height), side, size = full, _side(full, target), target.resolution
    if target.crop != "none":
        left, top = ((width - side) // 2, (height - side) // 2) if target.crop == "center" else CELEBA_CORNER
        return _resize(image, factor, (size, size), (left, top, left + side, top + side))
    # Padding: the whole image, its longer side as long as the square's, in the middle of black.
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
