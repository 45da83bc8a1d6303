"""Progressive GANs: train on your own images, see how good the result is, and use it.

run = progan.train("mnist32", data="digits/", out="runs/a", total_kimg=50)
snapshot = progan.load("runs/a")
pixels = progan.to_pixels(snapshot.generate(snapshot.latents(range(64))))
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from progan.data.dataset import Dataset
    from progan.errors import ProganError
    from progan.images import to_images, to_pixels
    from progan.metrics.evaluation import evaluate
    from progan.run import Run, train
    from progan.sampling import load
    from progan.snapshot import Snapshot

_HOMES = {
    "Dataset": "data.dataset",
    "ProganError": "errors",
    "Run": "run",
    "train": "run",
    "evaluate": "metrics.evaluation",
    "to_images": "images",
    "to_pixels": "images",
    "load": "sampling",
    "Snapshot": "snapshot",
}
__all__ = [
    "Dataset",
    "ProganError",
    "Run",
    "Snapshot",
    "__version__",
    "evaluate",
    "load",
    "to_images",
    "to_pixels",
    "train",
]


def __getattr__(name: str) -> Any:
    """Public names, imported when they are first used: `import progan` alone is quick."""
    if name not in _HOMES:
        raise AttributeError(f"module 'progan' has no attribute {name!r}")
    return getattr(importlib.import_module(f"progan.{_HOMES[name]}"), name)
