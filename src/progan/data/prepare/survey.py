"""A look at a few candidates that decides what all of them become."""

from collections.abc import Iterator
from statistics import median_high
from typing import Any

from PIL import Image, ImageColor

from progan.config import PrepareConfig
from progan.data.prepare.decode import Target, fit, without_warnings
from progan.data.sources.base import Source, Unreadable
from progan.errors import DatasetError
from progan.per_resolution import RESOLUTIONS

_LOOKED_AT = 256
_LOOKED_AT_FOR_COLOUR = 64  # these are decoded
_LOOKED_AT_SIZE = 32
_COLOURED = 12  # difference of two channels of a reduced picture that grey pictures saved as JPEG do not reach


@without_warnings()
def survey(source: Source, config: PrepareConfig) -> Target:
    """Resolution and channels for a source: as configured, else decided from images spread over it."""
    entries = [source.entries[position] for position in _spread(len(source.entries), _LOOKED_AT)]
    sizes = [] if source.drawn_at else [image.size for image in _images(source, entries)]
    if not (sizes or source.drawn_at):
        raise DatasetError(f"{source.name} has no image that can be read among {len(entries)} files looked at")
    all_28 = bool(sizes) and set(sizes) == {(28, 28)}
    resolution = config.resolution or source.drawn_at or (32 if all_28 else _largest_filled(sizes, config))
    try:
        red, green, blue, *_ = ImageColor.getrgb(config.background)
    except ValueError:
        raise DatasetError(f"background {config.background!r} is no colour. Write a name or #rrggbb") from None
    fixed = {"grey": 1, "rgb": 3}
    channels = fixed[config.channels] if config.channels != "auto" else _channels(source, entries)
    return Target(resolution, channels, config.crop, (red, green, blue), all_28)


def _images(source: Source, entries: list[Any]) -> Iterator[Image.Image]:
    opened = source.reader.read(entries, _LOOKED_AT_SIZE)
    return (image for image in opened if not isinstance(image, Unreadable))


def _spread(count: int, wanted: int) -> list[int]:
    """At most `wanted` positions, evenly spread over 0 … count."""
    return [position * count // min(count, wanted) for position in range(min(count, wanted))]


def _largest_filled(sizes: list[tuple[int, int]], config: PrepareConfig) -> int:
    """The largest resolution that at least half of the images reach without being enlarged."""
    side = min if config.crop == "center" else max
    middle = median_high([side(width, height) for width, height in sizes])
    filled: list[int] = [resolution for resolution in RESOLUTIONS if resolution <= middle]
    return max(filled, default=4)


def _channels(source: Source, entries: list[Any]) -> int:
    """3 where any picture shows colour, however it is stored."""
    some = [entries[position] for position in _spread(len(entries), _LOOKED_AT_FOR_COLOUR)]
    return 3 if any(_is_coloured(image) for image in _images(source, some)) else 1


def _is_coloured(image: Image.Image) -> bool:
    if image.mode in ("1", "L", "LA", "I", "F") or image.mode.startswith("I;"):
        return False
    try:
        pixels, _ = fit(image, Target(_LOOKED_AT_SIZE, 3, "none", (0, 0, 0)))
    except Unreadable:
        return False
    return bool((pixels.max(-1).astype(int) - pixels.min(-1)).max() > _COLOURED)
