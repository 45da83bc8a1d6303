"""Tensors on their way to a device, and the room there."""

import gc

import torch
from torch import Tensor


def send(tensor: Tensor, device: torch.device | str) -> Tensor:
    """A tensor of the CPU, on the device. Waits for nothing that a CUDA GPU still has to do.

    From memory that is not pinned, or a tensor with gaps, a copy begins only when all work given to the GPU is done.
    """
    if torch.device(device).type == "cuda":
        return tensor.contiguous().pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def free_on_gpu(device: torch.device) -> int:
    """Bytes that this process may still take there, those that PyTorch keeps for it included; 0 of another device."""
    if device.type != "cuda":
        return 0
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + kept


def release(device: torch.device) -> None:
    """Give back what is no longer used, and begin to look for the peak anew."""
    gc.collect()
    if device.type == "cuda" and torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
