"""A prepared dataset: `dataset.json`, which describes its arrays, and pixels in an order that the seed decides."""

import dataclasses
import functools
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from progan.errors import DatasetError
from progan.files import word, write_whole
from progan.options import parse_json
from progan.per_resolution import RESOLUTIONS

FILE_NAME = "dataset.json"
FORMAT = "progan dataset"
VERSION = 1
RANGE = "range"
"""Key of a manifest's `preparation` that has the values which became 0 … 255, as `prepare --range` takes them."""
HEADER_BYTES = 128
"""Length of every array file's header: fixed, so that it can be rewritten when the number of rows is known."""

LabelKind = Literal["class", "attributes"]
Indices = npt.NDArray[np.int64]
Pixels = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.float32]


@dataclass(frozen=True)
class FileRecord:
    """One .npy file: consecutive rows of an array."""

    file: str
    rows: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """The content of `dataset.json`. It is written last, so a half-made folder is no dataset."""

    name: str
    count: int
    channels: int
    resolutions: tuple[int, ...]
    label_kind: LabelKind | None
    label_names: tuple[str, ...]
    source: str
    arrays: Mapping[str, tuple[FileRecord, ...]]
    """Array name (`images-0004` …, `labels`) -> its files in order, more than one where the array is large."""
    preparation: Mapping[str, Any]
    """Settings and counts of the preparation, for people to read."""

    @property
    def fingerprint(self) -> str:
        """Digest of what training sees: equal for equal data, whatever its name, source or place."""
        content = [self.count, self.channels, self.resolutions, self.label_kind, self.label_names]
        hashes = {name: [record.sha256 for record in records] for name, records in self.arrays.items()}
        return hashlib.sha256(json.dumps([content, hashes], sort_keys=True).encode()).hexdigest()[:32]

    def write(self, folder: Path) -> None:
        """Write `dataset.json` into the folder, whole."""
        content = {"format": FORMAT, "version": VERSION, **dataclasses.asdict(self)}
        write_whole(folder / FILE_NAME, (json.dumps(content, indent=1) + "\n").encode())

    @staticmethod
    def is_in(folder: Path) -> bool:
        """True if the folder is a prepared dataset of progan; other programs have a `dataset.json` too."""
        try:
            with (folder / FILE_NAME).open("rb") as file:
                return FORMAT.encode() in file.read(100)
        except OSError:
            return False

    @staticmethod
    def read(folder: Path) -> "Manifest":
        """The manifest of a prepared dataset. Raises DatasetError where there is none or it contradicts itself."""
        path = folder / FILE_NAME
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            names = {child.name for child in folder.iterdir()} if folder.is_dir() else set[str]()
            if folder.is_file() or (names and "unfinished.json" not in names):  # images, perhaps
                advice = f"{folder} is no prepared dataset. Run: progan prepare {word(folder)} OUT, and name OUT"
            else:
                advice = f"{folder} has no {FILE_NAME}. Run: progan prepare SOURCE {word(folder)}"
            raise DatasetError(advice) from None
        except (OSError, ValueError) as error:
            raise DatasetError(f"{path} cannot be read ({error}). Prepare the images again") from None
        if not isinstance(content, dict) or content.pop("format", None) != FORMAT:
            raise DatasetError(f"{path} is not a prepared dataset of progan. Run: progan prepare SOURCE OUT")
        if (version := content.pop("version", None)) != VERSION:
            raise DatasetError(f"{path} has format version {version}, this progan reads {VERSION}. Prepare it again")
        try:
            manifest = parse_json(Manifest, content)
            manifest._check()
        except (TypeError, KeyError, ValueError, AttributeError) as error:
            raise DatasetError(f"{path} is damaged ({error}). Prepare the images again") from None
        return manifest

    def _check(self) -> None:
        """Raise ValueError where the numbers cannot be those of a dataset, or a file would lie elsewhere."""
        for file in (record.file for records in self.arrays.values() for record in records):
            if Path(file).name != file or "\0" in file:
                raise ValueError(f"{file!r} leaves the folder")
        if self.count < 1 or self.channels not in (1, 3) or bool(self.label_names) != bool(self.label_kind):
            raise ValueError("its numbers do not fit")
        if not self.resolutions or self.resolutions != RESOLUTIONS[: len(self.resolutions)]:
            raise ValueError(f"its resolutions are {list(self.resolutions)}")
        rows = row_types(self.resolutions, self.channels, self.label_names)
        if self.arrays.keys() != rows.keys():
            raise ValueError("its list of arrays does not fit")
        for name, records in self.arrays.items():
            if sum(record.rows for record in records) != self.count or any(record.rows < 1 for record in records):
                raise ValueError(f"its files of {name} do not hold all images")
            for record in records:
                if record.bytes != HEADER_BYTES + record.rows * rows[name].itemsize:
                    raise ValueError(f"{record.file} cannot have {record.bytes} bytes")


def array_name(resolution: int) -> str:
    """Name of the array of a resolution: `images-0064` for 64."""
    return f"images-{resolution:04d}"


