"""`progan doctor`: what this machine has, and what `auto` would choose."""

import argparse
from typing import Any

from progan.cli.base import answer


def run(arguments: argparse.Namespace) -> int:
    """Show versions, devices and what `auto` would choose.

    That is, which device and precision `progan train` would take on this machine.

        progan doctor
        progan doctor --json
    """
    facts = examine()
    return answer(arguments, facts, "\n".join(f"{name:22} {value}" for name, value in facts.items()))


def examine() -> dict[str, Any]:
    """Versions, devices, memory, disk, and the choices `auto` would make."""
    import os
    import platform
    import shutil
    from importlib.metadata import version

    import torch

    import progan
    from progan.config import RuntimeConfig
    from progan.devices import sixteen_bits
    from progan.training.numerics import choose
    from progan.training.preflight.autotune import undecided

    chosen = choose(RuntimeConfig())
    fast = sixteen_bits(torch.device(chosen.device))
    devices = [f"cuda:{i} {torch.cuda.get_device_name(i)}" for i in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        devices.append("mps (untested: use --device mps)")
    return {
        "progan": progan.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        **{name: version(name) for name in ("numpy", "pillow", "safetensors")},
        "system": platform.platform(),
        "cores": os.cpu_count(),
        "threads used": torch.get_num_threads(),
        "bf16 units (CPU)": sixteen_bits(torch.device("cpu")) == "bf16",
        "other devices": ", ".join(devices) or "none",
        "free disk here": f"{shutil.disk_usage('.').free / 2**30:.1f} GB",
        "--device auto": chosen.device,
        "--precision auto": chosen.precision if fast is None else undecided(fast),
    }
