"""Files that Pillow alone does not read, or that hold many pictures: TIFF with pages, DICOM with frames, npy."""

import io
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from progan.data.sources.base import Picture, Unreadable, Values, import_extra

Result = TypeVar("Result")
TIFF, NPY = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), b"\x93NUMPY"
DICOM, _DICOM_AT = b"DICM", 128
HEAD_BYTES = 132
"""Bytes that tell what a file is."""
_SUBFILE, _THUMBNAIL = 254, 1  # a TIFF's page that is another one, smaller
_BITS, _PLANAR, _ONE_BY_ONE = 258, 284, 2  # channels one after another
_WHITE_IS_ZERO, _RGB = 0, 2  # photometric interpretations
_ALPHA = (1, 2)  # kinds of extra samples: transparency that colours are multiplied with, and that they are not
_LAST, _FIRST = (1, 3, 4), (1, 3)  # channels of [H, W, C] and of [C, H, W]; [4, H, W] are four pictures
_LEAST_FRAME = 64  # bytes of a frame, however well compressed
for _name in ("PIL", "pydicom", "tifffile"):  # what they say of damaged files becomes a reason in skipped.csv
    logging.getLogger(_name).addHandler(logging.NullHandler())


@dataclass(frozen=True)
class Stack:
    """The pictures of an opened file."""

    count: int
    picture: Callable[[int], Picture]
    """Picture of a number below `count`, to be used before the next is asked for. Raises Unreadable."""


def kind_of_stack(head: bytes) -> str | None:
    """`tiff`, `dicom` or `npy`, from the first HEAD_BYTES of a file; None for anything else."""
    if head.startswith(TIFF):
        return "tiff"
    if head[_DICOM_AT : _DICOM_AT + 4] == DICOM:
        return "dicom"
    return "npy" if head.startswith(NPY) else None


def open_stack(file: BinaryIO) -> Stack:
    """The pictures of a file, open at its beginning. Raises Unreadable."""
    kind = kind_of_stack(file.read(HEAD_BYTES))
    file.seek(0)
    openers = {"tiff": _open_tiff, "dicom": _open_dicom, "npy": _open_npy}
    if kind is None:
        raise Unreadable("not an image")
    stack = _guarded(openers[kind])(file)
    return Stack(stack.count, _guarded(stack.picture))


def _guarded(function: Callable[[Any], Result]) -> Callable[[Any], Result]:
    """The function, with whatever it raises at damaged files as Unreadable."""

    def call(argument: Any) -> Result:
        try:
            return function(argument)
        except Unreadable:
            raise
        except Exception as error:  # of one line: pydicom's have several
            raise Unreadable("damaged", f"{type(error).__name__}: {error}".partition("\n")[0]) from None

    return call


# --- TIFF


def _open_tiff(file: BinaryIO) -> Stack:
    """Pillow's pages where it reads them all and knows their numbers, else tifffile's."""
    try:
        image: Any = Image.open(file, formats=["TIFF"])
        pages = []
        for page in range(image.n_frames):
            image.seek(page)
            if not image.tag_v2.get(_SUBFILE, 0) & _THUMBNAIL or not page:
                pages.append(page)
            if misread(image):
                return _open_odd_tiff(file)
    except Image.DecompressionBombError as error:
        raise Unreadable("decompression bomb", str(error)) from None
    except Exception:  # a kind of pixels that it does not know
        return _open_odd_tiff(file)

    def picture(number: int) -> Picture:
        image.seek(pages[number])
        return image  # type: ignore[no-any-return]

    return Stack(len(pages), picture)


def misread(image: Image.Image) -> bool:
    """True for a TIFF that Pillow opens and gets wrong: channels of 16 bits that are stored one after another."""
    tags = getattr(image, "tag_v2", {})
    return tags.get(_PLANAR) == _ONE_BY_ONE and len(tags.get(_BITS, ())) > 1 and tags[_BITS][0] > 8


def _open_odd_tiff(file: BinaryIO) -> Stack:
    """Pages of any number type, by tifffile."""
    tifffile = import_extra("tifffile", "tiff", "Pillow does not read this TIFF, tifffile may")
    file.seek(0)
    tiff = tifffile.TiffFile(file)
    pages = [page for page in tiff.pages if not page.is_reduced] or list(tiff.pages)

    def picture(number: int) -> Picture:
        page = pages[number]
        check_size(page.imagewidth, page.imagelength)
        numbers = page.asarray()
        if numbers.ndim == 3 and page.planarconfig == 2:
            numbers = numbers.transpose(1, 2, 0)
        numbers = _flat(numbers)
        clear = any(sample in _ALPHA for sample in page.extrasamples or ())
        if numbers.ndim == 3 and numbers.shape[2] in (2, 4) and not clear:
            if page.photometric != _RGB:
                raise Unreadable(
                    "not an image", f"{numbers.shape[2]} channels that are neither colours nor transparency"
                )
            numbers = numbers[:, :, :3]
        return Values(numbers, inverted=page.photometric == _WHITE_IS_ZERO)

    return Stack(len(pages), picture)


