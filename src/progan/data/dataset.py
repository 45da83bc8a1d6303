"""A prepared dataset, opened: memory-mapped pixels of every resolution, in an order that the seed decides."""

import functools
import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from progan.data.manifest import FILE_NAME, HEADER_BYTES, FileRecord, LabelKind, Manifest, array_name, sha256_of
from progan.errors import DatasetError

Indices = npt.NDArray[np.int64]
Pixels = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.float32]


class Dataset:
    """A folder made by `progan prepare`. Reading decodes nothing and is safe from several threads."""

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path = path
        self.name = manifest.name
        self.count = manifest.count
        self.channels = manifest.channels
        self.resolutions = manifest.resolutions  # rising
        self.label_kind: LabelKind | None = manifest.label_kind
        self.label_names = manifest.label_names
        self.fingerprint = manifest.fingerprint  # equal for equal data
        self.preparation = manifest.preparation  # settings and counts, for people
        self._manifest = manifest
        self._arrays: dict[str, _Rows] = {}

    @classmethod
    def open(cls, path: str | os.PathLike[str], verify: bool = False) -> "Dataset":
        """The dataset in a folder, after a cheap look at its files; `verify` compares every byte with its hash."""
        folder = Path(path)
        manifest = Manifest.read(folder)
        _check_files(folder, manifest, verify)
        return cls(folder, manifest)

    def order(self, start: int, size: int, seed: int) -> Indices:
        """Which images stand at stream positions start … start + size: int64 [size].

        Each epoch is a permutation that follows from (seed, epoch) alone, so an epoch shows each image once and any
        part of the stream can be had without what came before. A batch may reach into the next epochs.
        """
        parts = []
        while size > 0:
            epoch, position = divmod(start, self.count)
            parts.append(_permutation(self.count, seed, epoch)[position : position + size])
            start += len(parts[-1])
            size -= len(parts[-1])
        return np.concatenate(parts) if parts else np.empty(0, np.int64)

    def pixels(self, resolution: int, indices: Indices) -> Pixels:
        """Pixels uint8 [n, C, R, R] of the images, contiguous and writable."""
        if resolution not in self.resolutions:
            raise DatasetError(
                f"{self.path} has no images of {resolution}x{resolution}, only {self.resolutions[0]} … "
                f"{self.resolutions[-1]}. Prepare it again with --resolution {resolution}"
            )
        rows = self.rows(array_name(resolution), indices)  # [n, R, R, C]
        return np.ascontiguousarray(rows.transpose(0, 3, 1, 2))

    def labels(self, indices: Indices) -> Labels | None:
        """Labels float32 [n, L], one-hot for classes; None where the dataset has none."""
        return self.rows("labels", indices) if self.label_kind else None

    def batch(self, resolution: int, start: int, size: int, seed: int) -> tuple[Pixels, Labels | None]:
        """Pixels uint8 [size, C, R, R] and labels float32 [size, L] at stream positions start … start + size."""
        indices = self.order(start, size, seed)
        return self.pixels(resolution, indices), self.labels(indices)

    @property
    def hashes(self) -> dict[str, str]:
        """Of every array: a digest of what its files hold."""
        texts = {name: "".join(file.sha256 for file in files) for name, files in self._manifest.arrays.items()}
        return {name: hashlib.sha256(text.encode()).hexdigest()[:16] for name, text in texts.items()}

    @property
    def array_names(self) -> tuple[str, ...]:
        """What `rows` knows: `images-0004` … and, where there are labels, `labels`."""
        return tuple(self._manifest.arrays)

    def rows(self, name: str, indices: Indices) -> npt.NDArray[Any]:
        """Rows of an array as it is stored: images uint8 [n, R, R, C], labels float32 [n, L]."""
        if name not in self._arrays:  # two threads may both map it: harmless
            self._arrays[name] = _Rows(self.path, self._manifest.arrays[name], *self._row_type(name))
        return self._arrays[name].take(indices)

    def _row_type(self, name: str) -> tuple[tuple[int, ...], npt.DTypeLike]:
        if name == "labels":
            return (len(self.label_names),), np.float32
        size = next(size for size in self.resolutions if array_name(size) == name)
        return (size, size, self.channels), np.uint8

    def level_bytes(self, resolution: int) -> int:
        """Size of all pixels of a resolution."""
        return self.count * resolution * resolution * self.channels


class _Rows:
    """An array that lies in one or several .npy files, as if it were one."""

    def __init__(
        self, folder: Path, records: tuple[FileRecord, ...], row_shape: tuple[int, ...], dtype: npt.DTypeLike
    ) -> None:
        # Mapped as the manifest says, whatever the header does. Plain views of the maps: indexing a np.memmap makes
        # memmaps, which cost more and look like open files.
        self.parts = [
            np.asarray(np.memmap(folder / record.file, dtype, "r", HEADER_BYTES, (record.rows, *row_shape)))
            for record in records
        ]
        self.starts = np.cumsum([0] + [len(part) for part in self.parts])

    def take(self, indices: Indices) -> npt.NDArray[Any]:
        """The rows, copied."""
        if len(self.parts) == 1:
            return self.parts[0][indices]
        rows = np.empty((len(indices), *self.parts[0].shape[1:]), self.parts[0].dtype)
        which = np.searchsorted(self.starts, indices, side="right") - 1
        for part in np.unique(which):
            here = which == part
            rows[here] = self.parts[part][indices[here] - self.starts[part]]
        return rows


@functools.lru_cache(maxsize=4)  # two epochs at a batch's ends, for two datasets
def _permutation(count: int, seed: int, epoch: int) -> Indices:
    permutation = np.random.default_rng([seed, epoch]).permutation(count)
    permutation.flags.writeable = False
    return permutation


def _check_files(folder: Path, manifest: Manifest, verify: bool) -> None:
    """Compare the files with the manifest: sizes always, hashes when asked or where a file is newer than it.

    A prepared folder's manifest is its newest file. If it is not, somebody touched the data or copied the folder
    without its times: then the bytes are read once, and the manifest is touched so that the next start is quick.
    """
    manifest_time = (folder / FILE_NAME).stat().st_mtime_ns
    newer = False
    for record in (record for records in manifest.arrays.values() for record in records):
        path = folder / record.file
        try:
            status = path.stat()
        except OSError:
            raise DatasetError(f"{path} is missing. Prepare the images again") from None
        if status.st_size != record.bytes:
            raise DatasetError(f"{path} has {status.st_size} bytes instead of {record.bytes}. Prepare the images again")
        is_newer = status.st_mtime_ns > manifest_time
        if (verify or is_newer) and sha256_of(path) != record.sha256:
            raise DatasetError(f"{path} was changed after it was prepared. Prepare the images again")
        newer |= is_newer
    if newer and os.access(folder / FILE_NAME, os.W_OK):
        os.utime(folder / FILE_NAME)
