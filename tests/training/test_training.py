"""Runs: that they learn what they should, stop anywhere and go on exactly."""

import itertools
import json
import shutil
import signal
import subprocess
import sys
import time
from io import BytesIO
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

import progan
from progan.config import ScheduleConfig
from progan.errors import ConfigError, ProganError, RunError
from progan.per_resolution import per_resolution
from progan.schedule import Schedule
from progan.training import loop, step
from progan.training.observers.base import Observer
from progan.training.observers.console import Console
from progan.training.observers.run_files import read_stats
from progan.training.preflight.estimate import Pace
from progan.training.state import StateFolder
from tiny import TINY, assert_equal_weights, weights

pytestmark = pytest.mark.usefixtures("own_cache", "traced_once")

RUN = {**TINY, "resolution": 16, "batch_size": "4:16,16:8", "tick_kimg": 0.08}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run from its beginning to its end."""
    return progan.train(out=tmp_path_factory.mktemp("whole") / "run", **RUN)


def test_a_run_leaves_everything_the_design_names(whole):
    assert whole.finished
    names = [path.relative_to(whole.path).as_posix() for path in sorted(whole.path.rglob("*"))]
    assert "config.json" in names
    assert "samples/reals.png" in names
    assert any(name.startswith("tensorboard/events") for name in names)
    assert [name for name in names if name.startswith("snapshots/g")] == [
        "snapshots/generator-000000208-4x4.safetensors",
        "snapshots/generator-000000608-8x8.safetensors",
        f"snapshots/generator-{whole.cur_nimg:09d}-16x16.safetensors",
    ]
    assert len([name for name in names if name.startswith("state/s")]) == 2
    grid = Image.open(whole.grid())
    assert grid.size == (8 * 64 + 7 * 2, 8 * 64 + 7 * 2)


def test_statistics_name_every_term_and_the_stage(whole):
    lines = read_stats(whole.folder.stats)
    assert {(line["resolution"], line["phase"]) for line in lines} == {
        (4, "stable"), (8, "fade"), (8, "stable"), (16, "fade"), (16, "stable"),
    }  # fmt: skip
    for line in lines:
        assert {"D/real", "D/fake", "D/drift", "D/penalty", "G/fake", "img_per_sec", "data_wait_frac"} <= line.keys()
        assert np.isfinite([value for value in line.values() if not isinstance(value, str)]).all()
        assert (line["alpha"] == 1) == (line["phase"] == "stable") or line["cur_nimg"] % 200 < 16
    assert [line["cur_nimg"] for line in lines] == sorted({line["cur_nimg"] for line in lines})


def test_tensorboard_has_the_same_numbers(whole):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(whole.path / "tensorboard")).Reload()
    written = {event.step: event.value for event in events.Scalars("D/penalty")}
    assert written == {
        line["cur_nimg"]: pytest.approx(line["D/penalty"], rel=1e-6) for line in read_stats(whole.folder.stats)
    }
    # The options of the run are its hyperparameters.
    plugin = events.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    assert b"batch_size" in plugin
    assert b"4:16,16:8" in plugin
    # And the sample grids, those of the end among them, shrunk where they are large.
    grids = {event.step: Image.open(BytesIO(event.encoded_image_string)) for event in events.Images("samples")}
    shown = {int(path.name.split("-")[1]) for path in whole.folder.samples.glob("fakes-*.png")}
    assert set(grids) <= shown
    assert whole.cur_nimg in grids
    full = Image.open(whole.grid()).convert("RGB")
    full.thumbnail((512, 512))
    assert np.array_equal(np.asarray(grids[whole.cur_nimg].convert("RGB")), np.asarray(full))


class StopAt(Observer):
    """Stops a run at the first evaluation of the schedule at or after so many images."""

    def __init__(self, nimg: int) -> None:
        self.nimg, self.reached = nimg, 0

    def on_progress(self, cur_nimg, stage):
        self.reached = cur_nimg

    def __call__(self) -> bool:
        return self.reached >= self.nimg


@pytest.mark.parametrize(
    "stops",
    [*(pytest.param(one, marks=pytest.mark.slow) for one in ((100,), (300,), (700, 720, 728))), (200, 208, 400, 416)],
)
def test_a_run_stopped_and_continued_equals_one_that_was_not(whole, stops, tmp_path, monkeypatch):
    original = loop.train
    for nimg in stops:
        stop = StopAt(nimg)
        with monkeypatch.context() as patch:
            patch.setattr("progan.run.train_job", lambda job, watching, *_, s=stop: original(job, [*watching, s], s))
            run = progan.train(out=tmp_path / "run", **RUN)
        assert not run.finished
        assert nimg <= run.cur_nimg <= nimg + 16
    progan.train(out=tmp_path / "run", **RUN)
    assert_equal_weights(whole.path, tmp_path / "run")
    nimg = [line["cur_nimg"] for line in read_stats(tmp_path / "run" / "stats.jsonl")]
    assert nimg == sorted(set(nimg))


@pytest.mark.slow
def test_a_run_that_is_stopped_measures_and_writes_at_the_moments_of_one_that_is_not(tmp_path):
    """Also where it is stopped between ticks."""
    options = {**RUN, "start_resolution": 16, "total_kimg": 0.6, "tick_kimg": 0.08}
    options |= {"metrics_kimg": 0.2, "metrics_num": 16, "snapshot_kimg": 0.15, "grid_kimg": 0.15}
    progan.train(out=tmp_path / "whole", **options)
    for until in (216, 420, None):
        progan.train(out=tmp_path / "run", until=until, **options)
    moments = []
    for run in (tmp_path / "whole", tmp_path / "run"):
        names = [path.name for folder in ("snapshots", "samples") for path in sorted((run / folder).iterdir())]
        lines = [line["cur_nimg"] for line in read_stats(run / "stats.jsonl") if "metrics/G/swd" in line]
        moments.append((names, lines))
    assert moments[0] == moments[1]
    assert moments[0][1] == [240, 400, 600]
    assert sum(name.startswith("generator-") for name in moments[0][0]) > 2


@pytest.mark.slow  # 16 bits are, on a processor without units for them
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_16_bits_and_labels_resume_exactly_too(precision, tmp_path, monkeypatch):
    options = {**RUN, "resolution": 8, "precision": precision, "labels": True, "mirror": True, "d_steps": 2}
    options["schedule_every"] = 2
    progan.train(out=tmp_path / "whole", **options)
    stop = StopAt(320)
    with monkeypatch.context() as patch:
        original = loop.train
        patch.setattr("progan.run.train_job", lambda job, watching, *_: original(job, [*watching, stop], stop))
        progan.train(out=tmp_path / "run", **options)
    progan.train(out=tmp_path / "run", **options)
    assert_equal_weights(tmp_path / "whole", tmp_path / "run")


def test_reading_ahead_changes_nothing(whole, tmp_path):
    progan.train(out=tmp_path / "run", **{**RUN, "workers": 0})
    assert_equal_weights(whole.path, tmp_path / "run")


@pytest.mark.slow
def test_another_seed_gives_other_weights(whole, tmp_path):
    progan.train(out=tmp_path / "run", **{**RUN, "seed": 1})
    first, second = weights(whole.path), weights(tmp_path / "run")
    assert not torch.equal(first["conv.weight"], second["conv.weight"])


def test_a_damaged_newest_state_falls_back_to_the_one_before(whole, tmp_path, capsys):
    progan.train(out=tmp_path / "run", **{**RUN, "total_kimg": 0.5})
    states = sorted((tmp_path / "run" / "state").iterdir())
    assert len(states) == 2
    states[1].write_bytes(states[1].read_bytes()[:1000])
    run = progan.train(out=tmp_path / "run", **{**RUN, "total_kimg": 0.5, "quiet": False})
    assert run.finished
    assert "going on from the one before" in capsys.readouterr().err
    for path in (tmp_path / "run" / "state").iterdir():
        path.write_bytes(b"")
    with pytest.raises(RunError, match=r"cannot be used.*Move the files of .*good there to go on from"):
        progan.train(out=tmp_path / "run", **{**RUN, "total_kimg": 0.5})
    made = weights(run.path)
    for path in (tmp_path / "run" / "good").iterdir():  # what it says leads to the same bits
        path.replace(tmp_path / "run" / "state" / path.name)
    again = weights(progan.train(out=tmp_path / "run", **{**RUN, "total_kimg": 0.5}).path)
    assert all(torch.equal(made[name], again[name]) for name in made)


def test_a_run_whose_states_are_gone_does_not_begin_anew_over_what_it_made(whole, tmp_path):
    folder = shutil.copytree(whole.path, tmp_path / "run")
    shutil.rmtree(folder / "state")
    made = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(RunError, match=r"states are gone\. Move the files of \S*good there to go on from 0\."):
        progan.train(out=folder, quiet=True)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == made
    # What it says leads to the same bits.
    (folder / "good").rename(folder / "state")
    assert_equal_weights(progan.train(out=folder, quiet=True).path, whole.path)
    shutil.rmtree(folder / "state")
    (folder / "stats.jsonl").unlink()  # only generators were copied here
    with pytest.raises(RunError, match=r"are gone\. Start a new run with another --out"):
        progan.train(out=folder, quiet=True)


def test_a_run_killed_in_its_first_tick_begins_anew(whole, tmp_path):
    folder = shutil.copytree(whole.path, tmp_path / "run")
    for name in ("state", "good", "snapshots"):
        shutil.rmtree(folder / name)
    lines = (folder / "stats.jsonl").read_text().splitlines(keepends=True)
    (folder / "stats.jsonl").write_text(lines[0])
    assert_equal_weights(progan.train(out=folder, quiet=True).path, whole.path)


def test_changed_settings_are_refused_with_the_difference(whole):
    with pytest.raises(RunError, match=r"lr: 0.002 -> 0.003"):
        progan.train(out=whole.path, **{**RUN, "lr": 0.003})
    with pytest.raises(ConfigError, match="--recipe is for a new run"):
        progan.train(out=whole.path, quiet=True, recipe="paper")
    with pytest.raises(RunError, match="images: 64 -> 65"):
        progan.train(out=whole.path, **{**RUN, "data": "avatars:65"})


def test_a_run_goes_on_without_naming_its_settings_again(whole):
    run = progan.train(out=whole.path, quiet=True)
    assert run.finished
    assert run.cur_nimg == whole.cur_nimg


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"preset": "mnist32"}, "needs images"),
        ({"preset": "mnist"}, "did you mean mnist32"),
        ({"data": "no/such/folder"}, "no/such/folder"),
        ({"loss": "lsgan", "gp_weight": 1}, "belongs to loss wgan-gp"),
        ({"device": "cuda:99", "data": "avatars:64"}, "cannot be used"),
        ({"batch_size": 0}, "--batch-size"),
        ({"resolutoin": 8}, "did you mean --resolution"),
    ],
)
def test_mistakes_get_one_clear_line(options, message, tmp_path):
    with pytest.raises(ProganError, match=message) as error:
        progan.train(out=tmp_path / "run", quiet=True, **options)
    assert "\n" not in str(error.value)


def test_a_gradient_that_is_not_finite_is_left_out_and_counted(tmp_path, monkeypatch):
    original = step.process_reals
    calls = iter(range(10**6))

    def poison(pixels, alpha, mirrored=None):
        reals = original(pixels, alpha, mirrored)
        return reals * float("nan") if next(calls) == 3 else reals

    monkeypatch.setattr(step, "process_reals", poison)
    run = progan.train(out=tmp_path / "run", **{**RUN, "total_kimg": 0.2})
    assert read_stats(run.folder.stats)[-1]["skipped_d"] == 1
    assert all(torch.isfinite(value).all() for value in weights(run.path).values())


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, None], ids=["SIGINT", "SIGTERM", "file"])
def test_a_signal_or_the_file_saves_and_says_how_to_go_on(number, tmp_path):
    flags = [
        part for name, value in RUN.items() if name != "quiet" for part in (f"--{name.replace('_', '-')}", str(value))
    ]
    command = [sys.executable, "-m", "progan", "train", *flags, "--total-kimg", "500", "--out", str(tmp_path / "run")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 400
    while not (tmp_path / "run" / "stats.jsonl").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    if number is None:
        (tmp_path / "run" / "stop").touch()
    else:
        process.send_signal(number)
    _, err = process.communicate(timeout=400)
    assert process.returncode == 128 + (number or signal.SIGINT)
    assert f"To go on: progan train --out {tmp_path / 'run'}" in err
    stopped_at = StateFolder(tmp_path / "run" / "state")._paths()[-1].stem
    assert int(stopped_at.removeprefix("state-")) > 0


def test_states_hold_no_code_and_only_the_last_two_are_kept(whole):
    for path in StateFolder(whole.folder.state)._paths():
        content = path.read_bytes()
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        assert header["__metadata__"]["format"] == "progan training state"


def test_growing_needs_no_special_case_for_a_gan_that_does_not_grow(tmp_path):
    run = progan.train(out=tmp_path / "run", **{**RUN, "start_resolution": 16, "stable_kimg": 0.1})
    assert {line["phase"] for line in read_stats(run.folder.stats)} == {"stable"}
    schedule = Schedule(ScheduleConfig(resolution=16, start_resolution=16, stable_kimg=per_resolution(0.1)))
    assert len(schedule.spans) == 1


def test_it_is_said_where_the_first_pictures_are_that_show_something(capsys):
    schedule = Schedule(ScheduleConfig(resolution=32, stable_kimg=per_resolution(0.2), fade_kimg=per_resolution(0.2)))
    console, ends = Console(schedule, Pace(schedule, {}, {})), [span.end for span in schedule.spans]
    for end, following in itertools.pairwise(ends):
        console.on_stage_end(schedule.at(end - 1), schedule.at(following - 1), SimpleNamespace(cur_nimg=end))
    said = capsys.readouterr().err.splitlines()
    assert said == ["the first pictures that show something: samples/fakes-000001000-16x16.png"]


@pytest.mark.slow
def test_every_stage_up_to_1024_trains(tmp_path):
    options = {**RUN, "data": "avatars:4", "resolution": 1024, "stable_kimg": 0.002, "fade_kimg": 0.002}
    run = progan.train(out=tmp_path / "run", **{**options, "batch_size": 2, "tick_kimg": 0.002, "fmap_max": 4})
    ticks = read_stats(run.folder.stats)
    assert sorted({tick["resolution"] for tick in ticks}) == [4, 8, 16, 32, 64, 128, 256, 512, 1024]
    assert all(np.isfinite(tick["D/penalty"]) for tick in ticks)
    assert progan.load(run.path).resolution == 1024
