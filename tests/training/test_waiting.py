"""An iteration asks nothing of the device it is computed on: a GPU is given work for many steps ahead.

PyTorch's device without values stands in for one: it has nothing to answer with, and every copy to it is seen.
"""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from progan.config import PrepareConfig
from progan.data.dataset import Dataset
from progan.data.prepare import prepare
from progan.devices import send
from progan.options import override
from progan.presets import preset
from progan.run.assemble import image_shape
from progan.schedule import Stage
from progan.training.accelerate.traced import Executors
from progan.training.feed import Feed, Request
from progan.training.loop import iterate
from progan.training.meter import Meter
from progan.training.numerics import Numerics
from progan.training.setup import RunSetup
from progan.training.state import TrainingState
from progan.training.step import Eager, Step

META = torch.device("meta")
RUNS: dict[str, dict[str, Any]] = {
    "fp32": {"precision": "fp32"},
    "bf16": {"precision": "bf16"},
    "fp16": {"precision": "fp16"},
    "labels": {"precision": "fp32", "labels": True, "mirror": True, "d_steps": 2},
    "lsgan, noise": {"precision": "bf16", "loss": "lsgan", "d_noise": 0.2},
    "batch norm": {"precision": "bf16", "batch_norm": 0.1},
    "dcgan": {"precision": "bf16", "model": "dcgan", "start_resolution": 16, "loss": "nonsaturating", "dropout": 0.2},
}


class Waiting(TorchDispatchMode):
    """Fails where a value is asked for, or where a copy waits for the device."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, called = kwargs or {}, func.overloadpacket
        if called is torch.ops.aten._fused_adam_:
            return None  # PyTorch's own kernel, which this device lacks
        assert called is not torch.ops.aten._local_scalar_dense, "a value is asked for"
        if called is torch.ops.aten._to_copy:
            assert_goes_on(args[0], kwargs.get("device") or args[0].device, kwargs.get("non_blocking"))
        if called is torch.ops.aten.copy_:
            assert_goes_on(args[1], args[0].device, args[2] if len(args) > 2 else kwargs.get("non_blocking"))
        return func(*args, **kwargs)


def assert_goes_on(source: Tensor, device: torch.device, non_blocking: bool | None) -> None:
    """Of a copy."""
    there = torch.device(device).type
    assert source.device.type == there or non_blocking, f"a copy from {source.device} to {there} waits"


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    prepare("avatars:64", tmp_path / "data", PrepareConfig(resolution=16, workers=1))
    return Dataset.open(tmp_path / "data")


@pytest.fixture(autouse=True)
def as_if_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("randomness", "training.feed"):
        monkeypatch.setattr(f"progan.{module}.send", lambda tensor, device: tensor.to(device, non_blocking=True))
    optimizers = sys.modules["torch.optim.optimizer"]
    monkeypatch.setattr(optimizers, "_get_fused_kernels_supported_devices", lambda: ["meta"])


@pytest.mark.parametrize("how", ["eager", "traced"])
@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name != "labels")) for name in RUNS])
def test_an_iteration_asks_nothing_of_the_device(name: str, how: str, dataset: Dataset, tmp_path: Path) -> None:
    options = {"resolution": 16, "fmap_max": 8, "z_dim": 8, "batch_size": 4, **RUNS[name]}
    config = override(preset("quickstart-paper"), options)
    numerics = Numerics("meta", config.runtime.precision, 1, "")
    shape = image_shape(config, dataset)
    setup = RunSetup(override(config, {"workers": 0}), shape, numerics, label_kind="attributes")
    state, feed = TrainingState.new(setup), Feed(setup, dataset)
    fades = config.schedule.start_resolution < 16
    stage = Stage(16, "fade" if fades else "stable", 0.5 if fades else 1.0, 4, 0.001, 0.001)
    batches = feed.stream(Request(16, 4 * i, 4) for i in range(8))
    meter = Meter(state.tally, META)
    executor = None
    if how == "traced":
        if tuple(map(int, torch.__version__.split(".")[:2])) < (2, 11):
            pytest.skip("this PyTorch's tensors without values lie in memory otherwise than those it traces with")
        executor = Executors(setup, state).of(stage)
        assert isinstance(executor, Eager) == ("noise" in name or name in ("batch norm", "dcgan"))
    step = Step(setup, state, stage, executor)
    with Waiting():
        for i in range(2):
            iterate(step, batches, feed.random_labels, 4 * i * config.schedule.d_steps, meter)
        state.clocks()
    assert len(state.uncounted) == 2 * (config.schedule.d_steps + 1)
    with Waiting(), pytest.raises(Exception, match=r"meta|value"):
        state.settle()


def test_what_is_sent_to_a_gpu_is_pinned_without_gaps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a process's rows, every second one say, PyTorch would make a copy that is not pinned."""
    sent: list[tuple[bool, bool]] = []

    def to(tensor: Tensor, device: str, non_blocking: bool = False) -> Tensor:
        sent.append((tensor.is_contiguous(), non_blocking))
        return tensor

    monkeypatch.setattr(Tensor, "pin_memory", lambda tensor: tensor)
    monkeypatch.setattr(Tensor, "to", to)
    assert send(torch.arange(8)[1::2], "cuda").tolist() == [1, 3, 5, 7]
    assert sent == [(True, True)]
