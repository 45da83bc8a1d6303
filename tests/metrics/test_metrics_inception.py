"""FID, KID and Inception score: the arithmetic on statistics with known answers, the network on its published sizes."""

import math
import re
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor

from progan.errors import ConfigError
from progan.metrics import Setting, features, fid, make
from progan.metrics.features import Features

DOUBLE = torch.float64


def a_block(inputs: int, pool: int) -> dict[str, tuple[int, ...]]:
    return {
        "branch1x1": (64, inputs, 1, 1),
        "branch5x5_1": (48, inputs, 1, 1),
        "branch5x5_2": (64, 48, 5, 5),
        "branch3x3dbl_1": (64, inputs, 1, 1),
        "branch3x3dbl_2": (96, 64, 3, 3),
        "branch3x3dbl_3": (96, 96, 3, 3),
        "branch_pool": (pool, inputs, 1, 1),
    }


def c_block(maps: int) -> dict[str, tuple[int, ...]]:
    return {
        "branch1x1": (192, 768, 1, 1),
        "branch7x7_1": (maps, 768, 1, 1),
        "branch7x7_2": (maps, maps, 1, 7),
        "branch7x7_3": (192, maps, 7, 1),
        "branch7x7dbl_1": (maps, 768, 1, 1),
        "branch7x7dbl_2": (maps, maps, 7, 1),
        "branch7x7dbl_3": (maps, maps, 1, 7),
        "branch7x7dbl_4": (maps, maps, 7, 1),
        "branch7x7dbl_5": (192, maps, 1, 7),
        "branch_pool": (192, 768, 1, 1),
    }


def e_block(inputs: int) -> dict[str, tuple[int, ...]]:
    return {
        "branch1x1": (320, inputs, 1, 1),
        "branch3x3_1": (384, inputs, 1, 1),
        "branch3x3_2a": (384, 384, 1, 3),
        "branch3x3_2b": (384, 384, 3, 1),
        "branch3x3dbl_1": (448, inputs, 1, 1),
        "branch3x3dbl_2": (384, 448, 3, 3),
        "branch3x3dbl_3a": (384, 384, 1, 3),
        "branch3x3dbl_3b": (384, 384, 3, 1),
        "branch_pool": (192, inputs, 1, 1),
    }


BLOCKS = {
    "Mixed_5b": a_block(192, 32),
    "Mixed_5c": a_block(256, 64),
    "Mixed_5d": a_block(288, 64),
    "Mixed_6a": {
        "branch3x3": (384, 288, 3, 3),
        "branch3x3dbl_1": (64, 288, 1, 1),
        "branch3x3dbl_2": (96, 64, 3, 3),
        "branch3x3dbl_3": (96, 96, 3, 3),
    },
    "Mixed_6b": c_block(128),
    "Mixed_6c": c_block(160),
    "Mixed_6d": c_block(160),
    "Mixed_6e": c_block(192),
    "Mixed_7a": {
        "branch3x3_1": (192, 768, 1, 1),
        "branch3x3_2": (320, 192, 3, 3),
        "branch7x7x3_1": (192, 768, 1, 1),
        "branch7x7x3_2": (192, 192, 1, 7),
        "branch7x7x3_3": (192, 192, 7, 1),
        "branch7x7x3_4": (192, 192, 3, 3),
    },
    "Mixed_7b": e_block(1280),
    "Mixed_7c": e_block(2048),
}
SHAPES = {
    "Conv2d_1a_3x3": (32, 3, 3, 3),
    "Conv2d_2a_3x3": (32, 32, 3, 3),
    "Conv2d_2b_3x3": (64, 32, 3, 3),
    "Conv2d_3b_1x1": (80, 64, 1, 1),
    "Conv2d_4a_3x3": (192, 80, 3, 3),
    **{f"{block}.{name}": shape for block, layers in BLOCKS.items() for name, shape in layers.items()},
}


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    """A state_dict as torchvision lays it out, random."""
    found = {}
    for name, shape in SHAPES.items():
        found[f"{name}.conv.weight"] = torch.randn(shape) * math.sqrt(2 / math.prod(shape[1:]))
        found[f"{name}.bn.weight"] = torch.rand(shape[0]) + 0.5
        found[f"{name}.bn.bias"] = torch.randn(shape[0]) / 10
        found[f"{name}.bn.running_mean"] = torch.randn(shape[0]) / 10
        found[f"{name}.bn.running_var"] = torch.rand(shape[0]) + 0.5
        found[f"{name}.bn.num_batches_tracked"] = torch.tensor(5)
    return found | {"fc.weight": torch.randn(1008, 2048) / 45, "fc.bias": torch.randn(1008)}


