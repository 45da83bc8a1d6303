"""What lies in folders, zips and tars, and in archives inside these.

Members are read where they lie. Nothing is unpacked under a name that an archive chose, so a name cannot lead out of a
folder, and the sizes that an archive declares are limits to what is read. Only what has no place of its own (a
compressed tar, an archive inside an archive) is unpacked, into numbered scratch files.
"""

import bz2
import functools
import gzip
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from progan.data.sources.folder import Entry, is_system, walk
from progan.errors import DatasetError

SUFFIXES = (".zip", ".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz")
MAX_FILE_BYTES = 2**29
MAX_UNPACKED_BYTES = 2**36
MAX_RATIO = 200  # of unpacked to packed size; pictures hardly shrink
MAX_DEPTH = 2  # archives inside archives
_HARMLESS_BYTES = 2**24  # below, a bomb does not hurt
_DAMAGED = (
    zipfile.BadZipFile, NotImplementedError, tarfile.TarError, EOFError, OSError, zlib.error, lzma.LZMAError, ValueError
)  # fmt: skip
_PACKERS: dict[bytes, Callable[[Path], Any]] = {b"\x1f\x8b": gzip.open, b"BZ": bz2.open, b"\xfd7": lzma.open}
_Opener = Callable[[], Any]  # a binary stream, to be closed


class _Refused(Exception):
    """An archive that is not opened, and why."""


def list_folder(folder: Path, scratch: Path) -> list[Entry]:
    """Candidates in a folder and its subfolders, by name; archives in it are looked into."""
    lister = _Lister(scratch)
    entries: list[Entry] = []
    for name, path in walk(folder):
        entry = Entry(name, str(path), path.stat().st_size)
        if _is_archive(name):
            entries += lister.inner(entry, functools.partial(Path, path), 1)
        else:
            entries.append(_within_limits(entry, entry.size))
    return sorted(entries, key=str)


def list_archive(path: Path, scratch: Path) -> list[Entry] | None:
    """Candidates in a zip or tar, by name; None where the file is neither."""
    try:
        if not (_is_archive(path.name) or zipfile.is_zipfile(path) or tarfile.is_tarfile(path)):
            return None
        return sorted(_Lister(scratch).members(path, "", 0), key=str)
    except _Refused as error:
        raise DatasetError(f"{path} is refused: {error}") from None
    except _DAMAGED as error:
        raise DatasetError(f"{path} is a damaged archive ({error}). Download or pack it again") from None


class _Lister:
    """Walks through archives and keeps count of what had to be unpacked."""

    def __init__(self, scratch: Path) -> None:
        self.scratch = scratch
        self.files = 0
        self.bytes = 0

    def members(self, path: Path, prefix: str, depth: int) -> Iterator[Entry]:
        """Candidates in an archive and in those inside it; names begin with `prefix`."""
        for entry, opener in _zip_members(path) if zipfile.is_zipfile(path) else self._tar_members(path):
            if is_system(entry.name):
                continue
            named = replace(entry, name=prefix + entry.name)
            if _is_archive(entry.name) and not entry.refused:
                yield from self.inner(named, functools.partial(self._unpack, opener, entry.size), depth + 1)
            else:
                yield named

    def inner(self, entry: Entry, fetch: Callable[[], Path], depth: int) -> list[Entry]:
        """The members of an archive inside a source, or the archive itself, refused."""
        try:
            if depth > MAX_DEPTH:
                raise _Refused(f"more than {MAX_DEPTH} archives inside each other")
            return list(self.members(fetch(), entry.name + "/", depth))
        except _Refused as error:
            return [replace(entry, refused=str(error))]
        except _DAMAGED as error:
            return [replace(entry, refused=f"damaged archive: {error}")]

    def _tar_members(self, path: Path) -> Iterator[tuple[Entry, _Opener]]:
        with path.open("rb") as file:
            packer = _PACKERS.get(file.read(2))
        if packer is not None:
            limit = max(_HARMLESS_BYTES, MAX_RATIO * path.stat().st_size)
            path = self._unpack(functools.partial(packer, path), limit)
        with tarfile.open(path, "r:") as archive:
            for info in archive:
                if info.isreg():
                    entry = Entry(info.name, str(path), info.size, info.offset_data)
                    yield _within_limits(_inside(entry), info.size), functools.partial(archive.extractfile, info)

    def _unpack(self, opener: _Opener, limit: int) -> Path:
        """A scratch file with what a stream gives, at most `limit` bytes."""
        self.scratch.mkdir(parents=True, exist_ok=True)
        path = self.scratch / f"{self.files:04d}"
        self.files += 1
        with opener() as stream, path.open("wb") as file:
            while block := stream.read(2**20):
                self.bytes += len(block)
                if file.tell() + len(block) > limit or self.bytes > MAX_UNPACKED_BYTES:
                    raise _Refused("it unpacks to far more than its size: an archive bomb")
                file.write(block)
        return path


def _zip_members(path: Path) -> Iterator[tuple[Entry, _Opener]]:
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            if info.filename.endswith("/"):
                continue
            packed = (info.compress_type, info.compress_size, info.CRC)
            entry = Entry(info.filename.replace("\\", "/"), str(path), info.file_size, info.header_offset, packed)
            if info.flag_bits & 1:
                entry = replace(entry, refused="encrypted")
            elif info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                entry = replace(entry, refused=f"compression method {info.compress_type} of zip is not supported")
            yield _within_limits(_inside(entry), info.compress_size), functools.partial(archive.open, info)


def _inside(entry: Entry) -> Entry:
    """The entry, refused where its name leads out of its archive."""
    path = PurePosixPath(entry.name)
    outside = path.is_absolute() or ".." in path.parts
    return replace(entry, refused="its path leaves the archive") if outside else entry


def _within_limits(entry: Entry, packed: int) -> Entry:
    """The entry, refused where it is too large."""
    if entry.size > _HARMLESS_BYTES and entry.size > MAX_RATIO * packed:
        return replace(entry, refused=f"zip bomb: {packed} bytes that unpack to {entry.size}")
    if entry.size > MAX_FILE_BYTES and not _is_archive(entry.name):
        return replace(entry, refused=f"larger than {MAX_FILE_BYTES >> 20} MB")
    return entry


def _is_archive(name: str) -> bool:
    return name.lower().endswith(SUFFIXES)
