"""What every test relies on: the same random numbers each time, and no threads where tensors are small."""

import copy
import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import settings

torch.set_num_threads(1)
os.environ.setdefault("OMP_NUM_THREADS", "1")  # of processes that tests start
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
settings.register_profile("progan", deadline=None, derandomize=True, database=None)
settings.register_profile("thorough", deadline=None, database=None, print_blob=True)  # other cases each time
settings.load_profile(os.environ.get("PROGAN_HYPOTHESIS", "progan"))


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _switches() -> Iterator[None]:
    """PyTorch's for CUDA, which training sets for the process, as they were."""
    cudnn, products = torch.backends.cudnn, torch.get_float32_matmul_precision()
    before = cudnn.allow_tf32, cudnn.deterministic, cudnn.benchmark
    threads = torch.autograd.is_multithreading_enabled()
    yield
    torch.set_float32_matmul_precision(products)
    cudnn.allow_tf32, cudnn.deterministic, cudnn.benchmark = before
    torch.autograd.set_multithreading_enabled(threads)


@pytest.fixture(scope="module")
def traced_once() -> Iterator[None]:
    """Each step traced once for all runs of a module: the same operations, in half the time of a tiny run.

    For modules that test something else; those on tracing, resume, and processes of their own trace every time.
    """
    from progan.training.accelerate import traced

    original, made = traced.Traced, dict[str, Any]()

    def step(setup: Any, state: Any, stage: Any, size: int, kernels: bool, finish: Any) -> Any:
        config, dtype = setup.config, state.numerics.dtype
        lazy = config.optimizer.penalty_every
        key = str(
            (
                config.model,
                config.loss,
                config.dataset.augment,
                lazy,
                setup.label_kind,
                setup.shape,
                stage.key,
                size,
                dtype,
            )
        )
        if kernels or setup.device.type != "cpu":
            return original(setup, state, stage, size, kernels, finish)
        if key not in made:
            made[key] = original(setup, state, stage, size, kernels, finish)
        step = copy.copy(made[key])
        step._G, step._D, step._gradients = state.G, state.D, {}
        for name, gradients in made[key]._gradients.items():
            step._gradients[name] = copy.copy(gradients)
            step._gradients[name]._parameters = list((state.G if name == "g" else state.D).parameters())
        return step

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(traced, "Traced", step)
        yield


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """The system's Chromium, driven by Playwright; `phone` has a telephone's settings, `started` starts others."""
    playwright = pytest.importorskip("playwright.sync_api")
    if not (program := shutil.which("chromium")):
        pytest.skip("Chromium is not installed")
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=program, args=["--no-sandbox"])
        chromium.phone, chromium.started = started.devices["Pixel 7"], started.chromium
        yield chromium
        chromium.close()
