"""Convolutions whose gradients' gradients are fast and right.

PyTorch's own double backward of a convolution is slower, and wrong in bf16 on some processors (batches of 4 and 8 on
AMX units give a weight gradient of noise).
"""

from typing import Any

import torch
from torch import Tensor

from progan.models import conv_matmul, winograd
from progan.models.conv_matmul import How


def convolve(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: int = 1,
    padding: int = 0,
    transposed: bool = False,
    fast: bool = False,
) -> Tensor:
    """x [N, in, H, W] with weight [out, in, K, K] (transposed: [in, out, K, K]) and bias [out], all of one dtype.

    `fast`: in fp32, by Winograd's algorithm or as products of matrices where that is faster.
    """
    out: Tensor = _convolution(x, weight, bias, (stride, padding, transposed), fast)
    return out


# The output and both gradients are each linear in two of (x, weight, gradient of the output): the derivatives of each
# are the other two. Layouts are changed outside of the functions, which save what they were given: a copy made inside
# has no derivatives.


def _convolution(x: Tensor, weight: Tensor, bias: Tensor | None, *how: Any) -> Any:
    return _Convolution.apply(*_same_layout(x, weight), bias, *how)


def _input_gradient(gradient: Tensor, weight: Tensor, x: Tensor, *how: Any) -> Any:
    return _InputGradient.apply(*_same_layout(gradient, weight), x, *how)


def _weight_gradient(gradient: Tensor, x: Tensor, weight: Tensor, *how: Any) -> Any:
    return _WeightGradient.apply(*_same_layout(gradient, x), weight, *how)


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, how: How, fast: bool) -> Any:
        ctx.save_for_backward(x, weight)
        ctx.how = how, fast
        if fast and winograd.quicker(x, weight, how):
            return winograd.convolve(x, weight, bias)
        if conv_matmul.quicker(x, weight, how):
            return conv_matmul.convolve(x, weight, bias, how)
        stride, padding, transposed = how
        return torch.ops.aten.convolution(x, weight, bias, [stride] * 2, [padding] * 2, [1, 1], transposed, [0, 0], 1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        x, weight = ctx.saved_tensors
        needs = ctx.needs_input_grad
        dx = _input_gradient(gradient, weight, x, *ctx.how) if needs[0] else None
        dw = _weight_gradient(gradient, x, weight, *ctx.how) if needs[1] else None
        db = gradient.sum((0, 2, 3)) if needs[2] else None
        return dx, dw, db, None, None


class _InputGradient(torch.autograd.Function):
    """Gradient of the input, from that of the output and the weight; `x` only gives its shape."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, weight: Tensor, x: Tensor, how: How, fast: bool) -> Any:
        ctx.save_for_backward(gradient, weight)
        ctx.how = how, fast
        if fast and winograd.quicker(gradient, weight, how):
            return winograd.input_gradient(gradient, weight)
        stride, padding, transposed = how
        back = stride, padding, not transposed
        if conv_matmul.quicker(gradient, weight, back) and x.shape[2:] == conv_matmul.output_size(
            gradient, weight, back
        ):
            return conv_matmul.convolve(gradient, weight, None, back)
        return _convolution_backward(gradient, x, weight, how, [True, False])[0]

    @staticmethod
    def backward(ctx: Any, v: Tensor) -> Any:
        gradient, weight = ctx.saved_tensors
        needs = ctx.needs_input_grad
        dg = _convolution(v, weight, None, *ctx.how) if needs[0] else None
        dw = _weight_gradient(gradient, v, weight, *ctx.how) if needs[1] else None
        return dg, dw, None, None, None


class _WeightGradient(torch.autograd.Function):
    """Gradient of the weight, from that of the output and the input; `weight` only gives its shape."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, x: Tensor, weight: Tensor, how: How, fast: bool) -> Any:
        ctx.save_for_backward(gradient, x)
        ctx.how = how, fast
        if fast and winograd.weight_gradient_is_quicker(x, weight, how):
            return winograd.weight_gradient(gradient, x)
        small, large = (x, gradient) if how[2] else (gradient, x)
        if conv_matmul.weight_gradient_is_quicker(small, weight, fast):
            return conv_matmul.weight_gradient(small, large, weight.shape[2], how)
        return _convolution_backward(gradient, x, weight, how, [False, True])[1]

    @staticmethod
    def backward(ctx: Any, v: Tensor) -> Any:
        gradient, x = ctx.saved_tensors
        needs = ctx.needs_input_grad
        dg = _convolution(x, v, None, *ctx.how) if needs[0] else None
        dx = _input_gradient(gradient, v, x, *ctx.how) if needs[1] else None
        return dg, dx, None, None, None


def _convolution_backward(gradient: Tensor, x: Tensor, weight: Tensor, how: How, mask: list[bool]) -> Any:
    stride, padding, transposed = how
    return torch.ops.aten.convolution_backward(
        gradient, x, weight, None, [stride] * 2, [padding] * 2, [1, 1], transposed, [0, 0], 1, [*mask, False]
    )


def _same_layout(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Both in one layout, channels_last if either is: kernels are slow on a mixture."""
    layout = torch.channels_last if _channels_last(a) or _channels_last(b) else torch.contiguous_format
    return a.contiguous(memory_format=layout), b.contiguous(memory_format=layout)


def _channels_last(x: Tensor) -> bool:
    return x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
