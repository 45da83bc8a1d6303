"""Every preset is what was published, builds, and can be planned."""

import dataclasses
import json
import re
from pathlib import Path

import pytest
import torch

from progan import models, run
from progan.config import MODEL_CONFIGS, DcganConfig, NonsaturatingConfig
from progan.errors import ConfigError
from progan.models import ImageShape
from progan.models.progan import fmaps
from progan.options import to_dict
from progan.per_resolution import per_resolution
from progan.presets import PRESETS, preset
from progan.schedule import Schedule, in_images

FAST = {"quickstart", "avatars64", "mnist32", "celeba64-laptop", "faces64"}
"""Presets with another loss and other rates than the paper's."""
UNLIKE = {"quickstart", "ablation-a", "ablation-e-star", "dcgan32", "growing-batchnorm64"}
"""Presets whose networks and stages are nearly those of no other: their plans are made with every change."""


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name not in UNLIKE)) for name in PRESETS]
)
def test_every_preset_builds_and_dry_runs(name):
    epochs = preset(name).schedule.stable_epochs
    plan, config, _ = run.dry_run(name, **({} if epochs is None else {"stable_kimg": 8}))
    assert config.preset == name
    assert type(config.model) in MODEL_CONFIGS.values()
    assert plan.stages[-1].resolution == config.schedule.resolution
    assert plan.images == Schedule(config.schedule).total_nimg
    assert plan.seconds > 0
    assert all(stage.memory > 4 * 9 * min(plan.parameters) for stage in plan.stages)


def test_the_paper_has_as_many_weights_as_its_table_2_says():
    with torch.device("meta"):
        networks = models.build(preset("paper1024").model, ImageShape(1024, 3), seed=0)
    assert [round(sum(p.numel() for p in network.parameters()) / 1e6, 1) for network in networks] == [23.1, 23.1]


@pytest.mark.slow
def test_the_plan_of_the_paper_has_all_seventeen_stages_to_1024():
    paper = run.dry_run("paper1024")[0]
    grown = [(2**level, phase) for level in range(3, 11) for phase in ("fade", "stable")]
    assert [(stage.resolution, stage.phase) for stage in paper.stages] == [(4, "stable"), *grown]
    assert all(stage.seconds > 0 and stage.memory > 4 * 7 * paper.parameters[0] for stage in paper.stages)


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


ROWS = {  # grows, batch, D steps, beta2, lr, norms, minibatch (kernels, group), equalised, pixel norm, width, kimg
    "ablation-a": (False, 64, 5, 0.9, 1e-4, (0.1, True), (0, 1), False, "none", 2048, 10_000),
    "ablation-b": (True, 64, 5, 0.9, 1e-4, (0.1, True), (0, 1), False, "none", 2048, 10_000),
    "ablation-c": (True, 16, 5, 0.9, 1e-4, (0.1, True), (0, 1), False, "none", 2048, 10_000),
    "ablation-d": (True, 16, 1, 0.99, 1e-4, (0, False), (0, 1), False, "none", 2048, 10_000),
    "ablation-e-star": (True, 16, 1, 0.99, 1e-4, (0, False), (100, 1), False, "none", 2048, 10_000),
    "ablation-e": (True, 16, 1, 0.99, 1e-4, (0, False), (0, 16), False, "none", 2048, 10_000),
    "ablation-f": (True, 16, 1, 0.99, 1e-3, (0, False), (0, 16), True, "none", 2048, 10_000),
    "ablation-g": (True, 16, 1, 0.99, 1e-3, (0, False), (0, 16), True, "g", 2048, 10_000),
    "ablation-h": (True, 16, 1, 0.99, 1e-3, (0, False), (0, 16), True, "g", 8192, 15_000),
}


@pytest.mark.parametrize("name", ROWS)
def test_the_rows_of_table_1(name):
    config = preset(name)
    schedule, model = config.schedule, config.model
    assert (
        schedule.start_resolution < schedule.resolution, schedule.batch_size.at(128), schedule.d_steps,
        config.optimizer.beta2, schedule.lr.at(128), (model.batch_norm, model.layer_norm),
        (model.mbdisc_kernels, model.mbstd_group), model.use_wscale, model.pixel_norm, model.fmap_base,
        schedule.total_kimg,
    ) == ROWS[name]  # fmt: skip
    assert (config.loss.kind, schedule.resolution, config.optimizer.beta1) == ("wgan-gp", 128, 0)
    assert schedule.stable_kimg.at(8) == schedule.fade_kimg.at(8) == 800
    gulrajani = name in ("ablation-a", "ablation-b", "ablation-c")
    expected = (128, False, True, "relu", 0) if gulrajani else (512, True, False, "leaky-relu", 0.001)
    drift = config.loss.drift_weight
    assert (model.z_dim, model.normalize_latents, model.tanh, model.g_activation, drift) == expected


