"""Image files: in folders, in zips and tars, and in archives inside these.

Members of archives are read where they lie. Nothing is unpacked under a name that an archive chose, so a name cannot
lead out of a folder, and the sizes that an archive declares are limits to what is read. Only what has no place of its
own (a compressed tar, an archive inside an archive) is unpacked, into numbered scratch files.
"""

import bz2
import gzip
import io
import lzma
import os
import struct
import tarfile
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache, partial
from operator import attrgetter
from pathlib import Path, PurePosixPath
from typing import IO, Any

from PIL import Image

from progan.config import PrepareConfig
from progan.data.dataset import FILE_NAME
from progan.data.sources import labels as tables
from progan.data.sources.base import Labels, Picture, Source, Unreadable
from progan.data.sources.stacks import HEAD_BYTES, Stack, kind_of_stack, misread, stack_of
from progan.errors import DatasetError

# Of Pillow's formats those that decode in this process: EPS would start Ghostscript.
_FORMATS = "AVIF BMP GIF ICO JPEG JPEG2000 MPO PCX PNG PPM QOI SGI TGA TIFF WEBP"
_SYSTEM_NAMES = {"__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "@eadir", "$recycle.bin", "icon\r"}
_ARCHIVES = (".zip", ".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz")
# Of files with these names only one picture is used, and none is opened to count them.
_ONE_PICTURE = tuple(".png .jpg .jpeg .jfif .jp2 .webp .avif .heic .heif .gif .bmp .ppm .pgm .pbm .tga .ico".split())
_MANY_PICTURES = (".tif", ".tiff", ".dcm", ".dicom", ".npy")
_PACKERS: dict[bytes, Callable[[Path], Any]] = {b"\x1f\x8b": gzip.open, b"BZ": bz2.open, b"\xfd7": lzma.open}
MAX_FILE_BYTES = 2**29
MAX_TABLE_BYTES = 2**26  # of a table of labels that was not named
MAX_UNPACKED_BYTES = 2**36
MAX_RATIO = 200  # of unpacked to packed size; pictures hardly shrink
MAX_DEPTH = 2  # archives inside archives
_HARMLESS_BYTES = 2**24  # below, a bomb does not hurt
_DAMAGED = (
    zipfile.BadZipFile, NotImplementedError, tarfile.TarError, EOFError, OSError, zlib.error, lzma.LZMAError, ValueError
)  # fmt: skip


@dataclass(frozen=True)
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


def open_folder(source: str, scratch: Path, config: PrepareConfig) -> Source | None:
    """A folder with its subfolders; archives in it are looked into."""
    path = Path(source)
    if not path.is_dir():
        return None
    lister = _Lister(scratch)
    entries: list[Entry] = []
    for name, file in walk(path):
        entry = Entry(name, str(file), file.stat().st_size)
        if _is_archive(name):
            entries += lister.inner(entry, partial(Path, file), 1)
        else:  # stacks are read page by page, so that their size does not matter
            entries.append(entry if name.lower().endswith(_MANY_PICTURES) else _checked(entry, entry.size))
    return _source(path, entries, config)


def open_archive(source: str, scratch: Path, config: PrepareConfig) -> Source | None:
    """A zip or tar."""
    path = Path(source)
    if not path.is_file():
        return None
    try:
        if not (_is_archive(path.name) or zipfile.is_zipfile(path) or tarfile.is_tarfile(path)):
            return None
        entries = list(_Lister(scratch).members(path, "", 0))
    except _Refused as error:
        raise DatasetError(f"{path} is refused: {error}") from None
    except _DAMAGED as error:
        raise DatasetError(f"{path} is a damaged archive ({error}). Download or pack it again") from None
    return _source(path, entries, config)


def _source(path: Path, entries: list[Entry], config: PrepareConfig) -> Source:
    images, labels = _labelled(_paged(sorted(entries, key=attrgetter("name"))), path, config.labels)
    return Source(path.resolve().name.split(".")[0] or "images", FileReader(), images, labels, has_files=True)


def open_stack_file(source: str, scratch: Path, config: PrepareConfig) -> Source | None:
    """A TIFF or DICOM file with more than one picture."""
    path = Path(source)
    if not path.is_file():
        return None
    with path.open("rb") as file:
        if kind_of_stack(file.read(HEAD_BYTES)) in (None, "npy"):
            return None
    entries = _paged([Entry(path.name, str(path), path.stat().st_size)])
    return _source(path, entries, config) if len(entries) > 1 else None


def _paged(entries: list[Entry]) -> list[Entry]:
    """The entries, an entry for every page of a TIFF, frame of a DICOM file and row of an npy file among them.

    An npy file among picture files is not taken for one: there it is a table of something else.
    """
    arrays = sum(entry.name.lower().endswith(".npy") for entry in entries)
    pictures = sum(entry.name.lower().endswith(_ONE_PICTURE + _MANY_PICTURES) for entry in entries) - arrays
    paged = []
    for entry in entries:
        if entry.page is not None or entry.refused or entry.name.lower().endswith((*_ONE_PICTURE, *tables.SUFFIXES)):
            paged.append(entry)
        elif entry.name.lower().endswith(".npy") and pictures >= arrays:
            paged.append(replace(entry, refused="an array among pictures"))
        else:
            numbers: Sequence[int] = [0]
            with suppress(Unreadable), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                if kind_of_stack(_head(entry)):
                    numbers = stack_of(_content(entry)).numbers()
            paged += [entry] if list(numbers) == [0] else [replace(entry, page=page) for page in numbers]
    return paged


def _head(entry: Entry) -> bytes:
    """The first bytes of a file; of a zip's member all of them."""
    return entry_bytes(entry if entry.zipped else replace(entry, size=min(entry.size, HEAD_BYTES)))


def _content(entry: Entry) -> bytes | Path:
    """Path of a file that lies on the disk as it is, else its bytes."""
    return Path(entry.container) if entry.zipped is None and entry.offset == 0 else entry_bytes(entry)


def _labelled(entries: list[Entry], source: Path, wanted: str) -> tuple[list[Entry], Labels | None]:
    """The candidates and their labels; `wanted` is PrepareConfig.labels.

    A table that gives labels is no candidate; a file that it does not name is refused.
    """
    if wanted not in ("auto", "none"):
        path = Path(wanted)
        if not path.is_file():
            raise DatasetError(f"--labels {wanted} is not a file. Name a csv or json file, or `auto` or `none`")
        others = [entry for entry in entries if Path(entry.container) != path]
        return _by_table(path.name, others, partial(tables.table_labels, path.name, path.read_bytes()))
    # 1. A dataset.json of the StyleGAN family, which also without labels means that folders are no classes.
    described = [entry for entry in entries if PurePosixPath(entry.name).name == FILE_NAME]
    if len(described) == 1:
        table = described[0]
        with suppress(Unreadable):
            if content := tables.stylegan_content(entry_bytes(table)):
                others = [entry for entry in entries if entry is not table]
                if wanted == "none" or not content["labels"]:
                    return others, None
                return _by_table(table.name, others, partial(tables.stylegan_labels, table.name, content))
    if wanted == "none":
        return entries, None
    # 2. The first table that names most of the images, inside the source or beside it.
    inside = [entry for entry in entries if entry.name.lower().endswith(tables.SUFFIXES)]
    beside = [Entry(path.name, str(path), path.stat().st_size) for path in tables.tables_beside(source)]
    for table in [entry for entry in inside if entry.size <= MAX_TABLE_BYTES] + beside:
        others = [entry for entry in entries if entry is not table]
        with suppress(DatasetError, Unreadable):  # some other csv or json
            return _by_table(table.name, others, partial(tables.table_labels, table.name, entry_bytes(table)))
    # 3. Folders.
    return entries, tables.folder_labels([entry.name for entry in entries])


def _by_table(
    table: str, entries: list[Entry], labels_of: Callable[[list[str]], tuple[Labels, list[bool]]]
) -> tuple[list[Entry], Labels]:
    """The candidates, those refused that the table does not know, and the labels that it gives their names."""
    labels, known = labels_of([entry.name for entry in entries])
    reason = f"no label in {table}"
    pairs = zip(entries, known, strict=True)
    return [entry if is_known else replace(entry, refused=reason) for entry, is_known in pairs], labels


class FileReader:
    """Opens image files by their content, whatever their names say."""

    def read(self, entries: Sequence[Entry], resolution: int) -> Iterator[Picture | Unreadable]:
        """Image of each file, in turn, not decoded yet where that can wait."""
        opened: tuple[Entry, Stack] | None = None  # that of many pages which was read last
        for entry in entries:
            try:
                if entry.page is None:
                    yield _open_image(entry_bytes(entry))
                    continue
                file = replace(entry, page=None)
                if opened is None or opened[0] != file:
                    opened = file, stack_of(_content(file))
                yield opened[1].picture(entry.page)
            except Unreadable as error:
                yield error


def _open_image(encoded: bytes) -> Picture:
    """An image from the bytes of a file, not yet decoded."""
    try:
        image = Image.open(io.BytesIO(encoded), formats=_formats())
        if not misread(image):
            return image
    except Image.DecompressionBombError as error:
        raise Unreadable("decompression bomb", str(error)) from None
    except Exception:  # Pillow's plugins raise almost anything on damaged data
        if encoded[4:12] in (b"ftypheic", b"ftypheix", b"ftypmif1", b"ftyphevc"):
            raise Unreadable("HEIC photograph", "export it as JPEG first") from None
    return stack_of(encoded).picture(0)


@cache
def _formats() -> tuple[str, ...]:
    """Formats of _FORMATS that this Pillow can read."""
    Image.init()
    return tuple(name for name in _FORMATS.split() if name in Image.OPEN)


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


# --- what lies in folders and archives


def walk(folder: Path, prefix: str = "", above: frozenset[str] = frozenset()) -> Iterator[tuple[str, Path]]:
    """Name (relative, with slashes) and path of every file that is not hidden or the system's; links are followed."""
    real = os.path.realpath(folder)
    if real in above:  # a link to a folder around it
        return
    try:
        children = sorted(os.scandir(folder), key=lambda child: child.name)
    except OSError as error:
        raise DatasetError(
            f"{folder} cannot be read ({error.strerror}). Correct its permissions or move it away"
        ) from None
    for child in children:
        if _is_system(child.name):
            continue
        if child.is_dir():
            yield from walk(Path(child.path), f"{prefix}{child.name}/", above | {real})
        elif child.is_file():
            yield prefix + child.name, Path(child.path)


class _Refused(Exception):
    """Raised for an archive that is not opened; the text says why."""


class _Lister:
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
            entry = _checked(entry, packed)
            if _is_system(entry.name):
                continue
            named = replace(entry, name=prefix + entry.name)
            if _is_archive(entry.name) and not entry.refused:
                yield from self.inner(named, partial(self._unpack, opener, entry.size), depth + 1)
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
                elif info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    entry = replace(entry, refused=f"compression method {info.compress_type} of zip is not supported")
                yield entry, info.compress_size, partial(archive.open, info)

    def _tar_members(self, path: Path) -> Iterator[tuple[Entry, int, Callable[[], Any]]]:
        """Each member of a tar, its size and its opener; a compressed tar is unpacked first."""
        with path.open("rb") as file:
            packer = _PACKERS.get(file.read(2))
        if packer is not None:
            limit = max(_HARMLESS_BYTES, MAX_RATIO * path.stat().st_size)
            path = self._unpack(partial(packer, path), limit)
        with tarfile.open(path, "r:") as archive:
            for info in archive:
                if info.isreg():
                    entry = Entry(info.name, str(path), info.size, info.offset_data)
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
                    raise _Refused("it unpacks to far more than its size: an archive bomb")
                file.write(block)
        return path


def _checked(entry: Entry, packed: int) -> Entry:
    """The entry, refused where it is too large for its packed size or at all."""
    if entry.size > _HARMLESS_BYTES and entry.size > MAX_RATIO * packed:
        return replace(entry, refused=f"zip bomb: {packed} bytes that unpack to {entry.size}")
    if entry.size > MAX_FILE_BYTES and not _is_archive(entry.name):
        return replace(entry, refused=f"larger than {MAX_FILE_BYTES >> 20} MB")
    return entry


def _is_archive(name: str) -> bool:
    return name.lower().endswith(_ARCHIVES)


def _is_system(name: str) -> bool:
    """True if a part of a path is hidden or belongs to an operating system."""
    parts = PurePosixPath(name).parts
    return any((part.startswith(".") and part != "..") or part.lower() in _SYSTEM_NAMES for part in parts)
