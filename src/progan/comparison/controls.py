"""Pseudo-models whose place in the ranking is known: a comparison that puts them elsewhere is wrong."""

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from progan import models
from progan.config import RunConfig
from progan.data.dataset import Dataset, Indices
from progan.images import to_pixels
from progan.models import Generator, ImageShape
from progan.randomness import latents
from progan.snapshot import generate


@dataclass(frozen=True)
class Control:
    """Images that some seed gives, in the place of a generator's."""

    name: str
    about: str
    images: Callable[[int, int, int], Tensor]
    """Number of the seed (0, 1 …), number of the first image, number of images -> pixels uint8 [n, C, R, R]."""


def controls(train: Dataset, held_out: Dataset, num: int, resolution: int, config: RunConfig) -> Iterator[Control]:
    """Best first. `config`: of the model whose untrained networks come last."""

    def of(dataset: Dataset, indices: Indices) -> Callable[[int, int, int], Tensor]:
        def images(seed: int, start: int, n: int) -> Tensor:
            places = np.arange(seed * num + start, seed * num + start + n) % len(indices)
            return torch.from_numpy(dataset.pixels(resolution, indices[places]))

        return images

    @functools.cache
    def network(seed: int) -> Generator:
        return models.build(config.model, ImageShape(resolution, train.channels), seed)[0].eval()

    def untrained(seed: int, start: int, n: int) -> Tensor:
        G = network(seed)
        z = torch.from_numpy(latents(range(start, start + n), G.z_dim))
        return torch.cat([to_pixels(images) for images in generate(G, z, None, resolution)])

    fresh = held_out.order(num, held_out.count - num, seed=0)  # the first `num` are what all are measured against
    yield Control("held-out images", "real images that no model was shown: the best there is", of(held_out, fresh))
    order = train.order(0, train.count, seed=1)
    yield Control("training images", "copies of what the models learned from: nothing but memory", of(train, order))
    rows = train.labels(order)
    if rows is not None:
        # Without the most frequent label.
        most = int(rows.sum(0).argmax())
        rest, name = order[rows[:, most] == 0], train.label_names[most]
        if len(rest):
            about = f"training images, but none that is {name}: a mode is missing"
            yield Control(f"without {name}", about, of(train, rest))
    yield Control("untrained", f"{config.preset or config.model.kind} before its first image", untrained)
