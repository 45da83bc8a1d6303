"""Interface of every pair of networks."""

import math
from collections.abc import Iterator
from typing import Literal, Protocol

import torch
from torch import Tensor, nn

from progan.scores import Scores


class Draws(Protocol):
    """Source of a training step's random numbers, so that they can be repeated; `randomness.Rng` is one."""

    def uniform(self, n: int, size: int | None = None) -> Tensor:
        """Uniform in [0, 1), float32 [n], or [n, size]."""

    def normal(self, n: int, size: int) -> Tensor:
        """N(0, 1), float32 [n, size]."""


class Generator(nn.Module):
    """Latents to images. Batch statistics, where it has any, are those of the batch unless in evaluation mode."""

    z_dim: int
    label_size: int
    resolution: int
    """Final resolution."""
    latents: Literal["normal", "uniform"] = "normal"
    """Distribution in which the first layer gets latents; callers always give N(0, 1)."""

    def forward(
        self, z: Tensor, labels: Tensor | None = None, resolution: int | None = None, alpha: float | Tensor = 1.0
    ) -> Tensor:
        """Latents [N, z_dim] and labels [N, L] -> images [N, C, R, R], about -1…1, not clipped, at least float32.

        Below alpha 1 the newest block is mixed with the upscaled output of the one before (figure 2).
        """
        return self.synthesize(self.embed(z, labels), resolution, alpha)

    def embed(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """Latents and labels -> first activation [N, C, 4, 4], which truncation acts on."""
        raise NotImplementedError

    def distributed(self, z: Tensor) -> Tensor:
        """Latents N(0, 1) [N, z_dim] in the distribution of the configuration.

        2Φ(z) - 1 of a normal number is uniform in -1…1: latents of a seed and interpolations stay what they are.
        """
        if self.latents == "normal":
            return z
        return torch.erf(z.to(torch.promote_types(z.dtype, torch.float32)) / math.sqrt(2)).to(z.dtype)

    def synthesize(self, x: Tensor, resolution: int | None = None, alpha: float | Tensor = 1.0) -> Tensor:
        """First activation -> images."""
        raise NotImplementedError


class Discriminator(nn.Module):
    """Images to scores."""

    watches = False
    """True if `watch` wants to be called after every D step."""

    def forward(self, images: Tensor, alpha: float | Tensor = 1.0, noise: Draws | None = None) -> Scores:
        """Images [N, C, R, R] -> scores; R is read from the images, and alpha fades its block in (figure 2).

        Dropout and the like happen only where `noise` is given.
        """
        x = images
        for _, x in self.features(images, alpha, noise):  # noqa: B007  only the last is needed
            pass
        return self.score(x)

    def features(
        self, images: Tensor, alpha: float | Tensor = 1.0, noise: Draws | None = None
    ) -> Iterator[tuple[str, Tensor]]:
        """What `forward` computes on its way: after the block of each resolution `16x16`, `8x8` … [N, C, H, W], and at
        the end, as `last`, what scores are made of.
        """
        raise NotImplementedError

    def score(self, x: Tensor) -> Scores:
        """Last features -> scores."""
        raise NotImplementedError

    def watch(self, d: Tensor) -> None:
        """Update statistics by the mean score [] of a step's reals, after the step."""
