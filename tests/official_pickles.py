"""Network pickles in the authors' layout, made here, and files that only look like them."""

import io
import pickle
import struct
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from reference_networks import CONFIGS, SHAPES, load, variables

SMALL = Path(__file__).parent / "reference" / "network-final-small-nosrc.pkl"


class Network:
    """Becomes `tfutil.Network` while it is pickled."""

    def __init__(self, state: Any) -> None:
        self.__dict__["state"] = state

    def __getstate__(self) -> Any:
        return self.__dict__["state"]


@contextmanager
def _as_official() -> Iterator[None]:
    before = Network.__module__
    Network.__module__, sys.modules["tfutil"] = "tfutil", types.ModuleType("tfutil")
    sys.modules["tfutil"].Network = Network
    yield
    Network.__module__ = before
    del sys.modules["tfutil"]


def dump(content: Any, protocol: int = 4) -> bytes:
    """The pickle of anything that may hold Networks."""
    with _as_official():
        return pickle.dumps(content, protocol)


def state(name: str = "b_r16_lab", fused: bool = True, lod: float = 0.0, **options: Any) -> dict[str, Any]:
    """The state of a generator of the reference."""
    own = variables(load(f"generator_{name}"), fused)
    shape, model = SHAPES[name], CONFIGS[name]
    kwargs = {"num_channels": shape["channels"], "resolution": shape["resolution"], "label_size": shape["label_size"]}
    kwargs |= {"fmap_base": model.fmap_base, "fmap_max": model.fmap_max, "latent_size": model.z_dim}
    pairs = [("lod", np.float32(lod)), *((key, np.ascontiguousarray(x)) for key, x in own.items() if key != "lod")]
    return {
        "version": 2,
        "name": "Gs",
        "static_kwargs": {**kwargs, **options},
        "build_module_src": "",
        "build_func_name": "G_paper",
        "variables": pairs,
    }


def networks(third: Any, first: Any = None) -> tuple[Any, ...]:
    """G, D and Gs, of which only the last matters."""
    other = Network(first or {**state(), "variables": []})
    return other, other, Network(third)


def changed(**changes: Any) -> bytes:
    """A file whose Gs has another state."""
    return dump(networks({**state(), **changes}))


def with_options(**options: Any) -> bytes:
    return changed(static_kwargs={**state()["static_kwargs"], **options})


def with_variables(**changes: Any) -> bytes:
    """Some variables replaced (`__` for /), None taken out."""
    own = dict(state()["variables"]) | {name.replace("__", "/"): value for name, value in changes.items()}
    return changed(variables=[(name, value) for name, value in own.items() if value is not None])


def text(word: str) -> bytes:
    """Instruction: push a string."""
    return b"X" + struct.pack("<I", len(word)) + word.encode()


def call(module: str, name: str, argument: str) -> bytes:
    """A pickle that calls a function with a string."""
    return b"\x80\x04" + text(module) + text(name) + b"\x93" + text(argument) + b"\x85R."


def numpy_call(module: str, name: str, arguments: bytes) -> bytes:
    """A pickle that calls one of the admitted names in its own way; `arguments` is a tuple's instructions."""
    return b"\x80\x04" + text(module) + text(name) + b"\x93" + arguments + b"R."


def billion_laughs() -> bytes:
    """A tuple of two tuples of two tuples … 2^40 leaves in a few bytes."""
    content = io.BytesIO()
    content.write(b"\x80\x04)q\x00")
    for _ in range(40):
        content.write(b"h\x00h\x00\x86q\x00")
    return content.getvalue() + b"."


