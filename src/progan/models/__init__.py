"""Networks: `G(z, labels=None, resolution=None, alpha=1.0) -> images`, `D(images, alpha=1.0, noise=None) -> Scores`."""

import dataclasses
import threading
from collections.abc import Callable
from dataclasses import dataclass

import torch

from progan.config import DcganConfig, GrowingBatchNormConfig, ModelConfig, ProGANConfig
from progan.models import dcgan, growing_batchnorm, progan
from progan.models.base import Discriminator, Draws, Generator
from progan.randomness import mix
from progan.scores import Scores

__all__ = ["MODELS", "Discriminator", "Draws", "Generator", "ImageShape", "Scores", "build"]

MODELS: dict[type[ModelConfig], tuple[Callable[..., Generator], Callable[..., Discriminator]]] = {
    ProGANConfig: (progan.Generator, progan.Discriminator),
    DcganConfig: (dcgan.Generator, dcgan.Discriminator),
    GrowingBatchNormConfig: (growing_batchnorm.Generator, growing_batchnorm.Discriminator),
}
"""Registry: a model is a config class in the union `config.ModelConfig`, a file of this folder, and a line here."""
_BUILDING = threading.Lock()
"""Threads share PyTorch's generator of random numbers: one builds at a time."""


@dataclass(frozen=True)
class ImageShape:
    """Shape of the data that networks are built for."""

    resolution: int
    channels: int
    label_size: int = 0


def build(config: ModelConfig, shape: ImageShape, seed: int) -> tuple[Generator, Discriminator]:
    """G and D on the CPU, float32, initialised from the seed alone."""
    generator, discriminator = MODELS[type(config)]
    with _BUILDING, torch.random.fork_rng(devices=[]):
        torch.manual_seed(mix(seed, 0, 3))
        return generator(config, **dataclasses.asdict(shape)), discriminator(config, **dataclasses.asdict(shape))
