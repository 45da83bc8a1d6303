"""Numbers going bad: a run finds back by itself, to the same bits however often it is killed, or says it cannot."""

import math
from pathlib import Path

import pytest
import torch

import progan
from progan import cli
from progan.config import ProGANConfig
from progan.errors import DivergenceError
from progan.run import copies
from progan.training import loop, recovery, state
from progan.training.observers.base import Observer
from progan.training.observers.run_files import read_stats
from progan.training.state import StateFolder
from progan.training.step import Step
from steps import new_state
from tiny import TINY, weights

pytestmark = pytest.mark.usefixtures("own_cache", "traced_once")

RUN = {**TINY, "stable_kimg": 0.4, "lr": 0.002, "fmap_max": 4, "z_dim": 4, "workers": 0}


def poison(patch, when):
    """D's gradients are NaN in every step on whose stage `when` says so."""
    original = Step.d

    def d(self, reals, *rest):
        return original(self, reals * math.nan if when(self.stage) else reals, *rest)

    patch.setattr(Step, "d", d)
    patch.setattr(recovery, "MOST_LEFT_OUT", 6)


def in_the_fade(stage):
    """Where a rate above 0.0015 does not get through."""
    return stage.phase == "fade" and stage.alpha > 0.5 and stage.d_lr > 0.0015


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that went back once and was never stopped."""
    with pytest.MonkeyPatch.context() as patch:
        poison(patch, in_the_fade)
        return progan.train(out=tmp_path_factory.mktemp("whole") / "run", **RUN)


def assert_equal_runs(a: Path, b: Path) -> None:
    first, second = weights(a), weights(b)
    assert all(torch.equal(first[name], second[name]) for name in first)
    timed = {"img_per_sec", "data_wait_frac", "peak_memory", "elapsed"}
    lines = [
        [{k: v for k, v in line.items() if k not in timed} for line in read_stats(p / "stats.jsonl")] for p in (a, b)
    ]
    assert str(lines[0]) == str(lines[1])  # NaN is NaN


def test_a_diverged_run_goes_back_to_the_last_good_state_with_half_the_learning_rate(whole):
    assert whole.finished
    lines = read_stats(whole.folder.stats)
    # The fade is 400 … 600; from 504 on nothing gets through, the sixth update that is left out ends at 552. Good
    # states lie four ticks apart: 320 and 488 images.
    assert [line["cur_nimg"] for line in lines if line["lr"] == 0.002][-1] == 488
    assert next(line["cur_nimg"] for line in lines if line["lr"] == 0.001) == 528
    assert len(lines) == len({line["cur_nimg"] for line in lines})
    assert lines[-1]["cur_nimg"] == 1000
    assert all(torch.isfinite(value).all() for value in weights(whole.path).values())


class StopAt(Observer):
    """Stops a run when it has seen so many images, counting those it went back over."""

    def __init__(self, iterations: int) -> None:
        self.left = iterations

    def on_progress(self, cur_nimg, stage):
        self.left -= 1

    def __call__(self) -> bool:
        return self.left <= 0


def test_stopped_anywhere_before_while_or_after_it_goes_back_a_run_ends_in_the_same_bits(whole, tmp_path, monkeypatch):
    poison(monkeypatch, in_the_fade)
    original = loop.train
    # Block 69 is the one that diverges (552 images); stopped at 67 with four updates left out in a row.
    for blocks in (61, 6, 3, 40):
        stop = StopAt(blocks)
        with monkeypatch.context() as patch:
            patch.setattr("progan.run.train_job", lambda job, seen, *_, s=stop: original(job, [*seen, s], s))
            assert not progan.train(out=tmp_path / "run", **RUN).finished
    progan.train(out=tmp_path / "run", **RUN)
    assert_equal_runs(whole.path, tmp_path / "run")


@pytest.mark.slow
def test_killed_while_it_goes_back_a_run_ends_in_the_same_bits(whole, tmp_path, monkeypatch):
    poison(monkeypatch, in_the_fade)
    monkeypatch.setattr(state, "WRITING_SHARE", math.inf)  # a state every tick
    with monkeypatch.context() as patch:

        def killed(folder, cur_nimg):
            raise KeyboardInterrupt

        patch.setattr(StateFolder, "drop_after", killed)  # the state gone back to is written, later ones still there
        with pytest.raises(KeyboardInterrupt):
            progan.train(out=tmp_path / "run", **RUN)
    assert max(StateFolder(tmp_path / "run" / "state").positions()) > 488
    progan.train(out=tmp_path / "run", **RUN)
    assert_equal_runs(whole.path, tmp_path / "run")


def test_what_a_training_that_is_gone_made_is_gone(tmp_path, monkeypatch):
    """Stopped after it went back, a run's newest generator and grid are not later than the run; its copy's neither."""
    poison(monkeypatch, in_the_fade)
    original, options = loop.train, {**RUN, "snapshot_kimg": 0.08, "copy_to": str(tmp_path / "copy")}
    mine = [
        tmp_path / "run" / name for name in ("snapshots/generator-best.safetensors", "samples/fakes-999999999-copy.png")
    ]
    for path in mine:
        path.parent.mkdir(parents=True)
        path.touch()
    stop = StopAt(74)  # the fifth block after it went back
    monkeypatch.setattr("progan.run.train_job", lambda job, seen, *_: original(job, [*seen, stop], stop))
    run = progan.train(out=tmp_path / "run", **options)
    assert run.cur_nimg == 528
    for folder in (run.path, tmp_path / "copy"):
        moments = [int(path.name.split("-")[1]) for path in folder.glob("s*/[fg]*-*x*.*")]
        assert max(moments) <= 528
        assert 520 not in moments, "a tick of the training that is gone"
    assert all(path.exists() for path in mine), "what a user puts there is no file of the run"


@pytest.mark.slow
def test_killed_before_its_copy_knows_that_it_went_back_a_run_goes_on(whole, tmp_path, monkeypatch):
    """The states that are later there were sent from this folder."""
    options = {**RUN, "copy_to": str(tmp_path / "copy")}
    poison(monkeypatch, in_the_fade)
    monkeypatch.setattr(state, "WRITING_SHARE", math.inf)  # a state every tick
    with monkeypatch.context() as patch:

        def killed(self, state, stage):
            if state.adjustments.rewinds:
                patch.setattr(self, "_send_changes", lambda everything: None)
                raise KeyboardInterrupt

        patch.setattr(copies.Copier, "on_start", killed)
        with pytest.raises(KeyboardInterrupt):
            progan.train(out=tmp_path / "run", **options)
    later, here = (max(StateFolder(tmp_path / name / "state").positions()) for name in ("copy", "run"))
    assert later > here
    progan.train(out=tmp_path / "run", **options)
    assert_equal_runs(whole.path, tmp_path / "run")


@pytest.mark.slow
def test_a_second_divergence_goes_back_further(tmp_path, monkeypatch):
    poison(monkeypatch, lambda stage: stage.phase == "fade" and stage.alpha > 0.5 and stage.d_lr > 0.0007)
    run = progan.train(out=tmp_path / "run", **RUN)
    assert run.finished
    lines = read_stats(run.folder.stats)
    assert [line["cur_nimg"] for line in lines if line["lr"] == 0.002][-1] == 320, "the good state before that at 488"
    assert {line["lr"] for line in lines} == {0.002, 0.0005}


@pytest.mark.slow
def test_a_run_that_no_learning_rate_saves_says_so(tmp_path, monkeypatch):
    poison(monkeypatch, lambda stage: stage.phase == "fade")
    with pytest.raises(DivergenceError, match=r"after 5 returns .* learning rates x 0\.03125\. Begin again") as error:
        progan.train(out=tmp_path / "run", **RUN)
    assert "\n" not in str(error.value)


def test_a_run_without_a_good_state_says_that_it_diverged(tmp_path):
    """Somebody deleted the folder, or its disk was always full."""
    good = recovery.GoodStates(StateFolder(tmp_path / "state"), print)
    with pytest.raises(
        DivergenceError, match=r"^diverged at 0 kimg \(a sign\), .* nothing to go back to: .*good: empty"
    ):
        good.go_back(tiny_state(), "a sign")


def test_stop_is_an_option_and_an_exit_code(tmp_path, capsys, monkeypatch):
    poison(monkeypatch, in_the_fade)
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in RUN.items() if name != "quiet"]
    assert cli.main(["train", *flags, "--out", str(tmp_path / "run"), "--on-divergence", "stop"]) == 3
    err = capsys.readouterr().err
    assert "progan: diverged at 0.552 kimg: the last 6 updates of D had gradients that are not finite" in err
    assert not (tmp_path / "run" / "good").exists()


@pytest.mark.slow
def test_a_learning_rate_that_really_diverges_is_lowered_until_it_does_not(tmp_path):
    options = {**RUN, "stable_kimg": 1.2, "start_resolution": 8, "seed": 2}
    with pytest.raises(DivergenceError):
        progan.train(out=tmp_path / "hopeless", **{**options, "lr": 1e6})
    run = progan.train(out=tmp_path / "run", **{**options, "lr": LR})
    assert run.finished
    last = read_stats(run.folder.stats)[-1]
    assert LR / 32 <= last["lr"] < LR
    assert abs(last["D/penalty"]) < recovery.SANE


LR = 8.0


def test_losses_far_off_for_three_ticks_are_a_divergence_and_spikes_are_not():
    state = tiny_state()
    calm, wild, poisoned = {"D/real": 900.0}, {"D/real": -2e4}, {"D/real": math.nan}
    assert [recovery.find_divergence(state, losses) for losses in (wild, wild, calm, wild, poisoned, poisoned)] == [
        None
    ] * 6
    assert recovery.find_divergence(state, wild) is None
    assert recovery.find_divergence(state, {"D/real": math.inf}) is None
    assert "D/real is -2.0e+04" in recovery.find_divergence(state, wild)


def test_a_weight_that_is_not_finite_is_a_divergence():
    state = tiny_state()
    with torch.no_grad():
        state.G_ema.conv.bias[1] = math.inf
    assert recovery.find_divergence(state, {}) == "there are weights that are not finite"


def tiny_state():
    return new_state(ProGANConfig(z_dim=4, fmap_max=4))
