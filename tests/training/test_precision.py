"""Which precision a device gets, and that memory is asked for in the precision that a run has."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import progan
from progan.config import RunConfig, RuntimeConfig
from progan.errors import DeviceError
from progan.models import ImageShape
from progan.options import override
from progan.training import numerics
from progan.training.numerics import choose
from progan.training.preflight import autotune, fit
from progan.training.preflight.trials import Evidence
from progan.training.setup import RunSetup
from steps import CPU

pytestmark = pytest.mark.usefixtures("traced_once")

GPU = torch.device("cuda", 0)
SHAPE = ImageShape(64, 3)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes the machine one with a GPU of that capability."""

    def have(*capability: int) -> None:
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
        monkeypatch.setattr(numerics, "find_device", lambda name: GPU)

    return have


def switched() -> list[bool]:
    """TF32 in products and in convolutions; convolutions that give the same bits again, chosen by no clock."""
    cudnn = torch.backends.cudnn
    return [torch.backends.cuda.matmul.allow_tf32, cudnn.allow_tf32, cudnn.deterministic, not cudnn.benchmark]


@pytest.mark.parametrize(
    ("capability", "found"), [((9, 0), "bf16"), ((8, 0), "bf16"), ((7, 5), "fp16"), ((7, 0), "fp16"), ((6, 1), "fp32")]
)
def test_a_gpu_gets_the_16_bits_it_has_units_for(gpu: Any, capability: tuple[int, int], found: str) -> None:
    gpu(*capability)
    assert choose(RuntimeConfig()).precision == found
    assert choose(RuntimeConfig(precision="fp32")).precision == "fp32"


def test_tf32_is_used_where_it_was_asked_for_and_nowhere_else(gpu: Any) -> None:
    gpu(8, 6)
    numerics = choose(RuntimeConfig(precision="tf32"))
    assert (numerics.precision, numerics.dtype, numerics.scaled) == ("tf32", torch.float32, False)
    assert switched()[:2] == [True, True]
    choose(RuntimeConfig(precision="fp32"))
    assert switched()[:2] == [False, False]
    gpu(7, 5)
    with pytest.raises(DeviceError, match="--precision tf32 needs an NVIDIA GPU of compute capability 8"):
        choose(RuntimeConfig(precision="tf32"))


def test_whatever_looks_for_a_device_gets_exact_convolutions_that_give_the_same_bits_again() -> None:
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.deterministic = False
    torch.autograd.set_multithreading_enabled(True)
    assert numerics.find_device("cpu") == torch.device("cpu")
    assert switched() == [False, False, True, True]
    assert not torch.autograd.is_multithreading_enabled(), "its order of sums would depend on what was done before"


def test_a_cpu_has_no_tf32() -> None:
    with pytest.raises(DeviceError, match="cpu has fp32"):
        choose(RuntimeConfig(precision="tf32", device="cpu"))


def test_the_trial_of_a_gpu_is_larger_than_that_of_a_cpu() -> None:
    config = override(RunConfig(), {"resolution": 256, "batch_size": "4:16,256:2"})
    on_gpu = replace(CPU, device="cuda:0")
    assert autotune.trial_stage(RunSetup(config, SHAPE, CPU)).resolution == 16
    assert autotune.trial_stage(RunSetup(config, SHAPE, on_gpu)).resolution == 128
    assert autotune.trial_stage(RunSetup(override(config, {"resolution": 64}), SHAPE, on_gpu)).resolution == 64


def evidence(gain: float) -> Evidence:
    """Evidence of a trial that left no doubt."""
    return Evidence(gain, gain, gain, 6, sure=True)


