"""Numbers for how good generated images are. A metric is a file and a line of METRICS."""

from collections.abc import Callable

from progan.metrics.interface import Metric, Value
from progan.metrics.ms_ssim import MultiScaleSsim
from progan.metrics.swd import SlicedWasserstein

__all__ = ["METRICS", "Metric", "Value"]

METRICS: dict[str, Callable[[int], Metric]] = {
    "swd": SlicedWasserstein,
    "ms_ssim": lambda seed: MultiScaleSsim(),
}
"""Name -> metric, made with a seed for what it draws."""
