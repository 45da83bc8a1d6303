"""Which precision a device gets, and that memory is asked for in the precision that a run has."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import progan
from progan.config import RunConfig, RuntimeConfig
from progan.errors import DeviceError
from progan.models import ImageShape
from progan.options import override
from progan.training import fitting, precision, tuning
from progan.training.precision import Numerics, choose

GPU = torch.device("cuda", 0)
SHAPE = ImageShape(64, 3)


@pytest.fixture(autouse=True)
def switches() -> Iterator[None]:
    """PyTorch's, as they were."""
    cudnn = torch.backends.cudnn
    before = torch.get_float32_matmul_precision(), cudnn.allow_tf32, cudnn.deterministic, cudnn.benchmark
    yield
    torch.set_float32_matmul_precision(before[0])
    cudnn.allow_tf32, cudnn.deterministic, cudnn.benchmark = before[1:]


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes the machine one with a GPU of that capability."""

    def have(*capability: int) -> None:
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
        monkeypatch.setattr(precision, "find_device", lambda name: GPU)

    return have


@pytest.mark.parametrize(
    ("capability", "found"), [((9, 0), "bf16"), ((8, 0), "bf16"), ((7, 5), "fp16"), ((7, 0), "fp16"), ((6, 1), "fp32")]
)
def test_a_gpu_gets_the_16_bits_it_has_units_for(gpu: Any, capability: tuple[int, int], found: str) -> None:
    gpu(*capability)
    assert choose(RuntimeConfig()).precision == found
    assert choose(RuntimeConfig(precision="fp32")).precision == "fp32"


def test_tf32_is_used_where_it_was_asked_for_and_nowhere_else(gpu: Any) -> None:
    def on() -> list[bool]:
        return [torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32]

    gpu(8, 6)
    numerics = choose(RuntimeConfig(precision="tf32"))
    assert (numerics.precision, numerics.dtype, numerics.scaled, on()) == ("tf32", torch.float32, False, [True, True])
    choose(RuntimeConfig(precision="fp32"))
    assert on() == [False, False]
    gpu(7, 5)
    with pytest.raises(DeviceError, match="--precision tf32 needs an NVIDIA GPU of compute capability 8"):
        choose(RuntimeConfig(precision="tf32"))


def test_convolutions_are_those_that_give_the_same_bits_again() -> None:
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = False, True
    choose(RuntimeConfig())
    assert (torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark) == (True, False)


def test_a_cpu_has_no_tf32() -> None:
    with pytest.raises(DeviceError, match="cpu has fp32"):
        choose(RuntimeConfig(precision="tf32", device="cpu"))


def test_the_trial_of_a_gpu_is_larger_than_that_of_a_cpu() -> None:
    config = override(RunConfig(), {"resolution": 256, "batch_size": "4:16,256:2"})
    assert tuning._trial(config, torch.device("cpu")).resolution == 16
    assert tuning._trial(config, GPU).resolution == 128
    assert tuning._trial(override(config, {"resolution": 64}), GPU).resolution == 64


def test_where_a_trial_finds_no_room_16_bits_are_taken_and_nothing_is_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROGAN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(tuning, "short", lambda device: "bf16")

    def full(*_: Any) -> float:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(tuning, "_gain", full)
    now = Numerics("cpu", "fp32", 1, torch.__version__)
    assert tuning.decide_precision(RunConfig(), SHAPE, now, print).precision == "bf16"
    monkeypatch.setattr(tuning, "_gain", lambda *_: 0.5)
    assert tuning.decide_precision(RunConfig(), SHAPE, now, print).precision == "fp32"

    def broken(*_: Any) -> float:
        raise RuntimeError("CUDA error: misaligned address")

    monkeypatch.setattr(tuning, "_gain", broken)
    with pytest.raises(RuntimeError, match="misaligned"):
        tuning.decide_precision(override(RunConfig(), {"fmap_max": 7}), SHAPE, now, print)


def test_memory_is_asked_for_in_the_precision_of_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROGAN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(precision, "short", lambda device: "bf16")
    monkeypatch.setattr(tuning, "short", lambda device: "bf16")
    asked: list[str] = []

    def ensure(config: RunConfig, shape: ImageShape, numerics: Numerics, *_: Any) -> RunConfig:
        asked.append(numerics.precision)
        return config

    monkeypatch.setattr(fitting, "ensure", ensure)
    options = {
        "data": "avatars:64", "resolution": 4, "total_kimg": 0.05, "batch_size": 8, "fmap_max": 4, "z_dim": 4,
        "device": "cpu", "compile": "off", "quiet": True,
    }  # fmt: skip
    monkeypatch.setattr(tuning, "_gain", lambda *_: 0.5)
    progan.train(out=tmp_path / "run", **options)
    assert asked == ["fp32"], "what the trial found faster"
    monkeypatch.setattr(tuning, "_gain", lambda *_: 2.0)
    monkeypatch.setenv("PROGAN_CACHE", str(tmp_path / "other"))
    progan.train(out=tmp_path / "run", **{**options, "total_kimg": 0.1}, allow_change=True)
    assert asked == ["fp32", "fp32"], "what the state says"
    progan.train(out=tmp_path / "new", **options)
    assert asked == ["fp32", "fp32", "bf16"]
