"""What a stage takes of the memory, and what there is of it.

On a CPU it is estimated by a rehearsal: one iteration of training on tensors that have shapes and no numbers (PyTorch's
meta device), with every storage counted from its making to its end. On a GPU it is tried, on networks that are thrown
away.
"""

import functools
import os
import re
import weakref
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from progan import losses, models
from progan.config import FixedPrecision, RunConfig
from progan.devices import free_on_gpu
from progan.images import at_once
from progan.losses import Loss
from progan.models import Discriminator, Generator, ImageShape
from progan.training.numerics import DTYPES
from progan.training.step import critic

UNSEEN: dict[FixedPrecision, float] = {"fp32": 1.15, "tf32": 1.15, "bf16": 1.45, "fp16": 2.2}
"""Real peak of a step on a CPU by that of its rehearsal: what convolutions take beside inputs and outputs (measured,
benchmarks/memory.py; TF32, which no CPU has, is taken for fp32)."""
WRITING = 4.5
"""Peak where a state is written, in states: that in use, plain copies, and the file's content (measured there)."""
PROCESS = 40 * 2**20
"""Bytes that libraries take when they first compute (measured there)."""


@functools.lru_cache(maxsize=64)
def estimate(config: RunConfig, shape: ImageShape, precision: FixedPrecision, resolution: int, batch_size: int) -> int:
    """Bytes that training on a CPU takes at the worst moment of a stage, besides those the process already has."""
    with torch.device("meta"):
        G, D = models.build(config.model, shape, seed=0)
    loss = losses.build(config.loss)
    g_bytes, d_bytes = (sum(p.nbytes for p in net.parameters()) for net in (G, D))
    kept = 4 * g_bytes + 3 * d_bytes  # weights and two moments of each, and the averaged G: a state
    alpha = 0.5 if resolution > config.schedule.start_resolution else 1.0
    with LiveBytes() as live:
        for parameter in (*G.parameters(), *D.parameters()):  # of the step before
            parameter.grad = torch.empty_like(parameter)
        _rehearse(G, D, loss, shape, resolution, alpha, batch_size, DTYPES[precision])
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


class _NoNumbers:
    """Stands for the random numbers of a step."""

    def uniform(self, n: int, size: int | None = None) -> Tensor:
        return torch.zeros((n,) if size is None else (n, size), device="meta")

    def normal(self, n: int, size: int) -> Tensor:
        return torch.zeros(n, size, device="meta")


def _rehearse(
    G: Generator,
    D: Discriminator,
    loss: Loss,
    shape: ImageShape,
    resolution: int,
    alpha: float,
    batch_size: int,
    dtype: torch.dtype,
) -> None:
    """An iteration of `loop` without the updates, and a part of a sample grid."""
    noise = _NoNumbers()
    z = torch.zeros(batch_size, G.z_dim, device="meta", dtype=dtype)
    rows = torch.zeros(batch_size, shape.label_size, device="meta") if shape.label_size else None
    reals = torch.zeros(batch_size, shape.channels, resolution, resolution, device="meta")
    with torch.no_grad():
        fakes = G(z, rows, resolution, alpha)
    _descend(loss.d_terms(critic(D, alpha, dtype, 0.5, noise), reals, fakes, rows, noise), D)
    D.requires_grad_(False)
    _descend(loss.g_terms(critic(D, alpha, dtype, noise=noise), G(z, rows, resolution, alpha), rows), G)
    D.requires_grad_(True)
    some = at_once(resolution, 16)  # as many as `observers.sample` draws
    with torch.no_grad():
        G(z[:1].expand(some, -1), None if rows is None else rows[:1].expand(some, -1), resolution, alpha)


def _descend(terms: dict[str, Tensor], network: nn.Module) -> None:
    network.zero_grad(set_to_none=True)
    torch.autograd.backward(torch.stack(list(terms.values())).sum(), inputs=list(network.parameters()))


def free_bytes(device: torch.device, root: Path = Path("/")) -> int | None:
    """Of memory on a device: what a GPU says; on a CPU the least that the machine and the control groups leave.

    None where nobody says. `root` is where /proc and /sys are.
    """
    if device.type == "cuda":
        return free_on_gpu(device)
    if device.type != "cpu":
        return None
    limits = [_machine(root), *_control_groups(root)]
    return min((limit for limit in limits if limit is not None), default=None)


def _machine(root: Path) -> int | None:
    try:
        match = re.search(r"^MemAvailable:\s+(\d+) kB", (root / "proc/meminfo").read_text(), re.M)
    except OSError:  # not Linux: all there is, for want of what is free
        names = ("SC_PHYS_PAGES", "SC_PAGE_SIZE")
        known = getattr(os, "sysconf_names", {})
        return os.sysconf(names[0]) * os.sysconf(names[1]) if all(name in known for name in names) else None
    return 1024 * int(match[1]) if match else None


def _control_groups(root: Path) -> list[int | None]:
    """What this process's groups leave, of both versions, each with the groups it lies in."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    left: list[int | None] = []
    for line in lines:
        _, kinds, path = line.split(":", 2)
        if kinds == "":
            top, files = root / "sys/fs/cgroup", ("memory.max", "memory.current", "inactive_file")
        elif "memory" in kinds.split(","):
            top = root / "sys/fs/cgroup/memory"
            files = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        inside = top / path.lstrip("/")
        left += [_left(folder, *files) for folder in (inside, *inside.parents) if folder.is_relative_to(top)]
    return left


def _left(folder: Path, limit: str, used: str, cache: str) -> int | None:
    """Bytes that a control group may still take; files it only keeps in memory count as free."""
    try:
        most, now = int((folder / limit).read_text()), int((folder / used).read_text())
        match = re.search(rf"^{cache} (\d+)$", (folder / "memory.stat").read_text(), re.M)
    except (OSError, ValueError):  # no such group here, or "max": no limit
        return None
    return max(0, most - now + (int(match[1]) if match else 0))


def ran_out(error: BaseException) -> bool:
    """Whether an error says that there is not enough memory, of whatever device."""
    words = (
        "out of memory",
        "can't allocate memory",
        "CUBLAS_STATUS_ALLOC_FAILED",
        "unable to find an engine",  # cuDNN, when no convolution's workspace fits
        "Unable to find a valid cuDNN algorithm",  # the same through its older interface
    )
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or (
        isinstance(error, RuntimeError) and any(word in str(error) for word in words)
    )
