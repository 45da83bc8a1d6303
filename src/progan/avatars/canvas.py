"""Painting shapes, layer over layer, on a batch of pictures at once."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from progan.avatars.shapes import Box, Number, Shape, common
from progan.avatars.traits import Array, Choices, Faces


def working_resolution(resolution: int) -> int:
    """What pictures of `resolution` are painted at: small ones larger, then averaged down, for their finest strokes."""
    return max(64, min(2 * resolution, 128), resolution)


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
    """Coordinates that move with a part of the picture: shifted by (x, y), zoomed and turned about (0, pivot)."""

    def __init__(self, grid: Array, x: Array, y: Array, zoom: Array, tangent: Array, pivot: float) -> None:
        """`grid` float32 [R]: pixel centres in -1 ... 1. x, y, zoom, tangent (of the angle) float32 [n, 1, 1]."""
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
        cos, sin = self.cos[rows] / 2, self.sin[rows] / 2
        page_x, page_y = x * cos - y * sin + self.page_x[rows], x * sin + y * cos + self.page_y[rows]
        across, down = width * cos + height * np.abs(sin) + pad, width * np.abs(sin) + height * cos + pad
        return page_x - across, page_y - down, page_x + across, page_y + down


class Canvas:
    """n pictures being painted: `pixels` float32 [n, 3, R, R], 0 ... 255."""

    def __init__(self, faces: Faces, resolution: int) -> None:
        """Empty pictures for `faces`, at the working resolution for `resolution`."""
        self.resolution = working_resolution(resolution)
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
        box = common(layer.shape, layer.clip).box if layer.clip else layer.shape.box
        left, top, right, bottom = frame.on_page(box, rows, max(layer.soft, 4 / self.resolution))
        columns, within_columns = self._span(left, right)
        lines, within_lines = self._span(top, bottom)
        if columns.start >= columns.stop or lines.start >= lines.stop:
            return
        x, y = (_rows(coordinate[:, lines, columns], rows) for coordinate in (frame.x, frame.y))
        pixel = 2 / self.resolution / frame.zoom[rows]  # in units of the frame
        cover = _cover(layer.shape.distance(x, y), np.maximum(pixel, layer.soft))
        if layer.soft:
            cover *= cover * (3 - 2 * cover)
        if layer.clip:
            cover *= _cover(layer.clip.distance(x, y), pixel)
        cover *= within_columns[:, None, :] * layer.opacity
        cover *= within_lines[:, :, None]
        under = _rows(self.pixels[:, :, lines, columns], rows)
        change = layer.colour[:, :, None, None] - under
        change *= cover[:, None]
        under += change
        if len(rows) < len(self.pixels):
            self.pixels[rows, :, lines, columns] = under

    def _span(self, low: Array, high: Array) -> tuple[slice, Array]:
        """The pixels between `low` and `high` (float32 [m, 1, 1], places on the page) in any of m pictures: a slice.

        And which of these are so in each picture: 0 or 1, float32 [m, length]. To paint nothing outside its own box
        is what makes a picture the same, to the bit, whatever else is in the batch.
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
    """How much of each pixel is inside, 0 ... 1, for an edge that fades over `width`."""
    assert distance.dtype == np.float32
    share: Array = distance / -width
    share += 0.5
    return np.clip(share, 0, 1, out=share)


def _rows(array: Array, rows: Choices) -> Array:
    """array[rows], a view if that is all of it."""
    return array if len(rows) == len(array) else array[rows]
