"""Part a prepared dataset in two: one to train on, one held out for metrics."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from progan.data.dataset import Dataset
from progan.data.manifest import FileRecord, Manifest
from progan.data.prepare import FILE_LIMIT
from progan.data.prepare.arrayfile import ArrayWriter
from progan.data.prepare.ledger import IMAGE_COLUMNS, IMAGES, Ledger, read_ledger
from progan.errors import DatasetError
from progan.files import LOCK_NAME, locked

_BLOCK_BYTES = 2**24


@dataclass(frozen=True)
class SplitReport:
    """What `split` made."""

    train: str
    train_count: int
    heldout: str
    heldout_count: int


def split(
    source: str | os.PathLike[str],
    train: str | os.PathLike[str],
    heldout: str | os.PathLike[str],
    count: int | None = None,
    fraction: float | None = None,
    seed: int = 0,
) -> SplitReport:
    """Write two datasets: `count` images (or that `fraction`) chosen by the seed into `heldout`, the others into
    `train`, both in the order of the source.
    """
    dataset = Dataset.open(source)
    if (count is None) == (fraction is None):
        raise DatasetError("say how many images are held out: either --count or --fraction")
    if fraction is not None and not 0 < fraction < 1:
        raise DatasetError(f"--fraction must be above 0 and below 1; got {fraction}")
    if seed < 0:
        raise DatasetError(f"--seed must be at least 0; got {seed}")
    held = count if count is not None else round((fraction or 0) * dataset.count)
    if not 0 < held < dataset.count:
        raise DatasetError(f"{held} of {dataset.count} images cannot be held out. Leave at least one on each side")
    chosen = np.zeros(dataset.count, np.bool_)
    chosen[dataset.order(0, held, seed)] = True
    made = {"seed": seed, "held_out": held, "parted_from": dataset.fingerprint}
    for folder, part, indices in ((train, "train", ~chosen), (heldout, "heldout", chosen)):
        _write(dataset, Path(folder), part, np.flatnonzero(indices), {**made, "part": part})
    return SplitReport(os.fspath(train), dataset.count - held, os.fspath(heldout), held)


def _write(
    dataset: Dataset, folder: Path, part: str, indices: npt.NDArray[np.int64], preparation: dict[str, object]
) -> None:
    try:
        with locked(folder):
            if any(path.name != LOCK_NAME for path in folder.iterdir()):
                raise DatasetError(f"{folder} is not empty. Choose another folder")
            _copy_list(dataset.path / IMAGES, folder / IMAGES, indices)
            Manifest(
                name=f"{dataset.name}-{part}",
                count=len(indices),
                channels=dataset.channels,
                resolutions=dataset.resolutions,
                label_kind=dataset.label_kind,
                label_names=dataset.label_names,
                source=dataset.path.name,
                arrays={name: _copy(dataset, name, folder, indices) for name in dataset.array_names},
                preparation=preparation,
            ).write(folder)
    except OSError as error:
        raise DatasetError(f"{folder} cannot be written: {error}. Choose another folder") from None


def _copy(dataset: Dataset, name: str, folder: Path, indices: npt.NDArray[np.int64]) -> tuple[FileRecord, ...]:
    """Copy rows of an array, in constant memory."""
    example = dataset.rows(name, indices[:1])
    writer = ArrayWriter(folder, name, example.shape[1:], example.dtype, len(indices), FILE_LIMIT)
    size = max(1, _BLOCK_BYTES // example.nbytes)
    for start in range(0, len(indices), size):
        writer.append(dataset.rows(name, indices[start : start + size]))
    return writer.finish()


def _copy_list(source: Path, out: Path, indices: npt.NDArray[np.int64]) -> None:
    rows = [tuple(row.values()) for row in read_ledger(source)]
    if rows and len(rows) <= indices.max():
        raise DatasetError(f"{source} is damaged. Prepare the images again")
    if rows:
        ledger = Ledger(out, IMAGE_COLUMNS)
        ledger.append(rows[index] for index in indices)
        ledger.close()
