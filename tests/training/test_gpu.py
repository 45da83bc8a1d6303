"""What only a GPU can show; skipped where there is none.

    pytest tests/training/test_gpu.py -n0

Needs about 2 GB of its memory.
"""

import math
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from test_numerics import check, errors

import progan
from progan import cli
from progan.config import PrepareConfig, RunConfig, RuntimeConfig
from progan.data.dataset import Dataset
from progan.data.prepare import prepare
from progan.models import ImageShape
from progan.options import override
from progan.presets import preset
from progan.run.assemble import image_shape
from progan.schedule import Stage
from progan.tensorfile import from_bytes
from progan.training import loop
from progan.training.accelerate.cuda_graphs import captured
from progan.training.accelerate.traced import Executors, launched
from progan.training.feed import Feed, Request
from progan.training.loop import iterate
from progan.training.meter import Meter
from progan.training.numerics import DTYPES, Numerics, choose, find_device
from progan.training.observers.run_files import read_stats
from progan.training.preflight import fit
from progan.training.setup import RunSetup
from progan.training.state import TrainingState
from progan.training.step import Step
from steps import CPU, traced_step

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"),
    pytest.mark.usefixtures("own_cache"),
]
DEVICE = torch.device("cuda", 0)
MODES = [(precision, how) for how in ("off", "on") for precision in ("fp32", "tf32", "bf16", "fp16")]
"""Precision, and whether steps are compiled."""
TINY = {
    "data": "avatars:64", "resolution": 8, "stable_kimg": 0.2, "fade_kimg": 0.2, "batch_size": "4:16,8:8",
    "loss": "wgan-gp", "tick_kimg": 0.08, "fmap_max": 8, "z_dim": 8, "device": "cuda", "quiet": True,
}  # fmt: skip


@pytest.fixture(autouse=True)
def switches() -> None:
    """PyTorch's for fp32, as a run sets them."""
    choose(RuntimeConfig(device=str(DEVICE), precision="fp32"))


def final(run: Path) -> dict[str, torch.Tensor]:
    """The tensors of the newest state."""
    return from_bytes(max((run / "state").iterdir()).read_bytes())[1]


# The numbers


@pytest.mark.parametrize("alpha", [0.3, 1.0])
@pytest.mark.parametrize("batch", [3, 8, 16])
@pytest.mark.parametrize("resolution", [4, 16, 64])
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_gradients_are_near_those_in_float64_on_a_cpu(
    precision: str, resolution: int, batch: int, alpha: float
) -> None:
    dtype = DTYPES[precision]
    check(errors(resolution, batch, alpha, dtype, device=str(DEVICE)), batch, dtype)


@pytest.mark.parametrize("finish", [launched, captured])
@pytest.mark.parametrize("kernels", [False, True])
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_gradients_of_compiled_and_captured_steps_are_too(precision: str, kernels: bool, finish: Any) -> None:
    dtype = DTYPES[precision]
    build = partial(traced_step, kernels=kernels, finish=finish)
    check(errors(16, 8, 0.3, dtype, build=build, device=str(DEVICE)), 8, dtype)


def test_tf32_rounds_and_fp32_does_not() -> None:
    exact = errors(16, 8, 1.0, torch.float32, device=str(DEVICE))
    choose(RuntimeConfig(device=str(DEVICE), precision="tf32"))
    rounded = errors(16, 8, 1.0, torch.float32, device=str(DEVICE))
    assert all(10 * a < b < 0.05 for a, b in zip(exact, rounded, strict=True))


def test_a_generator_draws_the_same_pictures_as_on_a_cpu(tmp_path: Path) -> None:
    run = progan.train(out=tmp_path / "run", **TINY, precision="fp32", total_kimg=0.3)
    there, here = (progan.load(run.path).to(find_device(device)) for device in (str(DEVICE), "cpu"))
    pixels = [progan.to_pixels(each.generate(each.latents(range(16)))).cpu().int() for each in (there, here)]
    assert (pixels[0] - pixels[1]).abs().max() <= 1


# The promise of exactness


