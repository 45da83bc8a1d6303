"""What every test relies on: the same random numbers each time, and no threads where tensors are small."""

import os
from collections.abc import Iterator

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
