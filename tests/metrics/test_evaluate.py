"""Evaluation: the same images for every generator, a floor beside every number, and no trace in the training."""

import json
import math
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import progan
from progan import models
from progan.cli import main
from progan.config import ProGANConfig, RunConfig, ScheduleConfig
from progan.data.dataset import Dataset
from progan.data.prepare import prepare
from progan.data.split import split
from progan.errors import ConfigError, DatasetError
from progan.metrics import METRICS, Setting, Value, classifier, evaluation, features, fid, limits, make
from progan.metrics.evaluation import Yardstick, evaluate
from progan.models import ImageShape
from progan.snapshot import Snapshot, SnapshotInfo, of_generator
from progan.training.observers.run_files import read_stats
from tiny import TINY

pytestmark = pytest.mark.usefixtures("traced_once")
MODEL = ProGANConfig(z_dim=8, fmap_base=64, fmap_max=8)


@pytest.fixture(scope="module")
def faces(tmp_path_factory) -> Dataset:
    """200 faces of 32x32 with attributes."""
    folder = tmp_path_factory.mktemp("data") / "faces"
    prepare("avatars:200", folder, progan.config.PrepareConfig(resolution=32, workers=1))
    return Dataset.open(folder)


def untrained(labels: tuple[str, ...] = (), channels: int = 3, resolution: int = 32) -> Snapshot:
    shape = ImageShape(resolution, channels, len(labels))
    G, _ = models.build(MODEL, shape, seed=3)
    config = RunConfig(model=MODEL, schedule=ScheduleConfig(resolution=resolution))
    info = SnapshotInfo(config, shape, resolution, 1.0, 0, "none", "class" if labels else None, labels)
    return of_generator(G, info, torch.eye(len(labels)) if labels else None)


def measure(yardstick: Yardstick, generate, labelled: bool = False):
    return yardstick.measure(generate, 32, 8, labelled)


class TestYardstick:
    def test_other_reals_measure_as_the_floor(self, faces):
        """A generator that gives the very images the floor is made of."""
        given = iter(torch.from_numpy(faces.pixels(32, faces.order(100, 100, 5))))
        values = measure(Yardstick(faces, seed=5), lambda z, labels: torch.stack([next(given) for _ in z]))
        for value in values.values():
            assert (value.value, value.low, value.high) == (value.floor.value, value.floor.low, value.floor.high)

    def test_reals_and_the_floors_reals_are_other_images(self, faces):
        yardstick = Yardstick(faces)
        first, others = (
            torch.cat(list(yardstick._reals(32, start, 100))).flatten(1).unique(dim=0) for start in (0, 100)
        )
        assert len(torch.cat([first, others]).unique(dim=0)) == len(first) + len(others) > 190

    def test_latents_of_two_seeds_are_others_and_those_of_one_the_same(self, faces):
        drawn: dict[int, list[Tensor]] = {0: [], 1: []}

        def generate(z: Tensor, labels: Tensor | None) -> Tensor:
            drawn[seed].append(z)
            return torch.zeros(len(z), 3, 32, 32, dtype=torch.uint8)

        for seed in (0, 1, 0):
            yardstick = Yardstick(faces, ["ms_ssim"], num=70, seed=seed)
            measure(yardstick, generate)
            assert yardstick.first_seed == 70 * seed
        z = torch.cat([*drawn[0], *drawn[1]])
        assert len(z) == 210
        assert len(z.unique(dim=0)) == 140
        assert torch.equal(z[70:140], z[:70])
        assert torch.equal(z[140:], untrained().latents(range(70, 140)))

    def test_labels_are_those_of_the_reals(self, faces):
        seen = []

        def generate(z: Tensor, labels: Tensor | None) -> Tensor:
            seen.append(labels)
            return torch.zeros(len(z), 3, 32, 32, dtype=torch.uint8)

        measure(Yardstick(faces, ["ms_ssim"], num=80, seed=3), generate, labelled=True)
        np.testing.assert_array_equal(torch.cat(seen), faces.labels(faces.order(0, 80, 3)))

    def test_numbers_of_images(self, faces):
        assert (Yardstick(faces).num, Yardstick(faces).floor_num) == (100, 100)
        assert (Yardstick(faces, num=150).num, Yardstick(faces, num=150).floor_num) == (150, 100)
        for num in (7, 201, -1, 0):
            with pytest.raises(ConfigError, match="--num must be from 8"):
                Yardstick(faces, num=num)

    def test_metrics_by_either_spelling(self, faces):
        values = measure(
            Yardstick(faces, ["ms-ssim", " ms_ssim"], num=8),
            lambda z, labels: torch.zeros(len(z), 3, 32, 32, dtype=torch.uint8),
        )
        assert list(values) == ["ms_ssim"]
        assert values["ms_ssim"].value == pytest.approx(1)
        with pytest.raises(ConfigError, match=r"no metric 'xyzzy'; there are swd, ms-ssim, .*, or `all`"):
            Yardstick(faces, ["xyzzy"])
        with pytest.raises(ConfigError, match=r"no metric 'swdd'; did you mean swd\?"):
            Yardstick(faces, ["swdd"])


