"""From one latent to another, and the images on the way."""

import torch
from torch import Tensor

from progan.images import to_pixels
from progan.sampling.pictures import default_labels
from progan.snapshot import Snapshot, generate


def slerp(a: Tensor, b: Tensor, t: float) -> Tensor:
    """Along the great circle from a [N, z_dim] (t = 0) to b (t = 1), lengths in between: float [N, z_dim].

    Straight lines would leave the shell where N(0, 1) latents lie (White 2016, equation 1).
    """
    lengths = a.norm(dim=1, keepdim=True), b.norm(dim=1, keepdim=True)
    cosine = (a / lengths[0] * b / lengths[1]).sum(1, keepdim=True).clamp(-1, 1)
    angle = torch.arccos(cosine)
    sine = torch.sin(angle)
    # Parallel latents lie on no great circle; between them a straight line is right.
    parallel = sine < 1e-6
    safe = torch.where(parallel, torch.ones_like(sine), sine)
    from_a = torch.where(parallel, torch.full_like(sine, 1 - t), torch.sin((1 - t) * angle) / safe)
    from_b = torch.where(parallel, torch.full_like(sine, t), torch.sin(t * angle) / safe)
    return from_a * a + from_b * b


def path(a: Tensor, b: Tensor, frames: int) -> Tensor:
    """The latents on the way, both ends included: float [N, frames, z_dim]."""
    return torch.stack([slerp(a, b, i / (frames - 1)) for i in range(frames)], 1)


def interpolations(snapshot: Snapshot, pairs: int, frames: int) -> Tensor:
    """Pixels uint8 [pairs, frames, C, R, R] between seeds 2i and 2i + 1, on the CPU; a label each."""
    z = snapshot.latents(range(2 * pairs))
    way = path(z[0::2], z[1::2], frames).flatten(0, 1)
    names = default_labels(snapshot, pairs)
    rows = snapshot.labels(names).repeat_interleave(frames, 0) if names else None
    batches = generate(snapshot.G, way, rows, snapshot.resolution, snapshot.info.alpha)
    pixels = torch.cat([to_pixels(images).cpu() for images in batches])
    return pixels.view(pairs, frames, *pixels.shape[1:])
