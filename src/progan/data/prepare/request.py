"""A digest of what was asked to be prepared, to know it again: the source as it lies there, and the settings."""

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from progan.config import PrepareConfig
from progan.data.sources.folder import walk
from progan.data.sources.labels import tables_beside
from progan.errors import DatasetError

_VERSION = 2  # to be raised when the same request gives other pixels: 2, large JPEGs are drafted more often


def request_key(source: str, config: PrepareConfig) -> str:
    """Equal as long as source and settings are; changes with the size or time of any file, without reading it."""
    settings = dataclasses.asdict(config)
    del settings["workers"]
    digest = hashlib.sha256(json.dumps([_VERSION, settings], sort_keys=True).encode())
    for item in _identity(source):
        digest.update(json.dumps(item).encode())
    if config.labels not in ("auto", "none"):
        digest.update(json.dumps(_file(Path(config.labels))).encode())
    return digest.hexdigest()[:16]


def _identity(source: str) -> Iterator[Any]:
    path = Path(source)
    if source.partition(":")[0] == "avatars":
        yield source
        drawing_code = sorted((Path(__file__).parent / "avatars").glob("*.py"))
        yield from (file.read_text(encoding="utf-8") for file in drawing_code)
    elif source.partition(":")[0] == "stacked":
        yield "stacked"
        yield from _identity(source.partition(":")[2])
    elif path.is_dir():
        yield str(path.resolve())
        yield from ([name, *_file(file)] for name, file in walk(path))
    elif not path.exists():
        raise DatasetError(f"{source} does not exist. Name a folder, a zip, an idx, npy or npz file, or `avatars`")
    else:
        yield str(path.resolve())
        yield from (_file(file) for file in [path, *tables_beside(path), *sorted(path.parent.glob("*labels*"))])


def _file(path: Path) -> list[Any]:
    status = path.stat() if os.path.exists(path) else None
    return [path.name, status.st_size, status.st_mtime_ns] if status else [path.name]
