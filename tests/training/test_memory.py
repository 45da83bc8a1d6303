"""Memory: what there is, what a stage takes, what is said before the first step, and what happens where it runs out."""

import gc
import json
import multiprocessing
import tracemalloc
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import progan
from progan import cli
from progan.config import RunConfig
from progan.devices import free_bytes, is_out_of_memory
from progan.errors import MemoryShortError
from progan.models import ImageShape
from progan.options import override
from progan.run.assemble import configure
from progan.training import loop, state
from progan.training.numerics import Numerics
from progan.training.observers.base import Observer
from progan.training.observers.run_files import read_stats
from progan.training.preflight import fit, memory
from progan.training.setup import RunSetup
from progan.training.state import StateFolder
from progan.training.step import Step
from steps import CPU
from tiny import assert_equal_weights

pytestmark = pytest.mark.usefixtures("own_cache", "traced_once")

TINY = {
    "data": "avatars:64", "resolution": 8, "stable_kimg": 0.2, "fade_kimg": 0.2, "batch_size": "4:16,8:8",
    "tick_kimg": 0.08, "fmap_max": 4, "z_dim": 4, "device": "cpu", "precision": "fp32", "workers": 0, "quiet": True,
    "loss": "wgan-gp",
}  # fmt: skip
TINY_OPTIONS = {name: value for name, value in TINY.items() if name != "quiet"}
GPU = Numerics("cuda:0", "fp32", 1, torch.__version__)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that never lacked memory."""
    return progan.train(out=tmp_path_factory.mktemp("whole") / "run", **TINY)


# What there is


def test_free_memory_is_the_least_that_machine_and_groups_leave(tmp_path):
    def put(path, text):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)

    cpu = torch.device("cpu")
    put("proc/meminfo", "MemTotal: 16000 kB\nMemAvailable:    8000 kB\n")
    assert free_bytes(cpu, tmp_path) == 8000 * 1024
    put("proc/self/cgroup", "4:cpu,memory:/job/7\n0::/inner\n")
    put("sys/fs/cgroup/memory/job/7/memory.limit_in_bytes", "9223372036854771712")  # how version 1 says "none"
    put("sys/fs/cgroup/memory/job/7/memory.usage_in_bytes", "1000000")
    put("sys/fs/cgroup/memory/job/7/memory.stat", "cache 5\ntotal_inactive_file 0\n")
    assert free_bytes(cpu, tmp_path) == 8000 * 1024
    put("sys/fs/cgroup/memory/job/memory.limit_in_bytes", "6000000")  # of the group around it
    put("sys/fs/cgroup/memory/job/memory.usage_in_bytes", "4000000")
    put("sys/fs/cgroup/memory/job/memory.stat", "total_inactive_file 500000\n")
    assert free_bytes(cpu, tmp_path) == 2500000
    put("sys/fs/cgroup/inner/memory.max", "2000000")
    put("sys/fs/cgroup/inner/memory.current", "1500000")
    put("sys/fs/cgroup/inner/memory.stat", "inactive_file 100000\n")
    assert free_bytes(cpu, tmp_path) == 600000
    put("sys/fs/cgroup/inner/memory.max", "max")
    assert free_bytes(cpu, tmp_path) == 2500000


def test_running_out_is_recognised_whoever_says_it():
    for fails in (
        lambda: torch.empty(2**60),
        lambda: bytearray(2**60),
        lambda: (_ for _ in ()).throw(torch.OutOfMemoryError),
    ):
        with pytest.raises((RuntimeError, MemoryError)) as error:
            list(fails())
        assert is_out_of_memory(error.value)
    for words in (
        "MPS backend out of memory (MPS allocated: 9 GB)",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "GET was unable to find an engine to execute this computation",
        "Unable to find a valid cuDNN algorithm to run convolution",
    ):
        assert is_out_of_memory(RuntimeError(words))
    assert not is_out_of_memory(RuntimeError("shape mismatch"))
    assert not is_out_of_memory(ValueError("out of memory"))


# What a stage takes


def test_storages_are_counted_while_they_live():
    with memory.LiveBytes() as live:
        a = torch.zeros(1000, device="meta")  # 4000
        b = a + 1  # 8000
        view = b.view(10, 100)
        del b
        assert live.now == 8000, "the view keeps it"
        del view
        assert live.now == 4000
        a.add_(1)
        c = torch.zeros(500, dtype=torch.bfloat16, device="meta")
        assert (live.now, live.peak) == (5000, 8000)
        del a, c
    assert (live.now, live.peak) == (0, 8000)


def test_the_estimate_grows_evenly_with_the_batch_and_counts_the_weights():
    setup = RunSetup(override(RunConfig(), {"resolution": 32, "fmap_max": 64}), ImageShape(32, 3), CPU)
    at = [memory.estimate(setup, 32, batch) for batch in (64, 128, 192)]
    assert at[2] - at[1] == pytest.approx(at[1] - at[0], rel=1e-3)
    # D's step alone keeps reals, fakes and the penalty's mixture at 32x32 and 64 maps, and two gradients of each.
    assert at[1] - at[0] > 64 * 64 * 32 * 32 * 4 * 6
    half = memory.estimate(replace(setup, numerics=replace(CPU, precision="bf16")), 32, 128)
    assert 0.4 < (half - memory.PROCESS) / (at[1] - memory.PROCESS) < 0.75
    wide = RunSetup(override(setup.config, {"fmap_max": 512, "resolution": 4}), ImageShape(4, 3), CPU)
    g, d = 512 * 512 * 16 + 512 * 512 * 9 + 3 * 512, 512 * 512 * 9 + 513 * 0 + 512 * 512 * 16 + 4 * 512
    assert memory.estimate(wide, 4, 1) > 4 * (4 * g + 3 * d) * 2


# Before the first step


def capacity(pixels):
    """A device on which batches of so many pixels fit."""

    def attempt(setup, resolution, batch, held):
        if batch * resolution**2 + held > pixels:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")

    return attempt


def on_fake_gpu(config, pixels, auto, held=0, start=0, seen=None):
    attempt = capacity(pixels)

    def watched(setup, resolution, batch, held):
        if seen is not None:
            seen.append((resolution, batch))
        attempt(setup, resolution, batch, held)

    setup = RunSetup(config, ImageShape(64, 3), GPU)
    return fit.check(setup, fit.tried(setup, lambda resolution: held, attempt=watched), auto, start)


@pytest.fixture
def config(monkeypatch):
    monkeypatch.setattr(fit, "release", lambda device: None)  # nothing was taken
    return override(
        RunConfig(), {"resolution": 64, "batch_size": "4:128,16:64,64:30", "stable_kimg": 1, "fade_kimg": 1}
    )


def test_every_stage_is_tried_largest_first(config):
    seen = []
    assert on_fake_gpu(config, 10**9, False, seen=seen) == config
    assert seen == [(32, 64), (64, 30), (16, 64), (8, 128), (4, 128)]


def test_what_does_not_fit_is_said_with_the_batch_that_does(config):
    with pytest.raises(MemoryShortError) as error:
        on_fake_gpu(config, 50_000, False)
    # 50,000 pixels: 48 of 32x32 (12 groups of 4), 12 of 64x64.
    assert str(error.value) == (
        "the memory of cuda:0 is too small for a batch of 64 at 32x32, 30 at 64x64. This would fit: "
        "--batch-size 4:128,16:64,32:48,64:12 (and --batch-size auto finds it)"
    )


def test_auto_takes_the_batch_that_fits_and_leaves_the_others(config):
    found = on_fake_gpu(config, 50_000, True)
    assert str(found.schedule.batch_size) == "4:128,16:64,32:48,64:12"
    assert on_fake_gpu(found, 50_000, False) == found
    assert str(on_fake_gpu(config, 3 * 64**2, True).schedule.batch_size) == "4:128,16:48,32:12,64:3", "not whole groups"
    assert str(on_fake_gpu(config, 50_000, True, held=20_000).schedule.batch_size) == "4:128,16:64,32:28,64:4"


def test_what_fits_with_no_batch_says_so(config):
    with pytest.raises(MemoryShortError, match="64x64 does not fit into the memory of cuda:0 with any batch"):
        on_fake_gpu(config, 64**2 - 1, True)


def test_a_continued_run_asks_for_the_stages_ahead_only(config):
    seen = []
    on_fake_gpu(config, 10**9, False, start=7500, seen=seen)  # in the fade to 64
    assert seen == [(64, 30)]


def test_other_errors_of_a_trial_are_not_taken_for_a_lack_of_memory(config):
    def broken(*_):
        raise RuntimeError("CUDA error: misaligned address")

    setup = RunSetup(config, ImageShape(64, 3), GPU)
    with pytest.raises(RuntimeError, match="misaligned"):
        fit.check(setup, fit.tried(setup, lambda r: 0, attempt=broken), False)


@pytest.mark.slow
def test_a_trial_leaves_no_trace(whole, tmp_path, monkeypatch):
    calls = []

    def ensure(setup, level_bytes, auto, start):
        before = torch.get_rng_state()
        fits = fit.tried(setup, level_bytes)
        calls.extend(fits(r, b) for r, b in fit.largest_first(setup, start))
        assert torch.equal(torch.get_rng_state(), before)
        return setup.config

    monkeypatch.setattr(fit, "ensure", ensure)
    progan.train(out=tmp_path / "run", **TINY)
    assert calls == [True, True]
    assert_equal_weights(whole.path, tmp_path / "run")


def test_on_a_cpu_the_estimate_refuses_warns_or_says_nothing(tmp_path, monkeypatch, capsys):
    said = []
    setup = RunSetup(configure(None, None, None, TINY_OPTIONS), ImageShape(8, 3), CPU, log=said.append)
    need = memory.estimate(setup, 8, 8)

    def ensure(free):
        monkeypatch.setattr(fit, "free_bytes", lambda device: free)
        fit.ensure(setup, lambda resolution: 0, False, 0)

    ensure(2 * need)
    ensure(None)
    assert said == []
    ensure(int(1.1 * need))
    assert len(said) == 1
    assert said[0].startswith("warning: perhaps ")
    with pytest.raises(MemoryShortError, match="does not fit into the memory of cpu with any batch"):
        ensure(need // 4)
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in TINY_OPTIONS.items()]
    assert cli.main(["train", *flags, "--out", str(tmp_path / "run")]) == 4
    assert "does not fit" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_auto_is_resolved_before_anything_is_written_and_obeyed_afterwards(tmp_path, monkeypatch):
    options = {**TINY, "batch_size": "auto", "preset": "quickstart", "total_kimg": 0.3}
    with monkeypatch.context() as patch:
        patch.setattr(fit, "estimated", lambda *_: lambda resolution, batch: batch * resolution <= 64)
        run = progan.train(out=tmp_path / "run", **options)
    saved = json.loads((run.path / "config.json").read_text())["config"]["schedule"]["batch_size"]
    assert saved == {"4": 16, "8": 8}
    assert {(line["resolution"], line["batch_size"]) for line in read_stats(run.folder.stats)} == {(4, 16), (8, 8)}
    for again in (options, {"quiet": True}, {"quiet": True, "batch_size": "auto"}):
        assert progan.train(out=run.path, **again).finished


@pytest.mark.slow
def test_the_plan_says_what_does_not_fit(monkeypatch, capsys):
    monkeypatch.setattr(fit, "free_bytes", lambda device: 200 * 2**20)
    flags = ["--resolution=32", "--fmap-max=64", "--batch-size=4:16,32:256", "--device=cpu", "--precision=fp32"]
    assert cli.main(["train", "--dry-run", *flags]) == 0
    out = capsys.readouterr().out
    assert "the memory of cpu is too small for a batch of 256 at 32x32. This would fit: --batch-size 4:16,32:" in out
    assert cli.main(["train", "--dry-run", *flags[:2], "--batch-size=auto", *flags[3:]]) == 0
    assert "too small" not in capsys.readouterr().out


# Where it runs out


def run_out(monkeypatch, step, when):
    """Let a step of training fail like a GPU that is full, where `when` says so of its stage."""
    original = getattr(Step, step)

    def failing(self, *arguments):
        if when(self.stage):
            raise torch.OutOfMemoryError("CUDA out of memory")
        return original(self, *arguments)

    monkeypatch.setattr(Step, step, failing)


def test_out_of_memory_at_a_new_stage_loses_nothing(whole, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(state, "WRITING_SHARE", 0)  # no state but those that must be
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in TINY_OPTIONS.items()]
    with monkeypatch.context() as patch:
        run_out(patch, "d", lambda stage: stage.resolution == 8)
        assert cli.main(["train", *flags, "--quiet", "--out", str(tmp_path / "run")]) == 4
    err = capsys.readouterr().err.strip()
    assert err == (
        "progan: out of memory at 8x8 with a batch of 8; 4 would fit: --batch-size 4:16,8:4. All up to 0.208 kimg is "
        f"saved: where more is free, progan train --out {tmp_path / 'run'} goes on"
    )
    assert StateFolder(tmp_path / "run" / "state").positions()[-1] == 208
    progan.train(out=tmp_path / "run", quiet=True)
    assert_equal_weights(whole.path, tmp_path / "run")


def test_out_of_memory_within_an_iteration_leaves_the_state_from_before(whole, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        run_out(patch, "g", lambda stage: stage.resolution == 8 and stage.alpha > 0.5)
        with pytest.raises(MemoryShortError, match=r"All up to 0\.\d+ kimg is saved"):
            progan.train(out=tmp_path / "run", **TINY)
    assert StateFolder(tmp_path / "run" / "state").positions()[-1] < 310, "D of 312 … 320 was updated, G was not"
    progan.train(out=tmp_path / "run", quiet=True)
    assert_equal_weights(whole.path, tmp_path / "run")


# Day three


class Growth(Observer):
    """Objects alive, and bytes that Python allocated since the first tick, at every tick."""

    def __init__(self):
        self.objects, self.bytes = [], []

    def on_tick(self, tick, state):
        gc.collect()
        tracemalloc.start()  # not before: building a step takes minutes where every allocation is recorded
        self.objects.append(len(gc.get_objects()))
        self.bytes.append(tracemalloc.get_traced_memory()[0])


def growth_of(run: Path) -> tuple[list[int], list[int]]:
    """Train, and return objects and bytes at every tick."""
    growth, original = Growth(), loop.train
    options = {
        **TINY, "start_resolution": 16, "resolution": 16, "stable_kimg": 0.544, "batch_size": 8, "tick_kimg": 0.016,
        "snapshot_kimg": 0.1, "metrics_kimg": 0.2, "metrics_num": 16, "quiet": False, "workers": 1,
    }  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("progan.run.train_job", lambda job, seen, *rest: original(job, [*seen, growth], *rest))
        progan.train(out=run, **options)
    return growth.objects, growth.bytes


@pytest.mark.long
def test_a_long_run_does_not_grow(tmp_path):
    # In a process of its own: what other tests left in caches would be counted where it is replaced.
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        objects, counted = pool.submit(growth_of, tmp_path / "run").result()
    assert len(objects) == 34
    half, end = slice(14, 18), slice(30, 34)
    assert min(objects[end]) - min(objects[half]) < 8, "objects over 16 ticks"
    # Less than a third of the pixels that 16 ticks go through; what is kept for later still settles by some 20,000.
    assert min(counted[end]) - min(counted[half]) < 60_000, "bytes over 16 ticks"
