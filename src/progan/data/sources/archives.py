"""Members of zips and tars, and of archives inside these: what there is, and the bytes of each.

They are read where they lie. Nothing is unpacked under a name that an archive chose, so a name cannot lead out of a
folder, and the sizes that an archive declares are limits to what is read. Only what has no place of its own (a
compressed tar, an archive inside an archive) is unpacked, into numbered scratch files.
"""

import bz2
import gzip
import lzma
import os
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Any

from progan.data.sources.base import Unreadable
from progan.files import printable

_ARCHIVES = (".zip", ".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz")
_SYSTEM_NAMES = {"__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "@eadir", "$recycle.bin", "icon\r"}
_PACKERS: dict[bytes, Callable[[Path], Any]] = {b"\x1f\x8b": gzip.open, b"BZ": bz2.open, b"\xfd7": lzma.open}
MAX_FILE_BYTES = 2**29
MAX_UNPACKED_BYTES = 2**36
MAX_RATIO = 200  # of unpacked to packed size; pictures hardly shrink
MAX_DEPTH = 2  # archives inside archives
_HARMLESS_BYTES = 2**24  # below, a bomb does not hurt
DAMAGED = (
    zipfile.BadZipFile, NotImplementedError, tarfile.TarError, EOFError, OSError, zlib.error, lzma.LZMAError, ValueError
)  # fmt: skip
"""Errors that damaged archives raise."""


@dataclass(frozen=True, slots=True)  # a source may have millions
class Entry:
    """A file that may be an image."""

    name: str
    """Relative to the source, with slashes."""
    container: str
    """Path on disk of the file itself or of the archive that holds it."""
    size: int
    offset: int = 0
    """Byte at which it begins in a tar (its content) or a zip (its local header)."""
    zipped: tuple[int, int, int] | None = None
    """Compression method, packed size and CRC-32 of a zip's member."""
    refused: str = ""
    """Reason why it must not even be opened."""
    page: int | None = None
    """Number of the picture in a file that holds many."""

    def __str__(self) -> str:
        return self.name if self.page is None else f"{self.name}#{self.page}"


def entry_bytes(entry: Entry) -> bytes:
    """The bytes of a candidate, no more than its listing says. Raises Unreadable."""
    if entry.refused:
        raise Unreadable("refused", entry.refused)
    if entry.size == 0:
        raise Unreadable("empty file")
    try:
        with open(entry.container, "rb") as file:
            file.seek(entry.offset)
            return _unzip(file, entry, *entry.zipped) if entry.zipped else file.read(entry.size)
    except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError, struct.error) as error:
        raise Unreadable("cannot be read", str(error)) from None


_OTHER_METHODS = {9: "Deflate64", 93: "Zstandard", 95: "XZ", 98: "PPMd"}
_UNZIPPERS: dict[int, Callable[[], Any]] = {
    zipfile.ZIP_DEFLATED: partial(zlib.decompressobj, -zlib.MAX_WBITS),
    zipfile.ZIP_BZIP2: bz2.BZ2Decompressor,
    zipfile.ZIP_LZMA: partial(lzma.LZMADecompressor, lzma.FORMAT_ALONE, _HARMLESS_BYTES * 8),
}
"""Compression method of zip -> what makes a decompressor, whose `decompress(packed, limit)` stops at a limit."""


def _unzip(file: IO[bytes], entry: Entry, method: int, packed_size: int, crc: int) -> bytes:
    """A zip's member. Reading it here spares every worker the list of all members."""
    name_length, extra_length = struct.unpack_from("<HH", file.read(30), 26)
    file.seek(name_length + extra_length, os.SEEK_CUR)
    unpacked = file.read(packed_size)
    if method == zipfile.ZIP_LZMA:  # the properties after a version and their length; xz's older format has a size
        (length,) = struct.unpack_from("<H", unpacked, 2)
        unpacked = unpacked[4 : 4 + length] + b"\xff" * 8 + unpacked[4 + length :]
    if method != zipfile.ZIP_STORED:
        unpacked = _UNZIPPERS[method]().decompress(unpacked, entry.size)
    if len(unpacked) != entry.size or zlib.crc32(unpacked) != crc:
        raise Unreadable("damaged", "its checksum in the zip differs")
    return unpacked


class Refused(Exception):
    """Raised for an archive that is not opened; the text says why."""


