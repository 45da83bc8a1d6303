"""Where a convolution is faster otherwise than by PyTorch's kernels: the rules in `progan.models.conv_matmul` and
`progan.models.winograd`, measured.

    python benchmarks/products.py [--threads 4] [--precision bf16] [--seconds 0.2] [--out OUT.json]

For the convolutions of a Progressive GAN (3x3, and 4x4 with stride 2), by height of the small image, feature maps and
batch: time of PyTorch's kernel over time of the product of matrices, or in fp32 of Winograd's algorithm where it can be
taken (3x3, from 8x8 on), for the convolution, its transpose (an input's gradient) and its weight's gradient. Above 1
PyTorch's is slower; a star marks where the rules take the other. OUT also has the errors of both, relative to float64.
"""

import argparse
import itertools
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from training_step import machine

from progan.devices import keep_pages
from progan.models import conv_matmul, winograd

KINDS = {"3x3": (3, 1, 1), "4x4/2": (4, 2, 1)}
"""Kernel, stride, padding."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--precision", choices=["bf16", "fp32"], default="bf16")
    parser.add_argument("--seconds", type=float, default=0.2, help="of each comparison")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    keep_pages(True)
    found: list[dict[str, Any]] = []
    dtype = torch.bfloat16 if options.precision == "bf16" else torch.float32
    print(f"{'kernel':>6} {'h':>3} {'maps':>5} {'batch':>5} {'forward':>9} {'transposed':>11} {'weight':>9}")
    for kind, h, maps, batch in itertools.product(KINDS, (4, 8, 16, 32), (16, 64, 128, 256, 512), (4, 16)):
        case = compare(*KINDS[kind], h, maps, batch, dtype, options.seconds)
        shown = [
            f"{ratio:.2f}{'*' if taken else ' '}" for ratio, taken in zip(case["ratios"], case["taken"], strict=True)
        ]
        print(f"{kind:>6} {h:3} {maps:5} {batch:5} {shown[0]:>9} {shown[1]:>11} {shown[2]:>9}", flush=True)
        found.append({"kernel": kind, "height": h, "maps": maps, "batch": batch, **case})
        if options.out:
            facts = {"machine": machine("cpu"), "threads": options.threads, "torch": torch.__version__}
            facts |= {"python": platform.python_version(), "precision": options.precision, "cases": found}
            options.out.write_text(json.dumps(facts, indent=1) + "\n")


def compare(
    kernel: int, stride: int, padding: int, h: int, maps: int, batch: int, dtype: torch.dtype, seconds: float
) -> dict[str, list[Any]]:
    """How many times as fast: forward, transposed, gradient of the weight; and the errors of both."""

    def image(side: int) -> Tensor:
        return torch.randn(batch, maps, side, side).to(dtype).contiguous(memory_format=torch.channels_last)

    small, large = image(h), image(h * stride)
    weight = torch.randn(maps, maps, kernel, kernel).to(dtype).contiguous(memory_format=torch.channels_last)
    same = ([stride] * 2, [padding] * 2, [1, 1])
    there, back = (stride, padding, False), (stride, padding, True)

    def gradient(input: bool, dtype: torch.dtype = dtype) -> Tensor:
        mask, inputs = [input, not input, False], [each.to(dtype) for each in (small, large, weight)]
        found = torch.ops.aten.convolution_backward(*inputs, None, *same, False, [0, 0], 1, mask)
        out: Tensor = found[0 if input else 1]
        return out

    def forward(dtype: torch.dtype = dtype) -> Tensor:
        return torch.ops.aten.convolution(large.to(dtype), weight.to(dtype), None, *same, False, [0, 0], 1)

    officials: list[Callable[..., Tensor]] = [
        forward,
        lambda *dtype: gradient(True, *dtype),
        lambda *dtype: gradient(False, *dtype),
    ]
    if kernel == 3 and h >= winograd.SMALLEST and dtype == torch.float32:
        others: list[Callable[[], Tensor]] = [
            lambda: winograd.convolve(large, weight, None),
            lambda: winograd.input_gradient(small, weight),
            lambda: winograd.weight_gradient(small, large),
        ]
        taken = [winograd.quicker(large, weight, there)] * 2
        taken.append(winograd.weight_gradient_is_quicker(large, weight, there))
    else:
        others = [
            lambda: conv_matmul.convolve(large, weight, None, there),
            lambda: conv_matmul.convolve(small, weight, None, back),
            lambda: conv_matmul.weight_gradient(small, large, kernel, there),
        ]
        taken = [conv_matmul.quicker(large, weight, there), conv_matmul.quicker(small, weight, back)]
        taken.append(conv_matmul.weight_gradient_is_quicker(small, weight, dtype == torch.float32))
    exact = [official(torch.float64) for official in officials]
    return {
        "ratios": [ratio(official, other, seconds) for official, other in zip(officials, others, strict=True)],
        "taken": taken,
        "errors": [error(call(), right) for call, right in zip(officials, exact, strict=True)],
        "errors_of_others": [error(call(), right) for call, right in zip(others, exact, strict=True)],
    }


def error(found: Tensor, exact: Tensor) -> float:
    """Relative to float64, in the norm of the whole tensor."""
    return float((found.double() - exact).norm() / exact.norm())


def ratio(official: Callable[[], Tensor], product: Callable[[], Tensor], seconds: float) -> float:
    """Of the medians of both, called in alternation."""
    times: dict[Callable[[], Tensor], list[float]] = {official: [], product: []}
    began = time.perf_counter()
    while time.perf_counter() - began < seconds or len(times[product]) < 8:
        for call, found in times.items():
            start = time.perf_counter()
            call()
            found.append(time.perf_counter() - start)
    return statistics.median(times[official][2:]) / statistics.median(times[product][2:])


if __name__ == "__main__":
    main()
