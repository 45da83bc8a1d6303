"""From dataset to device: the batches the schedule asks for, in time."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from progan.data.dataset import Dataset
from progan.devices import free_on_gpu, send
from progan.training.parallel.processes import ALONE, Processes

RESIDENT_SHARE = 0.4
"""Of a device's free memory that images may take."""


class Request(NamedTuple):
    """`size` images of a resolution, from position `start` of the shuffled stream, for all processes together."""

    resolution: int
    start: int
    size: int


class Batch(NamedTuple):
    """Pixels uint8 [N, C, R, R] and labels float32 [N, L], on the device."""

    pixels: Tensor
    labels: Tensor | None


class Feed:
    """Batches of a dataset. A resolution that fits is held on a GPU as uint8; all else is read ahead by threads.

    Of several processes each reads its own share of a batch: the images rank, rank + size, … of it.
    """

    def __init__(
        self,
        dataset: Dataset,
        seed: int,
        device: torch.device,
        workers: int,
        use_labels: bool,
        processes: Processes = ALONE,
    ) -> None:
        self._dataset, self._seed, self._device, self._workers = dataset, seed, device, workers
        self._use_labels = use_labels
        self._processes = processes
        self.count = dataset.count
        self._held: tuple[int, Tensor | None] = (0, None)

    def stream(self, requests: Iterable[Request]) -> Iterator[Batch]:
        """The batches asked for, in order; `workers` of them are read ahead."""
        if self._workers == 0:
            yield from (self._read(request, self._hold(request.resolution)) for request in requests)
            return
        with ThreadPoolExecutor(self._workers, "progan-feed") as pool:
            ahead: deque[Future[Batch]] = deque()
            try:
                for request in requests:
                    ahead.append(pool.submit(self._read, request, self._hold(request.resolution)))
                    if len(ahead) > self._workers:
                        yield ahead.popleft().result()
                while ahead:
                    yield ahead.popleft().result()
            finally:
                for future in ahead:
                    future.cancel()

    def labels(self, indices: Tensor) -> Tensor | None:
        """Labels float32 [n, L] of the images with these numbers, int64 [n] (CPU); None where the run uses none."""
        rows = self._dataset.labels(indices.numpy()) if self._use_labels else None
        return None if rows is None else send(torch.from_numpy(rows), self._device)

    def _read(self, request: Request, level: Tensor | None) -> Batch:
        indices = self._dataset.order(request.start, request.size, self._seed)
        indices = indices[self._processes.rank :: self._processes.size]
        numbers = torch.from_numpy(indices)
        if level is not None:
            return Batch(level[send(numbers, self._device)], self.labels(numbers))
        pixels = torch.from_numpy(self._dataset.pixels(request.resolution, indices))
        return Batch(send(pixels, self._device), self.labels(numbers))

    def _hold(self, resolution: int) -> Tensor | None:
        """All pixels of the resolution, uint8 [N, C, R, R] on the GPU, if they fit there."""
        if resolution != self._held[0]:
            self._held = (0, None)  # before the next is made
            fits = self._dataset.level_bytes(resolution) < RESIDENT_SHARE * free_on_gpu(self._device)
            self._held = (resolution, self._upload(resolution) if fits else None)
        return self._held[1]

    def _upload(self, resolution: int) -> Tensor:
        count, channels = self._dataset.count, self._dataset.channels
        level = torch.empty(count, channels, resolution, resolution, dtype=torch.uint8, device=self._device)
        for start in range(0, count, 4096):
            indices = np.arange(start, min(start + 4096, count))
            level[start : start + 4096] = torch.from_numpy(self._dataset.pixels(resolution, indices)).to(self._device)
        return level
