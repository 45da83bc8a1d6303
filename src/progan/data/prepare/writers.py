"""Writes prepared images in the formats of other programs: a zip of StyleGAN's, npz, parquet, folders of pictures.

Each holds the highest resolution and the labels, and `sources` reads it again. To add a format, write a function
`write(dataset, path)` and add its line to WRITERS.
"""

import csv
import dataclasses
import hashlib
import io
import json
import os
import re
import shutil
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from progan.config import PrepareConfig
from progan.data.cache import cache_folder
from progan.data.dataset import FILE_NAME, FORMAT, Dataset, Manifest, array_name
from progan.data.prepare import Progress, prepare
from progan.data.prepare.output import SKIPPED
from progan.data.prepare.report import PrepareReport
from progan.data.sources.base import Unreadable, import_extra
from progan.data.sources.labels import partition_of
from progan.data.sources.named import preparation
from progan.data.sources.remote import is_remote, refuse_existing, send
from progan.errors import DatasetError
from progan.files import locked

_AT_ONCE = 64  # images
# Of a class: the name of a folder on any system. Windows keeps some for devices.
_PLAIN_NAME = re.compile(r"(?!(?i:con|prn|aux|nul|com\d|lpt\d)$)[^\W_][\w +-]{,99}(?<! )")
_METADATA = "metadata.csv"
_IMAGE_COLUMNS = ("image", "img", "picture")  # of which the first is taken that is no label


def prepare_as(
    kind: str,
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    config: PrepareConfig | None = None,
    progress: Progress | None = None,
) -> PrepareReport:
    """Make a file or folder of a kind of WRITERS from a source (sources.SOURCES) or a prepared dataset.

    The images are prepared in a hidden folder beside `out`, where an interrupted call continues; `out` appears when it
    is complete. The list of skipped files becomes OUT.skipped.csv. An `out` on object storage is made in the cache and
    then sent. Raises DatasetError.
    """
    if is_remote(os.fspath(out)):
        return _sent(kind, source, os.fspath(out), config, progress)
    out, config, writer = Path(out), config or preparation(source), WRITERS[kind]
    if not out.name or out.name == "..":
        raise DatasetError(f"{out} is no name. Choose one for what is made")
    _check_suffix(kind, str(out))
    if not writer.is_marked and Path(source).is_dir() and Path(source).resolve() in out.resolve().parents:
        raise DatasetError(f"{out} lies among the images, and would be one of them. Choose another place")
    work = out.with_name(f".{out.name}.work")
    try:
        with locked(work):
            if out.exists():
                raise DatasetError(f"{out} is there already. Choose another name or delete it")
            folder, made = work / "dataset", work / out.name
            report = _prepared(Path(source), config) or prepare(source, folder, config, progress)
            _delete(made)  # of a killed process
            try:
                writer.write(Dataset.open(report.out), made)
            except Unreadable as error:  # a package is missing
                raise DatasetError(f"{out} cannot be written: {error}") from None
            except OSError:  # a full disk should not stay full
                _delete(made)
                raise
            skipped = out.with_name(f"{out.name}.{SKIPPED}")
            if (folder / SKIPPED).exists():
                os.replace(folder / SKIPPED, skipped)
            else:
                skipped.unlink(missing_ok=True)  # of an earlier call
            os.replace(made, out)
            shutil.rmtree(folder, ignore_errors=True)
    except OSError as error:
        raise DatasetError(f"{out} cannot be written: {error}. Fix that and run the same command again") from None
    size = sum(path.stat().st_size for path in ([out] if out.is_file() else out.rglob("*")) if path.is_file())
    return dataclasses.replace(report, out=str(out), bytes=size)


def _sent(
    kind: str, source: str | os.PathLike[str], out: str, config: PrepareConfig | None, progress: Progress | None
) -> PrepareReport:
    """As `prepare_as`, for an address on object storage."""
    refuse_existing(out)
    _check_suffix(kind, out)
    folder = cache_folder("unsent") / hashlib.sha256(out.encode()).hexdigest()[:16]
    made = folder / out.rstrip("/").rpartition("/")[2]
    skipped = made.with_name(f"{made.name}.{SKIPPED}")
    _delete(made)  # of a call that could not send it: perhaps of other images
    report = prepare_as(kind, source, made, config, progress)
    if skipped.exists():
        send(skipped, f"{out.rstrip('/')}.{SKIPPED}")
    send(made, out)
    shutil.rmtree(folder, ignore_errors=True)
    return dataclasses.replace(report, out=out)


