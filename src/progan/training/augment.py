"""Augmentation of what D sees, for small sets: DiffAugment (Zhao et al. 2020) and ADA (Karras et al. 2020).

Reals and fakes go through the same random transformations before D sees them, in D's step and in G's, so that D cannot
learn the few reals by heart and G still learns the images themselves. Every transformation is differentiable, and made
of operations whose gradients add in a fixed order on any device: resampling along rows and columns is a product of
matrices, and rotation three shears (Paeth 1986), where PyTorch's `grid_sample` would add in any order on a GPU.

An image takes its random numbers as one row of uniform ones, which are those of a step like any others: nothing is
stored. Whether a transformation is applied is chosen by `torch.where`, so that a step has one graph for every
probability, and what is not transformed stays the same to the bit.
"""

import math
from typing import Protocol

import torch
from torch import Tensor

from progan.config import DatasetConfig

MOST_P = 0.8
"""Largest probability of ADA: above about this, what it does leaks into G's images (Karras et al. 2020, sec. 2.2)."""
_TINY = 2.0**-24
"""Distance from 0 and 1 of uniform numbers that become normal ones."""


class Augmentation(Protocol):
    """Random transformations of images."""

    numbers: int
    """How many uniform numbers an image takes."""

    def __call__(self, images: Tensor, uniform: Tensor, p: Tensor) -> Tensor:
        """Images float [N, C, R, R] in about -1…1, by uniform numbers [N, numbers]; `p`: see `Ada`. Same dtype."""


def build(config: DatasetConfig) -> Augmentation | None:
    """Augmentation of a configuration; None for none."""
    return {"none": None, "diffaugment": DiffAugment(), "ada": Ada()}[config.augment]


def real_sign(real: Tensor, fake: Tensor, boundary: float | None) -> Tensor:
    """Mean sign of D's scores of reals [N], [] (r_t of Karras et al. 2020, equation 1): 1 if D knows them all.

    Counted from the score at which a loss separates reals from fakes. Where only differences matter (Wasserstein,
    relativistic), from the score of the fake in the same row, so that several processes find what one would.
    """
    return (real - (fake if boundary is None else boundary)).sign().mean()


def adapt(p: float, sign: float, images: int, config: DatasetConfig) -> float:
    """ADA's probability after a tick of so many images whose mean `real_sign` was `sign`: a step up or down.

    The authors step every four minibatches; the speed is theirs, from 0 to 1 in 500 thousand images unless configured.
    """
    if not math.isfinite(sign) or sign == config.ada_target:
        return p
    step = images / (1000 * config.ada_kimg)
    return min(max(p + math.copysign(step, sign - config.ada_target), 0.0), MOST_P)