def test_other_gans_are_the_configurations_they_name():
    dcgan = preset("dcgan64")
    assert (dcgan.model, dcgan.loss) == (DcganConfig(z_dim=100, width=64), NonsaturatingConfig())
    adam = dcgan.optimizer
    assert (adam.beta1, adam.beta2, adam.adam_eps, dcgan.schedule.lr.at(64)) == (0.5, 0.999, 1e-8, 2e-4)
    assert (dcgan.schedule.batch_size.at(64), dcgan.schedule.stable_epochs) == (128, per_resolution(8))
    lsgan = preset("lsgan32")
    assert (lsgan.model.z_dim, lsgan.loss.kind) == (200, "lsgan")
    assert lsgan.model.dropout > 0
    growing = preset("growing-batchnorm64")
    assert (growing.schedule.start_resolution, growing.loss.kind) == (8, "nonsaturating")
    assert [growing.schedule.stable_epochs.at(r) for r in (8, 16, 32, 64)] == [2, 4, 8, 16]
    assert {s.phase for s in Schedule(in_images(growing.schedule, 1000)).spans} == {"stable"}
    for size in (32, 256):
        bare, batch_norm = preset(f"celebahq{size}-lsgan"), preset(f"celebahq{size}-bce-batchnorm")
        assert (bare.loss.kind, batch_norm.loss.kind) == ("lsgan", "nonsaturating")
        assert (bare.model.batch_norm, batch_norm.model.batch_norm) == (0, 0.2)
        for config in (bare, batch_norm):
            assert (config.schedule.start_resolution, config.schedule.resolution) == (4, size)
            assert (config.model.pixel_norm, config.model.mbstd_group) == ("none", 1)
    large = preset("progan1024-lsgan")
    assert (large.schedule, large.loss.kind) == (preset("paper1024").schedule, "lsgan")
    assert large.model == dataclasses.replace(preset("paper1024").model, d_noise=0.2)


@pytest.mark.parametrize("name", sorted(set(PRESETS) - FAST))
def test_presets_of_papers_keep_every_number(name):
    kept = json.loads((Path(__file__).parent / "fixtures" / "presets.json").read_text(encoding="utf-8"))
    assert json.loads(json.dumps(to_dict(preset(name)))) == kept[name]


@pytest.mark.parametrize("name", sorted(FAST))
def test_the_papers_recipe_is_its_loss_and_rates(name):
    fast, paper, twin = preset(name), preset(name, "paper"), preset(PRESETS[name].paper)
    assert (paper.loss, paper.optimizer, paper.schedule.lr) == (twin.loss, twin.optimizer, twin.schedule.lr)
    assert (twin.loss.kind, twin.optimizer.penalty_every) == ("wgan-gp", 1)
    assert fast.loss.kind == "nonsaturating"
    # All else is as in the preset, and another loss has the paper's rates, too.
    same = dataclasses.replace(paper, loss=fast.loss, optimizer=fast.optimizer)
    assert dataclasses.replace(same, schedule=dataclasses.replace(paper.schedule, lr=fast.schedule.lr)) == fast
    assert preset(name, loss="lsgan") == paper
    assert preset(name, loss="nonsaturating") == preset(name, "fast") == fast


def test_a_recipe_of_a_preset_that_has_one_is_refused():
    with pytest.raises(ConfigError, match="--recipe is of no use: paper1024 has but one"):
        preset("paper1024", "paper")
    with pytest.raises(ConfigError, match="--recipe must be fast or paper; got 'slow'"):
        preset("quickstart", "slow")


def test_an_unknown_preset_names_the_nearest():
    with pytest.raises(ConfigError, match="did you mean celeba64"):
        preset("celeb64")


def test_the_app_names_presets_that_exist():
    """In the commands that its pages show for a first run."""
    page = Path(__file__).parents[1] / "src" / "progan" / "app" / "page"
    text = "".join(path.read_text(encoding="utf-8") for path in page.rglob("*.js"))
    found = re.findall(r"progan train ([a-z][\w-]*)", text)
    assert found
    assert set(found) <= set(PRESETS)
