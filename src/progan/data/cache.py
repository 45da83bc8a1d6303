"""The cache: datasets prepared for `--data`, classifiers that metrics have trained, runtimes fetched for exports, and
what `prepare --to` could not send.
"""

import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from progan.config import PrepareConfig
from progan.data.dataset import Dataset, Manifest
from progan.data.prepare import Progress, left_out_note, prepare, request_key
from progan.data.prepare.report import PrepareReport, remarks
from progan.data.sources.named import preparation
from progan.errors import DatasetError
from progan.files import folder_name
from progan.options import parse_json
from progan.progress import Log, silent


@dataclass(frozen=True)
class CacheEntry:
    """A folder or file of the cache."""

    path: Path
    name: str
    bytes: int
    complete: bool
    """False: being prepared, interrupted, damaged or of another version."""


def open_data(
    source: str | os.PathLike[str],
    config: PrepareConfig | None = None,
    log: Log = silent,
    progress: Progress | None = None,
) -> Dataset:
    """The dataset that `--data` names: a prepared one, or a source, which is prepared into the cache once.

    `log` gets one line where the cache is used. Raises DatasetError as `prepare` and `Dataset.open` do.
    """
    config, source = config or preparation(source), os.fspath(source)
    if Manifest.is_in(Path(source)):
        if config.label_column is not None:
            log(f"note: {source} is prepared already: --label-column changes nothing")
        return Dataset.open(source)
    word = Path(source).resolve().name.split(".")[0]
    name = "".join(letter if letter.isalnum() or letter in "-_" else "-" for letter in folder_name(word)) or "images"
    left_out: list[str] = []
    folder = cache_folder() / f"{name}-{request_key(source, config, left_out)}"
    for note in left_out_note(left_out):
        log(f"note: {note}")
    dataset = None
    if Manifest.is_in(folder):
        try:
            dataset = Dataset.open(folder)
            log(f"{source} was prepared before: {folder}")
        except DatasetError as error:
            log(f"warning: {error}. That is done now")
            shutil.rmtree(folder)
    if dataset is None:
        log(f"preparing {source} into {folder}")
        for remark in remarks(prepare(source, folder, config, progress)):
            log(remark)
        dataset = Dataset.open(folder)
    for note in preparation_notes(dataset):
        log(f"note: {note}")
    return dataset


def preparation_notes(dataset: Dataset) -> tuple[str, ...]:
    """Lines on what was seen and not used when the images were prepared."""
    try:
        return parse_json(PrepareReport, dataset.manifest.preparation.get("report")).notes
    except ValueError:  # it need not say how it was prepared
        return ()


def cache_folder(kind: str = "datasets") -> Path:
    """Path of a kind of files in $PROGAN_CACHE, or in `progan` in the platform's cache folder of the user."""
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
    """All entries of the cache, each by name: datasets, classifiers, runtimes of exported pages, and what could not be
    sent to object storage.
    """
    entries = []
    for folder in _folders("datasets"):
        try:
            name, complete = Manifest.read(folder).name, True
        except DatasetError:
            name, complete = folder.name, False
        entries.append(CacheEntry(folder, name, _size(folder), complete))
    files = sorted(cache_folder("classifiers").glob("*.safetensors"))
    entries += [CacheEntry(file, file.name, file.stat().st_size, complete=True) for file in files]
    for kind, complete in (("runtimes", True), ("unsent", False)):
        entries += [CacheEntry(folder, folder.name, _size(folder), complete) for folder in _folders(kind)]
    return entries


def _folders(kind: str) -> list[Path]:
    return [path for path in sorted(cache_folder(kind).glob("*")) if path.is_dir()]


def _size(folder: Path) -> int:
    """Bytes of all files in a folder and those below it."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def clear_cache() -> list[CacheEntry]:
    """Delete everything in the cache and return the list of what that was."""
    entries = list_cache()
    for entry in entries:
        if entry.path.is_dir():
            shutil.rmtree(entry.path)
        else:
            entry.path.unlink()
    return entries
