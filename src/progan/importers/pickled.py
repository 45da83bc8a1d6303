"""Pickles read without running anything they say; the authors' network pickles (Karras et al. 2018, TensorFlow 1 code).

A pickle is a program. It may use no instruction but those that build plain data, and call nothing but the few names
that such files hold, for each of which something of our own stands that checks what it is given. The source code inside
the authors' is never looked at.
"""

import io
import math
import pickle
import pickletools
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from progan.errors import SnapshotError
from progan.importers.base import Refused

MAX_BYTES = 2**31
"""Larger files are refused; that of 1024x1024 images has 280 MB."""
_MAX_INSTRUCTIONS = 100_000  # it has about 6,000
INSTRUCTIONS = set(
    "PROTO FRAME STOP MARK MEMOIZE BINPUT LONG_BINPUT BINGET LONG_BINGET GLOBAL STACK_GLOBAL NEWOBJ REDUCE BUILD "
    "NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 BINFLOAT SHORT_BINUNICODE BINUNICODE BINUNICODE8 SHORT_BINBYTES "
    "BINBYTES BINBYTES8 BYTEARRAY8 EMPTY_TUPLE TUPLE1 TUPLE2 TUPLE3 TUPLE EMPTY_LIST APPEND APPENDS EMPTY_DICT "
    "SETITEM SETITEMS".split()
)
_THEANO = (
    "it was written by the authors' older Theano code. Load it with their TensorFlow code, which converts it, and save "
    "it again"
)


@dataclass(frozen=True)
class PickledNetwork:
    """One of the three networks of a file, as far as it is data."""

    function: str
    """Name of the function that built it, `G_paper` or `D_paper`."""
    options: dict[str, Any]
    """What that function was given; what was left at its default is not there."""
    variables: dict[str, npt.NDArray[np.float32]]


def read_networks(path: Path) -> tuple[PickledNetwork, PickledNetwork, PickledNetwork]:
    """G, D and the averaged G of a file. Raises SnapshotError."""
    try:
        content = read_bytes(path)
        if check_instructions(content) != len(content):
            raise Refused("there is something behind its end")
        networks = Unpickler(content, _GLOBALS).read()
        if not isinstance(networks, tuple) or len(networks) != 3:
            raise Refused("it does not hold the three networks G, D and Gs")
        first, second, third = map(_parse, networks)
    except OSError as error:
        raise SnapshotError(f"{path} cannot be read: {error.strerror}") from None
    except Refused as error:
        raise SnapshotError(f"{path} is not a network pickle of the official code: {error}") from None
    return first, second, third


def read_bytes(path: Path) -> bytes:
    """Content of a file. Raises OSError, or Refused for one that is too large."""
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise Refused(f"it has {size / 2**30:.1f} GB, more than any such file")
    return path.read_bytes()


def check_instructions(content: bytes, known: Container[str] = INSTRUCTIONS) -> int:
    """Refuse a program with other instructions than such files have, or with numbers that cost memory. Returns where
    it ends."""
    count, end = 0, 0
    try:
        for instruction, argument, position in pickletools.genops(content):
            count, end = count + 1, (position or 0) + 1
            if instruction.name == "GLOBAL" and argument == "network Network":
                raise Refused(_THEANO)
            if instruction.name not in known:
                raise Refused(f"it uses {instruction.name}")
            if count > _MAX_INSTRUCTIONS or (instruction.name.endswith("PUT") and int(argument or 0) > count):
                raise Refused("it is longer than any such file")
    except (ValueError, OverflowError):
        raise Refused("it is no pickle, or is cut short") from None
    return end


def _nothing(reference: Any) -> Any:
    raise Refused("it refers to something outside")