def hostile(marker: Path) -> dict[str, bytes]:
    """Files by what is wrong with them. Code that ran would make the marker."""
    small = SMALL.read_bytes()
    touch, write = f"touch {marker}", f"open({str(marker)!r}, 'w')"
    own = state()
    weight = dict(own["variables"])["4x4/Conv/weight"]
    f4 = text("numpy") + text("dtype") + b"\x93" + text("f4") + b"\x85R"
    files = {
        "empty": b"",
        "text": b"this is no pickle\n",
        "picture": b"\x89PNG\r\n\x1a\n" + bytes(100),
        "zip": b"PK\x03\x04" + bytes(100),
        "one byte": b"\x80",
        "stop": b".",
        "none": b"N.",
        "a number": dump(3),
        "a list": dump([Network(own)] * 3),
        "two networks": dump(networks(own)[:2]),
        "four networks": dump((*networks(own), Network(own))),
        "no networks": dump((1, 2, 3)),
        "dicts": dump((own, own, own)),
        "state no dict": dump(networks([1, 2])),
        "network without state": b"\x80\x04" + (text("tfutil") + text("Network") + b"\x93)\x81") * 3 + b"\x87.",
        "behind its end": small + b"abc",
        "changed opcode": small[:20] + b"\xff" + small[21:],
        "os.system": call("os", "system", touch),
        "posix.system": call("posix", "system", touch),
        "subprocess": call("subprocess", "getoutput", touch),
        "eval": call("builtins", "eval", write),
        "exec": call("builtins", "exec", write),
        "exec of Python 2": call("__builtin__", "exec", write),
        "import": call("importlib", "import_module", "this"),
        "import by hand": call("builtins", "__import__", "this"),
        "runpy": call("runpy", "run_path", str(marker)),
        "pickle": call("pickle", "loads", "x"),
        "open": call("builtins", "open", str(marker)),
        "pathlib": call("pathlib", "Path", str(marker)),
        "numpy.load": call("numpy", "load", str(marker)),
        "numpy.memmap": call("numpy", "memmap", str(marker)),
        "numpy runstring": call("numpy.testing._private.utils", "runstring", write),
        "numpy.core elsewhere": call("numpy.core.multiarray", "fromfile", str(marker)),
        "torch.load": call("torch", "load", str(marker)),
        "dotted name": call("tfutil", "Network.__init__.__globals__", "x"),
        "old global": b"\x80\x02cos\nsystem\n(" + text(touch) + b"tR.",
        "inst": b"(S'" + touch.encode() + b"'\nios\nsystem\n.",
        "obj": b"(cos\nsystem\nS'" + touch.encode() + b"'\no.",
        "extension": b"\x80\x02\x82\x01.",
        "persistent": b"\x80\x02X\x01\x00\x00\x00aQ.",
        "theano": b"\x80\x02(cnetwork\nNetwork\nq\x01)\x81q\x02}q\x03(U\x04nameq\x04U\x01GubtR.",
        "theano, newer": b"\x80\x04" + text("network") + text("Network") + b"\x93)\x81.",
        "memo of 2^31": b"\x80\x02Nr\xff\xff\xff\x7f.",
        "bytes of 2^62": b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b"abc.",
        "bytearray of 2^40": b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b"abc.",
        "frame of 2^60": b"\x80\x04\x95" + struct.pack("<Q", 2**60) + b"N.",
        "a million instructions": b"\x80\x04" + b"N" * 10**6 + b".",
        "billion laughs": billion_laughs(),
        "stack underflow": b"\x80\x04R.",
        "object array": numpy_call("numpy", "dtype", text("O") + b"\x85"),
        "array in ndarray": numpy_call("numpy", "ndarray", b"J\xff\xff\xff\x7f\x85\x85"),
        "function changed": b"\x80\x04" + text("numpy") + text("dtype") + b"\x93}" + text("a") + b"Nsb.",
        "scalar without bytes": numpy_call("numpy.core.multiarray", "scalar", f4 + text("abcd") + b"\x86"),
        "scalar of five bytes": numpy_call("numpy.core.multiarray", "scalar", f4 + b"C\x05abcde\x86"),
        "array never filled": _never_filled(),
        "other version": changed(version=3),
        "no variables": changed(variables=None),
        "variables no pairs": changed(variables=[1, 2, 3]),
        "variable twice": changed(variables=own["variables"] * 2),
        "options no dict": changed(static_kwargs=[1]),
        "options with a list": with_options(fmap_base=[8192]),
        "built by D_paper": changed(build_func_name="D_paper"),
        "built by os.system": changed(build_func_name="os.system"),
        "source as function": changed(build_func_name=write),
        "resolution 48": with_options(resolution=48),
        "resolution 2^20": with_options(resolution=2**20),
        "resolution of another network": with_options(resolution=32),
        "fmap_base as text": with_options(fmap_base="8192"),
        "fmap_base 2^40": with_options(fmap_base=2**40),
        "fmap_max negative": with_options(fmap_max=-1),
        "fmap_max 0": with_options(fmap_max=0),
        "fmap_base infinite": with_options(fmap_base=float("inf")),
        "fmap_base no number": with_options(fmap_base=float("nan")),
        "four channels": with_options(num_channels=4),
        "half a label": with_options(label_size=0.5),
        "wscale as number": with_options(use_wscale=1),
        "fmap_decay": with_options(fmap_decay=0.5),
        "16 bits": with_options(dtype="float16"),
        "leaky ReLU as number": with_options(use_leakyrelu=0),
        "variable missing": with_variables(ToRGB_lod0__bias=None),
        "variable too many": with_variables(**{"32x32__Conv1__bias": np.zeros(3, np.float32)}),
        "wrong shape": with_variables(**{"4x4__Conv__weight": weight[:, :, :, 1:]}),
        "wrong order": with_variables(**{"4x4__Conv__weight": weight.reshape(-1)}),
        "double precision": with_variables(**{"4x4__Conv__weight": weight.astype(np.float64)}),
        "objects": with_variables(**{"4x4__Conv__weight": np.array([None])}),
        "big endian": with_variables(**{"4x4__Conv__weight": weight.astype(">f4")}),
        "not finite": with_variables(**{"4x4__Conv__weight": np.where(weight > 1, np.nan, weight)}),
        "lod as text": with_variables(lod="0"),
        "lod negative": with_variables(lod=np.float32(-1)),
        "lod beyond 4x4": with_variables(lod=np.float32(2.5)),
    }
    return files | {f"cut after {part} %": small[: len(small) * part // 100] for part in (1, 20, 50, 90, 99)}


def _never_filled() -> bytes:
    """Three networks whose only variable is an array that was made and never given its numbers."""
    array = text("numpy.core.multiarray") + text("_reconstruct") + b"\x93)R"
    own = dump({**state(), "variables": []}, 2)[2:-1]  # without header and end
    pairs = b"](" + text("4x4/Conv/bias") + array + b"\x86e"
    network = text("tfutil") + text("Network") + b"\x93)\x81" + own + text("variables") + pairs + b"sb"
    return b"\x80\x04" + network * 3 + b"\x87."
