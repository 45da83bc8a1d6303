"""Where a convolution is faster as a product of matrices: the rule in `progan.models.conv_matmul`, measured.

    python benchmarks/products.py [--threads 4] [--precision bf16] [--seconds 0.2]

For the convolutions of a Progressive GAN (3x3, and 4x4 with stride 2), by height of the small image, feature maps and
batch: time of PyTorch's kernel over time of the product, for the convolution, its transpose (an input's gradient) and
its weight's gradient. Above 1 the product is faster; a star marks where the rule takes it.
"""

import argparse
import itertools
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from progan.models import conv_matmul

KINDS = {"3x3": (3, 1, 1), "4x4/2": (4, 2, 1)}
"""Kernel, stride, padding."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--precision", choices=["bf16", "fp32"], default="bf16")
    parser.add_argument("--seconds", type=float, default=0.2, help="of each comparison")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    dtype = torch.bfloat16 if options.precision == "bf16" else torch.float32
    print(f"{'kernel':>6} {'h':>3} {'maps':>5} {'batch':>5} {'forward':>9} {'transposed':>11} {'weight':>9}")
    for kind, h, maps, batch in itertools.product(KINDS, (4, 8, 16), (16, 64, 128, 256, 512), (4, 16)):
        ratios = compare(*KINDS[kind], h, maps, batch, dtype, options.seconds)
        print(f"{kind:>6} {h:3} {maps:5} {batch:5} {ratios[0]:>9} {ratios[1]:>11} {ratios[2]:>9}", flush=True)


def compare(
    kernel: int, stride: int, padding: int, h: int, maps: int, batch: int, dtype: torch.dtype, seconds: float
) -> list[str]:
    """How many times as fast the product is: forward, transposed, gradient of the weight."""

    def image(side: int) -> Tensor:
        return torch.randn(batch, maps, side, side).to(dtype).contiguous(memory_format=torch.channels_last)

    small, large = image(h), image(h * stride)
    weight = torch.randn(maps, maps, kernel, kernel).to(dtype).contiguous(memory_format=torch.channels_last)
    same = ([stride] * 2, [padding] * 2, [1, 1])
    there, back = (stride, padding, False), (stride, padding, True)

    def gradient(input: bool) -> Tensor:
        mask = [input, not input, False]
        found = torch.ops.aten.convolution_backward(small, large, weight, None, *same, False, [0, 0], 1, mask)
        out: Tensor = found[0 if input else 1]
        return out

    pairs: list[tuple[Callable[[], Tensor], Callable[[], Tensor], bool]] = [
        (
            lambda: torch.ops.aten.convolution(large, weight, None, *same, False, [0, 0], 1),
            lambda: conv_matmul.convolve(large, weight, None, there),
            conv_matmul.quicker(large, weight, there),
        ),
        (
            lambda: gradient(True),
            lambda: conv_matmul.convolve(small, weight, None, back),
            conv_matmul.quicker(small, weight, back),
        ),
        (
            lambda: gradient(False),
            lambda: conv_matmul.weight_gradient(small, large, kernel, there),
            conv_matmul.weight_gradient_is_quicker(small, weight),
        ),
    ]
    return [f"{ratio(official, product, seconds):.2f}{'*' if taken else ' '}" for official, product, taken in pairs]


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
