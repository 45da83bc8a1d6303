"""Faces of a picture, and the squares that are cut out for them.

A detector finds faces in pictures of one size. To add one, write a module with a class that is called as `Detector`
says, and add its line to `DETECTORS`.
"""

import functools
import importlib
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from progan.data.sources.base import Unreadable
from progan.errors import DatasetError, did_you_mean

DETECTORS = {"mtcnn": "progan.data.prepare.mtcnn.MTCNN"}
"""Name -> class, which is made with the torch.device that it shall use and imported when it is wanted."""

Point = tuple[float, float]
"""x and y in pixels, from the picture's left upper corner: the centre of the first pixel is (0.5, 0.5)."""

_GRID = 16  # coordinates are rounded to this part of a pixel, so that last bits seldom change an image
_SMALLEST, _SMALLEST_PART = 20, 40  # pixels; part of the picture's shorter side
_GAP = 2.0  # how many times the wanted pixels are left to the good filter, as in Pillow's thumbnails
_BLUR = 0.06  # part of a side, by which what lies outside the picture is blurred
_MARGIN = 0.25  # where nothing is aligned
# CelebA's eyes in its aligned pictures of 178x218, and 128x128 of them around (89, 121), which the paper takes.
CELEBA_EYES: tuple[Point, Point] = ((70.245, 111.5), (107.737, 111.5))
CELEBA_SQUARE = (25.0, 57.0, 128.0)  # left, top, side
_TURNED = 0.65  # distance of the eyes as a part of theirs from the mouth; less is a head that looks to the side


@dataclass(frozen=True)
class Face:
    """A face in a picture."""

    box: tuple[float, float, float, float]
    """Left, top, right, bottom; may reach beyond the picture."""
    confidence: float
    """0 … 1."""
    points: tuple[Point, Point, Point, Point, Point]
    """The eyes, the nose, the corners of the mouth; of two the one further left in the picture comes first."""

    @staticmethod
    def of(box: npt.NDArray[Any], confidence: float, points: npt.NDArray[Any]) -> "Face":
        """A face of arrays [4] and [5, 2]; coordinates are rounded to 1/16 pixel, confidence to 1/1000."""
        edges = (np.asarray(box) * _GRID).round() / _GRID
        places = [tuple(place) for place in ((np.asarray(points) * _GRID).round() / _GRID).tolist()]
        return Face(tuple(edges.tolist()), round(float(confidence), 3), tuple(places))  # type: ignore[arg-type]

    @property
    def size(self) -> float:
        """The longer side of the box."""
        left, top, right, bottom = self.box
        return max(right - left, bottom - top)

    @property
    def has_features(self) -> bool:
        """True if eyes and mouth lie where a face can have them, so that it can be aligned by them."""
        left, top, right, bottom = self.box
        centre, (one, other, *_) = ((left + right) / 2, (top + bottom) / 2), self.points
        return one != other and all(math.dist(point, centre) <= self.size for point in self.points)


class Detector(Protocol):
    """Finds faces. Loaded once in each process."""

    def __call__(self, pictures: Sequence[Image.Image], smallest: float) -> list[list[Face]]:
        """Faces of each of the pictures (mode RGB, all of one size) whose sides are about `smallest` pixels or more."""


@dataclass(frozen=True)
class FaceCrop:
    """Which faces are taken and what is cut out of a picture for each; the options of `PrepareConfig`."""

    faces: Literal["largest", "all"] = "largest"
    min_face: int | None = None
    min_confidence: float = 0.9
    align: Literal["celeba", "ffhq", "none"] = "celeba"
    margin: float | None = None
    detector: str = "mtcnn"


@dataclass(frozen=True)
class Square:
    """A square in a picture, which may be turned and may reach beyond it."""

    centre: Point
    right: Point
    """From the centre to the middle of the right side."""

    @property
    def side(self) -> float:
        """Length of a side in pixels."""
        return 2 * math.hypot(*self.right)

    def leaves(self, width: int, height: int) -> bool:
        """True if a part of it lies more than a pixel outside a picture of that size."""
        (x, y), reach = self.centre, abs(self.right[0]) + abs(self.right[1]) - 1
        return x < reach or y < reach or x > width - reach or y > height - reach


# --- finding


@functools.cache
def load_detector(name: str, device: str) -> Detector:
    """The detector of a name, on a device of `devices.find_device`. Raises DatasetError and DeviceError."""
    if name not in DETECTORS:
        raise DatasetError(
            f"--detector must be one of {', '.join(DETECTORS)}; got {name!r}{did_you_mean(name, DETECTORS)}"
        )
    from progan.devices import find_device

    module, _, made = DETECTORS[name].rpartition(".")
    detector: Detector = getattr(importlib.import_module(module), made)(find_device(device))
    return detector


