"""Where a run is computed and in how many bits: chosen once, recorded in its states."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from progan.config import FixedPrecision, RuntimeConfig
from progan.errors import DeviceError
from progan.training.parallel.processes import ALONE, Processes

DTYPES: dict[FixedPrecision, torch.dtype] = {
    "fp32": torch.float32,
    "tf32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}


@dataclass(frozen=True)
class Numerics:
    """All that decides which bits come out, besides configuration, seed and data."""

    device: str
    precision: FixedPrecision
    """Of activations and convolutions; weights, norms, losses and the optimiser have 32 bits."""
    threads: int
    torch_version: str
    processes: int = 1
    compiled: tuple[int, ...] = ()
    """Resolutions whose steps are compiled."""

    @classmethod
    def of_json(cls, data: Mapping[str, Any]) -> "Numerics":
        return cls(**{**data, "compiled": tuple(data.get("compiled", ()))})

    @property
    def dtype(self) -> torch.dtype:
        return DTYPES[self.precision]

    @property
    def scaled(self) -> bool:
        """Whether losses are scaled before they are differentiated: fp16 has too narrow a range for gradients."""
        return self.precision == "fp16"

    def described(self) -> str:
        """For people."""
        return f"{self.device}, {self.precision}, {thread_count(self.threads)}"


def thread_count(number: int) -> str:
    """For people."""
    return f"{number} thread" if number == 1 else f"{number} threads"


def choose_numerics(config: RuntimeConfig, processes: Processes = ALONE) -> Numerics:
    """What `auto` means on this machine. Raises DeviceError for what it does not have."""
    device = find_device(processes.device(config.device))
    precision = (sixteen_bits(device) or "fp32") if config.precision == "auto" else config.precision
    if precision == "tf32" and not has_tf32(device):
        needs = "an NVIDIA GPU of compute capability 8 or more, to begin and to go on"
        raise DeviceError(f"--precision tf32 needs {needs}; {device} has fp32")
    _set_switches(tf32=precision == "tf32")
    return Numerics(str(device), precision, torch.get_num_threads(), torch.__version__, processes.size)


def agree_on_numerics(numerics: Numerics, processes: Processes) -> Numerics:
    """What the first process has chosen, on the device of each."""
    chosen = json.loads(processes.broadcast(json.dumps(dataclasses.asdict(numerics)).encode()))
    return dataclasses.replace(Numerics.of_json(chosen), device=numerics.device)


def find_device(name: str) -> torch.device:
    """The device of that name, a GPU with its number; `auto` is the first CUDA GPU, else the CPU.

    It becomes the current one, and computes in exact fp32. Raises DeviceError if it cannot be used.
    """
    if name == "auto":
        name = "cuda:0" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.empty(1, device=name).device
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise DeviceError(f"--device {name} cannot be used here: {reason}. `progan doctor` shows what can") from None
    if device.type == "cuda":
        torch.cuda.set_device(device)
    _set_switches(tf32=False)
    return device


def _set_switches(tf32: bool) -> None:
    """PyTorch's for CUDA, which are the process's.

    By default some operations use TF32 and others do not, parts of sums are rounded to 16 bits, some of cuDNN's
    convolutions give other bits every time, and autograd works on a GPU's gradients in a thread of its own, where the
    order of sums depends on what it has done before.
    """
    torch.autograd.set_multithreading_enabled(False)
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False
    torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
    torch.backends.cudnn.allow_tf32 = tf32
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False


def has_tf32(device: torch.device) -> bool:
    """Whether the device has units that multiply fp32 numbers rounded to 19 bits."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)


def sixteen_bits(device: torch.device) -> FixedPrecision | None:
    """The 16 bits whose matrices the device has units for; None if it has none."""
    if device.type == "cuda":
        capability = torch.cuda.get_device_capability(device)
        return "bf16" if capability >= (8, 0) else "fp16" if capability >= (7, 0) else None
    if device.type == "cpu":
        return "bf16" if _cpu_flags() & {"avx512_bf16", "amx_bf16", "amx_tile"} else None
    return None


def _cpu_flags() -> set[str]:
    names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")  # there is no public question in torch 2.9
    found = {name for name in names if getattr(torch.cpu, name, lambda: False)()}
    return {name.removeprefix("_is_").removesuffix("_supported") for name in found}


def numerics_differences(recorded: Numerics, now: Numerics) -> list[str]:
    """Lines that say why this machine may give other bits than the one that began the run."""
    return [
        f"{field.name} {getattr(recorded, field.name)} -> {getattr(now, field.name)}"
        for field in dataclasses.fields(Numerics)
        if getattr(recorded, field.name) != getattr(now, field.name)
    ]
