"""CIFAR-10 and CIFAR-100 as they are downloaded: the binary and the Python version, packed or unpacked.

The Python version is pickled. Pickles can name any function to be called; these may name only what numpy's arrays are
made of, and even that is not called: stand-ins keep the bytes, of which a numpy array is made here.
"""

import io
import itertools
import lzma
import pickle
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt

from progan.config import PrepareConfig
from progan.data.sources.arrays import ArrayReader
from progan.data.sources.base import Source, class_labels
from progan.errors import DatasetError
from progan.files import printable

_FILES = {  # partition -> patterns of the names of its files, of the binary and of the Python version
    "train": ("data_batch_*.bin", "train.bin", "data_batch_[0-9]", "train"),
    "test": ("test_batch.bin", "test.bin", "test_batch", "test"),
}
_NAMES = ("batches.meta.txt", "fine_label_names.txt", "batches.meta", "meta")
_RECORDS = {3073: "batches.meta.txt", 3074: "fine_label_names.txt"}  # by the bytes of a record of the binary version
_PIXELS = 3072  # bytes of an image, [3, 32, 32]
_MOST_BYTES = 2**28  # of a file; the largest of them has 148 MB
_LOOKED_AT = 4  # members of a tar until one must be in a folder of CIFAR's


def open_cifar(source: str, scratch: Path, config: PrepareConfig) -> Source | None:
    """A folder with data_batch_1.bin … or train.bin or their pickled kin, such a file, or a tar of the folder."""
    path = Path(source)
    if path.is_file() and not path.name.endswith((".tar.gz", ".tgz", ".tar")):
        known = path.suffix == ".bin" or any(path.match(pattern) for found in _FILES.values() for pattern in found)
        files = [path] if known and _is_batch(path) else []
    else:
        folder = path if path.is_dir() else _unpacked(path, scratch)
        if folder is None or not any(any(_in_folder(folder, partition)) for partition in _FILES):
            return None
        wanted = {"auto": ["train"], "all": ["train", "test"]}.get(config.partition, [config.partition])
        files = [file for partition in wanted for file in _in_folder(folder, partition)]
        if not files:
            raise DatasetError(f"--partition {wanted[0]}: {path} has no such part. There are train and test")
    if not files:
        return None
    # Pixels uint8 [N, 3072] and classes [N] of all files, and the names of the classes beside them.
    batches = [_read_binary(file) if file.suffix == ".bin" else _read_pickle(file) for file in files]
    images, codes = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    words = _class_names(files[0]) or tuple(str(code) for code in range(int(codes.max()) + 1))
    if codes.max() >= len(words) or codes.min() < 0:
        raise DatasetError(f"{path} has class {codes.max()}, but {len(words)} are named. Download it again")
    scratch.mkdir(parents=True, exist_ok=True)
    images.tofile(scratch / "cifar.bin")
    reader = ArrayReader(str(scratch / "cifar.bin"), 0, "|u1", (len(images), 3, 32, 32), channels_first=True)
    name = printable(path.resolve().name.split(".")[0])
    return Source(name, reader, range(len(images)), class_labels(words, codes), has_partitions=files != [path])


def _in_folder(folder: Path, partition: str) -> Iterator[Path]:
    """Batches of a partition that lie in the folder itself, in the order of their names."""
    patterns = _FILES.get(partition, ())
    yield from (file for pattern in patterns for file in sorted(folder.glob(pattern)) if _is_batch(file))


def _is_batch(path: Path) -> bool:
    """True for a file with records of the binary version, or with a pickle."""
    if not path.is_file() or path.stat().st_size == 0:
        return False
    if path.suffix == ".bin":
        return any(path.stat().st_size % record == 0 for record in _RECORDS)
    if path.name in ("train", "test") and not path.with_name("meta").exists():  # words that mean much
        return False
    with path.open("rb") as file:
        return file.read(1) == b"\x80"


def _unpacked(path: Path, scratch: Path) -> Path | None:
    """A scratch folder with the batches of a tar and the names of the classes; None where its members are others."""
    patterns, begun = [*itertools.chain(*_FILES.values()), *_NAMES], False
    try:
        with tarfile.open(path) as archive:
            for number, info in enumerate(archive):
                name = PurePosixPath(info.name)
                begun |= any(part.startswith(("cifar-10-batches-", "cifar-100-")) for part in name.parts)
                if not begun and number >= _LOOKED_AT:
                    return None
                if not begun or not info.isreg() or not any(name.match(pattern) for pattern in patterns):
                    continue
                stream = archive.extractfile(info)
                if info.size > _MOST_BYTES or stream is None:
                    raise DatasetError(f"{path}: {name} has {info.size} bytes, more than CIFAR. Download it again")
                scratch.mkdir(parents=True, exist_ok=True)
                (scratch / name.name).write_bytes(stream.read())
    except (tarfile.TarError, EOFError, OSError, zlib.error, lzma.LZMAError) as error:
        if begun:
            raise DatasetError(f"{path} is cut off or damaged ({error}). Download it again") from None
    return scratch if begun else None  # what else it is, open_archive says