def find_faces(pictures: Sequence[Image.Image], options: FaceCrop, device: str) -> list[list[Face] | Unreadable]:
    """The wanted faces of each picture (mode RGB), the largest first, or the reason why there is none.

    Pictures of one size are looked at together. The same pictures give the same faces whatever the number of threads.
    Raises DatasetError where the device's memory is too small.
    """
    detect = load_detector(options.detector, device)
    by_size: dict[tuple[int, int], list[int]] = defaultdict(list)
    for position, picture in enumerate(pictures):
        by_size[picture.size].append(position)
    found: dict[int, list[Face] | Unreadable] = {}
    with _limits(device):
        for size, positions in by_size.items():
            smallest = options.min_face or max(_SMALLEST, min(size) / _SMALLEST_PART)
            for position, faces in zip(positions, detect([pictures[at] for at in positions], smallest), strict=True):
                found[position] = _wanted(faces, smallest, options)
    return [found[position] for position in range(len(pictures))]


def _wanted(faces: Sequence[Face], smallest: float, options: FaceCrop) -> list[Face] | Unreadable:
    """The faces that are large and sure enough, of which there may be none."""
    if not faces:
        return Unreadable("no face", f"none of at least {smallest:.0f} pixels was found")
    large = [face for face in faces if face.size >= smallest]
    if not large:
        return Unreadable(
            "small face", f"the largest has {max(face.size for face in faces):.0f} pixels, below {smallest:.0f}"
        )
    sure = [face for face in large if face.confidence >= options.min_confidence]
    if not sure:
        best = max(face.confidence for face in large)
        return Unreadable(
            "uncertain face", f"the best has a confidence of {best:.3f}, below {options.min_confidence:g}"
        )
    if options.align != "none" and not (sure := [face for face in sure if face.has_features]):
        return Unreadable("no eyes", "the eyes and the mouth of the face were not found")
    ordered = sorted(sure, key=lambda face: (-face.size, face.box))
    return ordered[:1] if options.faces == "largest" else ordered


@contextmanager
def _limits(device: str) -> Iterator[None]:
    """torch with a single thread, since how sums are split among threads changes their rounding; a full memory said."""
    import torch

    from progan.devices import is_out_of_memory

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise DatasetError(
            f"the memory of --device {device} is too small to look for faces. "
            "Run the same command again with fewer --workers, a larger --min-face or --device cpu"
        ) from None
    finally:
        torch.set_num_threads(before)


def face_at(points: npt.NDArray[np.float32], size: tuple[int, int]) -> Face | Unreadable:
    """The face whose eyes, nose and mouth a table has, [5, 2], in a picture of that size. Its box is theirs."""
    if not np.isfinite(points).all():
        return Unreadable("no eyes", "the table of landmarks does not name it")
    if (points < -np.array(size)).any() or (points > 2 * np.array(size)).any():
        return Unreadable("no eyes", "the landmarks are not those of this picture")
    face = Face.of(np.concatenate([points.min(0), points.max(0)]), 1.0, points)
    return face if face.points[0] != face.points[1] else Unreadable("no eyes", "both are in the same place")


# --- cutting out


def square_of(face: Face, options: FaceCrop) -> Square:
    """What is cut out for a face."""
    square = ALIGNMENTS[options.align](face)
    margin = options.margin if options.margin is not None else _MARGIN if options.align == "none" else 0.0
    x, y = square.right
    return Square(square.centre, (x * (1 + 2 * margin), y * (1 + 2 * margin)))


def _upright(face: Face) -> Square:
    """The square around the middle of the box, of its longer side; not turned."""
    left, top, right, bottom = face.box
    return Square(((left + right) / 2, (top + bottom) / 2), (face.size / 2, 0.0))


def _as_celeba(face: Face) -> Square:
    """The square in which the eyes lie where CelebA has them, on average, in the 128x128 that the paper takes.

    CelebA itself fits the eyes and the mouth, so that its eyes scatter. Eyes of a head that looks to the side are near
    each other: then their distance from the mouth says how large the face is.
    """
    (x0, y0), (x1, y1), _, mouth = _frame(face)
    (left, top), (right, _), (cut_x, cut_y, side) = *CELEBA_EYES, CELEBA_SQUARE
    distance = math.hypot(x1 - x0, y1 - y0)
    scale = max(distance, _TURNED * math.hypot(*mouth)) / (right - left)  # pixels of the picture for one of CelebA's
    along = ((x1 - x0) / distance, (y1 - y0) / distance)
    # From the middle between the eyes to the square's centre, in CelebA's picture, then in this one.
    dx, dy = cut_x + side / 2 - (left + right) / 2, cut_y + side / 2 - top
    centre = (
        (x0 + x1) / 2 + scale * (dx * along[0] - dy * along[1]),
        (y0 + y1) / 2 + scale * (dx * along[1] + dy * along[0]),
    )
    return Square(centre, (along[0] * scale * side / 2, along[1] * scale * side / 2))


