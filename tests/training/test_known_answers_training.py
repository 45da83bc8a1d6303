"""What a training step and the loop around it must do, each known beforehand."""

import copy
import json
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from progan import losses
from progan.config import OptimizerConfig, ProGANConfig, RunConfig, RuntimeConfig, ScheduleConfig, WganGpConfig
from progan.data.dataset import Dataset, Manifest
from progan.images import to_pixels
from progan.models import ImageShape
from progan.options import override
from progan.per_resolution import per_resolution
from progan.randomness import Rng
from progan.run_folder import RunFolder
from progan.schedule import Stage
from progan.snapshot import SnapshotInfo
from progan.snapshot import load as load_snapshot
from progan.training.feed import Reals, Request
from progan.training.loop import Job, train
from progan.training.numerics import Numerics
from progan.training.observers.base import Observer
from progan.training.observers.run_files import Snapshots, sample
from progan.training.optimizer import Adam
from progan.training.setup import RunSetup
from progan.training.state import StateFolder, TrainingState
from progan.training.step import average, total
from steps import train_d, train_g

CPU = Numerics("cpu", "fp32", 1, torch.__version__)
SHAPE = ImageShape(8, 1)
CONFIG = RunConfig(
    schedule=ScheduleConfig(
        resolution=8,
        stable_kimg=per_resolution({4: 0.02, 8: 0.02}),
        fade_kimg=per_resolution(0.02),
        batch_size=per_resolution(4),
    ),
    model=ProGANConfig(z_dim=8, fmap_base=32, fmap_max=8),
    optimizer=OptimizerConfig(ema_decay=0.9),
    runtime=RuntimeConfig(tick_kimg=per_resolution(1)),
)  # 6 iterations at 4x4 (the fade begins with one of alpha 0), 4 of fade to 8x8, 5 at 8x8


def new_state(seed: int = 0, labels: int = 0) -> TrainingState:
    return TrainingState.new(RunSetup(override(CONFIG, {"seed": seed}), ImageShape(8, 1, labels), CPU))


