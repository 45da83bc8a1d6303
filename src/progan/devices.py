"""Devices: finding one, its units for 16 bits, its memory, and tensors on their way to it."""

import ctypes
import gc
import math
import os
import re
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from progan.errors import DeviceError

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Options of glibc's mallopt."""
UNTRIED = {"mps": "no test of progan has run on Apple's GPUs; --device cpu is what is tested there"}
"""Type of device -> what is said where one is used."""


def find_device(name: str) -> torch.device:
    """Device of a name, a GPU with its number; `auto` is the first CUDA GPU, else the CPU.

    It becomes the current device and computes in exact fp32. Raises DeviceError if it cannot be used.
    """
    if name == "auto":
        name = "cuda:0" if torch.cuda.is_available() else "cpu"
    if re.fullmatch(r"(gpu|nvidia)(:\d+)?", name):
        raise DeviceError(
            f"there is no --device {name}. NVIDIA's GPUs, and AMD's with ROCm, are called cuda; Apple's mps"
        )
    try:
        device = torch.empty(1, device=name).device
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0].split(". ")[0].rstrip(".")
        if "Could not run" in reason:  # the dispatcher's word, with a list of all backends
            reason = f"PyTorch {torch.__version__} on this machine has no {name.partition(':')[0]}"
        raise DeviceError(f"--device {name} cannot be used here: {reason}. `progan doctor` shows what can") from None
    if device.type == "cuda":
        torch.cuda.set_device(device)
    set_switches(tf32=False)
    return device


def set_switches(tf32: bool) -> None:
    """Set PyTorch's switches for CUDA, which hold for the whole process, so that equal steps give equal bits.

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


@contextmanager
def plain_modes() -> Iterator[None]:
    """PyTorch's modes as a program finds them at its start, whatever it has set since, which is there again at the end.

    Numbers are float32 and on the CPU by default, gradients are recorded, and nothing is cast by itself.
    """
    with ExitStack() as modes:
        if (dtype := torch.get_default_dtype()) != torch.float32:
            torch.set_default_dtype(torch.float32)
            modes.callback(torch.set_default_dtype, dtype)
        if torch.get_default_device().type != "cpu":
            modes.enter_context(torch.device("cpu"))
        for device in ("cpu", "cuda"):
            if torch.is_autocast_enabled(device):
                modes.enter_context(torch.autocast(device, enabled=False))
        modes.enter_context(torch.inference_mode(False))
        modes.enter_context(torch.enable_grad())
        yield


def keep_pages(kept: bool) -> None:
    """Keep the memory of large tensors for the next ones, since to get its pages anew takes long; or give it back.

    By default glibc gives every block of more than 32 MB back at once, and keeps 64 MB. Elsewhere nothing is changed.
    """
    if (libc := _glibc()) is not None:
        if not (kept and libc.mallopt(_MMAP_THRESHOLD, 2**30)):  # which an older glibc may refuse
            libc.mallopt(_MMAP_THRESHOLD, 2**25)
        libc.mallopt(_TRIM_THRESHOLD, 2**31 - 1 if kept else 2**26)
        if not kept:
            libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    return libc if hasattr(libc, "malloc_trim") else None


def has_tf32(device: torch.device) -> bool:
    """True if the device has units that multiply fp32 numbers rounded to 19 bits."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)


def sixteen_bits(device: torch.device) -> Literal["bf16", "fp16"] | None:
    """Precision of 16 bits that the device has matrix units for; None if it has none."""
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


def send(tensor: Tensor, device: torch.device | str) -> Tensor:
    """Copy of a CPU tensor on the device, without waiting for what a CUDA GPU still has to do.

    A copy from memory that is not pinned, or of a tensor with gaps, would begin only when all that work is done.
    """
    if torch.device(device).type == "cuda":
        return tensor.contiguous().pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def free_on_gpu(device: torch.device) -> int:
    """Bytes of a CUDA GPU that this process can still use, PyTorch's cache included; 0 for other devices."""
    if device.type != "cuda":
        return 0
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + kept


