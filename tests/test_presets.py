"""Every preset is what was published, builds, and can be planned."""

import pytest

from progan import experiment
from progan.config import MODEL_CONFIGS
from progan.errors import ConfigError
from progan.models.progan import fmaps
from progan.presets import PRESETS, preset
from progan.schedule import Schedule


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_builds_and_dry_runs(name):
    epochs = preset(name).schedule.stable_epochs
    plan, config, _ = experiment.dry_run(name, **({} if epochs is None else {"stable_kimg": 8}))
    assert config.preset == name
    assert type(config.model) in MODEL_CONFIGS.values()
    assert plan.stages[-1].resolution == config.schedule.resolution
    assert plan.images == Schedule(config.schedule).total_nimg
    assert plan.seconds > 0
    assert all(stage.memory > 4 * 9 * min(plan.parameters) for stage in plan.stages)


def test_the_paper_has_as_many_weights_as_its_table_2_says():
    plan, *_ = experiment.dry_run("paper1024")
    assert [round(count / 1e6, 1) for count in plan.parameters] == [23.1, 23.1]


def test_celeba64_is_the_configuration_it_names():
    config = preset("celeba64")
    spans = Schedule(config.schedule).spans
    assert [(s.resolution, s.phase, (s.end - s.start) // 1000) for s in spans[:3]] == [
        (4, "stable", 2000), (8, "fade", 1000), (8, "stable", 1000),
    ]  # fmt: skip
    assert {s.end - s.start for s in spans[1:]} == {1_000_000}
    assert [config.schedule.batch_size.at(r) for r in (4, 8, 16, 32, 64)] == [512, 256, 128, 64, 30]
    assert [fmaps(config.model, r) for r in (4, 8, 16, 32, 64)] == [512, 512, 512, 512, 256]
    assert not config.model.fused_scale
    assert config.model.mbstd_group == 0
    assert (config.loss.kind, config.loss.gp_weight, config.loss.drift_weight) == ("wgan-gp", 10, 0.001)
    assert (config.optimizer.beta1, config.optimizer.beta2, config.schedule.lr.at(64)) == (0, 0.99, 0.001)


def test_an_unknown_preset_names_the_nearest():
    with pytest.raises(ConfigError, match="did you mean celeba64"):
        preset("celeb64")
