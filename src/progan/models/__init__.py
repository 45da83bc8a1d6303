"""Networks: `G(z, labels=None, resolution=None, alpha=1.0) -> images`, `D(images, alpha=1.0) -> Scores`."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from progan.config import ModelConfig, ModelName
from progan.models.progan import Discriminator, Generator
from progan.randomness import mix
from progan.scores import Scores

__all__ = ["MODELS", "Discriminator", "Generator", "ImageShape", "Scores", "build"]

MODELS: dict[ModelName, tuple[Callable[..., Any], Callable[..., Any]]] = {"progan": (Generator, Discriminator)}


@dataclass(frozen=True)
class ImageShape:
    """What the networks must know of the data."""

    resolution: int
    channels: int
    label_size: int = 0


def build(config: ModelConfig, shape: ImageShape, seed: int) -> tuple[Generator, Discriminator]:
    """G and D on the CPU, float32, initialised from the seed alone."""
    generator, discriminator = MODELS[config.kind]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(mix(seed, 0, 3))
        return generator(config, **dataclasses.asdict(shape)), discriminator(config, **dataclasses.asdict(shape))
