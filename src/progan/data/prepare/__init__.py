"""From raw images to a prepared dataset: the only place that decodes, crops and resizes.

Worker processes decode the candidates, chunk by chunk; this process alone writes. Whoever stops it, the same call goes
on from there, and the bytes are the same as if nothing had happened, whatever the number of workers.
"""

import contextlib
import dataclasses
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from progan.config import PrepareConfig
from progan.data.manifest import LabelKind, Manifest
from progan.data.prepare.decode import decode_chunk
from progan.data.prepare.ledger import IMAGES, SKIPPED, read_ledger
from progan.data.prepare.output import UNFINISHED, Output, Unfinished
from progan.data.prepare.request import request_key
from progan.data.prepare.survey import survey
from progan.data.prepare.workers import core_count, ordered_map
from progan.data.sources import open_source
from progan.data.sources.base import Source
from progan.errors import DatasetError
from progan.files import LOCK_NAME, locked
from progan.options import parse_json

FILE_LIMIT = 4 * 10**9
_SCRATCH = ".scratch"  # hidden, so that it is nobody else's
_CHUNK_BYTES = 4 * 10**6
_CHUNK_IMAGES = 256
_FEW_IMAGES = 16

Progress = Callable[[int, int], None]
"""Told how many candidates are done with, of how many."""


@dataclass(frozen=True)
class PrepareReport:
    """What `prepare` did."""

    out: str
    source: str
    state: Literal["prepared", "continued", "already there"]
    read: int
    """Candidates: files or rows of an array."""
    count: int
    """Images in the dataset."""
    skipped: Mapping[str, int]
    """Reason -> how many; the files are named in skipped.csv."""
    upscaled: int
    """Images that are smaller than the resolution and were enlarged."""
    resolutions: tuple[int, ...]
    channels: int
    label_kind: LabelKind | None
    label_names: tuple[str, ...]
    bytes: int
    """On disk."""
    seconds: float


def prepare(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    config: PrepareConfig | None = None,
    progress: Progress | None = None,
    file_limit: int = FILE_LIMIT,
) -> PrepareReport:
    """Make a prepared dataset of a source (sources.SOURCES) in the folder `out`, or finish one that was begun there.

    `file_limit`: bytes above which an array is put into several files.
    """
    config = config or PrepareConfig()
    source, out = os.fspath(source), Path(out)
    if Manifest.is_in(Path(source)):
        raise DatasetError(f"{source} is prepared already. Use it as it is, or prepare the images it was made from")
    key = request_key(source, config)
    if Path(source).is_dir() and out.resolve().is_relative_to(Path(source).resolve()):
        raise DatasetError(f"{out} lies inside {source}, among the images to be read. Choose another place")
    try:
        with locked(out):
            if Manifest.is_in(out):
                return _earlier(out, key)
            try:
                return _prepare(source, out, config, key, progress, file_limit)
            finally:
                shutil.rmtree(out / _SCRATCH, ignore_errors=True)
    except OSError as error:
        raise DatasetError(f"{out} cannot be prepared: {error}. Mend that; the same command then goes on") from None


def _earlier(out: Path, key: str) -> PrepareReport:
    manifest = Manifest.read(out)
    if manifest.preparation.get("key") != key:
        raise DatasetError(
            f"{out} holds a dataset made from another source or with other settings. Choose another folder or delete it"
        )
    (out / UNFINISHED).unlink(missing_ok=True)  # if that was all that a killed process had left to do
    try:
        report = parse_json(PrepareReport, manifest.preparation["report"])
    except (KeyError, ValueError) as error:
        raise DatasetError(f"{out} does not say how it was prepared ({error}). Prepare the images again") from None
    return dataclasses.replace(report, out=str(out), state="already there")


