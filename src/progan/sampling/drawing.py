"""Pictures of a snapshot: samples nobody chose, and ways between latents."""

import torch
from torch import Tensor

from progan.images import to_pixels
from progan.sampling.interpolation import path
from progan.snapshot import Snapshot


def samples(snapshot: Snapshot, num: int, first: int = 0) -> Tensor:
    """Pixels uint8 [num, C, R, R] of seeds first … on the CPU; classes in turn, attributes as in the data."""
    z = snapshot.latents(range(first, first + num))
    return draw(snapshot, z, labels(snapshot, num))


def interpolations(snapshot: Snapshot, pairs: int, frames: int, first: int = 0) -> Tensor:
    """Pixels uint8 [pairs, frames, C, R, R] between seeds 2i and 2i + 1; a label each."""
    z = snapshot.latents(range(first, first + 2 * pairs))
    way = path(z[0::2], z[1::2], frames)
    rows = labels(snapshot, pairs)
    repeated = None if rows is None else rows.repeat_interleave(frames, 0)
    pixels = draw(snapshot, way.flatten(0, 1), repeated)
    return pixels.view(pairs, frames, *pixels.shape[1:])


def draw(snapshot: Snapshot, z: Tensor, rows: Tensor | None, batch_size: int = 32) -> Tensor:
    """Pixels uint8 [N, C, R, R] of latents [N, z_dim] and labels [N, L], on the CPU."""
    parts = []
    for i in range(0, len(z), batch_size):
        some = slice(i, i + batch_size)
        parts.append(to_pixels(snapshot.generate(z[some], None if rows is None else rows[some])).cpu())
    return torch.cat(parts)


def labels(snapshot: Snapshot, num: int) -> Tensor | None:
    """Rows [num, L] for a snapshot that needs them."""
    if not snapshot.G.label_size:
        return None
    if snapshot.info.label_kind == "attributes":
        return snapshot.labels([""] * num)
    return snapshot.labels([i % snapshot.G.label_size for i in range(num)])
