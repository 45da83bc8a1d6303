"""Numerics of a run: on which device and in how many bits it is computed, chosen once and recorded in its states."""

import dataclasses
import json
import os
from dataclasses import dataclass

import torch

from progan.config import FixedPrecision, RuntimeConfig
from progan.devices import cores, find_device, has_tf32, set_switches, sixteen_bits
from progan.errors import DeviceError
from progan.options import parse_json
from progan.training.parallel.processes import ALONE, Processes

DTYPES: dict[FixedPrecision, torch.dtype] = {
    "fp32": torch.float32,
    "tf32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}


@dataclass(frozen=True)
class Numerics:
    """Everything besides configuration, seed and data that decides which bits come out."""

    device: str
    precision: FixedPrecision
    """Precision of activations and convolutions; weights, norms, losses and the optimiser have 32 bits."""
    threads: int
    torch_version: str
    processes: int = 1
    compiled: tuple[int, ...] = ()
    """Resolutions whose steps are compiled."""
    winograd: bool = False
    """Whether wide convolutions in fp32 on a CPU are computed by Winograd's algorithm (models/winograd.py)."""

    @property
    def dtype(self) -> torch.dtype:
        return DTYPES[self.precision]

    @property
    def scaled(self) -> bool:
        """True if losses are scaled before they are differentiated: fp16's range is too narrow for gradients."""
        return self.precision == "fp16"

    def differences(self, now: "Numerics") -> list[str]:
        """Lines `field: recorded -> now` that say why this machine may give other bits than the one before."""
        names = [field.name for field in dataclasses.fields(Numerics)]
        pairs = [(name, getattr(self, name), getattr(now, name)) for name in names]
        return [f"{name} {before} -> {after}" for name, before, after in pairs if before != after]

    def shared(self, processes: Processes) -> "Numerics":
        """Numerics of the first process, whose trials may take long, on the device of each."""
        processes.wait()
        chosen = json.loads(processes.broadcast(json.dumps(dataclasses.asdict(self)).encode()))
        return dataclasses.replace(parse_json(Numerics, chosen), device=self.device)

    def __str__(self) -> str:
        return f"{self.device}, {self.precision}, {thread_count(self.threads)}"


def thread_count(number: int) -> str:
    """`1 thread`, `4 threads`."""
    return f"{number} thread" if number == 1 else f"{number} threads"


def choose(config: RuntimeConfig, processes: Processes = ALONE) -> Numerics:
    """Numerics of a configuration on this machine, `auto` resolved. Raises DeviceError for what it does not have."""
    device = find_device(processes.device(config.device))
    precision = (sixteen_bits(device) or "fp32") if config.precision == "auto" else config.precision
    if precision == "tf32" and not has_tf32(device):
        needs = "an NVIDIA GPU of compute capability 8 or more, to begin and to go on"
        raise DeviceError(f"--precision tf32 needs {needs}; {device} has fp32")
    set_switches(tf32=precision == "tf32")
    threads = wished_threads(config) or free_threads(processes)
    return Numerics(str(device), precision, threads, torch.__version__, processes.size)


def wished_threads(config: RuntimeConfig) -> int | None:
    """Number of threads that --threads or OMP_NUM_THREADS ask for, or a core for each; None if neither is given."""
    if config.threads is not None:
        return min(config.threads, cores())
    return torch.get_num_threads() if os.environ.get("OMP_NUM_THREADS") else None


def free_threads(processes: Processes) -> int:
    """Most threads that a process may use: PyTorch's, and of the cores the share of one of the processes here."""
    here = int(os.environ.get("LOCAL_WORLD_SIZE", 1)) if processes.size > 1 else 1
    return max(1, min(torch.get_num_threads(), cores() // here))
