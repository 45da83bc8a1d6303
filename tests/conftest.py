"""Small tensors gain nothing from many threads, and tests may run in parallel."""

import torch

torch.set_num_threads(1)
