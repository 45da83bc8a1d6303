"""A run is watched: the numbers are what they say they are, a sign that lasts warns once, a healthy run does not."""

import math

import pytest
import torch

import progan
from progan import losses
from progan.config import NonsaturatingConfig, OptimizerConfig, PrepareConfig, ProGANConfig, WganGpConfig
from progan.data.dataset import Dataset
from progan.data.prepare import prepare
from progan.data.split import split
from progan.errors import DatasetError
from progan.models import ImageShape
from progan.schedule import Stage
from progan.tensorfile import from_bytes
from progan.training.numerics import Numerics
from progan.training.observers.health import (
    LEARNING,
    PATIENCE,
    SIGNS,
    Sample,
    Watch,
    d_won,
    distances,
    gradient_norm,
    look,
)
from progan.training.observers.run_files import read_stats
from progan.training.optimizer import Adam
from progan.training.preflight import memory
from steps import new_state

pytestmark = pytest.mark.usefixtures("own_cache", "traced_once")

TINY = {
    "data": "avatars:64", "resolution": 8, "start_resolution": 8, "stable_kimg": 0.4, "batch_size": 8,
    "tick_kimg": 0.08, "fmap_max": 4, "z_dim": 4, "device": "cpu", "precision": "fp32", "workers": 0, "quiet": True,
    "loss": "wgan-gp",
}  # fmt: skip
HEALTHY = {
    "health/variety": 0.9, "health/nearest": 0.9, "health/score_real": 3.0, "health/score_fake": -1.0,
    "health/separation": 0.9, "health/g_gradient": 2.0, "health/d_gradient": 2.0, "health/score_held_out": 2.7,
    "D/real": 0.5, "D/fake": 0.5, "G/fake": 1.5,
}  # fmt: skip
SICK = {
    "variety": {"health/nearest": 0.1},
    "memorising": {"health/score_held_out": 1.5},
    "blind": {"health/separation": 0.48},
    "gradient": {"health/g_gradient": 300.0},
    "d-wins": {"D/real": 0.01, "D/fake": 0.01, "G/fake": 6.0},
}
ALL = (*SIGNS, d_won(losses.build(NonsaturatingConfig())))


def warnings(history):
    """Positions in a history at which each sign warned."""
    watch, found = Watch(ALL), []
    for i, line in enumerate(history):
        found += [(i, text.split(":")[0]) for text in watch.see(line)]
    return found


def test_a_look_at_many_images_holds_no_more_of_them_than_a_step(tmp_path):
    prepare("avatars:64", tmp_path / "data", PrepareConfig(resolution=128, workers=1))
    numerics = Numerics("cpu", "fp32", 1, torch.__version__)
    state = new_state(ProGANConfig(z_dim=4, fmap_max=2), OptimizerConfig(), ImageShape(128, 3), 0, numerics)
    sample = Sample(Dataset.open(tmp_path / "data"), use_labels=False)
    peaks = []
    for images in (16 * 16, 64 * 16):
        with memory.LiveBytes() as live:
            assert look(state, Stage(128, "fade", 0.5, 4, 0.001, 0.001), sample, sample, images)
        peaks.append(live.peak)
    pixels = 2 * 64 * 3 * 128 * 128  # of reals and held-out ones, on the CPU
    assert peaks[1] < peaks[0] + pixels


def test_every_sign_has_a_history_here():
    assert {sign.name for sign in ALL} == set(SICK)


def test_a_healthy_history_warns_of_nothing():
    assert warnings([HEALTHY] * 50) == []
    assert warnings([{}] * 50) == [], "an older run's lines have no such numbers"


@pytest.mark.parametrize("name", SICK)
def test_a_sign_that_lasts_warns_once_and_again_when_it_comes_back(name):
    sick = {**HEALTHY, **SICK[name]}
    before, bout = [HEALTHY] * 10, [sick] * 8
    assert warnings([*before, *bout]) == [(10 + PATIENCE - 1, name)]
    assert warnings([*before, *bout, *before, *bout]) == [(12, name), (30, name)]
    spikes = [*before, sick, sick, HEALTHY, sick, HEALTHY, sick, sick, HEALTHY]
    assert warnings(spikes) == []
    gaps = [*before, *bout, HEALTHY, sick, HEALTHY, HEALTHY, sick]
    assert warnings(gaps) == [(12, name)], "a gap shorter than the patience does not end it"


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("variety", {"health/nearest": 0.9, "health/variety": 0.2}),
        ("gradient", {"health/g_gradient": 0.001}),
    ],
)
def test_signs_have_a_second_form(name, change):
    assert warnings([*[HEALTHY] * 10, *[{**HEALTHY, **change}] * 5]) == [(12, name)]


def test_fakes_that_are_alike_while_g_begins_to_learn_are_no_sign():
    alike = {**HEALTHY, "health/nearest": 0.01}
    assert warnings([*[alike] * LEARNING, *[HEALTHY] * 10]) == []
    assert warnings([alike] * 20) == [(LEARNING + PATIENCE - 1, "variety")]


