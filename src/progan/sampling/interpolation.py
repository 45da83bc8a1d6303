"""From one latent to another."""

import torch
from torch import Tensor


def slerp(a: Tensor, b: Tensor, t: float) -> Tensor:
    """Along the great circle from a [N, z_dim] (t = 0) to b (t = 1), lengths in between: float [N, z_dim].

    Straight lines would leave the shell where N(0, 1) latents lie (White 2016, equation 1).
    """
    lengths = a.norm(dim=1, keepdim=True), b.norm(dim=1, keepdim=True)
    cosine = (a / lengths[0] * b / lengths[1]).sum(1, keepdim=True).clamp(-1, 1)
    angle = torch.arccos(cosine)
    sine = torch.sin(angle)
    parallel = sine < 1e-6
    safe = torch.where(parallel, torch.ones_like(sine), sine)
    from_a = torch.where(parallel, torch.full_like(sine, 1 - t), torch.sin((1 - t) * angle) / safe)
    from_b = torch.where(parallel, torch.full_like(sine, t), torch.sin(t * angle) / safe)
    return from_a * a + from_b * b


def path(a: Tensor, b: Tensor, frames: int) -> Tensor:
    """The latents on the way, both ends included: float [N, frames, z_dim]."""
    return torch.stack([slerp(a, b, i / (frames - 1)) for i in range(frames)], 1)
