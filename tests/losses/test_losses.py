"""Every loss of the registry: known answers, derivatives by finite differences, and training with each."""

import math
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import progan
from progan import losses, models
from progan.config import (
    LOSS_CONFIGS,
    MODEL_CONFIGS,
    HingeConfig,
    LossConfig,
    MinimaxConfig,
    ModelConfig,
    OptimizerConfig,
    ProGANConfig,
    RelativisticConfig,
    RunConfig,
    WganConfig,
    WganGpConfig,
)
from progan.errors import ConfigError
from progan.models import ImageShape
from progan.models.layers import Scaled
from progan.options import override
from progan.randomness import Rng
from progan.schedule import Stage
from progan.scores import Scores
from progan.training.accelerate import traced
from progan.training.observers.run_files import read_stats
from progan.training.optimizer import Adam
from progan.training.setup import RunSetup
from progan.training.state import TrainingState
from progan.training.step import Step, critic
from steps import CPU, make_step, traced_step, train_d, train_g
from tiny import TINY

F64 = torch.float64
NEW: dict[str, LossConfig] = {
    "relativistic": RelativisticConfig(),
    "hinge": HingeConfig(r1_weight=2.0),
    "minimax": MinimaxConfig(r1_weight=2.0),
    "wgan": WganConfig(clip_weight=0.1),
}
ALL: dict[str, LossConfig] = {**{name: config() for name, config in LOSS_CONFIGS.items()}, **NEW}


class Uniform:
    """Mixing factors from 0 to 1."""

    def uniform(self, n: int) -> Tensor:
        return torch.linspace(0, 1, n, dtype=F64)


# Known answers


def linear(images: Tensor) -> Scores:
    """A critic that is 3 times the first pixel: its gradient has length 3 everywhere."""
    return Scores(3 * images[:, 0, 0, 0])


REALS = torch.zeros(4, 1, 4, 4).index_put((torch.arange(4),) + (torch.tensor(0),) * 3, torch.tensor([0.2, 1, 0, -1]))
FAKES = torch.zeros(4, 1, 4, 4).index_put((torch.arange(4),) + (torch.tensor(0),) * 3, torch.tensor([0, -1, 0.1, 1.0]))
REAL, FAKE = [0.6, 3.0, 0.0, -3.0], [0.0, -3.0, 0.3, 3.0]  # their scores


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def softplus(x: float) -> float:
    return math.log1p(math.exp(x))


@pytest.mark.parametrize(
    ("config", "d", "g"),
    [
        (
            HingeConfig(),
            {"real": mean([0.4, 0, 1, 4]), "fake": mean([1, 0, 1.3, 4])},
            -mean(FAKE),
        ),
        (
            MinimaxConfig(),
            {"real": mean([softplus(-x) for x in REAL]), "fake": mean([softplus(x) for x in FAKE])},
            mean([math.log(1 - 1 / (1 + math.exp(-x))) for x in FAKE]),
        ),
        (WganConfig(), {"real": -mean(REAL), "fake": mean(FAKE)}, -mean(FAKE)),
        (
            RelativisticConfig(r1_weight=2, r2_weight=4),
            {
                "pairs": mean([softplus(f - r) for r, f in zip(REAL, FAKE, strict=True)]),
                "r1": 2 / 2 * 3**2,
                "r2": 4 / 2 * 3**2,
            },
            mean([softplus(r - f) for r, f in zip(REAL, FAKE, strict=True)]),
        ),
        (
            RelativisticConfig(r1_weight=0, r2_weight=0),
            {"pairs": mean([softplus(f - r) for r, f in zip(REAL, FAKE, strict=True)])},
            mean([softplus(r - f) for r, f in zip(REAL, FAKE, strict=True)]),
        ),
    ],
)
def test_terms_of_a_linear_critic(config: LossConfig, d: dict[str, float], g: float) -> None:
    loss = losses.build(config)
    terms = loss.d_terms(linear, REALS, FAKES, None, Uniform())
    assert {name: float(term) for name, term in terms.items()} == pytest.approx(d, abs=1e-5)
    found = loss.g_terms(linear, REALS, FAKES, None, Uniform())
    assert {name: float(term) for name, term in found.items()} == pytest.approx({"fake": g}, abs=1e-5)


