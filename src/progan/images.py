"""Between pixels and images, and between one resolution and the next.

Pixels are uint8 in 0…255; images are float in -1…1. Only this module converts.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor


def at_once(resolution: int, most: int = 32) -> int:
    """How many images of a resolution a generator should make at once: a few large ones take no less time than many.

    32 of 1024x1024 in fp32 take 8 GB with the paper's widths, 2 take 1.2 GB.
    """
    return max(1, min(most, 32 * 256**2 // resolution**2))


def to_images(pixels: Tensor | npt.NDArray[np.uint8], dtype: torch.dtype = torch.float32) -> Tensor:
    """Pixels uint8 [N, C, R, R], a tensor or an array -> images `dtype` [N, C, R, R] in -1…1."""
    return torch.as_tensor(pixels).to(dtype) * (2 / 255) - 1


def to_pixels(images: Tensor | npt.NDArray[Any]) -> Tensor:
    """Images float [N, C, R, R], any range, a tensor or an array -> pixels uint8 [N, C, R, R], rounded and clipped.

    A bare cast would wrap -1.01 to 255 and pepper the picture with white dots.
    """
    x = images if isinstance(images, Tensor) else torch.as_tensor(images)  # which tracing would warn of
    return ((x.float() + 1) * (255 / 2)).round().clamp(0, 255).to(torch.uint8)


def upscale(x: Tensor, factor: int = 2) -> Tensor:
    """[N, C, H, W] -> [N, C, H·factor, W·factor], nearest neighbour."""
    return x if factor == 1 else F.interpolate(x, scale_factor=factor, mode="nearest")


def downscale(x: Tensor, factor: int = 2) -> Tensor:
    """[N, C, H, W] -> [N, C, H/factor, W/factor], the mean of each square."""
    return x if factor == 1 else F.avg_pool2d(x, factor)


def fade(images: Tensor, alpha: float | Tensor) -> Tensor:
    """Real images [N, C, R, R] as the fading networks see them: alpha of R, the rest of R/2 (paper, figure 2)."""
    if isinstance(alpha, float) and alpha == 1:
        return images
    return torch.lerp(upscale(downscale(images)), images, alpha)


def mirror(images: Tensor, uniform: Tensor) -> Tensor:
    """[N, C, R, R], flipped left to right where uniform [N] is at least 0.5."""
    return torch.where(uniform.view(-1, 1, 1, 1) >= 0.5, images.flip(3), images)


def grid(pixels: Tensor, columns: int, gap: int = 0) -> Tensor:
    """Pixels uint8 [N, C, R, R] -> one picture uint8 [C, H, W], row by row, white `gap`s, empty cells white."""
    n, c, r, _ = pixels.shape
    rows = -(-n // columns)
    cells = pixels.new_full((rows * columns, c, r + gap, r + gap), 255)
    cells[:n, :, :r, :r] = pixels
    sheet = cells.view(rows, columns, c, r + gap, r + gap).permute(2, 0, 3, 1, 4)  # [C, rows, R, columns, R]
    return sheet.reshape(c, rows * (r + gap), columns * (r + gap))[
        :, : rows * (r + gap) - gap, : columns * (r + gap) - gap
    ]


def pil_image(sheet: Tensor) -> Image.Image:
    """Pixels uint8 [C, H, W], grey or RGB, as a PIL image."""
    array = sheet.permute(1, 2, 0).cpu().numpy()
    return Image.fromarray(array[..., 0] if array.shape[2] == 1 else array)
