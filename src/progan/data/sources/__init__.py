"""Registry of all kinds of sources. A new one is a function in a file of its own (base.py describes it) and one line in
SOURCES.
"""

import dataclasses
import os
import struct
import zlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from tokenize import TokenError
from typing import Any
from zipfile import BadZipFile

from progan.config import PrepareConfig
from progan.data.dataset import Manifest
from progan.data.sources.archives import is_archive
from progan.data.sources.arrays import is_idx_labels, open_hdf5, open_idx, open_npy
from progan.data.sources.base import NoLabelsError, Opener, Source, Unreadable
from progan.data.sources.cifar import open_cifar
from progan.data.sources.drawn import open_avatars, open_stacked
from progan.data.sources.folder import open_archive, open_folder, open_picture, walk
from progan.data.sources.labels import is_table, tables_beside
from progan.data.sources.lmdb import open_lmdb
from progan.data.sources.named import NAMES, SETS, locate, shadow_note
from progan.data.sources.parquet import open_parquet, open_split
from progan.data.sources.pictures import is_picture
from progan.data.sources.remote import copied, is_remote, remote_identity
from progan.data.sources.tfrecords import open_tfrecords
from progan.errors import DatasetError, did_you_mean
from progan.plugins import Registry

_DAMAGED = (
    ValueError, LookupError, EOFError, OverflowError, SyntaxError, TokenError, struct.error, zlib.error, BadZipFile,
    RuntimeError,
)  # fmt: skip
"""Errors that numpy and the standard library raise at a file that is not what it begins as (RuntimeError: at zips that
are encrypted or too new)."""


def open_source(source: str, scratch: Path, config: PrepareConfig) -> Source:
    """The source that a user named; the first kind of SOURCES that knows it opens it. Raises DatasetError.

    `scratch` is a folder for what must be unpacked to be read; it is made when needed.
    """
    if (named := locate(source)) is not None:
        if named.split is not None:
            inner = open_split(Path(named.path), named.split, config)
        else:
            inner = open_source(named.path, scratch, config)
        return dataclasses.replace(inner, name=named.name, notes=(f"{source} is {named.path}", *inner.notes))
    if is_remote(source):
        inner = open_source(copied(source, scratch), scratch, config)
        return dataclasses.replace(inner, notes=(f"{source} was copied to be read", *inner.notes))
    word = f"{source.partition(':')[0]}:"
    if word not in SOURCES:
        _require_place(source)
    by_content = [opener for kind, opener in _OWN.items() if not kind.endswith(":")]
    for opener in [SOURCES[word]] if word in SOURCES else by_content:
        try:
            found = _opened(opener, source, scratch, config)
        except Unreadable as error:
            raise DatasetError(f"{source} cannot be read: {error}") from None
        except _DAMAGED as error:
            raise DatasetError(f"{source} is damaged ({error}). Copy or download it again") from None
        if found:
            if not found.entries:
                raise DatasetError(f"{source} holds no images{_instead(Path(source))}")
            if config.labels not in ("auto", "none") and not found.has_files:
                raise DatasetError(f"--labels {config.labels} is for image files; {source} brings its own labels")
            if config.label_column is not None and not found.has_columns:
                raise DatasetError(f"--label-column is for tables; {source} has none")
            if config.partition not in ("auto", "all") and not found.has_partitions:
                raise DatasetError(f"--partition {config.partition}: {source} does not come in partitions")
            notes = (*shadow_note(source, SOURCES), *found.notes, *_not_used(Path(source), found))
            found = dataclasses.replace(found, notes=notes)
            return found if config.labels != "none" else dataclasses.replace(found, labels=None)
    raise DatasetError(f"{source} {_what_it_is(Path(source))}")


def _opened(opener: Opener, source: str, scratch: Path, config: PrepareConfig) -> Source | None:
    """What the opener makes of the source; without labels, and with a note, where those that it brings are none."""
    try:
        return opener(source, scratch, config)
    except NoLabelsError as error:
        if config.labels != "auto" or config.label_column is not None:
            raise
        found = opener(source, scratch, dataclasses.replace(config, labels="none"))
        return found and dataclasses.replace(found, notes=(*found.notes, f"{error}. Prepared without labels"))


def _not_used(path: Path, found: Source) -> list[str]:
    """A note on pictures and archives in a folder that was taken for something else than a folder of pictures."""
    if found.has_files or not path.is_dir():
        return []
    others = [name for name, _ in walk(path) if is_picture(name) or is_archive(name)]
    more = f" and {len(others) - 3:,} more" if len(others) > 3 else ""
    return [f"not used, though in {path}: {', '.join(others[:3])}{more}"] if others else []