def _prepare(
    source: str, out: Path, config: PrepareConfig, key: str, progress: Progress | None, file_limit: int
) -> PrepareReport:
    started = time.monotonic()
    note = Unfinished.load(out, key)
    continued = note is not None
    if note is None:
        _clear(out)
    opened = open_source(source, out / _SCRATCH, config)
    if config.max_images is not None:
        opened = dataclasses.replace(opened, entries=opened.entries[: config.max_images])
    note = note or Unfinished(key, survey(opened, config))
    _check_space(out, note, opened)
    with Output(out, note, opened, file_limit) as output:
        _decode_all(opened, output, config, progress)
        arrays = output.finish()
        note = output.note
    report = PrepareReport(
        out=str(out),
        source=source,
        state="continued" if continued else "prepared",
        read=note.read,
        count=note.count,
        skipped=dict(Counter(row["reason"] for row in read_ledger(out / SKIPPED)).most_common()),
        upscaled=note.upscaled,
        resolutions=note.target.resolutions,
        channels=note.target.channels,
        label_kind=opened.labels.kind if opened.labels else None,
        label_names=opened.labels.names if opened.labels else (),
        bytes=sum(record.bytes for records in arrays.values() for record in records),
        seconds=time.monotonic() - started,
    )
    Manifest(
        name=opened.name,
        count=report.count,
        channels=report.channels,
        resolutions=report.resolutions,
        label_kind=report.label_kind,
        label_names=report.label_names,
        source=Path(source).name,
        arrays=arrays,
        preparation={"key": key, "settings": dataclasses.asdict(config), "report": dataclasses.asdict(report)},
    ).write(out)
    if not report.skipped:
        (out / SKIPPED).unlink()
    (out / UNFINISHED).unlink()
    return report


def _decode_all(source: Source, output: Output, config: PrepareConfig, progress: Progress | None) -> None:
    """Decode what is still to be done, in order."""
    target, total = output.note.target, len(source.entries)
    workers = config.workers or core_count()
    image_bytes = target.resolution**2 * target.channels
    # Few large chunks, but enough for every worker to have several; a handful of images is not worth a process.
    size = max(1, min(_CHUNK_IMAGES, _CHUNK_BYTES // image_bytes, max(_FEW_IMAGES, total // (4 * workers))))
    parts = [source.entries[start : start + size] for start in range(output.note.read, total, size)]
    tasks = ((source.reader, part, target) for part in parts)
    with contextlib.closing(ordered_map(decode_chunk, tasks, min(workers, len(parts)))) as chunks:
        for part, chunk in zip(parts, chunks, strict=True):
            if config.strict and chunk.skipped:
                position, error = chunk.skipped[0]
                raise DatasetError(f"{part[position]}: {error}. Mend or remove it, or leave out --strict")
            output.append(chunk, len(part))
            if progress:
                progress(output.note.read, total)
    if output.note.count == 0:
        raise DatasetError(f"none of the {total} files of {source.name} is an image that can be read")


def _check_space(out: Path, note: Unfinished, source: Source) -> None:
    """Say now what would fail hours later."""
    pixels = sum(resolution**2 for resolution in note.target.resolutions) * note.target.channels
    needed, free = (len(source.entries) - note.read) * pixels, shutil.disk_usage(out).free
    if needed > free:
        raise DatasetError(
            f"{out} needs {needed / 1e9:.1f} GB and its disk has {free / 1e9:.1f} GB. "
            "Choose another disk, a lower --resolution or --max-images"
        )


def _clear(out: Path) -> None:
    """Make way: an unfinished preparation of something else is dropped, anything else in the folder is respected."""
    if (out / UNFINISHED).exists():
        for pattern in ("images-*.npy", "labels*.npy", IMAGES, SKIPPED, UNFINISHED):
            for path in out.glob(pattern):
                path.unlink()
    shutil.rmtree(out / _SCRATCH, ignore_errors=True)  # of a killed process
    if any(path.name != LOCK_NAME for path in out.iterdir()):
        raise DatasetError(f"{out} is not empty. Choose another folder for the prepared images")
