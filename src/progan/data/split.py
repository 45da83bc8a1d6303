"""Split a prepared dataset in two: one to train on, one held out for metrics."""

import dataclasses
import os
import shutil
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from progan.data.dataset import RANGE, Dataset, Indices
from progan.data.prepare.output import FILE_LIMIT, IMAGES, ArrayWriter, Ledger, read_ledger
from progan.errors import DatasetError
from progan.files import LOCK_NAME, locked

_BLOCK_BYTES = 2**24


@dataclass(frozen=True)
class SplitReport:
    """Folders and numbers of images that `split` made."""

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
    `train`, both in the order of the source. Raises DatasetError.
    """
    dataset = Dataset.open(source)
    if (count is None) == (fraction is None):
        raise DatasetError("how many images are held out? Give either --count or --fraction")
    if fraction is not None and not 0 < fraction < 1:
        raise DatasetError(f"--fraction must be above 0 and below 1; got {fraction}")
    if seed < 0:
        raise DatasetError(f"--seed must be at least 0; got {seed}")
    held = count if count is not None else round((fraction or 0) * dataset.count)
    if not 0 < held < dataset.count:
        raise DatasetError(f"{held} of {dataset.count} images cannot be held out. Leave at least one on each side")
    places = [Path(folder).resolve() for folder in (train, heldout)]
    for place, other in (places, places[::-1]):
        if place == other or other in place.parents:
            raise DatasetError(f"{place} lies in {other}. Choose two folders")
        if place.exists() and any(path.name != LOCK_NAME for path in place.iterdir()):
            raise DatasetError(f"{place} is not empty. Choose another folder")
    chosen = np.zeros(dataset.count, np.bool_)
    chosen[dataset.order(0, held, seed)] = True
    made = {"seed": seed, "held_out": held, "parted_from": dataset.fingerprint, RANGE: dataset.range}
    _write(dataset, Path(train), "train", np.flatnonzero(~chosen), {**made, "part": "train"})
    try:
        _write(dataset, Path(heldout), "heldout", np.flatnonzero(chosen), {**made, "part": "heldout"})
    except BaseException:
        shutil.rmtree(train, ignore_errors=True)
        raise
    return SplitReport(os.fspath(train), dataset.count - held, os.fspath(heldout), held)


def _write(dataset: Dataset, folder: Path, part: str, indices: Indices, preparation: dict[str, object]) -> None:
    """Write a part of a dataset, whole or not at all."""
    try:
        with locked(folder):
            if any(path.name != LOCK_NAME for path in folder.iterdir()):
                raise DatasetError(f"{folder} is not empty. Choose another folder")
            try:
                _write_files(dataset, folder, part, indices, preparation)
            except BaseException:  # also Ctrl-C: the folder must be empty when the same command is given again
                for path in folder.iterdir():
                    if path.name != LOCK_NAME:
                        path.unlink(missing_ok=True)
                raise
    except OSError as error:
        raise DatasetError(
            f"{folder} cannot be written: {error}. Fix that and run the same command again, or choose another folder"
        ) from None


def _write_files(dataset: Dataset, folder: Path, part: str, indices: Indices, preparation: dict[str, object]) -> None:
    """Write the list of images, the arrays and, last, the manifest."""
    images = list(read_ledger(dataset.path / IMAGES))
    if images and len(images) <= indices.max():
        raise DatasetError(f"{dataset.path / IMAGES} is damaged. Prepare the images again")
    if images:
        with closing(Ledger(folder / IMAGES, tuple(images[0]))) as ledger:
            ledger.append(tuple(images[index].values()) for index in indices)
    arrays = {}
    for name in dataset.manifest.arrays:  # block by block, in constant memory
        row = dataset.row_types[name]
        size = max(1, _BLOCK_BYTES // row.itemsize)
        with closing(ArrayWriter(folder, name, row, len(indices), FILE_LIMIT)) as writer:
            for start in range(0, len(indices), size):
                writer.append(dataset.rows(name, indices[start : start + size]))
            arrays[name] = writer.finish()
    dataclasses.replace(
        dataset.manifest,
        name=f"{dataset.name}-{part}",
        count=len(indices),
        source=dataset.path.name,
        arrays=arrays,
        preparation=preparation,
    ).write(folder)
