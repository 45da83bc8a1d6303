"""The latent whose image is most like a picture (Abdal et al. 2019 call it embedding).

Images are compared by their Laplacian pyramids (the difference of an image from its own lower resolution, at every
resolution: edges at all sizes, Bojanowski et al. 2018), by their pixels, and, where there is a discriminator, by its
features. The best of many random latents are improved by Adam, all at once.
"""

import math
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from progan.config import PrepareConfig
from progan.data.dataset import Dataset
from progan.data.prepare import prepare
from progan.errors import DatasetError
from progan.images import downscale, to_images, to_pixels, upscale
from progan.snapshot import Critic, Snapshot, generate

RANDOM, STARTS = 512, 8
"""Random latents that are looked at first, and the best of them, which are improved."""
LR = 0.05
"""Adam's learning rate at the start; it falls to 0 as a cosine."""
_FEATURE_WEIGHT = 0.1
_EPSILON = 1e-8


@dataclass(frozen=True)
class Found:
    """A latent and how near its image is."""

    z: Tensor
    """Latent float32 [z_dim], of length √z_dim."""
    labels: Tensor | None
    """Label row float32 [L]."""
    pixels: Tensor
    """Its image, uint8 [C, R, R]."""
    distance: float
    """As `Likeness` measures it."""
    random_distance: float
    """The lowest distance among the random latents that it began with."""


class Likeness:
    """Distance of images float [N, C, R, R] to one image [C, R, R], float [N]; 0 for the same."""

    def __init__(self, target: Tensor, critic: Critic | None) -> None:
        self._critic = critic
        self._target = target[None]
        self._levels = list(_laplacian(self._target))
        self._features = self._looked_at(self._target)

    def __call__(self, images: Tensor) -> Tensor:
        total = (images - self._target).square().mean((1, 2, 3))
        for level, wanted in zip(_laplacian(images), self._levels, strict=True):
            total = total + (level - wanted).abs().mean((1, 2, 3)) / len(self._levels)
        for seen, wanted in zip(self._looked_at(images), self._features, strict=True):
            error = (seen - wanted).square().flatten(1).mean(1) / (wanted.square().mean() + _EPSILON)
            total = total + _FEATURE_WEIGHT * error / len(self._features)
        return total

    def _looked_at(self, images: Tensor) -> list[Tensor]:
        """D's features of the images after every block, but the last ones: these depend on other images, too."""
        if self._critic is None:
            return []
        seen = self._critic.D.features(images, self._critic.info.alpha)
        return [x for name, x in seen if name not in ("last", "4x4")]


def _laplacian(images: Tensor) -> Iterator[Tensor]:
    """Images less what is left of them at half their resolution, at every resolution; at 4x4 what is left."""
    while images.shape[2] > 4:
        half = downscale(images)
        yield images - upscale(half)
        images = half
    yield images


def read_picture(path: Path, resolution: int, channels: int) -> Tensor:
    """Pixels uint8 [C, R, R] of a picture, prepared as images for training are. Raises DatasetError."""
    if not path.is_file():
        raise DatasetError(f"{path} is no picture: there is no such file")
    config = PrepareConfig(resolution=resolution, channels="grey" if channels == 1 else "rgb", labels="none", workers=0)
    with tempfile.TemporaryDirectory() as scratch:
        try:
            prepare(path, Path(scratch) / "out", config)
        except DatasetError as error:
            _, _, why = str(error).partition(" (")  # what its reader says of it
            raise DatasetError(f"{path} is no picture that can be read" + (f" ({why}" if why else "")) from None
        return torch.from_numpy(Dataset.open(Path(scratch) / "out").pixels(resolution, np.array([0])))[0]


def find(
    snapshot: Snapshot,
    target: Tensor,
    labels: Tensor | None = None,
    critic: Critic | None = None,
    steps: int = 300,
    seed: int = 0,
    watch: Callable[[int, Tensor], None] | None = None,
) -> Found:
    """The latent whose image is most like the target, pixels uint8 [C, R, R] of the snapshot's resolution.

    `labels`: rows [N, L] that are tried, one of which is found. `watch` gets the number of each step and the image of
    the start that is best by then, pixels uint8 [C, R, R].
    """
    likeness = Likeness(to_images(target.to(snapshot.device)), critic)
    G, resolution, alpha = snapshot.G, snapshot.resolution, snapshot.info.alpha

    # Random latents, each with one of the labels; those whose images are nearest are improved.
    z = snapshot.latents(range(seed, seed + RANDOM))
    rows = None if labels is None else labels.to(snapshot.device)[torch.arange(RANDOM) % len(labels)]
    with torch.no_grad():
        far = torch.cat([likeness(images) for images in generate(G, z, rows, resolution, alpha)])
    best = far.argsort()[:STARTS]
    z, rows = z[best].clone().requires_grad_(), None if rows is None else rows[best]

    # G looks at the direction of a latent only, which is therefore kept on the sphere where they lie.
    optimizer = torch.optim.Adam([z], LR)
    found = z.detach()[:1], 0, math.inf
    for step in range(steps + 1):
        images = G(z, rows, resolution, alpha)
        distances = likeness(images)
        nearest = int(distances.detach().argmin())
        if float(distances.detach()[nearest]) < found[2]:
            found = z.detach()[nearest].clone(), nearest, float(distances.detach()[nearest])
        if watch is not None:
            watch(step, to_pixels(images.detach())[nearest].cpu())
        if step < steps:
            optimizer.param_groups[0]["lr"] = LR * (1 + math.cos(math.pi * step / steps)) / 2
            optimizer.zero_grad()
            distances.sum().backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            with torch.no_grad():
                z.mul_(math.sqrt(z.shape[1]) * z.square().sum(1, keepdim=True).clamp_min(_EPSILON).rsqrt())
    latent, number, distance = found
    row = None if rows is None else rows[number]
    pixels = to_pixels(snapshot.generate(latent, None if row is None else row[None]))[0].cpu()
    return Found(latent.cpu(), row, pixels, distance, float(far.min()))