def release(device: torch.device) -> None:
    """Free what is no longer used and reset the peak of memory use."""
    gc.collect()
    if (libc := _glibc()) is not None:
        libc.malloc_trim(0)
    if device.type == "cuda" and torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def free_bytes(device: torch.device, root: Path = Path("/")) -> int | None:
    """Bytes of memory that are free on a device; None where they are not known.

    On a CPU the least that the machine and the control groups (containers, batch systems) leave to this process.
    `root` is the folder that holds /proc and /sys.
    """
    if device.type == "cuda":
        return free_on_gpu(device)
    if device.type != "cpu":
        return None
    limits = [_machine(root), *_control_groups(root)]
    return min((limit for limit in limits if limit is not None), default=None)


def _machine(root: Path) -> int | None:
    try:
        match = re.search(r"^MemAvailable:\s+(\d+) kB", (root / "proc/meminfo").read_text(), re.M)
    except OSError:  # not Linux: all there is, for want of what is free
        if sys.platform == "win32":
            return None
        names = ("SC_PHYS_PAGES", "SC_PAGE_SIZE")
        known = getattr(os, "sysconf_names", {})
        return os.sysconf(names[0]) * os.sysconf(names[1]) if all(name in known for name in names) else None
    return 1024 * int(match[1]) if match else None


def _control_groups(root: Path) -> list[int | None]:
    """Bytes left by this process's control groups, each with the groups around it."""
    files = {
        1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        2: ("memory.max", "memory.current", "inactive_file"),
    }
    return [_left(folder, *files[version]) for version, folder in _groups(root, "memory")]


def _groups(root: Path, controller: str) -> list[tuple[int, Path]]:
    """Versions and folders of this process's control groups that limit something, with the groups around them."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        _, kinds, path = line.split(":", 2)
        if kinds and controller not in kinds.split(","):
            continue
        top = root / "sys/fs/cgroup" / (controller if kinds else "")
        inside = top / path.lstrip("/")
        around = (folder for folder in (inside, *inside.parents) if folder.is_relative_to(top))
        found += [(1 if kinds else 2, folder) for folder in around]
    return found


def _left(folder: Path, limit: str, used: str, cache: str) -> int | None:
    """Bytes that a control group may still use; cached files count as free."""
    try:
        most, now = int((folder / limit).read_text()), int((folder / used).read_text())
        match = re.search(rf"^{cache} (\d+)$", (folder / "memory.stat").read_text(), re.M)
    except (OSError, ValueError):  # no such group here, or "max": no limit
        return None
    return max(0, most - now + (int(match[1]) if match else 0))


def cores(root: Path = Path("/")) -> int:
    """Number of cores that this process may use: those it is bound to, or fewer where a control group has a quota."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux
    found = len(affinity(0)) if affinity else os.cpu_count() or 1
    for version, folder in _groups(root, "cpu"):
        try:
            if version == 2:
                quota, period = (folder / "cpu.max").read_text().split()
            else:
                quota, period = ((folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
            if int(quota) > 0:
                found = min(found, math.ceil(int(quota) / int(period)))
        except (OSError, ValueError):  # no such group here, or "max": no quota
            continue
    return found


@contextmanager
def computing_with(threads: int) -> Iterator[None]:
    """Compute with so many threads inside, and afterwards with as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def is_out_of_memory(error: BaseException) -> bool:
    """True if an error says that there is not enough memory, on whatever device."""
    messages = (
        "out of memory",
        "can't allocate memory",
        "CUBLAS_STATUS_ALLOC_FAILED",
        "unable to find an engine",  # cuDNN, when no convolution's workspace fits
        "Unable to find a valid cuDNN algorithm",  # the same through its older interface
    )
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or (
        isinstance(error, RuntimeError) and any(message in str(error) for message in messages)
    )
