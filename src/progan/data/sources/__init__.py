"""Registry of all kinds of sources. A new one is a function in a file of its own (base.py describes it) and one line in
SOURCES.
"""

import dataclasses
import os
import struct
import zlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from tokenize import TokenError
from typing import Any
from zipfile import BadZipFile

from progan.config import PrepareConfig
from progan.data.sources.arrays import open_cifar, open_hdf5, open_idx, open_npy
from progan.data.sources.base import Opener, Source
from progan.data.sources.drawn import open_avatars, open_stacked
from progan.data.sources.folder import open_archive, open_folder, open_stack_file, walk
from progan.data.sources.labels import tables_beside
from progan.data.sources.tfrecords import open_tfrecords
from progan.errors import DatasetError

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
    word = f"{source.partition(':')[0]}:"
    for kind, opener in SOURCES.items():
        if kind.endswith(":") and kind != word:
            continue
        try:
            found = opener(source, scratch, config)
        except _DAMAGED as error:
            raise DatasetError(f"{source} is damaged ({error}). Copy or download it again") from None
        if found:
            if not found.entries:
                raise DatasetError(f"{source} holds no images")
            if config.labels not in ("auto", "none") and not found.has_files:
                raise DatasetError(f"--labels {config.labels} is for image files; {source} brings its own labels")
            return found if config.labels != "none" else dataclasses.replace(found, labels=None)
    raise DatasetError(f"{source} is neither an archive nor an array. Put the images into a folder and name the folder")


SOURCES: dict[str, Opener] = {
    "avatars:": open_avatars,
    "stacked:": partial(open_stacked, opener=open_source),
    "idx": open_idx,
    "cifar": open_cifar,
    "tfrecords": open_tfrecords,
    "npy": open_npy,
    "hdf5": open_hdf5,
    "archive": open_archive,
    "stack": open_stack_file,
    "folder": open_folder,
}
"""Kind -> opener. A kind that ends in a colon is a word that users write, alone or followed by a colon and an argument
(`avatars`, `avatars:5000`, `stacked:FILE`). The others are files and folders, known by their content; they are asked in
this order."""


def identity(source: str) -> Iterator[Any]:
    """JSON values that are equal as long as the source is: names, sizes and times of its files; no image is read.

    Raises DatasetError where there is no such source.
    """
    word, _, argument = source.partition(":")
    path = Path(source)
    if word == "stacked":
        yield word
        yield from identity(argument)
    elif f"{word}:" in SOURCES:
        yield source
    elif path.is_dir():
        yield str(path.resolve())
        yield from ([name, *file_identity(file)] for name, file in walk(path))
    elif path.exists():
        yield str(path.resolve())
        yield from map(file_identity, [path, *tables_beside(path), *sorted(path.parent.glob("*labels*"))])
    else:
        raise DatasetError(f"{source} does not exist. Name a folder, a zip, an idx, npy or npz file, or `avatars`")


def file_identity(path: Path) -> list[Any]:
    """Name of a file and, if it exists, its size in bytes and the time of its last change in nanoseconds."""
    status = path.stat() if os.path.exists(path) else None
    return [path.name, status.st_size, status.st_mtime_ns] if status else [path.name]