def _as_ffhq(face: Face) -> Square:
    """The square of CelebA-HQ and FFHQ: appendix C of the paper.

    x' = e1 - e0, y' = (e0 + e1)/2 - (m0 + m1)/2, c = (e0 + e1)/2 - 0.1 y', s = max(4.0 |x'|, 3.6 |y'|), and the
    direction of x is that of x' - rotate90(y').
    """
    (x0, y0), (x1, y1), eyes, mouth = _frame(face)
    x, y = x1 - x0 + mouth[1], y1 - y0 - mouth[0]  # `mouth` is -y'
    half = max(4.0 * math.hypot(x1 - x0, y1 - y0), 3.6 * math.hypot(*mouth)) / 2 / math.hypot(x, y)
    return Square((eyes[0] + 0.1 * mouth[0], eyes[1] + 0.1 * mouth[1]), (x * half, y * half))


ALIGNMENTS: dict[str, Callable[[Face], Square]] = {"celeba": _as_celeba, "ffhq": _as_ffhq, "none": _upright}
"""What `--align` names."""


def _frame(face: Face) -> tuple[Point, Point, Point, Point]:
    """Both eyes, the middle between them, and from there to the middle of the mouth."""
    (x0, y0), (x1, y1), _, (x2, y2), (x3, y3) = face.points
    eyes = ((x0 + x1) / 2, (y0 + y1) / 2)
    return (x0, y0), (x1, y1), eyes, ((x2 + x3) / 2 - eyes[0], (y2 + y3) / 2 - eyes[1])


def cut(picture: Image.Image, square: Square, size: int) -> Image.Image:
    """A square of a picture (mode L or RGB) as size x size pixels, antialiased; `_extended` beyond the picture."""
    (x, y), (dx, dy) = square.centre, square.right
    # The part of the picture that the square touches, and a little for the filter.
    reach = abs(dx) + abs(dy) + 3 * max(1.0, square.side / size)
    box = (math.floor(x - reach), math.floor(y - reach), math.ceil(x + reach), math.ceil(y + reach))
    if (factor := int(square.side / size / _GAP)) > 1:  # much larger than wanted: averaged first, as thumbnails are
        left, top = max(box[0], 0), max(box[1], 0)
        picture = picture.reduce(factor, (left, top, min(box[2], picture.width), min(box[3], picture.height)))
        small = Square(((x - left) / factor, (y - top) / factor), (dx / factor, dy / factor))
        return cut(picture, small, size)
    part, x, y = _extended(picture, box, max(1.0, _BLUR * square.side)), x - box[0], y - box[1]
    if dy == 0 and dx > 0:  # upright: one resampling
        return part.resize((size, size), Image.Resampling.LANCZOS, (x - dx, y - dx, x + dx, y + dx))
    # Turned: at no fewer pixels than the picture has there, then reduced. In floats, since Pillow's transform cuts
    # fractions off, which would make pictures darker.
    times = max(1, math.ceil(square.side / size))
    fine, step = (times * size, times * size), 2 / (times * size)
    transform = (dx * step, -dy * step, x - dx + dy, dy * step, dx * step, y - dy - dx)
    bands = [
        band.convert("F")
        .transform(fine, Image.Transform.AFFINE, transform, Image.Resampling.BICUBIC)
        .resize((size, size), Image.Resampling.LANCZOS)
        for band in part.split()
    ]
    rounded = [np.rint(np.asarray(band)).clip(0, 255).astype(np.uint8) for band in bands]
    return Image.fromarray(rounded[0] if len(rounded) == 1 else np.stack(rounded, 2))


def _extended(picture: Image.Image, box: tuple[int, int, int, int], blur: float) -> Image.Image:
    """A box of a picture, which beyond its edges goes on mirrored and more and more blurred, as in appendix C.

    `blur`: standard deviation in pixels, reached that far outside. Unblurred, there would be parts of a second face.
    """
    left, top, right, bottom = box
    if left >= 0 and top >= 0 and right <= picture.width and bottom <= picture.height:
        return picture.crop(box)

    def places(start: int, end: int, length: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Which pixels are shown along an axis, and how far outside they lie."""
        along = np.arange(start, end)
        folded = along % (2 * length)
        return np.minimum(folded, 2 * length - 1 - folded), np.maximum(-along, along - length + 1).clip(0)

    (rows, above), (columns, beside) = places(top, bottom, picture.height), places(left, right, picture.width)
    mirrored = Image.fromarray(np.ascontiguousarray(np.asarray(picture)[rows][:, columns]))
    share = (np.maximum(above[:, None], beside) / blur).clip(0, 1)
    mask = Image.fromarray((share * 255).round().astype(np.uint8))
    return Image.composite(mirrored.filter(ImageFilter.GaussianBlur(blur)), mirrored, mask)