def _check_suffix(kind: str, out: str) -> None:
    if not out.lower().endswith(suffix := WRITERS[kind].suffix):
        raise DatasetError(f"{out} must end in {suffix}, or other programs do not know it")


def _delete(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _prepared(source: Path, config: PrepareConfig) -> PrepareReport | None:
    """A report of a source that needs no preparation; None for any other."""
    if not Manifest.is_in(source):
        return None
    if dataclasses.replace(config, workers=0, device="auto") != PrepareConfig():
        raise DatasetError(f"{source} is prepared already; options that change images cannot be applied to it")
    dataset = Dataset.open(source)
    return PrepareReport(
        out=str(source),
        source=str(source),
        state="already there",
        read=dataset.count,
        count=dataset.count,
        skipped={},
        upscaled=0,
        resolutions=dataset.resolutions,
        channels=dataset.channels,
        label_kind=dataset.label_kind,
        label_names=dataset.label_names,
        bytes=0,
        seconds=0,
    )


def _rows(dataset: Dataset) -> Iterator[tuple[int, npt.NDArray[np.uint8], Any]]:
    """Number of each image, its pixels [R, R, C] of the highest resolution, and its label: the number of its class,
    a list of attributes, or None.
    """
    for indices in dataset.blocks(_AT_ONCE):
        labels: list[Any] = [None] * len(indices)
        if dataset.label_kind:
            rows = dataset.rows("labels", indices)
            labels = (rows.argmax(1) if dataset.label_kind == "class" else rows).tolist()
        images = dataset.rows(array_name(dataset.resolutions[-1]), indices)
        yield from zip(indices.tolist(), images, labels, strict=True)


def _write_zip(path: Path, members: Callable[[zipfile.ZipFile], None]) -> None:
    """A zip with the members that the function writes, forced to the disk."""
    with path.open("wb") as file:
        with zipfile.ZipFile(file, "w") as archive:
            archive.comment = FORMAT.encode()  # among images it is left out (`sources.folder.walk`)
            members(archive)
        file.flush()
        os.fsync(file.fileno())


# --- StyleGAN's zip: `00000/img00000000.png` … and `dataset.json`


def write_stylegan_zip(dataset: Dataset, path: Path) -> None:
    """Equal bytes for equal datasets. Pixels and zip are left uncompressed."""

    def members(archive: zipfile.ZipFile) -> None:
        for index, image, _ in _rows(dataset):
            archive.writestr(_member(_image_name(index)), _png(image, level=0))
        with archive.open(_member(FILE_NAME), "w") as table:
            for text in _table(dataset):
                table.write(text.encode())

    _write_zip(path, members)


def _table(dataset: Dataset) -> Iterator[str]:
    """`dataset.json`, piece by piece. StyleGAN ignores `label_names`; progan reads them again."""
    if dataset.label_kind is None:
        yield '{"labels": null}\n'
        return
    yield f'{{"label_names": {json.dumps(dataset.label_names)}, "labels": ['
    for indices in dataset.blocks(_AT_ONCE):
        rows = dataset.rows("labels", indices)
        values = rows.argmax(1).tolist() if dataset.label_kind == "class" else rows.tolist()
        for index, value in zip(indices, values, strict=True):
            yield f"{',' if index else ''}\n{json.dumps([_image_name(index), value])}"
    yield "\n]}\n"


def _png(image: npt.NDArray[np.uint8], level: int = 6) -> bytes:
    """Pixels [R, R, C] as a PNG; level 0 leaves them uncompressed, 6 is zlib's default."""
    encoded = io.BytesIO()
    Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image).save(encoded, "PNG", compress_level=level)
    return encoded.getvalue()


def _image_name(index: int) -> str:
    number = f"{index:08d}"
    return f"{number[:5]}/img{number}.png"


def _member(name: str) -> zipfile.ZipInfo:
    """A member of the zip with a fixed date, and readable when unpacked."""
    info = zipfile.ZipInfo(name)
    info.external_attr = 0o644 << 16
    return info


# --- npz


def write_npz(dataset: Dataset, path: Path) -> None:
    """`images` uint8 [N, R, R] or [N, R, R, 3]; of classes `labels` int64 [N], of attributes float32 [N, L];
    `label_names`, of the L columns. Compressed; written image by image, in constant memory.
    """
    side = dataset.resolutions[-1]
    shape = (dataset.count, side, side, dataset.channels)[: 3 if dataset.channels == 1 else 4]

    def members(archive: zipfile.ZipFile) -> None:
        with _array(archive, "images", np.dtype(np.uint8), shape) as file:
            for _, image, _ in _rows(dataset):
                file.write(image.tobytes())
        if dataset.label_kind is None:
            return
        names = np.array(dataset.label_names)
        is_class = dataset.label_kind == "class"
        dtype: np.dtype[Any] = np.dtype("<i8" if is_class else "<f4")
        with _array(archive, "labels", dtype, (dataset.count,) if is_class else (dataset.count, len(names))) as file:
            for indices in dataset.blocks():
                rows = dataset.rows("labels", indices)
                file.write((rows.argmax(1) if is_class else rows).astype(dtype).tobytes())
        with _array(archive, "label_names", names.dtype, names.shape) as file:
            file.write(names.tobytes())

    _write_zip(path, members)


