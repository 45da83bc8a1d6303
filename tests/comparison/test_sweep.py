"""A sweep keeps the best, goes on bit for bit where a rung ended, and says what it dropped."""

import dataclasses
import json
import math
import shlex
from statistics import fmean

import pytest

from html_tags import check_complete
from progan.cli import main, parser
from progan.cli.base import given
from progan.commands import SweepConfig
from progan.comparison import plan as plans
from progan.comparison import sweep as sweeps
from progan.comparison.contestants import in_epochs
from progan.comparison.plan import earliest, images_after, ladder
from progan.comparison.runs import Member, train_all
from progan.comparison.sweep import candidates, command, sweep
from progan.config import PrepareConfig, ScheduleConfig
from progan.data.dataset import Dataset
from progan.data.prepare import prepare
from progan.errors import ConfigError, RunError
from progan.metrics import Value
from progan.options import from_flags, override
from progan.presets import preset
from progan.report.results import overlap
from progan.run import train
from progan.run_folder import DataFacts, RunFolder
from progan.schedule import Schedule
from progan.snapshot import load

pytestmark = pytest.mark.usefixtures("traced_once")


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Dataset:
    folder = tmp_path_factory.mktemp("data") / "faces"
    prepare("avatars:96", folder, PrepareConfig(resolution=16, channels="grey", workers=1))
    return Dataset.open(folder)


class TestCandidates:
    def test_a_grid(self):
        found = candidates("progan --loss lsgan", ["--lr 0.001,0.002", "--batch-size 8,16 --tanh false,true"], "")
        assert len(found) == 8
        assert found[0].name == "lr=0.001 batch-size=8 tanh=false"
        assert found[-1].options == {"loss": "lsgan", "lr": "0.002", "batch_size": "16", "tanh": "true"}

    def test_values_with_commas(self):
        found = candidates("progan", ["--lr 0.001 4:0.001,16:0.002"], "")
        assert [each.options["lr"] for each in found] == ["0.001", "4:0.001,16:0.002"]

    def test_a_list_and_a_file(self, tmp_path):
        (tmp_path / "some").write_text("--loss lsgan\n--loss hinge --lr 0.01 # high\n")
        for choices in (str(tmp_path / "some"), "--loss lsgan; --loss hinge --lr 0.01"):
            found = candidates("progan", [], choices)
            assert [each.options for each in found] == [{"loss": "lsgan"}, {"loss": "hinge", "lr": "0.01"}]
        assert len(candidates("progan", ["--beta1 0,0.5"], "--loss lsgan; --loss hinge")) == 4

    @pytest.mark.parametrize(
        ("base", "vary", "choices", "message"),
        [
            ("progan", [], "", "what is tried"),
            ("progan,dcgan", ["--lr 1,2"], "", "has one model"),
            ("progan", ["--lr 1"], "", "--lr needs several values"),
            ("progan", ["--lr 4:1,8:2"], "", "needs several values"),
            ("progan", ["lr 1,2"], "", "does not begin with an option"),
            ("progan", ["--lrr 1,2"], "", "no option --lrr; did you mean --lr"),
            ("progan --lr 1", ["--lr 1,2"], "", "--lr is given twice"),
            ("progan", ["--lr 1,2"], "--lr 3; --lr 4", "--lr is given twice"),
            ("progan", ["--lr 1,1"], "", "'lr=1' is there twice"),
            ("progan", ["--device cpu,cuda"], "", "--device cannot differ"),
            ("progan", ["--total-kimg 1,2"], "", "the budget says"),
            ("progan", [], "--lr 1", "two candidates at least"),
            ("progan", [f"--lr {','.join(map(str, range(1, 102)))}"], "", "101 combinations are too many"),
            ("progan", ['--lr "1'], "", "cannot be understood"),
        ],
    )
    def test_mistakes(self, base, vary, choices, message):
        with pytest.raises(ConfigError, match=message):
            candidates(base, vary, choices)

    def test_a_budget_is_needed(self):
        with pytest.raises(ConfigError, match="how long"):
            SweepConfig()
        with pytest.raises(ConfigError, match="--halving"):
            SweepConfig(kimg=1, halving=1)


