"""What holds of every pair of networks under every loss."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import progan
from progan import losses, models
from progan.config import (
    LOSS_CONFIGS,
    DcganConfig,
    GrowingBatchNormConfig,
    ModelConfig,
    NonsaturatingConfig,
    OptimizerConfig,
    ProGANConfig,
    WganGpConfig,
)
from progan.images import downscale, upscale
from progan.models import ImageShape
from progan.options import override
from progan.presets import PRESETS, preset
from progan.randomness import Rng
from progan.schedule import Stage
from progan.tensorfile import from_bytes
from progan.training import loop
from progan.training.numerics import Numerics
from progan.training.observers.run_files import sample
from progan.training.optimizer import Adam
from progan.training.step import average, critic
from steps import new_state, train_d, train_g

pytestmark = pytest.mark.usefixtures("own_cache")

PAPER: dict[str, Any] = {"z_dim": 6, "fmap_base": 32, "fmap_max": 8}
NETWORKS: dict[str, ModelConfig] = {
    "dcgan": DcganConfig(z_dim=6, width=4),
    "dcgan with dropout": DcganConfig(z_dim=6, width=4, dropout=0.5),
    "growing-batchnorm": GrowingBatchNormConfig(z_dim=6, fmap_base=32, fmap_max=8),
    "ablation-a": ProGANConfig(
        **PAPER, use_wscale=False, pixel_norm="none", mbstd_group=1, batch_norm=0.1, layer_norm=True, tanh=True
    ),
    "ablation-e-star": ProGANConfig(**PAPER, pixel_norm="none", mbstd_group=1, mbdisc_kernels=3),
    "progan-lsgan": ProGANConfig(**PAPER, d_noise=0.2, layer_norm=True, fused_scale=False, pixel_norm="both"),
}
WITH_BATCH_NORM = {name: config for name, config in NETWORKS.items() if name not in ("ablation-e-star", "progan-lsgan")}
GROWING = {name: config for name, config in NETWORKS.items() if config.grows}
FIXED: dict[str, Any] = {"z_dim": 8, "resolution": 16, "start_resolution": 16}
SHORT: dict[str, Any] = {"stable_kimg": 0.016, "fade_kimg": 0.016, "z_dim": 8, "fmap_base": 32, "fmap_max": 8}
RUNS: dict[str, dict[str, Any]] = {
    "dcgan64": {"width": 4, **FIXED},
    "lsgan32": {"width": 4, **FIXED},
    "growing-batchnorm64": {**SHORT, "resolution": 16},
    "celebahq32-bce-batchnorm": {**SHORT, "resolution": 16},
    "progan1024-lsgan": {**SHORT, "resolution": 16, "schedule_every": 1},
    "ablation-a": {**SHORT, **FIXED, "d_steps": 2, "schedule_every": 1},
}
QUICK = {"dcgan64", "growing-batchnorm64"}
"""Those whose runs are cut in two with every change."""
F32 = torch.float32
every_network = pytest.mark.parametrize("config", NETWORKS.values(), ids=NETWORKS.keys())


class Doubles(Rng):
    """In float64, the same for every call of `rng()`."""

    def uniform(self, n: int, size: int | None = None) -> Tensor:
        return super().uniform(n, size).double()

    def normal(self, n: int, size: int) -> Tensor:
        return super().normal(n, size).double()


def rng() -> Doubles:
    return Doubles(0, 64, "D")


@every_network
@pytest.mark.parametrize("loss_config", [WganGpConfig(), NonsaturatingConfig(r1_weight=5)], ids=lambda loss: loss.kind)
def test_what_d_learns_from_is_the_slope_of_its_loss(config: ModelConfig, loss_config: Any) -> None:
    """Penalty and noise included: a small move of all of D's weights changes the loss by gradient times move."""
    _, D = models.build(config, ImageShape(16, 1), seed=1)
    D.double()
    with torch.no_grad():
        for parameter in D.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    reals, fakes = torch.rand(2, 6, 1, 16, 16, dtype=torch.float64)
    loss = losses.build(loss_config)

    def total() -> Tensor:
        source = rng()
        return torch.stack(
            list(loss.d_terms(critic(D, 1.0, torch.float64, 0.5, source), reals, fakes, None, source).values())
        ).sum()

    gradients = torch.autograd.grad(total(), list(D.parameters()), allow_unused=True)
    move = [1e-6 * torch.randn_like(parameter) for parameter in D.parameters()]
    expected = sum(float((g * m).sum()) for g, m in zip(gradients, move, strict=True) if g is not None)
    found = []
    for sign in (1, -2):
        with torch.no_grad():
            for parameter, step in zip(D.parameters(), move, strict=True):
                parameter.add_(sign * step)
        found.append(float(total().detach()))
    assert (found[0] - found[1]) / 2 == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("config", GROWING.values(), ids=GROWING.keys())
