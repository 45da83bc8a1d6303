"""What is kept for the next time: datasets prepared of sources given to `--data`, and classifiers of metrics."""

import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from progan.config import PrepareConfig
from progan.data.dataset import Dataset
from progan.data.manifest import Manifest
from progan.data.prepare import Progress, prepare
from progan.data.prepare.request import request_key


@dataclass(frozen=True)
class CacheEntry:
    """A folder or file of the cache."""

    path: Path
    name: str
    bytes: int
    complete: bool
    """False: being prepared, or interrupted."""


def open_data(
    source: str | os.PathLike[str],
    config: PrepareConfig | None = None,
    tell: Callable[[str], None] = lambda message: None,
    progress: Progress | None = None,
) -> Dataset:
    """What `--data` names: a prepared dataset, or a source, which is prepared into the cache once.

    `tell` is called with one line for people where the cache is used.
    """
    config = config or PrepareConfig()
    source = os.fspath(source)
    if Manifest.is_in(Path(source)):
        return Dataset.open(source)
    folder = cache_folder() / f"{_name(source)}-{request_key(source, config)}"
    if not Manifest.is_in(folder):
        tell(f"preparing {source} into {folder}")
        prepare(source, folder, config, progress)
    else:
        tell(f"{source} was prepared before: {folder}")
    return Dataset.open(folder)


def cache_folder(kind: str = "datasets") -> Path:
    """$PROGAN_CACHE, or `progan` in the user's cache folder of the platform, and in it `datasets` or another kind."""
    if chosen := os.environ.get("PROGAN_CACHE"):
        base = Path(chosen)
    elif sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local")) / "progan" / "cache"
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches" / "progan"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "progan"
    return base / kind


def list_cache() -> list[CacheEntry]:
    """What the cache holds, by name: datasets, and the classifiers that metrics have trained."""
    datasets, classifiers = cache_folder(), cache_folder("classifiers")
    folders = [path for path in sorted(datasets.iterdir()) if path.is_dir()] if datasets.is_dir() else []
    files = sorted(classifiers.glob("*.safetensors"))
    trained = [CacheEntry(path, path.name, path.stat().st_size, complete=True) for path in files]
    return [_entry(path) for path in folders] + trained


def clear_cache() -> list[CacheEntry]:
    """Delete everything in the cache, and say what that was."""
    entries = list_cache()
    for entry in entries:
        if entry.path.is_dir():
            shutil.rmtree(entry.path)
        else:
            entry.path.unlink()
    return entries


def _entry(path: Path) -> CacheEntry:
    complete = Manifest.is_in(path)
    name = Manifest.read(path).name if complete else path.name
    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    return CacheEntry(path, name, size, complete)


def _name(source: str) -> str:
    """The beginning of a cache folder's name, for people."""
    name = Path(source).resolve().name.split(".")[0]
    return "".join(letter if letter.isalnum() or letter in "-_" else "-" for letter in name) or "images"