class TestNetwork:
    def test_as_many_weights_as_published(self, weights: dict[str, Tensor]) -> None:
        """Torchvision's 27,161,264 without the 3,326,696 of the auxiliary classifier, for 1,000 classes."""
        trained = {name: value for name, value in weights.items() if "running" not in name and "num_b" not in name}
        count = sum(value.numel() for value in trained.values())
        assert count - 8 * 2049 == 27_161_264 - 3_326_696

    def test_features_and_logits(self, weights: dict[str, Tensor]) -> None:
        """Grey is RGB thrice; the ported logits have no bias, torchvision's have; an image is its own."""
        pixels = torch.randint(256, (2, 1, 32, 32), dtype=torch.uint8)
        ported = features.Inception(weights)
        found = ported(pixels)
        assert found.shape == (2, 2048 + 1008)
        torch.testing.assert_close(found[1:], ported(pixels[1:].expand(-1, 3, -1, -1)), rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(found[:, 2048:], found[:, :2048] @ weights["fc.weight"].T, rtol=1e-3, atol=1e-3)
        own = {**weights, "fc.weight": weights["fc.weight"][:1000], "fc.bias": weights["fc.bias"][:1000]}
        other = features.Inception(own)(pixels[:1])
        expected = other[:, :2048] @ own["fc.weight"].T + own["fc.bias"]
        torch.testing.assert_close(other[:, 2048:], expected, rtol=1e-3, atol=1e-3)
        assert not torch.allclose(other[:, :2048], found[:1, :2048], rtol=0.01), "they pool differently"

    def test_normalisation_is_folded_into_the_convolution(self, weights: dict[str, Tensor]) -> None:
        name = "Conv2d_1a_3x3"
        x = torch.randn(1, 3, 9, 9)
        bn = [weights[f"{name}.bn.{part}"] for part in ("running_mean", "running_var", "weight", "bias")]
        expected = F.batch_norm(F.conv2d(x, weights[f"{name}.conv.weight"], stride=2), *bn, eps=1e-3).relu()
        torch.testing.assert_close(features.Inception(weights)._conv(x, name, stride=2), expected, rtol=1e-4, atol=1e-5)

    def test_resized_as_tensorflow_1_did(self) -> None:
        """Output i looks at i · size / 299: the first pixels lie upon each other, the last is repeated."""
        ramp = torch.arange(13.0).expand(1, 1, 13, 13)
        found = features.resize(ramp)
        assert found.shape == (1, 1, 299, 299)
        expected = (torch.arange(299) * 13 / 299).clamp_max(12)
        torch.testing.assert_close(found[0, 0, 7], expected, rtol=1e-5, atol=1e-4)
        torch.testing.assert_close(found.mT, features.resize(ramp.mT))

    def test_files(self, weights: dict[str, Tensor], tmp_path: Path) -> None:
        torch.save(weights, tmp_path / "a.pth")
        safetensors.torch.save_file(weights, tmp_path / "a.safetensors")
        pixels = torch.randint(256, (1, 3, 8, 8), dtype=torch.uint8)
        settings = [Setting(inception_weights=tmp_path / name) for name in ("a.pth", "a.safetensors")]
        one, two = (features.inception_features(setting, "fid")(pixels) for setting in settings)
        assert torch.equal(one, two)
        assert "an unknown file, 1008 classes, sha256 " in settings[0].notes[0]
        assert "not verified against published values" in settings[0].notes[0]

    @pytest.mark.parametrize("name", ["fid", "kid", "inception_score"])
    def test_without_a_file_it_says_where_there_is_one(self, name: str) -> None:
        with pytest.raises(ConfigError, match="needs --inception-weights FILE, for instance pt_inception-2015"):
            make(name, Setting())

    def test_files_that_are_none(self, tmp_path: Path) -> None:
        torch.save({"fc.weight": torch.zeros(2, 2)}, tmp_path / "other.pth")
        torch.save(Path("code"), tmp_path / "pickle.pth")
        (tmp_path / "text.pth").write_text("hello")
        (tmp_path / "text.safetensors").write_text("hello")
        (tmp_path / "empty.pth").touch()
        (tmp_path / "script.pth").write_text("export PATH=/opt/bin:$PATH\n")
        (tmp_path / "short.pth").write_bytes(b"J\x00")
        files = ("other.pth", "pickle.pth", "text.pth", "text.safetensors", "empty.pth", "script.pth", "short.pth")
        for name in files:
            with pytest.raises(ConfigError, match="is no state_dict of Inception-v3"):
                make("fid", Setting(inception_weights=tmp_path / name))
        with pytest.raises(ConfigError, match="cannot be read"):
            make("fid", Setting(inception_weights=tmp_path / "missing.pth"))


def gaussian(n: int, size: int, seed: int, shift: float = 0) -> Tensor:
    return torch.randn(n, size, generator=torch.Generator().manual_seed(seed)) + shift


class TestFrechet:
    def test_gaussians_of_diagonal_covariance(self) -> None:
        """Shift 3 and 4, deviations 1 2 against 4 6: 25 + 9 + 16."""
        a, b = torch.diag(torch.tensor([1.0, 4], dtype=DOUBLE)), torch.diag(torch.tensor([16.0, 36], dtype=DOUBLE))
        zero, far = torch.zeros(2, dtype=DOUBLE), torch.tensor([3.0, -4], dtype=DOUBLE)
        assert fid.frechet(zero, a, far, b) == pytest.approx(50)
        assert fid.frechet(far, b, zero, a) == pytest.approx(50)

    def test_covariances_that_do_not_commute(self) -> None:
        """Two of two dimensions: the roots of the eigenvalues of AB sum to √(tr AB + 2 √det AB)."""
        a = torch.tensor([[2.0, 1], [1, 3]], dtype=DOUBLE)
        b = torch.tensor([[5.0, -2], [-2, 1]], dtype=DOUBLE)
        product = a @ b
        overlap = math.sqrt(float(product.trace()) + 2 * math.sqrt(float(torch.det(product))))
        zero = torch.zeros(2, dtype=DOUBLE)
        assert fid.frechet(zero, a, zero, b) == pytest.approx(11 - 2 * overlap)

    def test_singular_covariances(self) -> None:
        """Of rank 20 in 64 dimensions: 0 from itself, and from its double tr A (√2 - 1)²."""
        points = gaussian(21, 64, 0).to(DOUBLE)
        a, zero = points.T.cov(), torch.zeros(64, dtype=DOUBLE)
        scale = float(a.trace())
        assert fid.frechet(zero, a, zero, a) == pytest.approx(0, abs=1e-6 * scale)
        assert fid.frechet(zero, a, zero, 2 * a) == pytest.approx(scale * (math.sqrt(2) - 1) ** 2, rel=1e-5)

    def test_moments_are_mean_and_covariance_whatever_the_batches(self) -> None:
        points = gaussian(203, 5, 1, shift=7)
        moments = fid.Moments()
        for part in points.split(17):
            moments.add(part)
        mean, covariance = moments.gaussian()
        torch.testing.assert_close(mean, points.double().mean(0))
        torch.testing.assert_close(covariance, points.double().T.cov())
        rest = points.double()[torch.arange(203) % 8 != 3]
        torch.testing.assert_close(moments.gaussian(without=3), (rest.mean(0), rest.T.cov()))

    def test_the_interval_covers_other_choices_of_images(self) -> None:
        inside = 0
        for seed in range(30):
            reals, fakes = gaussian(2000, 3, 2 * seed), 2 * gaussian(2000, 3, 2 * seed + 1, shift=0.5)
            value = measured("fid", reals, fakes)["fid"]
            inside += value.low < 3 * (1 + 1) < value.high  # shift 1 and deviation 2 against 1, in three dimensions
        assert 26 <= inside <= 30


class TestStatistics:
    """Published means and covariances in the place of the data's."""

    @pytest.fixture(autouse=True)
    def _five(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(fid, "FEATURES", 5)

    def test_those_of_the_data_give_the_same_distance(self, tmp_path: Path) -> None:
        reals, fakes = gaussian(300, 5, 0), gaussian(300, 5, 1, shift=0.5)
        np.savez(tmp_path / "s.npz", mu=reals.double().mean(0), sigma=np.cov(reals.double().T))
        expected = measured("fid", reals, fakes)["fid"].value
        found = measured("fid", gaussian(300, 5, 2, shift=9), fakes, tmp_path / "s.npz")["fid"]
        assert found.value == pytest.approx(expected, rel=1e-9)
        assert found.low < expected < found.high

    def test_files_that_are_none(self, tmp_path: Path) -> None:
        good = {"mu": np.zeros(5), "sigma": np.eye(5)}
        bad = {
            "no .npz with arrays mu [5] and sigma [5, 5]": {"mu": np.zeros(5)},
            "has mu [4] and sigma [5, 5]; Inception-v3 has 5 features": {**good, "mu": np.zeros(4)},
            "has mu [5] and sigma [5]": {**good, "sigma": np.zeros(5)},
            "is not symmetric or not finite": {**good, "sigma": np.triu(np.ones((5, 5)))},
            "sigma is not symmetric or not finite": {**good, "mu": np.full(5, np.nan)},
            "is no .npz with": {"mu": np.array([None] * 5), "sigma": np.eye(5)},
        }
        for message, arrays in bad.items():
            np.savez(tmp_path / "s.npz", **arrays)
            with pytest.raises(ConfigError, match=re.escape(message)):
                measured("fid", gaussian(20, 5, 0), gaussian(20, 5, 1), tmp_path / "s.npz")
        np.save(tmp_path / "s.npy", np.zeros(5))
        (tmp_path / "text.npz").write_text("hello")
        (tmp_path / "empty.npz").touch()
        (tmp_path / "cut.npz").write_bytes((tmp_path / "s.npz").read_bytes()[:100])
        for name, message in {
            "s.npy": "is no .npz with",
            "text.npz": "is no .npz with",
            "empty.npz": "is no .npz with",
            "cut.npz": "is no .npz with",
            "gone.npz": "cannot be read: No such file",
            ".": "cannot be read: Is a directory",
        }.items():
            with pytest.raises(ConfigError, match=re.escape(message)):
                measured("fid", gaussian(20, 5, 0), gaussian(20, 5, 1), tmp_path / name)

    def test_of_another_network_they_are_refused(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "s.npz", mu=np.zeros(5), sigma=np.eye(5))
        setting = Setting(inception_statistics=tmp_path / "s.npz")
        setting.networks["inception"] = Features(lambda points: points)
        setting.networks["inception"].classes = 1000
        for _ in range(2):  # of a second snapshot, too
            with pytest.raises(
                ConfigError, match="of the network with 1,008 classes; --inception-weights has one with 1,000"
            ):
                make("fid", setting)
        assert not setting.notes


class TestKernel:
    def test_by_hand(self) -> None:
        """One dimension, a = 0 and 1, b = 2 and 3: 1 + 343 - 2 · (1 + 27 + 1 + 64) / 4."""
        a, b = torch.tensor([[0.0], [1.0]]), torch.tensor([[2.0], [3.0]])
        assert fid.discrepancy(a, b) == pytest.approx(1 + 343 - 2 * (1 + 1 + 27 + 64) / 4)

    def test_unbiased(self) -> None:
        """Of one distribution the mean of many small samples is 0; a biased estimate of 10 points would be far off."""
        found = torch.tensor([fid.discrepancy(gaussian(10, 4, 2 * i), gaussian(10, 4, 2 * i + 1)) for i in range(2000)])
        error = float(found.std()) / math.sqrt(2000)
        assert abs(float(found.mean())) < 3 * error
        assert error < 0.02

    def test_known_distance(self) -> None:
        """The cubic kernel of one dimension compares moments: 3 Δm1² + 3 Δm2² + Δm3², of N(0, 1) and N(1, 1) 35."""
        values = [
            measured("kid", gaussian(4000, 1, 2 * i), gaussian(4000, 1, 2 * i + 1, shift=1))["kid"] for i in range(5)
        ]
        expected = 3 * 1 + 3 * (2 - 1) ** 2 + 4**2
        assert sum(value.low < expected < value.high for value in values) >= 4
        assert sum(value.value for value in values) / 5 == pytest.approx(expected, rel=0.05)


class TestScore:
    def test_classes_seen_with_certainty(self) -> None:
        """Ten classes equally often score 10, one class 1, and no idea 1."""
        certain = 100 * torch.eye(10).repeat(7, 1)
        assert fid.score(certain) == pytest.approx(10, rel=1e-6)
        assert fid.score(certain[:1].expand(20, -1)) == pytest.approx(1)
        assert fid.score(torch.zeros(20, 10)) == pytest.approx(1)

    def test_unequal_classes(self) -> None:
        """Certain of two classes at 3 : 1: the exponential of the entropy."""
        logits = 200 * torch.eye(2)[[0, 0, 0, 1] * 5]
        assert fid.score(logits) == pytest.approx(math.exp(-0.75 * math.log(0.75) - 0.25 * math.log(0.25)))

    def test_ten_splits(self) -> None:
        logits = torch.zeros(40, 5)
        logits[:4] = 100 * torch.eye(5)[:4]  # the first split sees four classes, the others nothing
        padded = torch.cat([torch.zeros(40, 2048), logits], 1)
        value = measured("inception_score", padded, padded)["inception_score"]
        assert value.value == pytest.approx((4 + 9 * 1) / 10)


def measured(name: str, reals: Tensor, fakes: Tensor, statistics: Path | None = None):
    """A metric of features that are given in the place of images."""
    setting = Setting(inception_statistics=statistics)
    setting.networks["inception"] = Features(lambda points: points)
    metric = make(name, setting)
    for points, real in ((fakes, False), (reals, True)):
        for part in points.split(500 if real else 37):
            metric.update(part, real)
    return metric.result()


def test_each_looks_at_its_own_part(monkeypatch: pytest.MonkeyPatch) -> None:
    """Five features, then logits: what is in the other part changes nothing."""
    points = torch.randn(80, 8)
    monkeypatch.setattr(fid, "FEATURES", 5)
    for name, mine in (("fid", slice(5)), ("kid", slice(5)), ("inception_score", slice(5, 8))):
        other = torch.randn(80, 8)
        other[:, mine] = points[:, mine]
        one, two = (measured(name, some[:40], some[40:])[name].value for some in (points, other))
        assert one == two != 0