@pytest.fixture
def tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Decides for a configuration on a CPU with units for bf16, where a trial does as it is told; its precision."""
    monkeypatch.setenv("PROGAN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(autotune, "sixteen_bits", lambda device: "bf16")

    def decide(gain: float | Exception, **options: Any) -> str:
        def trial(*_: Any) -> Evidence:
            if isinstance(gain, Exception):
                raise gain
            return evidence(gain)

        monkeypatch.setattr(autotune, "measure_gain", trial)
        said: list[str] = []
        setup = RunSetup(override(RunConfig(), options), SHAPE, CPU, log=said.append)
        found = autotune.decide_precision(setup).precision
        assert len(said) == 1
        assert said[0].startswith(f"precision {found}: ")
        return found

    return decide


def test_where_a_trial_finds_no_room_16_bits_are_taken_and_nothing_is_remembered(tried: Any) -> None:
    assert tried(torch.OutOfMemoryError("CUDA out of memory")) == "bf16"
    assert tried(MemoryError()) == "bf16"
    assert tried(0.5) == "fp32"
    with pytest.raises(RuntimeError, match="misaligned"):
        tried(RuntimeError("CUDA error: misaligned address"), fmap_max=7)


@pytest.mark.parametrize(
    "options", [{"resolution": 16}, {"resolution": 8, "batch_size": 2}, {"resolution": 8, "loss": "lsgan"}]
)
def test_a_trial_of_something_else_is_made_again(tried: Any, options: dict[str, Any]) -> None:
    assert tried(0.5, resolution=8) == "fp32"
    assert tried(2.0, resolution=8) == "fp32", "remembered"
    assert tried(2.0, **options) == "bf16"


def test_on_a_cpu_a_trial_asks_for_memory_before_it_takes_any(monkeypatch: pytest.MonkeyPatch) -> None:
    setup = RunSetup(override(RunConfig(), {"fmap_max": 8}), SHAPE, CPU)
    stage = autotune.trial_stage(setup)
    assert autotune.measure_gain(setup, replace(setup.numerics, precision="bf16"), stage).gain > 0
    monkeypatch.setattr(autotune, "free_bytes", lambda device: 2**20)
    monkeypatch.setattr(autotune, "trial", None)
    with pytest.raises(MemoryError):
        autotune.measure_gain(setup, replace(setup.numerics, precision="bf16"), stage)


def test_what_cannot_go_on_is_refused_before_any_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROGAN_CACHE", str(tmp_path / "cache"))
    options = {
        "data": "avatars:64", "resolution": 4, "total_kimg": 0.05, "batch_size": 8, "fmap_max": 4, "z_dim": 4,
        "device": "cpu", "quiet": True, "out": tmp_path / "run",
    }  # fmt: skip
    progan.train(**options)
    for state in (tmp_path / "run" / "state").iterdir():
        state.unlink()
    monkeypatch.setattr(autotune, "decide_precision", None)
    with pytest.raises(progan.ProganError, match="which cannot change: seed"):
        progan.train(**options, seed=5)


@pytest.mark.slow
def test_memory_is_asked_for_in_the_precision_of_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROGAN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(numerics, "sixteen_bits", lambda device: "bf16")
    monkeypatch.setattr(autotune, "sixteen_bits", lambda device: "bf16")
    asked: list[str] = []

    def ensure(setup: RunSetup, *_: Any) -> RunConfig:
        asked.append(setup.numerics.precision)
        return setup.config

    monkeypatch.setattr(fit, "ensure", ensure)
    options = {
        "data": "avatars:64", "resolution": 4, "total_kimg": 0.05, "batch_size": 8, "fmap_max": 4, "z_dim": 4,
        "device": "cpu", "compile": "off", "quiet": True,
    }  # fmt: skip
    monkeypatch.setattr(autotune, "measure_gain", lambda *_: evidence(0.5))
    progan.train(out=tmp_path / "run", **options)
    assert asked == ["fp32"], "what the trial found faster"
    monkeypatch.setattr(autotune, "measure_gain", lambda *_: evidence(2.0))
    monkeypatch.setenv("PROGAN_CACHE", str(tmp_path / "other"))
    progan.train(out=tmp_path / "run", **{**options, "total_kimg": 0.1}, allow_change=True)
    assert asked == ["fp32", "fp32"], "what the state says"
    progan.train(out=tmp_path / "new", **options)
    assert asked == ["fp32", "fp32", "bf16"]
