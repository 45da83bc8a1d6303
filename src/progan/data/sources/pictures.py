"""Files of one picture or of many, known by their content and opened."""

import io
import warnings
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cache
from pathlib import Path

from PIL import Image

from progan.data.sources import labels as tables
from progan.data.sources.archives import Entry, entry_bytes
from progan.data.sources.base import Picture, Unreadable, import_extra
from progan.data.sources.stacks import HEAD_BYTES, Stack, kind_of_stack, misread, stack_of

# Of Pillow's formats those that decode in this process: EPS would start Ghostscript.
_FORMATS = "AVIF BMP GIF ICO JPEG JPEG2000 MPO PCX PNG PPM QOI SGI TGA TIFF WEBP"
PICTURES = (
    ".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif", ".heic", ".heif", ".jp2", ".pgm", ".ppm"
)  # fmt: skip
_HEIC = {b"ftyp" + brand for brand in (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")}
# Of files with these names only one picture is used, and none is opened to count them.
_ONE_PICTURE = tuple(".png .jpg .jpeg .jfif .jp2 .webp .avif .heic .heif .gif .bmp .ppm .pgm .pbm .tga .ico".split())
MANY_PICTURES = (".tif", ".tiff", ".dcm", ".dicom", ".npy")


def is_picture(name: str) -> bool:
    """True for a file that its name calls a picture."""
    return name.lower().endswith(PICTURES)


def is_named_picture(name: str) -> bool:
    """True for a file that has the suffix of any kind of picture, or of many."""
    return name.lower().endswith((*PICTURES, *_ONE_PICTURE, *MANY_PICTURES))


def is_opened(path: Path) -> bool:
    """True for a file that Pillow takes for a picture."""
    with suppress(Exception), Image.open(path, formats=_formats(path.suffix.lower() in (".heic", ".heif"))):
        return True
    return False


def paged(entries: list[Entry]) -> list[Entry]:
    """The entries, an entry for every page of a TIFF, frame of a DICOM file and row of an npy file among them.

    An npy file among picture files is not taken for one: there it is a table of something else.
    """
    arrays = sum(entry.name.lower().endswith(".npy") for entry in entries)
    pictures = sum(entry.name.lower().endswith(_ONE_PICTURE + MANY_PICTURES) for entry in entries) - arrays
    found = []
    for entry in entries:
        if entry.page is not None or entry.refused or entry.name.lower().endswith((*_ONE_PICTURE, *tables.SUFFIXES)):
            found.append(entry)
        elif entry.name.lower().endswith(".npy") and pictures >= arrays:
            found.append(replace(entry, refused="an array among pictures"))
        else:
            numbers: Sequence[int] = [0]
            with suppress(Unreadable), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                if kind_of_stack(_head(entry)):
                    numbers = stack_of(_content(entry)).numbers()
            found += [entry] if list(numbers) == [0] else [replace(entry, page=page) for page in numbers]
    return found


def _head(entry: Entry) -> bytes:
    """The first bytes of a file; of a zip's member all of them."""
    return entry_bytes(entry if entry.zipped else replace(entry, size=min(entry.size, HEAD_BYTES)))


def _content(entry: Entry) -> bytes | Path:
    """Path of a file that lies on the disk as it is, else its bytes."""
    return Path(entry.container) if entry.zipped is None and entry.offset == 0 else entry_bytes(entry)


class FileReader:
    """Opens image files by their content, whatever their names say."""

    def read(self, entries: Sequence[Entry], resolution: int) -> Iterator[Picture | Unreadable]:
        """Image of each file, in turn, not decoded yet where that can wait."""
        opened: tuple[Entry, Stack] | None = None  # that of many pages which was read last
        for entry in entries:
            try:
                if entry.page is None:
                    yield open_image(entry_bytes(entry))
                    continue
                file = replace(entry, page=None)
                if opened is None or opened[0] != file:
                    opened = file, stack_of(_content(file))
                yield opened[1].picture(entry.page)
            except Unreadable as error:
                yield error


def open_image(encoded: bytes) -> Picture:
    """An image from the bytes of a file, not yet decoded. Raises Unreadable."""
    try:
        image = Image.open(io.BytesIO(encoded), formats=_formats(encoded[4:12] in _HEIC))
    except Image.DecompressionBombError as error:
        raise Unreadable("decompression bomb", str(error)) from None
    except Unreadable:
        raise
    except Exception as error:  # Pillow's plugins raise almost anything on damaged data
        if encoded[4:12] in _HEIC:
            raise Unreadable("damaged", f"HEIC, but {error}") from None
        return stack_of(encoded).picture(0)
    if misread(image):
        return stack_of(encoded).picture(0)
    if image.info.get("Software") == "progan" and "," in str(image.info.get("seed")):
        raise Unreadable("made by progan", "a grid of generated images")
    return image


@cache
def _formats(heic: bool = False) -> tuple[str, ...]:
    """Formats of _FORMATS that this Pillow can read, and HEIC's where it is wanted. Raises Unreadable."""
    Image.init()
    if heic:
        import_extra("pillow_heif", "heic", "HEIC photographs need it").register_heif_opener()
    return (*(name for name in _FORMATS.split() if name in Image.OPEN), *(["HEIF"] if heic else []))
