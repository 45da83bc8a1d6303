"""Lengths in epochs become images when the number of images is known."""

from typing import Any

import pytest

import progan
from progan import run
from progan.config import ScheduleConfig
from progan.errors import ConfigError
from progan.options import from_dict, override, to_dict
from progan.per_resolution import per_resolution
from progan.presets import preset
from progan.run_folder import RunFolder
from progan.schedule import Schedule, in_images

pytestmark = pytest.mark.usefixtures("traced_once")

TINY: dict[str, Any] = {"width": 2, "z_dim": 4, "batch_size": 8, "resolution": 8, "start_resolution": 8}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A prepared dataset of 24 images."""
    from progan.config import PrepareConfig
    from progan.data.prepare import prepare

    folder = tmp_path_factory.mktemp("data") / "faces"
    prepare("avatars:24", folder, PrepareConfig(resolution=8))
    return str(folder)


def test_epochs_are_counted_in_images_of_the_data() -> None:
    config = ScheduleConfig(
        resolution=64,
        start_resolution=8,
        stable_epochs=per_resolution({8: 2, 16: 4, 32: 8, 64: 16}),
        fade_kimg=per_resolution(0),
    )
    schedule = Schedule(in_images(config, 1500))
    assert [(s.resolution, s.end - s.start) for s in schedule.spans] == [
        (8, 3000),
        (16, 6000),
        (32, 12000),
        (64, 24000),
    ]
    assert in_images(ScheduleConfig(), 1500) == ScheduleConfig()


def test_a_run_keeps_images_and_goes_on_with_the_same_command(data: str, tmp_path: Any) -> None:
    for _ in range(2):
        run = progan.train("dcgan64", data, tmp_path / "run", quiet=True, stable_epochs=2, **TINY)
        assert run.cur_nimg == 48
    saved, _ = RunFolder(tmp_path / "run").read()
    assert saved.schedule.stable_epochs is None
    assert saved.schedule.stable_kimg.at(8) == 0.048


def test_images_take_the_place_of_a_presets_epochs() -> None:
    assert override(preset("dcgan64"), {"stable_kimg": 50}).schedule.stable_epochs is None
    assert override(preset("dcgan64"), {"lr": 1}).schedule.stable_epochs == per_resolution(8)
    with pytest.raises(ConfigError, match="--stable-kimg and --stable-epochs say the same"):
        override(preset("dcgan64"), {"stable_kimg": 50, "stable_epochs": 3})
    assert from_dict(to_dict(preset("dcgan64"))) == preset("dcgan64")


def test_a_plan_in_epochs_needs_the_number_of_images(data: str) -> None:
    plan, _, _ = run.dry_run("dcgan64", data, **TINY)
    assert plan.images == 8 * 24
    with pytest.raises(ConfigError, match="give --stable-kimg"):
        run.dry_run("dcgan64", "avatars:32")


def test_a_model_that_does_not_grow_says_so() -> None:
    with pytest.raises(ConfigError, match="--model dcgan does not grow: give it --start-resolution 32"):
        override(preset("mnist32"), {"model": "dcgan"})
    with pytest.raises(ConfigError, match="needs --start-resolution 8 or more"):
        override(preset("dcgan32"), {"resolution": 4, "start_resolution": 4})
    config = override(preset("mnist32-paper"), {"model": "dcgan", "start_resolution": 32, "width": 8})
    assert (config.model.kind, config.loss.kind) == ("dcgan", "wgan-gp")
