"""Image files in a folder or an archive as a source: which of them are images, and which tables give their labels."""

import os
import tarfile
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Set
from contextlib import suppress
from dataclasses import replace
from functools import partial
from operator import attrgetter
from pathlib import Path

import numpy as np
import numpy.typing as npt

from progan.config import PrepareConfig
from progan.data.dataset import FILE_NAME, FORMAT
from progan.data.sources import labels as tables
from progan.data.sources.archives import DAMAGED, Entry, Lister, Refused, checked, entry_bytes, is_archive, is_system
from progan.data.sources.base import Labels, NoLabelsError, Source, Unreadable
from progan.data.sources.pictures import MANY_PICTURES, FileReader, is_named_picture, is_opened, is_picture, paged
from progan.data.sources.stacks import HEAD_BYTES, kind_of_stack
from progan.errors import DatasetError
from progan.files import printable

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
MAX_TABLE_BYTES = 2**26  # of a table of labels that was not named
CELEBA_SIZE = (178, 218)
"""Width and height of CelebA's aligned pictures, in pixels."""
_LOOKED_AT = 8  # of CelebA's pictures, to tell which they are


def open_folder(source: str, scratch: Path, config: PrepareConfig) -> Source | None:
    """A folder with its subfolders; archives in it are looked into."""
    path = Path(source)
    if not path.is_dir():
        return None
    lister = Lister(scratch)
    entries: list[Entry] = []
    for name, file in walk(path):
        try:
            entry = Entry(name, file, os.stat(file).st_size)
        except OSError as error:  # a link to nothing, or a file that went away meanwhile
            entries.append(Entry(name, file, 0, refused=f"{error.strerror}: {printable(os.path.realpath(file))}"))
            continue
        if is_archive(name):
            entries += lister.inner(entry, partial(Path, file), 1)
        else:  # stacks are read page by page, so that their size does not matter
            entries.append(entry if name.lower().endswith(MANY_PICTURES) else checked(entry, entry.size))
    return _source(path, entries, config)


def open_archive(source: str, scratch: Path, config: PrepareConfig) -> Source | None:
    """A zip or tar."""
    path = Path(source)
    if not path.is_file():
        return None
    try:
        if not (is_archive(path.name) or zipfile.is_zipfile(path) or tarfile.is_tarfile(path)):
            return None
        entries = list(Lister(scratch).members(path, "", 0))
    except Refused as error:
        raise DatasetError(f"{path} is refused: {error}") from None
    except DAMAGED as error:
        raise DatasetError(f"{path} is a damaged archive ({error}). Download or pack it again") from None
    return _source(path, entries, config)


def _source(path: Path, entries: list[Entry], config: PrepareConfig) -> Source:
    entries = paged(sorted(entries, key=attrgetter("name")))
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
    if kind in (None, "npy") and not is_opened(path):
        return None
    found = _source(path, [Entry(path.name, str(path), path.stat().st_size)], config)
    several = len(found.entries) > 1
    return found if several else replace(found, notes=(*found.notes, f"{path.name} is a single picture"))


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
        except (DatasetError, Unreadable) as error:
            with suppress(Unreadable):  # some other csv or json is none of our business
                if tables.names_files(entry_bytes(table), [entry.name for entry in images]):
                    unused.append(table)
                    notes.append(f"no labels are taken from it: {error}")
        else:
            rest = [other.name for other in found if other is not table]
            also = [f"labels are from {table.name}; not used: {', '.join(rest[:5])}"] if rest else []
            return *labelled, also
    if column is not None:
        reason = notes[-1] if unused else f"no csv or json file in {source} or beside it names the images"
        raise DatasetError(f"--label-column {column}: {reason}")
    # 3. Folders.
    images = _without(entries, unused)
    names = [entry.name for entry in images]
    are_named = [entry.page is not None or is_named_picture(entry.name) for entry in images]
    by_folder, more = tables.folder_labels(names, are_named if any(are_named) else [True] * len(images))
    if by_folder is None:
        return images, None, [*notes, *more]
    labels, known = by_folder
    return _refused(images, known, "in no folder of a class"), labels, notes


def _without(entries: list[Entry], others: list[Entry]) -> list[Entry]:
    ids = set(map(id, others))
    return [entry for entry in entries if id(entry) not in ids]


def _file(path: Path) -> Entry:
    """A file on disk by itself."""
    return Entry(printable(path.name), str(path), path.stat().st_size)


def _by_table(
    table: str, entries: list[Entry], labels_of: Callable[[list[str]], tuple[Labels, list[bool]]]
) -> tuple[list[Entry], Labels]:
    """The candidates, those refused that the table does not know, and the labels that it gives their names."""
    labels, known = labels_of([entry.name for entry in entries])
    return _refused(entries, known, f"no label in {table}"), labels


def _refused(entries: list[Entry], known: list[bool], reason: str) -> list[Entry]:
    """The candidates, refused where they have no label."""
    return [
        entry if is_known else replace(entry, refused=entry.refused or reason)
        for entry, is_known in zip(entries, known, strict=True)
    ]


# --- what lies in folders and archives


def walk(
    folder: str | Path, left_out: list[str] | None = None, prefix: str = "", above: frozenset[str] = frozenset()
) -> Iterator[tuple[str, str]]:
    """Name (relative, with slashes) and path of every file that is not hidden or the system's; links are followed, and
    those that lead nowhere are named like files.

    What progan made is no image: folders with runs, comparisons and prepared datasets are put on the list `left_out`
    instead, as `runs/00000-digits (a run)`. Where `folder` is itself a run, what the run makes is left out.
    """
    real = os.path.realpath(folder)
    if real in above:  # a link to a folder around it
        return
    try:
        children = sorted(os.scandir(folder), key=lambda child: child.name, reverse=True)
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
    while children:  # from the end, so that the list shrinks as that of its receiver grows
        child = children.pop()
        if is_system(child.name) or (ours and child.name in _MADE):
            continue
        if child.is_symlink() and not os.path.exists(child.path):  # of a disk that is not there: counted, not lost
            yield printable(prefix + child.name), child.path
        elif child.is_dir():
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
