"""Images that come as arrays: MNIST's idx, numpy's npy and npz."""

import gzip
import math
import shutil
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from progan.config import PrepareConfig
from progan.data.sources.base import Labels, Source, Unreadable, array_labels
from progan.errors import DatasetError

_IMAGE_KEYS = (
    "images", "image", "x", "x_train", "train_images", "train_image", "imgs", "img", "data", "samples", "sample",
    "pictures", "picture", "pixels", "arr_0",
)  # fmt: skip
_LABEL_KEYS = (
    "labels", "label", "y", "y_train", "train_labels", "train_label", "classes", "class", "targets", "target", "arr_1",
)  # fmt: skip


@dataclass(frozen=True)
class ArrayReader:
    """Opens images that lie one after another, uncompressed, in a file."""

    path: str
    offset: int
    dtype: str
    shape: tuple[int, ...]
    """[N, H, W] or [N, H, W, C], or [N, C, H, W] where `channels_first`."""
    order: str = "C"
    channels_first: bool = False
    scale: float = 1
    shift: float = 0
    """value · scale + shift lies in 0…255."""

    def read(self, entries: Sequence[int], resolution: int) -> Iterator[Image.Image | Unreadable]:
        """Image of each row, in turn, its values brought to 0…255 and rounded."""
        order: Any = self.order
        images = np.asarray(np.memmap(self.path, self.dtype, "r", self.offset, self.shape, order))
        for entry in entries:
            image = images[entry]
            if self.channels_first:
                image = image.transpose(1, 2, 0)
            if image.ndim == 3 and image.shape[2] == 1:
                image = image[:, :, 0]
            if image.dtype != np.uint8:
                image = np.rint(image * np.float32(self.scale) + np.float32(self.shift)).clip(0, 255).astype(np.uint8)
            yield Image.fromarray(np.ascontiguousarray(image))


def open_idx(source: str, scratch: Path, config: PrepareConfig) -> Source | None:
    """MNIST's format, gzip or not: `…images-idx3-ubyte`, labels in `…labels-idx1-ubyte` beside it."""
    path = folder = Path(source)
    if folder.is_dir():  # MNIST as it is published: four files in a folder
        path = _idx_of(folder, "train" if config.partition == "auto" else config.partition) or folder
    shape = _idx_shape(path)
    if shape is None or len(shape) not in (3, 4):
        return None
    file, offset = _unpacked(path, scratch), 4 + 4 * len(shape)
    expected, found = offset + math.prod(shape), file.stat().st_size
    if found < expected:
        raise DatasetError(f"{path} is cut off: {found} of {expected} bytes. Download it again")
    labels_path = path.with_name(path.name.replace("images", "labels").replace(f"idx{len(shape)}", "idx1"))
    labels = None
    if config.labels == "auto" and labels_path != path and labels_path.exists():
        with _open_unpacked(labels_path) as stream:
            codes = np.frombuffer(stream.read()[8:], np.uint8)
        labels = array_labels(codes, shape[0], labels_path)
    opened = _source(path, ArrayReader(str(file), offset, "|u1", shape), labels)
    return replace(opened, has_partitions=path != folder)


def _idx_of(folder: Path, partition: str) -> Path | None:
    """File of a partition's images, not packed rather than packed; None where there is none. Raises DatasetError."""
    files = {path.name.removesuffix(".gz"): path for path in sorted(folder.glob("*images*idx3-ubyte*"), reverse=True)}
    files = {name: path for name, path in files.items() if path.is_file()}
    parts = {"train": ("train",), "test": ("t10k", "test")}
    found = [path for name, path in files.items() if any(word in name for word in parts.get(partition, ()))]
    if files and len(found) != 1:
        what = f"{len(found)} files of {partition} images" if partition in parts else f"no partition {partition}"
        raise DatasetError(f"{folder} has {what}. Name one of {', '.join(sorted(files))}")
    return found[0] if found else None


def is_idx_labels(path: Path) -> bool:
    """True for an idx file of labels."""
    return len(_idx_shape(path) or ()) == 1


def _idx_shape(path: Path) -> tuple[int, ...] | None:
    """The shape in the header of an idx file of bytes; None for any other file."""
    try:
        with _open_unpacked(path) as file:
            magic = file.read(4)
            if magic[:3] != b"\0\0\x08" or len(magic) < 4:
                return None
            return tuple(int(size) for size in np.frombuffer(file.read(4 * magic[3]), ">u4"))
    except (OSError, EOFError, ValueError, zlib.error):
        return None


def _open_unpacked(path: Path) -> IO[bytes]:
    """The content of a file, gzipped or not."""
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    return gzip.open(path) if packed else path.open("rb")  # type: ignore[return-value]


