"""What every test relies on: the same random numbers each time, and no threads where tensors are small."""

import pytest
import torch
from hypothesis import settings

torch.set_num_threads(1)
settings.register_profile("progan", deadline=None, derandomize=True)
settings.load_profile("progan")


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)
