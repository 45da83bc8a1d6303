"""DCGAN: the tutorial's networks, batch statistics, dropout."""

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from progan import models
from progan.config import DcganConfig
from progan.models import Discriminator, Generator, ImageShape
from progan.models.layers import BatchNorm2d, dropout
from progan.presets import preset
from progan.randomness import Rng
from progan.training.step import average


def networks(resolution: int = 16, labels: int = 0, **options: Any) -> tuple[Generator, Discriminator]:
    """Small networks in float64 with weights so large that a mistake shows."""
    config = DcganConfig(**{"z_dim": 6, "width": 4, **options})
    G, D = (net.double() for net in models.build(config, ImageShape(resolution, 3, labels), seed=1))
    for parameter in itertools.chain(G.parameters(), D.parameters()):
        nn.init.normal_(parameter, std=0.3)
    return G, D


def normal(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def test_as_many_weights_as_the_tutorial() -> None:
    """By hand: 16·(100·512 + 512·256 + 256·128 + 128·64 + 64·3), D 16·(3·64 + … + 512·1), two a normed map."""
    for channels, g_count, d_count in ((3, 3_576_704, 2_765_568), (1, 3_574_656, 2_763_520), (4, 3_577_728, 2_766_592)):
        with torch.device("meta"):
            G, D = models.build(preset("dcgan64").model, ImageShape(64, channels), seed=0)
        assert [sum(p.numel() for p in net.parameters()) for net in (G, D)] == [g_count, d_count]


def test_weights_begin_as_in_the_tutorial() -> None:
    G, D = models.build(DcganConfig(), ImageShape(64, 3), seed=3)
    for name, parameter in itertools.chain(G.named_parameters(), D.named_parameters()):
        mean, std = float(parameter.detach().mean()), float(parameter.detach().std())
        if name.endswith("bias"):
            assert not parameter.any()
        else:
            error = 4 / parameter.numel() ** 0.5
            assert mean == pytest.approx(float("norms" in name), abs=0.02 * error)
            assert std == pytest.approx(0.02, rel=error)


def tutorial(G: Generator, D: Discriminator) -> tuple[nn.Module, nn.Module]:
    """The same networks of PyTorch's own layers, with the same weights."""
    g, d = G.state_dict(), D.state_dict()
    depth = len(G.norms)
    g_weights = [g["first.weight"], *(g[f"convs.{i}.weight"] for i in range(depth))]
    d_weights = [*(d[f"convs.{i}.weight"] for i in range(depth)), d["last.weight"]]
    g_layers: list[nn.Module] = []
    for i, weight in enumerate(g_weights):
        conv = nn.ConvTranspose2d(*weight.shape[:2], 4, 1 if i == 0 else 2, 0 if i == 0 else 1, bias=False).double()
        conv.weight.data = weight
        g_layers.append(conv)
        if i < depth:
            g_layers += [norm(g, i), nn.ReLU()]
    d_layers: list[nn.Module] = []
    for i, weight in enumerate(d_weights):
        stride, padding = (1, 0) if i == depth else (2, 1)
        conv = nn.Conv2d(weight.shape[1], weight.shape[0], 4, stride, padding, bias=False).double()
        conv.weight.data = weight
        d_layers += [conv] if i == 0 else [nn.LeakyReLU(0.2), conv]
        if 0 < i < depth:
            d_layers.append(norm(d, i - 1))
    return nn.Sequential(*g_layers, nn.Tanh()), nn.Sequential(*d_layers)


def norm(weights: dict[str, Tensor], i: int) -> nn.BatchNorm2d:
    layer = nn.BatchNorm2d(len(weights[f"norms.{i}.weight"])).double()
    layer.weight.data, layer.bias.data = weights[f"norms.{i}.weight"], weights[f"norms.{i}.bias"]
    return layer


@pytest.mark.parametrize("resolution", [8, 32])
def test_images_and_scores_are_the_tutorials(resolution: int) -> None:
    G, D = networks(resolution)
    theirs_g, theirs_d = tutorial(G, D)
    z, images = normal(5, 6), normal(5, 3, resolution, resolution)
    for _ in range(2):  # of batches, then of running means
        assert torch.allclose(G(z), theirs_g(z.view(5, 6, 1, 1)), atol=1e-12)
        assert torch.allclose(D(images).value, theirs_d(images).flatten(), atol=1e-12)
        for net in (G, D, theirs_g, theirs_d):
            net.eval()


def test_labels_reach_both_networks() -> None:
    G, D = networks(labels=3)
    z, labels = normal(2, 6), torch.eye(3, dtype=torch.float64)
    assert not torch.allclose(G(z, labels[[0, 0]]), G(z, labels[[0, 1]]))
    logits = D(normal(2, 3, 16, 16)).logits
    assert logits is not None
    assert logits.shape == (2, 3)


def test_in_evaluation_an_image_does_not_depend_on_its_batch() -> None:
    G, _ = networks()
    G(normal(64, 6))
    z = normal(8, 6)
    assert not torch.allclose(G(z)[:2], G(z[:2]), atol=1e-3)
    G.eval()
    assert torch.allclose(G(z)[:2], G(z[:2]), atol=1e-12)
    before = {name: value.clone() for name, value in G.state_dict().items()}
    G(z)
    assert all(torch.equal(before[name], value) for name, value in G.state_dict().items())


def test_the_average_takes_over_batch_statistics() -> None:
    G, _ = networks()
    ema, _ = networks()
    G(normal(64, 6))
    average(ema, G, 0.9)
    assert torch.equal(ema.norms[0].running_var, G.norms[0].running_var)
    assert not torch.equal(ema.norms[0].running_var, torch.ones_like(ema.norms[0].running_var))


def test_batch_norm_in_16_bits_has_statistics_of_32() -> None:
    x = (100 + torch.randn(64, 2, 8, 8)).bfloat16()  # the mean of such numbers is lost in 16 bits
    out = BatchNorm2d(2)(x)
    assert out.dtype == torch.bfloat16
    expected = (x.double() - x.double().mean((0, 2, 3), keepdim=True)) / x.double().std((0, 2, 3), keepdim=True)
    assert torch.allclose(out.double(), expected, atol=0.02)


def test_dropout_leaves_out_whole_maps_and_keeps_the_mean() -> None:
    x = torch.ones(200, 50, 2, 2)
    out = dropout(x, 0.25, Rng(0, 0, "D"))
    assert set(out.unique().tolist()) == {0.0, float(torch.tensor(1 / 0.75))}
    assert torch.equal(out, out[:, :, :1, :1].expand_as(out))
    assert float((out == 0).float().mean()) == pytest.approx(0.25, abs=0.02)
    assert dropout(x, 0.25, None) is x


def test_dropout_happens_in_training_only_and_follows_from_seed_and_progress() -> None:
    _, D = networks(dropout=0.5)
    images = normal(8, 3, 16, 16)
    plain, first, again, other = (
        D(images, 1.0, noise).value for noise in (None, Rng(0, 64, "D"), Rng(0, 64, "D"), Rng(0, 128, "D"))
    )
    assert torch.equal(plain, D(images).value)
    assert torch.equal(first, again)
    assert not torch.allclose(first, plain)
    assert not torch.allclose(first, other)
    rng = Rng(0, 64, "D")
    assert not torch.equal(D(images, 1.0, rng).value, D(images, 1.0, rng).value), "reals and fakes have their own"