def _read_binary(path: Path) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Records of one class (of CIFAR-100 a coarse and a fine one) and the pixels."""
    content = np.fromfile(path, np.uint8)
    record = next(size for size in _RECORDS if len(content) % size == 0)
    records = content.reshape(-1, record)
    return records[:, record - _PIXELS :], records[:, record - _PIXELS - 1].astype(np.int64)


def _read_pickle(path: Path) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """A dictionary with `data` uint8 [N, 3072] and `labels`, or of CIFAR-100 `fine_labels`."""
    content = _load(path)
    try:
        data = content["data"]
        pixels = data.value if isinstance(data, _Array) else np.asarray(data, np.uint8)
        codes = np.asarray(content.get("fine_labels", content.get("labels")), np.int64)
        if pixels.ndim != 2 or pixels.shape[1] != _PIXELS or codes.shape != (len(pixels),):
            raise ValueError(f"its images have the shape {list(pixels.shape)}, its classes {list(codes.shape)}")
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise DatasetError(f"{path} is no batch of CIFAR ({error}). Download it again") from None
    return pixels, codes


def _class_names(batch: Path) -> tuple[str, ...]:
    """Names of the classes in a file beside a batch; none where there is no such file."""
    texts = list(_RECORDS.values()) if batch.suffix == ".bin" else []
    if found := next((path for name in texts if (path := batch.with_name(name)).exists()), None):
        return tuple(found.read_text("utf-8").split())
    if batch.suffix != ".bin":
        for name in ("batches.meta", "meta"):
            if (path := batch.with_name(name)).exists():
                content = _load(path)
                names = content.get("fine_label_names", content.get("label_names", ()))
                if isinstance(names, list) and all(isinstance(word, str) for word in names):
                    return tuple(map(printable, names))
    return ()


# --- pickles that run nothing


@dataclass
class _Array:
    """Stand-in for a numpy array of bytes."""

    value: npt.NDArray[np.uint8]

    def __init__(self, *_: Any) -> None:
        self.value = np.empty(0, np.uint8)

    def __setstate__(self, state: Any) -> None:
        """`state`: version, shape, type, whether in Fortran's order, bytes."""
        _, shape, kind, fortran, content = state
        self.value = _bytes(content, kind, shape, "F" if fortran else "C").value


class _Type:
    """Stand-in for a numpy dtype."""

    def __init__(self, code: Any = "", *_: Any) -> None:
        self.code = code.decode() if isinstance(code, bytes) else code

    def __setstate__(self, state: Any) -> None:
        """Its byte order and the like, which bytes have not."""


def _bytes(content: Any, kind: Any, shape: Any, order: Any) -> _Array:
    """The array of a buffer. Raises ValueError unless it holds unsigned bytes."""
    if not isinstance(kind, _Type) or kind.code not in ("u1", "|u1"):
        raise ValueError("it has an array of other numbers than bytes")
    array = _Array()
    content = content.encode("latin1") if isinstance(content, str) else content
    array.value = np.frombuffer(content, np.uint8).reshape(shape, order="F" if order in ("F", b"F") else "C")
    return array


def _encode(text: Any, encoding: Any = "latin1") -> bytes:
    """How Python 3 pickles bytes for Python 2."""
    if not isinstance(text, str) or encoding not in ("latin1", b"latin1"):
        raise ValueError("it has text where bytes must be")
    return text.encode("latin1")


_KNOWN: dict[tuple[str, str], Any] = {("_codecs", "encode"): _encode}
for _core in ("numpy.core", "numpy._core"):  # before and since numpy 2
    _KNOWN[f"{_core}.multiarray", "_reconstruct"] = _Array
    _KNOWN[f"{_core}.numeric", "_frombuffer"] = _bytes
_KNOWN["numpy", "ndarray"], _KNOWN["numpy", "dtype"] = _Array, _Type


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _KNOWN:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which could run code")
        return _KNOWN[module, name]


def _load(path: Path) -> dict[str, Any]:
    """The dictionary of a pickle of numbers, words and arrays of bytes. Raises DatasetError for any other."""
    if path.stat().st_size > _MOST_BYTES:
        raise DatasetError(f"{path} has {path.stat().st_size} bytes, more than CIFAR. Download it again")
    try:  # what Python 2 wrote as str is bytes or text
        content = _Unpickler(io.BytesIO(path.read_bytes()), encoding="latin1").load()
        if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
            raise ValueError("it is no dictionary")
    except Exception as error:  # of a damaged pickle it may be any
        raise DatasetError(f"{path} is refused: {error}. Download CIFAR again") from None
    return content
