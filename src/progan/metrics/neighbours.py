"""Does the generator repeat its training images? Nearest neighbours there against those in images it never saw."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from progan.data.dataset import Dataset, Indices
from progan.errors import ConfigError
from progan.images import grid
from progan.metrics.base import Value
from progan.metrics.features import Features
from progan.metrics.intervals import median_of, share_of
from progan.metrics.nearest import Scale, distances
from progan.metrics.setting import Setting

MOST = 16_384
"""Held-out images that are looked at."""
_BLOCK = 1024


class Neighbours:
    """`memorised` and `neighbour_ratio`, of distances in the space of `features`, in the held-out images' units.

    A fake that owes nothing to single images is nearest to a training image, of T + H training and held-out images,
    with probability T / (T + H). `memorised` is the share of fakes beyond that chance: 0 in the mean for a generator
    that does not memorise, 1 for copies. `neighbour_ratio` is the median of nearest training image's distance over
    nearest held-out image's: 0 for copies; where T is larger than H it is below 1 for everybody, as its floor says.
    All training images are looked at; of the held-out ones, half are compared with, and the other half stand for the
    fakes in the floor. Intervals are over fakes: Wilson's, and order statistics of the median.
    """

    def __init__(self, setting: Setting) -> None:
        if setting.held_out is None:
            raise ConfigError(
                "neighbours needs images that were not trained on: --held-out DATASET (`progan data split` makes one)"
            )
        self._train, self._held_out = setting.need_dataset("neighbours"), setting.held_out
        if self._held_out.channels != self._train.channels:
            raise ConfigError(f"{self._held_out.name} and {self._train.name} are not both grey or both RGB")
        if self._held_out.count < 16:
            raise ConfigError(f"neighbours needs at least 16 held-out images; {self._held_out.name} has fewer")
        self._resolution, self._seed = setting.resolution, setting.seed
        self._features = setting.features
        self._fakes: list[Tensor] = []

    def update(self, pixels: Tensor, real: bool) -> None:
        """See Metric."""
        if not real:
            self._fakes.append(self._features(pixels))

    def result(self) -> dict[str, Value]:
        """See Metric."""
        if sum(map(len, self._fakes)) < 8:
            raise ConfigError("neighbours needs at least 8 images")
        order = self._held_out.order(0, min(MOST, self._held_out.count), self._seed)
        held_out = look(self._held_out, self._resolution, order, self._features)
        known, others = held_out[0::2], held_out[1::2]
        scale = Scale(known)
        fakes = torch.cat(self._fakes)
        points = scale(torch.cat([fakes, others[: len(fakes)]]))
        seen = search(points, self._train, self._resolution, self._features, scale)[0][:, 0]
        unseen = torch.cat([distances(some, scale(known)).amin(1) for some in torch.split(points, _BLOCK)])
        chance = self._train.count / (self._train.count + len(known))
        n = len(fakes)
        floors = compare(seen[n:], unseen[n:], chance)
        values = compare(seen[:n], unseen[:n], chance)
        return {name: dataclasses.replace(value, floor=floors[name]) for name, value in values.items()}


def compare(seen: Tensor, unseen: Tensor, chance: float) -> dict[str, Value]:
    """Of squared distances float [N] to the nearest training and the nearest other image: values with intervals."""
    share = share_of(seen < unseen)
    value, low, high = ((x - chance) / (1 - chance) for x in (share.value, share.low, share.high))
    same = (seen == 0) & (unseen == 0)
    ratios = torch.where(same, 1.0, (seen / unseen).sqrt())
    return {"memorised": Value(value, low, high), "neighbour_ratio": median_of(ratios)}


def search(
    points: Tensor, dataset: Dataset, resolution: int, features: Features, scale: Scale, nearest: int = 1
) -> tuple[Tensor, Tensor]:
    """The nearest images of a dataset to points float [N, F]: squared distances [N, nearest] and numbers int64."""
    best = points.new_full((len(points), nearest), torch.inf, dtype=torch.float64)
    numbers = torch.zeros(len(points), nearest, dtype=torch.long, device=points.device)
    for start in range(0, dataset.count, _BLOCK):
        block = np.arange(start, min(start + _BLOCK, dataset.count))
        others = scale(look(dataset, resolution, block, features))
        found = torch.from_numpy(block).to(points.device).expand(len(points), -1)
        joined = torch.cat([best, distances(points, others)], 1)
        best, places = joined.topk(nearest, largest=False)
        numbers = torch.cat([numbers, found], 1).gather(1, places)
    return best, numbers


def look(dataset: Dataset, resolution: int, indices: Indices, features: Features) -> Tensor:
    """Features float32 [n, F] of images of a dataset."""
    parts = [indices[i : i + _BLOCK] for i in range(0, len(indices), _BLOCK)]
    return torch.cat([features(torch.from_numpy(dataset.pixels(resolution, part))) for part in parts])


def sheet(fakes: Tensor, setting: Setting, rows: int = 16, nearest: int = 5) -> Tensor:
    """The `rows` fakes, of pixels uint8 [N, C, R, R], nearest to a training image: one picture uint8 [C, H, W].

    In each row a fake, then the training images nearest to it, nearest first.
    """
    train = setting.need_dataset("the picture of neighbours")
    some = look(train, setting.resolution, train.order(0, min(train.count, 4 * _BLOCK), setting.seed), setting.features)
    scale = Scale(some)
    points = scale(torch.cat([setting.features(part) for part in torch.split(fakes, _BLOCK)]))
    squares, numbers = search(points, train, setting.resolution, setting.features, scale, nearest)
    shown: Sequence[int] = squares[:, 0].argsort()[:rows].tolist()
    lines = [
        torch.cat(
            [fakes[i : i + 1].cpu(), torch.from_numpy(train.pixels(setting.resolution, numbers[i].cpu().numpy()))]
        )
        for i in shown
    ]
    return grid(torch.cat(lines), 1 + nearest, gap=2)


make = Neighbours
