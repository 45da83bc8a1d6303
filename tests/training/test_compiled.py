"""Compiled steps: the same numbers as without, one build for a whole fade, and nothing lost where it cannot be."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

import progan
from progan import losses, run
from progan.cli import main
from progan.config import OptimizerConfig, PrepareConfig, ProGANConfig, RunConfig, ScheduleConfig, WganGpConfig
from progan.data.prepare import prepare
from progan.models import ImageShape, conv_matmul
from progan.per_resolution import per_resolution
from progan.randomness import Rng
from progan.schedule import Stage
from progan.training import loop, state
from progan.training.accelerate import traced
from progan.training.numerics import Numerics, choose, thread_count
from progan.training.preflight import autotune
from progan.training.preflight.estimate import build_seconds
from progan.training.preflight.trials import Evidence
from progan.training.setup import RunSetup
from progan.training.state import StateFolder
from progan.training.step import Eager
from steps import new_state, traced_step, train_d, train_g

CPU = Numerics("cpu", "fp32", 1, torch.__version__)
SHAPE = ImageShape(16, 3, label_size=2)
needs_compiler = pytest.mark.skipif(traced.missing(torch.device("cpu")) is not None, reason="no C++ compiler")
TINY = {
    "data": "avatars:32",
    "loss": "wgan-gp",
    "resolution": 8,
    "start_resolution": 8,
    "stable_kimg": 0.08,
    "batch_size": 4,
    "tick_kimg": 0.04,
    "fmap_max": 8,
    "z_dim": 8,
    "device": "cpu",
    "precision": "fp32",
    "compile": "on",
    "quiet": True,
}


def gradients(alpha: float, step: traced.Traced | None, networks: state.TrainingState):
    """Terms and all gradients of a D and a G step at 8x8 of 16x16, labels included."""
    stage = Stage(8, "fade", alpha, 4, g_lr=0.0, d_lr=0.0)
    s = networks
    loss = losses.build(WganGpConfig())
    reals = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    labels = torch.eye(2).repeat(2, 1)
    found = []
    d_terms, _ = train_d(
        s.G, s.D, s.d_optimizer, loss, reals, labels, stage, Rng(0, 0, "D"), torch.float32, traced=step
    )
    found += [p.grad for p in s.D.parameters()]
    g_terms, _ = train_g(s.G, s.D, s.g_optimizer, loss, 4, labels, stage, Rng(0, 0, "G"), torch.float32, traced=step)
    found += [p.grad for p in s.G.parameters()]
    return {**d_terms, **{f"G/{name}": term for name, term in g_terms.items()}}, found


@pytest.mark.parametrize(
    ("kernels", "matrices"),
    [
        (False, False),
        (False, True),
        pytest.param(True, False, marks=[needs_compiler, pytest.mark.slow]),
        pytest.param(True, True, marks=[needs_compiler, pytest.mark.slow]),
    ],
)
def test_gradients_are_those_of_the_eager_step_at_every_alpha_of_one_build(kernels, matrices, monkeypatch):
    s = new_state(ProGANConfig(z_dim=8, fmap_max=8), OptimizerConfig(), SHAPE, 0, CPU)
    stage = Stage(8, "fade", 0.3, 4, 0.0, 0.0)
    with monkeypatch.context() as patch:
        if matrices:  # all convolutions of the step become products of matrices, and none of those it is compared with
            patch.setattr(conv_matmul, "quicker", lambda *arguments: True)
            patch.setattr(conv_matmul, "weight_gradient_is_quicker", lambda *arguments: True)
        step = traced_step(s.G, s.D, losses.build(WganGpConfig()), SHAPE, stage, 4, torch.float32, kernels=kernels)
    for alpha in (0.3, 0.8):
        terms, expected = gradients(alpha, None, s)
        with monkeypatch.context() as patch:
            patch.setattr(traced, "make_fx", None)  # a second build would fail
            with torch.compiler.set_stance("fail_on_recompile"):
                ours, found = gradients(alpha, step, s)
        assert ours.keys() == terms.keys()
        for name, term in terms.items():
            assert ours[name].item() == pytest.approx(term.item(), rel=1e-5), name
        for gradient, reference in zip(found, expected, strict=True):
            assert (gradient is None) == (reference is None)
            if reference is not None:
                assert float((gradient - reference).norm()) <= 3e-5 * float(reference.norm())
                assert gradient.stride() == reference.stride()


@pytest.mark.parametrize("kernels", [False, pytest.param(True, marks=[needs_compiler, pytest.mark.slow])])
def test_a_step_by_winograds_algorithm_is_traced_like_any_other(kernels):
    s = new_state(ProGANConfig(z_dim=8, fmap_max=128), OptimizerConfig(), SHAPE, 0, replace(CPU, winograd=True))
    plain = new_state(ProGANConfig(z_dim=8, fmap_max=128), OptimizerConfig(), SHAPE, 0, CPU)
    stage = Stage(8, "fade", 0.3, 4, 0.0, 0.0)
    step = traced_step(s.G, s.D, losses.build(WganGpConfig()), SHAPE, stage, 4, torch.float32, kernels=kernels)
    (_, expected), (_, ours), (_, direct) = (
        gradients(0.3, None, s),
        gradients(0.3, step, s),
        gradients(0.3, None, plain),
    )
    errors = []
    for gradient, eager, other in zip(ours, expected, direct, strict=True):
        if gradient is not None:
            assert float((gradient - eager).norm()) <= (3e-5 if kernels else 0) * float(eager.norm())
            errors.append(float((gradient - other).norm() / other.norm()))
    assert 1e-7 < max(errors) < 1e-4


def test_what_depends_on_weights_alone_is_done_once():
    def function(g, d, x):
        return [
            (g[0].exp() @ x.sin()).sum() * (g[0].exp() @ x.sin()).sum() + d[0].exp().sum() * torch.tensor([2.0]).sum()
        ]

    example = [[torch.randn(3, 3)], [torch.randn(2)], torch.randn(3, 3)]
    graph = traced._trace(function, example, "fake")
    count = [node.target for node in graph.graph.nodes if node.op == "call_function"].count
    assert count(torch.ops.aten.exp.default) == 2
    assert count(torch.ops.aten.sin.default) == count(torch.ops.aten.mm.default) == 2, "they depend on an image"
    assert torch.equal(graph(*example)[0], function(*example)[0])


def test_what_is_written_to_is_not_shared():
    def function(g, d, x):
        one, other = (g[0].clone() for _ in range(2))
        third, fourth = (torch.zeros_like(g[0]) for _ in range(2))
        third[0].view(3, 1).t().copy_(x[:1])  # through views
        return [one.mul_(2) + other + torch.zeros(3, 3).add_(x) + torch.zeros(3, 3), third + fourth]

    example = [[torch.randn(3, 3)], [torch.randn(2)], torch.randn(3, 3)]
    graph = traced._trace(function, example, "fake")
    assert all(map(torch.equal, graph(*example), function(*example)))


def test_what_is_drawn_is_drawn_anew():
    example = [[torch.randn(3, 3)], [], torch.randn(3, 3)]
    graph = traced._trace(lambda g, d, x: [torch.rand_like(g[0]) - torch.rand_like(g[0])], example, "fake")
    assert graph(*example)[0].abs().min() > 0


@pytest.mark.slow
@needs_compiler
def test_a_compiled_run_stopped_and_continued_equals_one_that_was_not(tmp_path, monkeypatch):
    whole = progan.train(out=tmp_path / "whole", **TINY)
    numerics = StateFolder(whole.folder.state).numerics()
    assert numerics is not None
    assert numerics.compiled == (8,)
    original = loop.train
    calls = iter(range(1000))
    with monkeypatch.context() as patch:
        patch.setattr("progan.run.train_job", lambda job, watching, *_: original(job, watching, half))

        def half() -> bool:
            return next(calls) == 8

        assert not progan.train(out=tmp_path / "run", **TINY).finished
    run = progan.train(out=tmp_path / "run", **TINY)
    first, second = (progan.load(path).G.state_dict() for path in (whole.path, run.path))
    assert all(torch.equal(first[name], second[name]) for name in first)


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize(("colours", "options"), [("grey", {"mirror": True}), ("rgb", {"labels": True, "d_steps": 2})])
def test_what_was_built_is_never_built_again(colours, options, tmp_path, monkeypatch):
    """Images that lay in memory otherwise than those it was built with would be another program to the compiler."""
    prepare("avatars:32", tmp_path / "data", PrepareConfig(resolution=8, channels=colours, workers=1))
    iterate, built = loop.iterate, []

    def watched(step, *rest):
        built.append(isinstance(step._executor, traced.Traced))
        with torch.compiler.set_stance("fail_on_recompile"):
            iterate(step, *rest)

    monkeypatch.setattr(loop, "iterate", watched)
    short = {"start_resolution": 4, "stable_kimg": 0.02, "fade_kimg": 0.02}
    progan.train(out=tmp_path / "run", **{**TINY, **options, **short, "data": tmp_path / "data"})
    assert built
    assert all(built)


def test_a_step_that_cannot_be_built_goes_on_without_and_says_so_once(tmp_path, monkeypatch, capsys):
    original = traced._compile

    def broken(function, example, kernels):
        if kernels:
            raise RuntimeError("no such kernel\nand a long story")
        return original(function, example, kernels)

    monkeypatch.setattr(traced, "_compile", broken)
    monkeypatch.setattr(traced, "missing", lambda device: None)
    run = progan.train(out=tmp_path / "run", **{**TINY, "quiet": False})
    assert run.finished
    err = capsys.readouterr().err
    assert err.count("warning: 8x8 stable goes on uncompiled (RuntimeError: no such kernel)") == 1
    numerics = StateFolder(run.folder.state).numerics()
    assert numerics is not None
    assert numerics.compiled == ()
    plain = progan.train(out=tmp_path / "plain", **{**TINY, "compile": "off"})
    first, second = (progan.load(path).G.state_dict() for path in (plain.path, run.path))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_step_that_another_process_could_not_make_is_taken_by_none_in_this_block_and_the_next():
    s = new_state(ProGANConfig(z_dim=8, fmap_max=8), OptimizerConfig(), SHAPE, 0, CPU)
    asked: list[bool] = []

    def any(mine: bool) -> bool:
        asked.append(mine)
        return True

    setup = RunSetup(RunConfig(), SHAPE, CPU, SimpleNamespace(size=1, any=any))
    executors = traced.Executors(setup, s)
    for alpha in (0.3, 0.8):
        assert isinstance(executors.of(Stage(8, "fade", alpha, 4, 0.0, 0.0)), Eager)
    assert asked == [False], "each process asks as often as the others"


def test_where_real_tensors_have_other_strides_the_step_is_traced_on_them(monkeypatch):
    """As on CPUs with AMX, where a view that was recorded without values fails."""
    original, modes = traced._trace, []

    def trace(function, example, mode):
        modes.append(mode)
        graph = original(function, example, mode)
        if mode == "real":
            return graph

        def failing(*_):
            raise RuntimeError("view size is not compatible with input tensor's size and stride")

        return failing

    s = new_state(ProGANConfig(z_dim=8, fmap_max=8), OptimizerConfig(), SHAPE, 0, CPU)
    stage = Stage(8, "fade", 0.3, 4, 0.0, 0.0)
    terms, expected = gradients(0.3, None, s)
    monkeypatch.setattr(traced, "_trace", trace)
    step = traced_step(s.G, s.D, losses.build(WganGpConfig()), SHAPE, stage, 4, torch.float32, kernels=False)
    assert modes == ["fake", "real"] * 2
    ours, found = gradients(0.3, step, s)
    assert all(torch.equal(ours[name], term) for name, term in terms.items())
    pairs = [(a, b) for a, b in zip(found, expected, strict=True) if b is not None]
    assert all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("options", [{"d_noise": 0.2}, {"model": "dcgan", "resolution": 16, "start_resolution": 16}])
def test_networks_with_noise_or_batch_norm_are_never_compiled(options, tmp_path, capsys):
    wanted = {**TINY, **options, "total_kimg": 0.02, "quiet": False}
    if "model" in options:
        wanted.pop("fmap_max")
    run = progan.train(out=tmp_path / "run", **wanted)
    assert "cannot be" in capsys.readouterr().err
    numerics = StateFolder(run.folder.state).numerics()
    assert numerics is not None
    assert numerics.compiled == ()


def test_without_a_compiler_nothing_is_compiled_and_one_line_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    progan.train(out=tmp_path / "run", **{**TINY, "total_kimg": 0.02, "quiet": False})
    assert capsys.readouterr().err.count("steps are not compiled: that needs a C++ compiler") == 1


def test_only_what_pays_the_build_back_is_tried_and_compiled(tmp_path, monkeypatch):
    monkeypatch.setenv("PROGAN_CACHE", str(tmp_path))
    monkeypatch.setattr(autotune, "missing", lambda device: None)
    tried = []

    def trial(setup, stage):
        tried.append(stage.resolution)
        return Evidence(1.2, 1 / 0.9, 1.3, 6, sure=True, build=build_seconds(stage.resolution))

    monkeypatch.setattr(autotune, "try_compiled", trial)
    schedule = ScheduleConfig(16, 4, stable_kimg=per_resolution(12), fade_kimg=per_resolution(12))
    setup = RunSetup(RunConfig(schedule=schedule), SHAPE, CPU)
    # 4: 12 s of training, a tenth of it saved: 1 s against a build of 10 s. 8: 362 s, 36.2 against 36. 16: far more.
    assert autotune.decide_compiled(setup, {4: 0.001, 8: 0.0151, 16: 0.1})[0].compiled == (8, 16)
    assert autotune.decide_compiled(setup, {4: 1.0, 8: 0.001, 16: 1.0})[0].compiled == (4, 16)
    assert autotune.decide_compiled(setup, {4: 0.001, 8: 0.001, 16: 0.001})[0].compiled == ()
    assert tried == [16], "once, and not for what is too short"


def test_the_precision_is_that_which_was_faster_and_stays_so(tmp_path, monkeypatch):
    monkeypatch.setenv("PROGAN_CACHE", str(tmp_path))
    monkeypatch.setattr(autotune, "sixteen_bits", lambda device: "bf16")
    said: list[str] = []
    for gain, width, precision in ((0.9, 8, "fp32"), (1.5, 8, "fp32"), (1.5, 16, "bf16")):
        evidence = Evidence(gain, gain, gain, 6, sure=True)
        monkeypatch.setattr(autotune, "measure_gain", lambda *_, evidence=evidence: evidence)
        config = RunConfig(model=ProGANConfig(fmap_max=width))
        config = progan.options.override(config, {"compile": "off"})
        assert autotune.decide_precision(RunSetup(config, SHAPE, CPU, log=said.append)).precision == precision
    assert "0.90 times as fast (0.90 to 0.90) as in fp32" in said[0]


@pytest.mark.slow
def test_the_plan_says_what_a_remembered_trial_chose_and_makes_none(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PROGAN_CACHE", str(tmp_path))
    for module in ("devices", "training.numerics", "training.preflight.autotune"):
        monkeypatch.setattr(f"progan.{module}.sixteen_bits", lambda device: "bf16")
    monkeypatch.setattr(autotune, "measure_gain", None)
    threads = thread_count(torch.get_num_threads())
    assert main(["doctor"]) == 0
    assert autotune.undecided("bf16") in capsys.readouterr().out
    command = ["train", "--dry-run", "--resolution", "8", "--fmap-max", "8", "--device", "cpu"]
    assert main(command) == 0
    assert f"on cpu, {autotune.undecided('bf16')}, {threads}\n" in capsys.readouterr().out
    monkeypatch.setattr(autotune, "measure_gain", lambda *_: Evidence(0.9, 0.9, 0.9, 6, sure=True))
    config = run.dry_run(resolution=8, fmap_max=8, device="cpu", compile="off")[1]
    autotune.decide_precision(RunSetup(config, ImageShape(8, 3), choose(config.runtime)))
    capsys.readouterr()
    assert main(command) == 0
    assert f"on cpu, fp32, {threads}\n" in capsys.readouterr().out
    assert run.dry_run(resolution=8, fmap_max=8, device="cpu")[2].precision == "fp32"
