"""The official networks' variables, configurations and levels of detail in our terms, for the reference tests.

The vectors of `tests/reference` were made by the authors' code in float32; we compute in float64.
"""

import functools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from progan.config import ProGANConfig
from progan.images import downscale, upscale
from progan.models.progan import Discriminator, Generator

FOLDER = Path(__file__).parent / "reference"
IMAGES, SCORES, GRADIENTS, STEP = 2e-5, 5e-6, 1e-3, 5e-5  # the tolerances of the reference; GRADIENTS of the maximum
Arrays = Mapping[str, np.ndarray]

SHAPES: dict[str, dict[str, Any]] = {
    "a_r32": {"resolution": 32, "channels": 3, "label_size": 0},
    "b_r16_lab": {"resolution": 16, "channels": 1, "label_size": 10},
    "train_steps": {"resolution": 16, "channels": 3, "label_size": 4},
}
CONFIGS = {
    "a_r32": ProGANConfig(z_dim=64, fmap_base=256, fmap_max=64),
    "b_r16_lab": ProGANConfig(z_dim=32, fmap_base=128, fmap_max=32),
    "train_steps": ProGANConfig(z_dim=16, fmap_base=64, fmap_max=16),
}


@functools.cache
def load(name: str) -> Arrays:
    """Every array of a reference file."""
    with np.load(FOLDER / f"{name}.npz") as arrays:
        return dict(arrays)


def double(x: np.ndarray) -> Tensor:
    return torch.from_numpy(np.asarray(x, dtype=np.float64))


def group(arrays: Arrays, prefix: str) -> dict[str, np.ndarray]:
    """The arrays below a prefix, by the rest of their names."""
    return {key.removeprefix(prefix): x for key, x in arrays.items() if key.startswith(prefix)}


def variables(arrays: Arrays, fused: bool) -> dict[str, np.ndarray]:
    """Those of the fused network, or of the unfused one: it renames two layers of a block and shares the rest."""
    named = group(arrays, "fused/var/")
    if fused:
        return named
    kept = {key: x for key, x in named.items() if "_up" not in key and "_down" not in key}
    return kept | group(arrays, "unfused/var/")


def parameters(official: Arrays, resolution: int, network: type[nn.Module]) -> dict[str, Tensor]:
    """Official variables, or gradients or moments of them, under our names and in our layout, float64.

    Dense [in, out] -> [out, in]; conv [kh, kw, in, out] -> [out, in, kh, kw]; `Conv0_up` [kh, kw, out, in] is flipped.
    """
    result = {}
    for name, x in official.items():
        layer, kind = name.rsplit("/", 1)
        value = double(x)
        if kind == "weight":
            if layer.endswith("Conv0_up"):
                value = value.permute(2, 3, 0, 1).flip(2, 3)
            else:
                value = value.t() if value.ndim == 2 else value.permute(3, 2, 0, 1)
        result[f"{_our_layer(layer, resolution, network)}.{kind}"] = value.contiguous()
    return result


def _our_layer(name: str, resolution: int, network: type[nn.Module]) -> str:
    if match := re.fullmatch(r"(To|From)RGB_lod(\d+)", name):
        return f"{match[1].lower()}_rgb.{resolution >> int(match[2])}"
    place, layer = name.split("/")
    size = int(place.split("x")[0])
    if size == 4:
        return layer.lower()
    return f"blocks.{size}.{layer[4]}"


def generator(name: str, official: Arrays, fused: bool = True) -> Generator:
    """Our G in float64 with the official variables."""
    return _network(Generator, name, official, fused)


def discriminator(name: str, official: Arrays, fused: bool = True) -> Discriminator:
    """Our D in float64 with the official variables."""
    return _network(Discriminator, name, official, fused)


def _network(network: type[Any], name: str, official: Arrays, fused: bool) -> Any:
    config = ProGANConfig(**{**vars(CONFIGS[name]), "fused_scale": fused})
    result = network(config, **SHAPES[name]).double()
    result.load_state_dict(parameters(official, SHAPES[name]["resolution"], network))
    return result


def stage_of(lod: float, final: int) -> tuple[int, float]:
    """(resolution, alpha) of the authors' level of detail."""
    lod = round(float(lod), 6)  # they are stored in float32
    return final >> int(lod), 1 - lod % 1


def synthesize(G: Generator, z: np.ndarray, labels: np.ndarray, lod: float) -> Tensor:
    """As the official G: always at its final resolution, by nearest neighbour."""
    resolution, alpha = stage_of(lod, G.resolution)
    images = G(double(z), double(labels) if G.label_size else None, resolution, alpha)
    return upscale(images, G.resolution // resolution)


def lod_critic(D: Discriminator, final: int, lod: float) -> Any:
    """As the official D: takes images of the final resolution and averages them down itself."""
    resolution, alpha = stage_of(lod, final)
    return lambda images: D(downscale(images, final // resolution), alpha)


def error(ours: Tensor, official: np.ndarray) -> float:
    """Largest absolute difference."""
    assert ours.numel() == official.size
    return float((ours.detach() - double(official).view_as(ours)).abs().max()) if official.size else 0.0


def relative_error(ours: Tensor, official: Tensor) -> float:
    """Largest difference, as a fraction of the official array's largest entry (0 where both are 0)."""
    worst = float((ours - official).abs().max())
    return worst / float(official.abs().max()) if worst else 0.0


class Draws:
    """Stands for `progan.randomness.Rng`, giving the numbers that were fed to the official code."""

    def __init__(
        self, latents: np.ndarray | None = None, mixing: np.ndarray | None = None, dtype: torch.dtype = torch.float64
    ) -> None:
        self._latents, self._mixing, self._dtype = latents, mixing, dtype

    def normal(self, n: int, size: int) -> Tensor:
        assert self._latents is not None
        assert self._latents.shape == (n, size)
        return double(self._latents).to(self._dtype)

    def uniform(self, n: int) -> Tensor:
        assert self._mixing is not None
        assert self._mixing.size == n
        return double(self._mixing).flatten().to(self._dtype)
