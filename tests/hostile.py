"""Input that nobody means well: damaged bytes, odd values, names that lead elsewhere, pickles that act when read."""

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from progan.errors import ProganError

cases = settings(
    max_examples=2000 if os.environ.get("PROGAN_HYPOTHESIS") == "thorough" else 200,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large],
)
"""200 cases of a property; 2,000 with PROGAN_HYPOTHESIS=thorough."""

NUMBERS = st.one_of(
    st.integers(-3, 70),
    st.sampled_from([2**31, 2**53 + 1, 2**64, 10**30, -(2**63), 10**400]),
    st.floats(allow_nan=True, allow_infinity=True),
    st.sampled_from([1e306, 5e-324, 4.5, -0.0]),
)
_TEXTS = " none None auto nan inf -inf 1e306 1e-400 0x10 1_0 ٣ 4:1,8: : 4:nan 4:1,4:2 8:1,4:1 3:1 true ../x /dev/null"
TEXTS = st.one_of(
    st.text(max_size=12), st.sampled_from([*_TEXTS.split(" "), " ", "\0", "a\0b", "a\nb", "\udcff", "x" * 999])
)
SCALARS = st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)
_NAMES = (
    "../evil.png /evil.png a/../../evil.png ..\\evil.png C:\\evil.png a//b.png ./a.png a/. a.zip a/b.zip/c.png "
    "=1+1.png -rf.png CON ~ *.png dataset.json labels.npy images-0004.npy .. . \u202egnp.exe"
)
NAMES = st.one_of(
    st.sampled_from([*_NAMES.split(" "), " ", "a\nb.png", "a\0b.png", "\udcff.png", "x" * 300 + ".png"]),
    st.text(max_size=8).map(lambda text: text + ".png"),
)


def changed(value: Any, draw: Callable[[Any], Any]) -> Any:
    """A JSON value with one of its parts replaced, dropped or added."""
    if isinstance(value, dict) and value and draw(st.integers(0, 4)):
        key = draw(st.sampled_from(sorted(value)))
        return {**value, key: changed(value[key], draw)}
    if isinstance(value, dict) and draw(st.booleans()):
        return {name: each for name, each in value.items() if name != draw(st.sampled_from([*sorted(value), ""]))}
    if isinstance(value, dict) and draw(st.booleans()):
        return {**value, draw(TEXTS): draw(SCALARS)}
    if isinstance(value, list) and value and draw(st.booleans()):
        i = draw(st.integers(0, len(value) - 1))
        return [*value[:i], changed(value[i], draw), *value[i + 1 :]]
    return draw(JSON)


def damaged(content: bytes, draw: Callable[[Any], Any]) -> bytes:
    """Bytes cut off, flipped, overwritten, doubled, put in between, or none of them left."""
    at = draw(st.integers(0, max(0, len(content) - 1)) | st.integers(0, min(64, len(content))))
    piece = draw(st.binary(max_size=12) | st.sampled_from([b"\xff" * 8, b"\0" * 8, b"\xff\xff\xff\x7f"]))
    match draw(st.sampled_from(["cut", "flip", "flip", "overwrite", "insert", "remove", "double", "random"])):
        case "cut":
            return content[:at]
        case "flip":
            flipped = bytearray(content)
            for _ in range(draw(st.integers(1, 4))):
                flipped[draw(st.integers(0, len(content) - 1))] ^= 1 << draw(st.integers(0, 7))
            return bytes(flipped)
        case "overwrite":
            return content[:at] + piece + content[at + len(piece) :]
        case "insert":
            return content[:at] + piece + content[at:]
        case "remove":
            return content[:at] + content[at + draw(st.integers(1, 100)) :]
        case "double":
            return content + content[at:]
        case _:
            return draw(st.binary(max_size=200))


class Payload:
    """Unpickled, it makes a file: whoever finds that file has run code from data."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def pickled(path: Path) -> bytes:
    """A pickle that makes the folder `path` when it is run."""
    return pickle.dumps(Payload(path))


def fine_or_refused(work: Callable[[], Any]) -> Any:
    """What work gives, or None where it is refused as a user's mistake. Anything else that is raised fails."""
    try:
        return work()
    except ProganError as error:
        return None if str(error).strip() else pytest.fail("refused without a word")


def tree(folder: Path) -> dict[str, bytes | None]:
    """Everything below a folder, with the content of files."""
    found = sorted(folder.rglob("*"))
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in found}
