"""Every metric: it moves where it should and stays where it should, and does not depend on batches."""

import functools
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from bars import digits
from progan import avatars
from progan.config import PrepareConfig
from progan.data.dataset import Dataset
from progan.data.prepare import prepare
from progan.images import to_images, to_pixels
from progan.metrics import METRICS, Setting, Value, better, classifier, make
from progan.metrics.features import FEATURES, Features, RandomConvolutions

NUM = 256
BACKGROUNDS = [name.startswith("background=") for name in avatars.LABEL_NAMES]


class Scene(NamedTuple):
    """What a metric is tried on."""

    setting: Setting
    images: Tensor
    """[2·n, C, R, R] in -1…1: n reals, then others."""
    first: Tensor
    """Which of the others are of the first class, bool [n]."""

    @property
    def reals(self) -> Tensor:
        return self.images[: len(self.first)]

    @property
    def fakes(self) -> dict[str, Tensor]:
        """What fakes could be like: images [n, C, R, R]."""
        n, others = len(self.first), self.images[len(self.first) :]
        dots = torch.rand(n, 1, *others.shape[2:], generator=torch.Generator().manual_seed(0)) < 0.01
        return {
            "others": others,
            "blurred": F.avg_pool2d(F.pad(others, (1, 1, 1, 1), mode="replicate"), 3, 1),
            "dropped": others[~self.first].repeat(2, 1, 1, 1)[:n],
            "hundred": others[:100].repeat(-(-n // 100), 1, 1, 1)[:n],
            "one": others[:1].repeat(n, 1, 1, 1),
            "copies": self.reals,
            "peppered": torch.where(dots, 1.0, others),
            "glaring": 1.5 * others,
        }


@pytest.fixture(scope="module")
def scenes(tmp_path_factory) -> Iterator[dict[str, Scene]]:
    folder = tmp_path_factory.mktemp("data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(classifier, "SHOWN", 4000)
        patch.setenv("PROGAN_CACHE", str(folder))
        yield {"faces": faces(folder), "stacked": stacked(folder)}


def faces(folder: Path) -> Scene:
    """Avatars of 32x32; the data is the reals, other faces are held out, and the classes are backgrounds."""
    opened = []
    for name, first in (("train", 0), ("held", 10 * NUM)):
        numbers = range(first, first + NUM)
        classes = avatars.attributes(numbers)[:, BACKGROUNDS].argmax(1)
        np.savez(folder / f"{name}.npz", images=avatars.draw(numbers, 32, 0), labels=classes)
        prepare(folder / f"{name}.npz", folder / name, PrepareConfig(workers=1))
        opened.append(Dataset.open(folder / name))
    setting = Setting(seed=1, resolution=32, dataset=opened[0], held_out=opened[1])
    pixels = torch.from_numpy(avatars.draw(range(2 * NUM), 32, 0)).permute(0, 3, 1, 2)
    first = torch.from_numpy(avatars.attributes(range(NUM, 2 * NUM))[:, BACKGROUNDS][:, 0] == 1)
    return Scene(setting, to_images(pixels.contiguous()), first)


def stacked(folder: Path) -> Scene:
    """Three bars of 16x16 in three colours; the first class has the first place in red."""
    random = np.random.default_rng(3)
    np.savez(folder / "bars.npz", images=digits(np.arange(600) % 10, random), labels=np.arange(600) % 10)
    prepare(f"stacked:{folder / 'bars.npz'}", folder / "stacked", PrepareConfig(workers=1, max_images=1000))
    setting = Setting(seed=1, resolution=16, dataset=Dataset.open(folder / "stacked"))
    numbers = random.integers(0, 10, (8 * NUM, 3))
    pixels = torch.from_numpy(np.stack([digits(column, random) for column in numbers.T], 1))
    return Scene(setting, to_images(pixels), torch.from_numpy(numbers[4 * NUM :, 0] == 0))


def scene_of(name: str, scenes: dict[str, Scene]) -> Scene:
    return scenes["stacked" if name == "stacked_mnist" else "faces"]


def energies(pixels: Tensor) -> Tensor:
    """In the place of Inception's features: a quarter of those that say how fine an image is, [N, 56]."""
    return RandomConvolutions()(pixels)[:, 16 * 32 :: 4]


def background(pixels: Tensor) -> Tensor:
    """In the place of Inception's logits: how near the upper left corner is to the mean one of every background."""
    return -(pixels[:, None, :, 0, 0].float() - corners()).square().sum(2) / 100


@functools.cache
def corners() -> Tensor:
    """Colours [backgrounds, 3]."""
    rows = torch.from_numpy(avatars.attributes(range(NUM))[:, BACKGROUNDS]) == 1
    colours = torch.from_numpy(avatars.draw(range(NUM), 32, 0)[:, 0, 0].astype(np.float32))
    return torch.stack([colours[row].mean(0) for row in rows.T])


STAND_INS: dict[str, Callable[[Tensor], Tensor]] = {
    "fid": energies,
    "kid": energies,
    "inception_score": lambda pixels: F.pad(background(pixels), (FEATURES, 0)),
}


def measure(name: str, setting: Setting, reals: Tensor, fakes: Tensor, sizes: tuple[int, int] = (64, 64)):
    """As the yardstick does it, in batches of so many reals and fakes."""
    if name in STAND_INS:
        setting = replace(setting)
        setting.networks["inception"] = Features(STAND_INS[name])
    metric = make(name, setting)
    for images, real, size in ((fakes, False, sizes[1]), (reals, True, sizes[0])):
        for batch in images.split(size):
            metric.update(batch if METRICS[name].unclipped else to_pixels(batch), real)
    return metric.result()


MOVES = {
    "swd": {"blurred": "up", "one": "up", "copies": "same"},
    "ms_ssim": {"one": "up", "copies": "same"},
    "ms_ssim_excess": {"one": "up", "copies": "same"},
    "precision": {"blurred": "same", "hundred": "same", "copies": "up", "peppered": "down"},
    "recall": {"blurred": "down", "dropped": "down", "hundred": "down", "one": "down", "copies": "up"},
    "density": {"blurred": "up", "hundred": "same", "copies": "up", "peppered": "down"},
    "coverage": {"dropped": "down", "hundred": "down", "one": "down", "copies": "same"},
    "ndb": {"dropped": "same", "one": "up", "copies": "same"},
    "jsd": {"hundred": "same", "one": "up", "copies": "same"},
    "class_kl": {"dropped": "up", "one": "up", "copies": "same"},
    "classes_found": {"dropped": "down", "one": "down", "copies": "same"},
    "stacked_modes": {"blurred": "down", "dropped": "down", "hundred": "down", "one": "down", "copies": "same"},
    "stacked_kl": {"blurred": "up", "dropped": "up", "hundred": "up", "one": "up", "copies": "same"},
    "fid": {"blurred": "up", "hundred": "same", "one": "up", "copies": "down", "glaring": "up"},
    "kid": {"blurred": "up", "hundred": "same", "one": "up", "copies": "down", "glaring": "up"},
    "inception_score": {"blurred": "same", "dropped": "down", "hundred": "same", "one": "down", "copies": "same"},
    "memorised": {"hundred": "same", "copies": "up"},
    "neighbour_ratio": {"dropped": "same", "copies": "down"},
    "spectrum": {"blurred": "up", "dropped": "same", "copies": "same", "peppered": "up"},
    "isolated_extremes": {"blurred": "same", "copies": "same", "peppered": "up"},
    "out_of_range": {"blurred": "same", "copies": "same", "glaring": "up"},
}
"""Against other reals in the place of the fakes: by more than both intervals, or not. Of `density`, that a blur raises
it is a weakness of the metric; of so few images `fid` and `kid` do not tell a dropped class."""


EVERY = [pytest.param(name, marks=[pytest.mark.slow] * (name in ("classes", "stacked_mnist"))) for name in METRICS]
"""All metrics; those that train a classifier are looked at in the slow half."""


def test_every_value_is_looked_at() -> None:
    assert MOVES.keys() == {value for name in METRICS for value in METRICS[name].values}


@pytest.mark.parametrize("name", EVERY)
def test_it_moves_the_right_way(name: str, scenes: dict[str, Scene]) -> None:
    scene = scene_of(name, scenes)
    fakes = scene.fakes
    floors = measure(name, scene.setting, scene.reals, fakes["others"])
    for case in sorted({case for value in METRICS[name].values for case in MOVES[value]}):
        found = measure(name, scene.setting, scene.reals, fakes[case])
        for value in METRICS[name].values:
            if case in MOVES[value]:
                assert way(found[value], floors[value]) == MOVES[value][case], (value, case, found, floors)


def way(value: Value, floor: Value) -> str:
    """Where a value lies beside its floor."""
    if value.low > floor.high:
        return "up"
    return "down" if value.high < floor.low else "same"


@pytest.mark.parametrize("name", EVERY)
def test_it_does_not_depend_on_batches(name: str, scenes: dict[str, Scene]) -> None:
    scene = scene_of(name, scenes)
    reals, others = scene.reals[:100], scene.fakes["peppered"][:100]
    one, two = (measure(name, scene.setting, reals, others, sizes) for sizes in ((100, 100), (7, 31)))
    assert one.keys() == two.keys()
    for key, value in one.items():
        expected = pytest.approx((value.value, value.low, value.high), rel=1e-6, abs=1e-9)
        assert (two[key].value, two[key].low, two[key].high) == expected


def test_directions() -> None:
    assert better("swd_64") == better("swd") == "lower"
    assert better("out_of_range") == "lower"
    assert better("recall") == "higher"
    assert better("ms_ssim") == "floor"


@pytest.mark.parametrize("name", METRICS)
def test_values_are_those_of_the_registry(name: str, scenes: dict[str, Scene]) -> None:
    scene = scene_of(name, scenes)
    found = measure(name, scene.setting, scene.reals[:80], scene.reals[80:160])
    assert {value for value in found if not value.rpartition("_")[2].isdigit()} == METRICS[name].values.keys()
