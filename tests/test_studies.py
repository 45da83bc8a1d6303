"""The studies' own numbers have known answers, and every study runs (the driver's `--check`)."""

import dataclasses
import json
import math
import sys
from pathlib import Path

import pytest
import torch

from progan.commands import CompareConfig
from progan.comparison.contestants import configurations, parse
from progan.config import PrepareConfig
from progan.data.dataset import Dataset
from progan.data.prepare import prepare
from progan.errors import ProganError
from progan.metrics import METRICS

STUDIES = Path(__file__).parents[1] / "studies"
sys.path.insert(0, str(STUDIES))

import measures  # noqa: E402
import run  # noqa: E402

FILES = sorted(STUDIES.glob("[0-9]*.json"))


def tick(kimg, resolution=16, phase="stable", **numbers):
    line = {"cur_nimg": 1000 * kimg, "resolution": resolution, "phase": phase, "img_per_sec": 100.0}
    return {**line, **{name.replace("__", "/"): value for name, value in numbers.items()}}


def measurement(kimg, ms_ssim, swd=10.0, **numbers):
    found = {"metrics/G/ms_ssim": ms_ssim, "metrics/floor/ms_ssim": 0.2, "metrics/G_ema/swd": swd}
    return {**tick(kimg, **numbers), **found, "metrics/G/swd": swd, "metrics/floor/swd": 5.0}


class TestStatistics:
    def test_a_collapse_that_is_over(self):
        stats = [measurement(1, 0.2), measurement(2, 0.8), measurement(3, 0.28)]
        assert measures.collapse_counts(stats) == {"collapses": 1, "recovered": 1, "collapsed_at_end": 0}
        assert measures.variety(stats) == {"excess_end": pytest.approx(0.1), "excess_worst": pytest.approx(0.75)}

    def test_a_collapse_that_is_not(self):
        stats = [measurement(1, 0.2), measurement(2, 0.8), measurement(3, 0.28), measurement(4, 1.0)]
        assert measures.collapse_counts(stats) == {"collapses": 2, "recovered": 0.5, "collapsed_at_end": 1}

    def test_none(self):
        found = measures.collapse_counts([measurement(1, 0.2)])
        assert (found["collapses"], found["collapsed_at_end"]) == (0, 0)
        assert math.isnan(found["recovered"])
        assert math.isnan(measures.variety([tick(1)])["excess_end"])

    def test_jumps(self):
        """The loss of D changes by 0.1 from tick to tick, by 5 where 16x16 begins; a fade's end is no layer."""
        levels = [(1, 8, "stable", 1.0), (2, 8, "stable", 1.1), (3, 16, "fade", 6.1), (4, 16, "fade", 6.2)]
        levels += [(5, 16, "stable", 9.0), (6, 16, "stable", 9.1)]
        stats = [
            tick(kimg, resolution, phase, D__real=level - 1, D__penalty=1.0, D__real_sign=kimg**2, G__fake=1.0)
            for kimg, resolution, phase, level in levels
        ]
        found = measures.loss_jumps(stats)
        assert found["jump_D"] == pytest.approx(50)
        assert math.isnan(found["jump_G"]), "a loss that never changes has no usual change"
        assert math.isnan(measures.loss_jumps(stats[:2])["jump_D"])

    def test_seconds_to_a_distance(self):
        """A thousand images take ten seconds."""
        stats = [tick(1), measurement(2, 0.2, swd=30.0), measurement(3, 0.2, swd=20.0), measurement(4, 0.2, swd=9.0)]
        busy = [{**line, "img_per_sec": 20.0} for line in stats]
        found = {"reached": 1, "seconds_to_swd": pytest.approx(30)}
        assert measures.seconds_to([stats, busy], 4.0) == [found, found], "other work does not count"
        (never,) = measures.seconds_to([stats], 1.5)
        assert never["reached"] == 0
        assert math.isnan(never["seconds_to_swd"])

    def test_time_line(self):
        found = measures.timeline([tick(1, D__real=1.0, D__fake=0.5), measurement(2, 0.6, swd=7.0)])
        assert found["loss_D"] == [1.5, 0]
        assert found["excess"] == [None, 0.5]
        assert found["swd"] == [None, 7]


class TestImages:
    def test_a_cast_wraps_what_clipping_cuts(self):
        """Black that is a little too black becomes white dots without clipping."""
        images = torch.full((1, 1, 8, 8), -1.0)
        images[0, 0, 2, 2] = images[0, 0, 5, 6] = -1.01  # rounds to -1
        reals = torch.zeros(3, 1, 8, 8, dtype=torch.uint8)
        found = measures.faults(images, reals)
        assert found["isolated_clipped"] == 0
        assert found["isolated_wrapped"] == pytest.approx(1e6 * 2 / 64)
        assert found["outside"] == pytest.approx(1e6 * 2 / 64)
        assert found["constant_energy"] == 0
        assert measures.wrapped(images)[0, 0, 2, 2] == 255
        assert measures.wrapped(torch.full((1, 1, 1, 1), 257 / 127.5 - 1)) == 1

    def test_energy_where_reals_are_constant(self):
        reals = torch.zeros(4, 1, 2, 2, dtype=torch.uint8)
        reals[0, 0, 0, 0], reals[:, 0, 1, 1] = 9, 100  # the first place varies, the last is always 100
        fakes = torch.tensor([[[[200, 3], [0, 104]]], [[[0, 0], [0, 100]]]], dtype=torch.uint8)
        assert measures.constant_energy(fakes, reals) == pytest.approx((9 + 16) / 6)
        assert math.isnan(measures.constant_energy(fakes[:, :, :1, :1], reals[:, :, :1, :1]))