class Unpickler(pickle.Unpickler):
    """Unpickler of what `check_instructions` let through, to which only `names` mean something."""

    def __init__(
        self,
        content: bytes,
        names: Mapping[tuple[str, str], Any],
        persistent: Callable[[Any], Any] = _nothing,
    ) -> None:
        super().__init__(io.BytesIO(content))
        self._names, self._persistent = names, persistent

    def read(self) -> Any:
        """What the pickle says. Raises Refused."""
        try:
            return self.load()
        except Refused:
            raise
        except Exception as error:  # the module's documentation promises any
            raise Refused(f"it is damaged ({type(error).__name__})") from None

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("network", "Network"):
            raise Refused(_THEANO)
        try:
            return self._names[module.replace("numpy._core", "numpy.core"), name]  # numpy 2 renamed it
        except KeyError:
            raise Refused(f"it asks for {module[:40]!r} {name[:40]!r}, which no network needs") from None

    def persistent_load(self, reference: Any) -> Any:
        return self._persistent(reference)


class Function:
    """A function that a pickle may call and cannot change."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *arguments: Any) -> Any:
        return self._function(*arguments)

    def __setstate__(self, state: Any) -> None:
        raise Refused("it changes a function")


class _Network:
    """Stands for `tfutil.Network`."""

    __slots__ = ("state",)

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Type:
    """Stands for a numpy dtype: 32-bit floats, and nothing else."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, tuple) or state[:5] != (3, "<", None, None, None):
            raise Refused("its numbers are no 32-bit floats")


class _Array:
    """Stands for a numpy array."""

    __slots__ = ("value",)

    def __init__(self, value: npt.NDArray[np.float32] | None = None) -> None:
        self.value = value

    def __setstate__(self, state: Any) -> None:
        _, shape, kind, fortran, content = state
        self.value = _floats(content, kind, shape, fortran)


def _type(code: str, *_: Any) -> _Type:
    if code != "f4":
        raise Refused("its numbers are no 32-bit floats")
    return _Type()


def _floats(content: Any, kind: Any, shape: Any, fortran: Any) -> npt.NDArray[np.float32]:
    """An array of the bytes, if they are finite 32-bit floats that fill the shape."""
    sizes = shape if isinstance(shape, tuple) and len(shape) <= 4 else (-1,)
    if not isinstance(kind, _Type) or any(type(size) is not int or not 0 < size <= MAX_BYTES for size in sizes):
        raise Refused("it has an array of a strange shape or type")
    if not isinstance(content, bytes | bytearray) or len(content) != 4 * math.prod(sizes):
        raise Refused("it has an array whose bytes do not fill its shape")
    return np.frombuffer(content, "<f4").reshape(sizes, order="F" if fortran else "C")


def _never(*_: Any) -> None:
    raise Refused("it makes arrays in an unusual way")


_GLOBALS: dict[tuple[str, str], Any] = {
    ("tfutil", "Network"): _Network,
    ("numpy", "dtype"): Function(_type),
    ("numpy", "ndarray"): Function(_never),  # only ever handed to _reconstruct
    ("numpy.core.multiarray", "_reconstruct"): Function(lambda *_: _Array()),
    ("numpy.core.multiarray", "scalar"): Function(lambda kind, content: _Array(_floats(content, kind, (), False))),
    ("numpy.core.numeric", "_frombuffer"): Function(  # protocol 5
        lambda content, kind, shape, order: _Array(_floats(content, kind, shape, order == "F"))
    ),
}


def _parse(network: Any) -> PickledNetwork:
    """The state of a network, as far as it is needed."""
    state = getattr(network, "state", None) if isinstance(network, _Network) else None
    if not isinstance(state, dict) or state.get("version") != 2:
        raise Refused("it does not hold three networks of version 2")
    function, options, pairs = (state.get(key) for key in ("build_func_name", "static_kwargs", "variables"))
    if not isinstance(function, str) or not isinstance(options, dict) or not isinstance(pairs, list):
        raise Refused("a network of it lacks build_func_name, static_kwargs or variables")
    if not all(isinstance(key, str) and isinstance(value, int | float | str | None) for key, value in options.items()):
        raise Refused("static_kwargs holds more than names and numbers")
    variables = {}
    for pair in pairs:
        match pair:
            case (str() as name, _Array(value=np.ndarray() as value)) if name not in variables:
                variables[name] = value
            case _:
                raise Refused("variables is no list of different names with their arrays")
    return PickledNetwork(function, options, variables)