@pytest.mark.parametrize("resolution", [8, 16])
def test_growing_changes_nothing_at_alpha_0(config: ModelConfig, resolution: int) -> None:
    G, D = (net.double() for net in models.build(config, ImageShape(32, 3), seed=1))
    z, large = torch.randn(4, 6).double(), torch.randn(4, 3, 2 * resolution, 2 * resolution).double()
    assert torch.allclose(G(z, None, 2 * resolution, 0.0), upscale(G(z, None, resolution)), atol=1e-12)
    assert torch.allclose(D(large, 0.0).value, D(downscale(large)).value, atol=1e-12)
    assert not torch.allclose(D(large, 0.5).value, D(large, 0.0).value, atol=1e-6)


def test_fades_of_a_growing_dcgan_are_linear() -> None:
    """G's of images, after tanh; D's of features, which the next block gets."""
    G, D = (net.double() for net in models.build(NETWORKS["growing-batchnorm"], ImageShape(32, 3), seed=1))
    z, images = torch.randn(4, 6).double(), torch.randn(4, 3, 32, 32).double()
    seen: list[Tensor] = []
    D.blocks["16"].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    for values in ([G(z, None, 32, alpha) for alpha in (0.0, 1.0, 0.25)], seen):
        for alpha in (0.0, 1.0, 0.25) if values is seen else ():
            D(images, alpha)
        old, new, mixed = values
        assert not torch.allclose(old, new, atol=1e-6)
        assert torch.allclose(mixed, 0.75 * old + 0.25 * new, atol=1e-12)


@pytest.mark.parametrize("name", ["growing-batchnorm", "dcgan", "ablation-a"])
def test_images_come_out_of_a_tanh(name: str) -> None:
    """Weights a thousand times as large give black and white and nothing beyond."""
    G, _ = models.build(NETWORKS[name], ImageShape(16, 3), seed=1)
    with torch.no_grad():
        for parameter in G.parameters():
            parameter.mul_(1000)
        images = G(torch.randn(8, 6))
    assert float(images.abs().max()) == pytest.approx(1, abs=1e-6)
    assert float((images.abs() > 0.99).float().mean()) > 0.9


@pytest.mark.parametrize("config", WITH_BATCH_NORM.values(), ids=WITH_BATCH_NORM.keys())
def test_running_means_follow_the_batches_and_rule_in_evaluation(config: ModelConfig) -> None:
    G, _ = models.build(config, ImageShape(16, 3), seed=1)
    norms = [module for module in G.modules() if isinstance(module, nn.BatchNorm2d)]
    with torch.no_grad():
        for _ in range(100):
            G(torch.randn(32, 6))
    G.eval()
    one_by_one = torch.cat([G(z[None]) for z in torch.randn(64, 6, generator=torch.Generator().manual_seed(1))])
    G.train()
    together = G(torch.randn(64, 6, generator=torch.Generator().manual_seed(1)))
    assert norms
    difference = (one_by_one - together).abs().mean()
    assert float(difference.detach()) < 0.05 * float(together.detach().std()), "after a hundred batches nearly the same"


@every_network
@pytest.mark.parametrize("loss", LOSS_CONFIGS)
def test_every_model_learns_under_every_loss(config: ModelConfig, loss: str) -> None:
    """D and G get gradients, all finite."""
    G, D = models.build(config, ImageShape(16, 3), seed=1)
    objective = losses.build(LOSS_CONFIGS[loss]())
    reals, fakes = torch.rand(6, 3, 16, 16), G(torch.randn(6, 6))
    d_total = sum(
        objective.d_terms(critic(D, 1.0, torch.float32, noise=rng()), reals, fakes.detach(), None, rng()).values()
    )
    g_total = sum(objective.g_terms(critic(D, 1.0, torch.float32, noise=rng()), reals, fakes, None, rng()).values())
    for net, total in ((D, d_total), (G, g_total)):
        gradients = torch.autograd.grad(total, list(net.parameters()), allow_unused=True)
        unused = 0
        for gradient in gradients:
            assert gradient is None or gradient.isfinite().all()
            unused += gradient is None or not gradient.abs().max() > 1e-12
        assert unused <= len(gradients) / 2, "only RGB layers of other resolutions, and biases before a norm"