class TestAll:
    def test_what_the_data_does_not_allow_is_left_out_and_said(self, faces, tmp_path, monkeypatch):
        monkeypatch.setenv("PROGAN_CACHE", str(tmp_path))
        monkeypatch.setattr(classifier, "SHOWN", 200)
        yardstick = Yardstick(faces, ["all"], num=80)
        snapshot = untrained()
        values = measure(yardstick, lambda z, labels: snapshot.generate(torch.randn(len(z), 8)))
        assert {"swd", "recall", "coverage", "spectrum", "out_of_range", "ndb", "class_kl"} <= values.keys()
        assert all(value.floor for value in values.values())
        small = yardstick.measure(lambda z, labels: torch.zeros(len(z), 3, 8, 8), 8, 8, False)
        assert "swd" not in small
        assert "left out: fid, kid, inception-score: needs --inception-weights FILE" in "\n".join(yardstick.notes)
        assert "recall" in small
        (note,) = (note for note in yardstick.notes if note.endswith(": needs images of at least 16x16; these have 8"))
        assert note.startswith("left out: swd, ")

    def test_images_reach_the_metrics_unclipped_and_pixels_as_they_are(self, faces):
        images = torch.full((16, 3, 32, 32), 1.2)
        found = measure(Yardstick(faces, ["extremes", "swd"], num=16), lambda z, labels: images[: len(z)])
        assert found["out_of_range"].value == 1e6
        assert found["out_of_range"].floor.value == 0
        white = images.new_full((16, 3, 32, 32), 255).to(torch.uint8)
        same = measure(Yardstick(faces, ["extremes", "swd"], num=16), lambda z, labels: white[: len(z)])
        assert same["out_of_range"].value == 0
        assert same["swd"] == found["swd"]

    def test_what_is_given_and_not_used_is_said(self, faces):
        given = {"held_out": faces, "inception_weights": Path("w"), "inception_statistics": Path("s")}
        assert Yardstick(faces, ["swd"], **given).notes == [
            "--held-out changes none of these metrics; it is for neighbours",
            "--inception-weights changes none of these metrics; it is for fid, kid, inception-score",
            "--inception-statistics changes none of these metrics; it is for fid",
        ]
        assert not Yardstick(faces, ["all"], **given).notes
        assert not Yardstick(faces, ["swd"]).notes

    def test_images_of_no_numbers_are_said(self, faces):
        yardstick = Yardstick(faces, ["swd"], num=16)
        measure(yardstick, lambda z, labels: torch.zeros(len(z), 3, 32, 32))
        assert not yardstick.notes
        broken = torch.zeros(16, 3, 32, 32)
        broken[3:5, 0, 0, 0] = math.nan
        broken[7, 0, 0, 0] = math.inf
        measure(yardstick, lambda z, labels: broken[: len(z)])
        (note,) = yardstick.notes
        assert note.startswith("3 generated images have values that are NaN or infinite")


