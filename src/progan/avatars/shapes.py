"""Shapes as signed distances: negative inside, in units of the frame they are drawn in.

Distances are to first order: right near the outline, where they matter. A box holds all of its shape.
Numbers are floats or float32 [n, 1, 1] (one per face); coordinates and distances are float32, broadcast to [n, h, w].
Only +, -, *, /, sqrt, min and max are used on pixels: these are exactly rounded, the same on every machine.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np

from progan.avatars.traits import Array

Number = float | Array
Box = tuple[Number, Number, Number, Number]
"""Left, top, right, bottom."""


@dataclass(frozen=True)
class Shape:
    """A region of the plane."""

    distance: Callable[[Array, Array], Array]
    """(x, y) -> signed distance."""
    box: Box


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


def union(*shapes: Shape) -> Shape:
    """What is in any of `shapes`."""
    return Shape(
        lambda u, v: reduce(np.minimum, [shape.distance(u, v) for shape in shapes]),
        _join([shape.box for shape in shapes], _least, _most),
    )


def common(*shapes: Shape) -> Shape:
    """What is in all of `shapes`."""
    return Shape(
        lambda u, v: reduce(np.maximum, [shape.distance(u, v) for shape in shapes]),
        _join([shape.box for shape in shapes], _most, _least),
    )


def without(shape: Shape, hole: Shape) -> Shape:
    """What is in `shape` and not in `hole`."""
    return Shape(lambda u, v: np.maximum(shape.distance(u, v), -hole.distance(u, v)), shape.box)


def outside(shape: Shape) -> Shape:
    """What is not in `shape`."""
    return Shape(lambda u, v: -shape.distance(u, v), (-9.0, -9.0, 9.0, 9.0))


def blend(one: Shape, two: Shape, reach: float) -> Shape:
    """The union with a smooth joint: where both are within `reach`, the distance is up to reach / 4 less."""

    def distance(u: Array, v: Array) -> Array:
        a, b = one.distance(u, v), two.distance(u, v)
        near = np.maximum(reach - np.abs(a - b), 0)
        return np.minimum(a, b) - near * near * (1 / (4 * reach))

    left, top, right, bottom = _join([one.box, two.box], _least, _most)
    grow = reach / 4
    return Shape(distance, (left - grow, top - grow, right + grow, bottom + grow))


def ring(shape: Shape, thick: Number) -> Shape:
    """The outline of `shape`, `thick` to either side."""
    left, top, right, bottom = shape.box
    grown = (left - thick, top - thick, right + thick, bottom + thick)
    return Shape(lambda u, v: np.abs(shape.distance(u, v)) - thick, grown)


def moved(shape: Shape, dx: Number, dy: Number) -> Shape:
    """`shape` shifted by (dx, dy)."""
    left, top, right, bottom = shape.box
    return Shape(lambda u, v: shape.distance(u - dx, v - dy), (left + dx, top + dy, right + dx, bottom + dy))


def mirrored(shape: Shape) -> Shape:
    """Both sides of a face: `shape`, which lies to the right of the middle, and its mirror image."""
    _, top, right, bottom = shape.box
    return Shape(lambda u, v: shape.distance(np.abs(u), v), (-right, top, right, bottom))


def _around(x: Number, y: Number, width: Number, height: Number) -> Box:
    return (x - width, y - height, x + width, y + height)


def _hull(xs: Sequence[Number], ys: Sequence[Number], grow: Number) -> Box:
    return (_least(xs) - grow, _least(ys) - grow, _most(xs) + grow, _most(ys) + grow)


def _join(boxes: Sequence[Box], low: Callable[..., Number], high: Callable[..., Number]) -> Box:
    left, top, right, bottom = zip(*boxes, strict=True)
    return (low(left), low(top), high(right), high(bottom))


def _least(numbers: Sequence[Number]) -> Number:
    # np.minimum of two floats would be a float64 scalar, and turn the pixels it meets into float64.
    return reduce(lambda a, b: np.minimum(a, b) if isinstance(a + b, np.ndarray) else min(a, b), numbers)


def _most(numbers: Sequence[Number]) -> Number:
    return reduce(lambda a, b: np.maximum(a, b) if isinstance(a + b, np.ndarray) else max(a, b), numbers)
