"""Networks of two ports, pytorch_GAN_zoo and pro_gan_pytorch: checkpoints of any configuration, and what they compute.

Written out from the description of their layers, on their own names of tensors and with nothing of progan.
"""

import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

State = dict[str, Tensor]


def norm(x: Tensor) -> Tensor:
    return x / (x.square().mean(1, keepdim=True) + 1e-8).sqrt()


def twice(x: Tensor) -> Tensor:
    return x.repeat_interleave(2, 2).repeat_interleave(2, 3)


def half(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, 2)


# pytorch_GAN_zoo


class BaseConfig:
    """Becomes `models.utils.config.BaseConfig` while it is saved."""


def zoo_settings(maps: list[int], **changes: Any) -> dict[str, Any]:
    """Attributes of a config; `maps` from 4x4 on."""
    settings = {
        "depthScale0": maps[0],
        "depthOtherScales": maps[1:],
        "initBiasToZero": True,
        "leakyReluLeak": 0.2,
        "perChannelNormalization": True,
        "alpha": 0.0,
        "miniBatchStdDev": True,
        "equalizedlR": True,
        "noiseVectorDim": 8,
        "dimOutput": 3,
        "learningRate": 0.001,
        "attribKeysOrder": None,
        "categoryVectorDim": 0,
        "weightConditionG": 0.0,
        "weightConditionD": 0.0,
        "lossCriterion": "WGANGP",
        "lambdaGP": 10.0,
        "epsilonD": 0.001,
        **changes,
    }
    return {"latentVectorDim": settings["noiseVectorDim"] + settings["categoryVectorDim"], **settings}


def zoo_networks(settings: dict[str, Any], seed: int = 0) -> tuple[State, State]:
    """Random weights and biases of G and D."""
    random = torch.Generator().manual_seed(seed)
    maps, colours = [settings["depthScale0"], *settings["depthOtherScales"]], settings["dimOutput"]
    scale = 1.0 if settings["equalizedlR"] else 0.2

    def layer(state: State, name: str, *shape: int) -> None:
        state[f"{name}.module.weight"] = torch.randn(shape, generator=random) * scale
        state[f"{name}.module.bias"] = torch.randn(shape[0], generator=random) * scale

    G: State = {}
    D: State = {}
    for i, (below, n) in enumerate(pairwise(maps)):
        layer(G, f"scaleLayers.{i}.0", n, below, 3, 3)
        layer(G, f"scaleLayers.{i}.1", n, n, 3, 3)
        layer(D, f"scaleLayers.{i}.0", n, n, 3, 3)
        layer(D, f"scaleLayers.{i}.1", below, n, 3, 3)
    for i, n in enumerate(maps):
        layer(G, f"toRGBLayers.{i}", colours, n, 1, 1)
        layer(D, f"fromRGBLayers.{i}", n, colours, 1, 1)
    layer(G, "formatLayer", maps[0] * 16, settings["latentVectorDim"])
    layer(G, "groupScale0.0", maps[0], maps[0], 3, 3)
    layer(D, "decisionLayer", 1 + settings["categoryVectorDim"], maps[0])
    layer(D, "groupScaleZero.0", maps[0], maps[0] + settings["miniBatchStdDev"], 3, 3)
    layer(D, "groupScaleZero.1", maps[0], maps[0] * 16)
    return G, D


