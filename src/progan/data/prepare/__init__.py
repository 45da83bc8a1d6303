"""From raw images to a prepared dataset: the only place that decodes, crops and resizes.

Worker processes decode the candidates, chunk by chunk; this process alone writes. After an interruption the same call
continues where it stopped. The bytes are the same however often that happens and whatever the number of workers.
"""

import dataclasses
import hashlib
import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np

from progan.config import FACE_OPTIONS, PrepareConfig
from progan.data.dataset import FILE_NAME, RANGE, Dataset, FileRecord, Manifest, row_types
from progan.data.prepare.decode import Coloured, decode_chunk
from progan.data.prepare.faces import load_detector
from progan.data.prepare.output import FILE_LIMIT, IMAGES, SKIPPED, UNFINISHED, Output, Unfinished, read_ledger
from progan.data.prepare.ranges import Unmeasured, decide
from progan.data.prepare.report import PrepareReport, range_of
from progan.data.prepare.survey import face_crop, measure, survey
from progan.data.prepare.workers import FEW_IMAGES, chunk_size, core_count, ordered_map
from progan.data.sources import file_identity, identity, open_source
from progan.data.sources.base import Source
from progan.data.sources.named import preparation
from progan.data.sources.remote import is_remote
from progan.errors import ConfigError, DatasetError
from progan.files import LOCK_NAME, locked, printable
from progan.options import parse_json

# To be raised when the same request gives other pixels or labels, also of avatars. 2: large JPEGs are drafted more
# often. 3: classes that are numbers are in their order; one range of values for a set, colour profiles.
# 4: more tables are understood, files beside folders of classes take these none; grey only where no picture has colour.
_VERSION = 4
_SCRATCH = ".scratch"  # hidden, so that it is no one else's
_CHUNK_BYTES = 4 * 10**6
_AT_ONCE = 4096  # labels
_GPU_WORKERS = 4  # processes that share a GPU, each of which takes some of its memory

Progress = Callable[[int, int], None]
"""Called with the number of candidates that are done with, and of all."""


def prepare(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    config: PrepareConfig | None = None,
    progress: Progress | None = None,
    file_limit: int = FILE_LIMIT,
) -> PrepareReport:
    """Make a prepared dataset of a source (sources.SOURCES) in the folder `out`, or finish one that was begun there.

    `file_limit`: bytes above which an array is put into several files. Raises DatasetError.
    """
    if is_remote(os.fspath(out)):
        raise DatasetError(
            f"{out}: a dataset to train on lies on a disk. Choose a folder, or send a file with --to npz"
        )
    source, out = os.fspath(source), Path(out)
    config = config or preparation(source)
    if not isinstance(config, PrepareConfig):
        raise ConfigError(f"give the options as a progan.PrepareConfig; got {config!r}")
    if Manifest.is_in(Path(source)):
        raise DatasetError(f"{source} is prepared already. Use it as it is, or prepare the images it was made from")
    if Path(source).is_dir() and out.resolve() == Path(source).resolve():
        raise DatasetError(f"{out} is the folder of the images. Choose another place, which may lie inside it")
    left_out: list[str] = []
    key = request_key(source, config, left_out)
    try:
        with locked(out):
            try:
                report = _earlier(out, key) or _prepare(source, out, config, key, progress, file_limit)
                return dataclasses.replace(report, notes=(*left_out_note(left_out), *report.notes))
            finally:
                shutil.rmtree(out / _SCRATCH, ignore_errors=True)
    except OSError as error:
        raise DatasetError(f"{out} cannot be prepared: {error}. Fix that and run the same command again") from None


def left_out_note(left_out: Sequence[str]) -> list[str]:
    """What is left out of a source, for people: nothing, or one line."""
    more = f" and {len(left_out) - 3} more" if len(left_out) > 3 else ""
    return [f"left out, since progan made it: {', '.join(left_out[:3])}{more}"] if left_out else []


def request_key(source: str, config: PrepareConfig, left_out: list[str] | None = None) -> str:
    """Digest of what is to be prepared: 16 hexadecimal digits, equal as long as source and settings are.

    It changes with the size or time of any file of the source, without reading it. `left_out` gets what the source has
    that progan made.
    """
    settings = dataclasses.asdict(config)
    del settings["workers"], settings["device"]
    if config.crop != "faces":
        for name in FACE_OPTIONS:
            del settings[name]
    digest = hashlib.sha256(json.dumps([_VERSION, settings], sort_keys=True).encode())
    for item in identity(source, left_out):
        digest.update(json.dumps(item).encode())
    if config.labels not in ("auto", "none"):
        digest.update(json.dumps(file_identity(Path(config.labels))).encode())
    return digest.hexdigest()[:16]


