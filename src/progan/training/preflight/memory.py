"""Estimated memory of a stage on a CPU, by a rehearsal.

One iteration of training runs on tensors that have shapes and no values (PyTorch's meta device), with every storage
counted from its making to its end.
"""

import functools
import weakref
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from progan import losses, models
from progan.config import FixedPrecision, RunConfig
from progan.images import at_once
from progan.models import ImageShape
from progan.models.layers import let_winograd
from progan.training import augment
from progan.training.numerics import DTYPES
from progan.training.setup import RunSetup
from progan.training.step import Batch, Eager

UNSEEN: dict[FixedPrecision, float] = {"fp32": 1.15, "tf32": 1.15, "bf16": 1.45, "fp16": 2.2}
"""Real peak of a step on a CPU relative to its rehearsal: what convolutions use beside inputs and outputs (measured,
benchmarks/memory.py; TF32, which no CPU has, is taken for fp32)."""
WRITING = 4.5
"""Peak where a state is written, in states: that in use, plain copies, and the file's content (measured there)."""
PROCESS = 40 * 2**20
"""Bytes that libraries use when they first compute (measured there)."""


def estimate(setup: RunSetup, resolution: int, batch_size: int) -> int:
    """Bytes that training on a CPU uses at the peak of a stage, besides those the process already has.

    `batch_size` is that of one process.
    """
    now = setup.numerics
    return _estimate(setup.config, setup.shape, now.precision, now.winograd, resolution, batch_size)


@functools.lru_cache(maxsize=64)
def _estimate(
    config: RunConfig, shape: ImageShape, precision: FixedPrecision, winograd: bool, resolution: int, batch_size: int
) -> int:
    with torch.device("meta"):
        G, D = models.build(config.model, shape, seed=0)
    for net in (G, D) if winograd else ():
        let_winograd(net)
    g_bytes, d_bytes = (sum(p.nbytes for p in net.parameters()) for net in (G, D))
    kept = 4 * g_bytes + 3 * d_bytes  # weights and two moments of each, and the averaged G: a state
    alpha = 0.5 if resolution > config.schedule.start_resolution else 1.0

    # An iteration without the updates: gradients of the step before, D's step, G's step.
    labels = torch.zeros(batch_size, shape.label_size, device="meta") if shape.label_size else None
    augmentation = augment.build(config.dataset)
    executor, draws, dtype = Eager(G, D, losses.build(config.loss), augmentation), _NoValues(), DTYPES[precision]
    with LiveBytes() as live:
        for parameter in (*G.parameters(), *D.parameters()):
            parameter.grad = torch.empty_like(parameter)
        reals = torch.zeros(batch_size, shape.channels, resolution, resolution, device="meta")
        p = None if augmentation is None else torch.zeros((), device="meta")
        batch = Batch(batch_size, reals, labels, resolution, alpha, dtype, p)
        executor.d(batch, draws)
        executor.g(batch if config.loss.wants_reals else batch._replace(reals=None), draws)

        # A part of a sample grid, as many images as are generated at once.
        some = at_once(resolution, 16)
        with torch.no_grad():
            z = draws.normal(some, G.z_dim).to(dtype)
            G(z, None if labels is None else labels[:1].expand(some, -1), resolution, alpha)
    return PROCESS + int(max(kept + UNSEEN[precision] * live.peak, WRITING * kept))


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of storages made inside, as long as they live."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.peak = 0
        self._known: weakref.WeakSet[torch.UntypedStorage] = weakref.WeakSet()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor):
                self._count(tensor.untyped_storage())
        self.peak = max(self.peak, self.now)
        return out

    def _count(self, storage: torch.UntypedStorage) -> None:
        if storage not in self._known:
            self._known.add(storage)
            self.now += storage.nbytes()
            weakref.finalize(storage, self._free, storage.nbytes())

    def _free(self, size: int) -> None:
        self.now -= size


class _NoValues:
    """Random numbers of a step without values."""

    def uniform(self, n: int, size: int | None = None) -> Tensor:
        return torch.zeros((n,) if size is None else (n, size), device="meta")

    def normal(self, n: int, size: int) -> Tensor:
        return torch.zeros(n, size, device="meta")
