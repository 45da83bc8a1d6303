"""Resolution, channels and range of values that a source's images get, decided by a look before any is prepared."""

import dataclasses
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from statistics import median_high
from typing import Any

from PIL import Image, ImageColor

from progan.config import PrepareConfig
from progan.data.prepare.decode import (
    LOOKED_AT_SIZE,
    Target,
    decode_chunk,
    fit,
    is_grey,
    shows_colour,
    without_warnings,
)
from progan.data.prepare.faces import FaceCrop
from progan.data.prepare.output import FACE_COLUMNS
from progan.data.prepare.ranges import Extremes, Ranges, decide, look, look_at
from progan.data.prepare.workers import FEW_IMAGES, chunk_size, core_count, ordered_map
from progan.data.sources.base import Picture, Source, Unreadable, Values
from progan.errors import DatasetError
from progan.per_resolution import RESOLUTIONS

_ENOUGH_FACES = 64  # to decide the resolution
_LOOKED_AT, _LOOKED_AT_FOR_COLOUR = 256, 64  # images, and images to be decoded


@without_warnings()
def survey(source: Source, config: PrepareConfig) -> Target:
    """Resolution, channels and range of values of a source: as configured, else decided by a look at images spread over
    it, and by one at all of them where the range is not known from their type.
    """
    entries = _spread(source.entries, _LOOKED_AT)
    sizes: list[tuple[int, int]] = []
    reasons: Counter[str] = Counter()

    def looked_at() -> Iterator[Picture]:
        for image in source.reader.read(entries, LOOKED_AT_SIZE):
            if isinstance(image, Unreadable):
                reasons[str(image)] += 1
                continue
            sizes.append(image.size)
            yield image

    found = Extremes() if source.drawn_at else look(looked_at(), every=False)
    if not (sizes or source.drawn_at):
        why = f" ({reasons.most_common(1)[0][0]})" if reasons else ""
        raise DatasetError(f"{source.name} has no image that can be read among {len(entries)} files looked at{why}")
    try:
        red, green, blue, *_ = ImageColor.getrgb(config.background)
    except ValueError:
        raise DatasetError(f"background {config.background!r} is not a colour. Write a name or #rrggbb") from None
    ranges, faces = _ranges(source, found, config), face_crop(config)
    target = Target(4, 3, config.crop, (red, green, blue), ranges=ranges, faces=faces)
    all_28 = bool(sizes) and set(sizes) == {(28, 28)} and faces is None
    resolution = config.resolution or source.drawn_at or (32 if all_28 else 0)
    if not resolution:  # the largest that at least half of the images reach without being enlarged
        sides = [min(size) if config.crop == "center" else max(size) for size in sizes]
        middle = median_high(sides if faces is None else _face_sides(source, target, config.device))
        resolution = max((size for size in RESOLUTIONS if size <= middle), default=4)
    some = source.reader.read(_spread(entries, _LOOKED_AT_FOR_COLOUR), LOOKED_AT_SIZE)
    # By default: three channels where any picture shows colour, however it is stored.
    all_grey = config.channels == "auto" and not any(_is_coloured(image, ranges) for image in some)
    channels = 1 if all_grey or config.channels == "grey" else 3
    return dataclasses.replace(target, resolution=resolution, channels=channels, all_grey=all_grey, pad_28=all_28)


def _face_sides(source: Source, target: Target, device: str) -> list[int]:
    """Sides in pixels of what is cut out for some faces of pictures spread over the source. Raises DatasetError."""
    spread, sides = _spread(range(len(source.entries)), _LOOKED_AT), list[int]()
    step = -(-len(spread) // FEW_IMAGES)
    for start in range(step):  # parts that are spread over it, too
        some = spread[start::step]
        points = None if source.points is None else source.points[some]
        chunk = decode_chunk(source.reader, [source.entries[at] for at in some], target, device, points)
        sides += [dict(zip(FACE_COLUMNS, columns[3:], strict=True))["side"] for columns in chunk.kept]
        if len(sides) >= _ENOUGH_FACES:
            break
    if not sides:
        raise DatasetError(
            f"no face that can be used was found in {len(spread)} pictures of {source.name} spread over it. "
            "Give --resolution, which they would have decided, to look at all of them"
        )
    return sides


def _ranges(source: Source, found: Extremes, config: PrepareConfig) -> Ranges:
    """The range of a source's values: the user's, or that of 8 bits, or found by a first pass over the whole source.

    The pass is made where some of the images looked at have other numbers (`found`), or all may be masks.
    """
    if ends := config.range_ends():
        return Ranges.by_user(*ends)
    if found.ends.keys() <= {"bytes"} and not found.has_masks:
        return Ranges()
    return decide(measure(source, config))


def measure(source: Source, config: PrepareConfig) -> Extremes:
    """Extremes of all of a source, computed by the worker processes."""
    total, workers = len(source.entries), config.workers or core_count()
    size = chunk_size(total, workers)
    parts = [source.entries[start : start + size] for start in range(0, total, size)]
    found = Extremes()
    with closing(
        ordered_map(look_at, ((source.reader, part, LOOKED_AT_SIZE) for part in parts), min(workers, len(parts)))
    ) as looks:
        for part in looks:
            found = found.joined(part)
    return found


def _spread(entries: Sequence[Any], wanted: int) -> list[Any]:
    """At most `wanted` of the entries, spread over all without a rhythm, which they themselves may have."""
    positions = random.Random(len(entries)).sample(range(len(entries)), min(len(entries), wanted))
    return [entries[position] for position in sorted(positions)]


def _is_coloured(image: Picture | Unreadable, ranges: Ranges) -> bool:
    if isinstance(image, Unreadable):
        return False
    if isinstance(image, Values):
        if image.colours.ndim == 2:
            return False
    elif is_grey(image.mode):
        return False
    try:
        pixels, _ = fit(image, Target(LOOKED_AT_SIZE, 3, "none", (0, 0, 0), ranges=ranges))
    except Unreadable:
        return False
    return shows_colour(Image.fromarray(pixels))


def face_crop(config: PrepareConfig) -> FaceCrop | None:
    """The options of faces; None where none are cut out."""
    if config.crop != "faces":
        return None
    return FaceCrop(config.faces, config.min_face, config.min_confidence, config.align, config.margin, config.detector)