@pytest.mark.parametrize("config", [HingeConfig(r1_weight=10), MinimaxConfig(r1_weight=10)])
def test_r1_is_half_its_weight_times_the_squared_slope(config: LossConfig) -> None:
    penalty = losses.build(config).d_terms(linear, REALS, FAKES, None, Uniform())["penalty"]
    assert float(penalty) == pytest.approx(10 / 2 * 3**2)


def test_r2_is_a_penalty_on_fakes() -> None:
    """Of a critic x² its slope is 2x: 0.2, 1, 0 and -1 at the reals, 0, -1, 0.1 and 1 at the fakes."""

    def squares(images: Tensor) -> Scores:
        return Scores(images[:, 0, 0, 0].square())

    loss = losses.build(RelativisticConfig(r1_weight=2, r2_weight=2))
    terms = loss.d_terms(squares, REALS, FAKES, None, Uniform())
    assert float(terms["r1"]) == pytest.approx(mean([4 * x**2 for x in (0.2, 1, 0, -1)]))
    assert float(terms["r2"]) == pytest.approx(mean([4 * x**2 for x in (0, -1, 0.1, 1)]))


@pytest.mark.parametrize("config", [HingeConfig(r1_weight=2), RelativisticConfig(r1_weight=2, r2_weight=2)])
def test_a_gradient_of_zero_leaves_a_gradient(config: LossConfig) -> None:
    """D's weights have one although D does not see some images at all, as a ReLU may not."""
    weight = torch.ones((), dtype=F64, requires_grad=True)

    def relu(images: Tensor) -> Scores:
        values = images[:, 0, 0, 0]
        return Scores(weight * values * (values > 0))  # as layers do, and unlike clamp, this hands on what is no number

    images = torch.tensor([-1.0, 1.0], dtype=F64).view(2, 1, 1, 1)
    terms = losses.build(config).d_terms(relu, images, images, None, Uniform())
    for name in terms.keys() & {"penalty", "r1", "r2"}:
        (slope,) = torch.autograd.grad(terms[name], weight, retain_graph=True)
        assert float(slope) == pytest.approx(1.0), "of ½·2·mean(0, weight²)"


def test_a_relativistic_loss_only_knows_differences() -> None:
    loss = losses.build(RelativisticConfig(r1_weight=0, r2_weight=0))

    def shifted(images: Tensor) -> Scores:
        return Scores(linear(images).value + 7)

    for ours, other in zip(
        (loss.d_terms(linear, REALS, FAKES, None, Uniform()), loss.g_terms(linear, REALS, FAKES, None, Uniform())),
        (loss.d_terms(shifted, REALS, FAKES, None, Uniform()), loss.g_terms(shifted, REALS, FAKES, None, Uniform())),
        strict=True,
    ):
        assert {name: float(term) for name, term in ours.items()} == pytest.approx(
            {name: float(term) for name, term in other.items()}, abs=1e-5
        )


def test_clipping_bounds_weights_as_layers_use_them() -> None:
    """With equalised learning rate that is the product of weight and scale; biases have none."""
    _, D = models.build(ProGANConfig(z_dim=4, fmap_max=8), ImageShape(8, 1), seed=0)
    with torch.no_grad():
        for parameter in D.parameters():
            parameter.normal_(0, 3)
    losses.build(WganConfig(clip_weight=0.05)).constrain(D)
    for module in D.modules():
        if isinstance(module, Scaled):
            used = (module.weight * module.scale).abs().max()
            assert float(used) == pytest.approx(0.05, rel=1e-5)
            assert float(module.bias.abs().max()) <= 0.05 + 1e-7


def test_weights_are_clipped_after_every_d_step() -> None:
    G, D = models.build(ProGANConfig(z_dim=4, fmap_max=8), ImageShape(8, 1), seed=0)
    loss, adam = losses.build(WganConfig(clip_weight=0.02)), Adam(D.parameters(), OptimizerConfig())
    step = make_step(G, D, adam, loss, Stage(8, "stable", 1.0, 4, 0.001, 0.001), torch.float32)
    for i in range(2):
        step.d(torch.rand(4, 1, 8, 8), None, Rng(0, i, "D"))
        used = [float((m.weight * m.scale).abs().max()) for m in D.modules() if isinstance(m, Scaled)]
        assert max(used) <= 0.02 * (1 + 1e-6)


