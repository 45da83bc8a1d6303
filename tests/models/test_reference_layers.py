"""Single layers of the official code."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from progan.images import downscale, upscale
from progan.models.layers import (
    ConvDownscale2d,
    EqualizedConv2d,
    EqualizedLinear,
    UpscaleConv2d,
    leaky_relu,
    minibatch_stddev,
    pixel_norm,
)
from reference_networks import IMAGES, double, error, load

LAYERS = load("layers")


def with_weight(layer: Any, weight: Tensor) -> Any:
    layer = layer.double()
    layer.load_state_dict({"weight": weight, "bias": torch.zeros(len(layer.bias), dtype=torch.float64)})
    return layer


@pytest.mark.parametrize(
    ("name", "function"),
    [("leaky_relu", leaky_relu), ("pixel_norm", pixel_norm), ("upscale2d", upscale), ("downscale2d", downscale)],
)
def test_functions_of_the_4d_input(name: str, function: Any) -> None:
    assert error(function(double(LAYERS["x"])), LAYERS[f"{name}/out"]) < IMAGES


@pytest.mark.parametrize("name", ["pixel_norm_small", "pixel_norm_2d"])
def test_pixel_norm_of_small_values_and_of_latents(name: str) -> None:
    assert error(pixel_norm(double(LAYERS[f"{name}/in"])), LAYERS[f"{name}/out"]) < IMAGES


@pytest.mark.parametrize(
    "case", sorted(key.split("/")[0] for key in LAYERS if key.startswith("mbstd") and "/in" in key)
)
def test_minibatch_stddev(case: str) -> None:
    group_size = int(case.rsplit("_g", 1)[1])
    assert error(minibatch_stddev(double(LAYERS[f"{case}/in"]), group_size), LAYERS[f"{case}/out"]) < IMAGES


@pytest.mark.parametrize(
    ("name", "kernel", "gain"), [("conv2d_3x3_gain_sqrt2_wscale", 3, math.sqrt(2)), ("conv2d_1x1_gain1_wscale", 1, 1)]
)
def test_equalized_convolution(name: str, kernel: int, gain: float) -> None:
    weight = double(LAYERS[f"{name}/weight"]).permute(3, 2, 0, 1)
    layer = with_weight(EqualizedConv2d(6, len(weight), kernel, gain), weight)
    assert error(layer(double(LAYERS["x"])), LAYERS[f"{name}/out"]) < IMAGES


@pytest.mark.parametrize(
    ("name", "source", "gain"),
    [
        ("dense_gain_sqrt2_wscale", "x", math.sqrt(2)),
        ("dense_gain_sqrt2div4_wscale", "pixel_norm_2d/in", math.sqrt(2) / 4),
    ],
)
def test_equalized_dense(name: str, source: str, gain: float) -> None:
    weight = double(LAYERS[f"{name}/weight"]).t()
    layer = with_weight(EqualizedLinear(weight.shape[1], len(weight), gain), weight)
    assert error(layer(double(LAYERS[source]).flatten(1)), LAYERS[f"{name}/out"]) < IMAGES


@pytest.mark.parametrize("fused", [True, False])
def test_up_convolution_is_one_function_fused_or_not(fused: bool) -> None:
    weight = double(LAYERS["upscale2d_conv2d_wscale/weight"]).permute(2, 3, 0, 1).flip(2, 3)
    layer = with_weight(UpscaleConv2d(6, 5, fused), weight)
    assert error(layer(double(LAYERS["x"])), LAYERS["upscale2d_conv2d_wscale/out"]) < IMAGES


def test_fused_down_convolution_has_its_activation_after_the_mean() -> None:
    weight = double(LAYERS["conv2d_downscale2d_wscale/weight"]).permute(3, 2, 0, 1)
    x, out = double(LAYERS["x"]), LAYERS["conv2d_downscale2d_wscale/out"]  # before bias and activation
    assert error(downscale(with_weight(EqualizedConv2d(6, 5), weight)(x)), out) < IMAGES
    fused, unfused = (with_weight(ConvDownscale2d(6, 5, how), weight)(x) for how in (True, False))
    assert error(fused, leaky_relu(double(out)).numpy()) < IMAGES
    assert (unfused - fused).abs().max() > 0.1, "two different functions"