def _zoo_layer(settings: dict[str, Any], state: State, x: Tensor, name: str) -> Tensor:
    """(W·x + b)·√(2/fan_in): the bias is scaled too."""
    weight, bias = (state[f"{name}.module.{kind}"].double() for kind in ("weight", "bias"))
    out = F.linear(x, weight, bias) if weight.ndim == 2 else F.conv2d(x, weight, bias, padding=weight.shape[2] // 2)
    return out * (2 / weight[0].numel()) ** 0.5 if settings["equalizedlR"] else out


def zoo_images(settings: dict[str, Any], G: State, latents: Tensor) -> Tensor:
    """Images of latents [N, Z], with the class one-hot behind them where there are classes."""

    def activated(x: Tensor, name: str) -> Tensor:
        x = F.leaky_relu(_zoo_layer(settings, G, x, name), settings["leakyReluLeak"])
        x = x.view(len(x), -1, 4, 4) if x.ndim == 2 else x
        return norm(x) if settings["perChannelNormalization"] else x

    last, alpha = len(settings["depthOtherScales"]), settings["alpha"]
    x = latents.double()
    x = activated(norm(x) if settings["perChannelNormalization"] else x, "formatLayer")
    x = activated(x, "groupScale0.0")
    before = x
    for i in range(last):
        before, x = x, twice(x)
        x = activated(activated(x, f"scaleLayers.{i}.0"), f"scaleLayers.{i}.1")
    images = _zoo_layer(settings, G, x, f"toRGBLayers.{last}")
    if alpha > 0 and last:
        images = alpha * twice(_zoo_layer(settings, G, before, f"toRGBLayers.{last - 1}")) + (1 - alpha) * images
    return torch.tanh(images) if settings["lossCriterion"] in ("MSE", "DCGAN") else images


def zoo_scores(settings: dict[str, Any], D: State, images: Tensor) -> Tensor:
    """Class logits and the score [N, classes + 1]."""

    def activated(x: Tensor, name: str) -> Tensor:
        return F.leaky_relu(_zoo_layer(settings, D, x, name), settings["leakyReluLeak"])

    last, alpha = len(settings["depthOtherScales"]), settings["alpha"]
    images = images.double()
    x = activated(images, f"fromRGBLayers.{last}")
    for i in reversed(range(last)):
        x = half(activated(activated(x, f"scaleLayers.{i}.0"), f"scaleLayers.{i}.1"))
        if alpha > 0 and i == last - 1 and last > 1:
            x = alpha * activated(half(images), f"fromRGBLayers.{last - 1}") + (1 - alpha) * x
    if settings["miniBatchStdDev"]:
        n, c, h, w = x.shape
        size = n if n < 4 or n % 4 else 4
        deviation = (x.view(-1, size, c, h, w).var(1, unbiased=True) + 1e-8).sqrt().mean((1, 2, 3))
        x = torch.cat([x, deviation.repeat_interleave(size).view(n, 1, 1, 1).expand(n, 1, h, w)], 1)
    x = activated(x, "groupScaleZero.0").flatten(1)
    return _zoo_layer(settings, D, activated(x, "groupScaleZero.1"), "decisionLayer")


@contextmanager
def _as_theirs() -> Iterator[None]:
    names = ["models", "models.utils", "models.utils.config"]
    before = BaseConfig.__module__
    sys.modules |= {name: types.ModuleType(name) for name in names}
    sys.modules[names[-1]].BaseConfig = BaseConfig
    BaseConfig.__module__ = names[-1]
    try:
        yield
    finally:
        BaseConfig.__module__ = before
        for name in names:
            del sys.modules[name]


def save_zoo(path: Path, settings: dict[str, Any], zipped: bool = True, **networks: State | None) -> None:
    """A checkpoint with the networks that are given: netG, netD, avgG."""
    config = BaseConfig()
    vars(config).update(settings)
    with _as_theirs():
        torch.save({"config": config, **networks}, path, _use_new_zipfile_serialization=zipped)


# pro_gan_pytorch


def aka_networks(maps: list[int], z_dim: int, colours: int = 3, eql: bool = True, seed: int = 0) -> tuple[State, State]:
    """Random weights and biases of G and D; `maps` from 4x4 on."""
    random, last = torch.Generator().manual_seed(seed), len(maps) - 1
    scale = 1.0 if eql else 0.2

    def layer(state: State, name: str, *shape: int, outputs: int | None = None) -> None:
        state[f"{name}.weight"] = torch.randn(shape, generator=random) * scale
        state[f"{name}.bias"] = torch.randn(outputs or shape[0], generator=random) * scale

    G: State = {}
    D: State = {}
    layer(G, "layers.0.conv_1", z_dim, maps[0], 4, 4, outputs=maps[0])
    layer(G, "layers.0.conv_2", maps[0], maps[0], 3, 3)
    layer(D, f"layers.{last}.conv_1", maps[0], maps[0] + 1, 3, 3)
    layer(D, f"layers.{last}.conv_2", z_dim, maps[0], 4, 4)
    layer(D, f"layers.{last}.conv_3", 1, z_dim, 1, 1)
    for i, (below, n) in enumerate(pairwise(maps), 1):
        layer(G, f"layers.{i}.conv_1", n, below, 3, 3)
        layer(G, f"layers.{i}.conv_2", n, n, 3, 3)
        layer(D, f"layers.{last - i}.conv_1", n, n, 3, 3)
        layer(D, f"layers.{last - i}.conv_2", below, n, 3, 3)
    for i, n in enumerate(maps):
        layer(G, f"rgb_converters.{i}", colours, n, 1, 1)
        layer(D, f"from_rgb.{last - i}.0", n, colours, 1, 1)
    return G, D


def _aka_layer(state: State, x: Tensor, name: str, eql: bool, padding: int = 0) -> Tensor:
    weight, bias = state[f"{name}.weight"].double(), state[f"{name}.bias"].double()
    weight = weight * (2 / weight[0].numel()) ** 0.5 if eql else weight
    return F.conv2d(x, weight, bias, padding=padding)


def aka_images(G: State, latents: Tensor, depth: int, alpha: float = 1.0, eql: bool = True) -> Tensor:
    """Images of 2^depth pixels."""

    def activated(x: Tensor, name: str) -> Tensor:
        return F.leaky_relu(_aka_layer(G, x, name, eql, padding=1), 0.2)

    weight, bias = G["layers.0.conv_1.weight"].double(), G["layers.0.conv_1.bias"].double()
    weight = weight * (2 / len(weight)) ** 0.5 if eql else weight
    x = F.conv_transpose2d(norm(latents.double()).view(*latents.shape, 1, 1), weight, bias)
    before = x = norm(activated(F.leaky_relu(x, 0.2), "layers.0.conv_2"))
    for i in range(1, depth - 1):
        before, x = x, twice(x)
        for name in ("conv_1", "conv_2"):
            x = norm(activated(x, f"layers.{i}.{name}"))
    images = _aka_layer(G, x, f"rgb_converters.{depth - 2}", eql)
    if depth > 2 and alpha < 1:
        old = twice(_aka_layer(G, before, f"rgb_converters.{depth - 3}", eql))
        images = alpha * images + (1 - alpha) * old
    return images


def aka_scores(D: State, images: Tensor, top: int, depth: int, alpha: float = 1.0, eql: bool = True) -> Tensor:
    """Scores [N] of images of 2^depth pixels by a D that is built for 2^top."""

    def activated(x: Tensor, name: str, padding: int = 1) -> Tensor:
        return F.leaky_relu(_aka_layer(D, x, name, eql, padding), 0.2)

    images = images.double()
    first, last = top - depth, top - 2
    x = activated(images, f"from_rgb.{first}.0", 0)
    for i in range(first, last):
        x = half(activated(activated(x, f"layers.{i}.conv_1"), f"layers.{i}.conv_2"))
        if i == first and alpha < 1:
            x = alpha * x + (1 - alpha) * activated(half(images), f"from_rgb.{first + 1}.0", 0)
    n, c, h, w = x.shape
    size = min(n, 4)
    groups = x.view(size, -1, c, h, w)
    deviation = ((groups - groups.mean(0)).square().mean(0) + 1e-8).sqrt().mean((1, 2, 3))
    x = torch.cat([x, deviation.repeat(size).view(n, 1, 1, 1).expand(n, 1, h, w)], 1)
    x = activated(activated(x, f"layers.{last}.conv_1"), f"layers.{last}.conv_2", 0)
    return _aka_layer(D, x, f"layers.{last}.conv_3", eql).flatten()


def save_aka(path: Path, z_dim: int, colours: int = 3, eql: bool = True, **networks: State | None) -> None:
    """A checkpoint with the networks that are given: generator, discriminator, shadow_generator."""
    given = {name: state for name, state in networks.items() if state is not None}
    depth = 1 + max(sum(name.endswith("conv_1.weight") for name in state) for state in given.values())
    conf = {"depth": depth, "num_channels": colours, "latent_size": z_dim, "use_eql": eql}
    ends = {"discriminator": {"num_classes": None}}
    torch.save({name: {"conf": conf | ends.get(name, {}), "state_dict": state} for name, state in given.items()}, path)