def _unpacked(path: Path, scratch: Path) -> Path:
    """Path of the file itself, or of a scratch file with its content where it is gzipped."""
    with _open_unpacked(path) as stream:
        if not isinstance(stream, gzip.GzipFile):
            return path
        scratch.mkdir(parents=True, exist_ok=True)
        try:
            with (scratch / path.stem).open("wb") as file:
                shutil.copyfileobj(stream, file, 2**20)
        except (OSError, EOFError, zlib.error) as error:
            raise DatasetError(f"{path} cannot be unpacked ({error}). Download it again") from None
    return scratch / path.stem


def open_npy(source: str, scratch: Path, config: PrepareConfig) -> Source | None:
    """[N, H, W], [N, H, W, C] or [N, C, H, W] in a .npy; a .npz has images under `images` (`x` …), labels `labels`."""
    path = Path(source)
    if path.is_dir():
        return None
    if zipfile.is_zipfile(path):
        return _open_npz(path, scratch, config.labels == "auto")
    with path.open("rb") as file:
        if file.read(6) != b"\x93NUMPY":
            return None
    with suppress(ValueError):  # which _npy_reader explains
        if np.load(path, mmap_mode="r", allow_pickle=False).ndim == 1:
            raise DatasetError(f"{path} has a number or word for each image, as labels are, and no images")
    return _source(path, _npy_reader(path, path))


def _open_npz(path: Path, scratch: Path, with_labels: bool) -> Source | None:
    with zipfile.ZipFile(path) as archive:
        members = [name for name in archive.namelist() if name.endswith(".npy")]
        if len(members) != len(archive.namelist()):
            return None
        keys = {name.removesuffix(".npy").lower(): name for name in members}
        found = next((keys[key] for key in _IMAGE_KEYS if key in keys), members[0] if len(members) == 1 else None)
        if found is None:
            raise DatasetError(f"{path} holds {', '.join(keys)}; the images must be called `images`")
        scratch.mkdir(parents=True, exist_ok=True)
        with archive.open(found) as packed, (scratch / "images.npy").open("wb") as file:
            shutil.copyfileobj(packed, file, 2**20)
    reader = _npy_reader(scratch / "images.npy", path)
    labels = None
    label_key = next((keys[key] for key in _LABEL_KEYS if key in keys), None)
    if with_labels and label_key is not None:
        with np.load(path, allow_pickle=False) as arrays:
            labels = array_labels(arrays[label_key.removesuffix(".npy")], reader.shape[0], path)
    return _source(path, reader, labels)


def _npy_reader(path: Path, named: Path) -> ArrayReader:
    """A reader of a .npy file's images; `named` is what the user knows it as."""
    try:
        array: npt.NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except ValueError as error:
        raise DatasetError(f"{named} cannot be read ({error}). Save numbers, not Python objects") from None
    shape = array.shape
    # Four axes: [N, C, H, W] where the last cannot be channels and the second can.
    channels_first = len(shape) == 4 and shape[3] > 4 and shape[1] in (1, 3, 4)
    channels = 1 if len(shape) == 3 else shape[1 if channels_first else -1]
    if len(shape) not in (3, 4) or channels not in (1, 2, 3, 4) or 0 in shape:
        raise DatasetError(f"{named} has shape {list(shape)}; images are [N, H, W], [N, H, W, C] or [N, C, H, W]")
    scale, shift = _range_of(array, named)
    offset = array.offset if isinstance(array, np.memmap) else 0
    order = "C" if array.flags.c_contiguous else "F"
    return ArrayReader(str(path), offset, array.dtype.str, shape, order, channels_first, scale, shift)


def _range_of(array: npt.NDArray[Any], named: Path) -> tuple[float, float]:
    """Scale and shift that bring an array's values to 0…255, by its type and its first images."""
    known = {np.dtype(np.uint8): 1, np.dtype(np.bool_): 255, np.dtype(np.uint16): 1 / 257}
    if array.dtype in known:
        return known[array.dtype], 0
    some = np.asarray(array[:256])
    if some.dtype.kind not in "iuf" or not np.isfinite(some).all():
        raise DatasetError(f"{named} holds {array.dtype} values, which are not pixels. Save uint8 in 0…255")
    low, high = float(some.min()), float(some.max())
    if array.dtype.kind == "f" and low >= 0 and high <= 1:
        return 255, 0
    if array.dtype.kind == "f" and low >= -1 and high <= 1:
        return 127.5, 127.5
    if low >= 0 and high <= 255:
        return 1, 0
    raise DatasetError(f"{named} has values from {low:g} to {high:g}. Save uint8 in 0…255")


def _source(path: Path, reader: ArrayReader, labels: Labels | None = None) -> Source:
    """All images of the reader, called `train-images` for train-images-idx3-ubyte.gz."""
    return Source(path.name.split(".")[0].split("-idx")[0], reader, range(reader.shape[0]), labels)
