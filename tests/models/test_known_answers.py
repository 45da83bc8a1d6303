"""What networks and losses must answer, known without running them elsewhere (Karras et al. 2018)."""

import itertools
import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from progan import losses, models
from progan.config import LOSS_CONFIGS, LsganConfig, NonsaturatingConfig, ProGANConfig, WganGpConfig
from progan.images import downscale, upscale
from progan.losses.wgan_gp import gradient_norms, mix
from progan.models import Discriminator, Generator, ImageShape, conv_matmul, winograd
from progan.models.convolution import convolve
from progan.models.layers import (
    ConvDownscale2d,
    EqualizedConv2d,
    UpscaleConv2d,
    group_divisor,
    minibatch_stddev,
)
from progan.models.progan import fmaps
from progan.scores import Scores
from progan.training.step import critic

SMALL = {"z_dim": 8, "fmap_base": 64, "fmap_max": 8}
VARIANTS: list[dict[str, Any]] = [
    {},
    {"fused_scale": False},
    {"pixel_norm": "both", "mbstd_group": 0},
    {"pixel_norm": "none", "mbstd_group": 1, "use_wscale": False, "normalize_latents": False},
]
variants = pytest.mark.parametrize("variant", VARIANTS, ids=str)


def networks(resolution: int = 32, labels: int = 0, **options: Any) -> tuple[Generator, Discriminator]:
    """Small networks in float64 whose biases are not 0, so that a fault with them shows."""
    G, D = models.build(ProGANConfig(**{**SMALL, **options}), ImageShape(resolution, 3, labels), seed=1)
    for name, parameter in itertools.chain(G.named_parameters(), D.named_parameters()):
        if name.endswith("bias"):
            nn.init.normal_(parameter, std=0.3)
    return G.double(), D.double()


