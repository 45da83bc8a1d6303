"""What every test relies on: the same random numbers each time, and no threads where tensors are small."""

import copy
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
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
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cache of the module's own, in which its runs find what was prepared for the first of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PROGAN_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def _traced() -> dict[str, Any]:
    """Steps that `traced_once` has."""
    return {}


@pytest.fixture(scope="module")
def traced_once(_traced: dict[str, Any]) -> Iterator[None]:
    """Each step traced once for all runs of such modules: the same operations, in half the time of a tiny run.

    For modules that test something else; those on tracing, resume, and processes of their own trace every time.
    """
    from progan.training.accelerate import traced

    original, made = traced.Traced, _traced

    def step(setup: Any, state: Any, stage: Any, size: int, kernels: bool, finish: Any) -> Any:
        config = setup.config
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
                state.numerics,
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


class S3:
    """A server of S3 on this machine. What it holds outlives `stop`."""

    port = 0

    def start(self) -> None:
        from moto.server import ThreadedMotoServer

        self._server = ThreadedMotoServer("127.0.0.1", self.port, verbose=False)
        self._server.start()
        _, self.port = self._server.get_host_and_port()

    def stop(self) -> None:
        self._server.stop()


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[S3]:
    """Server that is found by the usual environment, also by processes that a test starts."""
    pytest.importorskip("moto.server")
    pytest.importorskip("s3fs")
    server = S3()
    server.start()
    settings = {"ACCESS_KEY_ID": "id", "SECRET_ACCESS_KEY": "key", "ENDPOINT_URL": f"http://127.0.0.1:{server.port}"}
    for name, value in {**settings, "DEFAULT_REGION": "us-east-1", "EC2_METADATA_DISABLED": "true"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))  # of whoever runs this
    monkeypatch.setenv("PROGAN_CACHE", str(tmp_path / "cache"))
    yield server
    server.stop()


@pytest.fixture
def bucket(s3: S3) -> Iterator[Any]:
    """s3fs's file system of the server, with an empty bucket."""
    fsspec = pytest.importorskip("fsspec")
    system = fsspec.filesystem("s3", skip_instance_cache=True)
    try:
        system.mkdir("bucket")
        yield system
    finally:
        system.rm("bucket", recursive=True)  # the server's memory is this process's
        fsspec.get_filesystem_class("s3").clear_instance_cache()
