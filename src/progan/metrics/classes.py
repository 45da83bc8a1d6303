"""Are the labels of the data there in the right proportions? A classifier trained on the data reads them off the fakes.

`stacked_mnist`: three digits in the three colours of an image have 1,000 modes (Metz et al. 2017, "Unrolled generative
adversarial networks", section 3.3.1); data from `progan prepare stacked:FILE`.
"""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch

from progan.errors import ConfigError
from progan.metrics.base import DRAWS, Collecting, Setting, Value, around, kl, spread
from progan.metrics.classifier import LabelReader

MODES = 1000
USUAL = 25_600
"""Number of samples that published numbers are of; with fewer there are fewer modes to be found."""
ENOUGH = 0.99
"""Fraction of digits that the classifier must get right: what it gets wrong are modes that nobody made."""

Counts = npt.NDArray[np.int64]


class Classes(Collecting):
    """`class_kl` and `classes_found`: the histogram of the labels read off the fakes beside that of the data.

    `class_kl`: Kullback-Leibler divergence of the fakes' labels from the data's in nats; of attributes, the mean over
    them. `classes_found`: labels that occur at least a tenth as often as in the data. The intervals are from 200
    bootstraps of the fakes: normal, and the 2.5 and 97.5 % quantiles. The classifier learns from the data itself; a
    note says how much it gets right.
    """

    name, fakes_only = "classes", True

    def __init__(self, setting: Setting) -> None:
        self._reader = LabelReader(setting, self.name)
        super().__init__(setting, lambda pixels: self._reader.read(pixels).cpu())

    def result(self) -> dict[str, Value]:
        codes, expected = self.rows(False, 2).numpy(), self._reader.frequencies()
        divergence, found = compare(codes, expected)
        random = np.random.default_rng(self.setting.seed)
        draws = [compare(codes[random.integers(0, len(codes), len(codes))], expected) for _ in range(DRAWS)]
        divergences, founds = (np.array(column) for column in zip(*draws, strict=True))
        low, high = np.quantile(founds, (0.025, 0.975))
        return {
            "class_kl": around(divergence, float(divergences.std())),
            "classes_found": Value(found, min(found, float(low)), max(found, float(high))),
        }


def compare(codes: Counts, expected: Sequence[Counts]) -> tuple[float, int]:
    """Divergence and number of values found, of values int64 [N, groups] and the data's histogram of each group."""
    divergences, found = [], 0
    for column, histogram in zip(codes.T, expected, strict=True):
        counts, wanted = np.bincount(column, minlength=len(histogram)), histogram / histogram.sum()
        found += int(((histogram > 0) & (counts >= wanted * len(column) / 10) & (counts > 0)).sum())
        # A value that the data lacks counts as half an image: the divergence stays finite.
        divergences.append(kl(counts, np.maximum(wanted, 0.5 / histogram.sum())))
    return float(np.mean(divergences)), found


class StackedMnist(Collecting):
    """`stacked_modes`: triples of digits among the fakes; `stacked_kl`: their divergence from those of the data.

    A classifier trained on the data's single digits reads each colour. Kullback-Leibler divergence in nats, of the
    fakes from the products of the digits' frequencies in the data. The intervals are from 200 bootstraps of the fakes:
    for the divergence, normal; for the modes their deviation to both sides, since a bootstrap has always fewer.
    """

    name, fakes_only = "stacked-mnist", True

    def __init__(self, setting: Setting) -> None:
        dataset = setting.need_dataset(self.name)
        names = [f"{colour}={digit}" for colour in ("red", "green", "blue") for digit in range(10)]
        if list(dataset.label_names) != names:
            raise ConfigError(
                "stacked-mnist needs data made with `progan prepare stacked:FILE` from digits with labels"
            )
        self._reader = LabelReader(setting, self.name, per_colour=True)
        super().__init__(setting, lambda pixels: self._reader.read(pixels).cpu() @ torch.tensor([100, 10, 1]))

    def result(self) -> dict[str, Value]:
        counts = np.bincount(self.rows(False, 2).numpy(), minlength=MODES)
        number = int(counts.sum())
        if number != USUAL:
            self.setting.note(f"stacked-mnist: of {number:,} images; published numbers are of 25,600 (--num 25600)")
        if self._reader.right < ENOUGH:
            self.setting.note(
                f"stacked-mnist: not comparable with other numbers, that classifier gets less than {ENOUGH:.0%} right"
            )
        red, green, blue = (each / each.sum() for each in self._reader.frequencies())
        # The colours' digits are drawn independently: a triple has the product of their probabilities.
        expected = np.maximum(np.einsum("i,j,k->ijk", red, green, blue).reshape(-1), 1e-9)
        statistics: dict[str, Callable[[Counts], float]] = {
            "stacked_modes": lambda counts: int((counts > 0).sum()),
            "stacked_kl": lambda counts: kl(counts, expected),
        }
        return {
            name: around(statistic(counts), spread(statistic, [counts], self.setting.seed))
            for name, statistic in statistics.items()
        }
