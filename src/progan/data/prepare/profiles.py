"""Colour profiles: pictures whose embedded ICC profile says other colours than sRGB are converted to it."""

import functools
import io
from typing import Any

import numpy as np
from PIL import Image

from progan.data.prepare.ranges import Tally

_MODES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}
"""Colour space of a profile -> Pillow's mode of pixels that it describes."""
_SAME = 3  # levels that profiles which all mean sRGB differ by


def to_srgb(image: Image.Image, tally: Tally) -> Image.Image:
    """The decoded picture in sRGB: as it is without a profile, and where the profile is sRGB or makes no sense."""
    profile = image.info.get("icc_profile")
    if not profile:
        return image
    try:
        space, transform = _transform(profile)
        if transform is None:
            return image
        flat, alpha = _plain(image)
        if flat.mode != _MODES[space]:
            raise ValueError(f"a profile of {space} in a picture of mode {image.mode}")
        converted: Image.Image = transform.apply(flat)
    except Exception:  # damaged in any way; the picture is still one
        tally.profiles_ignored += 1
        return image
    tally.recoloured += 1
    if alpha is not None:
        converted.putalpha(alpha)
    return converted


def is_foreign(image: Image.Image) -> bool:
    """True if a picture's profile is sound and other than sRGB."""
    try:
        return bool(image.info.get("icc_profile")) and _transform(image.info["icc_profile"])[1] is not None
    except Exception:
        return False


def _plain(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """The picture in mode L, RGB or CMYK, and its transparency."""
    if image.has_transparency_data:
        whole = image.convert("LA" if image.mode in ("L", "LA", "La") else "RGBA")
        return whole.convert(whole.mode[:-1]), whole.getchannel("A")
    if image.mode in ("L", "RGB", "CMYK"):
        return image, None
    return image.convert("L" if image.mode == "1" else "RGB"), None


@functools.lru_cache(maxsize=32)
def _transform(profile: bytes) -> tuple[str, Any]:
    """The profile's colour space, and its transform to sRGB; None where that changes next to nothing.

    Raises for what is no profile, and for spaces that Pillow has no pixels of.
    """
    from PIL import ImageCms

    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    space = source.profile.xcolor_space.strip()
    mode = _MODES[space]
    transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
    if mode != "CMYK":  # sRGB is recognised by what it does: its profiles have many names
        steps = np.linspace(0, 255, 18).round().astype(np.uint8)
        cube = np.stack(np.meshgrid(steps, steps, steps), -1).reshape(1, -1, 3)
        if mode == "L":
            cube = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, 2)
        image = Image.fromarray(cube[..., 0] if mode == "L" else cube)
        converted = ImageCms.applyTransform(image, transform)
        if np.abs(np.asarray(converted).astype(int) - cube).max() <= _SAME:
            return space, None
    return space, transform