def _open_inside(source: str, scratch: Path, config: PrepareConfig) -> Source | None:
    """A folder without pictures of its own around one thing that is known, as downloads and torchvision make them."""
    path = Path(source)
    if not path.is_dir():
        return None
    folders: dict[Path, None] = {}
    downloads: dict[Path, None] = {}
    for name, file in walk(path):
        if is_picture(name):
            return None
        if any(PurePosixPath(name.lower()).match(mark) for mark in _FOLDER_MARKS):
            folders[Path(file).parent] = None
        elif any(PurePosixPath(name.lower()).match(mark) for mark in _FILE_MARKS):
            downloads[Path(file)] = None
    found = folders or downloads  # a download may still lie beside what was unpacked from it
    if not found or list(found) == [path]:
        return None
    if len(found) > 1:
        listed = ", ".join(map(str, list(found)[:5]))
        raise DatasetError(f"{source} holds several data sets. Name one of {listed}{' …' if len(found) > 5 else ''}")
    (inside,) = found
    opened = open_source(str(inside), scratch, config)
    return dataclasses.replace(opened, notes=(f"the images are those of {inside}", *opened.notes))


def _what_it_is(path: Path) -> str:
    """What a file is that is no source, and what to name instead."""
    if Manifest.is_in(path.parent):
        return f"is a part of a prepared dataset. Name its folder, {path.parent}"
    if path.suffix == ".safetensors":
        return "is a snapshot or a state of a run, not images"
    if is_idx_labels(path):
        return "holds labels, not images. Name the file of the images (…-images-idx3-ubyte), or the folder of both"
    if is_picture(path.name):
        return "is no picture that can be read"
    if is_table(path.name):
        return "is a table, not images. Name the folder of the images, and the table with --labels"
    return "is neither an archive nor an array. Put the images into a folder and name the folder"


def _instead(path: Path) -> str:
    """End of the error on a folder without images: what it holds of what progan made."""
    left_out: list[str] = []
    if path.is_dir():
        for _ in walk(path, left_out):
            pass
    return f" but {', '.join(left_out[:3])}. Name that, or the images" if left_out else ". Name a folder that has some"


def _require_place(source: str) -> None:
    """Raises DatasetError for what is neither a file nor a folder. A pipe cannot be read twice, as all sources are."""
    if not source:
        raise DatasetError(f"no SOURCE is named. {_KINDS}")
    if not os.path.exists(source):
        raise DatasetError(f"{source} does not exist{_nearest(source)}. {_KINDS}")
    if not (os.path.isfile(source) or os.path.isdir(source)):
        raise DatasetError(f"{source} is neither a file nor a folder. Save it as a file first")


def _nearest(source: str) -> str:
    """`; did you mean mnist`, for a misspelt name of a set."""
    return did_you_mean(source, SETS).removesuffix("?")


_KINDS = (
    "Name a folder, an archive, an array or another SOURCE of `progan prepare --help`, or a published set: "
    f"{', '.join(NAMES)}"
)
_FOLDER_MARKS = (
    "*images*idx3-ubyte*", "data_batch_1*", "train.bin", "cifar-100-python/train", "*.tfrecords", "data.mdb",
    "*.parquet",
)  # fmt: skip
_FILE_MARKS = ("cifar-10*.tar.gz", "*.npz", "*.h5", "*.hdf5")
"""Files by which a data set is known that lies inside the folder that was named, in small letters: its folder, or the
file itself."""

_OWN: dict[str, Opener] = {
    "avatars:": open_avatars,
    "stacked:": partial(open_stacked, opener=open_source),
    "idx": open_idx,
    "cifar": open_cifar,
    "tfrecords": open_tfrecords,
    "lmdb": open_lmdb,
    "parquet": open_parquet,
    "npy": open_npy,
    "hdf5": open_hdf5,
    "inside": _open_inside,
    "archive": open_archive,
    "picture": open_picture,
    "folder": open_folder,
}
SOURCES = Registry("sources", _OWN, lambda name, entry: None if callable(entry) else "it is no function", end=":")
"""Kind -> opener. A kind that ends in a colon is a word that users write, alone or followed by a colon and an argument
(`avatars`, `avatars:5000`, `stacked:FILE`). The others are files and folders, known by their content; they are asked in
this order."""


def identity(source: str, left_out: list[str] | None = None) -> Iterator[Any]:
    """JSON values that are equal as long as the source is: names, sizes and times of its files; no image is read.

    `left_out` gets the folders that are left out (`folder.walk`). Raises DatasetError where there is no such source.
    """
    word, _, argument = source.partition(":")
    path = Path(source)
    if (named := locate(source)) is not None:
        yield [named.name, named.split]
        yield from identity(named.path, left_out)
    elif is_remote(source):
        yield from remote_identity(source)
    elif word == "stacked":
        yield word
        yield from identity(argument, left_out)
    elif f"{word}:" in SOURCES:
        yield source
        if f"{word}:" not in _OWN and os.path.exists(argument):  # the file of a source from another package
            yield from identity(argument, left_out)
    elif path.is_dir():
        yield str(path.resolve())
        yield from ([name, *file_identity(file)] for name, file in walk(path, left_out))
        yield from map(file_identity, tables_beside(path))
    else:
        _require_place(source)
        yield str(path.resolve())
        yield from map(file_identity, [path, *tables_beside(path), *sorted(path.parent.glob("*labels*"))])


def file_identity(path: str | Path) -> list[Any]:
    """Name of a file and, if it exists, its size in bytes and the time of its last change in nanoseconds."""
    name = os.path.basename(path)
    try:
        status = os.stat(path)
    except (OSError, ValueError):  # ValueError: a name that no file can have
        return [name]
    return [name, status.st_size, status.st_mtime_ns]
