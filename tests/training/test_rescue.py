"""`--rescue`: it acts when D wins, and only then."""

import math
from types import SimpleNamespace

import pytest

import progan
from progan import losses
from progan.config import ConfigError, LsganConfig, NonsaturatingConfig, WganGpConfig
from progan.training import loop
from progan.training.observers.base import Observer
from progan.training.observers.run_files import read_stats
from progan.training.recovery import d_wins, relative_losses, rescue
from progan.training.state import Adjustments

pytestmark = pytest.mark.usefixtures("traced_once")

NONSATURATING, LSGAN = losses.build(NonsaturatingConfig()), losses.build(LsganConfig())
WON = {"D/real": 0.01, "D/fake": 0.02, "G/fake": 5.0}
EVEN = {"D/real": 0.5, "D/fake": 0.5, "G/fake": 1.5}


def test_costs_are_counted_in_multiples_of_an_undecided_ds():
    even = {"D/real": math.log(2), "D/fake": math.log(2), "G/fake": math.log(2)}
    assert relative_losses(even, NONSATURATING) == pytest.approx((1, 1))
    assert relative_losses({"D/real": 0.125, "D/fake": 0.125, "G/fake": 0.5}, LSGAN) == pytest.approx((1, 4))
    assert relative_losses(even, losses.build(WganGpConfig())) is None


@pytest.mark.parametrize(
    ("change", "expected"),
    [({}, True), ({"D/real": 0.06}, False), ({"G/fake": 2.0}, False), ({"G/fake": math.nan}, False)],
)
def test_d_wins_when_it_pays_nothing_and_g_much(change, expected):
    assert d_wins({**WON, **change}, NONSATURATING) is expected


def test_three_ticks_in_a_row_lower_the_rate_and_raise_dropout():
    noted = Adjustments()
    seen = [rescue(noted, tick, NONSATURATING, 0.25) for tick in (WON, WON, EVEN, WON, WON, WON)]
    assert seen[:5] == [[]] * 5
    assert seen[5] == ["rescue: D won for 3 ticks, learning rates now x 0.5, D's dropout now 0.35"]
    assert (noted.lr_factor, noted.dropout, noted.won_ticks) == (0.5, 0.1, 0)


def test_there_is_an_end_to_lowering():
    noted = Adjustments()
    said = [line for _ in range(60) for line in rescue(noted, WON, NONSATURATING, None)]
    assert noted.lr_factor == 1 / 16
    assert len(said) == 20
    assert said[3].endswith("learning rates now x 0.0625")
    assert "nothing left to lower" in said[4]


def test_a_loss_without_a_scale_has_no_rescue():
    with pytest.raises(ConfigError, match=r"--rescue does not know .* --loss lsgan or nonsaturating or relativistic"):
        progan.train(rescue=True, loss="wgan-gp")


@pytest.mark.slow
def test_a_run_in_which_d_wins_is_rescued_in_the_same_bits_when_stopped_in_between(tmp_path, monkeypatch):
    monkeypatch.setenv("PROGAN_CACHE", str(tmp_path / "cache"))
    options = {
        "data": "avatars:64", "resolution": 8, "start_resolution": 8, "stable_kimg": 1.2, "batch_size": 8,
        "tick_kimg": 0.08, "lr": 1e-5, "d_lr": 0.03, "fmap_max": 8, "z_dim": 4, "device": "cpu", "precision": "fp32",
        "loss": "nonsaturating", "r1_weight": 0, "penalty_every": 1, "workers": 0, "quiet": True, "rescue": True,
    }  # fmt: skip
    whole = progan.train(out=tmp_path / "whole", **options)
    lines = read_stats(whole.folder.stats)
    assert lines[0]["lr"] == 1e-5
    assert lines[-1]["lr"] < 1e-5
    first = next(line for line in lines if "notices" in line)
    assert first["notices"] == "rescue: D won for 3 ticks, learning rates now x 0.5"
    stop_at, original = first["cur_nimg"] - 96, loop.train  # after one tick and a half that D won

    class Stop(Observer):
        def on_progress(self, cur_nimg, stage):
            self.reached = cur_nimg

    with monkeypatch.context() as patch:
        stop = Stop()
        patch.setattr(
            "progan.run.train_job",
            lambda job, seen, *_: original(job, [*seen, stop], lambda: stop.reached >= stop_at),
        )
        assert not progan.train(out=tmp_path / "run", **options).finished
    progan.train(out=tmp_path / "run", **options)
    again = read_stats(tmp_path / "run" / "stats.jsonl")
    keys = ("cur_nimg", "lr", "D/real", "D/fake", "G/fake", "notices")
    assert [[line.get(key) for key in keys] for line in again] == [[line.get(key) for key in keys] for line in lines]


def test_dropout_is_given_to_a_d_that_has_it():
    D = SimpleNamespace(dropout=0.25)
    Adjustments(dropout=0.1).apply_to(D, 0.25)
    assert D.dropout == 0.35
    without = SimpleNamespace()
    Adjustments(dropout=0.1).apply_to(without, None)
    assert not hasattr(without, "dropout")