class TestLadder:
    def test_halving(self):
        found = ladder(8, 2, 0.0)
        assert found.fractions == (0.25, 0.5, 1)
        assert found.sizes == (8, 4, 2)
        assert found.work == 8 / 4 + 4 / 4 + 2 / 2

    def test_not_before_there_is_something_to_measure(self):
        found = ladder(16, 2, 0.3)
        assert found.fractions == (0.3, 0.5, 1)
        assert found.sizes == (16, 6, 2)
        assert found.work == pytest.approx(16 * 0.3 + 6 * 0.2 + 2 * 0.5)

    def test_few(self):
        assert ladder(2, 2, 0.0) == plans.Ladder((1.0,), (2,))
        assert ladder(3, 2, 0.0).sizes == (3, 2)
        assert ladder(9, 3, 0.0).fractions == pytest.approx((1 / 9, 1 / 3, 1))

    def test_ends_are_at_the_same_training_time(self):
        config = preset("mnist32-paper")
        cost = {(r, phase): float(r) for r in (4, 8, 16, 32) for phase in ("fade", "stable")}
        extents = list(Schedule(config.schedule).extents())
        whole = sum(images * cost[span.resolution, span.phase] for span, images in extents)
        for fraction in (0.05, 0.3, 0.77, 1.0):
            end, spent = images_after(config, cost, fraction), 0.0
            for span, images in extents:
                spent += min(max(end - span.start, 0), images) * cost[span.resolution, span.phase]
            assert spent == pytest.approx(fraction * whole, rel=1e-3)
        assert images_after(config, cost, 1.0) == Schedule(config.schedule).total_nimg
        # 16x16 is there after 8 at 4x4, 20 at 8x8 and the 12 of its fade.
        first = 1000 * (8 * 4 + 20 * 8 + 12 * 16) / whole
        assert earliest(config, cost) == pytest.approx(first)
        stage = Schedule(config.schedule).at(images_after(config, cost, earliest(config, cost)))
        assert stage.key == (16, "stable")

    def test_overlap(self):
        a = Value(2, 1, 3)
        assert overlap(a, Value(4, 3, 5))
        assert not overlap(a, Value(5, 3.1, 6))
        assert not overlap(Value(5, 3.1, 6), a)
        assert overlap(a, Value(9, math.nan, math.nan)), "what has no interval is told apart from nothing"


def test_the_command_line_makes_the_winner(data):
    """`progan train` with these words has the configuration that was tried."""
    config = SweepConfig(kimg=1, width=24, mirror=True)
    for base in ("progan --loss lsgan --no-fused-scale --fade-kimg 8:0.1234567,16:3", "dcgan --stable-epochs 3"):
        entrant = candidates(base, ["--lr 0.00123456,0.001"], "")[0]
        wanted = in_epochs(entrant, config, data, 16)
        line = command(wanted, "some data")
        words = shlex.split(line)
        assert words[:2] == ["progan", "train"]
        arguments = parser().parse_args(words[1:])
        made = preset(arguments.preset)
        flags = words[words.index("--data") + 2 :]
        made = override(made, {**from_flags(flags), "data": str(data.path)})
        assert made == dataclasses.replace(wanted, runtime=made.runtime)
        assert given(arguments, ScheduleConfig)["lr"] == wanted.schedule.lr


OPTIONS = {
    "base": "progan --start-resolution 16",
    "vary": ["--lr 0.001,0.004,0.016"],
    "kimg": 0.4,
    "seeds": 2,
    "width": 8,
    "num": 16,
    "measurements": 2,
    "jobs": 0,
    "device": "cpu",
    "precision": "fp32",
    "metrics": "swd",
}


class Remembered:
    """In the place of what measures: an SWD for each run."""

    def __init__(self, numbers: dict[str, float]) -> None:
        self.numbers = numbers

    def member(self, member):
        number = self.numbers[member.name]
        return {"G_ema": {"swd": Value(number, number - 1, number + 1, Value(5, 4, 6))}}


def test_a_rung_keeps_the_nearest_and_says_who_was_near(tmp_path):
    numbers = {"a-seed0": 20, "a-seed1": 22, "b-seed0": 10, "b-seed1": 11, "c-seed0": 30, "c-seed1": 80}
    config = preset("mnist32")
    members = [Member(name[0], int(name[-1]), config, RunFolder(tmp_path / name)) for name in numbers]
    ends = dict.fromkeys(numbers, 3000)
    found = sweeps._rung(members, Remembered(numbers), 0.5, 16, 2, ends)
    assert [(each.name, each.kept, each.overlaps) for each in found.standings] == [
        ("b", True, False), ("a", True, False), ("c", False, True),
    ]  # fmt: skip
    assert (found.floor, found.standings[0].kimg, found.standings[0].values) == (5, 3, [10, 11])
    assert found.standings[0].mean.low == pytest.approx(10.5 - 12.7062 * 0.5, rel=1e-4)
    assert len(sweeps._doubts(found)) == 1, "two seeds say little"
    one = [member for member in members if member.seed == 0]
    alone = sweeps._rung(one, Remembered(numbers), 0.5, 16, 2, ends)
    assert (alone.standings[0].mean.low, alone.standings[0].mean.high) == (9, 11), "of one seed, over images"
    assert sweeps._doubts(alone) == []


