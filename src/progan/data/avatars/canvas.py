"""Painting shapes, layer over layer, on a batch of pictures at once."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from progan.data.avatars.shapes import Number, Shape, common
from progan.data.avatars.traits import Array, Choices, Faces

FINEST_DETAIL = 64
"""Smaller pictures are averaged down from this resolution: strokes are wider than one of its pixels."""


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
"""How a part is drawn: its layers, lowest first."""


class Frame:
    """Coordinates that move with a part of the picture: shifted, zoomed and turned about the pivot (0, down)."""

    def __init__(self, grid: Array, x: Array, y: Array, zoom: Array, tangent: Array, down: float) -> None:
        """`grid` float32 [R]: pixel centres in -1 ... 1. x, y, zoom, tangent float32 [n, 1, 1]."""
        self.shift_x, self.shift_y, self.down = x, y + down, down
        self.cos = zoom / np.sqrt(1 + tangent * tangent)
        self.sin = tangent * self.cos
        u, v = grid[None, None, :] - self.shift_x, grid[None, :, None] - self.shift_y
        shrink = 1 / (self.cos**2 + self.sin**2)
        if np.any(tangent):
            self.x, self.y = (u * self.cos + v * self.sin) * shrink, (v * self.cos - u * self.sin) * shrink + down
        else:  # stays separable: [n, 1, R] and [n, R, 1]
            self.x, self.y = u / self.cos, v / self.cos + down
        self.zoom = zoom

    def page_box(self, shape: Shape, rows: Choices, pad: float) -> tuple[float, float, float, float]:
        """What `shape`, grown by `pad`, covers of the page in any of the pictures `rows`: left, top, right, bottom."""
        left, top, right, bottom = shape.box
        corners = [(x, y - self.down) for x in (left - pad, right + pad) for y in (top - pad, bottom + pad)]
        cos, sin, shift_x, shift_y = (value[rows] for value in (self.cos, self.sin, self.shift_x, self.shift_y))
        xs = [x * cos - y * sin + shift_x for x, y in corners]
        ys = [x * sin + y * cos + shift_y for x, y in corners]
        return (min(map(np.min, xs)), min(map(np.min, ys)), max(map(np.max, xs)), max(map(np.max, ys)))


class Canvas:
    """n pictures being painted: `pixels` float32 [n, 3, R, R], 0 ... 255."""

    def __init__(self, faces: Faces, resolution: int) -> None:
        """Empty pictures for `faces`, at least FINEST_DETAIL wide."""
        self.resolution = max(resolution, FINEST_DETAIL)
        self.pixels = np.zeros((len(faces), 3, self.resolution, self.resolution), np.float32)
        grid = ((np.arange(self.resolution, dtype=np.float32) + 0.5) * (2 / self.resolution) - 1).astype(np.float32)
        zero = np.zeros((len(faces), 1, 1), np.float32)
        self.frames = {
            "page": Frame(grid, zero, zero, zero + 1, zero, 0.0),
            "body": Frame(grid, faces["body_x"], zero, zero + 1, zero, 0.0),
            "head": Frame(grid, faces["head_x"], faces["head_y"], faces["zoom"], faces["tilt"], 0.5),
        }

    def paint(self, layers: list[Layer], rows: Choices) -> None:
        """Paint `layers`, lowest first, on the pictures `rows` intp [m]; their numbers and colours are for these m."""
        for layer in layers:
            self._paint(layer, rows)

    def _paint(self, layer: Layer, rows: Choices) -> None:
        frame = self.frames[layer.frame]
        pixel = 2 / self.resolution / frame.zoom[rows]  # in units of the frame
        reach = common(layer.shape, layer.clip) if layer.clip else layer.shape
        left, top, right, bottom = frame.page_box(reach, rows, max(layer.soft, 4 / self.resolution))
        columns, lines = self._span(left, right), self._span(top, bottom)
        if columns.start >= columns.stop or lines.start >= lines.stop:
            return
        x, y = _window(frame.x, rows, lines, columns), _window(frame.y, rows, lines, columns)
        cover = _cover(layer.shape.distance(x, y), np.maximum(pixel, layer.soft))
        if layer.soft:
            cover = cover * cover * (3 - 2 * cover)
        if layer.clip:
            cover = cover * _cover(layer.clip.distance(x, y), pixel)
        cover = (cover * layer.opacity)[:, None]
        under = _window(self.pixels, rows, lines, columns)
        under += cover * (layer.colour[:, :, None, None] - under)
        if len(rows) < len(self.pixels):
            self.pixels[rows, :, lines, columns] = under

    def _span(self, low: float, high: float) -> slice:
        """The pixels between two places on the page."""
        half = self.resolution / 2
        return slice(max(int((low + 1) * half), 0), min(int((high + 1) * half) + 1, self.resolution))

    def finish(self, resolution: int) -> NDArray[np.uint8]:
        """The pictures, averaged down to `resolution` and only then rounded: uint8 [n, R, R, 3]."""
        small = self.pixels
        while small.shape[-1] > resolution:  # 2x2 means one after the other: the same sums whatever the batch
            rows = small[:, :, 0::2] + small[:, :, 1::2]
            small = (rows[..., 0::2] + rows[..., 1::2]) * np.float32(0.25)
        pixels: NDArray[np.uint8] = np.clip(small + 0.5, 0, 255).astype(np.uint8)
        return np.moveaxis(pixels, 1, -1)


def _cover(distance: Array, width: Array) -> Array:
    """How much of each pixel is inside, 0 ... 1, for an edge that fades over `width`."""
    assert distance.dtype == np.float32
    return np.clip(0.5 - distance / width, 0, 1)


def _window(array: Array, rows: Choices, lines: slice, columns: slice) -> Array:
    """A part of float32 [n, ..., R, R], a view if all rows are asked for; an axis of length 1 stands for any length."""
    lines = lines if array.shape[-2] > 1 else slice(None)
    columns = columns if array.shape[-1] > 1 else slice(None)
    part = array[..., lines, columns]
    return part if len(rows) == len(array) else part[rows]
