"""`--profile`: a trace that a viewer can open, and a summary that names the parts of an iteration."""

import io
import json
import sys

import pytest

import progan

TINY = {
    "data": "avatars:32",
    "loss": "wgan-gp",
    "resolution": 8,
    "start_resolution": 8,
    "stable_kimg": 0.08,
    "batch_size": 4,
    "fmap_max": 8,
    "z_dim": 8,
    "device": "cpu",
    "precision": "fp32",
}


def test_a_profile_names_the_parts_of_an_iteration_and_the_dearest_operations(tmp_path, capsys):
    run = progan.train(out=tmp_path / "run", profile=True, **TINY)
    events = json.loads((run.path / "profile.json").read_text())["traceEvents"]
    counts = {name: sum(event.get("name") == name for event in events) for name in ("data", "D step", "G step")}
    assert counts == {"data": 6, "D step": 6, "G step": 6}
    text = (run.path / "profile.txt").read_text()
    assert text in capsys.readouterr().err
    shares = [float(line.split()[-1].rstrip("%")) for line in text.splitlines() if line.startswith(("data", "D step"))]
    assert len(shares) == 2
    assert shares[1] > 20, "D's step is most of an iteration"
    assert "aten::convolution_backward" in text or "mkldnn" in text
    assert len(text.splitlines()) <= 24


@pytest.mark.slow
def test_a_profile_changes_nothing(tmp_path):
    plain, profiled = (progan.train(out=tmp_path / str(p), profile=p, quiet=True, **TINY) for p in (False, True))
    first, second = (progan.load(run.path).G.state_dict() for run in (plain, profiled))
    assert all((first[name] == second[name]).all() for name in first)


@pytest.mark.slow
def test_nobody_reading_the_summary_and_a_disk_that_is_full_end_no_run(tmp_path, monkeypatch, capsys):
    class Closed(io.StringIO):
        def write(self, text):
            raise BrokenPipeError

    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", Closed())
        run = progan.train(out=tmp_path / "unread", profile=True, **TINY)
    assert run.finished
    assert (run.path / "profile.txt").exists()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "profile.txt").symlink_to("/dev/full")
    assert progan.train(out=tmp_path / "full", profile=True, **TINY).finished
    assert "profile" in capsys.readouterr().err


def test_a_run_too_short_to_be_profiled_says_so(tmp_path, capsys):
    progan.train(out=tmp_path / "run", profile=True, **{**TINY, "stable_kimg": 0.02})
    assert "ended before enough of it was recorded for a profile" in capsys.readouterr().err
