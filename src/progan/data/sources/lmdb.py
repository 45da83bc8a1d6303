"""LMDB folders as LSUN's: every value is an encoded image.

An environment is a folder with `data.mdb`, which is mapped into memory; it is opened for reading only, without its lock
file. StyleGAN2's Python ports store every image in several sizes, under keys such as 256-00042: the largest is read.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from progan.config import PrepareConfig
from progan.data.sources.archives import MAX_FILE_BYTES
from progan.data.sources.base import Picture, Source, Unreadable, import_extra
from progan.data.sources.pictures import open_image
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
                yield _image(transaction, key.encode("latin-1"))


def _image(transaction: Any, key: bytes) -> Picture | Unreadable:
    try:
        value = transaction.get(key)
        if value is None or len(value) > MAX_FILE_BYTES:
            raise Unreadable("refused", "no value, or too large a one")
        return open_image(value)
    except Unreadable as error:
        return error
    except Exception as error:  # lmdb.Error, of a module that may be missing
        return Unreadable("damaged", str(error))


def open_lmdb(source: str, scratch: Path, config: PrepareConfig) -> Source | None:
    """A folder with `data.mdb`, or that file."""
    path = Path(source)
    if path.name == _DATA:
        path = path.parent
    if not (path / _DATA).is_file():
        return None
    import_extra("lmdb", "lmdb", "LMDB folders need it")
    keys = [key for key in _keys(path) if key not in _COUNTS]
    sizes = [matched and int(matched[1]) for matched in map(_SIZED.fullmatch, keys)]
    if keys and all(sizes):
        keys = [key for key, size in zip(keys, sizes, strict=True) if size == max(filter(None, sizes))]
    name = printable(path.resolve().name.removesuffix("_lmdb").removesuffix(".lmdb"))
    return Source(name, LmdbReader(str(path)), [key.decode("latin-1") for key in keys])


def _keys(path: Path) -> list[bytes]:
    """All keys, in order, listed by a child process: what lies behind the end of a file that was cut off cannot be
    caught as an error, but ends the process that reads it.
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run([sys.executable, "-c", _LIST, str(path)], capture_output=True, env=environment)
    if done.returncode != 0:
        lines = done.stderr.decode("utf-8", "backslashreplace").strip().splitlines()
        reason = lines[-1] if lines else "it refers to what lies outside of it"
        raise DatasetError(f"{path} is no LMDB that can be read ({reason}). Copy or download it again")
    return [bytes.fromhex(line) for line in done.stdout.decode().splitlines()]


_LIST = """
import os, sys, lmdb
path = sys.argv[1]
with lmdb.open(path, readonly=True, lock=False, readahead=False, create=False) as environment:
    size, pages = os.path.getsize(os.path.join(path, "data.mdb")), environment.info()["last_pgno"] + 1
    is_short = size < pages * environment.stat()["psize"]  # then its values are looked at, too
    with environment.begin(buffers=True) as transaction:
        for key, value in transaction.cursor():
            if is_short and len(value):
                value[0], value[-1]
            print(bytes(key).hex())
"""


def _environment(path: str) -> Any:
    """The environment, opened for reading. Raises Unreadable where lmdb is missing."""
    lmdb = import_extra("lmdb", "lmdb", "LMDB folders need it")
    changed = (Path(path) / _DATA).stat().st_mtime_ns
    # A process must not open one twice, so that it stays open; one that changed meanwhile is opened again.
    if path not in _OPEN or _OPEN[path][0] != changed:
        if path in _OPEN:
            _OPEN.pop(path)[1].close()
        _OPEN[path] = changed, lmdb.open(path, readonly=True, lock=False, readahead=False, create=False)
    return _OPEN[path][1]


_OPEN: dict[str, tuple[int, Any]] = {}
"""Path -> time of its last change when it was opened, and the environment."""
