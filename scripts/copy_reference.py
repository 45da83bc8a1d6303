"""One-off: fill tests/reference from the project's reference vectors (numbers of the official code).

    python scripts/copy_reference.py FOLDER_WITH_THE_REFERENCE_FILES

Files are copied as they are, but for two: the gradients of the losses keep 14 of their 24 bits of mantissa (they are
compared with a tolerance of 1e-3; it saves 1.6 MB), and `network_pickle.npz` is joined by the variables of Gs, which
stand in the network pickle next to it.
"""

import io
import pickle
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np

VERBATIM = [
    "generator_a_r32.npz",
    "generator_b_r16_lab.npz",
    "discriminator_a_r32.npz",
    "discriminator_b_r16_lab.npz",
    "layers.npz",
    "adam.npz",
    "train_steps.npz",
    "process_reals.npz",
    "metrics.npz",
    "metrics_images.npz",
    "network-final-small-nosrc.pkl",
    "schedule.csv",
    "schedule_walk.json",
]
GRADIENTS = ("grad_G/", "grad_D/")


def rounded(x: np.ndarray) -> np.ndarray:
    """float32 with 14 bits of mantissa: relative error at most 2^-14."""
    bits = x.view(np.uint32).astype(np.uint64) + 0x200
    return (bits & 0xFFFFFC00).astype(np.uint32).view(np.float32)


class Network:
    """Stands for the pickled class: keeps its state and runs nothing."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.state = state


class Unpickler(pickle.Unpickler):
    """Knows numpy's arrays and `Network`, nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        if name == "Network":
            return Network
        assert module.startswith("numpy"), f"{module}.{name} is not data"
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)


def main(source: Path, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for name in VERBATIM:
        shutil.copyfile(source / name, target / name)
    for name in ("losses.npz", "losses_unfused.npz"):
        with np.load(source / name) as arrays:
            kept = {key: rounded(x) if any(part in key for part in GRADIENTS) else x for key, x in arrays.items()}
        np.savez_compressed(target / name, **kept)
    with np.load(source / "network_pickle.npz") as arrays:
        kept = dict(arrays)
    pickled = (source / "network-final-small-nosrc.pkl").read_bytes()
    averaged = Unpickler(io.BytesIO(pickled), encoding="latin1").load()[2]
    kept |= {f"Gs/var/{name}": np.asarray(value) for name, value in averaged.state["variables"] if name != "lod"}
    np.savez_compressed(target / "network_pickle.npz", **kept)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(__file__).parent.parent / "tests" / "reference")