def _earlier(out: Path, key: str) -> PrepareReport | None:
    """The report of a dataset that the same request has made, whole; where it is damaged, it is deleted.

    Raises DatasetError for a dataset of another request.
    """
    if not Manifest.is_in(out):
        return None
    try:
        manifest = Manifest.read(out)
    except DatasetError as error:
        raise DatasetError(f"{error}: delete {out} before, or choose another folder") from None
    if manifest.preparation.get("key") != key:
        raise DatasetError(
            f"{out} holds a dataset made from another source or with other settings. Choose another folder or delete it"
        )
    try:
        Dataset.open(out)
    except DatasetError:  # a file is missing or cut off: it says that the images are to be prepared again
        (out / FILE_NAME).unlink()
        _delete_unfinished(out)
        return None
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
    earlier = Unfinished.load(out, key)
    if earlier is None:
        _clear(out)
    # What there is to read, and what it becomes: as noted by the interrupted call, or decided by a look.
    opened = open_source(source, out / _SCRATCH, config)
    if (faces := face_crop(config)) is not None and opened.points is None:  # fail now if it is not installed
        load_detector(faces.detector, config.device)
    if config.max_images is not None:
        opened = _first(opened, config.max_images)
    note = earlier or Unfinished(key, survey(opened, config))
    # Fail now rather than hours later.
    names = opened.labels.names if opened.labels else ()
    rows = row_types(note.target.resolutions, note.target.channels, names).values()
    needed = (len(opened.entries) - note.read) * sum(row.itemsize for row in rows)
    free = shutil.disk_usage(out).free
    if needed > free:
        raise DatasetError(
            f"{out} needs {needed / 1e9:.1f} GB and its disk has {free / 1e9:.1f} GB. "
            "Choose another disk, a lower --resolution or --max-images"
        )
    # Decode and write; the manifest comes last, so that a folder without it is never taken for a dataset.
    arrays = None
    while arrays is None:
        try:
            arrays, note = _write(opened, out, note, config, progress, file_limit)
        except (Unmeasured, Coloured) as unforeseen:  # what the look at some did not meet: begin again
            if isinstance(unforeseen, Coloured):
                target = dataclasses.replace(note.target, channels=3, all_grey=False)
            else:  # among pictures of 8 bits there are others
                target = dataclasses.replace(note.target, ranges=decide(measure(opened, config)))
            _delete_unfinished(out)
            note = Unfinished(key, target)
    report = PrepareReport(
        out=str(out),
        source=source,
        state="continued" if earlier else "prepared",
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
        notes=opened.notes,
        ranges=note.target.ranges,
        tally=note.tally,
    )
    Manifest(
        name=opened.name,
        count=report.count,
        channels=report.channels,
        resolutions=report.resolutions,
        label_kind=report.label_kind,
        label_names=report.label_names,
        source=printable(Path(os.path.abspath(source)).name),
        arrays=arrays,
        preparation={
            "key": key,
            "settings": dataclasses.asdict(config),
            "report": dataclasses.asdict(report),
            RANGE: range_of(report),
        },
    ).write(out)
    if not report.skipped:
        (out / SKIPPED).unlink()
    (out / UNFINISHED).unlink()
    return report


def _first(source: Source, count: int) -> Source:
    """A source of the first candidates, with a note where that leaves classes without images."""
    entries, labels, notes = source.entries[:count], source.labels, source.notes
    if labels is not None and labels.kind == "class":
        blocks = (range(start, min(start + _AT_ONCE, len(entries))) for start in range(0, len(entries), _AT_ONCE))
        used = np.any([labels.rows(block).any(0) for block in blocks], 0)
        if without := [name for name, is_used in zip(labels.names, used, strict=True) if not is_used]:
            more = f" and {len(without) - 3:,} more" if len(without) > 3 else ""
            about = f"the first {len(entries):,} images are of other classes than {', '.join(without[:3])}{more}"
            notes = (*notes, f"{about} (--max-images)")
    return dataclasses.replace(source, entries=entries, notes=notes)


def _write(
    source: Source, out: Path, note: Unfinished, config: PrepareConfig, progress: Progress | None, file_limit: int
) -> tuple[dict[str, tuple[FileRecord, ...]], Unfinished]:
    """Decode what the note leaves to be done and complete the arrays; they and the final note."""
    with closing(Output(out, note, source, file_limit)) as output:
        _decode_all(source, output, config, progress)
        return output.finish(), output.note


def _decode_all(source: Source, output: Output, config: PrepareConfig, progress: Progress | None) -> None:
    """Decode what is still to be done, in order."""
    target, total, points = output.note.target, len(source.entries), source.points
    workers = config.workers or core_count()
    image_bytes = target.resolution**2 * target.channels
    why = ""
    size = chunk_size(total, workers, _CHUNK_BYTES // image_bytes)
    if target.faces is not None and points is None:
        # Pictures that are looked at together change each other's last bits: the same chunks for any number of workers.
        size = FEW_IMAGES
        workers = config.workers or (min(workers, _GPU_WORKERS) if _on_gpu(config.device) else workers)
    starts = range(output.note.read, total, size)
    parts = [source.entries[start : start + size] for start in starts]
    tasks = (
        (source.reader, part, target, config.device, None if points is None else points[start : start + len(part)])
        for start, part in zip(starts, parts, strict=True)
    )
    with closing(ordered_map(decode_chunk, tasks, min(workers, len(parts)))) as chunks:
        for part, chunk in zip(parts, chunks, strict=True):
            if chunk.skipped and not why:
                why = f" (the first: {chunk.skipped[0][1]})"
            if config.strict and chunk.skipped:
                position, error = chunk.skipped[0]
                raise DatasetError(f"{part[position]}: {error}. Fix or remove it, or leave out --strict")
            output.append(chunk, len(part))
            if progress:
                progress(output.note.read, total)
    if output.note.count == 0:
        wanted = "is an image that can be read" if target.faces is None else "has a face that can be used"
        raise DatasetError(f"none of the {total} files of {source.name} {wanted}{why}")


def _on_gpu(device: str) -> bool:
    from progan.devices import find_device

    return find_device(device).type != "cpu"


def _clear(out: Path) -> None:
    """Delete an unfinished preparation of something else. Raises DatasetError for anything else in the folder."""
    if (out / UNFINISHED).exists():
        _delete_unfinished(out)
    shutil.rmtree(out / _SCRATCH, ignore_errors=True)  # of a killed process
    if any(path.name != LOCK_NAME for path in out.iterdir()):
        raise DatasetError(f"{out} is not empty. Choose another folder for the prepared images")


def _delete_unfinished(out: Path) -> None:
    for pattern in ("images-*.npy", "labels*.npy", IMAGES, SKIPPED, UNFINISHED):
        for path in out.glob(pattern):
            path.unlink()
