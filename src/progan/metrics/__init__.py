"""Numbers for how good generated images are. A metric is a class in a file of this folder and a line of METRICS.

The table does not import torch, so that the help of a command starts at once.
"""

import math

from progan import plugins
from progan.metrics.base import Better, Entry, Metric, Setting, Value
from progan.plugins import Registry, is_a

__all__ = ["METRICS", "Entry", "Metric", "Setting", "Value", "better", "limits", "make"]

_OWN: dict[str, Entry] = {
    "swd": Entry(
        "swd.SlicedWasserstein",
        "distance x1000 of local structures at each scale (sliced Wasserstein)",
        {"swd": "lower"},
    ),
    "ms_ssim": Entry(
        "ms_ssim.MultiScaleSsim",
        "similarity of generated images to each other, 0 to 1; above that of real images: little variety",
        {"ms_ssim": "floor"},
        limits=(0.0, 1.0),
    ),
    "ms_ssim_excess": Entry(
        "ms_ssim.Excess",
        "that similarity less that of the real images",
        {"ms_ssim_excess": "floor"},
        limits=(-1.0, 1.0),
    ),
    "precision_recall": Entry(
        "manifold.PrecisionRecall",
        "fraction of fakes near reals, fraction of reals near fakes",
        {"precision": "higher", "recall": "higher"},
        limits=(0.0, 1.0),
    ),
    "density_coverage": Entry(
        "manifold.DensityCoverage",
        "how densely fakes lie among reals, fraction of reals with a fake nearby",
        {"density": "higher", "coverage": "higher"},
        fractions=("coverage",),
    ),
    "modes": Entry(
        "modes.Modes",
        "fraction of bins of the reals that are filled otherwise by fakes, and divergence of the two histograms",
        {"ndb": "lower", "jsd": "lower"},
        limits=(0.0, 1.0),  # jsd ends at ln 2
    ),
    "classes": Entry(
        "classes.Classes",
        "labels read off the fakes: divergence from those of the data, how many occur (data with labels)",
        {"class_kl": "lower", "classes_found": "higher"},
    ),
    "stacked_mnist": Entry(
        "classes.StackedMnist",
        "triples of digits of 1,000, divergence from those of the data (data of `stacked:`)",
        {"stacked_modes": "higher", "stacked_kl": "lower"},
    ),
    "neighbours": Entry(
        "neighbours.Neighbours",
        "fraction of fakes that are copies; nearest training image against nearest held-out one (--held-out)",
        {"memorised": "lower", "neighbour_ratio": "floor"},
        limits=(-math.inf, math.inf),  # both ends are right already; a fraction beyond chance may be below 0
        fractions=("memorised",),
        own_floor=True,
    ),
    "fid": Entry(
        "fid.FrechetDistance",
        "distance of Gaussians in Inception-v3's features (--inception-weights)",
        {"fid": "lower"},
        uneven=True,
    ),
    "kid": Entry(
        "fid.KernelDistance",
        "kernel distance of those features, unbiased (--inception-weights)",
        {"kid": "lower"},
        limits=(-math.inf, math.inf),  # 0 in the mean for one distribution, so also below
        uneven=True,
    ),
    "inception_score": Entry(
        "fid.InceptionScore",
        "how definite and how varied Inception-v3's classes are (--inception-weights)",
        {"inception_score": "higher"},
        limits=(1.0, math.inf),
        uneven=True,
    ),
    "spectrum": Entry(
        "spectrum.Spectrum", "decibels between the power spectra of fakes and reals", {"spectrum": "lower"}
    ),
    "extremes": Entry(
        "extremes.Extremes",
        "single black or white pixels, and values outside the range before clipping, per million",
        {"isolated_extremes": "floor", "out_of_range": "lower"},
        unclipped=True,
    ),
}
METRICS = Registry("metrics", _OWN, is_a(Entry))
"""All metrics by name, in the order in which they are listed."""


def make(name: str, setting: Setting) -> Metric:
    """The metric of that name. Raises ConfigError if the setting lacks what it needs."""
    home = METRICS[name].home
    metric: Metric = plugins.load(home if ":" in home else f"progan.metrics.{home.replace('.', ':')}")(setting)
    return metric


def better(value: str) -> Better:
    """Direction in which a number is better; `swd_64` is a part of `swd`."""
    directions = {name: way for entry in METRICS.values() for name, way in entry.values.items()}
    return directions[value] if value in directions else directions[value.rpartition("_")[0]]


def limits(value: str) -> tuple[float, float]:
    """Least and greatest that a number can be; `swd_64` is a part of `swd`, and what is no metric a distance."""
    entries = {name: entry for entry in METRICS.values() for name in entry.values}
    name = value if value in entries else value.rpartition("_")[0]
    low, high = entries[name].limits if name in entries else (0.0, math.inf)
    return low, min(high, 1.0) if name in entries and name in entries[name].fractions else high
