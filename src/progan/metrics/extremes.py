"""Faults of single pixels: isolated dots of black or white, and values that clipping has to cut."""

import torch
import torch.nn.functional as F
from torch import Tensor

from progan.images import to_pixels
from progan.metrics.base import Collecting, Setting, Value, mean_of

EXTREME = 5
"""Pixel values this near to 0 or 255 are extreme."""
CONTRAST = 128
"""All neighbours of an isolated pixel differ from it by at least this much."""
MILLION = 1e6


class Extremes(Collecting):
    """`isolated_extremes` and `out_of_range`, both per million pixel values of the fakes.

    A value is isolated if it is at most 5 or at least 250 and differs from all its (up to eight) neighbours of the same
    colour by 128 or more, as where a cast wraps around. Out of range is what rounds to less than 0 or more than 255
    before clipping; pixels instead of images have none. The intervals are normal, over images.
    """

    name, fakes_only = "extremes", True

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting, rates)

    def result(self) -> dict[str, Value]:
        isolated_rate, outside_rate = self.rows(False, 2).T.contiguous()
        return {"isolated_extremes": mean_of(isolated_rate), "out_of_range": mean_of(outside_rate)}


def rates(images: Tensor) -> Tensor:
    """Images float [N, C, R, R], unclipped -> isolated and outside values per million of each, float64 [N, 2]."""
    values = ((images.float() + 1) * (255 / 2)).round()
    faults = isolated(to_pixels(images)), ~((values >= 0) & (values <= 255))  # what is no number, too
    return torch.stack([MILLION * fault.double().mean((1, 2, 3)) for fault in faults], 1)


def isolated(pixels: Tensor) -> Tensor:
    """True for the values of pixels uint8 [N, C, R, R] that are extreme and isolated: bool [N, C, R, R]."""
    x = pixels.float()
    white = (x >= 255 - EXTREME) & (x - _largest_neighbour(x) >= CONTRAST)
    black = (x <= EXTREME) & (-_largest_neighbour(-x) - x >= CONTRAST)
    return white | black


def _largest_neighbour(x: Tensor) -> Tensor:
    """Largest of the eight values around each; beyond the border there are none."""
    padded = F.pad(x, (1, 1, 1, 1), value=-torch.inf)
    height, width = x.shape[2:]
    shifts = [(row, column) for row in range(3) for column in range(3) if (row, column) != (1, 1)]
    largest = torch.full_like(x, -torch.inf)
    for row, column in shifts:
        largest = torch.maximum(largest, padded[:, :, row : row + height, column : column + width])
    return largest
