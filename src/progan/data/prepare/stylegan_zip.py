"""Writes the zip that the StyleGAN family trains on: `00000/img00000000.png` … and `dataset.json`."""

import dataclasses
import io
import json
import os
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from progan.config import PrepareConfig
from progan.data.dataset import FILE_NAME, FORMAT, Dataset, Manifest, array_name
from progan.data.prepare import PrepareReport, Progress, prepare
from progan.data.prepare.output import SKIPPED
from progan.errors import DatasetError
from progan.files import locked

_AT_ONCE = 64  # images


def prepare_stylegan_zip(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    config: PrepareConfig | None = None,
    progress: Progress | None = None,
) -> PrepareReport:
    """Make a StyleGAN zip of a source (sources.SOURCES) or of a prepared dataset. Raises DatasetError.

    The images are prepared in a hidden folder beside `out`, where an interrupted call continues. The list of skipped
    files becomes OUT.skipped.csv.
    """
    out, config = Path(out), config or PrepareConfig()
    if out.suffix.lower() != ".zip":
        raise DatasetError(f"{out} must end in .zip, or StyleGAN takes it for a folder")
    work = out.with_name(f".{out.name}.work")
    try:
        with locked(work):
            if out.exists():
                raise DatasetError(f"{out} is there already. Choose another name or delete it")
            folder = work / "dataset"
            report = _prepared(Path(source), config) or prepare(source, folder, config, progress)
            write_stylegan_zip(Dataset.open(report.out), work / out.name)
            if (folder / SKIPPED).exists():
                os.replace(folder / SKIPPED, out.with_name(f"{out.name}.{SKIPPED}"))
            os.replace(work / out.name, out)
            shutil.rmtree(folder, ignore_errors=True)
    except OSError as error:
        raise DatasetError(f"{out} cannot be written: {error}. Fix that and run the same command again") from None
    return dataclasses.replace(report, out=str(out), bytes=out.stat().st_size)


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


def write_stylegan_zip(dataset: Dataset, path: Path) -> None:
    """The highest resolution and the labels; equal bytes for equal datasets. Pixels and zip are left uncompressed."""
    name = array_name(dataset.resolutions[-1])
    try:
        with path.open("wb") as file:
            with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
                archive.comment = FORMAT.encode()  # among images it is left out (`sources.folder.walk`)
                for indices in dataset.blocks(_AT_ONCE):
                    for index, image in zip(indices, dataset.rows(name, indices), strict=True):
                        archive.writestr(_member(_image_name(index)), _png(image))
                with archive.open(_member(FILE_NAME), "w") as table:
                    for text in _table(dataset):
                        table.write(text.encode())
            file.flush()
            os.fsync(file.fileno())
    except OSError:  # a full disk should not stay full
        path.unlink(missing_ok=True)
        raise


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


def _png(image: npt.NDArray[np.uint8]) -> bytes:
    """Pixels [R, R, C] as an uncompressed PNG."""
    encoded = io.BytesIO()
    Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image).save(encoded, "PNG", compress_level=0)
    return encoded.getvalue()


def _image_name(index: int) -> str:
    number = f"{index:08d}"
    return f"{number[:5]}/img{number}.png"


def _member(name: str) -> zipfile.ZipInfo:
    """A member of the zip with a fixed date, and readable when unpacked."""
    info = zipfile.ZipInfo(name)
    info.external_attr = 0o644 << 16
    return info
