"""3x3 convolutions with a quarter of the multiplications: Winograd's F(4x4, 3x3), for fp32 on a CPU.

A tile of 4x4 outputs depends on 6x6 inputs. With the matrices A, B and G of Lavin and Gray (2016) it is
A [(G w Gᵀ) ∘ (B x Bᵀ)] Aᵀ: 36 products where the convolution has 144. Over all channels and tiles these are 36 products
of matrices. The gradient of the input is the convolution of the output's gradient with the weight turned round; that of
the weight is Gᵀ [(Aᵀ g A) ∘ (B x Bᵀ)] G, summed over the tiles.

All convolutions here are padded by 1, of images whose sides are multiples of 4, and give channels_last.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from progan.models.conv_matmul import How

Matrix = tuple[tuple[float, ...], ...]

TILE, SEEN = 4, 6
"""Side of a tile of outputs, and of the inputs that it depends on."""
A: Matrix = ((1, 1, 1, 1, 1, 0), (0, 1, -1, 2, -2, 0), (0, 1, 1, 4, 4, 0), (0, 1, -1, 8, -8, 1))
B: Matrix = (
    (4, 0, -5, 0, 1, 0),
    (0, -4, -4, 1, 1, 0),
    (0, 4, -4, -1, 1, 0),
    (0, -2, -1, 2, 1, 0),
    (0, 2, -1, -2, 1, 0),
    (0, 4, 0, -5, 0, 1),
)
G: Matrix = (
    (1 / 4, 0, 0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0, 0, 1),
)
SMALLEST = 8
"""Smallest side of an image for which this is faster (benchmarks/products.py)."""
MAPS, MAPS_OF_WEIGHTS = 128, 64
"""Fewest maps, of input and output, for which it is faster; and for the gradient of a weight over larger images."""


def quicker(x: Tensor, weight: Tensor, how: How) -> bool:
    """True if `convolve` is faster than a convolution, or `input_gradient`, of which `x` is the output's gradient."""
    return _fits(x, weight, how) and min(weight.shape[:2]) >= MAPS


def weight_gradient_is_quicker(x: Tensor, weight: Tensor, how: How) -> bool:
    """True if `weight_gradient` is faster than a convolution's."""
    fewest = MAPS_OF_WEIGHTS if min(x.shape[2:]) > SMALLEST else MAPS
    return _fits(x, weight, how) and min(weight.shape[:2]) >= fewest


def _fits(x: Tensor, weight: Tensor, how: How) -> bool:
    h, w = x.shape[2:]
    tiled = h % TILE == w % TILE == 0 and min(h, w) >= SMALLEST
    return tiled and how == (1, 1, False) and weight.shape[2] == 3 and x.dtype == torch.float32


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x [N, I, H, W] with weight [O, I, 3, 3] and bias [O]."""
    out = _outputs(torch.bmm(_inputs(x), _weights(weight, G).permute(1, 2, 0)), x)
    return out if bias is None else out + bias.view(-1, 1, 1)


def input_gradient(gradient: Tensor, weight: Tensor) -> Tensor:
    """Gradient [N, I, H, W] of the input, from that of the output and the weight."""
    turned = tuple(row[::-1] for row in G)
    return _outputs(torch.bmm(_inputs(gradient), _weights(weight, turned).permute(1, 0, 2)), gradient)


def weight_gradient(gradient: Tensor, x: Tensor) -> Tensor:
    """Gradient [O, I, 3, 3] of the weight, from that of the output and the input."""
    n, o, h, w = gradient.shape
    tiles = gradient.permute(0, 2, 3, 1).reshape(n, h // TILE, TILE, w // TILE, TILE, o).permute(2, 4, 0, 1, 3, 5)
    spread = _on_both_sides(tuple(zip(*A, strict=True)), tiles.reshape(TILE**2, -1)).view(SEEN**2, -1, o)
    product = torch.bmm(spread.transpose(1, 2), _inputs(x))  # [36, O, I]
    out = torch.matmul(_tensor(_squared(G), x).t(), product.transpose(0, 1))  # [O, 9, I]
    return out.view(o, 3, 3, -1).permute(0, 3, 1, 2)


def _inputs(x: Tensor) -> Tensor:
    """[N, C, H, W] -> [36, tiles, C]: B x Bᵀ of the inputs of each tile, which overlap."""
    n, c, h, w = x.shape
    padded = F.pad(x.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1)).contiguous()
    image, row, column, _ = padded.stride()
    shape, strides = (SEEN, SEEN, n, h // TILE, w // TILE, c), (row, column, image, row * TILE, column * TILE, 1)
    return _on_both_sides(B, padded.as_strided(shape, strides).reshape(SEEN**2, -1)).view(SEEN**2, -1, c)


def _weights(weight: Tensor, matrix: Matrix) -> Tensor:
    """[O, I, 3, 3] -> [O, 36, I]: G w Gᵀ."""
    return torch.matmul(_tensor(_squared(matrix), weight), weight.permute(0, 2, 3, 1).reshape(len(weight), 9, -1))


def _outputs(product: Tensor, like: Tensor) -> Tensor:
    """[36, tiles, C] -> [N, C, H, W]: A m Aᵀ of each tile, put where it belongs in an image of the size of another."""
    n, _, h, w = like.shape
    tiles = _on_both_sides(A, product.view(SEEN**2, -1)).view(TILE, TILE, n, h // TILE, w // TILE, -1)
    return tiles.permute(2, 3, 0, 4, 1, 5).reshape(n, h, w, -1).permute(0, 3, 1, 2)


def _on_both_sides(matrix: Matrix, tiles: Tensor) -> Tensor:
    """[k·k, M] -> [m·m, M]: m tᵢ mᵀ of M tiles, with a matrix [m, k]."""
    transform = _tensor(matrix, tiles)
    m, k = transform.shape
    rows = (transform @ tiles.reshape(k, -1)).view(m, k, -1)
    return torch.matmul(transform, rows).view(m * m, -1)


def _squared(matrix: Matrix) -> Matrix:
    """The matrix for both sides at once: [m, k] -> [m·m, k·k]."""
    return tuple(tuple(a * b for a in row for b in other) for row in matrix for other in matrix)


def _tensor(matrix: Matrix, like: Tensor) -> Tensor:
    return torch.tensor(matrix, dtype=like.dtype, device=like.device)
