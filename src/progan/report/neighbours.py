"""The training images nearest to generated ones: has the generator learned them by heart?"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from progan.data.dataset import Dataset
from progan.images import downscale

SIDE = 32
"""Images are compared at up to 32x32, by the distance of their pixels."""
_BLOCK = 4096


@dataclass(frozen=True)
class Nearest:
    """For each query the nearest images of a dataset, nearest first."""

    distance: Tensor
    """Root of the mean squared difference of pixels, float32 [N, k] in 0…255."""
    index: Tensor
    """Number in the dataset, int64 [N, k]."""


@torch.no_grad()
def nearest(pixels: Tensor, dataset: Dataset, k: int = 3, most: int = 100_000) -> Nearest:
    """Of pixels uint8 [N, C, R, R] among the dataset's first `most` images; k ≤ their number."""
    side = min(SIDE, pixels.shape[2])
    queries = downscale(pixels.cpu().float(), pixels.shape[2] // side).flatten(1)
    count = min(most, dataset.count)
    distance, index = torch.empty(len(queries), 0), torch.empty(len(queries), 0, dtype=torch.int64)
    for start in range(0, count, _BLOCK):
        numbers = np.arange(start, min(start + _BLOCK, count))
        block = torch.from_numpy(dataset.pixels(side, numbers)).float().flatten(1)
        found = torch.cdist(queries, block, compute_mode="donot_use_mm_for_euclid_dist")  # exact: copies have 0
        distance = torch.cat([distance, found], 1)
        index = torch.cat([index, torch.from_numpy(numbers).expand(len(queries), -1)], 1)
        distance, order = distance.topk(min(k, distance.shape[1]), largest=False)
        index = index.gather(1, order)
    return Nearest(distance / queries.shape[1] ** 0.5, index)
