"""Feed of real images: from dataset to device, read ahead."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from progan.data.dataset import Dataset
from progan.devices import free_on_gpu, send
from progan.randomness import Rng
from progan.training.setup import RunSetup

RESIDENT_SHARE = 0.4
"""Largest fraction of a GPU's free memory that images are held in."""


class Request(NamedTuple):
    """`size` images of a resolution, from position `start` of the shuffled stream, for all processes together."""

    resolution: int
    start: int
    size: int


class Reals(NamedTuple):
    """Images of a request: pixels uint8 [N, C, R, R] and labels float32 [N, L], on the device."""

    request: Request
    pixels: Tensor
    labels: Tensor | None


class Feed:
    """Batches of a dataset. A resolution that fits is held on a GPU as uint8; all others are read ahead by threads.

    Each of several processes reads its own share of a batch: the images rank, rank + size, … of it.
    """

    def __init__(self, setup: RunSetup, dataset: Dataset) -> None:
        self._dataset, self._device, self._processes = dataset, setup.device, setup.processes
        self._seed, self._workers = setup.config.runtime.seed, setup.config.runtime.workers
        self._use_labels = setup.config.dataset.labels
        self._held: tuple[int, Tensor | None] = (0, None)

    def stream(self, requests: Iterable[Request]) -> Iterator[Reals]:
        """Batches of the requests, in order; `workers` of them are read ahead."""
        if self._workers == 0:
            yield from (self._read(request, self._hold(request.resolution)) for request in requests)
            return
        with ThreadPoolExecutor(self._workers, "progan-feed") as pool:
            ahead: deque[Future[Reals]] = deque()
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

    def random_labels(self, rng: Rng, n: int) -> Tensor | None:
        """Labels float32 [n, L] of images drawn at random; None where the run uses none."""
        return self._labels(rng.integers(n, self._dataset.count)) if self._use_labels else None

    def _labels(self, indices: Tensor) -> Tensor | None:
        """Labels float32 [n, L] of the images with these numbers, int64 [n] (CPU); None where the run uses none."""
        rows = self._dataset.labels(indices.numpy()) if self._use_labels else None
        return None if rows is None else send(torch.from_numpy(rows), self._device)

    def _read(self, request: Request, level: Tensor | None) -> Reals:
        indices = self._dataset.order(request.start, request.size, self._seed)
        indices = indices[self._processes.rank :: self._processes.size]
        numbers = torch.from_numpy(indices)
        if level is not None:
            return Reals(request, level[send(numbers, self._device)], self._labels(numbers))
        pixels = torch.from_numpy(self._dataset.pixels(request.resolution, indices))
        return Reals(request, send(pixels, self._device), self._labels(numbers))

    def _hold(self, resolution: int) -> Tensor | None:
        """Pixels of all images of a resolution, uint8 [N, C, R, R] on the GPU; None if they do not fit there."""
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
