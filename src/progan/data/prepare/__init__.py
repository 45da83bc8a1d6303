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
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median_high
from typing import Any, Literal

from PIL import ImageColor

from progan.config import FACE_OPTIONS, PrepareConfig
from progan.data.dataset import RANGE, FileRecord, LabelKind, Manifest
from progan.data.prepare.decode import Target, core_count, decode_chunk, fit, ordered_map, without_warnings
from progan.data.prepare.faces import FaceCrop, load_detector
from progan.data.prepare.output import (
    FACE_COLUMNS,
    FILE_LIMIT,
    IMAGES,
    SKIPPED,
    UNFINISHED,
    Output,
    Unfinished,
    read_ledger,
)
from progan.data.prepare.ranges import Ends, Extremes, Ranges, Tally, Unmeasured, decide, look, look_at, range_text
from progan.data.sources import file_identity, identity, open_source
from progan.data.sources.base import Picture, Source, Unreadable, Values
from progan.data.sources.named import preparation
from progan.data.sources.remote import is_remote
from progan.errors import DatasetError
from progan.files import LOCK_NAME, locked, printable
from progan.options import parse_json
from progan.per_resolution import RESOLUTIONS

# To be raised when the same request gives other pixels or labels, also of avatars. 2: large JPEGs are drafted more
# often. 3: classes that are numbers are in their order; one range of values for a set, colour profiles.
_VERSION = 3
_SCRATCH = ".scratch"  # hidden, so that it is no one else's
_CHUNK_BYTES, _CHUNK_IMAGES, _FEW_IMAGES = 4 * 10**6, 256, 16
_ENOUGH_FACES = 64  # to decide the resolution
_GPU_WORKERS = 4  # processes that share a GPU, each of which takes some of its memory
_LOOKED_AT, _LOOKED_AT_FOR_COLOUR, _LOOKED_AT_SIZE = 256, 64, 32  # images, images to be decoded, pixels of their side
_COLOURED = 12  # difference of two channels of a reduced picture that grey pictures saved as JPEG do not reach

Progress = Callable[[int, int], None]
"""Called with the number of candidates that are done with, and of all."""


@dataclass(frozen=True)
class PrepareReport:
    """Result of `prepare`."""

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
    notes: tuple[str, ...] = ()
    """What was seen and not used, and how it would be; lines for people."""
    ranges: Ranges = field(default_factory=Ranges)
    """The values that became 0 … 255."""
    tally: Tally = field(default_factory=Tally)
    """What was done to values and colours."""


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
    if Manifest.is_in(Path(source)):
        raise DatasetError(f"{source} is prepared already. Use it as it is, or prepare the images it was made from")
    if Path(source).is_dir() and out.resolve() == Path(source).resolve():
        raise DatasetError(f"{out} is the folder of the images. Choose another place, which may lie inside it")
    left_out: list[str] = []
    key = request_key(source, config, left_out)
    try:
        with locked(out):
            if Manifest.is_in(out):
                report = _earlier(out, key)
                return dataclasses.replace(report, notes=(*left_out_note(left_out), *report.notes))
            try:
                report = _prepare(source, out, config, key, progress, file_limit)
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


