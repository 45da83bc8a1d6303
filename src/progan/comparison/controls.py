"""Pseudo-models whose place in the ranking is known: a comparison that puts them elsewhere is wrong."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from progan import models
from progan.config import RunConfig
from progan.data.dataset import Dataset, Indices
from progan.metrics.evaluation import Generate
from progan.models import ImageShape
from progan.randomness import latents


@dataclass(frozen=True)
class Control:
    """Images that some seed gives, in the place of a generator's."""

    name: str
    about: str
    images: Callable[[int], "Images"]
    """Number of the seed (0, 1 …) -> its images, made or read as they are asked for."""


class Images:
    """Something that gives the next n images, uint8 [n, C, R, R], as often as it is asked."""

    def __init__(self, draw: Callable[[int, int], Tensor]) -> None:
        self._draw = draw
        self._next = 0

    def take(self, n: int) -> Tensor:
        """The next n."""
        self._next += n
        return self._draw(self._next - n, n)

    def generate(self) -> Generate:
        """As a generator that looks at the number of its latents only."""
        return lambda z, labels: self.take(len(z))


def controls(train: Dataset, held_out: Dataset, num: int, resolution: int, config: RunConfig) -> Iterator[Control]:
    """Best first. `config`: of the model whose untrained networks come last."""

    def of(dataset: Dataset, indices: Indices) -> Callable[[int], Images]:
        def images(k: int) -> Images:
            def draw(start: int, n: int) -> Tensor:
                places = np.arange(k * num + start, k * num + start + n) % len(indices)
                return torch.from_numpy(dataset.pixels(resolution, indices[places]))

            return Images(draw)

        return images

    fresh = held_out.order(num, held_out.count - num, seed=0)  # the first `num` are what all are measured against
    yield Control("held-out images", "real images that no model was shown: the best there is", of(held_out, fresh))
    order = train.order(0, train.count, seed=1)
    yield Control("training images", "copies of what the models learned from: nothing but memory", of(train, order))
    missing = _without_one(train, order)
    if missing is not None:
        name, rest = missing
        yield Control(
            f"without {name}", f"training images, but none that is {name}: a mode is missing", of(train, rest)
        )
    yield Control(
        "untrained",
        f"{config.preset or config.model.kind} before its first image",
        _untrained(config, train, resolution),
    )


def _without_one(dataset: Dataset, order: Indices) -> tuple[str, Indices] | None:
    """The most frequent label, and the images that do not have it; None without labels, or where none is left."""
    rows = dataset.labels(order)
    if rows is None:
        return None
    most = int(rows.sum(0).argmax())
    rest = order[rows[:, most] == 0]
    return (dataset.label_names[most], rest) if len(rest) else None


def _untrained(config: RunConfig, dataset: Dataset, resolution: int) -> Callable[[int], Images]:
    def images(k: int) -> Images:
        G, _ = models.build(config.model, ImageShape(resolution, dataset.channels), seed=k)
        G.eval()

        @torch.no_grad()
        def draw(start: int, n: int) -> Tensor:
            from progan.images import to_pixels

            z = torch.from_numpy(latents(range(start, start + n), G.z_dim))
            return to_pixels(G(z, None, resolution))

        return Images(draw)

    return images