def test_the_files_are_all_in_the_order_of_worth():
    found = [study.number for study in run.studies()]
    assert found == [number for number in run.ORDER if number in found]
    assert len(found) == len(FILES)
    hours = sum(len(p.models) * p.seeds * p.minutes / 60 for study in run.studies() for p in study.parts)
    assert hours <= 20
    assert all(p.minutes <= 5 and p.seeds >= 3 and p.width == 32 for study in run.studies() for p in study.parts)


@pytest.mark.parametrize("study", run.studies(), ids=lambda study: str(study.number))
def test_every_study_can_be_begun(study, tmp_path):
    """Its models fit its data, its numbers are numbers of its metrics or of the driver."""
    stats, images = {**measures.of_statistics([]), **measures.seconds_to([[]], 4.0)[0]}, torch.zeros(1, 1, 8, 8)
    own = {*stats, *measures.of_images({"G_ema": images, "G": images}, images.to(torch.uint8))}
    prepare("avatars:8", tmp_path / "data", PrepareConfig(resolution=32, workers=1))
    for part in study.parts:
        config = CompareConfig(**run.request(part))
        entrants = parse(config.models)
        assert len(entrants) == len(part.models)
        configurations(entrants, config, Dataset.open(tmp_path / "data"), 32)
        names = {name for metric in part.metrics.split(",") for name in METRICS[metric.replace("-", "_")].values}
        assert {*part.report} <= names | own
        assert part.data in run.SOURCES


@pytest.fixture(scope="module")
def small() -> "run.Study":
    models = ("a = progan --start-resolution 16 --stable-kimg 1", "b = progan --start-resolution 16 --loss lsgan")
    part = run.Part("shapes", "mnist", models, ("swd", "collapses", "G/isolated_wrapped"), metrics="swd,ms-ssim")
    return run.Study(3, "a study", ("a claim",), "", (part,))


@pytest.mark.slow
def test_a_study_goes_on_in_another_checkout(small, tmp_path, monkeypatch):
    """Finished runs are not trained again where only what was kept is there; the result is the same."""
    run.check(small, tmp_path / "first")
    place = Path("study-3") / "shapes"
    first = tmp_path / "first" / "results" / place
    result = json.loads((first / "result.json").read_text())
    assert set(result["numbers"]["swd"]["means"]) == {"a", "b"}
    assert set(result["timelines"]) == {"a-seed0", "b-seed0"}
    assert {path.name for path in (first / "grids").iterdir()} == {"a.png", "b.png"}
    assert (first / "table.md").read_text().count("\n") == 5
    assert (first / "timelines.png").stat().st_size > 5000
    part, results = run.tiny(small.parts[0]), tmp_path / "first" / "results"
    assert run.reported(small, part, results)
    assert not run.reported(small, dataclasses.replace(part, seeds=2), results)
    assert str(tmp_path) not in (first / "kept" / "runs" / "a-seed0" / "stats.jsonl").read_text()

    from progan.comparison import protocol

    def nothing_left(members, *rest):
        assert all(member.reached(member.total_nimg) for member in members)
        return True

    monkeypatch.setattr(protocol, "train_all", nothing_left)
    monkeypatch.setattr(run, "settle", lambda *rest: None)
    second = tmp_path / "second"
    (second / "results" / place).mkdir(parents=True)
    (first / "kept").rename(second / "results" / place / "kept")
    run.check(small, second)
    again = json.loads((second / "results" / place / "result.json").read_text())
    assert again["numbers"] == result["numbers"]
    assert again["timelines"] == result["timelines"]


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize("study", run.studies(), ids=lambda study: str(study.number))
def test_every_study_runs(study, tmp_path):
    run.check(study, tmp_path)
    for part in study.parts:
        result = json.loads((tmp_path / "results" / run.folder_of(study, part) / "result.json").read_text())
        assert set(result["numbers"]) == set(run.tiny(part).report)


def test_a_number_that_nobody_has(small, tmp_path):
    part = run.Part("x", "mnist", ("progan",), ("nonsense",))
    empty = type("Outcome", (), {})()
    run_ = type("Run", (), {"folder": "runs/a", "stats": ()})()
    model = type("Model", (), {"name": "a", "runs": [run_], "begins": "", "numbers": lambda self, name: [1.0]})()
    empty.comparison = type("Comparison", (), {"models": [model], "metrics": ["swd"], "floors": {}})()
    with pytest.raises(ProganError, match="there is no number nonsense"):
        run.report(small, part, empty, {"a": {"numbers": {"b": 1.0}}}, tmp_path)


@pytest.mark.parametrize("table", sorted(STUDIES.glob("results/*/*/table.md")), ids=lambda path: f"{path.parent.name}")
def test_the_pages_have_the_tables_of_what_was_found(table):
    assert table.read_text(encoding="utf-8") in "".join(
        page.read_text(encoding="utf-8") for page in STUDIES.parent.glob("docs/studies/*.md")
    )
