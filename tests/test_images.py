"""Between pixels and images, and between resolutions."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from progan.images import at_once, downscale, fade, grid, mirror, to_images, to_pixels, upscale


@pytest.mark.parametrize(
    ("value", "pixel"),
    [
        (-1.01, 0),  # a bare cast gives 255: white dots in the dark
        (1.01, 255),
        (-300.0, 0),
        (300.0, 255),
        (-1.0, 0),
        (1.0, 255),
        (0.0, 128),  # 127.5: a half goes to the even neighbour
        (-1 + 2 * 99.6 / 255, 100),  # a bare cast gives 99
        (-1 + 2 * 100.4 / 255, 100),
    ],
)
def test_pixels_are_rounded_and_clipped(value: float, pixel: int) -> None:
    pixels = to_pixels(torch.full((1, 1, 4, 4), value))
    assert pixels.dtype == torch.uint8
    assert pixels.unique().tolist() == [pixel]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_pixels_to_images_and_back(dtype: torch.dtype) -> None:
    pixels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    images = to_images(pixels, dtype)
    assert images.dtype == dtype
    assert (images.min(), images.max()) == (-1, 1)
    assert dtype == torch.bfloat16 or torch.equal(to_pixels(images), pixels)
    assert float(images[0, 0, 0, 1]) == pytest.approx(-1 + 2 / 255, rel=1e-2)


def test_upscaling_repeats_and_downscaling_averages() -> None:
    x = torch.tensor([[[[0.0, 1.0], [2.0, 5.0]]]])
    assert upscale(x).tolist() == [[[[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 5, 5], [2, 2, 5, 5]]]]
    assert downscale(x).tolist() == [[[[2.0]]]]
    many = torch.randn(2, 3, 16, 16)
    assert torch.allclose(downscale(many, 4), downscale(downscale(many)), atol=1e-6)
    assert torch.equal(upscale(many, 4), upscale(upscale(many)))
    assert torch.allclose(downscale(upscale(many, 8), 8), many, atol=1e-6)
    assert upscale(many, 1) is many


@pytest.mark.parametrize("alpha", [0.0, 0.25, 1.0])
def test_fade_mixes_with_the_mean_of_each_square(alpha: float) -> None:
    squares = torch.tensor([1.0, -1.0]).repeat(4, 2).view(1, 1, 4, 4)  # means of 0: only the detail is left
    for weight in (alpha, torch.tensor(alpha)):
        assert torch.equal(fade(squares, weight), alpha * squares)


def test_mirror_flips_left_to_right_from_one_half_on() -> None:
    images = torch.arange(4 * 8.0).view(4, 1, 2, 4)
    mirrored = mirror(images, torch.tensor([0.0, 0.4999, 0.5, 0.9]))
    assert torch.equal(mirrored[:2], images[:2])
    assert mirrored[2].tolist() == [[[19, 18, 17, 16], [23, 22, 21, 20]]]
    assert torch.equal(mirrored[3], images[3].flip(2))


def test_large_images_are_made_a_few_at_a_time() -> None:
    assert [at_once(r) for r in (4, 256, 512, 1024)] == [32, 32, 8, 2]
    assert [at_once(r, 16) for r in (4, 256, 512, 2048)] == [16, 16, 8, 1]


def test_grid_is_filled_row_by_row_and_white_elsewhere() -> None:
    pixels = torch.arange(5, dtype=torch.uint8).view(5, 1, 1, 1).expand(5, 3, 1, 1)
    assert grid(pixels, columns=3)[1].tolist() == [[0, 1, 2], [3, 4, 255]]
    assert grid(pixels, columns=3, gap=1)[2].tolist() == [
        [0, 255, 1, 255, 2],
        [255, 255, 255, 255, 255],
        [3, 255, 4, 255, 255],
    ]


@given(n=st.integers(1, 9), columns=st.integers(1, 5), gap=st.integers(0, 3), r=st.sampled_from([1, 2, 4]))
def test_every_image_can_be_found_in_the_grid(n: int, columns: int, gap: int, r: int) -> None:
    pixels = torch.randint(0, 255, (n, 3, r, r), dtype=torch.uint8)
    sheet = grid(pixels, columns, gap)
    rows = -(-n // columns)
    assert sheet.shape == (3, rows * (r + gap) - gap, columns * (r + gap) - gap)
    for i in range(n):
        y, x = (r + gap) * (i // columns), (r + gap) * (i % columns)
        assert torch.equal(sheet[:, y : y + r, x : x + r], pixels[i])
    assert (sheet == 255).sum() == sheet.numel() - pixels.numel()