def normal(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


# Minibatch standard deviation


def test_minibatch_stddev_of_0_and_2_is_1() -> None:
    x = torch.tensor([0.0, 2.0]).view(2, 1, 1, 1).expand(2, 3, 4, 4)
    out = minibatch_stddev(x, 4)
    assert torch.equal(out[:, :3], x)
    assert torch.allclose(out[:, 3], torch.ones(()))


def test_sample_n_belongs_to_group_n_mod_the_number_of_groups() -> None:
    x = torch.tensor([0.0, 0.0, 2.0, 6.0]).view(4, 1, 1, 1)  # groups {0, 2} and {0, 6}
    assert minibatch_stddev(x, 2)[:, 1].flatten().tolist() == pytest.approx([1, 3, 1, 3])


@pytest.mark.parametrize(
    ("group_size", "sizes"), [(4, [1, 3, 3, 2, 3]), (16, [1, 3, 6, 14, 15]), (0, [1, 3, 6, 14, 30]), (1, [1] * 5)]
)
def test_group_sizes_divide_the_batch(group_size: int, sizes: list[int]) -> None:
    """The authors' code fails where its group size does not divide the batch."""
    batches = (1, 3, 6, 14, 30)
    assert [group_divisor(n, group_size) for n in batches] == sizes
    for n in batches:
        assert minibatch_stddev(torch.randn(n, 2, 4, 4), group_size).shape == (n, 3, 4, 4)


def test_the_statistic_of_one_image_is_0_and_has_a_gradient() -> None:
    x = torch.randn(1, 2, 4, 4, requires_grad=True)
    out = minibatch_stddev(x, 4)
    out.sum().backward()
    assert out[:, 2].abs().max() < 1.1e-4, "the root of epsilon"
    assert x.grad is not None
    assert x.grad.isfinite().all()


# Growing


@variants
@pytest.mark.parametrize("resolution", [4, 8, 16])
def test_growing_changes_nothing_at_alpha_0(variant: dict[str, Any], resolution: int) -> None:
    G, D = networks(labels=2, **variant)
    z, labels = normal(4, 8), torch.eye(2, dtype=torch.float64)[[0, 1, 1, 0]]
    images = G(z, labels, resolution)
    assert torch.allclose(G(z, labels, 2 * resolution, alpha=0.0), upscale(images), atol=1e-12)
    large = normal(4, 3, 2 * resolution, 2 * resolution)
    for ours, expected in zip(D(large, alpha=0.0), D(downscale(large)), strict=True):
        assert torch.allclose(ours, expected, atol=1e-12)


@variants
def test_at_alpha_1_only_the_newest_layers_speak_rgb(variant: dict[str, Any]) -> None:
    G, D = networks(**variant)
    z, images = normal(4, 8), normal(4, 3, 16, 16)
    before = G(z, None, 16), D(images).value
    with torch.no_grad():
        for older in ("4", "8", "32"):
            G.to_rgb[older].weight.zero_()
            D.from_rgb[older].weight.zero_()
    assert torch.equal(G(z, None, 16), before[0])
    assert torch.equal(D(images).value, before[1])


def test_alpha_mixes_linearly_in_g() -> None:
    G, _ = networks()
    z = normal(2, 8)
    old, new = G(z, None, 16, 0.0), G(z, None, 16, 1.0)
    for alpha in (0.25, torch.tensor(0.25, dtype=torch.float64)):
        assert torch.allclose(G(z, None, 16, alpha), 0.75 * old + 0.25 * new, atol=1e-12)


def test_alpha_mixes_features_in_d() -> None:
    """Half way, D of a batch whose two paths agree is what both say."""
    _, D = networks()
    images = normal(4, 3, 8, 8)
    new = D._down(D._from_rgb(images, 8), 8)
    old = D._from_rgb(downscale(images), 4)
    seen = []
    D.conv.register_forward_pre_hook(lambda module, args: seen.append(args[0][:, :-1]))  # without the statistic
    D(images, 0.25)
    assert torch.allclose(seen[0], 0.75 * old + 0.25 * new, atol=1e-12)


# Weights


def test_he_constants_of_the_paper_networks() -> None:
    with torch.device("meta"):
        G, D = models.build(ProGANConfig(), ImageShape(1024, 3), seed=0)
    root2 = math.sqrt(2)
    expected = {
        G.dense: root2 / 4 / math.sqrt(512),
        G.conv: root2 / math.sqrt(9 * 512),
        G.blocks["8"][0]: root2 / math.sqrt(9 * 512),
        G.blocks["1024"][0]: root2 / math.sqrt(9 * 32),
        G.blocks["1024"][1]: root2 / math.sqrt(9 * 16),
        G.to_rgb["4"]: 1 / math.sqrt(512),
        G.to_rgb["1024"]: 1 / math.sqrt(16),
        D.from_rgb["1024"]: root2 / math.sqrt(3),
        D.blocks["1024"][0]: root2 / math.sqrt(9 * 16),
        D.blocks["1024"][1]: root2 / math.sqrt(9 * 16),
        D.conv: root2 / math.sqrt(9 * 513),
        D.dense0: root2 / math.sqrt(512 * 16),
        D.dense1: 1 / math.sqrt(512),
    }
    for layer, scale in expected.items():
        assert layer.scale == pytest.approx(scale), layer
    assert [fmaps(ProGANConfig(), 2**k) for k in range(2, 11)] == [512, 512, 512, 512, 256, 128, 64, 32, 16]
    for network in (G, D):
        used = [p.numel() for name, p in network.named_parameters() if "rgb" not in name or ".1024." in name]
        assert sum(used) / 1e6 == pytest.approx(23.1, abs=0.05), "table 2"


def test_weights_begin_as_n01_and_biases_as_0() -> None:
    G, D = models.build(ProGANConfig(z_dim=64, fmap_base=512, fmap_max=64), ImageShape(16, 3), seed=3)
    for name, parameter in itertools.chain(G.named_parameters(), D.named_parameters()):
        if name.endswith("bias"):
            assert not parameter.any()
        elif parameter.numel() > 10000:
            assert float(parameter.detach().std()) == pytest.approx(1, abs=0.02)
            assert abs(float(parameter.detach().mean())) < 0.02


def test_without_equalised_learning_rate_the_first_images_and_scores_are_the_same() -> None:
    """The constant only moves from run time into the initial weight."""
    pairs = [
        models.build(ProGANConfig(**SMALL, use_wscale=use_wscale), ImageShape(16, 3), seed=5) for use_wscale in (0, 1)
    ]
    z, images = torch.randn(4, 8), torch.randn(4, 3, 16, 16)
    assert torch.allclose(pairs[0][0](z), pairs[1][0](z), atol=1e-5)
    assert torch.allclose(pairs[0][1](images).value, pairs[1][1](images).value, atol=1e-5)


def test_activations_keep_their_size() -> None:
    """What He's constant is for: unit variance in, about unit variance out of every convolution."""
    x = torch.randn(16, 64, 16, 16)
    for layer in (EqualizedConv2d(64, 64), UpscaleConv2d(64, 64, fused=True)):
        out = layer(x)
        assert float(F.leaky_relu(out, 0.2).square().mean().detach()) == pytest.approx(1, abs=0.1)


def test_networks_follow_from_the_seed_alone() -> None:
    def build(seed: int) -> list[Tensor]:
        return [p for net in models.build(ProGANConfig(**SMALL), ImageShape(8, 3), seed) for p in net.parameters()]

    state = torch.random.get_rng_state()
    first, _, again, other = build(1), torch.randn(3), build(1), build(2)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(first, other, strict=True) if a.ndim > 1)
    torch.random.set_rng_state(state)
    build(1)
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("resolution", [4, 8, 64])
def test_networks_of_any_power_of_two_and_any_channels(resolution: int, channels: int) -> None:
    G, D = models.build(ProGANConfig(**SMALL), ImageShape(resolution, channels, 5), seed=0)
    images = G(torch.randn(3, 8), torch.eye(5)[:3])
    assert images.shape == (3, channels, resolution, resolution)
    scores = D(images)
    assert scores.value.shape == (3,)
    assert scores.logits is not None
    assert scores.logits.shape == (3, 5)


