"""Metrics that look at neighbours, on points whose answer can be counted by hand."""

import pytest
import torch
from torch import Tensor

from progan.errors import ConfigError
from progan.metrics import Setting, make, nearest
from progan.metrics.base import fraction_of, jackknife
from progan.metrics.features import Features, RandomConvolutions
from progan.metrics.manifold import PrecisionRecall, counts, inside


def column(*values: float) -> Tensor:
    return torch.tensor(values)[:, None]


class TestNeighbours:
    def test_distances_and_radii(self) -> None:
        points = torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 1.0]])
        assert nearest.distances(points, points).tolist() == [[0, 25, 1], [25, 0, 18], [1, 18, 0]]
        assert nearest.radii(points, 1).tolist() == [1, 18, 1]
        assert nearest.radii(points, 2).tolist() == [25, 25, 18]

    def test_equal_points_are_at_distance_0(self) -> None:
        points = torch.randn(50, 800) + 3
        squares = nearest.distances(points, points.flip(0))
        assert (squares == 0).sum() == 50
        assert torch.equal((squares == 0).nonzero()[:, 1], torch.arange(49, -1, -1))

    def test_blocks_are_the_whole(self, monkeypatch: pytest.MonkeyPatch) -> None:
        a, b = torch.randn(23, 5), torch.randn(17, 5)
        whole, radii = nearest.distances(a, b), nearest.radii(a, 3)
        monkeypatch.setattr(nearest, "_ROWS", 4)
        torch.testing.assert_close(torch.cat([squares for _, squares in nearest.blocks(a, b)]), whole)
        torch.testing.assert_close(nearest.radii(a, 3), radii)

    def test_units_are_those_of_the_reals(self) -> None:
        metric = PrecisionRecall(Setting())
        metric.look = lambda features: features
        metric.update(torch.tensor([[0.0, 100.0], [2.0, 300.0]]), real=True)
        metric.update(torch.tensor([[1.0, 200.0], [3.0, 100.0]]), real=False)
        reals, fakes = metric.points(2, 2)
        half = 0.5**0.5
        torch.testing.assert_close(reals[:, 1], torch.tensor([-half, half]))
        torch.testing.assert_close(fakes[:, 1], torch.tensor([0, -half]))


class TestPrecisionRecall:
    def test_counted_by_hand(self) -> None:
        """Reals 0 1 2 10 have balls of radius 1 1 1 8 around them; fakes 0.5 1.5 3 30: radii 1, 1, 1.5, 27."""
        reals, fakes = column(0, 1, 2, 10), column(0.5, 1.5, 3, 30)
        precision, recall = inside(reals, fakes, k=1)
        assert precision.tolist() == [True, True, True, False]
        assert recall.tolist() == [True, True, True, True]
        assert inside(reals, fakes[:3], k=1)[1].tolist() == [True, True, True, False]

    def test_the_same_images_are_all_inside(self) -> None:
        pixels = torch.randint(256, (40, 3, 16, 16), dtype=torch.uint8)
        metric = make("precision_recall", Setting(resolution=16))
        metric.update(pixels, real=True)
        metric.update(pixels.flip(0), real=False)
        assert [value.value for value in metric.result().values()] == [1, 1]


class TestDensityCoverage:
    def test_counted_by_hand(self) -> None:
        """Reals 0 1 2 10 reach 1 1 1 8 far: 0.5 lies in two balls, 2.5 in two, 4 in one, 30 in none."""
        balls, covered = counts(column(0, 1, 2, 10), column(0.5, 2.5, 4, 30), k=1)
        assert balls.tolist() == [2, 2, 1, 0]
        assert covered.tolist() == [True, True, True, True]
        assert counts(column(0, 1, 2, 10), column(4, 30), k=1)[1].tolist() == [False, False, False, True]

    def test_one_distribution_has_density_1_and_coverage_1_minus_a_32nd(self) -> None:
        """Naeem et al. 2020, lemmas 1 and 2 (5 neighbours, as many fakes as reals)."""
        balls, covered = counts(torch.randn(3000, 8), torch.randn(3000, 8), k=5)
        assert float(balls.mean()) / 5 == pytest.approx(1, abs=0.03)
        assert float(covered.double().mean()) == pytest.approx(1 - 2**-5, abs=0.012)


class TestFeatures:
    def test_the_same_on_every_machine(self) -> None:
        ramp = torch.arange(3 * 64).view(1, 3, 8, 8).to(torch.uint8)
        found = RandomConvolutions()(ramp)
        assert found.shape == (1, 16 * 32 + 32)
        expected = torch.tensor([0.170418, 0.015353, -0.392568, -3.316315, -1.422755])  # numbers once seen, to stay
        torch.testing.assert_close(found[0, [0, 1, 511, 512, 543]], expected, rtol=1e-4, atol=1e-5)

    def test_an_image_has_its_own_features_whatever_is_beside_it(self) -> None:
        pixels = torch.randint(256, (70, 1, 16, 16), dtype=torch.uint8)
        network = RandomConvolutions()
        torch.testing.assert_close(network(pixels)[60:65], network(pixels[60:65]), rtol=1e-6, atol=1e-6)

    def test_two_metrics_look_once(self) -> None:
        calls = []

        def network(pixels: Tensor) -> Tensor:
            calls.append(pixels)
            return pixels.flatten(1).float()

        features, one, two = Features(network), torch.zeros(2, 1), torch.ones(2, 1)
        assert [float(features(x).sum()) for x in (one, one, two, two, one)] == [0, 0, 2, 2, 0]
        assert len(calls) == 3

    @pytest.mark.parametrize("name", ["precision-recall", "density-coverage"])
    def test_too_few_or_too_small(self, name: str) -> None:
        with pytest.raises(ConfigError, match=f"{name} needs"):
            make(name.replace("-", "_"), Setting(resolution=16)).result()
        with pytest.raises(ConfigError, match="at least 8x8"):
            make(name.replace("-", "_"), Setting(resolution=4))


class TestIntervals:
    def test_wilson(self) -> None:
        """Newcombe 1998, table I: 81 of 263, and 0 of 20."""
        value = fraction_of(torch.arange(263) < 81)
        assert (value.low, value.high) == (pytest.approx(0.2553, abs=1e-4), pytest.approx(0.3662, abs=1e-4))
        none = fraction_of(torch.zeros(20, dtype=torch.bool))
        assert (none.value, none.low, none.high) == (0, 0, pytest.approx(0.1611, abs=1e-4))

    def test_jackknife_of_a_mean_is_the_interval_of_the_mean(self) -> None:
        parts = torch.tensor([1.0, 4, 2, 8, 5, 7, 3, 6])
        value = jackknife(4.5, (parts.sum() - parts) / 7)
        assert value.high - 4.5 == pytest.approx(2.364624 * float(parts.std()) / 8**0.5, rel=1e-5)
