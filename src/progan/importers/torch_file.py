"""Files of `torch.save`, as zips or in the form of before 1.6, read without running anything they say.

Their pickles may name an OrderedDict, a tensor's parts and the one class of a port, for each of which something of our
own stands. PyTorch's own reader admits more names, and trusts the sizes that a file gives.
"""

import io
import math
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from progan.importers.base import Refused
from progan.importers.pickled import INSTRUCTIONS, Function, Unpickler, check_instructions, read_bytes

ZIP, LEGACY = b"PK\x03\x04", b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
_DTYPES = {
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "DoubleStorage": torch.float64,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "BoolStorage": torch.bool,
    "ByteStorage": torch.uint8,
}
_SHARED = 4
"""Most tensors that may use one number of a file."""


class Settings:
    """Stands for `models.utils.config.BaseConfig`, an empty class: its attributes are the settings."""

    __slots__ = ("values",)

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, dict) or not all(isinstance(name, str) for name in state):
            raise Refused("its settings have no names")
        self.values = state


class _Mapping(dict[Any, Any]):
    """Stands for OrderedDict; what a state dict says of its versions is not needed."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        pass


class _Storage:
    """Numbers of a file in a row, and how many of them tensors may still use."""

    def __init__(self, values: Tensor) -> None:
        self.values, self.left = values, _SHARED * len(values)


def is_torch_file(path: Path) -> bool:
    """True if a file begins as those of `torch.save`. Raises OSError."""
    with path.open("rb") as file:
        return file.read(len(LEGACY)).startswith((ZIP, LEGACY))


def read(path: Path) -> Any:
    """What was saved: dicts, lists, numbers, words, CPU tensors and `Settings`. Raises OSError, or Refused."""
    content = read_bytes(path)
    return _read_zip(content) if content.startswith(ZIP) else _read_legacy(content)


def _read_zip(content: bytes) -> Any:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            entries = {entry.filename.partition("/")[2]: entry for entry in archive.infolist()}
            left = len(content)

            def read(name: str) -> bytes:
                """An entry. All of them together are no longer than the file: nothing is inflated or read twice."""
                nonlocal left
                if name not in entries:
                    raise Refused(f"it is a zip without {name[:40]}, so no file of torch.save")
                if entries[name].compress_type != zipfile.ZIP_STORED or entries[name].file_size > left:
                    raise Refused("it is compressed, which files of torch.save are not")
                left -= entries[name].file_size
                return archive.read(entries[name])

            if "byteorder" in entries and read("byteorder") != b"little":
                raise Refused("its numbers are big-endian")
            return _load(read("data.pkl"), lambda key, dtype, count: _values(read(f"data/{key}"), dtype, count))
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, ValueError, OverflowError):
        raise Refused("it is a damaged zip, or is cut short") from None


def _read_legacy(content: bytes) -> Any:
    """Five pickles (magic number, version, sizes of numbers, the object, keys of storages), then each storage's length
    (8 bytes) and numbers."""
    pickles, at = [], 0
    for _ in range(5):
        end = at + check_instructions(content[at:], _INSTRUCTIONS)
        pickles.append(content[at:end])
        at = end
    # The object comes before its numbers: its tensors are made without, as far as the file can hold them.
    storages: dict[str, Tensor] = {}
    left = len(content) - at

    def reserve(key: str, dtype: torch.dtype, count: int) -> Tensor:
        nonlocal left
        left -= count * dtype.itemsize
        if left < 0:
            raise Refused("it is cut short")
        return storages.setdefault(key, torch.empty(count, dtype=dtype))

    version, sizes, made, keys = (_load(each, reserve) for each in pickles[1:])
    if version != 1001 or not isinstance(sizes, dict) or sizes.get("little_endian") is not True:
        raise Refused("it is of a version of PyTorch, or of a machine, that is not known here")
    if not isinstance(keys, list) or set(map(str, keys)) != storages.keys() or len(keys) != len(storages):
        raise Refused("it does not hold the numbers that it names")
    for key in keys:
        values = storages[key]
        start, at = at + 8, at + 8 + values.nbytes
        if int.from_bytes(content[start - 8 : start], "little") != len(values):
            raise Refused("it has numbers of another length than it says")
        values.copy_(_values(content[start:at], values.dtype, len(values)))
    return made


def _values(content: bytes, dtype: torch.dtype, count: int) -> Tensor:
    if len(content) != count * dtype.itemsize:
        raise Refused("it has numbers of another length than it says")
    return torch.frombuffer(bytearray(content), dtype=dtype) if count else torch.empty(0, dtype=dtype)


def _load(content: bytes, find: Callable[[str, torch.dtype, int], Tensor]) -> Any:
    """What a pickle says; `find` gives the numbers of a storage, which are asked for once."""
    check_instructions(content, _INSTRUCTIONS)
    storages: dict[str, _Storage] = {}

    def persistent(reference: Any) -> _Storage:
        match reference:
            case ("storage", torch.dtype() as dtype, str() as key, str(), int() as count, *view) if count >= 0 and set(
                view
            ) <= {None}:
                if key not in storages:
                    storages[key] = _Storage(find(key, dtype, count))
                if (storages[key].values.dtype, len(storages[key].values)) != (dtype, count):
                    raise Refused("it names the same numbers in two ways")
                return storages[key]
        raise Refused("it refers to something that is no tensor's numbers")

    return Unpickler(content, _GLOBALS, persistent).read()


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> Tensor:
    """A tensor of a storage's numbers. Raises Refused where it would reach beyond them, or use them many times."""
    if not isinstance(storage, _Storage) or not isinstance(size, tuple) or not isinstance(stride, tuple):
        raise Refused("it has a tensor of a strange kind")
    if len(size) != len(stride) or len(size) > 8 or any(type(n) is not int or n < 0 for n in (offset, *size, *stride)):
        raise Refused("it has a tensor of a strange shape")
    count = math.prod(size)
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    storage.left -= count
    if storage.left < 0 or (count and last >= len(storage.values)):
        raise Refused("it has a tensor that is larger than its numbers")
    return storage.values.as_strided(size, stride, offset) if count else storage.values.new_empty(size)


_INSTRUCTIONS = INSTRUCTIONS | {"BINPERSID", "LONG1"}
_GLOBALS: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): _Mapping,
    ("torch._utils", "_rebuild_tensor_v2"): Function(_tensor),
    ("models.utils.config", "BaseConfig"): Settings,
} | {("torch", name): dtype for name, dtype in _DTYPES.items()}
