"""Layer norm, minibatch discrimination and the noise of appendix B, each against its formula."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from progan import losses, models
from progan.config import LsganConfig, OptimizerConfig, ProGANConfig
from progan.models import ImageShape
from progan.models.layers import DIMENSIONS, Activation, AdaptiveNoise, BatchNorm2d, LayerNorm, MinibatchDiscrimination
from progan.randomness import Rng
from progan.schedule import Stage
from progan.training.optimizer import Adam
from steps import train_d, train_g

SMALL = ProGANConfig(z_dim=6, fmap_base=32, fmap_max=8)


def normal(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


@pytest.mark.parametrize("shape", [(3, 4, 5, 5), (3, 4)])
def test_layer_norm_looks_at_one_image_and_all_of_its_maps(shape: tuple[int, ...]) -> None:
    x = 7 + 3 * normal(*shape)
    layer = LayerNorm(4).double()
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([1.0, 2.0, 3.0, 4.0]))
        layer.bias.copy_(torch.tensor([0.0, 0.0, 1.0, 1.0]))
    by_map = (1, 4, *(1 for _ in shape[2:]))
    for n in range(3):
        normed = (x[n] - x[n].mean()) / (x[n].var(unbiased=False) + 1e-5).sqrt()
        expected = normed * layer.weight.view(by_map)[0] + layer.bias.view(by_map)[0]
        assert torch.allclose(layer(x)[n], expected, atol=1e-12)


def test_normalisation_comes_before_the_activation() -> None:
    x = normal(16, 2, 3, 3)
    norm = BatchNorm2d(2).double()
    assert torch.allclose(Activation(norm)(x), F.leaky_relu(norm(x), 0.2))
    assert torch.equal(Activation(leak=0)(x), x.clamp(min=0))


def test_minibatch_discrimination_is_the_printed_formula() -> None:
    layer = MinibatchDiscrimination(6, 3, use_wscale=False).double()
    x = normal(5, 6)
    out = layer(x)
    assert torch.equal(out[:, :6], x)
    for i in range(5):
        for b in range(3):
            rows = layer.weight[b * DIMENSIONS : (b + 1) * DIMENSIONS]
            expected = sum(math.exp(-float((rows @ x[i] - rows @ x[j]).abs().sum().detach())) for j in range(5))
            assert float(out[i, 6 + b].detach()) == pytest.approx(expected)


def test_d_sees_how_near_the_images_of_a_batch_are() -> None:
    _, D = models.build(ProGANConfig(**{**vars(SMALL), "mbdisc_kernels": 4, "mbstd_group": 1}), ImageShape(8, 1), 1)
    images = torch.randn(4, 1, 8, 8)
    same = images[:1].expand(4, -1, -1, -1)
    assert not torch.allclose(D(images).value[0], D(same).value[0], atol=1e-4)
    assert D.dense1.weight.shape == (1, 8 + 4)


# Appendix B


@pytest.mark.parametrize(("d_hat", "strength"), [(-3, 0), (0.5, 0), (0.6, 0.2 * 0.1**2), (1.0, 0.2 * 0.25), (1.5, 0.2)])
def test_the_strength_of_the_noise_follows_from_d_hat(d_hat: float, strength: float) -> None:
    layer = AdaptiveNoise(0.2)
    layer.d_hat.fill_(d_hat)
    assert float(layer.strength) == pytest.approx(strength, abs=1e-8)
    x = torch.ones(500, 40, 2, 2)
    out = layer(x, Rng(0, 0, "D"))
    assert torch.equal(out, out[:, :, :1, :1].expand_as(out))
    assert float(out[:, :, 0, 0].std()) == pytest.approx(strength, rel=0.03)
    assert float(out.mean()) == pytest.approx(1, abs=0.01)
    assert strength or torch.equal(out, x)
    assert layer(x, None) is x


def test_d_hat_is_a_moving_average() -> None:
    layer = AdaptiveNoise(0.2)
    for d in (1.0, 0.5, math.nan):
        layer.watch(torch.tensor(d))
    assert float(layer.d_hat) == pytest.approx(0.1 * 0.5 + 0.9 * (0.1 * 1.0))


def test_a_d_step_tells_d_its_scores_of_reals_and_a_g_step_nothing() -> None:
    """Half way through a growth, where the penalty's gradient is scaled too."""
    G, D = models.build(ProGANConfig(**{**vars(SMALL), "d_noise": 0.2}), ImageShape(16, 1), 1)
    stage, reals = Stage(8, "fade", 0.5, 4, 0.0, 0.0), torch.rand(4, 1, 8, 8)
    D.noise.d_hat.fill_(0.4)  # no noise yet
    expected = 0.1 * float(D(reals, 0.5).value.detach().mean()) + 0.9 * 0.4
    how = (losses.build(LsganConfig()),)
    seen: list[object] = []
    D.register_forward_pre_hook(lambda module, args: seen.append(args[2]))
    source = Rng(0, 0, "D")
    train_d(G, D, Adam(D.parameters(), OptimizerConfig()), *how, reals, None, stage, source, torch.float32)
    assert float(D.noise.d_hat) == pytest.approx(expected, abs=1e-6)
    train_g(G, D, Adam(G.parameters(), OptimizerConfig()), *how, 4, None, stage, source, torch.float32)
    assert float(D.noise.d_hat) == pytest.approx(expected, abs=1e-6)
    assert [noise is source for noise in seen] == [True] * 3


def test_every_wide_convolution_of_d_gets_noise_of_its_own() -> None:
    _, D = models.build(ProGANConfig(**{**vars(SMALL), "d_noise": 0.2}), ImageShape(16, 1), 1)
    drawn: list[tuple[int, int]] = []

    class Source(Rng):
        def normal(self, n: int, size: int) -> Tensor:
            drawn.append((n, size))
            return super().normal(n, size)

    D(torch.randn(4, 1, 16, 16), 1.0, Source(0, 0, "D"))
    assert drawn == [(4, 4), (4, 4), (4, 8), (4, 8), (4, 9), (4, 8)], "two a block at 16 and 8, two at 4x4"


def test_the_state_keeps_d_hat_and_other_networks_have_none() -> None:
    _, D = models.build(ProGANConfig(**{**vars(SMALL), "d_noise": 0.2}), ImageShape(8, 1), 1)
    assert "noise.d_hat" in D.state_dict()
    G, D = models.build(SMALL, ImageShape(8, 1), 1)
    assert not list(G.buffers()) + list(D.buffers()), "so that older states still fit"
    assert not D.watches