# Derivatives


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("labels", [False, True])
def test_gradients_are_those_of_finite_differences(name: str, labels: bool) -> None:
    """Along a random direction of all weights, in float64, in a fade; D's with the penalties of the loss."""
    torch.manual_seed(1)
    shape = ImageShape(8, 1, label_size=2 if labels else 0)
    G, D = models.build(ProGANConfig(z_dim=4, fmap_base=32, fmap_max=4), shape, seed=0)
    G.double(), D.double()
    loss = losses.build(ALL[name])
    reals, z = torch.rand(4, 1, 8, 8, dtype=F64) * 2 - 1, torch.randn(4, 4, dtype=F64)
    rows = torch.eye(2, dtype=F64)[[0, 1, 1, 0]] if labels else None
    judge = critic(D, 0.5, F64, 0.5)

    def d_total() -> Tensor:
        with torch.no_grad():
            fakes = G(z, rows, 8, 0.5)
        return torch.stack(list(loss.d_terms(judge, reals, fakes, rows, Uniform()).values())).sum()

    def g_total() -> Tensor:
        fakes = G(z, rows, 8, 0.5)
        return torch.stack(list(loss.g_terms(critic(D, 0.5, F64), reals, fakes, rows, Uniform()).values())).sum()

    for network, total in ((D, d_total), (G, g_total)):
        assert derivative(network, total) == pytest.approx(difference(network, total), rel=1e-4, abs=1e-8), network


def directions(network: nn.Module) -> list[Tensor]:
    generator = torch.Generator().manual_seed(5)
    return [torch.randn(p.shape, generator=generator, dtype=F64) for p in network.parameters()]


def derivative(network: nn.Module, total: Callable[[], Tensor]) -> float:
    gradients = torch.autograd.grad(total(), list(network.parameters()), allow_unused=True)
    pairs = zip(gradients, directions(network), strict=True)
    return sum(float((gradient * v).sum()) for gradient, v in pairs if gradient is not None)


def difference(network: nn.Module, total: Callable[[], Tensor], step: float = 1e-6) -> float:
    found = []
    for sign in (1, -1):
        with torch.no_grad():
            for parameter, v in zip(network.parameters(), directions(network), strict=True):
                parameter += sign * step * v
        found.append(float(total()))
        with torch.no_grad():
            for parameter, v in zip(network.parameters(), directions(network), strict=True):
                parameter -= sign * step * v
    return (found[0] - found[1]) / (2 * step)


# Training

SETTINGS = {**TINY, "tick_kimg": 0.1, "labels": True}


ONE_FAST = [name if name == "relativistic" else pytest.param(name, marks=pytest.mark.slow) for name in NEW]
"""The losses, of which one is tested by the fast half."""


def options_of(config: LossConfig) -> dict[str, Any]:
    return {"loss": config.kind, **asdict(config)}


@pytest.mark.slow
@pytest.mark.usefixtures("traced_once")
@pytest.mark.parametrize("name", ONE_FAST)
def test_a_run_grows_traced_with_labels_and_continues_exactly(name: str, tmp_path: Path, capsys: Any) -> None:
    options = {**SETTINGS, **options_of(NEW[name]), "quiet": False}
    whole = progan.train(out=tmp_path / "whole", **options)
    said = capsys.readouterr().err
    assert "eager" not in said, "every stage is traced"
    lines = read_stats(whole.folder.stats)
    assert all(math.isfinite(value) for line in lines for value in line.values() if isinstance(value, float))
    part = progan.train(out=tmp_path / "run", **{**options, "total_kimg": 0.35})  # in the fade
    assert part.cur_nimg < whole.cur_nimg
    rest = progan.train(out=tmp_path / "run", allow_change=True, total_kimg=None, quiet=True)
    first, second = (progan.load(path).G.state_dict() for path in (whole.path, rest.path))
    assert all(torch.equal(first[key], second[key]) for key in first)


