"""Convolutions as products of matrices.

A convolution takes a large image [N, L, H, W] to a small one [N, S, h, w], a transposed one small to large; the weight
[S, L, K, K] stands for a matrix [S, K·K·L]. On a CPU this may be faster than oneDNN's own convolutions: in bf16 over
few positions of the small image, in fp32 for the gradient of a weight (benchmarks/products.py).
"""

import torch
import torch.nn.functional as F
from torch import Tensor

How = tuple[int, int, bool]
"""Stride, padding, and whether the convolution is transposed."""
FEW = 16
"""Most positions h·w of the small image for which products are faster."""
MAPS = 128
"""Fewest maps on either side for which the gradient of a weight is faster in fp32."""


def quicker(x: Tensor, weight: Tensor, how: How) -> bool:
    """True if `convolve` is faster than a convolution."""
    if not _is_bf16(x):
        return False
    (stride, _, transposed), (s, c, kernel, _) = how, weight.shape
    h, w = x.shape[2:] if transposed else output_size(x, weight, how)
    if h * w > FEW:
        return False
    if transposed:  # where few patches overlap
        return kernel == 2 * stride and min(s, c) >= 256
    return min(s, c) >= 128


def weight_gradient_is_quicker(small: Tensor, weight: Tensor, fast: bool = False) -> bool:
    """True if `weight_gradient` is faster than a convolution's; in fp32 only if it may be `fast`."""
    n, _, h, w = small.shape
    if fast and small.dtype == torch.float32:
        return min(weight.shape[:2]) >= MAPS
    return _is_bf16(small) and (h * w <= FEW or n * h * w <= 2 * min(weight.shape[:2]))


def _is_bf16(x: Tensor) -> bool:
    return x.device.type == "cpu" and x.dtype == torch.bfloat16


def output_size(x: Tensor, weight: Tensor, how: How) -> tuple[int, int]:
    """Height and width of the result of `convolve`."""
    (stride, padding, transposed), kernel = how, weight.shape[2]
    h, w = x.shape[2:]
    if transposed:
        return (h - 1) * stride - 2 * padding + kernel, (w - 1) * stride - 2 * padding + kernel
    return (h + 2 * padding - kernel) // stride + 1, (w + 2 * padding - kernel) // stride + 1


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None, how: How) -> Tensor:
    """The convolution, in channels_last. A transposed one's stride must divide K."""
    (stride, padding, transposed), (s, c, kernel, _) = how, weight.shape
    matrix = weight.permute(0, 2, 3, 1).reshape(s, -1)
    if transposed:
        patches = _rows(x) @ matrix
        out = _spread(patches.view(len(x), *x.shape[2:], kernel, kernel, c), stride, padding)
        out = out if bias is None else out + bias
        return out.to(x.dtype).contiguous().permute(0, 3, 1, 2)
    h, w = output_size(x, weight, how)
    patches = _patches(x, h, w, kernel, stride, padding)
    product = patches @ matrix.t() if bias is None else torch.addmm(bias, patches, matrix.t())
    return product.view(len(x), h, w, s).permute(0, 3, 1, 2)


def weight_gradient(small: Tensor, large: Tensor, kernel: int, how: How) -> Tensor:
    """Gradient of the weight [S, L, K, K], where either image is the gradient of the output."""
    _, s, h, w = small.shape
    product = _rows(small).t() @ _patches(large, h, w, kernel, *how[:2])
    return product.view(s, kernel, kernel, -1).permute(0, 3, 1, 2)


def _rows(x: Tensor) -> Tensor:
    """[N, C, H, W] -> [N·H·W, C]."""
    return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])


def _patches(large: Tensor, h: int, w: int, kernel: int, stride: int, padding: int) -> Tensor:
    """[N, L, H, W] -> [N·h·w, K·K·L]: what each position of the small image sees."""
    padded = F.pad(large.permute(0, 2, 3, 1), (0, 0, padding, padding, padding, padding)).contiguous()
    n, _, _, c = padded.shape
    image, row, column, _ = padded.stride()
    # `unfold` says the same, but is compiled to a loop four times as long.
    shape, strides = (n, h, w, kernel, kernel, c), (image, row * stride, column * stride, row, column, 1)
    return padded.as_strided(shape, strides).reshape(n * h * w, -1)


def _spread(patches: Tensor, stride: int, padding: int) -> Tensor:
    """[N, h, w, K, K, L] -> [N, H, W, L]: each patch added where it was taken, in at least 32 bits."""
    n, h, w, kernel, _, c = patches.shape
    shifts = kernel // stride
    cells = patches.view(n, h, w, shifts, stride, shifts, stride, c)
    cells = cells.to(torch.promote_types(patches.dtype, torch.float32))
    parts = [
        F.pad(cells[:, :, :, i, :, j].transpose(2, 3), (0, 0, 0, 0, j, shifts - 1 - j, 0, 0, i, shifts - 1 - i))
        for i in range(shifts)
        for j in range(shifts)
    ]  # of [N, h + shifts - 1, stride, w + shifts - 1, stride, L]
    out = sum(parts[1:], parts[0]).reshape(n, (h + shifts - 1) * stride, (w + shifts - 1) * stride, c)
    end = -padding or None
    return out[:, padding:end, padding:end]
