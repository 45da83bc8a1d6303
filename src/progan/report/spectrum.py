"""How much of each spatial frequency a set of images has: GANs betray themselves in the highest ones."""

import numpy as np
import torch
from torch import Tensor


def radial_spectrum(pixels: Tensor) -> tuple[list[float], list[float]]:
    """Pixels uint8 [N, C, R, R] -> frequencies in cycles per pixel (0 … 0.5) and log10 of the mean power at each.

    The power |FFT|² / R² of grey values in 0…1, less their mean over the image, averaged over images and over the
    rings of one frequency step, 1/R; the constant is left out.
    """
    grey = pixels.float().mean(1) / 255
    size = grey.shape[-1]
    power = torch.fft.fft2(grey - grey.mean((1, 2), keepdim=True)).abs().square().mean(0) / size**2
    steps = torch.fft.fftfreq(size) * size
    ring = torch.sqrt(steps[:, None] ** 2 + steps[None, :] ** 2).round().long().flatten()
    sums = torch.zeros(size).index_add_(0, ring, power.flatten())
    counts = torch.zeros(size).index_add_(0, ring, torch.ones_like(power.flatten()))
    rings = slice(1, size // 2 + 1)
    profile = torch.log10(sums[rings] / counts[rings] + 1e-12)
    return (np.arange(1, size // 2 + 1) / size).tolist(), profile.tolist()