def gradients(config: LossConfig, how: str) -> list[Tensor]:
    """All gradients of D and of G of a step at 8x8 of 16x16, with labels."""
    G, D = models.build(ProGANConfig(z_dim=8, fmap_max=8), ImageShape(16, 3, 2), seed=0)
    loss, stage = losses.build(config), Stage(8, "fade", 0.4, 4, 0.0, 0.0)
    d_adam, g_adam = (Adam(net.parameters(), OptimizerConfig()) for net in (D, G))
    executor = None
    if how != "eager":
        executor = traced_step(G, D, loss, ImageShape(16, 3, 2), stage, 4, torch.float32, kernels=how == "compiled")
    reals = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    labels = torch.eye(2).repeat(2, 1)
    train_d(G, D, d_adam, loss, reals, labels, stage, Rng(0, 0, "D"), torch.float32, traced=executor)
    found = [p.grad.clone() for p in D.parameters() if p.grad is not None]
    train_g(G, D, g_adam, loss, 4, labels, stage, Rng(0, 0, "G"), torch.float32, traced=executor, reals=reals)
    return found + [p.grad for p in G.parameters() if p.grad is not None]


needs_compiler = pytest.mark.skipif(traced.missing(torch.device("cpu")) is not None, reason="no C++ compiler")


@pytest.mark.parametrize("how", ["traced", pytest.param("compiled", marks=[pytest.mark.slow, needs_compiler])])
@pytest.mark.parametrize("name", ONE_FAST)
def test_traced_and_compiled_gradients_are_the_eager_ones(name: str, how: str) -> None:
    for ours, eager in zip(gradients(NEW[name], how), gradients(NEW[name], "eager"), strict=True):
        bound = 0.0 if how == "traced" else 3e-5 * float(eager.norm())
        assert float((ours - eager).norm()) <= bound


def test_a_loss_whose_ds_or_gs_costs_have_no_measure_has_no_rescue() -> None:
    assert override(RunConfig(), {"loss": "relativistic", "rescue": True}).health.rescue
    for name in ("hinge", "minimax", "wgan", "wgan-gp"):
        with pytest.raises(ConfigError, match=f"--rescue does not know when D has won with --loss {name}"):
            override(RunConfig(), {"loss": name, "rescue": True})


# Lazy penalty (Karras et al. 2020, appendix B)


def test_adams_constants_are_those_of_appendix_b() -> None:
    adam = Adam([nn.Parameter(torch.zeros(2))], OptimizerConfig(beta1=0.5, beta2=0.99), penalty_every=4)
    assert (adam.config.beta1, adam.config.beta2) == pytest.approx((0.5 ** (4 / 5), 0.99 ** (4 / 5)))
    adam.parameters[0].grad = torch.tensor([1.0, -3.0])
    adam.update(0.01)  # Adam's first update is the learning rate, here times 4/5
    assert adam.parameters[0].detach().tolist() == pytest.approx([-0.008, 0.008], rel=1e-5)


class Noted:
    """An executor that notes which parts of D's loss it is asked for, and with which weight."""

    def __init__(self, inner: Any) -> None:
        self._inner, self.asked = inner, list[tuple[str, float]]()

    def d(self, batch: Any, draws: Any, scale: Tensor | None = None, part: str = "whole") -> dict[str, Tensor]:
        self.asked.append((part, 1.0 if scale is None else float(scale)))
        found: dict[str, Tensor] = self._inner.d(batch, draws, scale, part)
        return found


def lazy_step(every: int) -> tuple[Step, Noted]:
    config = override(RunConfig(), {"penalty_every": every, "resolution": 8, "fmap_max": 8, "z_dim": 8})
    setup = RunSetup(config, ImageShape(8, 3), CPU)
    state = TrainingState.new(setup)
    step = Step(setup, state, Stage(8, "stable", 1.0, 4, 1e-3, 1e-3))
    noted = Noted(step._executor)
    step._executor = noted  # type: ignore[assignment]
    return step, noted


