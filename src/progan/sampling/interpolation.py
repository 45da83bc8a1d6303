"""From one latent to another, from one class to another, and the images on the way."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from progan.images import grid, to_pixels, upscale
from progan.sampling.pictures import default_labels
from progan.snapshot import Snapshot


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


Moment = tuple[Tensor, Tensor | None]
"""Latents float [N, z_dim] and label rows float [N, L], where the generator has labels, of N images of one moment."""


def between(start: Moment, end: Moment, frames: int) -> Iterator[Moment]:
    """Moments from start to end, both included: latents along great circles, label rows along straight lines."""
    (a, labels_a), (b, labels_b) = start, end
    for i in range(frames):
        t = i / max(1, frames - 1)
        labels = None if labels_a is None or labels_b is None else torch.lerp(labels_a, labels_b, t)
        yield slerp(a, b, t), labels


def wander(snapshot: Snapshot, num: int, frames: int, smooth: float, seed: int) -> Iterator[Tensor]:
    """Latents [num, z_dim] of each frame of a film that ends where it begins: noise smoothed over time.

    As in the authors' film code: normal numbers, filtered by a Gaussian of `smooth` frames that wraps around, then
    scaled to a mean square of 1 again. They are the latents of the seeds from `seed` on, a frame after another.
    """
    noise = snapshot.latents(range(seed, seed + frames * num)).view(frames, num, -1)
    # A circular convolution is a product of Fourier transforms; that of a Gaussian is a Gaussian.
    frequency = torch.fft.rfftfreq(frames, device=noise.device)
    response = torch.exp(-2 * (torch.pi * smooth * frequency) ** 2)
    z = torch.fft.irfft(torch.fft.rfft(noise, dim=0) * response[:, None, None], n=frames, dim=0)
    yield from z / z.square().mean().sqrt()


def show(snapshot: Snapshot, moment: Moment, truncation: float = 1.0, resolution: int | None = None) -> Tensor:
    """Pixels uint8 [N, C, R, R] of a moment, on the CPU."""
    z, labels = moment
    return to_pixels(snapshot.generate(z, labels, truncation, resolution)).cpu()


def sheet(pixels: Tensor, columns: int, factor: int = 1) -> Tensor:
    """Pixels uint8 [N, C, R, R] as one picture uint8 [C, H, W], each pixel shown as `factor` x `factor`."""
    return grid(upscale(pixels.float(), factor).to(torch.uint8), columns)


def there_and_back(moments: Sequence[Moment]) -> Iterator[Moment]:
    """The moments, and all but the ends backwards: a film that ends where it begins."""
    yield from moments
    yield from reversed(moments[1:-1])


def interpolations(snapshot: Snapshot, pairs: int, frames: int) -> Tensor:
    """Pixels uint8 [pairs, frames, C, R, R] between seeds 2i and 2i + 1, on the CPU; a label each."""
    z, names = snapshot.latents(range(2 * pairs)), default_labels(snapshot, pairs)
    labels = snapshot.labels(names) if names else None
    return torch.stack([show(snapshot, each) for each in between((z[0::2], labels), (z[1::2], labels), frames)], 1)
