"""Several processes: together they are one."""

from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from progan.training.distributed import ALONE, Several, buckets


def test_buckets_keep_order_size_and_dtype():
    tensors = [torch.zeros(n) for n in (4, 4, 4, 100, 1)] + [torch.zeros(1, dtype=torch.float64)]
    found = buckets(tensors, most=32)
    assert [[t.numel() for t in bucket] for bucket in found] == [[4, 4], [4], [100], [1], [1]]
    assert [t for bucket in found for t in bucket] == tensors
    assert buckets([]) == []


def _average(rank: int, size: int, store: Path) -> None:
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=size)
    a = torch.full((2, 3, 4, 4), float(rank)).to(memory_format=torch.channels_last)
    a[1, 2, 3, 0] += 8
    b = torch.tensor([rank, float("nan") if rank else 1.0], dtype=torch.float64)
    c = torch.ones(BIG) * rank
    Several().average([a, b, c])
    assert a[0, 0, 0, 0] == 0.5
    assert a[1, 2, 3, 0] == 8.5
    assert a.is_contiguous(memory_format=torch.channels_last)
    assert b[0] == 0.5
    assert b[1].isnan()
    assert (c == 0.5).all()
    dist.destroy_process_group()


BIG = 8 * 2**20  # floats, more than a bucket


def test_the_average_of_tensors(tmp_path):
    mp.spawn(_average, (2, tmp_path / "store"), nprocs=2)
    alone = torch.tensor([1.0, 3.0])
    ALONE.average([alone])
    assert alone.tolist() == [1, 3]
