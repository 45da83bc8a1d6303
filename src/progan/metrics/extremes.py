"""Faults of single pixels: lone dots of black or white, and values the clipping has to cut."""

import torch
import torch.nn.functional as F
from torch import Tensor

from progan.errors import ConfigError
from progan.images import to_pixels
from progan.metrics.base import Value
from progan.metrics.intervals import mean_of
from progan.metrics.setting import Setting

EXTREME = 5
"""Pixel values this near to 0 or 255 are extreme."""
CONTRAST = 128
"""All neighbours of a lone pixel differ from it by at least this much."""
MILLION = 1e6


class Extremes:
    """`isolated_extremes` and `out_of_range`, both per million pixel values of the fakes.

    A value is isolated if it is at most 5 or at least 250 and differs from all its (up to eight) neighbours of the same
    colour by 128 or more, as where a cast wraps around. Out of range is what rounds to less than 0 or more than 255
    before clipping; pixels instead of images have none. The intervals are normal, over images.
    """

    def __init__(self, setting: Setting) -> None:
        self._isolated: list[Tensor] = []
        self._outside: list[Tensor] = []

    def update(self, images: Tensor, real: bool) -> None:
        """Images float [N, C, R, R], unclipped."""
        if real:
            return
        values = ((images.float() + 1) * (255 / 2)).round()
        self._outside.append(MILLION * ((values < 0) | (values > 255)).double().mean((1, 2, 3)))
        self._isolated.append(MILLION * isolated(to_pixels(images)).double().mean((1, 2, 3)))

    def result(self) -> dict[str, Value]:
        """See Metric."""
        if sum(map(len, self._outside)) < 2:
            raise ConfigError("extremes needs at least two images")
        rates = {"isolated_extremes": torch.cat(self._isolated), "out_of_range": torch.cat(self._outside)}
        return {name: mean_of(rate) for name, rate in rates.items()}


def isolated(pixels: Tensor) -> Tensor:
    """Which values of pixels uint8 [N, C, R, R] are extreme and alone: bool [N, C, R, R]."""
    x = pixels.float()
    # Around the picture lies what is never nearest: the smallest for the largest neighbour, and the reverse.
    highest = _largest_neighbour(x)
    lowest = -_largest_neighbour(-x)
    white = (x >= 255 - EXTREME) & (x - highest >= CONTRAST)
    black = (x <= EXTREME) & (lowest - x >= CONTRAST)
    return white | black


def _largest_neighbour(x: Tensor) -> Tensor:
    """Of the eight around each value, the largest; beyond the border there are none."""
    padded = F.pad(x, (1, 1, 1, 1), value=-torch.inf)
    height, width = x.shape[2:]
    shifts = [(row, column) for row in range(3) for column in range(3) if (row, column) != (1, 1)]
    largest = torch.full_like(x, -torch.inf)
    for row, column in shifts:
        largest = torch.maximum(largest, padded[:, :, row : row + height, column : column + width])
    return largest


make = Extremes
