"""Images that come as arrays: MNIST's idx, numpy's npy and npz, HDF5."""

import gzip
import math
import re
import shutil
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from progan.config import PrepareConfig
from progan.data.sources.archives import most_unpacked
from progan.data.sources.base import (
    Labels,
    Picture,
    Source,
    Unreadable,
    Values,
    array_labels,
    attribute_labels,
    attribute_values,
    class_labels,
    import_extra,
)
from progan.errors import DatasetError
from progan.files import printable

_IMAGE_KEYS = (
    "images", "image", "x", "x_train", "train_images", "train_image", "imgs", "img", "data", "samples", "sample",
    "pictures", "picture", "pixels", "arr_0",
)  # fmt: skip
_LABEL_KEYS = (
    "labels", "label", "y", "y_train", "train_labels", "train_label", "classes", "class", "targets", "target", "ans",
    "train_set_y", "arr_1",
)  # fmt: skip
_LEVEL = re.compile(r"data(\d+)x\1")  # the authors' older HDF5 files: a dataset for each resolution


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

    def read(self, entries: Sequence[int], resolution: int) -> Iterator[Picture | Unreadable]:
        """Image of each row, in turn."""
        order: Any = self.order
        images = np.asarray(np.memmap(self.path, self.dtype, "r", self.offset, self.shape, order))
        for entry in entries:
            yield row_picture(images[entry], self.channels_first)


def row_picture(row: npt.NDArray[Any], channels_first: bool) -> Picture:
    """A picture [H, W], [H, W, C] or, where `channels_first`, [C, H, W]: a PIL image if it has 8 bits, else Values."""
    if channels_first:
        row = row.transpose(1, 2, 0)
    if row.ndim == 3 and row.shape[2] == 1:
        row = row[:, :, 0]
    return Image.fromarray(np.ascontiguousarray(row)) if row.dtype == np.uint8 else Values(row)


def channels_first(shape: tuple[int, ...], dtype: np.dtype[Any]) -> bool:
    """True for images [N, C, H, W], False for [N, H, W] and [N, H, W, C]. Raises ValueError for all else."""
    # Four axes: [N, C, H, W] where the last cannot be channels and the second can.
    first = len(shape) == 4 and shape[3] > 4 and shape[1] in (1, 3, 4)
    channels = 1 if len(shape) == 3 else shape[1 if first else -1] if shape else 0
    if len(shape) not in (3, 4) or channels not in (1, 2, 3, 4) or 0 in shape:
        raise ValueError(f"shape {list(shape)}; images are [N, H, W], [N, H, W, C] or [N, C, H, W]")
    if dtype.kind not in "buif":
        raise ValueError(f"{dtype} values, which are not pixels. Save uint8 in 0…255")
    return first


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
            codes = np.frombuffer(stream.read(8 + shape[0] + 1)[8:], np.uint8)  # one too many is noticed
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
                _copy(stream, file, most_unpacked(path.stat().st_size), path)
        except (OSError, EOFError, zlib.error) as error:
            raise DatasetError(f"{path} cannot be unpacked ({error}). Download it again") from None
    return scratch / path.stem


def _copy(stream: IO[bytes], file: IO[bytes], most: int, named: Path) -> None:
    """Write what a stream unpacks to into a file. Raises DatasetError above `most` bytes."""
    while block := stream.read(2**20):
        if file.tell() + len(block) > most:
            raise _bomb(named, f"more than {most:,} bytes")
        file.write(block)


def _bomb(path: Path, size: str) -> DatasetError:
    return DatasetError(
        f"{path} is refused as an archive bomb: it unpacks to {size}. If it is none, unpack it yourself"
    )


def open_npy(source: str, scratch: Path, config: PrepareConfig) -> Source | None:
    """[N, H, W], [N, H, W, C] or [N, C, H, W] in a .npy; a .npz has images under `images` (`x` …), labels `labels`.

    A folder of nothing but npy files, of which one is called `images` and perhaps another `labels`, is read as a npz.
    """
    path = Path(source)
    if path.is_dir():
        files = {file.name.lower(): file for file in path.iterdir() if not file.name.startswith(".")}
        known, labels_path = (
            next((files[f"{key}.npy"] for key in keys if f"{key}.npy" in files), None)
            for keys in (_IMAGE_KEYS, _LABEL_KEYS)
        )
        if known is None or labels_path is None or not all(name.endswith(".npy") for name in files):
            return None
        reader = _npy_reader(known, known)
        labels = None
        if config.labels == "auto":
            with _no_objects(labels_path):
                labels = array_labels(np.load(labels_path, allow_pickle=False), reader.shape[0], labels_path)
        return Source(path.resolve().name, reader, range(reader.shape[0]), labels)
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
        for info in archive.infolist():  # zipfile reads no more than a member says that it has
            if info.file_size > most_unpacked(info.compress_size):
                raise _bomb(path, f"{info.file_size:,} bytes ({printable(info.filename)})")
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
        with np.load(path, allow_pickle=False) as arrays, _no_objects(path):
            values = arrays[label_key.removesuffix(".npy")]
            names = arrays[keys["label_names"].removesuffix(".npy")] if "label_names" in keys else np.empty(0)
            labels = _named(values, names, reader.shape[0]) or array_labels(values, reader.shape[0], path)
    return _source(path, reader, labels)


@contextmanager
def _no_objects(named: Path) -> Iterator[None]:
    """Raise DatasetError where labels are read that numpy has pickled: unpickling could run code."""
    try:
        yield
    except ValueError as error:
        if "object" not in str(error).lower():
            raise
        raise DatasetError(
            f"{named} has labels that are Python objects, which are not read. Save words or numbers, for example "
            "with astype(str), or use --labels none"
        ) from None


