"""Networks: `G(z, labels=None, resolution=None, alpha=1.0) -> images`, `D(images, alpha=1.0, noise=None) -> Scores`."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from progan import plugins
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


@dataclass(frozen=True)
class ImageShape:
    """Shape of the data that networks are built for."""

    resolution: int
    channels: int
    label_size: int = 0


class _Seeded(TorchFunctionMode):
    """Gives initial weights a generator of random numbers of their own: all threads share PyTorch's, with the user."""

    _DRAWING = torch.randn, torch.rand, torch.Tensor.normal_, torch.Tensor.uniform_

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._generator = torch.Generator().manual_seed(seed)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        return func(*args, **(kwargs | {"generator": self._generator} if func in self._DRAWING else kwargs))


def build(config: ModelConfig, shape: ImageShape, seed: int) -> tuple[Generator, Discriminator]:
    """G and D on the CPU, float32, initialised from the seed alone."""
    homes = (plugins.load(f"{config.home}:{name}") for name in ("Generator", "Discriminator"))
    generator, discriminator = MODELS.get(type(config)) or homes
    with _Seeded(mix(seed, 0, 3)):
        return generator(config, **dataclasses.asdict(shape)), discriminator(config, **dataclasses.asdict(shape))
