"""How many of 1,000 modes a generator has: three digits in the three colours of an image.

Metz et al. 2017 ("Unrolled generative adversarial networks"), section 3.3.1; data from `progan prepare stacked:FILE`.
"""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from progan.errors import ConfigError
from progan.metrics.base import Value
from progan.metrics.histograms import DRAWS, kl
from progan.metrics.intervals import around
from progan.metrics.reading import Reader
from progan.metrics.setting import Setting

MODES = 1000
USUAL = 25_600
"""Samples that published numbers are of; with fewer there are fewer modes to be found."""
ENOUGH = 0.99
"""Share of digits that the classifier must get right: what it gets wrong are modes that nobody made."""


class StackedMnist:
    """`stacked_modes`: triples of digits among the fakes; `stacked_kl`: divergence of their shares from the data's.

    A classifier trained on the data's single digits reads each colour. Kullback-Leibler divergence in nats, of the
    fakes from the products of the digits' shares in the data. The intervals are from 200 bootstraps of the fakes:
    for the divergence, normal; for the modes their deviation to both sides, since a bootstrap has always fewer.
    """

    def __init__(self, setting: Setting) -> None:
        dataset = setting.need_dataset("stacked-mnist")
        names = [f"{colour}={digit}" for colour in ("red", "green", "blue") for digit in range(10)]
        if list(dataset.label_names) != names:
            raise ConfigError(
                "stacked-mnist needs data made with `progan prepare stacked:FILE` from digits with labels"
            )
        self._reader, self._setting = Reader(setting, "stacked-mnist", per_colour=True), setting
        self._counts = np.zeros(MODES, np.int64)

    def update(self, pixels: Tensor, real: bool) -> None:
        """See Metric."""
        if not real:
            digits = self._reader.read(pixels).cpu()
            self._counts += torch.bincount(digits @ torch.tensor([100, 10, 1]), minlength=MODES).numpy()

    def result(self) -> dict[str, Value]:
        """See Metric."""
        number = int(self._counts.sum())
        if number < 2:
            raise ConfigError("stacked-mnist needs at least two images")
        if number != USUAL:
            self._setting.note(f"stacked-mnist: of {number:,} images; published numbers are of 25,600 (--num 25600)")
        if self._reader.right < ENOUGH:
            self._setting.note(
                f"stacked-mnist: not comparable with other numbers, that classifier gets less than {ENOUGH:.0%} right"
            )
        red, green, blue = (counts / counts.sum() for counts in self._reader.frequencies())
        shares = np.maximum(np.einsum("i,j,k->ijk", red, green, blue).reshape(-1), 1e-9)
        modes, divergence = found(self._counts), kl(self._counts, shares)
        draws = np.random.default_rng(self._setting.seed).multinomial(number, self._counts / number, DRAWS)
        deviation = float(np.std([found(draw) for draw in draws]))
        return {
            "stacked_modes": around(modes, deviation),
            "stacked_kl": around(divergence, float(np.std([kl(draw, shares) for draw in draws]))),
        }


def found(counts: npt.NDArray[np.int64]) -> int:
    """How many modes occur at all."""
    return int((counts > 0).sum())


make = StackedMnist
