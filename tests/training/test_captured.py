"""CUDA graphs, played on a CPU: operations are noted once, and repeated on the memory they had."""

import gc
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import progan
from progan.models import ImageShape
from progan.options import override
from progan.presets import preset
from progan.schedule import Stage
from progan.training.accelerate import cuda_graphs, traced
from progan.training.preflight import autotune, fit
from progan.training.setup import RunSetup
from progan.training.state import StateFolder, TrainingState
from steps import CPU

TINY: dict[str, Any] = {
    "data": "avatars:32", "resolution": 8, "start_resolution": 4, "stable_kimg": 0.04, "fade_kimg": 0.04,
    "batch_size": "4:8,8:4", "tick_kimg": 0.04, "fmap_max": 8, "z_dim": 8, "device": "cpu", "precision": "fp32",
    "compile": "off", "quiet": True,
    "loss": "wgan-gp",
}  # fmt: skip


class Tape(TorchDispatchMode):
    """What a CUDA graph is: operations with the addresses of their operands, deaf to all that Python does later."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Any] = []
        self.replays = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.calls.append((func, args, kwargs or {}, out))
        return out

    def replay(self) -> None:
        self.replays += 1
        for func, args, kwargs, out in self.calls:
            for old, new in zip(tree_leaves(out), tree_leaves(func(*args, **kwargs)), strict=True):
                if isinstance(old, torch.Tensor) and old.data_ptr() != new.data_ptr():
                    old.copy_(new)


@contextmanager
def noting(graph: Tape, pool: object, capture_error_mode: str) -> Iterator[None]:
    with graph:
        yield


@pytest.fixture
def tapes(monkeypatch: pytest.MonkeyPatch) -> list[Tape]:
    """All graphs that are made, on a CPU that has them."""
    made: list[Tape] = []

    def make() -> Tape:
        made.append(Tape())
        return made[-1]

    monkeypatch.setattr(torch.cuda, "CUDAGraph", make)
    monkeypatch.setattr(torch.cuda, "graph", noting)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", object)
    monkeypatch.setattr(traced, "has_graphs", lambda device: True)
    return made


def final(run: progan.Run) -> dict[str, torch.Tensor]:
    return progan.load(run.path).G.state_dict() | {"images": torch.tensor(run.cur_nimg)}


def equal(a: progan.Run, b: progan.Run) -> bool:
    first, second = final(a), final(b)
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(
    "options",
    [
        {"labels": True, "d_steps": 2, "mirror": True},
        pytest.param({}, marks=pytest.mark.slow),
        pytest.param({"loss": "lsgan"}, marks=pytest.mark.slow),
    ],
)
@pytest.mark.slow
def test_a_run_of_graphs_ends_in_the_bits_of_one_without(
    options: dict[str, Any], tapes: list[Tape], tmp_path: Path
) -> None:
    graphs = progan.train(out=tmp_path / "graphs", **{**TINY, **options})
    assert len(tapes) == 3 * 2, "D's and G's of each stage"
    assert all(tape.replays > 2 for tape in tapes)
    launched = progan.train(out=tmp_path / "launched", **{**TINY, **options}, cuda_graphs=False)
    assert len(tapes) == 3 * 2
    assert equal(graphs, launched)


@pytest.mark.slow
def test_a_step_is_gone_when_the_next_is_made(
    tapes: list[Tape], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each keeps the memory of a whole iteration."""
    original, before = traced.Traced.__init__, list[weakref.ref[Any]]()

    def made(self: traced.Traced, setup: RunSetup, state: TrainingState, *rest: Any) -> None:
        assert not any(step() for step in before)
        assert all(p.grad is None for network in (state.G, state.D) for p in network.parameters())
        before.append(weakref.ref(self))
        original(self, setup, state, *rest)

    monkeypatch.setattr(traced.Traced, "__init__", made)
    gc.disable()
    try:
        progan.train(out=tmp_path / "run", **TINY)
    finally:
        gc.enable()
    assert len(before) == 3