def test_both_steps_give_d_the_noise_of_the_step() -> None:
    G, D = models.build(DcganConfig(z_dim=6, width=4), ImageShape(16, 1), seed=1)
    seen: list[Any] = []
    D.register_forward_pre_hook(lambda module, args: seen.append(args[2]))
    stage, source = Stage(16, "stable", 1.0, 4, 0.001, 0.001), Rng(0, 0, "D")
    how = (losses.build(WganGpConfig()),)
    train_d(G, D, Adam(D.parameters(), OptimizerConfig()), *how, torch.zeros(4, 1, 16, 16), None, stage, source, F32)
    train_g(G, D, Adam(G.parameters(), OptimizerConfig()), *how, 4, None, stage, source, F32)
    assert [noise is source for noise in seen] == [True] * 4, "reals, fakes, mixed; fakes"


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_makes_an_iteration(name: str) -> None:
    config = preset(name)
    small = {"width": 4} if config.model.kind == "dcgan" else {"fmap_base": 32}
    config = override(config, {"resolution": 8, "start_resolution": 8, "z_dim": 6, "fmap_max": 8, **small})
    numerics = Numerics("cpu", "fp32", 1, torch.__version__)
    state = new_state(config.model, config.optimizer, ImageShape(8, 3), 0, numerics)
    stage, loss = Stage(8, "stable", 1.0, 4, 0.001, 0.001), losses.build(config.loss)
    before = [p.detach().clone() for net in (state.D, state.G) for p in net.parameters()]
    reals = torch.rand(4, 3, 8, 8)
    _, d = train_d(state.G, state.D, state.d_optimizer, loss, reals, None, stage, Rng(0, 0, "D"), F32)
    _, g = train_g(state.G, state.D, state.g_optimizer, loss, 4, None, stage, Rng(0, 0, "G"), F32)
    assert d
    assert g
    after = [p for net in (state.D, state.G) for p in net.parameters()]
    assert all(p.isfinite().all() for p in after)
    assert sum(not torch.equal(a, b) for a, b in zip(before, after, strict=True)) > len(after) / 2


def test_sample_grids_show_the_average_in_evaluation_mode() -> None:
    numerics = Numerics("cpu", "fp32", 1, torch.__version__)
    state = new_state(DcganConfig(z_dim=6, width=4), OptimizerConfig(), ImageShape(16, 1), 0, numerics)
    average(state.G_ema, state.G, 0.0)
    stage, z = Stage(16, "stable", 1.0, 4, 0.001, 0.001), torch.randn(4, 6)
    assert torch.equal(sample(state, stage, z, None, batch_size=4), sample(state, stage, z, None, batch_size=1))


# Runs


def train(preset: str, out: Path, **options: Any) -> Any:
    fixed = {"total_kimg": 0.064, "stable_kimg": 1, "batch_size": 8, "tick_kimg": 0.016, "device": "cpu"}
    return progan.train(
        preset, "avatars:32", out, quiet=True, **{**fixed, "precision": "fp32", **RUNS[preset], **options}
    )


@pytest.mark.parametrize("preset", RUNS)
def test_a_run_ends_with_a_snapshot_of_the_average_in_evaluation_mode(preset: str, tmp_path: Path) -> None:
    run = train(preset, tmp_path / "run")
    snapshot = run.snapshot()
    z = snapshot.latents(range(4))
    images = snapshot.generate(z)
    assert torch.allclose(images[:1], snapshot.generate(z[:1]), atol=1e-5)
    assert torch.allclose(snapshot.generate(z, truncation=0.0)[0], snapshot.generate(z, truncation=0.0)[1], atol=1e-5)
    assert images.std() > 0


@pytest.mark.parametrize(
    ("preset", "precision"),
    [
        *(pytest.param(preset, "fp32", marks=[pytest.mark.slow] * (preset not in QUICK)) for preset in RUNS),
        # Ten times as slow on a processor without units for it.
        *(pytest.param(preset, "bf16", marks=pytest.mark.slow) for preset in RUNS),
    ],
)
def test_stopped_and_continued_equals_uninterrupted(
    preset: str, precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(preset, tmp_path / "whole", precision=precision)
    original = loop.train
    with monkeypatch.context() as patch:
        stops = iter([False, False, True])
        patch.setattr("progan.run.train_job", lambda job, watching, *_: original(job, watching, lambda: next(stops)))
        assert not train(preset, tmp_path / "run", precision=precision).finished
    train(preset, tmp_path / "run", precision=precision)
    whole, continued = (
        from_bytes(max((tmp_path / name / "state").iterdir()).read_bytes())[1] for name in ("whole", "run")
    )
    assert whole.keys() == continued.keys()
    assert all(torch.equal(whole[name], continued[name]) for name in whole)