def test_the_distances_are_those_of_pairs():
    images = torch.zeros(4, 1, 4, 4)
    images[1, 0, 0, 0], images[2, 0, 0, 0], images[3, 0, 0, 0] = 1, 3, 3
    pairs = [1, 3, 3, 2, 2, 0]  # of (0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)
    spread, nearest = distances(images)
    assert spread == pytest.approx(math.sqrt(sum(d * d for d in pairs) / 6))
    assert nearest == pytest.approx((1 + 1 + 0 + 0) / 4)


def test_grain_that_averages_out_does_not_count():
    checks = torch.ones(2, 1, 32, 32)
    checks[:, :, ::2, ::2] = checks[:, :, 1::2, 1::2] = -1
    checks[1] = -checks[1]
    assert distances(checks)[0] < 1e-6


def test_the_gradient_norm_is_that_of_the_gradient():
    weights = torch.nn.Parameter(torch.zeros(3, 2))
    optimizer = Adam([weights], OptimizerConfig(beta2=0.9))
    assert gradient_norm(optimizer) == 0
    for _ in range(4):
        weights.grad = torch.tensor([[3.0, 0], [0, 4], [0, 0]])
        optimizer.update(0.1)
    assert gradient_norm(optimizer) == pytest.approx(5, rel=1e-5)


def test_looking_changes_no_bit_of_the_training(tmp_path, monkeypatch):
    options = {**TINY, "model": "dcgan", "width": 4, "fmap_max": 8, "dropout": 0.2}  # batch statistics, dropout
    seen = progan.train(out=tmp_path / "seen", **options)
    monkeypatch.setattr("progan.training.observers.health.look", lambda *_: {})
    unseen = progan.train(out=tmp_path / "unseen", **options)
    states_of = [(run.path / "state" / "state-000000400.safetensors").read_bytes() for run in (seen, unseen)]
    tensors = [from_bytes(content)[1] for content in states_of]
    assert tensors[0].keys() == tensors[1].keys()
    assert all(torch.equal(tensors[0][name], tensors[1][name]) for name in tensors[0])
    assert "health/variety" in read_stats(seen.folder.stats)[-1]


@pytest.mark.slow
def test_held_out_images_are_shown_to_d(tmp_path):
    progan.train(out=tmp_path / "all", **TINY)
    whole = progan.Run(tmp_path / "all", True, 0, 0).folder.read()[1].path
    split(whole, tmp_path / "train", tmp_path / "held", count=16)
    options = {**TINY, "data": str(tmp_path / "train")}
    run = progan.train(out=tmp_path / "run", held_out=str(tmp_path / "held"), **options)
    line = read_stats(run.folder.stats)[-1]
    assert line["health/score_held_out"] != line["health/score_real"]
    assert progan.train(out=tmp_path / "run", **{**options, "held_out": "none"}).finished, "only looked at: may change"
    with pytest.raises(DatasetError, match="has the same images as --data"):
        progan.train(out=tmp_path / "other", **{**options, "held_out": options["data"]})
    assert not (tmp_path / "other").exists(), "it is looked at before the run begins"
    with pytest.raises(DatasetError, match=r"channels and resolutions"):
        progan.train(out=tmp_path / "more", held_out=str(tmp_path / "held"), **{**TINY, "resolution": 16})


@pytest.mark.slow
def test_a_continued_run_does_not_warn_again(tmp_path, capsys):
    def stuck(state, stage, *_):
        return {"health/nearest": 0.0}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("progan.training.observers.health.look", stuck)
        options = {**TINY, "quiet": False, "tick_kimg": 0.016, "stable_kimg": 0.8}
        progan.train(out=tmp_path / "run", **{**options, "total_kimg": 0.4})
        assert capsys.readouterr().err.count("warning: variety: fakes are much more alike") == 1
        path = tmp_path / "run" / "config.json"
        path.write_text(path.read_text().replace('"total_kimg": 0.4', '"total_kimg": 0.8'))
        progan.train(out=tmp_path / "run")
        assert "warning" not in capsys.readouterr().err


def test_wgan_gp_has_no_scale_to_win_on():
    watch = Watch((d_won(losses.build(WganGpConfig())),))
    assert [watch.see({**HEALTHY, **SICK["d-wins"]}) for _ in range(9)] == [[]] * 9


@pytest.mark.slow
def test_a_run_made_to_collapse_warns(tmp_path):
    hasty = {"loss": "nonsaturating", "lr": 0.1, "d_lr": 0.003, "mbstd_group": 1}
    options = {**TINY, **hasty, "stable_kimg": 3, "tick_kimg": 0.25, "batch_size": 16, "fmap_max": 8, "z_dim": 8}
    run = progan.train(out=tmp_path / "run", **options)
    lines = read_stats(run.folder.stats)
    assert lines[-1]["health/nearest"] < 0.3
    assert sum("variety:" in line.get("notices", "") for line in lines) == 1