def _named(values: npt.NDArray[Any], names: npt.NDArray[Any], count: int) -> Labels | None:
    """Labels with the names that `prepare --to npz` stores beside them, of all classes or attributes, also unused ones;
    None where these do not fit.
    """
    if names.ndim != 1 or names.dtype.kind != "U" or values.shape[:1] != (count,):
        return None
    words = tuple(printable(str(name)) for name in names.tolist())
    if values.ndim == 1 and values.dtype.kind in "iu" and values.min() >= 0 and values.max() < len(words):
        return class_labels(words, values)
    if values.ndim == 2 and values.dtype.kind == "f" and values.shape[1] == len(words):
        with suppress(ValueError):
            return attribute_labels(words, attribute_values(values.astype(np.float32)))
    return None


def _npy_reader(path: Path, named: Path) -> ArrayReader:
    """A reader of a .npy file's images; `named` is what the user knows it as."""
    try:
        array: npt.NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except ValueError as error:
        reason = str(error).partition("\n")[0]
        advice = "Save numbers, not Python objects" if "object" in reason.lower() else "Copy or save it again"
        raise DatasetError(f"{named} cannot be read ({reason}). {advice}") from None
    # [H, W, C] is one picture, not pictures that are three pixels wide.
    shape = (1, *array.shape) if array.ndim == 3 and array.shape[2] in (1, 3, 4) else array.shape
    try:
        first = channels_first(shape, array.dtype)
    except ValueError as error:
        raise DatasetError(f"{named} has {error}") from None
    offset = array.offset if isinstance(array, np.memmap) else 0
    order = "C" if array.flags.c_contiguous else "F"
    return ArrayReader(str(path), offset, array.dtype.str, shape, order, first)


def open_hdf5(source: str, scratch: Path, config: PrepareConfig) -> Source | None:
    """HDF5: the dataset `images` (`x` …), the largest `data64x64`, or the only one that has the shape of images.

    Labels are a dataset `labels` (`y` …) in the file, or `NAME-labels.npy` beside it, as in the authors' older files.
    """
    path = Path(source)
    if path.is_dir():
        return None
    with path.open("rb") as file:
        if file.read(8) != b"\x89HDF\r\n\x1a\n":
            return None
    try:
        h5py = import_extra("h5py", "hdf5", "HDF5 files need it")
    except Unreadable as error:
        raise DatasetError(f"{path} cannot be read: {error}") from None
    try:
        with h5py.File(path, "r") as file:
            found: dict[str, Any] = {}
            # Links are not followed, and data kept in other files not read: a file may not choose what else is.
            file.visititems(
                lambda name, item: (
                    found.update({name: item})
                    if isinstance(item, h5py.Dataset) and item.shape is not None and not item.external
                    else None
                )
            )
            name = _image_dataset(path, {name: item.shape for name, item in found.items() if item.dtype.kind in "buif"})
            shape = found[name].shape
            try:
                first = channels_first(shape, found[name].dtype)
            except ValueError as error:
                raise DatasetError(f"{path}: {name} has {error}") from None
            keys = {key.rpartition("/")[2].lower(): key for key in found if key != name}
            label_key = next((keys[key] for key in _LABEL_KEYS if key in keys), None)
            beside = path.with_name(f"{path.stem}-labels.npy")
            labels = None
            if config.labels == "auto" and label_key is not None:
                labels = array_labels(found[label_key][()], shape[0], path)
            elif config.labels == "auto" and beside.exists():
                with _no_objects(beside):
                    labels = array_labels(np.load(beside, allow_pickle=False), shape[0], beside)
    except OSError as error:
        raise DatasetError(f"{path} cannot be read ({error}). Copy or download it again") from None
    return Source(path.stem, Hdf5Reader(str(path), name, first), range(shape[0]), labels)


def _image_dataset(path: Path, shapes: dict[str, tuple[int, ...]]) -> str:
    """Name of the dataset that holds the images of an HDF5 file."""
    levels = {int(matched[1]): name for name in shapes if (matched := _LEVEL.fullmatch(name.rpartition("/")[2]))}
    if levels:
        return levels[max(levels)]
    keys = {name.rpartition("/")[2].lower(): name for name in shapes}
    likely = [name for name, shape in shapes.items() if len(shape) == 4] or [
        name for name, shape in shapes.items() if len(shape) == 3
    ]
    known = next((keys[key] for key in _IMAGE_KEYS if key in keys and len(shapes[keys[key]]) in (3, 4)), None)
    if known is not None or len(likely) == 1:
        return known or likely[0]
    listed = ", ".join(f"{name} {list(shape)}" for name, shape in list(shapes.items())[:8]) or "no arrays of numbers"
    raise DatasetError(f"{path} holds {listed}; the images must be called `images`")


@dataclass(frozen=True)
class Hdf5Reader:
    """Opens images that are the rows of a dataset in an HDF5 file."""

    path: str
    dataset: str
    channels_first: bool

    def read(self, entries: Sequence[int], resolution: int) -> Iterator[Picture | Unreadable]:
        """Image of each row, in turn."""
        h5py = import_extra("h5py", "hdf5", "HDF5 files need it")
        with h5py.File(self.path, "r") as file:
            images = file[self.dataset]
            for entry in entries:
                try:
                    yield row_picture(images[entry], self.channels_first)
                except (OSError, RuntimeError) as error:  # damaged, or packed in a way that is not installed
                    yield Unreadable("damaged", str(error))


def _source(path: Path, reader: ArrayReader, labels: Labels | None = None) -> Source:
    """All images of the reader, called `train-images` for train-images-idx3-ubyte.gz."""
    return Source(path.name.split(".")[0].split("-idx")[0], reader, range(reader.shape[0]), labels)