@pytest.mark.slow
def test_a_run_may_go_on_with_graphs_or_without(tapes: list[Tape], tmp_path: Path) -> None:
    whole = progan.train(out=tmp_path / "whole", **TINY, cuda_graphs=False)
    half = progan.train(out=tmp_path / "run", **TINY, cuda_graphs=False, total_kimg=0.06)
    assert half.cur_nimg < whole.cur_nimg
    rest = progan.train(out=tmp_path / "run", allow_change=True, quiet=True, cuda_graphs=True, total_kimg=None)
    assert tapes
    assert equal(whole, rest)


@pytest.mark.slow
def test_a_graph_of_other_numbers_is_not_used(
    tapes: list[Tape], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Tape, "replay", lambda self: self.calls[-1][-1].add_(1))
        wrong = progan.train(out=tmp_path / "wrong", **{**TINY, "quiet": False})
    assert (
        capsys.readouterr().err.count(
            "without CUDA graphs, perhaps slower (its results differ from those of the function)"
        )
        == 1
    )
    assert len(tapes) == 2, "and they are not tried again"
    assert equal(wrong, progan.train(out=tmp_path / "right", **TINY))


@pytest.mark.slow
def test_what_cannot_be_captured_is_launched(
    tapes: list[Tape], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("operation not permitted when stream is capturing\nand more")

    monkeypatch.setattr(torch.cuda, "graph", broken)
    assert progan.train(out=tmp_path / "run", **{**TINY, "quiet": False}).finished
    reason = "(RuntimeError: operation not permitted when stream is capturing)"
    assert capsys.readouterr().err.count(f"warning: training goes on without CUDA graphs, perhaps slower {reason}") == 1


def test_what_cannot_be_traced_is_trained_as_ever(
    tapes: list[Tape], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = []

    def broken(*_: Any) -> Any:
        calls.append(1)
        raise RuntimeError("no such operation")

    monkeypatch.setattr(traced, "_compile", broken)
    run = progan.train(out=tmp_path / "run", **{**TINY, "quiet": False})
    assert run.finished
    assert len(calls) == 3, "once a stage"
    assert capsys.readouterr().err.count("goes on eager (RuntimeError: no such operation)") == 3
    numerics = StateFolder(run.folder.state).numerics()
    assert numerics is not None
    assert numerics.compiled == ()


def test_that_memory_ran_out_is_said(tapes: list[Tape], monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    def double(x: torch.Tensor) -> list[torch.Tensor]:
        return [2 * x]

    monkeypatch.setattr(torch.cuda, "graph", full)
    with pytest.raises(torch.OutOfMemoryError):
        cuda_graphs.captured([(double, [torch.ones(2)])])


def test_arguments_may_lie_anywhere(tapes: list[Tape]) -> None:
    def scaled(weights: list[torch.Tensor], x: torch.Tensor, rest: list[torch.Tensor | None]) -> list[torch.Tensor]:
        return [weights[0] * x if rest[0] is None else weights[0] * x + rest[0]]

    weight, example = torch.tensor([1.0, 2.0]), torch.tensor([5.0, 7.0])
    (graph,) = cuda_graphs.captured([(scaled, [[weight], example, [None]])])
    assert graph([weight], torch.tensor([1.0, 10.0]), [None])[0].tolist() == [1.0, 20.0]
    weight += 1  # in place, as an optimiser does it
    assert graph([weight], torch.tensor([1.0, 10.0]), [None])[0].tolist() == [2.0, 30.0]
    assert graph([torch.tensor([4.0, 4.0])], torch.ones(2), [None])[0].tolist() == [4.0, 4.0]


@pytest.mark.slow
def test_memory_and_precisions_are_tried_with_graphs(tapes: list[Tape]) -> None:
    config = override(preset("quickstart-paper"), {"resolution": 8, "fmap_max": 8})
    setup = RunSetup(config, ImageShape(8, 3), CPU)
    fit.train_a_little(setup, 8, 4, 0)
    assert [tape.replays for tape in tapes] == [1 + 2] * 2, "once to be compared, twice to train"
    other = replace(setup.numerics, precision="bf16")
    evidence = autotune.measure_gain(setup, other, Stage(8, "stable", 1.0, 4, 0.001, 0.001))
    assert [tape.replays for tape in tapes[2:]] == [1 + 1 + evidence.rounds] * 4, "once to be warm"