def row_types(resolutions: tuple[int, ...], channels: int, label_names: tuple[str, ...]) -> dict[str, np.dtype[Any]]:
    """Array name -> type and shape of a row: uint8 [R, R, C] of images, lowest first, and float32 [L] of labels."""
    types = {array_name(size): np.dtype((np.uint8, (size, size, channels))) for size in resolutions}
    return types | ({"labels": np.dtype((np.float32, (len(label_names),)))} if label_names else {})


def sha256_of(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes, read in constant memory."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


class Dataset:
    """A folder made by `progan prepare`. Reading decodes nothing and is safe from several threads."""

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path, self.manifest = path, manifest
        self.name, self.count, self.channels = manifest.name, manifest.count, manifest.channels
        self.resolutions = manifest.resolutions  # rising
        self.label_kind, self.label_names = manifest.label_kind, manifest.label_names
        self.fingerprint = manifest.fingerprint  # equal for equal data
        self.row_types = row_types(self.resolutions, self.channels, self.label_names)
        self._files: dict[str, list[npt.NDArray[Any]]] = {}

    @classmethod
    def open(cls, path: str | os.PathLike[str], verify: bool = False) -> "Dataset":
        """The dataset in a folder, after a cheap look at its files; `verify` compares every byte with its hash.

        Raises DatasetError where files are missing, changed, or not as `dataset.json` says.
        """
        folder = Path(path)
        manifest = Manifest.read(folder)
        _check_files(folder, manifest, verify)
        return cls(folder, manifest)

    def order(self, start: int, size: int, seed: int) -> Indices:
        """Indices int64 [size] of the images at positions start … start + size of the training stream.

        Each epoch is a permutation that follows from (seed, epoch) alone, so an epoch shows each image once and any
        part of the stream can be had without what came before. A batch may reach into the next epochs.
        """
        parts = [np.empty(0, np.int64)]
        while size > 0:  # a piece of each epoch that the range touches
            epoch, position = divmod(start, self.count)
            parts.append(_permutation(self.count, seed, epoch)[position : position + size])
            start += len(parts[-1])
            size -= len(parts[-1])
        return np.concatenate(parts)

    def blocks(self, size: int = 4096) -> Iterator[Indices]:
        """Indices of all images in order, int64 [size] at a time."""
        for start in range(0, self.count, size):
            yield np.arange(start, min(start + size, self.count))

    def pixels(self, resolution: int, indices: Indices) -> Pixels:
        """Pixels uint8 [n, C, R, R] of the images, contiguous and writable."""
        if resolution not in self.resolutions:
            raise DatasetError(
                f"{self.path} has no images of {resolution}x{resolution}, only {self.resolutions[0]} … "
                f"{self.resolutions[-1]}. Prepare it again with --resolution {resolution}"
            )
        return np.ascontiguousarray(self.rows(array_name(resolution), indices).transpose(0, 3, 1, 2))

    def labels(self, indices: Indices) -> Labels | None:
        """Labels float32 [n, L], one-hot for classes; None where the dataset has none."""
        return self.rows("labels", indices) if self.label_kind else None

    def rows(self, name: str, indices: Indices) -> npt.NDArray[Any]:
        """Copy of an array's rows as they are stored: images uint8 [n, R, R, C], labels float32 [n, L]."""
        row = self.row_types[name]
        if name not in self._files:  # two threads may both map it: harmless
            # Mapped as the manifest says, whatever the header does. Plain views of the maps: indexing a np.memmap makes
            # memmaps, which cost more and look like open files.
            self._files[name] = [
                np.asarray(np.memmap(self.path / file.file, row.base, "r", HEADER_BYTES, (file.rows, *row.shape)))
                for file in self.manifest.arrays[name]
            ]
        files = self._files[name]
        if len(files) == 1:
            return files[0][indices]
        rows = np.empty((len(indices), *row.shape), row.base)
        # Large arrays lie in several files: take from each the rows that are in it.
        starts = np.cumsum([0] + [len(file) for file in files])
        which = np.searchsorted(starts, indices, side="right") - 1
        for number in np.unique(which):
            here = which == number
            rows[here] = files[number][indices[here] - starts[number]]
        return rows

    @property
    def range(self) -> str | None:
        """The values that became 0 … 255, as `prepare --range` takes them; None for ordinary pictures of 8 bits."""
        text = self.manifest.preparation.get(RANGE)
        return text if isinstance(text, str) else None

    @property
    def hashes(self) -> dict[str, str]:
        """Array name -> digest of what its files hold."""
        texts = {name: "".join(file.sha256 for file in files) for name, files in self.manifest.arrays.items()}
        return {name: hashlib.sha256(text.encode()).hexdigest()[:16] for name, text in texts.items()}

    def level_bytes(self, resolution: int) -> int:
        """Bytes of all pixels of a resolution."""
        return self.count * resolution * resolution * self.channels


@functools.lru_cache(maxsize=4)  # two epochs at a batch's ends, for two datasets
def _permutation(count: int, seed: int, epoch: int) -> Indices:
    permutation = np.random.default_rng([seed, epoch]).permutation(count)
    permutation.flags.writeable = False
    return permutation


def _check_files(folder: Path, manifest: Manifest, verify: bool) -> None:
    """Compare the files with the manifest: sizes always, hashes when asked or where a file is newer than it.

    A prepared folder's manifest is its newest file. If it is not, the data was touched, or the folder copied
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