# Convolutions with derivatives of derivatives

CONVOLUTIONS = [
    {"kernel": 3, "stride": 1, "padding": 1, "transposed": False},
    {"kernel": 1, "stride": 1, "padding": 0, "transposed": False},
    {"kernel": 4, "stride": 2, "padding": 1, "transposed": False},
    {"kernel": 4, "stride": 2, "padding": 1, "transposed": True},
    {"kernel": 4, "stride": 1, "padding": 0, "transposed": False},
    {"kernel": 4, "stride": 1, "padding": 0, "transposed": True},
]
CONTIGUOUS, CHANNELS_LAST = torch.contiguous_format, torch.channels_last


@pytest.mark.parametrize(
    "layouts", [(CONTIGUOUS, CONTIGUOUS), (CHANNELS_LAST, CHANNELS_LAST), (CHANNELS_LAST, CONTIGUOUS)], ids=str
)
@pytest.mark.parametrize("how", CONVOLUTIONS, ids=lambda how: "-".join(map(str, how.values())))
@pytest.mark.parametrize("size", [(4, 4), (5, 6)], ids=str)
@pytest.mark.parametrize("matrices", [False, True])
@pytest.mark.parametrize("fast", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_first_and_second_derivatives_of_convolve(
    how: dict[str, Any],
    layouts: tuple[torch.memory_format, torch.memory_format],
    size: tuple[int, int],
    matrices: bool,
    fast: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also with every convolution as a product of matrices, and where a stride does not reach the last row.

    Fast: along one random direction, else along every axis.
    """
    if matrices:
        monkeypatch.setattr(conv_matmul, "quicker", lambda *arguments: True)
        monkeypatch.setattr(conv_matmul, "weight_gradient_is_quicker", lambda *arguments: True)
    how = dict(how)
    kernel, transposed = how.pop("kernel"), how["transposed"]
    x = normal(2, 3, *size).to(memory_format=layouts[0]).requires_grad_(True)
    shape = (3, 2, kernel, kernel) if transposed else (2, 3, kernel, kernel)
    weight = normal(*shape).to(memory_format=layouts[1]).requires_grad_(True)
    bias = normal(2).requires_grad_(True)
    official = F.conv_transpose2d if transposed else F.conv2d
    expected = official(x, weight, bias, stride=how["stride"], padding=how["padding"])
    assert torch.allclose(convolve(x, weight, bias, **how), expected, atol=1e-12)
    inputs = (x, weight, bias)
    assert torch.autograd.gradcheck(lambda *args: convolve(*args, **how), inputs, fast_mode=fast)
    assert torch.autograd.gradgradcheck(lambda *args: convolve(*args, **how), inputs, fast_mode=fast)


@pytest.mark.parametrize("how", CONVOLUTIONS, ids=lambda how: "-".join(map(str, how.values())))
def test_products_of_matrices_in_bf16_are_near_convolutions_in_float64(
    how: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Output and both gradients, rounded once or twice each, in the layout of what went in."""
    how = dict(how)
    kernel = how.pop("kernel")
    x, weight, bias = normal(3, 256, 4, 4), normal(256, 256, kernel, kernel), normal(256)
    monkeypatch.setattr(conv_matmul, "quicker", lambda *arguments: True)
    taken: list[str] = []
    for name in ("convolve", "weight_gradient"):
        original = getattr(conv_matmul, name)
        monkeypatch.setattr(
            conv_matmul, name, lambda *args, original=original, name=name: (taken.append(name), original(*args))[1]
        )
    official = F.conv_transpose2d if how["transposed"] else F.conv2d
    results = []
    for function, dtype in ((official, torch.float64), (convolve, torch.bfloat16)):
        inputs = [t.bfloat16().to(dtype).contiguous(memory_format=CHANNELS_LAST) for t in (x, weight)]
        inputs = [t.detach().requires_grad_(True) for t in inputs]
        options = how if function is convolve else {"stride": how["stride"], "padding": how["padding"]}
        y = function(*inputs, bias.bfloat16().to(dtype), **options)
        gradient = torch.ones_like(y) + torch.arange(len(y[0]), dtype=dtype).view(-1, 1, 1) % 3
        results.append([y.detach(), *torch.autograd.grad(y, inputs, gradient)])
    for ours, exact in zip(results[1], results[0], strict=True):
        assert float((ours.double() - exact).norm() / exact.norm()) < 4e-3
        assert ours.is_contiguous(memory_format=CHANNELS_LAST)
    assert taken == ["convolve", "convolve", "weight_gradient"]


def test_where_convolutions_are_products_of_matrices() -> None:
    """In bf16 on a CPU, over few positions and many channels; gradients of weights also over more."""
    cases = {
        (torch.bfloat16, 16, 256, 4): (True, False, True, True),
        (torch.float32, 16, 256, 4): (False, False, False, False),
        (torch.float16, 16, 256, 4): (False, False, False, False),
        (torch.bfloat16, 16, 128, 4): (True, False, False, True),
        (torch.bfloat16, 16, 64, 4): (False, False, False, True),
        (torch.bfloat16, 8, 256, 8): (False, False, False, True),
        (torch.bfloat16, 16, 256, 8): (False, False, False, False),
        (torch.bfloat16, 16, 512, 8): (False, False, False, True),
        (torch.bfloat16, 4, 128, 16): (False, False, False, False),
    }
    for (dtype, batch, channels, side), expected in cases.items():
        x = torch.empty(batch, channels, side, side, dtype=dtype)
        narrow, wide = (torch.empty(channels, channels, kernel, kernel, dtype=dtype) for kernel in (3, 4))
        ways = (narrow, (1, 1, False)), (narrow, (1, 1, True)), (wide, (2, 1, True))
        found = [conv_matmul.quicker(x, weight, how) for weight, how in ways]
        assert (*found, conv_matmul.weight_gradient_is_quicker(x, narrow)) == expected, (dtype, batch, channels, side)
    elsewhere = torch.empty(16, 256, 4, 4, dtype=torch.bfloat16, device="meta")
    assert not conv_matmul.quicker(elsewhere, narrow, (1, 1, False))
    assert not conv_matmul.weight_gradient_is_quicker(elsewhere, narrow)
    for channels, dtype, fast, expected in (
        (128, torch.float32, True, True),
        (128, torch.float32, False, False),
        (64, torch.float32, True, False),
        (128, torch.float64, True, False),
    ):
        x, weight = torch.empty(2, channels, 8, 8, dtype=dtype), torch.empty(channels, 200, 4, 4, dtype=dtype)
        assert conv_matmul.weight_gradient_is_quicker(x, weight, fast) == expected


# Winograd's algorithm


@pytest.mark.parametrize("layout", [CONTIGUOUS, CHANNELS_LAST], ids=str)
@pytest.mark.parametrize("fast", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_first_and_second_derivatives_by_winograds_algorithm(
    layout: torch.memory_format, fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(winograd, "quicker", lambda *arguments: True)
    monkeypatch.setattr(winograd, "weight_gradient_is_quicker", lambda *arguments: True)
    monkeypatch.setattr(torch.ops.aten, "convolution", None)
    monkeypatch.setattr(torch.ops.aten, "convolution_backward", None)
    x = normal(2, 2, 4, 8).to(memory_format=layout).requires_grad_(True)
    weight, bias = normal(3, 2, 3, 3).to(memory_format=layout).requires_grad_(True), normal(3).requires_grad_(True)

    def ours(*inputs: Tensor) -> Tensor:
        return convolve(*inputs, padding=1, fast=True)

    y = ours(x, weight, bias)
    assert torch.allclose(y, F.conv2d(x, weight, bias, padding=1), atol=1e-12)
    assert y.is_contiguous(memory_format=CHANNELS_LAST)
    assert torch.autograd.gradcheck(ours, (x, weight, bias), fast_mode=fast)
    assert torch.autograd.gradgradcheck(ours, (x, weight, bias), fast_mode=fast)


def test_errors_of_winograds_algorithm_in_fp32() -> None:
    """Output and both gradients, relative to float64. PyTorch's own convolutions have errors of 2e-7 to 4e-7 here."""
    x, weight, bias = normal(2, 128, 16, 16), normal(160, 128, 3, 3), normal(160)
    found: dict[torch.dtype, list[Tensor]] = {}
    for dtype in (torch.float64, torch.float32):
        inputs = [t.to(dtype).contiguous(memory_format=CHANNELS_LAST).requires_grad_(True) for t in (x, weight)]
        y = convolve(*inputs, bias.to(dtype), padding=1, fast=True)
        gradient = torch.ones_like(y) + torch.arange(len(y[0]), dtype=dtype).view(-1, 1, 1) % 3
        found[dtype] = [y, *torch.autograd.grad(y, inputs, gradient)]
    errors = []
    for ours, exact in zip(found[torch.float32], found[torch.float64], strict=True):
        errors.append(float((ours.double() - exact).detach().norm() / exact.detach().norm()))
        assert ours.is_contiguous(memory_format=CHANNELS_LAST)
    assert 4e-7 < max(errors) < 4e-6


def test_where_convolutions_are_computed_by_winograds_algorithm() -> None:
    """In fp32, of 3x3 pixels and many maps, from 8x8 on."""
    cases = {
        (torch.float32, 128, 8): (True, True),
        (torch.float32, 127, 8): (False, False),
        (torch.float32, 64, 16): (False, True),
        (torch.float32, 63, 16): (False, False),
        (torch.float32, 512, 4): (False, False),
        (torch.float32, 512, 10): (False, False),
        (torch.bfloat16, 512, 16): (False, False),
        (torch.float64, 512, 16): (False, False),
    }
    same = (1, 1, False)
    for (dtype, maps, side), expected in cases.items():
        x, weight = torch.empty(1, maps, side, side, dtype=dtype), torch.empty(200, maps, 3, 3, dtype=dtype)
        found = winograd.quicker(x, weight, same), winograd.weight_gradient_is_quicker(x, weight, same)
        assert found == expected, (dtype, maps, side)
        for kernel, how in ((3, (2, 1, False)), (3, (1, 0, False)), (3, (1, 1, True)), (1, same), (4, same)):
            assert not winograd.quicker(x, torch.empty(200, maps, kernel, kernel), how)


@pytest.mark.parametrize("fused", [False, True])
def test_first_and_second_derivatives_of_weights_that_change_the_resolution(fused: bool) -> None:
    up, down = UpscaleConv2d(2, 2, fused).double(), ConvDownscale2d(2, 2, fused).double()
    x = normal(1, 2, 4, 4).requires_grad_(True)

    def image(x: Tensor, a: Tensor, b: Tensor) -> Tensor:
        wide = torch.func.functional_call(up, {"weight": a}, (x,))
        return torch.func.functional_call(down, {"weight": b}, (wide.square(),))

    inputs = (x, up.weight, down.weight)
    assert torch.autograd.gradcheck(image, inputs)
    assert torch.autograd.gradgradcheck(image, inputs)


@pytest.mark.parametrize("needs", [(True, False), (False, True)])
def test_convolve_gives_only_the_gradients_that_are_asked_for(needs: tuple[bool, bool]) -> None:
    x, weight = (normal(2, 3, 4, 4), normal(2, 3, 3, 3))
    x.requires_grad_(needs[0])
    weight.requires_grad_(needs[1])
    convolve(x, weight, torch.zeros(2, dtype=torch.float64), padding=1).square().sum().backward()
    assert ((x.grad is not None), (weight.grad is not None)) == needs


@pytest.mark.parametrize("fused", [True, False])
def test_channels_last_computes_the_same(fused: bool) -> None:
    """Images, scores and D's gradients with penalty."""
    results = []
    for layout in (CONTIGUOUS, CHANNELS_LAST):
        torch.manual_seed(7)
        G, D = (net.to(memory_format=layout) for net in networks(16, fused_scale=fused))  # type: ignore[call-overload]
        fakes = G(normal(4, 8), None, 16, 0.5)
        terms = losses.build(WganGpConfig()).d_terms(
            critic(D, 0.5, torch.float64), normal(4, 3, 16, 16), fakes.detach(), None, Uniform()
        )
        torch.stack(list(terms.values())).sum().backward()
        results.append([fakes, *terms.values(), *(p.grad for p in D.parameters() if p.grad is not None)])
    assert len(results[0]) > 15
    for a, b in zip(*results, strict=True):
        assert torch.allclose(a, b, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("batch", [4, 8, 16])
def test_gradients_in_bf16_are_near_those_in_float64(batch: int, fused: bool) -> None:
    """PyTorch's own double backward is wrong on some processors at batches of 4 and 8: gradients of noise."""
    G, D = networks(16, fmap_base=1024, fmap_max=64, fused_scale=fused)
    reals, z, loss = normal(batch, 3, 16, 16), normal(batch, 8), losses.build(WganGpConfig())
    found: dict[torch.dtype, dict[str, Tensor]] = {}
    for dtype in (torch.float64, torch.bfloat16):
        held = torch.float64 if dtype == torch.float64 else torch.float32
        nets = [net.to(held).to(memory_format=torch.channels_last) for net in (G, D)]  # type: ignore[call-overload]
        score = critic(nets[1], 1.0, dtype)
        fakes = nets[0](z.to(dtype))
        (g_term,) = loss.g_terms(score, None, fakes, None, None).values()
        g = dict(zip(dict(G.named_parameters()), gradients(g_term, G), strict=True))
        terms = loss.d_terms(score, reals.to(held), fakes.detach().to(held), None, Uniform())
        d = dict(zip(dict(D.named_parameters()), gradients(torch.stack(list(terms.values())).sum(), D), strict=True))
        found[dtype] = {**g, **{f"D.{name}": value for name, value in d.items()}}
    for name, exact in found[torch.float64].items():
        if exact.any():
            wrong = float((found[torch.bfloat16][name].double() - exact).norm() / exact.norm())
            assert wrong < 0.25, f"{name}: {wrong}"


def gradients(loss: Tensor, network: nn.Module) -> tuple[Tensor, ...]:
    return torch.autograd.grad(loss, list(network.parameters()), allow_unused=True, materialize_grads=True)


# Losses


class Uniform:
    """Mixing factors from 0 to 1."""

    def uniform(self, n: int) -> Tensor:
        return torch.linspace(0, 1, n)


def linear(images: Tensor) -> Scores:
    """A critic whose gradient has length 3 everywhere."""
    slope = torch.zeros_like(images[:1])
    slope[:, 0, 0, :2] = torch.tensor([3.0, 0.0])
    slope[:, 0, 1, 0] = 0.0
    return Scores((images * slope).sum((1, 2, 3)))


REALS, FAKES = torch.full((4, 1, 4, 4), 2.0), torch.full((4, 1, 4, 4), -1.0)  # scores 6 and -3


def terms_of(config: Any) -> tuple[dict[str, float], dict[str, float]]:
    loss = losses.build(config)
    d = loss.d_terms(linear, REALS, FAKES, None, Uniform())
    g = loss.g_terms(linear, None, FAKES, None, None)
    return {k: round(float(v), 4) for k, v in d.items()}, {k: round(float(v), 4) for k, v in g.items()}


def test_wgan_gp_of_a_linear_critic() -> None:
    d, g = terms_of(WganGpConfig())
    assert d == {"real": -6, "fake": -3, "drift": 0.036, "penalty": 40}
    assert g == {"fake": 3}
    d, _ = terms_of(WganGpConfig(gp_weight=8, gp_target=2, drift_weight=0.1))
    assert (d["drift"], d["penalty"]) == (3.6, 2)
    assert "penalty" not in terms_of(WganGpConfig(gp_weight=0))[0]


def test_lsgan_of_a_linear_critic() -> None:
    assert terms_of(LsganConfig()) == ({"real": 12.5, "fake": 4.5}, {"fake": 8})


def test_nonsaturating_of_a_linear_critic() -> None:
    d, g = terms_of(NonsaturatingConfig())
    assert d == {"real": round(math.log1p(math.exp(-6)), 4), "fake": round(math.log1p(math.exp(-3)), 4)}
    assert g == {"fake": round(math.log1p(math.exp(3)), 4)}
    assert terms_of(NonsaturatingConfig(r1_weight=10))[0]["penalty"] == 45, "10/2 · 3²"


def test_mixed_images_lie_between_reals_and_fakes() -> None:
    assert mix(REALS, FAKES, torch.tensor([0, 0.5, 0.75, 1]))[:, 0, 0, 0].tolist() == [2, 0.5, -0.25, -1]


def test_label_loss_is_the_cross_entropy() -> None:
    labels = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    even = Scores(torch.zeros(2), torch.zeros(2, 3))
    sure = Scores(torch.zeros(2), 100 * labels - 50)
    assert losses.label_loss(even, labels, "class") == pytest.approx(math.log(3))
    assert losses.label_loss(even, labels, "attributes") == pytest.approx(3 * math.log(2))
    for kind in ("class", "attributes"):
        assert losses.label_loss(sure, labels, kind) == pytest.approx(0)
        wrong = Scores(torch.zeros(2), 50 - 100 * labels)
        assert losses.label_loss(wrong, labels, kind) > 50


@pytest.mark.parametrize("name", sorted(LOSS_CONFIGS))
def test_labels_cost_d_for_reals_and_fakes_and_g_for_fakes(name: str) -> None:
    labels = torch.eye(2)[[0, 1, 0, 1]]
    loss = losses.build(LOSS_CONFIGS[name](label_weight=3.0))

    def score(images: Tensor) -> Scores:
        return Scores(images.sum((1, 2, 3)), torch.zeros(len(images), 2))

    assert loss.d_terms(score, REALS, FAKES, labels, Uniform())["labels"] == pytest.approx(6 * math.log(2))
    assert loss.g_terms(score, REALS, FAKES, labels, None)["labels"] == pytest.approx(3 * math.log(2))


# The gradient penalty


@variants
@pytest.mark.parametrize("alpha", [0.5, 1.0])
@pytest.mark.parametrize("config", [WganGpConfig(), NonsaturatingConfig(r1_weight=1)], ids=lambda config: config.kind)
def test_the_penalty_trains_d(config: Any, alpha: float, variant: dict[str, Any]) -> None:
    """Its gradient by D's weights is not 0, and is what a small step along it shows."""
    _, D = networks(16, **variant)
    reals, fakes = normal(4, 3, 16, 16), normal(4, 3, 16, 16)

    def penalty() -> Tensor:
        score = critic(D, alpha, torch.float64)
        return losses.build(config).d_terms(score, reals, fakes, None, Uniform())["penalty"]

    parameters = [p for name, p in D.named_parameters() if name.endswith("weight")]
    found = torch.autograd.grad(penalty(), parameters, allow_unused=True, materialize_grads=True)
    assert all(g.any() for g, p in zip(found, parameters, strict=True) if p is D.conv.weight or p is D.dense0.weight)
    step = [1e-6 * torch.randn_like(p) for p in parameters]
    values = []
    for sign in (1, -2):
        with torch.no_grad():
            for parameter, change in zip(parameters, step, strict=True):
                parameter += sign * change
        values.append(float(penalty().detach()))
    expected = 2 * sum(float((g * change).sum()) for g, change in zip(found, step, strict=True))
    assert values[0] - values[1] == pytest.approx(expected, rel=1e-4)


def test_the_penalty_does_not_jump_when_the_resolution_doubles() -> None:
    """The norm is taken as by the authors, whose D always sees the final resolution."""
    _, D = networks(32)
    images = normal(4, 3, 16, 16)
    before = critic(D, 1.0, torch.float64, slope=8 / 32)
    after = critic(D, 0.0, torch.float64, slope=16 / 32)
    assert torch.allclose(before(downscale(images)).value, after(images).value)
    assert torch.allclose(gradient_norms(before, downscale(images)), gradient_norms(after, images))

    def official(full: Tensor) -> Scores:
        return D(downscale(full, 4), 1.0)

    assert torch.allclose(gradient_norms(official, upscale(images, 2)), gradient_norms(before, downscale(images)))


def test_the_fused_layers_are_what_they_replace() -> None:
    """G's up-convolution is one function; D's down-convolution takes the mean before its bias and activation."""
    x = normal(2, 4, 8, 8)
    for ours in (UpscaleConv2d(4, 3, fused=True), ConvDownscale2d(4, 3, fused=True)):
        ours.double()
        nn.init.normal_(ours.bias)
        plain = EqualizedConv2d(4, 3).double()
        plain.load_state_dict(ours.state_dict())
        if isinstance(ours, UpscaleConv2d):
            assert torch.allclose(ours(x), plain(upscale(x)), atol=1e-12)
        else:
            assert torch.allclose(ours(x), F.leaky_relu(downscale(plain(x)), 0.2), atol=1e-12)