def check_size(width: int, height: int) -> None:
    """Raise Unreadable for pictures larger than Pillow would decode."""
    if Image.MAX_IMAGE_PIXELS is not None and width * height > 2 * Image.MAX_IMAGE_PIXELS:
        raise Unreadable("decompression bomb", f"{width}x{height} pixels")


def _flat(numbers: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """A picture [H, W] or [H, W, C] without needless axes. Raises Unreadable."""
    if numbers.ndim == 3 and numbers.shape[2] == 1:
        numbers = numbers[:, :, 0]
    if numbers.ndim not in (2, 3) or 0 in numbers.shape or (numbers.ndim == 3 and numbers.shape[2] > 4):
        raise Unreadable("not an image", f"an array of shape {list(numbers.shape)}")
    return numbers


# --- DICOM


def _open_dicom(file: BinaryIO) -> Stack:
    """Frames in the units that the file's rescaling gives (Hounsfield units of a CT), with its window."""
    pydicom = import_extra("pydicom", "medical", "DICOM files need it")
    pixels = import_extra("pydicom.pixels", "medical", "DICOM files need it")
    data = pydicom.dcmread(file)
    if "Rows" not in data:
        raise Unreadable("not an image", "a DICOM file without pixels")
    check_size(int(data.Columns), int(data.Rows))
    count = max(1, int(data.get("NumberOfFrames", 1) or 1))
    if count > 1 and count * _LEAST_FRAME > file.seek(0, os.SEEK_END):
        raise Unreadable("damaged", f"{count} frames cannot lie in so short a file")

    def picture(number: int) -> Picture:
        numbers = pixels.pixel_array(data, index=number)
        if data.get("PhotometricInterpretation") == "PALETTE COLOR":
            return Values(_flat(pixels.apply_color_lut(numbers, data)))
        if numbers.ndim == 3:  # colour
            return Values(_flat(numbers))
        rescaled = _settings(data, number, "PixelValueTransformationSequence")
        if rescaled is not data:
            numbers = numbers * float(rescaled.RescaleSlope) + float(rescaled.RescaleIntercept)
        else:
            numbers = pixels.apply_modality_lut(numbers, data)
        inverted = data.get("PhotometricInterpretation") == "MONOCHROME1"
        return Values(_flat(numbers), inverted, _window(_settings(data, number, "FrameVOILUTSequence")))

    return Stack(count, picture)


def _settings(data: Any, number: int, sequence: str) -> Any:
    """What a file of many frames says of one of them, or of all, in a sequence; the file itself where it does not."""
    for groups, place in (("PerFrameFunctionalGroupsSequence", number), ("SharedFunctionalGroupsSequence", 0)):
        items = data.get(groups) or ()
        if place < len(items) and items[place].get(sequence):
            return items[place].get(sequence)[0]
    return data


def _window(data: Any) -> tuple[float, float] | None:
    """The values that become black and white, by the first window of a file (DICOM PS3.3, C.11.2)."""
    centre, width = (_first(data.get(name)) for name in ("WindowCenter", "WindowWidth"))
    if centre is None or width is None:
        return None
    if data.get("VOILUTFunction", "LINEAR") == "LINEAR":
        centre, width = centre - 0.5, width - 1
    return (centre - width / 2, centre + width / 2) if width > 0 else None


def _first(value: Any) -> float | None:
    """A number, or the first of several."""
    try:
        return float(value)
    except TypeError:
        return float(value[0]) if value else None


# --- npy


def _open_npy(file: BinaryIO) -> Stack:
    """One picture [H, W], [H, W, C] or [C, H, W], or many: [N, H, W], [N, H, W, C] or [N, C, H, W]."""
    name = getattr(file, "name", None)
    # A file of its own is mapped, so that one picture of many costs no more than that.
    array: npt.NDArray[Any] = np.load(name if name else file, mmap_mode="r" if name else None, allow_pickle=False)
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "buif":
        raise Unreadable("not an image", "an npy file of other things than numbers")
    shape = array.shape
    single = len(shape) == 2 or (len(shape) == 3 and (shape[2] in _LAST or shape[0] in _FIRST))
    if len(shape) not in (2, 3, 4) or 0 in shape:
        raise Unreadable("not an image", f"an array of shape {list(shape)}")

    def picture(number: int) -> Picture:
        row = np.asarray(array) if single else np.asarray(array[number])
        if row.ndim == 3 and row.shape[2] > 4 and row.shape[0] in _LAST:
            row = row.transpose(1, 2, 0)
        return Values(_flat(row))

    return Stack(1 if single else shape[0], picture)


def stack_of(content: bytes | Path) -> Stack:
    """The pictures of a file on the disk, or of its bytes. Raises Unreadable."""
    try:
        return open_stack(content.open("rb") if isinstance(content, Path) else io.BytesIO(content))
    except OSError as error:
        raise Unreadable("cannot be read", str(error)) from None
