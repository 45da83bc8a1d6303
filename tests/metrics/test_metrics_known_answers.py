"""Metrics whose answer is known without a reference, and that they move the right way."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from progan import avatars
from progan.errors import ConfigError
from progan.metrics import Setting, Value, make, ms_ssim, swd
from progan.metrics.base import mean_of, spread_of
from progan.metrics.ms_ssim import MultiScaleSsim
from progan.metrics.swd import SlicedWasserstein


@pytest.fixture(scope="module")
def faces() -> Tensor:
    """Pixels uint8 [512, 3, 32, 32]."""
    return torch.from_numpy(np.stack(list(avatars.draw(range(512), 32, 0)))).permute(0, 3, 1, 2).contiguous()


def blurred(images: Tensor) -> Tensor:
    return F.avg_pool2d(F.pad(images.float(), (1, 1, 1, 1), mode="replicate"), 3, 1).round().to(torch.uint8)


def distance(reals: Tensor, fakes: Tensor, seed: int = 0) -> dict[str, Value]:
    metric = SlicedWasserstein(Setting(seed, reals.shape[2]))
    metric.update(reals, real=True)
    metric.update(fakes, real=False)
    return metric.result()


def similarity(images: Tensor) -> Value:
    metric = MultiScaleSsim(Setting(resolution=images.shape[2]))
    metric.update(images, real=False)
    return metric.result()["ms_ssim"]


class TestSlicedWasserstein:
    def test_blur_is_seen_in_the_finest_level_most(self, faces: Tensor) -> None:
        floor, found = distance(faces[:256], faces[256:]), distance(faces[:256], blurred(faces[256:]))
        assert found["swd_32"].low > 2 * floor["swd_32"].high
        assert found["swd_16"].value < 2 * floor["swd_16"].value

    def test_a_dropped_kind_is_seen(self, faces: Tensor) -> None:
        """The brighter half of the faces only, each twice; coarsest, since every image is a good one."""
        brightness = faces[256:].float().mean((1, 2, 3))
        half = faces[256:][brightness >= brightness.median()][:128].repeat(2, 1, 1, 1)
        floor, found = distance(faces[:256], faces[256:]), distance(faces[:256], half)
        assert found["swd_16"].value > 1.2 * floor["swd_16"].value

    def test_one_image_again_and_again_is_far_from_all(self, faces: Tensor) -> None:
        floor = distance(faces[:256], faces[256:])["swd"]
        assert distance(faces[:256], faces[:1].expand(256, -1, -1, -1))["swd"].low > 2 * floor.high

    def test_copies_of_the_reals_are_nearer_than_other_reals(self, faces: Tensor) -> None:
        copied, floor = distance(faces[:256], faces[:256])["swd"], distance(faces[:256], faces[256:])["swd"]
        assert 0 < copied.value < 0.7 * floor.value, "not 0: the patches are others"

    def test_levels_and_their_mean(self, faces: Tensor) -> None:
        values = distance(faces[:16].repeat(1, 1, 4, 4), faces[16:32].repeat(1, 1, 4, 4))
        assert list(values) == ["swd_128", "swd_64", "swd_32", "swd_16", "swd"]
        levels = [value.value for name, value in values.items() if name != "swd"]
        assert values["swd"].value == pytest.approx(np.mean(levels))
        assert all(value.low < value.value < value.high for value in values.values())

    def test_brightness_and_contrast_of_a_colour_do_not_count(self, faces: Tensor) -> None:
        """Each colour is normalised over the set, up to the rounding of pixels."""
        darker = (faces // 2) * 2
        same = distance(darker[:64], darker[64:128])
        halved = distance(darker[:64], darker[64:128] // 2 + 10)
        assert {name: value.value for name, value in same.items()} == pytest.approx(
            {name: value.value for name, value in halved.items()}, rel=1e-4
        )

    @pytest.mark.parametrize("channels", [1, 3])
    def test_the_result_does_not_depend_on_batches(self, faces: Tensor, channels: int) -> None:
        images = faces[:, :channels]
        one = SlicedWasserstein(Setting(3))
        for batch in images[:100].split(7):
            one.update(batch, real=True)
        for batch in images[100:200].split(31):
            one.update(batch, real=False)
        two = SlicedWasserstein(Setting(3))
        two.update(images[100:200], real=False)
        two.update(images[:0], real=False)
        two.update(images[:100], real=True)
        assert one.result() == two.result() == two.result()
        assert distance(images[:100], images[100:200], seed=4) != one.result()

    def test_large_levels_are_kept_as_descriptors(self, faces: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
        expected = distance(faces[:40], faces[40:80])
        monkeypatch.setattr(swd, "_SMALL", 16)
        assert distance(faces[:40], faces[40:80]) == expected

    def test_images_of_one_colour_give_a_number(self, faces: Tensor) -> None:
        assert math.isfinite(distance(faces[:16], torch.zeros_like(faces[:16]))["swd"].value)

    def test_grey_is_about_the_same_as_grey_three_times(self, faces: Tensor) -> None:
        grey = faces[:, :1]
        one, three = (distance(x[:128], x[128:256])["swd"].value for x in (grey, grey.expand(-1, 3, -1, -1)))
        assert one == pytest.approx(three, rel=0.03)

    @pytest.mark.slow
    def test_the_interval_covers_other_choices_of_images(self, faces: Tensor) -> None:
        """Of sixteen distances between disjoint sets, the usual 95 % or so lie as near to the mean as they say."""
        values = [distance(*faces[32 * i : 32 * (i + 1)].split(16), seed=i)["swd"] for i in range(16)]
        mean = np.mean([value.value for value in values])
        assert sum(value.high - value.value > abs(value.value - mean) for value in values) >= 13

    def test_too_few_or_too_small(self, faces: Tensor) -> None:
        with pytest.raises(ConfigError, match="got 16 and 17"):
            distance(faces[:17], faces[:16])
        with pytest.raises(ConfigError, match="at least 8; got 7 and 7"):
            distance(faces[:7], faces[:7])
        with pytest.raises(ConfigError, match="at least 16x16"):
            distance(faces[:, :, :8, :8], faces[:, :, :8, :8])


class TestPieces:
    def test_in_one_dimension_it_is_the_mean_shift(self) -> None:
        a, b = torch.tensor([[0.0], [1.0], [5.0]]), torch.tensor([[7.0], [2.0], [3.0]])  # 0-2, 1-3, 5-7
        assert swd.sliced_wasserstein(a, b, torch.tensor([[1.0], [-1.0]])).tolist() == [2, 2]

    def test_a_flat_image_has_nothing_but_its_lowest_level(self) -> None:
        *bands, last = swd.laplacian_pyramid(torch.full((1, 2, 64, 64), 9.0))
        assert all(float(band.abs().max()) == 0 for band in bands)
        assert (last == 9).all()
        assert last.shape == (1, 2, 16, 16)

    def test_patches_are_cut_where_their_corner_is(self) -> None:
        level = torch.arange(2 * 16 * 16).view(2, 1, 16, 16).float()
        cut = swd.patches(level, torch.tensor([[[0, 0]], [[9, 4]]]))
        assert torch.equal(cut[0, 0], level[0, 0, :7, :7])
        assert torch.equal(cut[1, 0], level[1, 0, 9:16, 4:11])

    def test_corners_reach_every_place_equally_and_differ(self) -> None:
        draws = swd.Draws(5)
        corners = draws.corners(16, True, 0, 500)
        counts = torch.bincount((10 * corners[..., 0] + corners[..., 1]).flatten(), minlength=100)
        assert len(counts) == 100
        assert counts.min() > 640 * 0.8
        assert counts.max() < 640 * 1.2
        assert torch.equal(draws.corners(16, True, 100, 3), corners[100:103])
        others = [swd.Draws(6).corners(16, True, 0, 9), draws.corners(16, False, 0, 9), draws.corners(17, True, 0, 9)]
        assert all(not torch.equal(other, corners[:9]) for other in others)

    def test_directions_are_units_pointing_everywhere(self) -> None:
        directions = swd.Draws(0).directions(16, 147)
        torch.testing.assert_close(directions.norm(dim=1), torch.ones(512))
        assert directions.mean(0).abs().max() < 5 / math.sqrt(147 * 512)
        assert not torch.equal(directions, swd.Draws(0).directions(32, 147))

    def test_interval_of_eight_parts(self) -> None:
        """Of 1 … 8: standard deviation √6, so √6/√8 for the whole, times Student's 2.3646."""
        value = spread_of(5.0, torch.arange(1.0, 9.0, dtype=torch.float64))
        assert (value.low, value.high) == (pytest.approx(2.9522, abs=1e-4), pytest.approx(7.0478, abs=1e-4))

    def test_interval_of_a_mean(self) -> None:
        value = mean_of(torch.tensor([1.0, 3.0], dtype=torch.float64))
        assert (value.value, value.high) == (2, pytest.approx(2 + 1.959964))


