"""Are the labels of the data there in the right shares? A classifier trained on the data reads them off the fakes."""

from collections.abc import Sequence

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

Histograms = Sequence[npt.NDArray[np.int64]]


class Classes:
    """`class_kl` and `classes_found`: the histogram of the labels read off the fakes beside that of the data.

    `class_kl`: Kullback-Leibler divergence of the fakes' shares from the data's in nats; of attributes, the mean over
    them. `classes_found`: labels that occur in at least a tenth of the share the data gives them. The intervals are
    from 200 bootstraps of the fakes: normal, and the 2.5 and 97.5 % quantiles. The classifier learns from the data
    itself; a note says how much it gets right.
    """

    def __init__(self, setting: Setting) -> None:
        self._reader, self._seed = Reader(setting, "classes"), setting.seed
        self._read: list[Tensor] = []

    def update(self, pixels: Tensor, real: bool) -> None:
        """See Metric."""
        if not real:
            self._read.append(self._reader.read(pixels).cpu())

    def result(self) -> dict[str, Value]:
        """See Metric."""
        if sum(map(len, self._read)) < 2:
            raise ConfigError("classes needs at least two images")
        codes, expected = torch.cat(self._read).numpy(), self._reader.frequencies()
        divergence, found = compare(codes, expected)
        random = np.random.default_rng(self._seed)
        draws = [compare(codes[random.integers(0, len(codes), len(codes))], expected) for _ in range(DRAWS)]
        divergences, founds = (np.array(column) for column in zip(*draws, strict=True))
        low, high = np.quantile(founds, (0.025, 0.975))
        return {
            "class_kl": around(divergence, float(divergences.std())),
            "classes_found": Value(found, min(found, float(low)), max(found, float(high))),
        }


def compare(codes: npt.NDArray[np.int64], expected: Histograms) -> tuple[float, int]:
    """Of values int64 [N, groups] and the data's histogram of each group: divergence and number of values found."""
    divergences, found = [], 0
    for column, histogram in zip(codes.T, expected, strict=True):
        counts, shares = np.bincount(column, minlength=len(histogram)), histogram / histogram.sum()
        found += int(((histogram > 0) & (counts >= shares * len(column) / 10) & (counts > 0)).sum())
        divergences.append(kl(counts, np.maximum(shares, 0.5 / histogram.sum())))
    return float(np.mean(divergences)), found


make = Classes
