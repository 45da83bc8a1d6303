"""Does the generator repeat its training images? Nearest neighbours there against those in images it never saw."""

import dataclasses

import torch
from torch import Tensor

from progan.errors import ConfigError
from progan.images import grid
from progan.metrics.base import Collecting, Setting, Value, fraction_of, median_of
from progan.metrics.features import Scale, random_features
from progan.metrics.nearest import beside, blocks, points_of, search

MOST = 16_384
"""Number of held-out images that are looked at."""
_SCALED_BY = 4096  # training images that give the picture its units


class Neighbours(Collecting):
    """`memorised` and `neighbour_ratio`, of distances of random features, in the held-out images' units.

    A fake that owes nothing to single images is nearest to a training image, of T + H training and held-out images,
    with probability T / (T + H). `memorised` is the fraction of fakes beyond that chance: 0 in the mean for a generator
    that does not memorise, 1 for copies. `neighbour_ratio` is the median of nearest training image's distance over
    nearest held-out image's: 0 for copies; where T is larger than H it is below 1 for everybody, as its baseline says.
    All training images are looked at; of the held-out ones, half are compared with, and the other half stand for the
    fakes in the baseline. Intervals are over fakes: Wilson's, and order statistics of the median.
    """

    name, fakes_only = "neighbours", True

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting, random_features(setting))
        if setting.held_out is None:
            raise ConfigError(
                "neighbours needs images that were not trained on: --held-out DATASET (`progan data split` makes one)"
            )
        self._train, self._held_out = setting.need_dataset("neighbours"), setting.held_out
        if self._held_out.channels != self._train.channels:
            raise ConfigError(f"{self._held_out.name} and {self._train.name} are not both grey or both RGB")
        if setting.resolution not in (0, *self._held_out.resolutions):  # said before images are made, not after
            size, most = setting.resolution, self._held_out.resolutions[-1]
            raise ConfigError(
                f"neighbours needs held-out images of {size}x{size}; {self._held_out.name} has {most}x{most}. "
                f"Prepare them again with --resolution {size}"
            )
        if self._held_out.count < 16:
            raise ConfigError(f"neighbours needs at least 16 held-out images; {self._held_out.name} has fewer")

    def result(self) -> dict[str, Value]:
        fakes, resolution = self.rows(False, least=8), self.setting.resolution
        order = self._held_out.order(0, min(MOST, self._held_out.count), self.setting.seed)
        held_out = points_of(self._held_out, resolution, self.look, order)
        known, others = held_out[0::2], held_out[1::2]
        scale = Scale(known)
        # The baseline's images are compared like the fakes, after them.
        points = scale(torch.cat([fakes, others[: len(fakes)]]))
        seen = search(points, self._train, resolution, lambda pixels: scale(self.look(pixels)))[0][:, 0]
        unseen = torch.cat([squares.amin(1) for _, squares in blocks(points, scale(known))])
        # Chance of a training image to be the nearest, were they all alike.
        chance, n = self._train.count / (self._train.count + len(known)), len(fakes)
        floors = compare(seen[n:], unseen[n:], chance)
        values = compare(seen[:n], unseen[:n], chance)
        return {name: dataclasses.replace(value, floor=floors[name]) for name, value in values.items()}


def compare(seen: Tensor, unseen: Tensor, chance: float) -> dict[str, Value]:
    """The numbers of squared distances float [N] to the nearest training image and to the nearest other one."""
    nearer = fraction_of(seen < unseen)
    value, low, high = ((x - chance) / (1 - chance) for x in (nearer.value, nearer.low, nearer.high))
    same = (seen == 0) & (unseen == 0)  # 0 / 0: an image that is in both sets
    ratios = torch.where(same, 1.0, (seen / unseen).sqrt())
    return {"memorised": Value(value, low, high), "neighbour_ratio": median_of(ratios)}


def sheet(fakes: Tensor, setting: Setting, rows: int = 16, nearest: int = 5) -> Tensor:
    """The `rows` fakes, of pixels uint8 [N, C, R, R], nearest to a training image: one picture uint8 [C, H, W].

    In each row a fake, then the training images nearest to it, nearest first.
    """
    train, look = setting.need_dataset("the picture of neighbours"), random_features(setting)
    order = train.order(0, min(train.count, _SCALED_BY), setting.seed)
    scale = Scale(points_of(train, setting.resolution, look, order))
    squares, numbers = search(
        scale(look(fakes)), train, setting.resolution, lambda pixels: scale(look(pixels)), nearest
    )
    shown = squares[:, 0].argsort()[:rows]
    pictures = beside(fakes[shown.to(fakes.device)], train, numbers[shown])
    return grid(pictures.flatten(0, 1), pictures.shape[1], gap=2)
