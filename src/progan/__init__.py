"""Progressive GANs: train on your own images, see how good the result is, and use it.

progan.train("quickstart", out="runs/a", minutes=20)
snapshot = progan.load("runs/a")
pixels = progan.to_pixels(snapshot.generate(snapshot.latents(range(64))))
"""

import importlib
import os
import sys
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Threads of libgomp, with which PyTorch computes on a CPU, spin for 300,000 rounds (10 ms) waiting for each other.
# Where another process wants a core, that stalls them all; with too few rounds two threads are slower than one
# (docs/performance.md). It reads this once, when PyTorch is imported.
if "torch" not in sys.modules and not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & os.environ.keys():
    os.environ["GOMP_SPINCOUNT"] = "10000"

if TYPE_CHECKING:
    from progan.config import PrepareConfig
    from progan.data.dataset import Dataset
    from progan.data.prepare import prepare
    from progan.errors import ProganError
    from progan.images import to_images, to_pixels
    from progan.metrics.evaluation import evaluate
    from progan.run import Run, train
    from progan.run.networks import load
    from progan.snapshot import Critic, Snapshot

_HOMES = {
    "Dataset": "data.dataset",
    "ProganError": "errors",
    "Run": "run",
    "train": "run",
    "evaluate": "metrics.evaluation",
    "to_images": "images",
    "to_pixels": "images",
    "load": "run.networks",
    "Snapshot": "snapshot",
    "Critic": "snapshot",
    "prepare": "data.prepare",
    "PrepareConfig": "config",
}
__all__ = [
    "Critic",
    "Dataset",
    "PrepareConfig",
    "ProganError",
    "Run",
    "Snapshot",
    "__version__",
    "evaluate",
    "load",
    "prepare",
    "to_images",
    "to_pixels",
    "train",
]


def __getattr__(name: str) -> Any:
    """Public names, imported when they are first used: `import progan` alone is quick."""
    if name not in _HOMES:
        raise AttributeError(f"module 'progan' has no attribute {name!r}")
    return getattr(importlib.import_module(f"progan.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    """Public names, also those that were not used yet: a notebook completes them."""
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
