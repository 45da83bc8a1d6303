"""Spectrum and extremes, on images whose answer is known."""

import math

import pytest
import torch
from torch import Tensor

from progan.errors import ConfigError
from progan.images import to_images
from progan.metrics import Setting, make
from progan.metrics.extremes import isolated
from progan.metrics.spectrum import distance, radial_power


def noise(n: int, seed: int = 0, deviation: float = 20) -> Tensor:
    """White noise, pixels uint8 [n, 1, 32, 32]."""
    normals = torch.randn(n, 1, 32, 32, generator=torch.Generator().manual_seed(seed))
    return (128 + deviation * normals).round().clamp(0, 255).to(torch.uint8)


class TestSpectrum:
    def test_white_noise_has_its_variance_at_every_radius(self) -> None:
        power = radial_power(noise(2000).double()).mean(0)
        torch.testing.assert_close(power, torch.full((16,), 400.0, dtype=torch.float64), rtol=0.08, atol=0)

    def test_a_wave_is_at_its_frequency(self) -> None:
        wave = 100 * torch.cos(2 * math.pi * 5 * torch.arange(32) / 32).expand(1, 1, 32, 32)
        power = radial_power(wave.double())[0]
        assert power.argmax() == 4
        assert float(power[[0, 1, 2, 7, 8, 15]].max()) < 1e-3 * float(power[4])

    def test_borders_that_do_not_meet_do_not_leak(self) -> None:
        """A wave that ends in the middle of a period: without a window every radius has a thousandth of its power."""
        wave = 100 * torch.cos(2 * math.pi * 5.5 * torch.arange(32) / 32).expand(1, 1, 32, 32)
        power = radial_power(wave.double())[0]
        assert float(power[11:].max()) < 1e-5 * float(power.max())

    def test_white_noise_against_smoothed_noise(self) -> None:
        """Neighbours averaged across the picture: cos² of half the horizontal frequency, averaged over each ring."""
        white = noise(3000).double()
        smoothed = (white + white.roll(1, 3)) / 2
        frequency = torch.fft.fftfreq(32, dtype=torch.float64)
        gain = torch.cos(math.pi * frequency).square().expand(32, 32)
        radius = torch.hypot(*torch.meshgrid(frequency, frequency, indexing="ij")).mul(32).round()
        expected = torch.stack([gain[radius == r].mean() for r in range(1, 17)])
        decibels = float((10 * expected.log10()).square().mean().sqrt())
        found = distance(radial_power(white).mean(0), radial_power(smoothed).mean(0))
        assert found == pytest.approx(decibels, abs=0.1)
        assert decibels > 2

    def test_half_the_power_is_three_decibels(self) -> None:
        metric = make("spectrum", Setting(resolution=32))
        metric.update(noise(400, deviation=28.284), real=True)
        metric.update(noise(800, seed=1), real=False)
        value = metric.result()["spectrum"]
        assert value.value == pytest.approx(3.01, abs=0.15)
        assert value.low < 3.01 < value.high

    def test_the_interval_covers_other_choices_of_images(self) -> None:
        inside = 0
        for seed in range(30):
            metric = make("spectrum", Setting(resolution=32))
            images = noise(64, seed=2 * seed)
            metric.update(images, real=True)
            metric.update(noise(64, seed=2 * seed + 1) // 2, real=False)
            inside += metric.result()["spectrum"].low < 6.02 < metric.result()["spectrum"].high
        assert 24 <= inside <= 30

    def test_images_of_one_colour_and_too_few(self) -> None:
        metric = make("spectrum", Setting(resolution=32))
        metric.update(torch.zeros(8, 1, 32, 32, dtype=torch.uint8), real=True)
        metric.update(torch.ones(8, 1, 32, 32, dtype=torch.uint8), real=False)
        assert metric.result()["spectrum"].value == 0
        with pytest.raises(ConfigError, match="spectrum needs at least 8"):
            make("spectrum", Setting()).result()


class TestExtremes:
    def test_a_planted_pattern(self) -> None:
        pixels = torch.full((2, 1, 8, 8), 100, dtype=torch.uint8)
        pixels[0, 0, 0, 0] = 255  # alone in a corner
        pixels[0, 0, 4, 4] = pixels[0, 0, 4, 5] = 255  # two side by side are a stroke
        pixels[1, 0, 2:7, 2:7] = 140
        pixels[1, 0, 3, 3] = 3  # a hole
        pixels[1, 0, 5, 5] = 6  # not black enough
        assert isolated(pixels).nonzero().tolist() == [[0, 0, 0, 0], [1, 0, 3, 3]]
        pixels[0, 0, 1, 1] = 128  # less than 128 from the corner
        assert isolated(pixels)[0].sum() == 0

    def test_rates_per_million(self) -> None:
        images = to_images(torch.full((4, 1, 8, 8), 100, dtype=torch.uint8))
        images[1, 0, 3, 3] = 1.01  # clips to 255, alone
        images[2, 0, 0, :2] = -1.01  # two that clip to 0, less than 128 from what is around them
        images[3, 0, 0, 0] = 1.003  # rounds to 255
        metric = make("extremes", Setting(resolution=8))
        metric.update(images, real=False)
        metric.update(torch.full_like(images, 9.0), real=True)  # which says nothing about the fakes
        found = metric.result()
        assert found["isolated_extremes"].value == pytest.approx(2e6 / 256)
        assert found["out_of_range"].value == pytest.approx(3e6 / 256)
        with pytest.raises(ConfigError, match="2 generated images"):
            make("extremes", Setting()).result()
