"""Sliced Wasserstein distance and MS-SSIM as the authors' code computes them, with every step in between."""

import numpy as np
import pytest
import torch
from torch import Tensor

from progan.metrics import Setting, ms_ssim, swd
from progan.metrics.ms_ssim import MultiScaleSsim
from progan.metrics.swd import SlicedWasserstein
from reference_networks import load

ARRAYS, IMAGES = load("metrics"), load("metrics_images")
A, B = (torch.from_numpy(IMAGES[f"images_{name}"]) for name in "AB")
BLEND = (0.6 * A[:1].double() + 0.4 * A).round().to(torch.uint8)
LEVELS = ("swd_64", "swd_32", "swd_16", "swd")
PAIRS = {"AvsB": (A, B), "A1vsA2": (A[:128], A[128:]), "B1vsB2": (B[:128], B[128:]), "AvsA": (A, A)}


class OfficialDraws(swd.Draws):
    """Draws patches and directions from numpy's generator in the order in which the authors' code does.

    It draws x, then y, per feed and level. Its descriptors hold [C, x, y], ours [C, y, x]: the directions are turned
    instead. It measures the reals against themselves first, which draws directions that do not count.
    """

    def __init__(self, seed: int) -> None:
        self._random = np.random.RandomState(seed)
        self._began_fakes = False

    def corners(self, size: int, real: bool, first: int, n: int) -> Tensor:
        if not real and not self._began_fakes:
            self._began_fakes = True
            for _ in range(3):
                self.directions(0, 147)
        x, y = (self._random.randint(3, size - 3, size=n * 128) - 3 for _ in range(2))
        return torch.from_numpy(np.stack([y, x], -1)).view(n, 128, 2)

    def directions(self, size: int, length: int) -> Tensor:
        normals = np.concatenate([self._random.randn(length, 128) for _ in range(4)], 1)
        units = (normals / np.linalg.norm(normals, axis=0)).T.astype(np.float32)
        return torch.from_numpy(units).view(512, 3, 7, 7).mT.flatten(1)


def official_swd(reals: Tensor, fakes: Tensor, seed: int) -> np.ndarray:
    metric = SlicedWasserstein(Setting(), OfficialDraws(seed))
    for images, real in ((reals, True), (fakes, False)):
        for batch in images.split(64):
            metric.update(batch, real)
    values = metric.result()
    return np.array([values[name].value for name in LEVELS])


def normalized_in_32_bits(descriptors: Tensor) -> Tensor:
    """As the authors do it; their sums over 32,768 patches lose digits."""
    array = descriptors.numpy()
    array -= array.mean((0, 2, 3), keepdims=True)
    array /= array.std((0, 2, 3), keepdims=True)
    return descriptors.flatten(1)


@pytest.mark.parametrize("row", [0, pytest.param(1, marks=pytest.mark.slow), pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name == "AvsA")) for name in PAIRS])
def test_distances(name: str, row: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within 1e-4; the rest is their rounding of the mean and the deviation, and with that within 2e-6."""
    expected, seed = ARRAYS[f"swd_{name}"][row], int(ARRAYS["swd_seeds"][row])
    np.testing.assert_allclose(official_swd(*PAIRS[name], seed), expected, rtol=1e-4)
    monkeypatch.setattr(swd, "normalize", normalized_in_32_bits)
    np.testing.assert_allclose(official_swd(*PAIRS[name], seed), expected, rtol=2e-6)


def test_pyramid() -> None:
    images = A[:4].float()
    levels = swd.laplacian_pyramid(images)
    for number, level in enumerate(levels):
        np.testing.assert_allclose(level, ARRAYS[f"pyramid_A4_level{number}"], rtol=0, atol=4e-5)
    np.testing.assert_array_equal(swd.halve(images), ARRAYS["pyr_down_A4"])
    np.testing.assert_array_equal(swd.double(swd.halve(images)), ARRAYS["pyr_up_of_down_A4"])
    whole = levels[2]
    for level in reversed(levels[:2]):
        whole = swd.double(whole) + level
    torch.testing.assert_close(whole, images, rtol=0, atol=1e-4)


@pytest.mark.parametrize("number", [0, 2])
def test_descriptors(number: int) -> None:
    level = swd.laplacian_pyramid(A[:4].float())[number]
    draws = np.random.RandomState(7)
    x, y = (torch.from_numpy(draws.randint(3, level.shape[2] - 3, size=512) - 3) for _ in range(2))
    found = swd.patches(level, torch.stack([y, x], 1).view(4, 128, 2))
    np.testing.assert_allclose(found[:64].mT, ARRAYS[f"desc_seed7_level{number}_raw"], rtol=0, atol=4e-5)
    if number == 0:
        final = swd.normalize(found).view(-1, 3, 7, 7)[:64].mT.flatten(1)
        np.testing.assert_allclose(final, ARRAYS["desc_seed7_level0_final"], rtol=0, atol=1e-5)


def test_distance_along_given_directions() -> None:
    directions = OfficialDraws(11).directions(0, 147).view(512, 3, 7, 7).mT.flatten(1)  # not turned
    a, b = (torch.from_numpy(ARRAYS[f"sw_unit/{name}"]) for name in "AB")
    found = float(swd.sliced_wasserstein(a, b, directions).mean())
    assert found == pytest.approx(float(ARRAYS["sw_unit/result_seed11"]), rel=1e-6)


@pytest.mark.parametrize(("name", "images"), [("A", A), ("B", B), ("A_blend60", BLEND)])
def test_similarity(name: str, images: Tensor) -> None:
    """The authors' code filters in 32 bits, ours in 64: their pairs differ by up to 3e-6, the means by 2e-7."""
    metric = MultiScaleSsim(Setting())
    for batch in images.split(37):
        metric.update(batch, real=False)
    value = metric.result()["ms_ssim"].value
    assert value == pytest.approx(float(ARRAYS[f"msssim_{name}"]), abs=3e-7)
    pairs = ms_ssim.ms_ssim(images[0::2], images[1::2])
    np.testing.assert_allclose(pairs, ARRAYS[f"msssim_{name}_per_pair"], rtol=0, atol=5e-6)
    ssim, contrast = ms_ssim.ssim_terms(images[0:32:2].double(), images[1:32:2].double())
    np.testing.assert_allclose(ssim, ARRAYS[f"ssim_{name}_scale0_first16"], rtol=0, atol=5e-6)
    np.testing.assert_allclose(contrast, ARRAYS[f"cs_{name}_scale0_first16"], rtol=0, atol=5e-6)


def test_similarity_of_other_sizes_and_of_the_same() -> None:
    one, two = (torch.from_numpy(IMAGES[f"msssim_256_img{number}"]) for number in (1, 2))
    assert float(ms_ssim.ms_ssim(one, two).mean()) == pytest.approx(float(ARRAYS["msssim_256/score"]), abs=3e-6)
    assert ms_ssim.ms_ssim(A, A).tolist() == pytest.approx([float(ARRAYS["msssim_identical"])] * 256, abs=1e-12)
    for size in (4, 8, 11):
        window = ms_ssim.gaussian(size)
        np.testing.assert_allclose(torch.outer(window, window), ARRAYS[f"gauss_window_{size}"], rtol=1e-14)