def _array(archive: zipfile.ZipFile, name: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> IO[bytes]:
    """A compressed member of an npz, to which the bytes of its rows are to be written."""
    info = _member(f"{name}.npy")
    info.compress_type = zipfile.ZIP_DEFLATED
    file = archive.open(info, "w", force_zip64=True)  # its size is not known before
    header = {"descr": dtype.str, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    return file


# --- parquet as Hugging Face's `datasets` writes it


def write_parquet(dataset: Dataset, path: Path) -> None:
    """A column of PNGs, and `label` with the number of the class, whose names are in the schema, or one column an
    attribute.
    """
    arrow, parquet = (import_extra(name, "parquet", "parquet files need it") for name in ("pyarrow", "pyarrow.parquet"))
    is_class = dataset.label_kind == "class"
    column = next(name for name in _IMAGE_COLUMNS if is_class or name not in dataset.label_names)
    fields = [(column, arrow.struct([("bytes", arrow.binary()), ("path", arrow.string())]))]
    features: dict[str, dict[str, Any]] = {column: {"_type": "Image"}}
    if is_class:
        fields.append(("label", arrow.int64()))
        features["label"] = {"names": list(dataset.label_names), "_type": "ClassLabel"}
    elif dataset.label_kind:
        fields += [(name, arrow.float32()) for name in dataset.label_names]
        features |= {name: {"dtype": "float32", "_type": "Value"} for name in dataset.label_names}
    about = {"huggingface": json.dumps({"info": {"features": features}})}
    schema = arrow.schema(fields).with_metadata(about)
    with parquet.ParquetWriter(path, schema) as writer:
        records: list[list[Any]] = []
        for index, image, label in _rows(dataset):
            cells = [] if label is None else [label] if is_class else label
            records.append([{"bytes": _png(image), "path": f"{index:08d}.png"}, *cells])
            if len(records) == _AT_ONCE or index == dataset.count - 1:  # a group of rows
                columns = zip(zip(*records, strict=True), schema.types, strict=True)
                writer.write_table(arrow.table([arrow.array(*each) for each in columns], schema=schema))
                records = []


# --- folders of pictures


def write_imagefolder(dataset: Dataset, path: Path) -> None:
    """PNGs in a folder for each class, else in `images`; labels are also in `metadata.csv`, as Hugging Face has it.

    A class whose name could not be a folder's on any system, or means another thing, is in `class-0003`.
    """
    is_class = dataset.label_kind == "class"
    names = dataset.label_names if is_class else ()
    times = Counter(name.lower() for name in names)
    folders = [
        name
        if _PLAIN_NAME.fullmatch(name) and times[name.lower()] == 1 and not partition_of(name)
        else f"class-{at:04d}"
        for at, name in enumerate(names)
    ] or ["images"]
    for folder in folders:
        (path / folder).mkdir(parents=True)
    records = []
    for index, image, label in _rows(dataset):
        file = f"{folders[label if is_class else 0]}/{index:08d}.png"
        (path / file).write_bytes(_png(image))
        if label is not None:
            records.append([file, *([names[label]] if is_class else label)])
    if records:
        with (path / _METADATA).open("w", encoding="utf-8", newline="") as table:
            header = ["file_name", *(["label"] if is_class else dataset.label_names)]
            csv.writer(table, lineterminator="\n").writerows([header, *records])


class Writer(NamedTuple):
    """Entry of WRITERS."""

    suffix: str
    """End of the names of its files; empty for a folder."""
    write: Callable[[Dataset, Path], None]
    is_marked: bool
    """True if `sources` sees that progan wrote it, and leaves it out where it lies among images."""


WRITERS = {
    "stylegan-zip": Writer(".zip", write_stylegan_zip, is_marked=True),
    "npz": Writer(".npz", write_npz, is_marked=True),
    "imagefolder": Writer("", write_imagefolder, is_marked=False),
    "parquet": Writer(".parquet", write_parquet, is_marked=False),
}
"""Kind of `prepare --to` -> how it is written."""