class Squares:
    """A feed of one picture, black and white pixels by turns: the mean of every 2x2 square is grey.

    At 4x4 and at 8x8 alike, so that only the detail of the resolution it is shown at is left.
    """

    count = 3

    def __init__(self, labels: int = 0) -> None:
        self._labels = labels
        self.requests: list[Request] = []

    def stream(self, requests: Iterable[Request]) -> Iterator[Reals]:
        for request in requests:
            self.requests.append(request)
            r = request.resolution
            pixels = torch.tensor([255, 0], dtype=torch.uint8).repeat(r, r // 2)
            yield Reals(request, pixels.expand(request.size, 1, r, r), self.labels(torch.arange(request.size)))

    def random_labels(self, rng: Rng, n: int) -> Tensor | None:
        return self.labels(rng.integers(n, self.count))

    def labels(self, indices: Tensor) -> Tensor | None:
        return torch.eye(self._labels)[indices % self._labels] if self._labels else None


class Watch(Observer):
    """What the networks were given, by iteration, and what they were afterwards."""

    def __init__(self, state: TrainingState) -> None:
        self.state = state
        self.d_calls: list[list[tuple[Tensor, float]]] = [[]]
        self.g_calls: list[list[tuple[int, float]]] = [[]]
        self.after: list[dict[str, Any]] = [self._now(0)]
        self.stages: list[Stage] = []
        state.D.register_forward_pre_hook(lambda module, args: self.d_calls[-1].append((args[0].detach(), args[1])))
        state.G.register_forward_pre_hook(lambda module, args: self.g_calls[-1].append((args[2], args[3])))

    def on_progress(self, cur_nimg: int, stage: Stage) -> None:
        self.stages.append(stage)
        self.after.append(self._now(cur_nimg))
        self.d_calls.append([])
        self.g_calls.append([])

    def _now(self, cur_nimg: int) -> dict[str, Any]:
        state = self.state
        nets = {name: copy.deepcopy(net.state_dict()) for name, net in state._parts.items()}
        updates = state.g_optimizer.updates, state.d_optimizer.updates
        return {**nets, "updates": updates, "cur_nimg": cur_nimg}


def run(folder: Path, state: TrainingState | None = None, feed: Any = None, **options: Any) -> Watch:
    config = override(CONFIG, options)
    state = state or new_state()
    watch = Watch(state)
    setup = RunSetup(config, ImageShape(8, 1, state.G.label_size), CPU)
    job = Job(setup, feed or Squares(), state, StateFolder(folder))
    assert train(job, [watch])
    return watch


# The loop


def test_reals_fade_as_fakes_do(tmp_path: Path) -> None:
    """In every D step: reals have alpha times their detail, and G and D the same alpha and resolution."""
    watch = run(tmp_path)
    keys = [(4, "stable")] * 6 + [(8, "fade")] * 4 + [(8, "stable")] * 5
    assert [stage.key for stage in watch.stages] == keys
    alphas = [stage.alpha for stage in watch.stages]
    assert alphas == pytest.approx([1] * 6 + [0.2, 0.4, 0.6, 0.8] + [1] * 5)
    for stage, d_calls, g_calls in zip(watch.stages, watch.d_calls, watch.g_calls, strict=False):
        reals = d_calls[0][0]
        assert reals.shape[2] == stage.resolution
        assert reals.abs().min() == pytest.approx(stage.alpha)
        assert reals.abs().max() == pytest.approx(stage.alpha)
        assert reals.mean() == pytest.approx(0, abs=1e-6)
        assert {alpha for _, alpha in d_calls} == {stage.alpha}
        assert g_calls == [(stage.resolution, stage.alpha)] * 2
        assert {images.shape for images, _ in d_calls} == {reals.shape}
        assert len(d_calls) == 4, "reals, fakes, mixed images; fakes of G's step"


def test_g_ema_is_taken_before_the_g_step(tmp_path: Path) -> None:
    """After iteration i it is 0.9·(what it was) + 0.1·(G before iteration i), so after the first it is the first G."""
    watch = run(tmp_path)
    for before, after in zip(watch.after, watch.after[1:], strict=False):
        for name, value in after["G_ema"].items():
            expected = 0.9 * before["G_ema"][name] + 0.1 * before["G"][name]
            assert torch.allclose(value, expected, atol=1e-6), name
    first, last = watch.after[1], watch.after[-1]
    assert torch.allclose(first["G_ema"]["conv.weight"], watch.after[0]["G"]["conv.weight"], atol=1e-6)
    assert not torch.allclose(first["G"]["conv.weight"], watch.after[0]["G"]["conv.weight"])
    assert not torch.allclose(last["G_ema"]["conv.weight"], last["G"]["conv.weight"], atol=1e-4)


def test_optimizers_are_reset_when_a_stage_begins(tmp_path: Path) -> None:
    watch = run(tmp_path)
    counts = [*range(1, 7), *range(1, 5), *range(1, 6)]
    assert [after["updates"] for after in watch.after[1:]] == [(n, n) for n in counts]


def test_several_d_steps_show_several_batches(tmp_path: Path) -> None:
    feed = Squares()
    watch = run(tmp_path, feed=feed, d_steps=2)
    assert [request.start for request in feed.requests] == list(range(0, 64, 4))
    assert [after["cur_nimg"] for after in watch.after] == list(range(0, 65, 8))
    assert all(len(calls) == 7 for calls in watch.d_calls[:-1])
    d, g = zip(*((after["updates"][1], after["updates"][0]) for after in watch.after[1:]), strict=True)
    assert [n // 2 for n in d] == list(g)


def test_the_schedule_is_evaluated_every_so_often(tmp_path: Path) -> None:
    feed = Squares()
    watch = run(tmp_path, feed=feed, schedule_every=4)
    assert [after["cur_nimg"] for after in watch.after] == [0, 16, 32, 48, 64]
    assert [request.resolution for request in feed.requests] == [4] * 4 + [4] * 4 + [8] * 8


def test_mirrored_reals_are_flipped_for_half_of_the_images(tmp_path: Path) -> None:
    watch = run(tmp_path, mirror=True)
    flipped = [images[:, 0, 0, 0] < 0 for (images, _), *_ in watch.d_calls[:-1]]
    assert 0.25 < float(torch.cat(flipped).float().mean()) < 0.75
    assert not any((images[:, 0, 0, 0] < 0).any() for (images, _), *_ in run(tmp_path).d_calls[:-1])


def test_labels_reach_both_networks(tmp_path: Path) -> None:
    """Fakes of the D step have the labels of the reals."""
    state, feed, seen = new_state(labels=3), Squares(labels=3), []
    state.G.register_forward_pre_hook(lambda module, args: seen.append(args[1]))
    run(tmp_path, state, feed, labels=True)
    assert all(labels.shape == (4, 3) and (labels.sum(1) == 1).all() for labels in seen)
    assert torch.equal(seen[0], torch.eye(3)[[0, 1, 2, 0]])


def test_a_run_cut_in_two_ends_in_the_same_bits(tmp_path: Path) -> None:
    """At every place: state written, read into new networks, gone on with."""
    whole = run(tmp_path / "whole", mirror=True)
    for cut in (4, 24, 28, 40, 44):
        half = run(tmp_path / "half", mirror=True, total_kimg=cut / 1000)
        state = new_state(seed=9)
        state.restore(half.state.serialize())
        assert state.cur_nimg == cut
        rest = run(tmp_path / "rest", state, mirror=True)
        for net in ("G", "D", "G_ema"):
            for name, value in whole.after[-1][net].items():
                assert torch.equal(rest.after[-1][net][name], value), f"{net}.{name} cut at {cut}"


def test_not_every_seed_ends_alike(tmp_path: Path) -> None:
    ends = [run(tmp_path, seed=seed).after[-1]["G"]["conv.weight"] for seed in (0, 1, 0)]
    assert torch.equal(ends[0], ends[2])
    assert not torch.equal(ends[0], ends[1])


# The average in use


def test_snapshots_and_grids_show_the_averaged_generator(tmp_path: Path) -> None:
    state = run(tmp_path).state
    stage = Stage(8, "stable", 1.0, 4, 0.0, 0.0)
    z = torch.randn(4, 8)
    with torch.no_grad():
        expected, other = state.G_ema(z), state.G.forward(z)
    assert (expected - other).abs().max() > 0.01
    assert torch.equal(sample(state, stage, z, None, 4), to_pixels(expected))
    snapshots = Snapshots(RunFolder(tmp_path), SnapshotInfo(CONFIG, SHAPE, 8, 1.0, 0, "squares"), None, None)
    snapshots.on_stage_end(stage, None, state)
    (path,) = (tmp_path / "snapshots").glob("generator-*.safetensors")
    assert torch.allclose(load_snapshot(path).generate(z), expected, atol=1e-6)


# One step


class Draws:
    """The same numbers for every step, in float64."""

    def __init__(self) -> None:
        self._generator = torch.Generator().manual_seed(1)

    def normal(self, n: int, size: int) -> Tensor:
        return torch.randn(n, size, generator=self._generator, dtype=torch.float64)

    def uniform(self, n: int) -> Tensor:
        return torch.rand(n, generator=self._generator, dtype=torch.float64)


class Stepper:
    """Networks and optimisers in float64, ready for one step in the middle of a fade."""

    def __init__(self) -> None:
        state = new_state()
        self.G, self.D = state.G.double(), state.D.double()
        self.g_adam, self.d_adam = (Adam(net.parameters(), OptimizerConfig()) for net in (self.G, self.D))
        self.reals = torch.rand(4, 1, 8, 8, dtype=torch.float64)
        self.stage = Stage(8, "fade", 0.5, 4, g_lr=0.001, d_lr=0.002)
        self.how = (losses.build(WganGpConfig()),)

    def d(self, **changes: Any) -> Any:
        reals = changes.get("reals", self.reals)
        return train_d(self.G, self.D, self.d_adam, *self.how, reals, None, self.stage, Draws(), torch.float64)

    def g(self) -> Any:
        return train_g(self.G, self.D, self.g_adam, *self.how, 4, None, self.stage, Draws(), torch.float64)


def frozen(network: nn.Module, optimizer: Adam) -> list[Any]:
    """All that a step may change, copied."""
    parameters = list(network.parameters())
    moments = [dict(optimizer.state[p]) for p in parameters if p in optimizer.state]
    weights, trainable = [p.detach() for p in parameters], [p.requires_grad for p in parameters]
    return copy.deepcopy([weights, trainable, [p.grad for p in parameters], moments, optimizer.updates])


def same(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor):
        return isinstance(b, Tensor) and torch.equal(a, b)
    if isinstance(a, dict):
        a, b = list(a.values()), list(b.values())
    if isinstance(a, list):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)


def test_a_d_step_changes_d_and_leaves_g_alone() -> None:
    s = Stepper()
    s.g()  # so that G has gradients and moments to lose
    g, d = frozen(s.G, s.g_adam), frozen(s.D, s.d_adam)
    assert s.d()[1]
    assert same(g, frozen(s.G, s.g_adam))
    assert not same(d, frozen(s.D, s.d_adam))
    assert not any(same(p, old) for p, old in zip(s.D.parameters(), d[0], strict=True)), "in a fade all are in use"


def test_a_g_step_changes_g_and_leaves_d_alone() -> None:
    s = Stepper()
    s.d()
    g, d = frozen(s.G, s.g_adam), frozen(s.D, s.d_adam)
    assert s.g()[1]
    assert same(d, frozen(s.D, s.d_adam))
    assert not any(same(p, old) for p, old in zip(s.G.parameters(), g[0], strict=True))


def test_steps_go_downhill_at_their_own_learning_rates() -> None:
    """The first step of Adam with beta1 0 is the learning rate, wherever the gradient is not tiny."""
    for train_it, network, lr in (("d", "D", 0.002), ("g", "G", 0.001)):
        s = Stepper()
        before = {name: p.detach().clone() for name, p in getattr(s, network).named_parameters()}
        terms, _ = getattr(s, train_it)()
        loss = float(torch.stack(list(terms.values())).sum().detach())
        for name, p in getattr(s, network).named_parameters():
            assert float((p - before[name]).detach().abs().max()) == pytest.approx(lr, rel=1e-3)
            assert not (torch.sign(p - before[name]) * torch.sign(p.grad)).gt(0).any(), "against the gradient"
        after, _ = getattr(s, train_it)()
        assert float(torch.stack(list(after.values())).sum().detach()) < loss


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_gradient_that_is_not_finite_leaves_the_whole_update_out(bad: float) -> None:
    s = Stepper()
    s.d()
    weights, _, _, moments, updates = frozen(s.D, s.d_adam)
    reals = s.reals.clone()
    reals[0, 0, 0, 0] = bad
    assert not s.d(reals=reals)[1]
    after = frozen(s.D, s.d_adam)
    assert same([weights, moments, updates], [after[0], after[3], after[4]])
    assert s.d()[1], "and training goes on"


@pytest.mark.parametrize("betas", [(0.0, 0.99), (0.5, 0.999)])
def test_adam_is_tensorflows(betas: tuple[float, float]) -> None:
    """With gradients about as small as epsilon, where its place matters."""
    w = nn.Parameter(torch.zeros(6, dtype=torch.float64))
    adam = Adam([w], OptimizerConfig(*betas, adam_eps=1e-4))
    m = v = x = torch.zeros_like(w)
    for t in range(1, 8):
        w.grad = torch.randn(6, dtype=torch.float64) * torch.logspace(-6, 0, 6, dtype=torch.float64)
        m, v = betas[0] * m + (1 - betas[0]) * w.grad, betas[1] * v + (1 - betas[1]) * w.grad**2
        x = x - 0.01 * math.sqrt(1 - betas[1] ** t) / (1 - betas[0] ** t) * m / (v.sqrt() + 1e-4)
        adam.update(0.01)
        assert torch.allclose(w.detach(), x, rtol=1e-6)


def test_an_update_left_out_is_not_counted_and_the_next_ones_follow_tensorflow() -> None:
    """The bias correction of every update must see the number of those that were made, which only the device knows."""
    w, reference = (nn.Parameter(torch.zeros(3, dtype=torch.float64)) for _ in range(2))
    adam, clean = (Adam([p], OptimizerConfig(0.5, 0.9)) for p in (w, reference))
    for gradient in (1.0, math.nan, -2.0, math.inf, 0.5):
        w.grad = torch.full_like(w, gradient)
        assert bool(adam.update(0.01)) == math.isfinite(gradient)
        if math.isfinite(gradient):
            reference.grad = torch.full_like(w, gradient)
            clean.update(0.01)
        assert torch.equal(w, reference)
        assert adam.updates == clean.updates
    assert adam.updates == 3


def test_gradients_too_small_for_fp16_reach_the_weights_of_a_scaled_loss() -> None:
    """Of 1e-6·w·1e-3 the gradient is 1e-9; fp16 has nothing between 0 and 6e-8."""

    def after(scaled: bool, dtype: torch.dtype) -> Tensor:
        network = nn.Linear(1, 1, bias=False)
        nn.init.ones_(network.weight)
        adam = Adam(network.parameters(), OptimizerConfig(0.0, 0.99), scaled)
        for _ in range(3):
            inputs = torch.full((1, 1), 1e-3, dtype=dtype)
            adam.zero_grad()
            total({"only": 1e-6 * (inputs * network.weight.to(dtype)).float().sum()}, adam.scale).backward()
            assert adam.update(0.01)
        return network.weight.detach()

    exact = after(False, torch.float32)
    assert exact < 1
    assert torch.equal(after(False, torch.float16), torch.ones(1, 1))
    assert torch.allclose(after(True, torch.float16), exact, rtol=1e-5)
    assert torch.allclose(after(True, torch.float32), exact, rtol=1e-5)


def test_the_scale_of_a_loss_halves_where_an_update_is_left_out_and_rises_slowly_otherwise() -> None:
    """The authors' tfutil.Optimizer: log2 falls by 1, and rises by 0.0005."""
    w = nn.Parameter(torch.zeros(3))
    adam = Adam([w], OptimizerConfig(0.0, 0.99), scaled=True)
    for gradient, log_scale in ((1.0, 10.0005), (math.inf, 9.0005), (math.nan, 8.0005), (1.0, 8.001)):
        assert adam.scale is not None
        w.grad = adam.scale * gradient * torch.ones(3)
        assert bool(adam.update(0.01)) == math.isfinite(gradient)
        assert adam.log_scale == pytest.approx(log_scale, abs=1e-5)
    adam.reset()
    assert adam.log_scale == pytest.approx(8.001, abs=1e-5), "a new stage keeps it"
    assert Adam([w], OptimizerConfig()).scale is None


def test_the_average_moves_towards_g_by_one_minus_decay() -> None:
    ema, G = nn.Linear(2, 2), nn.Linear(2, 2)
    before, theirs = ema.weight.detach().clone(), G.weight.detach().clone()
    average(ema, G, 0.75)
    assert torch.allclose(ema.weight, 0.75 * before + 0.25 * theirs)
    assert torch.equal(G.weight, theirs)


# The order of the data


def dataset(count: int) -> Dataset:
    return Dataset(Path(), Manifest("counted", count, 1, (4,), None, (), "", {}, {}))


@pytest.mark.parametrize("count", [1, 7, 64])
def test_an_epoch_shows_each_image_once(count: int) -> None:
    data = dataset(count)
    epochs = [data.order(epoch * count, count, seed=3) for epoch in range(6)]
    assert all(sorted(order) == list(range(count)) for order in epochs)
    assert count < 8 or len({tuple(order) for order in epochs}) == 6, "another order each time"
    assert count < 8 or tuple(data.order(0, count, seed=4)) != tuple(epochs[0])


def test_the_order_does_not_depend_on_the_batches() -> None:
    data = dataset(10)
    whole = data.order(0, 40, seed=1)
    for size in (1, 3, 7, 25):
        parts = [data.order(start, size, seed=1) for start in range(0, 40, size)]
        assert (np.concatenate(parts)[:40] == whole).all()


def test_the_state_says_how_far_it_is(tmp_path: Path) -> None:
    """In plain JSON, for people."""
    state = run(tmp_path).state
    content = state.serialize()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    progress = json.loads(header["__metadata__"]["progress"])
    assert (progress["cur_nimg"], progress["stage"]) == (60, [8, "stable"])
    assert progress["updates"] == {"G": 5, "D": 5}
