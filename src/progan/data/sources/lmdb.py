"""LMDB folders as LSUN's: every value is an encoded image.

An environment is a folder with `data.mdb`, which is mapped into memory; it is opened for reading only, without its lock
file. StyleGAN2's Python ports store every image in several sizes, under keys such as 256-00042: the largest is read.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from progan.config import PrepareConfig
from progan.data.sources.base import Picture, Source, Unreadable, import_extra
from progan.data.sources.folder import MAX_FILE_BYTES, open_image
from progan.errors import DatasetError
from progan.files import printable

_DATA = "data.mdb"
_SIZED = re.compile(rb"(\d+)-\d+")
_COUNTS = (b"length", b"num-samples", b"__len__", b"__keys__")  # keys that other programs put beside the images


@dataclass(frozen=True)
class LmdbReader:
    """Opens the values of keys, which are written as latin-1."""

    path: str

    def read(self, entries: Sequence[str], resolution: int) -> Iterator[Picture | Unreadable]:
        """Image of each key, in turn, not decoded yet."""
        with _environment(self.path).begin() as transaction:
            for key in entries:
                value = transaction.get(key.encode("latin-1"))
                try:
                    if value is None or len(value) > MAX_FILE_BYTES:
                        raise Unreadable("refused", "no value, or too large a one")
                    yield open_image(value)
                except Unreadable as error:
                    yield error


def open_lmdb(source: str, scratch: Path, config: PrepareConfig) -> Source | None:
    """A folder with `data.mdb`, or that file."""
    path = Path(source)
    if path.name == _DATA:
        path = path.parent
    if not (path / _DATA).is_file():
        return None
    try:
        with _environment(str(path)).begin() as transaction:
            keys = [key for key in transaction.cursor().iternext(keys=True, values=False) if key not in _COUNTS]
    except Unreadable:
        raise
    except Exception as error:  # lmdb.Error, of a module that may be missing
        raise DatasetError(f"{path} is no LMDB that can be read ({error}). Copy or download it again") from None
    sizes = [matched and int(matched[1]) for matched in map(_SIZED.fullmatch, keys)]
    if keys and all(sizes):
        keys = [key for key, size in zip(keys, sizes, strict=True) if size == max(filter(None, sizes))]
    name = printable(path.resolve().name.removesuffix("_lmdb").removesuffix(".lmdb"))
    return Source(name, LmdbReader(str(path)), [key.decode("latin-1") for key in keys])


def _environment(path: str) -> Any:
    """The environment, opened for reading. Raises Unreadable where lmdb is missing."""
    return _opened(path, (Path(path) / _DATA).stat().st_mtime_ns)


@lru_cache(maxsize=4)  # a process must not open one twice
def _opened(path: str, changed: int) -> Any:
    lmdb = import_extra("lmdb", "lmdb", "LMDB folders need it")
    return lmdb.open(path, readonly=True, lock=False, readahead=False, create=False)