class TestSnapshots:
    @pytest.mark.slow
    def test_an_untrained_generator_is_far_from_the_floor(self, faces):
        values = progan.evaluate(untrained(), faces, seed=1)
        assert list(values) == ["swd_32", "swd_16", "swd", "ms_ssim"]
        assert values["swd"].low > 3 * values["swd"].floor.high
        assert values == evaluate(untrained(), faces, seed=1)
        assert values != evaluate(untrained(), faces, seed=2)

    def test_what_cannot_be_compared(self, faces):
        with pytest.raises(ConfigError, match="makes grey images, avatars has RGB ones"):
            evaluate(untrained(channels=1), faces)
        with pytest.raises(ConfigError, match="trained with labels cat, dog, which avatars lacks"):
            evaluate(untrained(labels=("cat", "dog")), faces)
        with pytest.raises(DatasetError, match="no images of 64x64"):
            evaluate(untrained(resolution=64), faces)

    def test_labels_of_the_data(self, faces):
        assert evaluate(untrained(labels=faces.label_names), faces, ["ms_ssim"], num=20)
        numbers = tuple(str(i) for i in range(len(faces.label_names)))
        assert evaluate(untrained(labels=numbers), faces, ["ms_ssim"], num=20), "names that say nothing"


class TestCommand:
    def test_table(self, faces, tmp_path, capsys):
        untrained().save(tmp_path / "a.safetensors")
        command = ["evaluate", str(tmp_path / "a.safetensors"), "--data", str(faces.path), "--device", "cpu"]
        assert main([*command, "--num", "120", "--seed", "2"]) == 0
        out = capsys.readouterr().out
        assert "120 images of 32x32 (latents of seeds 240 … 359) against as many of avatars (seed 2)" in out
        assert "real-vs-real baseline: 100 images of avatars against 100 others, fewer than above" in out
        assert [line.split()[0] for line in out.splitlines()[4:]] == ["swd-32", "swd-16", "swd", "ms-ssim"]
        assert "baseline" in out.splitlines()[3]

    def test_json_is_what_the_api_says(self, faces, tmp_path, capsys):
        snapshot = untrained()
        snapshot.save(tmp_path / "a.safetensors")
        command = ["evaluate", str(tmp_path / "a.safetensors"), "--data", str(faces.path), "--device", "cpu"]
        assert main([*command, "--metrics", "ms-ssim", "--json"]) == 0
        report = json.loads(capsys.readouterr().out)
        value = evaluate(snapshot, faces, ["ms_ssim"])["ms_ssim"]
        assert report["metrics"]["ms_ssim"]["value"] == pytest.approx(value.value, rel=1e-6)
        assert report["metrics"]["ms_ssim"]["floor"]["high"] == pytest.approx(value.floor.high)
        assert (report["images"], report["floor_images"], report["seed"]) == (100, 100, 0)
        assert report["latent_seeds"] == [0, 99]

    def test_it_says_what_it_does_and_counts_every_image(self, faces, tmp_path, capsys):
        untrained().save(tmp_path / "a.safetensors")
        command = ["evaluate", str(tmp_path / "a.safetensors"), "--data", str(faces.path), "--device", "cpu"]
        assert main([*command, "--metrics", "spectrum,ms-ssim", "--num", "90"]) == 0
        said = capsys.readouterr().err.splitlines()
        assert said == [
            "measuring spectrum, ms-ssim: 90 generated images and 90 of avatars",
            "the same for the baseline: 90 images of avatars and 90 others",
        ]
        assert main([*command, "--metrics", "spectrum", "--quiet"]) == 0
        assert capsys.readouterr().err == ""
        yardstick, counts = Yardstick(faces, ["spectrum"], num=90), []
        for total in (360, 180):  # the baseline is measured once
            yardstick.measure_snapshot(untrained(), lambda *count: counts.append(count))
            assert [all_ for _, all_ in counts] == [total] * len(counts)
            done = [number for number, _ in counts]
            assert done == sorted(done)
            assert done[-1] == total
            counts.clear()

    def test_inception_on_the_papers_protocol(self, faces, tmp_path, capsys, monkeypatch):
        """50,000 fakes, more than there are reals; the real images' statistics from a file."""
        looked_at = []

        def network(pixels):
            looked_at.append(len(pixels))
            means = pixels.float().mean((2, 3))
            return torch.cat([means, means.square() / 255, means / 50], 1)

        monkeypatch.setattr(features, "_open_inception", lambda setting, metric: network)
        monkeypatch.setattr(fid, "FEATURES", 6)
        monkeypatch.setattr(evaluation, "INCEPTION_NUM", 500)
        real = network(torch.from_numpy(faces.pixels(32, np.arange(200)))).double()
        np.savez(tmp_path / "reals.npz", mu=real.mean(0)[:6], sigma=real[:, :6].T.cov())
        untrained().save(tmp_path / "a.safetensors")
        command = ["evaluate", str(tmp_path / "a.safetensors"), "--data", str(faces.path), "--device", "cpu"]
        command += ["--metrics", "inception", "--inception-weights", "w.pth", "--json"]
        looked_at.clear()
        assert main(command) == 0
        plain = json.loads(capsys.readouterr().out)
        assert sum(looked_at) == 500 + 200 + 100 + 100
        assert (plain["images"], plain["real_images"], plain["floor_images"]) == (500, 200, 100)
        assert list(plain["metrics"]) == ["fid", "kid", "inception_score"]
        assert main([*command, "--inception-statistics", str(tmp_path / "reals.npz")]) == 0
        read = json.loads(capsys.readouterr().out)
        assert read["metrics"]["fid"]["value"] == pytest.approx(plain["metrics"]["fid"]["value"], rel=1e-6)
        assert read["metrics"]["kid"] == plain["metrics"]["kid"]
        assert read["metrics"]["fid"]["floor"]["value"] < plain["metrics"]["fid"]["floor"]["value"]
        assert "reals.npz; its baseline compares images of the data with them" in read["notes"][0]
        assert main([*command[:-1], "--num", "300"]) == 0
        assert "300 images of 32x32 (latents of seeds 0 … 299) against 200 of avatars" in capsys.readouterr().out

    @pytest.mark.slow
    def test_too_few_images_for_one_metric_leave_it_out_of_all(self, faces, tmp_path, monkeypatch):
        monkeypatch.setenv("PROGAN_CACHE", str(tmp_path))
        monkeypatch.setattr(classifier, "SHOWN", 200)
        yardstick = Yardstick(faces, ["all"], num=20)
        assert "spectrum" in yardstick.measure_snapshot(untrained())
        assert "left out: modes needs at least 80 real images" in yardstick.notes
        with pytest.raises(ConfigError, match="modes needs at least 80"):
            Yardstick(faces, ["modes"], num=20).measure_snapshot(untrained())

    def test_neighbours_with_a_picture(self, faces, tmp_path, capsys):
        split(faces.path, tmp_path / "train", tmp_path / "held", count=40)
        untrained().save(tmp_path / "a.safetensors")
        command = ["evaluate", str(tmp_path / "a.safetensors"), "--data", str(tmp_path / "train"), "--device", "cpu"]
        more = ["--held-out", str(tmp_path / "held"), "--neighbours", str(tmp_path / "n.png"), "--num", "20", "--json"]
        assert main([*command, "--metrics", "neighbours", *more]) == 0
        report = json.loads(capsys.readouterr().out)
        assert report["metrics"].keys() == {"memorised", "neighbour_ratio"}
        assert report["metrics"]["memorised"]["floor"]["low"] < 0 < report["metrics"]["memorised"]["floor"]["high"]
        with Image.open(tmp_path / "n.png") as picture:
            assert picture.size == (6 * 34 - 2, 16 * 34 - 2)
            assert picture.text["snapshot"]

    def test_help_names_every_metric_and_its_direction(self, capsys):
        with pytest.raises(SystemExit):
            main(["evaluate", "--help"])
        listed = re.split(r"\n  (?=\w)", capsys.readouterr().out.split("\nmetrics:")[1])[1:]
        assert [entry.split()[0] for entry in listed] == [name.replace("_", "-") for name in METRICS]
        assert all("better" in entry or "best" in entry for entry in listed)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["SNAPSHOT", "--data", "DATA", "--metrics", "neighbours"], "--held-out"),
            (["SNAPSHOT", "--data", "DATA", "--metrics", "stacked-mnist"], "stacked-mnist needs data made with"),
            (["SNAPSHOT", "--data", "DATA", "--metrics", "fid"], "fid needs --inception-weights"),
            (["SNAPSHOT", "--data", "DATA", "--metrics", "all,swd"], "--metrics all is given alone"),
            (["SNAPSHOT", "--data", "DATA", "--metrics", "fid", "--inception-weights", "x"], "x cannot be read"),
            (["nowhere"], "does not exist"),
            (["SNAPSHOT"], "--data: name the images"),
            (["SNAPSHOT", "--data", "nowhere"], "nowhere does not exist"),
            (["SNAPSHOT", "--data", "DATA", "--metrics", "swd,fud"], "no metric 'fud'"),
            (["SNAPSHOT", "--data", "DATA", "--num", "300"], "which has 200"),
            (["SNAPSHOT", "--data", "DATA", "--seed", "-1"], "--seed"),
            (["SNAPSHOT", "--data", "DATA", "--seed", "99999999999999999999"], "--seed must be from 0 to"),
            (["SNAPSHOT", "--data", "DATA", "--resolution", "16"], "--resolution chooses among"),
            (["SNAPSHOT", "--data", "DATA", "--device", "quantum"], "--device quantum"),
        ],
    )
    def test_mistakes(self, faces, tmp_path, capsys, arguments, message):
        untrained().save(tmp_path / "a.safetensors")
        words = {"SNAPSHOT": str(tmp_path / "a.safetensors"), "DATA": str(faces.path)}
        assert main(["evaluate", *(words.get(word, word) for word in arguments)]) == 2
        assert message in capsys.readouterr().err.splitlines()[-1]


