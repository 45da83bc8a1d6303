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
from collections import Counter
from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache, partial
from operator import attrgetter
from pathlib import Path, PurePosixPath
from typing import IO, Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from progan.config import PrepareConfig
from progan.data.dataset import FILE_NAME, FORMAT
from progan.data.sources import labels as tables
from progan.data.sources.base import Labels, NoLabelsError, Picture, Source, Unreadable, import_extra
from progan.data.sources.stacks import HEAD_BYTES, Stack, kind_of_stack, misread, stack_of
from progan.errors import DatasetError
from progan.files import printable

# Of Pillow's formats those that decode in this process: EPS would start Ghostscript.
_FORMATS = "AVIF BMP GIF ICO JPEG JPEG2000 MPO PCX PNG PPM QOI SGI TGA TIFF WEBP"
_SYSTEM_NAMES = {"__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "@eadir", "$recycle.bin", "icon\r"}
_ARCHIVES = (".zip", ".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz")
PICTURES = (
    ".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif", ".heic", ".heif", ".jp2", ".pgm", ".ppm"
)  # fmt: skip
_HEIC = {b"ftyp" + brand for brand in (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")}
_OURS = {  # file -> what its first bytes say, and what the folder is then
    FILE_NAME: (FORMAT.encode(), "a prepared dataset"),
    "unfinished.json": (b'{"note": {"key": ', "an unfinished preparation"),
    "config.json": (b"progan run", "a run"),
    "plan.json": (b"progan comparison", "a comparison"),
}
_MADE = {  # by a run or a comparison, where it lies among the images
    "samples", "snapshots", "state", "good", "tensorboard", "wandb", "generated", "generated.png", "report.html",
    "stats.jsonl", "config.json", "plan.json", "runs", "data", "grids", "measured",
}  # fmt: skip
_UNPACK = (".mdb", ".parquet", ".tfrecords", ".h5", ".hdf5")
"""Suffixes of files that hold many images and are read where they lie, so not inside an archive."""
_MASKS = "CelebAMask-HQ-mask-anno/"  # outlines of the parts of CelebA-HQ's faces
MOST_TABLES = 20  # that are tried
# Of files with these names only one picture is used, and none is opened to count them.
_ONE_PICTURE = tuple(".png .jpg .jpeg .jfif .jp2 .webp .avif .heic .heif .gif .bmp .ppm .pgm .pbm .tga .ico".split())
_MANY_PICTURES = (".tif", ".tiff", ".dcm", ".dicom", ".npy")
_PACKERS: dict[bytes, Callable[[Path], Any]] = {b"\x1f\x8b": gzip.open, b"BZ": bz2.open, b"\xfd7": lzma.open}
MAX_FILE_BYTES = 2**29
MAX_TABLE_BYTES = 2**26  # of a table of labels that was not named
MAX_UNPACKED_BYTES = 2**36
MAX_RATIO = 200  # of unpacked to packed size; pictures hardly shrink
CELEBA_SIZE = (178, 218)
"""Width and height of CelebA's aligned pictures, in pixels."""
_LOOKED_AT = 8  # of CelebA's pictures, to tell which they are
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
        entry = Entry(name, file, os.stat(file).st_size)
        if is_archive(name):
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
        if not (is_archive(path.name) or zipfile.is_zipfile(path) or tarfile.is_tarfile(path)):
            return None
        entries = list(_Lister(scratch).members(path, "", 0))
    except _Refused as error:
        raise DatasetError(f"{path} is refused: {error}") from None
    except _DAMAGED as error:
        raise DatasetError(f"{path} is a damaged archive ({error}). Download or pack it again") from None
    return _source(path, entries, config)


def _source(path: Path, entries: list[Entry], config: PrepareConfig) -> Source:
    entries = _paged(sorted(entries, key=attrgetter("name")))
    is_packed = [entry.name for entry in entries if entry.name.lower().endswith(_UNPACK)]
    if path.is_file() and is_packed and not any(is_picture(entry.name) for entry in entries):
        raise DatasetError(f"{path} holds {is_packed[0]}, which is read where it lies. Unpack it and name its folder")
    # CelebA's table of partitions is no candidate; without it, the names of folders say what is for training.
    table = next((entry for entry in entries if tables.is_partition_table(entry.name)), None)
    beside = [_file(other) for other in tables.tables_beside(path)]
    table = table or next((entry for entry in beside if tables.is_partition_table(entry.name)), None)
    is_celeba = any("_celeba." in entry.name.lower() for entry in (*beside, *entries) if tables.is_table(entry.name))
    masks = [entry for entry in entries if _MASKS in entry.name]
    landmarks = [entry for entry in (*entries, *beside) if tables.is_landmark_table(entry.name)]
    entries = [entry for entry in _without(entries, masks + landmarks) if not tables.is_partition_table(entry.name)]
    beside = [entry for entry in _without(beside, landmarks) if entry is not table]
    images, labels, notes = _labelled(entries, path, beside, config)
    images, labels, parts = _partition(images, labels, table, config.partition)
    points = None
    if landmarks and config.crop == "faces" and config.align != "none":
        points, about = _landmarks(images, landmarks)
        parts.append(about)
    if masks:
        parts.append(f"the {len(masks):,} files in {_MASKS} are no images of their own")
    if is_celeba and config.crop in ("center", "none"):
        parts.append("CelebA: `progan prepare --crop celeba` cuts out the 128x128 that the paper's authors took")
    return Source(
        name=printable(path.resolve().name.split(".")[0]) or "images",
        reader=FileReader(),
        entries=images,
        labels=labels,
        points=points,
        has_files=True,
        has_columns=True,
        has_partitions=True,
        notes=(*notes, *parts),
    )


def _landmarks(images: list[Entry], found: list[Entry]) -> tuple[npt.NDArray[np.float32] | None, str]:
    """`Source.points` by CelebA's table for such pictures, and a note: its aligned ones have another than those in the
    wild, and the same names. Raises DatasetError.
    """
    some = FileReader().read(images[:_LOOKED_AT], 0)
    sizes = {picture.size for picture in some if not isinstance(picture, Unreadable)}
    aligned = sizes == {CELEBA_SIZE}
    table = next((entry for entry in found if tables.is_landmark_table(entry.name, aligned)), None)
    if table is None:
        kind = "aligned pictures" if aligned else "pictures in the wild"
        return None, f"{found[0].name} is not for {kind} of CelebA: faces were looked for"
    points = tables.table_landmarks(table.name, entry_bytes(table), [entry.name for entry in images])
    return points, f"faces are where {table.name} says; none is looked for (--detector, --min-face have no effect)"


def _partition(
    images: list[Entry], labels: Labels | None, table: Entry | None, wanted: str
) -> tuple[list[Entry], Labels | None, list[str]]:
    """The images of a partition, their labels, and a note where all are taken though there are several."""
    names = [entry.name for entry in images]
    found = [next(filter(None, map(tables.partition_of, name.split("/")[:-1])), None) for name in names]
    if table is not None:
        try:
            found = tables.table_partitions(table.name, entry_bytes(table), names)
        except (DatasetError, Unreadable) as error:
            if wanted not in ("auto", "all"):
                raise DatasetError(f"--partition {wanted}: {error}") from None
    counts = Counter(filter(None, found))
    listed = ", ".join(f"{part} ({count:,})" for part, count in counts.items())
    if wanted in ("auto", "all"):
        several = wanted == "auto" and len(counts) > 1
        return (
            images,
            labels,
            [f"all partitions are taken: {listed}. `progan prepare --partition` takes one"] if several else [],
        )
    kept = [position for position, part in enumerate(found) if part == wanted]
    if not kept:
        raise DatasetError(f"--partition {wanted}: no image is in it. There are {listed or 'no partitions'}")
    if labels is not None:
        labels = labels.of(kept)
    return [images[position] for position in kept], labels, []


def open_picture(source: str, scratch: Path, config: PrepareConfig) -> Source | None:
    """A picture, or a TIFF or DICOM file of many."""
    path = Path(source)
    if not path.is_file():
        return None
    with path.open("rb") as file:
        kind = kind_of_stack(file.read(HEAD_BYTES))
    if kind in (None, "npy") and not _is_opened(path):
        return None
    found = _source(path, [Entry(path.name, str(path), path.stat().st_size)], config)
    several = len(found.entries) > 1
    return found if several else replace(found, notes=(*found.notes, f"{path.name} is a single picture"))


def _is_opened(path: Path) -> bool:
    """True for a file that Pillow takes for a picture."""
    with suppress(Exception), Image.open(path, formats=_formats(path.suffix.lower() in (".heic", ".heif"))):
        return True
    return False


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


def _labelled(
    entries: list[Entry], source: Path, beside: list[Entry], config: PrepareConfig
) -> tuple[list[Entry], Labels | None, list[str]]:
    """The candidates, their labels, and notes on tables that are not used.

    A table that gives labels is no candidate; a file that it does not name is refused.
    """
    wanted, column = config.labels, config.label_column
    if wanted not in ("auto", "none"):
        path = Path(wanted)
        if not path.is_file():
            raise DatasetError(f"--labels {wanted} is not a file. Name a csv or json file, or `auto` or `none`")
        others = [entry for entry in entries if not tables.is_table(entry.name)]
        if not tables.is_table(path.name):  # it may lie among the images
            others = [entry for entry in others if not os.path.samefile(entry.container, path)]
        labels_of = partial(tables.table_labels, printable(path.name), path.read_bytes(), wanted=column)
        return *_by_table(printable(path.name), others, labels_of), []
    # 1. A dataset.json of the StyleGAN family, which also without labels means that folders are no classes.
    described = [entry for entry in entries if entry.name.rpartition("/")[2] == FILE_NAME]
    around = described[0].name.removesuffix(FILE_NAME) if described else ""
    is_for_most = 2 * sum(entry.name.startswith(around) for entry in entries) > len(entries)
    if len(described) == 1 and is_for_most:
        table = described[0]
        with suppress(Unreadable):
            if content := tables.stylegan_content(entry_bytes(table)):
                others = [entry for entry in entries if entry is not table]
                if wanted == "none" or not content["labels"]:
                    return others, None, []
                try:
                    return *_by_table(table.name, others, partial(tables.stylegan_labels, table.name, content)), []
                except NoLabelsError as error:
                    return others, None, [f"{error}: prepared without labels"]
    if wanted == "none":
        return entries, None, []
    # 2. The first table that names most of the images, inside the source or beside it.
    found = [entry for entry in entries if tables.is_table(entry.name) and entry.size <= MAX_TABLE_BYTES]
    stems = {entry.name.rpartition(".")[0] for entry in entries if not tables.is_table(entry.name)}
    captions = [entry for entry in found if entry.name.rpartition(".")[0] in stems]  # 0001.txt beside 0001.jpg
    notes = []
    if len(captions) > 1:
        entries, found = _without(entries, captions), _without(found, captions)
        notes = [f"{len(captions):,} files with the names of images ({captions[0].name} …) are not read as labels"]
    found = sorted([*found, *beside], key=lambda table: "list_attr_celeba" not in table.name)[:MOST_TABLES]
    images, unused = _without(entries, found), []
    for table in found:
        try:
            labels_of = partial(tables.table_labels, table.name, entry_bytes(table), wanted=column)
            labelled = _by_table(table.name, images, labels_of)
        except NoLabelsError as error:
            unused.append(table)
            notes.append(str(error))
        except (DatasetError, Unreadable):  # some other csv or json
            continue
        else:
            rest = [other.name for other in found if other is not table]
            also = [f"labels are from {table.name}; not used: {', '.join(rest[:5])}"] if rest else []
            return *labelled, also
    if column is not None:
        reason = notes[-1] if unused else f"no csv or json file in {source} or beside it names the images"
        raise DatasetError(f"--label-column {column}: {reason}")
    # 3. Folders.
    images = _without(entries, unused)
    labels, more = tables.folder_labels([entry.name for entry in images])
    return images, labels, [*notes, *more]


def _without(entries: list[Entry], others: list[Entry]) -> list[Entry]:
    ids = set(map(id, others))
    return [entry for entry in entries if id(entry) not in ids]


def _file(path: Path) -> Entry:
    """A file on disk by itself."""
    return Entry(printable(path.name), str(path), path.stat().st_size)


def is_picture(name: str) -> bool:
    """True for a file that its name calls a picture."""
    return name.lower().endswith(PICTURES)


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


# --- what lies in folders and archives


def walk(
    folder: str | Path, left_out: list[str] | None = None, prefix: str = "", above: frozenset[str] = frozenset()
) -> Iterator[tuple[str, str]]:
    """Name (relative, with slashes) and path of every file that is not hidden or the system's; links are followed.

    What progan made is no image: folders with runs, comparisons and prepared datasets are put on the list `left_out`
    instead, as `runs/00000-digits (a run)`. Where `folder` is itself a run, what the run makes is left out.
    """
    real = os.path.realpath(folder)
    if real in above:  # a link to a folder around it
        return
    try:
        children = sorted(os.scandir(folder), key=lambda child: child.name)
    except OSError as error:
        raise DatasetError(
            f"{folder} cannot be read ({error.strerror}). Correct its permissions or move it away"
        ) from None
    ours = what_we_made(Path(folder), {child.name for child in children})
    if ours and above:
        if left_out is not None:
            left_out.append(f"{printable(prefix[:-1])} ({ours})")
        return
    if ours and left_out is not None:
        left_out.append(f"what belongs to {ours} in {printable(str(folder))}")
    for child in children:
        if _is_system(child.name) or (ours and child.name in _MADE):
            continue
        if child.is_dir():
            yield from walk(child.path, left_out, f"{prefix}{child.name}/", above | {real})
        elif child.is_file():
            if child.name.endswith((".zip", ".npz")) and _ends_as_ours(child.path):
                if left_out is not None:
                    left_out.append(f"{printable(prefix + child.name)} (a prepared dataset)")
                continue
            yield printable(prefix + child.name), child.path


def what_we_made(folder: Path, names: Set[str]) -> str:
    """`a run`, `a prepared dataset` … where the folder with files of these names is one; else empty."""
    for name in names & _OURS.keys():
        mark, what = _OURS[name]
        with suppress(OSError), open(folder / name, "rb") as file:
            if mark in file.read(100):
                return what
    return ""


def _ends_as_ours(path: str) -> bool:
    """True for a zip that `prepare --to stylegan-zip` or `--to npz` wrote, by its comment."""
    mark = FORMAT.encode()
    with suppress(OSError), open(path, "rb") as file:
        file.seek(-len(mark), os.SEEK_END)
        return file.read() == mark
    return False


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
            if is_archive(entry.name) and not entry.refused:
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
                if info.isreg():
                    entry = Entry(printable(info.name), str(path), info.size, info.offset_data)
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


def most_unpacked(packed: int) -> int:
    """Bytes above which a file of `packed` bytes is an archive bomb."""
    return max(_HARMLESS_BYTES, MAX_RATIO * packed)


def _checked(entry: Entry, packed: int) -> Entry:
    """The entry, refused where it is too large for its packed size or at all."""
    if entry.size > most_unpacked(packed):
        return replace(entry, refused=f"zip bomb: {packed} bytes that unpack to {entry.size}")
    if entry.size > MAX_FILE_BYTES and not is_archive(entry.name):
        return replace(entry, refused=f"larger than {MAX_FILE_BYTES >> 20} MB")
    return entry


def is_archive(name: str) -> bool:
    """True for a file that its name calls an archive."""
    return name.lower().endswith(_ARCHIVES)


def _is_system(name: str) -> bool:
    """True if a part of a path is hidden or belongs to an operating system."""
    return any(
        (part.startswith(".") and part not in (".", "..")) or part.lower() in _SYSTEM_NAMES for part in name.split("/")
    )
