"""Numbers for how good generated images are. A metric is a file of this folder and a line of METRICS.

The table is free of torch, so that the help of a command is quick.
"""

import importlib

from progan.metrics.base import Better, Entry, Metric, Value
from progan.metrics.setting import Setting

__all__ = ["METRICS", "Entry", "Metric", "Setting", "Value", "better", "make"]

METRICS: dict[str, Entry] = {
    "swd": Entry("distance x1000 of local structures at each scale (sliced Wasserstein)", {"swd": "lower"}),
    "ms_ssim": Entry(
        "similarity of fakes to each other, 0 to 1; above the floor: little variety", {"ms_ssim": "floor"}
    ),
    "ms_ssim_excess": Entry("that similarity less that of the reals", {"ms_ssim_excess": "floor"}),
    "precision_recall": Entry(
        "share of fakes near reals, share of reals near fakes", {"precision": "higher", "recall": "higher"}
    ),
    "density_coverage": Entry(
        "how densely fakes lie among reals, share of reals with a fake nearby",
        {"density": "higher", "coverage": "higher"},
    ),
    "modes": Entry(
        "bins of the reals with another share of the fakes, and the divergence of the shares",
        {"ndb": "lower", "jsd": "lower"},
    ),
    "classes": Entry(
        "labels read off the fakes: divergence from the data's shares, how many occur (data with labels)",
        {"class_kl": "lower", "classes_found": "higher"},
    ),
    "stacked_mnist": Entry(
        "triples of digits of 1,000, divergence from the data's shares (data of `stacked:`)",
        {"stacked_modes": "higher", "stacked_kl": "lower"},
    ),
    "neighbours": Entry(
        "share of fakes that are copies; nearest training image against nearest held-out one (--held-out)",
        {"memorised": "lower", "neighbour_ratio": "floor"},
        own_floor=True,
    ),
    "fid": Entry("distance of Gaussians in Inception-v3's features (--inception-weights)", {"fid": "lower"}),
    "kid": Entry("kernel distance of those features, unbiased (--inception-weights)", {"kid": "lower"}),
    "inception_score": Entry(
        "how definite and how various Inception-v3's classes are (--inception-weights)", {"inception_score": "higher"}
    ),
    "spectrum": Entry("decibels between the power spectra of fakes and reals", {"spectrum": "lower"}),
    "extremes": Entry(
        "lone black or white pixels, and values outside the range before clipping, per million",
        {"isolated_extremes": "floor", "out_of_range": "lower"},
        unclipped=True,
    ),
}
"""Name, which is also that of its module, and what people and reports must know of it."""


def make(name: str, setting: Setting) -> Metric:
    """The metric of that name. Raises ConfigError where the setting lacks what it needs."""
    metric: Metric = importlib.import_module(f"progan.metrics.{name}").make(setting)
    return metric


def better(value: str) -> Better:
    """Which direction of a value is better; `swd_64` is a part of `swd`."""
    directions = {name: way for entry in METRICS.values() for name, way in entry.values.items()}
    return directions[value] if value in directions else directions[value.rpartition("_")[0]]
