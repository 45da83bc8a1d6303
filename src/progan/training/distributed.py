"""Several processes that train one run together: each has its share of every batch, and all have the same weights.

Gradients are averaged by an all-reduce of our own, between backward and update. DistributedDataParallel's hooks fire
during a backward, and the gradient penalty has one inside another.
"""

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor

BUCKET_BYTES = 25 * 2**20
"""Of gradients that travel together: few enough messages, and little memory beside the gradients."""


class Processes:
    """The processes of a run. This class is for a run of one: nothing is shared, nothing waits."""

    rank = 0
    size = 1

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Put the mean over all processes in the place of each tensor. Shapes and dtypes are the same everywhere."""


class Several(Processes):
    """Processes that have met in torch.distributed's default group."""

    def __init__(self, gradients: dist.ProcessGroup | None = None) -> None:
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        self._gradients = gradients
        """Of the device's own kind; None: the default group."""

    def average(self, tensors: Sequence[Tensor]) -> None:
        flying = []
        for bucket in buckets(tensors):
            flat = torch.cat([tensor.flatten() for tensor in bucket])
            flying.append((bucket, flat, dist.all_reduce(flat, group=self._gradients, async_op=True)))
        for bucket, flat, work in flying:
            work.wait()
            parts = torch.split(flat.div_(self.size), [tensor.numel() for tensor in bucket])
            for tensor, part in zip(bucket, parts, strict=True):
                tensor.copy_(part.view(tensor.shape))


ALONE = Processes()


def buckets(tensors: Sequence[Tensor], most: int = BUCKET_BYTES) -> list[list[Tensor]]:
    """Neighbours of one dtype put together up to `most` bytes; a larger tensor is alone."""
    found: list[list[Tensor]] = []
    room = 0
    for tensor in tensors:
        if not found or tensor.nbytes > room or tensor.dtype != found[-1][0].dtype:
            found.append([])
            room = most
        found[-1].append(tensor)
        room -= tensor.nbytes
    return found