@pytest.fixture(scope="module")
def swept(data, tmp_path_factory):
    """Stopped after the first rung, then gone on with."""
    folder = tmp_path_factory.mktemp("sweep") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sweeps, "train_all", lambda *rest: len(rest[0]) == 6 and train_all(*rest))
        assert sweep(data.path, folder, quiet=True, **OPTIONS).comparison is None
    return sweep(data.path, folder, quiet=True, **OPTIONS)


def check_the_better_are_kept(swept):
    assert [len(rung.standings) for rung in swept.rungs] == [3, 2]
    assert [rung.fraction for rung in swept.rungs] == [0.5, 1]
    first = {each.name: each for each in swept.rungs[0].standings}
    distance = {name: abs(fmean(each.values) - swept.rungs[0].floor) for name, each in first.items()}
    kept = {name for name, each in first.items() if each.kept}
    assert kept == set(sorted(distance, key=lambda name: distance[name])[:2])
    assert kept == {each.name for each in swept.rungs[1].standings}
    winner = swept.rungs[-1].standings[0].name
    assert f"--{winner.replace('=', ' ')}" in swept.command


def check_a_rung_is_a_part_of_the_whole_run(swept, tmp_path):
    """The winner's run is, bit for bit, one that was never stopped; the dropped one stopped at its rung."""
    place, images = swept.rungs[-1].standings[0].name.replace("=", "-"), swept.path / "data" / "train"
    folder, whole = RunFolder(swept.path / "runs" / f"{place}-seed0"), RunFolder(tmp_path / "whole")
    whole.begin(folder.read()[0], DataFacts.of(Dataset.open(images)), False)
    train(out=whole.path, data=images, quiet=True)
    ours, theirs = (load(each.snapshot()).G.state_dict() for each in (folder, whole))
    assert all(ours[key].equal(theirs[key]) for key in ours)
    dropped = next(each.name for each in swept.rungs[0].standings if not each.kept)
    states = swept.path / "runs" / f"{dropped.replace('=', '-')}-seed0" / "state"
    assert max(int(path.stem.removeprefix("state-")) for path in states.iterdir()) < 400


def check_numbers_and_page(swept):
    content = json.loads((swept.path / "sweep.json").read_text())
    first, second = swept.rungs[-1].standings
    assert content["winner"]["name"] == first.name
    assert content["winner"]["command"] == swept.command
    assert [len(rung["standings"]) for rung in content["rungs"]] == [3, 2]
    assert len(content["contestants"]) == 2
    document = swept.page.read_text(encoding="utf-8")
    check_complete(document)
    assert "Rung 1 of 2" in document
    assert document.count("dropped") >= 1
    warned = any("overlap" in note for note in swept.comparison.notes)
    assert warned == overlap(first.mean, second.mean) == (not content["winner"]["told_apart"])


@pytest.mark.slow
def test_a_sweep(swept, data, tmp_path, monkeypatch):
    """One test, for the runs take most of its time."""
    check_the_better_are_kept(swept)
    check_numbers_and_page(swept)
    check_a_rung_is_a_part_of_the_whole_run(swept, tmp_path)
    with pytest.raises(RunError, match="holds another sweep"):
        sweep(data.path, swept.path, quiet=True, **{**OPTIONS, "vary": ["--lr 1,2"]})
    # The same command trains nothing and finds the same.
    monkeypatch.setattr(sweeps, "train_all", lambda members, *rest: all(m.reached(m.total_nimg) for m in members))
    assert sweep(data.path, swept.path, quiet=True, **OPTIONS).rungs == swept.rungs


@pytest.mark.slow
def test_a_candidate_that_diverges_is_dropped(data, tmp_path):
    options = {**OPTIONS, "base": "lsgan32 --batch-size 4", "vary": ["--lr 0.0002,0.001,1000000"], "seeds": 1}
    found = sweep(data.path, tmp_path, quiet=True, **{**options, "measurements": 5})
    names = [[each.name for each in rung.standings] for rung in found.rungs]
    assert [sorted(some) for some in names] == [["lr=0.0002", "lr=0.001"]] * len(names)
    assert any(note.startswith("lr-1000000-seed0 is left out: it diverged") for note in found.comparison.notes)


def test_mistakes_of_the_command(data, tmp_path, capsys):
    line = ["sweep", "--data", str(data.path), "--out", str(tmp_path / "s"), "--quiet", "--kimg", "1"]
    assert main([*line, "--vary", "--lr 1,x"]) == 2
    assert "--lr" in capsys.readouterr().err.splitlines()[-1]
    assert main([*line, "--choices", "--loss 'lsgan; --loss hinge"]) == 2
    assert '--choices "--loss \'lsgan" cannot be understood' in capsys.readouterr().err
    assert main([*line, "--vary", "--lr 1,2", "--metrics", "ms-ssim"]) == 2
    assert "ranks by swd" in capsys.readouterr().err