def test_the_penalty_is_a_step_of_its_own_after_every_kth_with_k_times_its_weight() -> None:
    step, noted = lazy_step(3)
    reals = torch.rand(4, 3, 8, 8)
    penalties = []
    for i in range(7):
        step.d(reals, None, step.rng(4 * i, "D"))
        penalties.append(step.lazy_penalty(reals, None, 4 * i))
    whole = [("scores", 1.0), ("scores", 1.0), ("scores", 1.0), ("penalty", 3.0)]
    assert noted.asked == [*whole, *whole, ("scores", 1.0)]
    assert [sorted(found) for found in penalties] == [[], [], ["penalty"], [], [], ["penalty"], []]
    step.state.settle()
    assert step.state.d_optimizer.updates == 7 + 2


def test_every_step_has_the_penalty_by_default() -> None:
    step, noted = lazy_step(1)
    reals = torch.rand(4, 3, 8, 8)
    terms = step.d(reals, None, step.rng(0, "D"))
    assert "penalty" in terms
    assert step.lazy_penalty(reals, None, 0) == {}
    assert noted.asked == [("whole", 1.0)]


def test_scores_and_penalty_apart_are_the_whole() -> None:
    G, D = models.build(ProGANConfig(z_dim=8, fmap_max=8), ImageShape(8, 3), seed=0)
    reals = torch.rand(4, 3, 8, 8) * 2 - 1
    loss, found = losses.build(WganGpConfig()), {}
    for part in ("whole", "scores", "penalty"):
        step = make_step(G, D, Adam(D.parameters(), OptimizerConfig()), loss, Stage(8, "stable", 1.0, 4, 0, 0), F64)
        terms = step._executor.d(step._batch(reals.double(), None), Rng(0, 0, "D"), None, part)  # type: ignore[arg-type]
        found[part] = terms, [p.grad.clone() for p in D.parameters() if p.grad is not None]
    assert found["whole"][0].keys() == found["scores"][0].keys() | found["penalty"][0].keys()
    for name, term in (found["scores"][0] | found["penalty"][0]).items():
        assert torch.equal(term, found["whole"][0][name]), name


@pytest.mark.slow
@pytest.mark.usefixtures("traced_once")
@pytest.mark.parametrize("precision", ["fp32", pytest.param("fp16", marks=pytest.mark.slow)])
def test_a_lazy_run_continues_exactly(precision: str, tmp_path: Path) -> None:
    options = {**SETTINGS, "penalty_every": 4, "precision": precision}
    whole = progan.train(out=tmp_path / "whole", **options)
    assert all("D/penalty" in line for line in read_stats(whole.folder.stats))
    progan.train(out=tmp_path / "run", **{**options, "total_kimg": 0.35})
    rest = progan.train(out=tmp_path / "run", allow_change=True, total_kimg=None, quiet=True)
    first, second = (progan.load(path).G.state_dict() for path in (whole.path, rest.path))
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_without_a_penalty_there_is_nothing_to_be_lazy_with() -> None:
    with pytest.raises(ConfigError, match="--penalty-every needs a loss with a penalty"):
        override(RunConfig(), {"loss": "lsgan", "penalty_every": 4})


# Latents


@pytest.mark.parametrize("model", ["progan", "dcgan", "growing-batchnorm"])
def test_uniform_latents_are_the_normal_ones_through_their_distribution_function(model: str) -> None:
    config: ModelConfig = MODEL_CONFIGS[model](latents="uniform")
    G, _ = models.build(config, ImageShape(16, 3), seed=0)
    plain, _ = models.build(replace(config, latents="normal"), ImageShape(16, 3), seed=0)
    z = torch.randn(6, G.z_dim)
    uniform = 2 * torch.distributions.Normal(0, 1).cdf(z) - 1
    assert torch.allclose(G.eval()(z), plain.eval()(uniform), atol=1e-5)
    assert not torch.allclose(G(z), plain(z), atol=1e-2)
    spread = G.distributed(torch.randn(20_000, 1))
    assert float(spread.abs().max()) <= 1
    assert float(spread.var()) == pytest.approx(1 / 3, abs=0.01)