def _earlier(out: Path, key: str) -> PrepareReport:
    """The report of a dataset that is there already, if it was made by the same request."""
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
    earlier = Unfinished.load(out, key)
    if earlier is None:
        _clear(out)
    # What there is to read, and what it becomes: as noted by the interrupted call, or decided by a look.
    opened = open_source(source, out / _SCRATCH, config)
    if (faces := _face_crop(config)) is not None and opened.points is None:  # fail now if it is not installed
        load_detector(faces.detector, config.device)
    if config.max_images is not None:
        opened = dataclasses.replace(opened, entries=opened.entries[: config.max_images])
    note = earlier or Unfinished(key, survey(opened, config))
    # Fail now rather than hours later.
    pixels = sum(resolution**2 for resolution in note.target.resolutions) * note.target.channels
    needed, free = (len(opened.entries) - note.read) * pixels, shutil.disk_usage(out).free
    if needed > free:
        raise DatasetError(
            f"{out} needs {needed / 1e9:.1f} GB and its disk has {free / 1e9:.1f} GB. "
            "Choose another disk, a lower --resolution or --max-images"
        )
    # Decode and write; the manifest comes last, so that a folder without it is never taken for a dataset.
    try:
        arrays, note = _write(opened, out, note, config, progress, file_limit)
    except Unmeasured:
        # Among pictures of 8 bits there are others, which the look did not meet: find their range and begin again.
        ranges = decide(_measure(opened, config))
        _delete_unfinished(out)
        note = Unfinished(key, dataclasses.replace(note.target, ranges=ranges))
        arrays, note = _write(opened, out, note, config, progress, file_limit)
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
            RANGE: _range_of(report),
        },
    ).write(out)
    if not report.skipped:
        (out / SKIPPED).unlink()
    (out / UNFINISHED).unlink()
    return report


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
    # Few large chunks, but enough for every worker to have several; a handful of images is not worth a process.
    size = max(1, min(_CHUNK_IMAGES, _CHUNK_BYTES // image_bytes, max(_FEW_IMAGES, total // (4 * workers))))
    if target.faces is not None and points is None:
        # Pictures that are looked at together change each other's last bits: the same chunks for any number of workers.
        size = _FEW_IMAGES
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


def _face_crop(config: PrepareConfig) -> FaceCrop | None:
    """The options of faces; None where none are cut out."""
    if config.crop != "faces":
        return None
    return FaceCrop(config.faces, config.min_face, config.min_confidence, config.align, config.margin, config.detector)


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


@without_warnings()
def survey(source: Source, config: PrepareConfig) -> Target:
    """Resolution, channels and range of values of a source: as configured, else decided by a look at images spread over
    it, and by one at all of them where the range is not known from their type.
    """
    entries = _spread(source.entries, _LOOKED_AT)
    sizes: list[tuple[int, int]] = []
    reasons: Counter[str] = Counter()

    def looked_at() -> Iterator[Picture]:
        for image in source.reader.read(entries, _LOOKED_AT_SIZE):
            if isinstance(image, Unreadable):
                reasons[str(image)] += 1
                continue
            sizes.append(image.size)
            yield image

    found = Extremes() if source.drawn_at else look(looked_at(), every=False)
    if not (sizes or source.drawn_at):
        why = f" ({reasons.most_common(1)[0][0]})" if reasons else ""
        raise DatasetError(f"{source.name} has no image that can be read among {len(entries)} files looked at{why}")
    try:
        red, green, blue, *_ = ImageColor.getrgb(config.background)
    except ValueError:
        raise DatasetError(f"background {config.background!r} is not a colour. Write a name or #rrggbb") from None
    ranges, faces = _ranges(source, found, config), _face_crop(config)
    target = Target(4, 3, config.crop, (red, green, blue), ranges=ranges, faces=faces)
    all_28 = bool(sizes) and set(sizes) == {(28, 28)} and faces is None
    resolution = config.resolution or source.drawn_at or (32 if all_28 else 0)
    if not resolution:  # the largest that at least half of the images reach without being enlarged
        sides = [min(size) if config.crop == "center" else max(size) for size in sizes]
        middle = median_high(sides if faces is None else _face_sides(source, target, config.device))
        resolution = max((size for size in RESOLUTIONS if size <= middle), default=4)
    some = source.reader.read(_spread(entries, _LOOKED_AT_FOR_COLOUR), _LOOKED_AT_SIZE)
    # By default: three channels where any picture shows colour, however it is stored.
    channels = {"grey": 1, "rgb": 3}.get(config.channels) or (
        3 if any(_is_coloured(image, ranges) for image in some) else 1
    )
    return dataclasses.replace(target, resolution=resolution, channels=channels, pad_28=all_28)


def _face_sides(source: Source, target: Target, device: str) -> list[int]:
    """Sides in pixels of what is cut out for some faces of pictures spread over the source. Raises DatasetError."""
    spread, sides = _spread(range(len(source.entries)), _LOOKED_AT), list[int]()
    step = -(-len(spread) // _FEW_IMAGES)
    for start in range(step):  # parts that are spread over it, too
        some = spread[start::step]
        points = None if source.points is None else source.points[some]
        chunk = decode_chunk(source.reader, [source.entries[at] for at in some], target, device, points)
        sides += [dict(zip(FACE_COLUMNS, columns[3:], strict=True))["side"] for columns in chunk.kept]
        if len(sides) >= _ENOUGH_FACES:
            break
    if not sides:
        raise DatasetError(
            f"no face that can be used was found in {len(spread)} pictures of {source.name} spread over it. "
            "Give --resolution, which they would have decided, to look at all of them"
        )
    return sides


def _ranges(source: Source, found: Extremes, config: PrepareConfig) -> Ranges:
    """The range of a source's values: the user's, or that of 8 bits, or found by a first pass over the whole source.

    The pass is made where some of the images looked at have other numbers (`found`), or all may be masks.
    """
    if ends := config.range_ends():
        return Ranges.by_user(*ends)
    if found.ends.keys() <= {"bytes"} and not found.has_masks:
        return Ranges()
    return decide(_measure(source, config))


def _measure(source: Source, config: PrepareConfig) -> Extremes:
    """Extremes of all of a source, computed by the worker processes."""
    total, workers = len(source.entries), config.workers or core_count()
    size = max(1, min(_CHUNK_IMAGES, max(_FEW_IMAGES, total // (4 * workers))))
    parts = [source.entries[start : start + size] for start in range(0, total, size)]
    found = Extremes()
    with closing(
        ordered_map(look_at, ((source.reader, part, _LOOKED_AT_SIZE) for part in parts), min(workers, len(parts)))
    ) as looks:
        for part in looks:
            found = found.joined(part)
    return found


def _spread(entries: Sequence[Any], wanted: int) -> list[Any]:
    """At most `wanted` of the entries, evenly spread."""
    wanted = min(len(entries), wanted)
    return [entries[position * len(entries) // wanted] for position in range(wanted)]


def _is_coloured(image: Picture | Unreadable, ranges: Ranges) -> bool:
    if isinstance(image, Unreadable):
        return False
    if isinstance(image, Values):
        if image.colours.ndim == 2:
            return False
    elif image.mode in ("1", "L", "LA", "I", "F") or image.mode.startswith("I;"):
        return False
    try:
        pixels, _ = fit(image, Target(_LOOKED_AT_SIZE, 3, "none", (0, 0, 0), ranges=ranges))
    except Unreadable:
        return False
    return bool((pixels.max(-1).astype(int) - pixels.min(-1)).max() > _COLOURED)


def _shown(report: PrepareReport) -> dict[Ends, str]:
    """The ranges that pictures were brought to 0 … 255 by, and what they were."""
    ranges, tally = report.ranges, report.tally
    shown: dict[Ends, str] = {}
    if tally.wide > tally.windowed:
        shown |= {ends: f"{kind} " for kind, ends in (("integers", ranges.integers), ("floats", ranges.floats)) if ends}
    if tally.stretched:
        shown[ranges.bytes] = "8 bits "
    return shown


def _range_of(report: PrepareReport) -> str | None:
    """What `--range` must be for other images to be treated in the same way; None where it need not be given."""
    shown = list(_shown(report))
    return range_text(shown[0]) if len(shown) == 1 else None


def remarks(report: PrepareReport) -> list[str]:
    """What was done to the values and colours of a set, one line each; none for ordinary pictures."""
    tally, shown = report.tally, _shown(report)
    lines = []
    for ends, kind in shown.items():
        text, whose = range_text(ends), kind if len(shown) > 1 else "values "
        lines.append(f"{whose}{text.replace(':', ' … ')} become 0 … 255 (of other images, too, with --range {text})")
    others = report.read - sum(report.skipped.values()) - tally.wide - tally.stretched  # pictures, which may have faces
    if lines and others > 0:
        lines[-1] += f"; {_images_of(others)} of 8 bits as they are"
    if tally.windowed:
        lines.append(f"{_images_of(tally.windowed)} through the window of the file (--range LOW:HIGH overrides it)")
    if tally.outside:
        part = tally.outside / max(1, tally.values)
        lines.append(f"{tally.outside:,} values ({part:.2%}) lie outside the range and are cut off")
    if tally.not_finite:
        lines.append(
            f"{tally.not_finite:,} values are NaN or infinite: NaN becomes black, infinities an end of the range"
        )
    if tally.recoloured:
        lines.append(f"{_images_of(tally.recoloured)} converted from another colour profile to sRGB")
    if tally.profiles_ignored:
        lines.append(
            f"{_images_of(tally.profiles_ignored)} with a colour profile that is broken or not for such pixels: ignored"
        )
    if tally.first_frames:
        lines.append(
            f"of {tally.first_frames:,} animation{'' if tally.first_frames == 1 else 's'} only the first image"
        )
    if tally.extended:
        lines.append(f"{_images_of(tally.extended)} cut out beyond the edge of the picture: mirrored and blurred there")
    return lines


def _images_of(count: int) -> str:
    return f"{count:,} image{'' if count == 1 else 's'}"