@pytest.mark.parametrize(("precision", "compile"), MODES)
def test_a_run_stopped_and_continued_ends_in_the_bits_of_an_uninterrupted_one(
    precision: str, compile: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {**TINY, "precision": precision, "compile": compile}
    progan.train(out=tmp_path / "whole", **options)  # and what follows goes on in a process of its own
    stops = iter([False] * 20 + [True])
    with monkeypatch.context() as patch:
        train = loop.train
        patch.setattr("progan.run.train_job", lambda job, watching, *_: train(job, watching, lambda: next(stops, True)))
        assert not progan.train(out=tmp_path / "run", **options).finished
    subprocess.run([sys.executable, "-m", "progan", "train", "--out", str(tmp_path / "run"), "--quiet"], check=True)
    whole, continued = final(tmp_path / "whole"), final(tmp_path / "run")
    assert whole.keys() == continued.keys()
    assert [name for name in whole if not torch.equal(whole[name], continued[name])] == []
    assert all(math.isfinite(line["D/penalty"]) for line in read_stats(tmp_path / "whole" / "stats.jsonl"))


@pytest.mark.parametrize("compile", ["off", "on"])
def test_graphs_change_no_bit(compile: str, tmp_path: Path) -> None:
    options: dict[str, Any] = {**TINY, "precision": "bf16", "compile": compile}
    runs = [progan.train(out=tmp_path / str(graphs), **options, cuda_graphs=graphs) for graphs in (True, False)]
    graphs, launched = (final(run.path) for run in runs)
    assert [name for name in graphs if not torch.equal(graphs[name], launched[name])] == []


# Nothing waits


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("data")
    prepare("avatars:64", folder / "data", PrepareConfig(resolution=16, workers=1))
    return Dataset.open(folder / "data")


@pytest.mark.parametrize("labels", [False, True])
@pytest.mark.parametrize("how", ["eager", "launched", "off", "on"])
@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16", "fp16"])
def test_an_iteration_does_not_wait_for_the_gpu(
    precision: str, how: str, labels: bool, dataset: Dataset, tmp_path: Path
) -> None:
    config = override(preset("quickstart-paper"), {"resolution": 16, "fmap_max": 8, "labels": labels, "mirror": True})
    numerics = choose(RuntimeConfig(device=str(DEVICE), precision=precision))
    shape, stage = image_shape(config, dataset), Stage(16, "fade", 0.5, 4, 0.001, 0.001)
    said: list[str] = []
    config = override(config, {"cuda_graphs": how != "launched", "workers": 0})
    numerics = replace(numerics, compiled=(16,) if how == "on" else ())
    setup = RunSetup(config, shape, numerics, log=said.append, label_kind="attributes")
    state, feed = TrainingState.new(setup), Feed(setup, dataset)
    step = Step(setup, state, stage, None if how == "eager" else Executors(setup, state).of(stage))
    assert not [line for line in said if "warning" in line]
    batches, meter = feed.stream(Request(16, 4 * i, 4) for i in range(8)), Meter(state.tally, DEVICE)
    iterate(step, batches, feed.random_labels, 0, meter)  # the first chooses kernels, and uploads the images
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for i in range(1, 4):
            iterate(step, batches, feed.random_labels, 4 * i, meter)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    state.settle()
    assert state.skipped == {"D": 0, "G": 0}


def test_images_that_fit_lie_on_the_gpu_and_are_the_same(dataset: Dataset) -> None:
    requests = [Request(16, 8 * i, 8) for i in range(4)]
    config, shape = override(RunConfig(), {"labels": True}), ImageShape(16, 3)
    setups = (RunSetup(config, shape, replace(CPU, device=str(device))) for device in (DEVICE, "cpu"))
    there, here = (list(Feed(setup, dataset).stream(requests)) for setup in setups)
    for a, b in zip(there, here, strict=True):
        assert a.pixels.device == DEVICE
        assert torch.equal(a.pixels.cpu(), b.pixels)
        assert a.labels is not None
        assert b.labels is not None
        assert torch.equal(a.labels.cpu(), b.labels)


# Memory


LARGE: dict[str, Any] = {
    "data": "avatars:64", "resolution": 64, "stable_kimg": 0.1, "fade_kimg": 0.1, "fmap_max": 64, "z_dim": 64,
    "batch_size": "4:16,64:512", "device": "cuda", "precision": "fp32", "compile": "off", "quiet": True,
}  # fmt: skip


@pytest.fixture
def limited(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[float], None]]:
    """Leaves the process so many GB of the GPU."""
    ballast = 64 * 2**20 / torch.cuda.mem_get_info(DEVICE)[0]  # of what the whole card has free
    monkeypatch.setattr(fit, "BALLAST", ballast)

    def leave(gigabytes: float) -> None:
        torch.cuda.empty_cache()
        torch.cuda.set_per_process_memory_fraction(
            gigabytes * 2**30 / torch.cuda.get_device_properties(DEVICE).total_memory
        )

    yield leave
    torch.cuda.set_per_process_memory_fraction(1.0)


def test_a_batch_that_does_not_fit_is_refused_with_one_that_does_and_auto_finds_it(
    limited: Callable[[float], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    limited(1.0)
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in LARGE.items() if name != "quiet"]
    assert cli.main(["train", *flags, "--out", str(tmp_path / "refused")]) == 4
    said = capsys.readouterr().err
    assert "the memory of cuda:0 is too small for a batch of 512 at 64x64" in said
    assert not (tmp_path / "refused").exists()
    advice = said.split("--batch-size ")[1].split()[0]
    progan.train(out=tmp_path / "advised", **{**LARGE, "batch_size": advice, "total_kimg": 0.8})
    found = fitting_batch(tmp_path / "advised")
    assert 4 <= found < 512
    larger = advice.rsplit(":", 1)[0] + f":{2 * found}"
    with pytest.raises(progan.ProganError, match="too small"):
        progan.train(out=tmp_path / "larger", **{**LARGE, "batch_size": larger})


def fitting_batch(run: Path) -> int:
    """Of the last stage."""
    found: int = read_stats(run / "stats.jsonl")[-1]["batch_size"]
    return found


def test_running_out_in_training_loses_nothing_and_says_what_would_fit(
    limited: Callable[[float], None],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fit, "ensure", lambda setup, *_: setup.config)  # as if another process had taken memory later
    limited(1.0)
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in LARGE.items() if name != "quiet"]
    assert cli.main(["train", *flags, "--out", str(tmp_path / "run")]) == 4
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith("progan: out of memory at 64x64 with a batch of 512; ")
    assert " would fit: --batch-size 4:16,64:" in said
    assert len(list((tmp_path / "run" / "state").iterdir())) >= 1


def test_a_trial_takes_no_memory_with_it(limited: Callable[[float], None]) -> None:
    limited(2.0)
    config = override(preset("quickstart-paper"), {"resolution": 64, "fmap_max": 64})
    setup = RunSetup(config, ImageShape(64, 3), Numerics(str(DEVICE), "bf16", 1, torch.__version__))
    fits = fit.tried(setup, lambda resolution: 0)
    assert fits(64, 16)  # cuBLAS keeps what it has taken
    before = torch.cuda.memory_reserved(DEVICE)
    assert fits(64, 16)
    assert not fits(64, 4096)
    assert torch.cuda.memory_reserved(DEVICE) <= before + 2**21