SETTINGS = {**TINY, "resolution": 16, "stable_kimg": 0.1, "fade_kimg": 0.1, "compile": "auto"}
del SETTINGS["data"]


@pytest.fixture(scope="module")
def measured(faces, tmp_path_factory):
    """A run with metrics."""
    folder = tmp_path_factory.mktemp("measured") / "run"
    return progan.train(out=folder, data=faces.path, metrics_kimg=0.05, metrics_num=16, **SETTINGS)


class TestDuringTraining:
    def test_the_training_is_the_same_to_the_last_bit(self, faces, measured, tmp_path):
        plain = progan.train(out=tmp_path / "run", data=faces.path, **SETTINGS)
        one, two = (progan.load(run.path).G.state_dict() for run in (plain, measured))
        assert all(torch.equal(one[name], two[name]) for name in one)
        own = {name for line in read_stats(measured.folder.stats) for name in line if name.startswith("metrics/")}
        for a, b in zip(read_stats(plain.folder.stats), read_stats(measured.folder.stats), strict=True):
            assert a.keys() == b.keys() - own
            assert all(a[name] == b[name] for name in a if name[:2] in ("D/", "G/") or name == "cur_nimg")

    def test_lines_and_tensorboard_have_numbers_of_both_and_the_floor(self, measured):
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        lines = read_stats(measured.folder.stats)
        with_numbers = [line for line in lines if "metrics/G_ema/swd" in line]
        assert {line["resolution"] for line in with_numbers} == {16}
        periods = [line["cur_nimg"] // 50 for line in with_numbers]
        assert periods == sorted(set(periods)), "once in every metrics_kimg"
        assert len(periods) >= 3
        names = {f"metrics/{who}/{what}" for who in ("G", "G_ema", "floor") for what in ("swd_16", "swd", "ms_ssim")}
        assert all(names <= line.keys() for line in with_numbers)
        assert with_numbers[0]["metrics/G/swd"] != with_numbers[0]["metrics/G_ema/swd"]
        assert len({line["metrics/floor/swd"] for line in with_numbers}) == 1
        events = EventAccumulator(str(measured.path / "tensorboard")).Reload().Scalars("metrics/G_ema/swd")
        assert [(event.step, pytest.approx(event.value)) for event in events] == [
            (line["cur_nimg"], line["metrics/G_ema/swd"]) for line in with_numbers
        ]

    def test_the_last_numbers_are_those_of_evaluate(self, faces, measured):
        """The last line with numbers is not the end of the run; a snapshot of that moment says the same."""
        line = next(line for line in reversed(read_stats(measured.folder.stats)) if "metrics/G_ema/swd" in line)
        assert line["cur_nimg"] == measured.cur_nimg, "for the snapshot there is to be of that moment"
        values = evaluate(progan.load(measured.path), faces, num=16)
        for name, value in values.items():
            assert line[f"metrics/G_ema/{name}"] == pytest.approx(value.value, rel=1e-4)
            assert line[f"metrics/floor/{name}"] == pytest.approx(value.floor.value, rel=1e-4)

    def test_a_stopped_run_measures_at_the_same_moments(self, faces, measured, tmp_path):
        settings = {"metrics_kimg": 0.05, "metrics_num": 16, **SETTINGS}
        shutil.copytree(measured.path, tmp_path / "run")
        stats = tmp_path / "run" / "stats.jsonl"
        state = sorted((tmp_path / "run" / "state").glob("s*"))
        state[-1].unlink()  # as if killed after the last but one
        progan.train(out=tmp_path / "run", data=faces.path, **settings)
        numbers = ("metrics/G/swd", "metrics/G_ema/ms_ssim", "metrics/floor/swd")
        one, two = (
            [[line.get(name) for name in numbers] for line in read_stats(path)]
            for path in (measured.folder.stats, stats)
        )
        assert one == two

    def test_what_cannot_be_measured_is_refused_before_the_run_begins(self, faces, tmp_path):
        with pytest.raises(ConfigError, match="no metrics below 16x16"):
            progan.train(out=tmp_path / "a", data=faces.path, metrics_kimg=1, **{**SETTINGS, "resolution": 8})
        (tmp_path / "few").mkdir()
        for i in range(5):
            Image.new("RGB", (16, 16), (i, i, i)).save(tmp_path / "few" / f"{i}.png")
        prepare(tmp_path / "few", tmp_path / "prepared")
        with pytest.raises(DatasetError, match="too few images to measure with, 5"):
            progan.train(out=tmp_path / "b", data=tmp_path / "prepared", metrics_kimg=1, **SETTINGS)
        assert not (tmp_path / "a").exists()
        assert not (tmp_path / "b").exists()


class TestLimits:
    """No interval holds numbers that cannot be: distances below 0, similarities above 1."""

    def test_each_number_has_them(self):
        negative = {name for entry in METRICS.values() for name in entry.values if limits(name)[0] < 0}
        assert negative == {"ms_ssim_excess", "memorised", "neighbour_ratio", "kid"}  # differences, and one beside them
        assert limits("swd_64") == limits("swd") == limits("memorisation") == (0, math.inf)
        fractions = {name for entry in METRICS.values() for name in entry.values if limits(name)[1] == 1}
        assert fractions == {"ms_ssim", "ms_ssim_excess", "precision", "recall", "coverage", "ndb", "jsd", "memorised"}
        assert limits("precision") == limits("recall") == limits("coverage") == limits("ms_ssim") == (0, 1)
        assert limits("density") == (0, math.inf)
        assert limits("memorised") == (-math.inf, 1)
        assert limits("inception_score") == (1, math.inf)

    def test_an_interval_ends_there(self):
        assert Value(2.0, -1.0, 5.0).within(0, math.inf) == Value(2.0, 0.0, 5.0)
        assert Value(2.0, 1.0, 5.0, Value(1.0, -1.0, 3.0)).within(0, 4) == Value(2.0, 1.0, 4.0, Value(1.0, -1.0, 3.0))
        assert math.isnan(Value(2.0, math.nan, math.nan).within(0, 1).low)

    def test_those_of_few_images(self, faces):
        """Of eight images a part is one, and the spread of the spectrum's parts is larger than the distance."""
        yardstick = Yardstick(faces, ["swd", "spectrum", "ms_ssim"], num=8)

        def raw(start: int) -> Value:
            metric = make("spectrum", Setting(resolution=32))
            for first, real in ((0, True), (start, False)):
                metric.update(torch.from_numpy(faces.pixels(32, faces.order(first, 8, 0))), real)
            return metric.result()["spectrum"]

        start = min(range(8, 192, 8), key=lambda start: raw(start).low)
        assert raw(start).low < 0, "else nothing is tested"
        given = torch.from_numpy(faces.pixels(32, faces.order(start, 8, 0)))
        values = measure(yardstick, lambda z, labels: given)
        assert values["spectrum"] == replace(raw(start), low=0.0, floor=values["spectrum"].floor)
        for value in values.values():
            assert value.floor is not None
            for each in (value, value.floor):
                assert 0 <= each.low <= each.value <= each.high
