"""Several processes that train one run together: each has its share of every batch, and all have the same weights.

Gradients are averaged by an all-reduce of our own, between backward and update. DistributedDataParallel's hooks fire
during a backward, and the gradient penalty has one inside another.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

from progan.errors import DeviceError, ProcessError

TIMEOUT = timedelta(minutes=10)
"""Timeout of the rendezvous, and of each exchange between processes that do the same work.

A process that ends closes its connections, which the others notice at once; this is for a machine that vanishes.
"""
PATIENCE = timedelta(hours=24)
"""Timeout of waiting while the first process prepares images or measures a generator."""
BUCKET_BYTES = 25 * 2**20
"""Bytes of gradients in one message: few messages, and little memory beside the gradients."""


class Processes:
    """Processes of a run. This class is for a single one: nothing is shared, nothing waits."""

    rank = 0
    size = 1

    @property
    def first(self) -> bool:
        """True for the process that prepares images, writes files, and logs."""
        return self.rank == 0

    def device(self, name: str) -> str:
        """Device of this process, where `name` is the one of the configuration."""
        return name

    def use(self, device: torch.device) -> None:
        """Prepare for tensors to be averaged on this device."""

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its mean over all processes. Shapes and dtypes are the same everywhere."""

    def means(self, numbers: Sequence[float]) -> list[float]:
        """Mean of each number over all processes."""
        return list(numbers)

    def any(self, flag: bool) -> bool:
        """True if the flag is set in any process."""
        return flag

    def broadcast(self, content: bytes) -> bytes:
        """Content that the first process has, at least one byte; that of the others is ignored."""
        return content

    def wait(self) -> None:
        """Wait for all processes, however long the first one takes."""


ALONE = Processes()


class Several(Processes):
    """Several processes in torch.distributed's default group, whose backend is gloo.

    Its methods raise ProcessError when another process is gone.
    """

    def __init__(self) -> None:
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        self._patient = dist.new_group(backend="gloo", timeout=PATIENCE)
        self._gradients: dist.ProcessGroup | None = None
        """Group that gradients are averaged in; None: the default one."""

    def device(self, name: str) -> str:
        if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
            return "cpu"
        if name not in ("auto", "cuda"):
            raise DeviceError(f"--device {name}: several processes use `cpu`, or `cuda` and each a GPU of its own")
        local, gpus = int(os.environ.get("LOCAL_RANK", self.rank)), torch.cuda.device_count()
        if local >= gpus:
            raise DeviceError(
                f"process {local + 1} of this machine has no GPU, there are {gpus}: --nproc-per-node {gpus}"
            )
        return f"cuda:{local}"

    def use(self, device: torch.device) -> None:
        if device.type == "cuda":
            torch.cuda.set_device(device)
            with self._others():
                self._gradients = dist.new_group(backend="nccl", timeout=TIMEOUT)

    def average(self, tensors: Sequence[Tensor]) -> None:
        # All buckets are sent before the first is waited for, so that messages overlap.
        flying = []
        for bucket in buckets(tensors):
            flat = torch.cat([tensor.flatten() for tensor in bucket])
            with self._others():
                flying.append((bucket, flat, dist.all_reduce(flat, group=self._gradients, async_op=True)))
        for bucket, flat, work in flying:
            with self._others():
                work.wait()
            parts = torch.split(flat.div_(self.size), [tensor.numel() for tensor in bucket])
            for tensor, part in zip(bucket, parts, strict=True):
                tensor.copy_(part.view(tensor.shape))

    def means(self, numbers: Sequence[float]) -> list[float]:
        total = torch.tensor(numbers, dtype=torch.float64)
        with self._others():
            dist.all_reduce(total)
        return (total / self.size).tolist()

    def any(self, flag: bool) -> bool:
        found = torch.tensor(flag, dtype=torch.uint8)
        with self._others():
            dist.all_reduce(found, dist.ReduceOp.MAX)
        return bool(found)

    def broadcast(self, content: bytes) -> bytes:
        length = torch.tensor(len(content))
        with self._others():
            dist.broadcast(length, src=0)
        sent = torch.empty(int(length), dtype=torch.uint8)
        if self.first:
            sent = torch.frombuffer(bytearray(content), dtype=torch.uint8)
        with self._others():
            dist.broadcast(sent, src=0)
        return sent.numpy().tobytes()

    def wait(self) -> None:
        with self._others():
            dist.barrier(group=self._patient)

    @contextmanager
    def _others(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:  # what every backend raises
            raise ProcessError(
                f"process {self.rank + 1} of {self.size} stops, as another one has ended or cannot be reached. "
                "The same command goes on from the newest state"
            ) from error


def buckets(tensors: Sequence[Tensor], most: int = BUCKET_BYTES) -> list[list[Tensor]]:
    """Tensors of one dtype grouped in order, up to `most` bytes each; a larger tensor is alone."""
    found: list[list[Tensor]] = []
    room = 0
    for tensor in tensors:
        if not found or tensor.nbytes > room or tensor.dtype != found[-1][0].dtype:
            found.append([])
            room = most
        found[-1].append(tensor)
        room -= tensor.nbytes
    return found
