"""Tensors and metadata in a .safetensors file: equal content gives equal bytes, and a changed bit is noticed."""

import hashlib
import json

import safetensors.torch
from torch import Tensor

_KEY = b'"sha256":"'
_BLANK = "0" * 64


class DamagedError(ValueError):
    """A file whose bytes do not fit its checksum."""


def to_bytes(tensors: dict[str, Tensor], metadata: dict[str, str]) -> tuple[bytes, memoryview]:
    """The file's content: its beginning, and the numbers.

    The metadata's `sha256` is that of the whole file with 64 zeros in the digest's place.
    """
    content = safetensors.torch.save({name: value.contiguous().cpu() for name, value in tensors.items()})
    size = int.from_bytes(content[:8], "little")
    # The library writes metadata in an order that differs from process to process.
    entries = {"__metadata__": {"sha256": _BLANK, **metadata}, **json.loads(content[8 : 8 + size])}
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # numbers begin at a multiple of 8
    header, numbers = len(text).to_bytes(8, "little") + text, memoryview(content)[8 + size :]
    digest = _digest(header, numbers)
    return header.replace(_BLANK.encode(), digest.encode(), 1), numbers


def from_bytes(content: bytes) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Metadata and tensors. Raises ValueError if it is no .safetensors file, DamagedError if its checksum is wrong.

    Files without a checksum, which older versions wrote, are read as they are.
    """
    end = 8 + int.from_bytes(content[:8], "little")
    try:
        entries = json.loads(content[8:end])
    except ValueError:
        raise ValueError("it is cut short, or no .safetensors file") from None
    metadata = entries.get("__metadata__") if isinstance(entries, dict) else None
    metadata = metadata if isinstance(metadata, dict) else {}
    if "sha256" in metadata:
        at = content.find(_KEY, 8, end) + len(_KEY)
        header = content[:at] + _BLANK.encode() + content[at + len(_BLANK) : end]
        if _digest(header, memoryview(content)[end:]) != metadata["sha256"]:
            raise DamagedError("its bytes do not fit its checksum")
    try:
        return metadata, safetensors.torch.load(content)
    except safetensors.SafetensorError as error:
        raise ValueError(str(error)) from None


def _digest(header: bytes, numbers: memoryview) -> str:
    digest = hashlib.sha256(header)
    digest.update(numbers)
    return digest.hexdigest()
