"""Metrics that count: bins of k-means, labels read by a classifier, stacked digits, copies of training images."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

import bars
from progan.config import PrepareConfig
from progan.data.cache import clear_cache, list_cache
from progan.data.dataset import Dataset
from progan.data.prepare import prepare
from progan.errors import ConfigError, DatasetError
from progan.metrics import Setting, base, classifier, make, modes, nearest, neighbours
from progan.metrics.classes import compare
from progan.metrics.features import Scale, random_features

RANDOM = np.random.default_rng(0)


def digits(numbers: np.ndarray, random: np.random.Generator = RANDOM) -> np.ndarray:
    return bars.digits(numbers, random)


@pytest.fixture(scope="module")
def numbers() -> np.ndarray:
    return RANDOM.permutation(np.arange(1000) % 10)


@pytest.fixture(scope="module")
def source(tmp_path_factory, numbers) -> Path:
    path = tmp_path_factory.mktemp("digits") / "digits.npz"
    np.savez(path, images=digits(numbers), labels=numbers)
    return path


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """A cache of its own, and classifiers that learn quickly."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(classifier, "SHOWN", 12_000)
        patch.setenv("PROGAN_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def dataset(source) -> Dataset:
    prepare(source, source.parent / "prepared", PrepareConfig(workers=1))
    return Dataset.open(source.parent / "prepared")


@pytest.fixture(scope="module")
def stacked(source) -> Dataset:
    prepare(f"stacked:{source}", source.parent / "stacked", PrepareConfig(workers=1, max_images=2000, seed=5))
    return Dataset.open(source.parent / "stacked")


class TestHistograms:
    def test_known_divergences(self) -> None:
        assert base.kl(np.array([3, 1]), np.array([0.5, 0.5])) == pytest.approx(
            0.75 * math.log(1.5) + 0.25 * math.log(0.5)
        )
        assert base.kl(np.array([0, 9]), np.array([0.5, 0.5])) == pytest.approx(math.log(2))
        assert modes.divergence(np.array([5, 0]), np.array([0, 2])) == pytest.approx(math.log(2))
        assert modes.divergence(np.array([5, 10]), np.array([1, 2])) == pytest.approx(0)

    def test_spread_is_that_of_a_binomial(self) -> None:
        counts = np.array([250, 750])
        found = base.spread(lambda draw: draw[0] / draw.sum(), [counts], 1)
        assert found == pytest.approx(math.sqrt(0.25 * 0.75 / 1000), rel=0.15)


class TestModes:
    def test_bins_that_differ(self) -> None:
        """50 of 1000 against 71 of 1000 is z = 1.97; against 70, 1.88."""
        a = np.array([50, 950])
        assert modes.different(a, np.array([71, 929])).tolist() == [True, True]
        assert modes.different(a, np.array([70, 930])).tolist() == [False, False]
        assert modes.different(np.array([0, 9, 1]), np.array([0, 1, 9])).tolist() == [False, True, True]

    def test_k_means_finds_the_clusters(self) -> None:
        centres = torch.tensor([[0.0, 0], [100, 0], [0, 100], [100, 100]])
        points = (centres[:, None] + torch.randn(4, 50, 2)).reshape(-1, 2)
        found = modes.k_means(points, 4, seed=3)
        assert sorted(found.round(decimals=-1).abs().tolist()) == sorted(centres.tolist())
        assert torch.equal(modes.assign(points, found).bincount(), torch.full((4,), 50))

    def test_more_bins_than_different_points(self) -> None:
        assert modes.k_means(torch.ones(9, 2), 3, seed=0).tolist() == [[1, 1]] * 3

    def test_of_one_distribution_a_twentieth_of_the_bins_differ(self) -> None:
        """Over ten pairs of sets, 0.05 ± 3 standard errors of 10 · 100 bins."""
        shares = []
        for _ in range(10):
            metric = make("modes", Setting(resolution=4))
            metric.update(torch.randint(256, (4000, 1, 4, 4), dtype=torch.uint8), real=True)
            metric.update(torch.randint(256, (3000, 1, 4, 4), dtype=torch.uint8), real=False)
            shares.append(metric.result()["ndb"].value)
        assert np.mean(shares) == pytest.approx(0.05, abs=3 * math.sqrt(0.05 * 0.95 / 1000))

    def test_large_images_are_compared_small(self) -> None:
        small = torch.randint(256, (200, 1, 32, 32), dtype=torch.uint8)
        one, two = make("modes", Setting(resolution=32)), make("modes", Setting(resolution=64))
        for real, images in ((True, small[:100]), (False, small[100:])):
            one.update(images, real)
            two.update(images.repeat_interleave(2, 2).repeat_interleave(2, 3), real)
        assert one.result() == two.result()

    def test_too_few(self) -> None:
        with pytest.raises(ConfigError, match="at least 80 real images"):
            make("modes", Setting()).result()


@pytest.mark.usefixtures("cache")
class TestClasses:
    def read(self, dataset: Dataset, images: np.ndarray, setting: Setting | None = None):
        metric = make("classes", setting or Setting(resolution=16, dataset=dataset))
        metric.update(torch.from_numpy(images)[:, None], real=False)
        return metric.result()

    @pytest.mark.slow
    def test_shares_of_labels(self, dataset: Dataset) -> None:
        setting = Setting(resolution=16, dataset=dataset)
        halves = self.read(dataset, digits(np.arange(500) % 5), setting)
        assert halves["class_kl"].value == pytest.approx(math.log(2), abs=0.01)
        assert (halves["classes_found"].value, halves["classes_found"].high) == (5, 5)
        assert setting.notes == ["classes: read by a classifier that gets 100.00% right of 100 images put aside"]
        whole = self.read(dataset, digits(np.arange(500) % 10))
        assert whole["class_kl"].value < 0.001
        assert whole["classes_found"].value == 10

    def test_larger_images_are_brought_down(self, dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(classifier, "LARGEST", 8)
        found = self.read(dataset, digits(np.full(100, 7)))
        assert found["class_kl"].value == pytest.approx(math.log(10), abs=0.02)

    @pytest.mark.slow
    def test_the_classifier_is_trained_once(self, dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
        self.read(dataset, digits(np.arange(50) % 5))
        told: list[str] = []
        monkeypatch.setattr(classifier.Classifier, "learn", lambda *_, **__: pytest.fail("trained again"))
        random = torch.get_rng_state()
        self.read(dataset, digits(np.arange(50) % 5), Setting(resolution=16, dataset=dataset, log=told.append))
        assert not told
        assert torch.equal(random, torch.get_rng_state())
        kept = [entry for entry in list_cache() if entry.path.parent.name == "classifiers"]
        assert kept
        assert all(entry.name.startswith(("digits-", "stacked-")) for entry in kept)

    @pytest.mark.slow
    def test_a_damaged_file_is_made_again(self, dataset: Dataset) -> None:
        self.read(dataset, digits(np.arange(50) % 5))
        path = next(entry.path for entry in list_cache() if f"{dataset.fingerprint[:16]}-16" in entry.name)
        path.write_bytes(path.read_bytes()[:1000])
        assert self.read(dataset, digits(np.arange(50) % 5))["classes_found"].value == 5
        assert path.stat().st_size > 1000

    def test_counted_by_hand(self) -> None:
        """Two groups: shares 3/4 and 1/4 where 1/2 each are expected; all of one of two."""
        codes = np.array([[0, 0], [0, 0], [0, 0], [1, 0]])
        divergence, found = compare(codes, [np.array([5, 5]), np.array([2, 2])])
        assert divergence == pytest.approx((0.75 * math.log(1.5) + 0.25 * math.log(0.5) + math.log(2)) / 2)
        assert found == 3

    def test_data_of_one_image(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "a.npz", images=np.zeros((30, 16, 16), np.uint8), labels=np.arange(30) % 2)
        prepare(tmp_path / "a.npz", tmp_path / "a", PrepareConfig(workers=1))
        with pytest.raises(ConfigError, match="needs images that differ; a has 1 different"):
            self.read(Dataset.open(tmp_path / "a"), np.zeros((8, 16, 16), np.uint8))

    def test_data_of_two_images(self, tmp_path: Path) -> None:
        """One is put aside, and batch norm learns nothing from the other alone."""
        images = np.zeros((16, 8, 8), np.uint8)
        images[3] = 200
        np.savez(tmp_path / "a.npz", images=images, labels=np.arange(16) % 2)
        prepare(tmp_path / "a.npz", tmp_path / "a", PrepareConfig(workers=1))
        setting = Setting(resolution=8, dataset=Dataset.open(tmp_path / "a"))
        with pytest.raises(ConfigError, match="needs images that differ; a has 2 different"):
            self.read(Dataset.open(tmp_path / "a"), np.zeros((8, 8, 8), np.uint8), setting)

    def test_a_long_name_is_no_matter(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(classifier, "SHOWN", 100)
        name = 240 * "n"
        np.savez(tmp_path / f"{name}.npz", images=digits(np.arange(40) % 2), labels=np.arange(40) % 2)
        prepare(tmp_path / f"{name}.npz", tmp_path / "a", PrepareConfig(workers=1))
        assert self.read(Dataset.open(tmp_path / "a"), digits(np.arange(8) % 2))["class_kl"].value >= 0

    def test_data_without_such_labels(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "a.npz", images=digits(np.arange(8)))
        prepare(tmp_path / "a.npz", tmp_path / "a", PrepareConfig(workers=1))
        for name in ("classes", "stacked_mnist"):
            with pytest.raises(ConfigError, match="needs data"):
                make(name, Setting(resolution=16, dataset=Dataset.open(tmp_path / "a")))


@pytest.mark.usefixtures("cache")
class TestStacked:
    def test_colours_are_the_digits_that_the_labels_say(self, stacked: Dataset, dataset: Dataset) -> None:
        assert (stacked.count, stacked.channels, stacked.name) == (2000, 3, "stacked-digits")
        pixels, labels = stacked.pixels(16, np.arange(2000)), stacked.labels(np.arange(2000))
        assert labels.sum(1).tolist() == [3] * 2000
        for colour in range(3):
            values = labels[:, 10 * colour : 10 * colour + 10].argmax(1)
            assert np.bincount(values, minlength=10).min() > 140
            bars = pixels[:, colour, 4:12].mean(1).argsort(1)[:, -3:].min(1) - 2  # left edge of the bright columns
            assert np.array_equal(bars, values)

    def test_the_same_again_and_others_with_another_seed(self, source: Path, stacked: Dataset, tmp_path: Path) -> None:
        for seed in (5, 6):
            config = PrepareConfig(workers=1, max_images=50, seed=seed)
            prepare(f"stacked:{source}", tmp_path / str(seed), config)
        pixels = [Dataset.open(tmp_path / str(seed)).pixels(16, np.arange(50)) for seed in (5, 6)]
        assert np.array_equal(pixels[0], stacked.pixels(16, np.arange(50)))
        assert not np.array_equal(pixels[0], pixels[1])

    @pytest.mark.slow
    def test_modes_and_divergence(self, stacked: Dataset) -> None:
        """200 triples of 1,000, each as often: the divergence is ln 5."""
        triples = np.arange(200).repeat(5)
        colours = np.stack([digits(triples // 100), digits(triples // 10 % 10), digits(triples % 10)], 1)
        setting = Setting(resolution=16, dataset=stacked)
        metric, halves = make("stacked_mnist", setting), make("stacked_mnist", setting)
        metric.update(torch.from_numpy(colours), real=False)
        for part in torch.from_numpy(colours).split(37):
            halves.update(part, real=False)
        found = metric.result()
        assert found == halves.result()
        assert found["stacked_modes"].value == 200
        assert found["stacked_kl"].value == pytest.approx(math.log(5), abs=0.03)
        assert "of 1,000 images; published numbers are of 25,600" in setting.notes[-1]

    def test_nothing_is_learned_from_that_is_put_aside(
        self, stacked: Dataset, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """600 of 1,000 digits are drawn to be put aside, some twice; the 5,400 others have them too."""
        monkeypatch.setenv("PROGAN_CACHE", str(tmp_path))
        learned: list[torch.Tensor] = []
        monkeypatch.setattr(classifier.Classifier, "learn", lambda _, images, *__, **___: learned.append(images))
        make("stacked_mnist", Setting(resolution=16, dataset=stacked)).update(
            torch.zeros(2, 3, 16, 16, dtype=torch.uint8), real=False
        )
        aside = stacked.pixels(16, stacked.order(0, 200, seed=classifier._VERSION)).reshape(-1, 16, 16)
        known = {image.tobytes() for image in aside}
        left = {image.tobytes() for image in learned[0].numpy()[:, 0]}
        assert 400 < len(known) < 500
        assert not known & left
        assert len(known | left) > 980, "all others are learned from"

    @pytest.mark.slow
    def test_a_classifier_that_errs_too_often_is_said_so(
        self, stacked: Dataset, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        def notes() -> str:
            setting = Setting(resolution=16, dataset=stacked)
            metric = make("stacked_mnist", setting)
            metric.update(torch.from_numpy(stacked.pixels(16, np.arange(20))), real=False)
            metric.result()
            return " ".join(setting.notes)

        assert "gets less than 99% right" not in notes()
        monkeypatch.setenv("PROGAN_CACHE", str(tmp_path))
        monkeypatch.setattr(classifier.Classifier, "learn", lambda *_, **__: None)
        assert "stacked-mnist: not comparable with other numbers, that classifier gets less than 99% right" in notes()

    def test_without_ten_classes(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "a.npz", images=digits(np.arange(8)), labels=np.arange(8) % 3)
        with pytest.raises(DatasetError, match="no labels of ten classes"):
            prepare(f"stacked:{tmp_path / 'a.npz'}", tmp_path / "a")


class TestNeighbours:
    def test_counted_by_hand(self) -> None:
        """Three of four are nearest to a training image where half are expected: 0.5 beyond chance."""
        found = neighbours.compare(torch.tensor([0.0, 1, 4, 9] * 8), torch.tensor([1.0, 4, 16, 1] * 8), 0.5)
        assert found["memorised"].value == 0.5
        assert found["neighbour_ratio"].value == 0.5

    def test_other_images_are_not_memorised_and_copies_are(self, dataset: Dataset, source: Path) -> None:
        others = digits(np.arange(400) % 10, np.random.default_rng(1))
        np.savez(source.parent / "held.npz", images=digits(np.arange(400) % 10, np.random.default_rng(2)))
        prepare(source.parent / "held.npz", source.parent / "held", PrepareConfig(workers=1))
        setting = Setting(resolution=16, dataset=dataset, held_out=Dataset.open(source.parent / "held"))
        copies = dataset.pixels(16, np.arange(400))
        for share, images in (
            (0, others[:, None]),
            (1, copies),
            (0.5, np.concatenate([copies[:200], others[:200, None]])),
        ):
            metric = make("neighbours", setting)
            metric.update(torch.from_numpy(images), real=False)
            found = metric.result()
            assert found["memorised"].low <= share <= found["memorised"].high
            assert found["memorised"].value == pytest.approx(share, abs=0.3)
            assert found["memorised"].floor.low < 0 < found["memorised"].floor.high
            if share == 1:
                assert found["memorised"].value == 1
                assert found["neighbour_ratio"].value == 0

    def test_held_out_images_of_another_size_are_refused_at_once(self, dataset: Dataset, source: Path) -> None:
        prepare(source, source.parent / "small", PrepareConfig(resolution=8, workers=1))
        setting = Setting(resolution=16, dataset=dataset, held_out=Dataset.open(source.parent / "small"))
        with pytest.raises(ConfigError, match="needs held-out images of 16x16; digits has 8x8"):
            make("neighbours", setting)

    def test_search_finds_the_image_itself_and_the_next(
        self, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(nearest, "_IMAGES", 64)
        features = random_features(Setting(resolution=16))
        wanted = np.array([999, 3, 500])
        points = nearest.points_of(dataset, 16, features, wanted)
        scale = Scale(points)
        squares, found = nearest.search(scale(points), dataset, 16, lambda pixels: scale(features(pixels)), 3)
        assert found[:, 0].tolist() == wanted.tolist()
        assert (squares[:, 0] == 0).all()
        assert (squares[:, 1] <= squares[:, 2]).all()
        others = nearest.points_of(dataset, 16, features, np.arange(1000))
        everything = nearest.distances(scale(points), scale(others))
        assert torch.equal(found, everything.topk(3, largest=False).indices)

    def test_the_picture_shows_copies_first(self, dataset: Dataset) -> None:
        fakes = torch.from_numpy(digits(np.arange(20) % 10))[:, None]
        fakes[7] = torch.from_numpy(dataset.pixels(16, np.array([42])))[0]
        picture = neighbours.sheet(fakes, Setting(resolution=16, dataset=dataset), rows=4, nearest=2)
        assert picture.shape == (1, 4 * 18 - 2, 3 * 18 - 2)
        fake, found = picture[0, :16, :16], picture[0, :16, 18:34]
        assert torch.equal(fake, fakes[7, 0])
        assert torch.equal(found, fake)

    def test_what_is_needed(self, dataset: Dataset) -> None:
        with pytest.raises(ConfigError, match="--held-out"):
            make("neighbours", Setting(resolution=16, dataset=dataset))


@pytest.mark.usefixtures("cache")
@pytest.mark.slow
def test_clearing_the_cache_takes_the_classifiers_too(dataset: Dataset) -> None:
    TestClasses().read(dataset, digits(np.arange(50) % 5))
    assert any(entry.path.suffix == ".safetensors" for entry in clear_cache())
    assert list_cache() == []
