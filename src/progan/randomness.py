"""Random numbers that are functions of where they are used: no generator's state is ever stored.

Training draws by (seed, cur_nimg, stream). The latent of a seed is defined by an algorithm simple enough to repeat in
JavaScript: Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3") and Box–Muller.
"""

from collections.abc import Iterable
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from progan.devices import send

Stream = Literal["D", "G", "init", "penalty"]
_STREAMS: dict[Stream, int] = {"D": 1, "G": 2, "init": 3, "penalty": 4}
_MASK = 0xFFFFFFFF


class Rng:
    """The random numbers of one step, drawn on the CPU (the same on every device) and moved to `device`.

    Of `size` processes each draws the rows of all and keeps its own: rank, rank + size, …; `n` counts its own.
    """

    def __init__(
        self, seed: int, cur_nimg: int, stream: Stream, device: torch.device | str = "cpu", rank: int = 0, size: int = 1
    ) -> None:
        self._generator = torch.Generator().manual_seed(mix(seed, cur_nimg, _STREAMS[stream]))
        self._device = device
        self._rank, self._processes = rank, size

    def normal(self, n: int, size: int) -> Tensor:
        """N(0, 1), float32 [n, size]."""
        return self._share(torch.randn(n * self._processes, size, generator=self._generator))

    def uniform(self, n: int, size: int | None = None) -> Tensor:
        """Uniform in [0, 1), float32 [n], or [n, size]."""
        rows = n * self._processes
        shape = (rows,) if size is None else (rows, size)
        return self._share(torch.rand(shape, generator=self._generator))

    def integers(self, n: int, below: int) -> Tensor:
        """Uniform in 0 … below-1, int64 [n], on the CPU, where images are numbered."""
        return self._own(torch.randint(below, (n * self._processes,), generator=self._generator))

    def _share(self, rows: Tensor) -> Tensor:
        return send(self._own(rows), self._device)

    def _own(self, rows: Tensor) -> Tensor:
        return rows[self._rank :: self._processes]


def mix(*numbers: int) -> int:
    """A 63-bit hash of whole numbers (SplitMix64's finaliser after each)."""
    state = 0
    for number in numbers:
        state = (state + number + 0x9E3779B97F4A7C15) % 2**64
        state = ((state ^ state >> 30) * 0xBF58476D1CE4E5B9) % 2**64
        state = ((state ^ state >> 27) * 0x94D049BB133111EB) % 2**64
        state ^= state >> 31
    return state >> 1


def latents(seeds: Iterable[int], z_dim: int) -> npt.NDArray[np.float32]:
    """The latent of every seed (0 … 2^64-1), float32 [N, z_dim], distributed N(0, 1).

    Words w0 … w3 of Philox4x32-10 with counter (block, 0, 0, 0) and key (low, high half of the seed) give the four
    normals r0·cos t0, r0·sin t0, r1·cos t1, r1·sin t1 of entries 4·block …, where u = (w + ½) / 2³² in float64,
    r0 = √(-2 ln u0), t0 = 2π·u1, and r1, t1 likewise from u2, u3.
    """
    keys = np.array([int(seed) for seed in seeds], dtype=np.uint64)
    blocks = -(-z_dim // 4)
    words = philox(np.arange(blocks, dtype=np.uint64)[None, :], keys[:, None])  # [N, blocks, 4]
    u = (words.astype(np.float64) + 0.5) / 2**32
    radius = np.sqrt(-2 * np.log(u[..., 0::2]))
    angle = 2 * np.pi * u[..., 1::2]
    normals = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=-1)  # [N, blocks, 2, 2]
    return normals.reshape(len(keys), blocks * 4)[:, :z_dim].astype(np.float32)


def philox(counter: npt.NDArray[np.uint64], key: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Philox4x32-10 of the counters (c, 0, 0, 0) and 64-bit keys, broadcast; 32-bit words as uint64 [..., 4]."""
    c0, key = np.broadcast_arrays(counter & np.uint64(_MASK), key)
    c1 = c2 = c3 = np.zeros_like(c0)
    k0, k1 = key & np.uint64(_MASK), key >> np.uint64(32)
    for _ in range(10):
        p0, p1 = c0 * np.uint64(0xD2511F53), c2 * np.uint64(0xCD9E8D57)
        c0, c1, c2, c3 = (
            (p1 >> np.uint64(32)) ^ c1 ^ k0,
            p1 & np.uint64(_MASK),
            (p0 >> np.uint64(32)) ^ c3 ^ k1,
            p0 & np.uint64(_MASK),
        )
        k0, k1 = (k0 + np.uint64(0x9E3779B9)) & np.uint64(_MASK), (k1 + np.uint64(0xBB67AE85)) & np.uint64(_MASK)
    return np.stack([c0, c1, c2, c3], axis=-1)