class Lister:
    """Lists the members of archives and counts the bytes that had to be unpacked."""

    def __init__(self, scratch: Path) -> None:
        self.scratch = scratch
        self.files = 0
        self.bytes = 0

    def members(self, path: Path, prefix: str, depth: int) -> Iterator[Entry]:
        """Candidates in an archive and in those inside it; names begin with `prefix`."""
        for entry, packed, opener in self._zip_members(path) if zipfile.is_zipfile(path) else self._tar_members(path):
            name = PurePosixPath(entry.name)
            if name.is_absolute() or ".." in name.parts:
                entry = replace(entry, refused="its path leaves the archive")
            entry = checked(entry, packed)
            if is_system(entry.name):
                continue
            named = replace(entry, name=prefix + entry.name)
            if is_archive(entry.name) and not entry.refused:
                yield from self.inner(named, partial(self._unpack, opener, entry.size), depth + 1)
            else:
                yield named

    def inner(self, entry: Entry, fetch: Callable[[], Path], depth: int) -> list[Entry]:
        """The members of an archive inside a source, or the archive itself, refused."""
        try:
            if depth > MAX_DEPTH:
                raise Refused(f"more than {MAX_DEPTH} archives inside each other")
            return list(self.members(fetch(), entry.name + "/", depth))
        except Refused as error:
            return [replace(entry, refused=str(error))]
        except DAMAGED as error:
            return [replace(entry, refused=f"damaged archive: {error}")]

    def _zip_members(self, path: Path) -> Iterator[tuple[Entry, int, Callable[[], Any]]]:
        """Each member of a zip, its packed size, and a function that opens it as a binary stream."""
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                if info.filename.endswith("/"):
                    continue
                packed = (info.compress_type, info.compress_size, info.CRC)
                entry = Entry(info.filename.replace("\\", "/"), str(path), info.file_size, info.header_offset, packed)
                if info.flag_bits & 1:
                    entry = replace(entry, refused="encrypted")
                elif info.compress_type not in (zipfile.ZIP_STORED, *_UNZIPPERS):
                    method = _OTHER_METHODS.get(info.compress_type, f"method {info.compress_type}")
                    entry = replace(entry, refused=f"packed with {method}, which is not read. Pack it with deflate")
                yield entry, info.compress_size, partial(archive.open, info)

    def _tar_members(self, path: Path) -> Iterator[tuple[Entry, int, Callable[[], Any]]]:
        """Each member of a tar, its size and its opener; a compressed tar is unpacked first."""
        with path.open("rb") as file:
            packer = _PACKERS.get(file.read(2))
        if packer is not None:
            path = self._unpack(partial(packer, path), most_unpacked(path.stat().st_size))
        with tarfile.open(path, "r:") as archive:
            for info in archive:
                name = info.name
                if info.islnk():  # a second name of a file
                    with suppress(KeyError):
                        info = archive.getmember(info.linkname)
                if info.isreg():
                    entry = Entry(printable(name), str(path), info.size, info.offset_data)
                    yield entry, info.size, partial(archive.extractfile, info)

    def _unpack(self, opener: Callable[[], Any], limit: int) -> Path:
        """A scratch file with what a stream gives, at most `limit` bytes."""
        self.scratch.mkdir(parents=True, exist_ok=True)
        path = self.scratch / f"{self.files:04d}"
        self.files += 1
        with opener() as stream, path.open("wb") as file:
            while block := stream.read(2**20):
                self.bytes += len(block)
                if file.tell() + len(block) > limit or self.bytes > MAX_UNPACKED_BYTES:
                    raise Refused("it unpacks to far more than its size: an archive bomb")
                file.write(block)
        return path


def most_unpacked(packed: int) -> int:
    """Bytes above which a file of `packed` bytes is an archive bomb."""
    return max(_HARMLESS_BYTES, MAX_RATIO * packed)


def checked(entry: Entry, packed: int) -> Entry:
    """The entry, refused where it is too large for its packed size or at all."""
    if entry.size > most_unpacked(packed):
        return replace(entry, refused=f"zip bomb: {packed} bytes that unpack to {entry.size}")
    if entry.size > MAX_FILE_BYTES and not is_archive(entry.name):
        return replace(entry, refused=f"larger than {MAX_FILE_BYTES >> 20} MB")
    return entry


def is_archive(name: str) -> bool:
    """True for a file that its name calls an archive."""
    return name.lower().endswith(_ARCHIVES)


def is_system(name: str) -> bool:
    """True if a part of a path is hidden or belongs to an operating system."""
    return any(
        (part.startswith(".") and part not in (".", "..")) or part.lower() in _SYSTEM_NAMES for part in name.split("/")
    )
