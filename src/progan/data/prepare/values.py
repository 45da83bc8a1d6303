"""The numbers of Pillow's pictures that have more than 8 unsigned bits for a value, as their files have them."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from progan.data.sources.base import Values

_SAMPLE_FORMAT, _PHOTOMETRIC, _BITS = 339, 262, 258  # tags of TIFF
_SIGNED, _WHITE_IS_ZERO = 2, 0
# Pillow's raw mode of 16-bit colour -> that which takes the other, lower byte of every number.
_LOWER_BYTE = {
    "RGB;16B": "RGB;16L", "RGB;16L": "RGB;16B", "RGB;16N": "RGB;16B",
    "RGBA;16B": "RGBA;16L", "RGBA;16L": "RGBA;16B", "RGBA;16N": "RGBA;16B",
    "RGBX;16L": "RGBX;16B", "RGBX;16B": "RGBX;16L", "LA;16B": "RGBA",
}  # fmt: skip
ORIENTATION = 0x0112  # tag of EXIF
# How a camera was held -> what turns it upright.
_UPRIGHT: dict[int, Callable[[npt.NDArray[Any]], npt.NDArray[Any]]] = {
    2: lambda numbers: numbers[:, ::-1],
    3: lambda numbers: numbers[::-1, ::-1],
    4: lambda numbers: numbers[::-1],
    5: lambda numbers: numbers.swapaxes(0, 1),
    6: lambda numbers: np.rot90(numbers, -1),
    7: lambda numbers: numbers[::-1, ::-1].swapaxes(0, 1),
    8: np.rot90,
}


def wide(image: Image.Image) -> bool:
    """True if a file has more than 8 unsigned bits for a value. Looks at its header only."""
    return image.mode[0] in "IF" or (
        image.format in ("PNG", "TIFF") and (_signed_bytes(image) or _sixteen_bits(image) is not None)
    )


def values_of(image: Image.Image) -> Values:
    """The numbers of a picture that is `wide`, as the file has them; Pillow alone would cut colour to 8 bits."""
    tags = _tags(image)
    inverted = tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO  # which Pillow respects for up to 8 bits
    key = image.info.get("transparency") if image.format == "PNG" else None  # the value of all transparent pixels
    if _sixteen_bits(image) is not None:
        numbers, image = _high_and_low(image)
    else:
        image.load()
        numbers = np.asarray(image)
        if _signed_bytes(image):  # Pillow inverts no signed ones, and takes them for unsigned
            numbers = numbers.view(np.int8)
        elif image.mode == "I" and tags.get(_BITS, (0,))[0] == 32 and tags.get(_SAMPLE_FORMAT, (1,))[0] != _SIGNED:
            numbers = numbers.view(np.uint32)  # Pillow's own are signed
    if key is not None and numbers.ndim in (2, 3) and np.ndim(key) == numbers.ndim - 2:
        colours = numbers if numbers.ndim == 3 else numbers[..., None]
        opaque = np.where((colours == key).all(-1, keepdims=True), 0, 65535).astype(numbers.dtype)
        numbers = np.concatenate([colours, opaque], -1)
    turned = _UPRIGHT.get(image.getexif().get(ORIENTATION, 1))  # of a TIFF Pillow has done it
    return Values(turned(numbers) if turned else numbers, inverted)


def _signed_bytes(image: Image.Image) -> bool:
    return image.mode == "L" and _tags(image).get(_SAMPLE_FORMAT, (1,))[0] == _SIGNED


def _tags(image: Any) -> Any:
    """The tags of a TIFF; none of other files."""
    return image.tag_v2 if image.format == "TIFF" else {}


def _sixteen_bits(image: Any) -> str | None:
    """Pillow's raw mode where colour of 16 bits would be cut to 8."""
    for tile in image.tile:
        arguments = tile[3]
        raw = arguments if isinstance(arguments, str) else arguments[0] if isinstance(arguments, tuple) else None
        if raw in _LOWER_BYTE:
            return str(raw)
    return None


def _high_and_low(image: Any) -> tuple[npt.NDArray[np.uint16], Image.Image]:
    """uint16 [H, W, 2 … 4] and the image, which is decoded twice: for the higher byte of every number and the lower."""
    raw, position = _sixteen_bits(image), image.tell()
    assert raw is not None

    def decoded(replacement: str) -> tuple[npt.NDArray[np.uint8], Image.Image]:
        image.fp.seek(0)
        again: Any = Image.open(image.fp, formats=[image.format])
        again.seek(position)
        for place, tile in enumerate(again.tile):
            arguments = replacement if isinstance(tile[3], str) else (replacement, *tile[3][1:])
            # Plain tuples before Pillow 11.
            again.tile[place] = tile._replace(args=arguments) if hasattr(tile, "_replace") else (*tile[:3], arguments)
        again.load()
        return np.asarray(again), again

    if raw == "LA;16B":  # four bytes a pixel, as RGBA has
        parts, again = decoded(_LOWER_BYTE[raw])
        high, low = parts[..., 0::2], parts[..., 1::2]
    else:
        (high, again), (low, _) = decoded(raw), decoded(_LOWER_BYTE[raw])
    return np.asarray(high.astype(np.uint16) * np.uint16(256) + low, np.uint16), again
