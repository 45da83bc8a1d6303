"""The training images nearest to generated ones: has the generator learned them by heart?"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from progan.data.dataset import Dataset, Indices
from progan.images import downscale

SIDE = 32
"""Images are compared at up to 32x32, by the distance of their pixels."""
_BLOCK = 4096
_SPARE = 3  # candidates more than are asked for


@dataclass(frozen=True)
class Nearest:
    """For each query the nearest images of a dataset, nearest first."""

    distance: Tensor
    """Root of the mean squared difference of pixels, float32 [N, k] in 0…255."""
    index: Tensor
    """Number in the dataset, int64 [N, k]."""


@torch.no_grad()
def nearest(pixels: Tensor, dataset: Dataset, k: int = 3, among: Indices | None = None, most: int = 100_000) -> Nearest:
    """Of pixels uint8 [N, C, R, R] among these images of the dataset, default its first `most`; k ≤ their number."""
    side = min(SIDE, pixels.shape[2])
    queries = downscale(pixels.cpu().float(), pixels.shape[2] // side).flatten(1)
    numbers = np.arange(min(most, dataset.count)) if among is None else among
    distance, index = torch.empty(len(queries), 0), torch.empty(len(queries), 0, dtype=torch.int64)
    for start in range(0, len(numbers), _BLOCK):
        block = numbers[start : start + _BLOCK]
        distance = torch.cat([distance, torch.cdist(queries, _points(dataset, side, block))], 1)
        index = torch.cat([index, torch.from_numpy(block).expand(len(queries), -1)], 1)
        distance, order = distance.topk(min(k + _SPARE, distance.shape[1]), largest=False)
        index = index.gather(1, order)
    exact = torch.stack(  # what cdist says of near points is rounded: a copy must have 0
        [
            (query - _points(dataset, side, row.numpy())).square().mean(1).sqrt()
            for query, row in zip(queries, index, strict=True)
        ]
    )
    distance, order = exact.topk(min(k, exact.shape[1]), largest=False)
    return Nearest(distance, index.gather(1, order))


def _points(dataset: Dataset, side: int, indices: Indices) -> Tensor:
    return torch.from_numpy(dataset.pixels(side, indices)).float().flatten(1)