class TestMultiScaleSsim:
    def test_the_same_image_again_and_again(self, faces: Tensor) -> None:
        assert similarity(faces[:1].expand(10, -1, -1, -1)).value == pytest.approx(1)

    def test_less_variety_is_more_similarity(self, faces: Tensor) -> None:
        mean = faces.float().mean(0)
        alike = (0.5 * faces.float() + 0.5 * mean).round().to(torch.uint8)
        assert similarity(alike).low > similarity(faces).high

    @pytest.mark.parametrize("size", [16, 32])
    def test_the_result_does_not_depend_on_batches(self, faces: Tensor, size: int) -> None:
        images = faces[:101, :1, :size, :size]
        metric = MultiScaleSsim(Setting())
        for batch in images.split(7):
            metric.update(batch, real=False)
            metric.update(batch, real=True)  # which says nothing about the fakes
        assert metric.result() == {"ms_ssim": similarity(images)}

    def test_pairs_are_neighbours(self, faces: Tensor) -> None:
        pairs = faces[:8].repeat_interleave(2, 0)
        assert similarity(pairs).value == pytest.approx(1)
        assert similarity(pairs.roll(1, 0)).value < 0.9

    def test_too_few_or_too_small(self, faces: Tensor) -> None:
        with pytest.raises(ConfigError, match="two pairs"):
            similarity(faces[:3])
        with pytest.raises(ConfigError, match="at least 16x16"):
            similarity(faces[:, :, :8, :8])

    def test_a_window_larger_than_the_image_shrinks(self) -> None:
        assert ms_ssim.gaussian(1).tolist() == [1]
        assert ms_ssim.gaussian(11).argmax() == 5
        assert float(ms_ssim.gaussian(6).sum()) == pytest.approx(1)


def test_every_metric_is_made_with_a_seed() -> None:
    for name in ("swd", "ms_ssim"):
        with pytest.raises(ConfigError):
            make(name, Setting(seed=7)).result()
        with pytest.raises(ConfigError, match="at least 16x16"):
            make(name, Setting(resolution=8))