class DiffAugment:
    """Colour, translation and cutout of every image, as in the authors' code (`p` is not used).

    Brightness ±½ (images are −1…1), saturation by 0…2 (grey images have none), contrast by ½…1½; shifted by up to R/8
    either way, with zeros (medium grey) outside; a square of R/2 around a random place set to zero.
    """

    numbers = 7

    def __call__(self, images: Tensor, uniform: Tensor, p: Tensor) -> Tensor:
        brightness, saturation, contrast, *places = _columns(uniform, images)
        x, size = images + (brightness - 0.5), images.shape[3]
        if images.shape[1] == 3:
            x = _around(x.mean(1, keepdim=True), x, 2 * saturation)
        x = _around(x.mean((1, 2, 3), keepdim=True), x, contrast + 0.5)
        # Whole pixels from -most to most, each as likely.
        most = int(size / 8 + 0.5)
        right, down = (torch.floor(u * (2 * most + 1)) - most for u in places[:2])
        x = _shifted(_shifted(x, right, 3), down, 2)
        # The square's middle is anywhere; at the border less of it is inside.
        side = int(size / 2 + 0.5)
        at = torch.arange(size, device=x.device, dtype=x.dtype)
        left, top = (torch.floor(u * (size + 1 - side % 2)) - side // 2 for u in places[2:])
        across, along = ((at >= first) & (at < first + side) for first in (left, top))
        return x.masked_fill(across & along.transpose(2, 3), 0.0)


class Ada:
    """Pixel blitting, geometric and colour transformations, each with probability p (Karras et al. 2020, appendix B).

    Blitting: mirrored, turned by quarters, shifted by whole pixels up to R/8. Geometric: scaled (lognormal, 0.2
    octaves), turned by any angle, stretched (as scaled), shifted by N(0, R/8). Colour: brightness N(0, 0.2), contrast
    (lognormal, half an octave), and of colour images luma inverted, hue turned, saturation (lognormal, an octave).
    Beyond the border images are reflected. Unlike the authors' code, an image is turned once, after it was stretched
    along its axes, and what is sampled bilinearly is filtered only where it shrinks.
    """

    numbers = 26

    def __call__(self, images: Tensor, uniform: Tensor, p: Tensor) -> Tensor:
        u, size = iter(_columns(uniform, images)), images.shape[3]
        p = p.to(images.dtype)

        def happens() -> Tensor:
            return next(u) < p

        def normal(std: float) -> Tensor:
            inside = next(u).clamp(_TINY, 1 - _TINY)
            return torch.erfinv(2 * inside - 1) * (math.sqrt(2) * std)

        def choose(happening: Tensor, value: Tensor, otherwise: float) -> Tensor:
            return torch.where(happening, value, otherwise)

        # Numbers of the geometry, in this order. Shifts are in pixels, angles in quarter turns.
        flip = choose(happens(), torch.where(next(u) < 0.5, -1.0, 1.0).to(images.dtype), 1.0)
        quarters = choose(happens(), torch.floor(4 * next(u)), 0.0)
        shifted, most = happens(), size / 8
        whole = [choose(shifted, torch.round((2 * next(u) - 1) * most), 0.0) for _ in "xy"]
        scale = choose(happens(), torch.exp2(normal(0.2)), 1.0)
        angle = choose(happens(), 4 * next(u) - 2, 0.0)
        stretch = choose(happens(), torch.exp2(normal(0.2)), 1.0)
        moved = happens()
        part = [choose(moved, normal(size / 8), 0.0) for _ in "xy"]

        # Along the axes: from each pixel of a canvas twice as wide to the place in the image that it shows.
        right, down = (a + b for a, b in zip(whole, part, strict=True))
        rows = _resampling(size, 1 / (scale / stretch), down)
        columns = _resampling(size, flip / (scale * stretch), right)
        canvas = torch.matmul(torch.matmul(rows, images), columns.transpose(2, 3))

        # Turned: by the nearest number of quarters when all else is done, and by the rest, at most half of one.
        near = torch.round(angle)
        rest = (angle - near) * (math.pi / 2)
        canvas = _sheared(canvas, -torch.tan(rest / 2), 3)
        inner = slice(size // 2, size // 2 + size)
        canvas = _sheared(canvas, torch.sin(rest), 2)[:, :, inner]
        canvas = _sheared(canvas, -torch.tan(rest / 2), 3)[..., inner]
        still = (flip == 1) & (right == 0) & (down == 0) & (scale == 1) & (stretch == 1) & (rest == 0)
        x = torch.where(still, images, canvas)
        quarters = torch.remainder(quarters + near, 4)
        x = torch.where(torch.remainder(quarters, 2) == 1, torch.rot90(x, -1, (2, 3)), x)
        x = torch.where(quarters >= 2, torch.rot90(x, 2, (2, 3)), x)

        # Colours: brightness, contrast, and what only colour images have.
        x = torch.where(happens(), x + normal(0.2), x)
        x = torch.where(happens(), x * torch.exp2(normal(0.5)), x)
        if images.shape[1] == 3:
            # A colour is its luma, along (1, 1, 1), and the chroma across it (appendix B).
            inverted = choose(happens(), torch.where(next(u) < 0.5, -1.0, 1.0).to(images.dtype), 1.0)
            hue = choose(happens(), (2 * next(u) - 1) * math.pi, 0.0)
            saturation = choose(happens(), torch.exp2(normal(1.0)), 1.0)
            luma = x.mean(1, keepdim=True)
            chroma = x - luma
            r, g, b = (chroma[:, i : i + 1] for i in range(3))
            across = torch.cat([b - g, r - b, g - r], 1) / math.sqrt(3)
            turned = torch.cos(hue) * chroma + torch.sin(hue) * across
            same = (inverted == 1) & (hue == 0) & (saturation == 1)
            x = torch.where(same, x, inverted * luma + saturation * turned)
        return x


def _columns(uniform: Tensor, images: Tensor) -> list[Tensor]:
    """Numbers [N, K] as K of [N, 1, 1, 1], in the dtype of the images."""
    return [column.view(-1, 1, 1, 1) for column in uniform.to(images.dtype).unbind(1)]


def _around(mean: Tensor, x: Tensor, factor: Tensor) -> Tensor:
    return (x - mean) * factor + mean


def _shifted(x: Tensor, by: Tensor, dim: int) -> Tensor:
    """Images [N, C, H, W] moved along a dimension by whole pixels, [N, 1, 1, 1] or a number a row; zeros come in.

    No pixel of x that counts is read twice, so that the gradient is one number each, in whatever order it is added.
    """
    size = x.shape[dim]
    at = torch.arange(size, device=x.device).view([-1 if i == dim else 1 for i in range(4)])
    source = at - by.long()
    inside = (source >= 0) & (source < size)
    index = source.clamp(0, size - 1).expand(len(x), x.shape[1], *x.shape[2:])
    return torch.where(inside, x.gather(dim, index), 0.0)


def _sheared(x: Tensor, slope: Tensor, dim: int) -> Tensor:
    """Images [N, C, S, S] sheared along a dimension, slope [N, 1, 1, 1], about the middle; linearly interpolated."""
    other = 5 - dim
    at = torch.arange(x.shape[other], device=x.device, dtype=x.dtype) - (x.shape[other] - 1) / 2
    by = slope * at.view([-1 if i == other else 1 for i in range(4)])
    whole = torch.floor(by)
    return torch.lerp(_shifted(x, whole, dim), _shifted(x, whole + 1, dim), by - whole)


def _resampling(size: int, step: Tensor, shift: Tensor) -> Tensor:
    """Matrices [N, 1, 2·size, size] from pixels to a canvas with half an image around, reflected at the borders.

    `step` [N, 1, 1, 1]: pixels from one of the canvas to the next, negative if mirrored; `shift`: of the picture. Each
    row interpolates linearly between two neighbours, or is a wider tent where the picture shrinks.
    """
    canvas = torch.arange(2 * size, device=step.device, dtype=step.dtype).view(1, 1, -1, 1) - (2 * size - 1) / 2
    place = (canvas - shift) * step + (size - 1) / 2
    period = 2 * (size - 1)
    place = torch.remainder(place, period)
    place = torch.minimum(place, period - place)
    pixels = torch.arange(size, device=step.device, dtype=step.dtype)
    tents = torch.relu(1 - (place - pixels).abs() / step.abs().clamp(min=1))
    return tents / tents.sum(3, keepdim=True)
