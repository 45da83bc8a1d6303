"""What every test relies on: the same random numbers each time, and no threads where tensors are small."""

import copy
import os
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import settings

torch.set_num_threads(1)
os.environ.setdefault("OMP_NUM_THREADS", "1")  # of processes that tests start
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

    original, made = traced.TracedStep, dict[tuple[Any, ...], Any]()

    def step(
        G: Any, D: Any, loss: Any, shape: Any, stage: Any, size: int, dtype: Any, kernels: bool, finish: Any
    ) -> Any:
        networks = [(type(part), plain(part)) for network in (G, D) for part in network.modules()]
        sizes = [p.shape for network in (G, D) for p in network.parameters()]
        key = (*map(str, (networks, sizes, type(loss), vars(loss), shape)), stage.key, size, dtype)
        if kernels or torch.cuda.is_available():
            return original(G, D, loss, shape, stage, size, dtype, kernels, finish)
        if key not in made:
            made[key] = original(G, D, loss, shape, stage, size, dtype, kernels, finish)
        step = copy.copy(made[key])
        step._G, step._D, step._g, step._d = G, D, list(G.parameters()), list(D.parameters())
        for name, parameters in (("_g_gradients", step._g), ("_d_gradients", step._d)):
            gradients = copy.copy(getattr(step, name))
            gradients._parameters = parameters
            setattr(step, name, gradients)
        return step

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(traced, "TracedStep", step)
        yield


def plain(module: torch.nn.Module) -> dict[str, Any]:
    """The settings of a layer."""
    return {name: value for name, value in vars(module).items() if isinstance(value, (bool, int, float, str))}
