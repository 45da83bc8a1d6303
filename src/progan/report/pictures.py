"""Pixels as pictures inside a page."""

import base64
import math
from collections.abc import Sequence
from io import BytesIO

import torch
from PIL import Image
from torch import Tensor

from progan.images import grid
from progan.report.html import text

_LOSSLESS = 512 * 512  # pixels of a sheet from which a little loss is worth its bytes


def data_uri(sheet: Tensor) -> str:
    """Pixels uint8 [C, H, W] as WebP inside a `data:` address: lossless, or of quality 90 where it is large."""
    array = sheet.permute(1, 2, 0).cpu().numpy()
    file = BytesIO()
    image = Image.fromarray(array[..., 0] if array.shape[2] == 1 else array)
    image.save(file, "webp", lossless=array.shape[0] * array.shape[1] <= _LOSSLESS, quality=90, method=4)
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode()


def image(sheet: Tensor, alt: str, width: int | None = None) -> str:
    """An <img> of pixels uint8 [C, H, W], enlarged to `width` pixels without smoothing."""
    size = f' style="width:{width}px"' if width else ""
    return f'<img class="pixels" alt="{text(alt)}"{size} src="{data_uri(sheet)}">'


def sheet(pixels: Tensor, columns: int | None = None, gap: int = 1) -> Tensor:
    """Pixels uint8 [N, C, R, R] as one picture uint8 [C, H, W], about square."""
    return grid(pixels, columns or math.ceil(math.sqrt(len(pixels))), gap)


def cell(resolution: int) -> int:
    """Pixels of the screen for a side of an image: small ones are enlarged, so that all stages compare."""
    return max(40, min(resolution, 128))


def image_grid(pixels: Tensor, alt: str, columns: int | None = None, side: int | None = None) -> str:
    """An <img> of a grid; `side`: pixels of the screen for an image."""
    columns = columns or math.ceil(math.sqrt(len(pixels)))
    return image(sheet(pixels, columns), alt, columns * (side or cell(pixels.shape[2])))


def strips(rows: Sequence[Tensor]) -> Tensor:
    """Rows of as many images each, [n, C, R, R], under each other: uint8 [C, H, W]."""
    return sheet(torch.cat(list(rows)), columns=len(rows[0]))
