"""Image files as candidates: on disk, or where they lie in an uncompressed tar or a zip."""

import functools
import io
import os
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from PIL import Image

from progan.data.sources.base import Unreadable
from progan.errors import DatasetError

# Of Pillow's formats those that decode in this process: EPS would start Ghostscript.
_FORMATS = "AVIF BMP GIF ICO JPEG JPEG2000 MPO PCX PNG PPM QOI SGI TGA TIFF WEBP"
_SYSTEM_NAMES = {"__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "@eadir", "$recycle.bin", "icon\r"}


@dataclass(frozen=True)
class Entry:
    """A file that may be an image."""

    name: str
    """Relative to the source, with slashes."""
    container: str
    """Path on disk of the file itself or of the archive that holds it."""
    size: int
    offset: int = 0
    """Where it begins in a tar (its content) or a zip (its local header)."""
    zipped: tuple[int, int, int] | None = None
    """Compression method, packed size and CRC-32 of a zip's member."""
    refused: str = ""
    """Why it must not even be opened."""

    def __str__(self) -> str:
        return self.name


class FileReader:
    """Opens image files by their content, whatever their names say."""

    def read(self, entries: Sequence[Entry], resolution: int) -> Iterator[Image.Image | Unreadable]:
        """See candidates.Reader."""
        yield from map(open_entry, entries)


def open_entry(entry: Entry) -> Image.Image | Unreadable:
    """An image, not yet decoded, or the reason why not."""
    try:
        return _open_image(entry_bytes(entry))
    except Unreadable as error:
        return error


def _open_image(encoded: bytes) -> Image.Image:
    """An image from the bytes of a file, not yet decoded."""
    try:
        return Image.open(io.BytesIO(encoded), formats=_formats())
    except Image.DecompressionBombError as error:
        raise Unreadable("decompression bomb", str(error)) from None
    except Exception:  # Pillow's plugins raise almost anything on damaged data
        if encoded[4:12] in (b"ftypheic", b"ftypheix", b"ftypmif1", b"ftyphevc"):
            raise Unreadable("HEIC photograph", "export it as JPEG first") from None
        raise Unreadable("not an image") from None


def entry_bytes(entry: Entry) -> bytes:
    """The bytes of a candidate, no more than its listing says."""
    if entry.refused:
        raise Unreadable("refused", entry.refused)
    if entry.size == 0:
        raise Unreadable("empty file")
    try:
        with open(entry.container, "rb") as file:
            file.seek(entry.offset)
            return _unzip(file, entry, *entry.zipped) if entry.zipped else file.read(entry.size)
    except (OSError, zlib.error, struct.error) as error:
        raise Unreadable("cannot be read", str(error)) from None


def _unzip(file: IO[bytes], entry: Entry, method: int, packed_size: int, crc: int) -> bytes:
    """A zip's member. Reading it here spares every worker the list of all members."""
    name_length, extra_length = struct.unpack_from("<HH", file.read(30), 26)
    file.seek(name_length + extra_length, os.SEEK_CUR)
    unpacked = file.read(packed_size)
    if method == zipfile.ZIP_DEFLATED:
        unpacked = zlib.decompressobj(-zlib.MAX_WBITS).decompress(unpacked, entry.size)
    if len(unpacked) != entry.size or zlib.crc32(unpacked) != crc:
        raise Unreadable("damaged", "its checksum in the zip differs")
    return unpacked


def walk(folder: Path, prefix: str = "", above: frozenset[str] = frozenset()) -> Iterator[tuple[str, Path]]:
    """Name (relative, with slashes) and path of every file that is not hidden or the system's; links are followed."""
    real = os.path.realpath(folder)
    if real in above:  # a link to a folder around it
        return
    try:
        children = sorted(os.scandir(folder), key=lambda child: child.name)
    except OSError as error:
        raise DatasetError(
            f"{folder} cannot be read ({error.strerror}). Mend its permissions or move it away"
        ) from None
    for child in children:
        if is_system(child.name):
            continue
        if child.is_dir():
            yield from walk(Path(child.path), f"{prefix}{child.name}/", above | {real})
        elif child.is_file():
            yield prefix + child.name, Path(child.path)


def is_system(name: str) -> bool:
    """Whether a part of a path is hidden or belongs to an operating system."""
    parts = PurePosixPath(name).parts
    return any((part.startswith(".") and part != "..") or part.lower() in _SYSTEM_NAMES for part in parts)


@functools.cache
def _formats() -> tuple[str, ...]:
    """Those of _FORMATS that this Pillow can read."""
    Image.init()
    return tuple(name for name in _FORMATS.split() if name in Image.OPEN)
