"""Shapes, and painting them, layer over layer, on a batch of pictures at once.

Shapes are signed distances: negative inside, in units of the frame they are drawn in, and right to first order: near
the outline, where it matters. A box holds all of its shape.
Numbers are floats or float32 [n, 1, 1] (one per face); coordinates and distances are float32, broadcast to [n, h, w].
Only +, -, *, /, sqrt, min and max are used on pixels: these are exactly rounded, the same on every machine.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from progan.avatars.traits import Array, Choices, Faces, Number

Box = tuple[Number, Number, Number, Number]
"""Left, top, right, bottom."""
EVERYWHERE: Box = (-9.0, -9.0, 9.0, 9.0)


@dataclass(frozen=True)
class Shape:
    """A region of the plane."""

    distance: Callable[[Array, Array], Array]
    """(x, y) -> signed distance."""
    box: Box

    def __or__(self, other: "Shape") -> "Shape":
        """Union of the two."""
        box = _join((self.box, other.box), _least, _most)
        return Shape(lambda u, v: np.minimum(self.distance(u, v), other.distance(u, v)), box)

    @staticmethod
    def union(*shapes: "Shape") -> "Shape":
        """Union of several."""
        return reduce(Shape.__or__, shapes)

    def __and__(self, other: "Shape") -> "Shape":
        """Intersection of the two."""
        box = _join((self.box, other.box), _most, _least)
        return Shape(lambda u, v: np.maximum(self.distance(u, v), other.distance(u, v)), box)

    def __sub__(self, hole: "Shape") -> "Shape":
        """What is in this and not in `hole`: the difference."""
        return Shape(lambda u, v: np.maximum(self.distance(u, v), -hole.distance(u, v)), self.box)

    def __invert__(self) -> "Shape":
        """Complement: everything outside."""
        return Shape(lambda u, v: -self.distance(u, v), EVERYWHERE)

    def ring(self, thick: Number) -> "Shape":
        """The outline, `thick` to either side."""
        return Shape(lambda u, v: np.abs(self.distance(u, v)) - thick, _grown(self.box, thick))

    def moved(self, dx: Number, dy: Number) -> "Shape":
        """The same, shifted by (dx, dy)."""
        left, top, right, bottom = self.box
        return Shape(lambda u, v: self.distance(u - dx, v - dy), (left + dx, top + dy, right + dx, bottom + dy))

    def mirrored(self) -> "Shape":
        """Both sides of a face: this, which lies to the right of the middle, and its mirror image."""
        _, top, right, bottom = self.box
        return Shape(lambda u, v: self.distance(np.abs(u), v), (-right, top, right, bottom))


def circle(x: Number, y: Number, radius: Number) -> Shape:
    """A disc around (x, y)."""
    return Shape(lambda u, v: np.sqrt((u - x) ** 2 + (v - y) ** 2) - radius, _around(x, y, radius, radius))


def ellipse(x: Number, y: Number, width: Number, height: Number) -> Shape:
    """An ellipse with half axes `width` and `height`; distance to first order, f / |grad f|."""

    def distance(u: Array, v: Array) -> Array:
        a, b = (u - x) * (1 / width), (v - y) * (1 / height)
        aa, bb = a * a + 1e-12, b * b  # the middle has no gradient; the tiny number keeps 0 / 0 away
        norm: Array = np.sqrt(aa + bb)
        slope: Array = np.sqrt(aa * (1 / width**2) + bb * (1 / height**2))
        return norm * (norm - 1) / slope

    return Shape(distance, _around(x, y, width, height))


def box(x: Number, y: Number, width: Number, height: Number, corner: Number) -> Shape:
    """A rectangle with half sides `width` and `height` and corners of radius `corner`."""

    def distance(u: Array, v: Array) -> Array:
        a, b = np.abs(u - x) - (width - corner), np.abs(v - y) - (height - corner)
        beyond: Array = np.sqrt(np.maximum(a, 0) ** 2 + np.maximum(b, 0) ** 2)
        within: Array = np.minimum(np.maximum(a, b), 0)
        return beyond + within - corner

    return Shape(distance, _around(x, y, width, height))


def line(x0: Number, y0: Number, x1: Number, y1: Number, thick: Number) -> Shape:
    """A straight stroke with round ends, `thick` to either side."""
    dx, dy = x1 - x0, y1 - y0
    scale = 1 / (dx * dx + dy * dy)

    def distance(u: Array, v: Array) -> Array:
        a, b = u - x0, v - y0
        along = np.clip((a * dx + b * dy) * scale, 0, 1)
        return np.sqrt((a - along * dx) ** 2 + (b - along * dy) ** 2) - thick

    return Shape(distance, _hull((x0, x1), (y0, y1), thick))


def curve(x: Number, y: Number, width: Number, bend: Number, thick: Number, slope: Number = 0.0) -> Shape:
    """A parabolic stroke, from x - width to x + width, ends round and thinner; its middle is `bend` below its ends.

    `y` is the height of the middle of the chord, `slope` the chord's.
    """

    def distance(u: Array, v: Array) -> Array:
        # The height over the parabola, divided by its slope, is the distance to first order; beyond the ends: to them.
        a, b = u - x, v - y
        q: Array = np.clip(a, -width, width)
        share = q * (1 / width)
        steep = slope - share * (2 * bend / width)
        off = b - (slope * q + bend * (1 - share * share))
        across = off * off / (1 + steep * steep)
        away: Array = np.sqrt((a - q) ** 2 + across)
        return away - thick * (1 - 0.35 * share * share)

    rise = _most((slope * width, -slope * width)) + _most((bend, -bend))
    return Shape(distance, _around(x, y, width + thick, rise + 1.5 * thick))


def triangle(x0: float, y0: float, x1: float, y1: float, x2: float, y2: float) -> Shape:
    """The triangle with these corners, either way round."""
    turn = 1.0 if (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0) > 0 else -1.0
    edges = [(x0, y0, x1, y1), (x1, y1, x2, y2), (x2, y2, x0, y0)]
    planes = []
    for ax, ay, bx, by in edges:
        length = turn / ((bx - ax) ** 2 + (by - ay) ** 2) ** 0.5
        planes.append((ax, ay, (by - ay) * length, (ax - bx) * length))

    def distance(u: Array, v: Array) -> Array:
        return reduce(np.maximum, [(u - ax) * nx + (v - ay) * ny for ax, ay, nx, ny in planes])

    return Shape(distance, _hull((x0, x1, x2), (y0, y1, y2), 0.0))


def above(y: Number) -> Shape:
    """The half plane over the line at height y."""
    return Shape(lambda u, v: v - y + 0 * u, (-9.0, -9.0, 9.0, y))


def below(y: Number) -> Shape:
    """The half plane under the line at height y."""
    return Shape(lambda u, v: y - v + 0 * u, (-9.0, y, 9.0, 9.0))


def blend(one: Shape, two: Shape, reach: float) -> Shape:
    """The union with a smooth joint: where both are within `reach`, the distance is up to reach / 4 less."""

    def distance(u: Array, v: Array) -> Array:
        a, b = one.distance(u, v), two.distance(u, v)
        near = np.maximum(reach - np.abs(a - b), 0)
        return np.minimum(a, b) - near * near * (1 / (4 * reach))

    return Shape(distance, _grown((one | two).box, reach / 4))


def _around(x: Number, y: Number, width: Number, height: Number) -> Box:
    return (x - width, y - height, x + width, y + height)


def _hull(xs: Sequence[Number], ys: Sequence[Number], grow: Number) -> Box:
    return _grown((_least(xs), _least(ys), _most(xs), _most(ys)), grow)


def _grown(box: Box, by: Number) -> Box:
    left, top, right, bottom = box
    return (left - by, top - by, right + by, bottom + by)


def _join(boxes: tuple[Box, Box], low: Callable[..., Number], high: Callable[..., Number]) -> Box:
    left, top, right, bottom = zip(*boxes, strict=True)
    return (low(left), low(top), high(right), high(bottom))


def _least(numbers: Sequence[Number]) -> Number:
    # np.minimum of two floats would be a float64 scalar, and turn the pixels it meets into float64.
    return reduce(lambda a, b: np.minimum(a, b) if isinstance(a + b, np.ndarray) else min(a, b), numbers)


def _most(numbers: Sequence[Number]) -> Number:
    return reduce(lambda a, b: np.maximum(a, b) if isinstance(a + b, np.ndarray) else max(a, b), numbers)


@dataclass(frozen=True)
class Layer:
    """One shape in one colour."""

    shape: Shape
    colour: Array
    """float32 [n, 3], 0 ... 255."""
    opacity: Number = 1.0
    soft: float = 0.0
    """Width over which the edge fades, for shading; 0 for an edge as sharp as the pixels allow."""
    clip: Shape | None = None
    """Painted only inside this."""
    frame: str = "head"


Recipe = Callable[[Faces], list[Layer]]
"""Draws a part of some faces: its layers, lowest first."""


class Frame:
    """Coordinates that move with a part of the picture: shifted by (x, y), zoomed and turned about (0, pivot)."""

    def __init__(self, grid: Array, x: Array, y: Array, zoom: Array, tangent: Array, pivot: float) -> None:
        """`grid` float32 [R]: pixel centres in -1 ... 1. x, y, zoom, tangent (of the angle) float32 [n, 1, 1]."""
        # Rotation and zoom from the tangent alone, because sine and cosine differ between machines.
        self.page_x, self.page_y, self.zoom, self.pivot = x, y + pivot, zoom, pivot
        self.cos = zoom / np.sqrt(1 + tangent * tangent)
        self.sin = self.cos * tangent
        u = (grid[None, None, :] - self.page_x) / (zoom * zoom)
        v = (grid[None, :, None] - self.page_y) / (zoom * zoom)
        self.x, self.y = u * self.cos + v * self.sin, v * self.cos - u * self.sin + pivot  # [n, R, R]

    def on_page(self, box: Box, rows: Choices, pad: float) -> tuple[Array, Array, Array, Array]:
        """Left, top, right, bottom float32 [m, 1, 1] of `box`, grown by `pad`, on the pages of pictures `rows` [m]."""
        left, top, right, bottom = box
        x, y, width, height = left + right, top + bottom - 2 * self.pivot, right - left, bottom - top  # all doubled
        # The turned box lies in an upright one: its middle is turned, its half sides add up.
        cos, sin = self.cos[rows] / 2, self.sin[rows] / 2
        page_x, page_y = x * cos - y * sin + self.page_x[rows], x * sin + y * cos + self.page_y[rows]
        across, down = width * cos + height * np.abs(sin) + pad, width * np.abs(sin) + height * cos + pad
        return page_x - across, page_y - down, page_x + across, page_y + down


class Canvas:
    """n pictures being painted: `pixels` float32 [n, 3, R, R], 0 ... 255."""

    def __init__(self, faces: Faces, resolution: int) -> None:
        """Empty pictures for `faces` of `resolution` R."""
        self.resolution = resolution
        self.pixels = np.zeros((len(faces), 3, self.resolution, self.resolution), np.float32)
        grid = ((np.arange(self.resolution, dtype=np.float32) + 0.5) * (2 / self.resolution) - 1).astype(np.float32)
        zero = np.zeros((len(faces), 1, 1), np.float32)
        self.frames = {
            "page": Frame(grid, zero, zero, zero + 1, zero, 0.0),
            "body": Frame(grid, faces["body_x"], zero, zero + 1, zero, 0.0),
            "head": Frame(grid, faces["head_x"], faces["head_y"], faces["zoom"], faces["tilt"], 0.5),
        }

    def paint(self, layer: Layer, rows: Choices) -> None:
        """Paint over the pictures `rows` intp [m]; the layer's numbers and colours are for these m."""
        frame = self.frames[layer.frame]
        box = (layer.shape & layer.clip).box if layer.clip else layer.shape.box
        left, top, right, bottom = frame.on_page(box, rows, max(layer.soft, 4 / self.resolution))
        # Only the rectangle of pixels that the layer can touch is computed.
        columns, within_columns = self._span(left, right)
        lines, within_lines = self._span(top, bottom)
        if columns.start >= columns.stop or lines.start >= lines.stop:
            return
        # Coordinates of these pixels in the frame; an edge fades over one pixel (anti-aliasing) or over `soft`.
        x, y = (_rows(coordinate[:, lines, columns], rows) for coordinate in (frame.x, frame.y))
        pixel = 2 / self.resolution / frame.zoom[rows]  # in units of the frame
        cover = _cover(layer.shape.distance(x, y), np.maximum(pixel, layer.soft))
        if layer.soft:  # a smooth step, so that shading has no visible rim
            cover *= cover * (3 - 2 * cover)
        if layer.clip:
            cover *= _cover(layer.clip.distance(x, y), pixel)
        cover *= within_columns[:, None, :] * layer.opacity
        cover *= within_lines[:, :, None]
        # Blend the colour over what is there, in place.
        under = _rows(self.pixels[:, :, lines, columns], rows)
        change = layer.colour[:, :, None, None] - under
        change *= cover[:, None]
        under += change
        if len(rows) < len(self.pixels):
            self.pixels[rows, :, lines, columns] = under

    def _span(self, low: Array, high: Array) -> tuple[slice, Array]:
        """Slice of the pixels between `low` and `high` (float32 [m, 1, 1], places on the page) in any of m pictures.

        And which of these are so in each picture: 0 or 1, float32 [m, length]. That nothing is painted outside its own
        box makes a picture bit for bit the same, whatever else is in the batch.
        """
        start, stop = (
            np.clip((place[:, :, 0] + 1) * (self.resolution / 2), 0, self.resolution) for place in (low, high)
        )
        start, stop = np.floor(start), np.ceil(stop)
        span = slice(int(start.min()), int(stop.max()))
        pixels = np.arange(span.start, span.stop)
        return span, ((pixels >= start) & (pixels < stop)).astype(np.float32)

    def finish(self, resolution: int) -> NDArray[np.uint8]:
        """The pictures, averaged down to `resolution` and only then rounded: uint8 [n, R, R, 3]."""
        small = self.pixels
        while small.shape[-1] > resolution:  # 2x2 means one after the other: the same sums whatever the batch
            pairs = small[:, :, 0::2] + small[:, :, 1::2]
            small = (pairs[..., 0::2] + pairs[..., 1::2]) * np.float32(0.25)
        pixels: NDArray[np.uint8] = np.clip(small + 0.5, 0, 255).astype(np.uint8)
        return np.moveaxis(pixels, 1, -1)


def _cover(distance: Array, width: Array) -> Array:
    """Fraction of each pixel that is inside, 0 ... 1, for an edge that fades over `width`."""
    assert distance.dtype == np.float32
    share: Array = distance / -width
    share += 0.5
    return np.clip(share, 0, 1, out=share)


def _rows(array: Array, rows: Choices) -> Array:
    """array[rows], a view if that is all of it."""
    return array if len(rows) == len(array) else array[rows]
