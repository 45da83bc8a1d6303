"""The comparison finds the differences that are there, none that are not, and goes on where it was stopped."""

import csv
import dataclasses
import json
import re
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

from html_tags import Tags, check_complete
from progan import models
from progan.cli import main
from progan.commands import CompareConfig
from progan.comparison import Outcome, compare, protocol, runs
from progan.comparison import plan as plans
from progan.comparison.contestants import Entrant, configurations, folders, parse, read_models
from progan.comparison.contestants import fit as fit_entrant
from progan.comparison.controls import controls
from progan.comparison.measuring import MEMORISATION, Measurer
from progan.comparison.plan import watched
from progan.comparison.runs import Member, train_all, try_run
from progan.config import PrepareConfig, RunConfig, ScheduleConfig
from progan.data.dataset import Dataset
from progan.data.prepare import prepare
from progan.data.split import split
from progan.errors import ConfigError, RunError
from progan.models import ImageShape
from progan.options import override
from progan.presets import preset
from progan.report import results
from progan.report.charts import Chart, Line
from progan.report.comparison_page import Pictures, comparison_page
from progan.report.comparison_tables import findings, sentences
from progan.report.results import Comparison, Contestant, Trained
from progan.run_folder import DataFacts, RunFolder
from progan.schedule import Schedule, for_kimg, for_seconds, stretch
from progan.training.preflight.estimate import operations
from progan.training.setup import RunSetup
from steps import CPU

pytestmark = pytest.mark.usefixtures("traced_once")


@pytest.fixture(scope="module")
def shapes(tmp_path_factory) -> Dataset:
    """720 grey images of 16x16 in three classes: a bar, a square or a cross somewhere on a noisy ground."""
    rng = np.random.default_rng(5)
    images = rng.integers(0, 40, (720, 16, 16), dtype=np.uint8)
    for i, image in enumerate(images):
        y, x = rng.integers(1, 9, 2)
        ink = rng.integers(150, 256)
        if i % 3 == 0:
            image[y : y + 2, x : x + 7] = ink
        elif i % 3 == 1:
            image[y : y + 6, x : x + 6] = ink
        else:
            image[y + 3, x : x + 7] = image[y : y + 7, x + 3] = ink
    folder = tmp_path_factory.mktemp("shapes")
    np.savez(folder / "shapes.npz", images=images, labels=np.arange(720) % 3)
    prepare(str(folder / "shapes.npz"), folder / "data", PrepareConfig(resolution=16, workers=1))
    return Dataset.open(folder / "data")


@pytest.fixture(scope="module")
def parts(shapes, tmp_path_factory) -> tuple[Dataset, Dataset]:
    """To train on and held out."""
    folder = tmp_path_factory.mktemp("parts")
    split(shapes.path, folder / "train", folder / "held", count=320)
    return Dataset.open(folder / "train"), Dataset.open(folder / "held")


METRICS = ("swd", "ms_ssim", "density-coverage")


def contestants(config: CompareConfig, dataset: Dataset, resolution: int) -> dict[str, RunConfig]:
    return configurations(parse(config.models), config, dataset, resolution)


def fit(name: str, config: CompareConfig, dataset: Dataset, resolution: int) -> RunConfig:
    return fit_entrant(Entrant(name, name, {}), config, dataset, resolution)


class TestBudget:
    def test_images(self):
        config = for_kimg(preset("mnist32-paper"), 14)
        assert Schedule(config.schedule).total_nimg == pytest.approx(14_000, abs=1)
        before, after = (
            [images for _, images in Schedule(each.schedule).extents()] for each in (preset("mnist32-paper"), config)
        )
        assert after == pytest.approx([images / 10 for images in before])

    def test_seconds(self):
        cost = {
            (r, phase): r**2 * factor for r in (4, 8, 16, 32) for phase, factor in (("fade", 2e-6), ("stable", 1e-6))
        }
        config = for_seconds(preset("mnist32"), 1e8, cost)
        seconds = sum(
            images * cost[span.resolution, span.phase] for span, images in Schedule(config.schedule).extents()
        )
        assert seconds == pytest.approx(1e8, rel=1e-3)

    def test_a_total_is_stretched_too(self):
        schedule = ScheduleConfig(resolution=8, total_kimg=700)
        longer = stretch(schedule, 2)
        assert (longer.total_kimg, longer.stable_kimg.at(4), longer.fade_kimg.at(8)) == (1400, 1200, 1200)
        assert Schedule(longer).at(1_300_000).resolution == Schedule(schedule).at(650_000).resolution == 8

    def test_the_last_measurement_is_at_the_end(self):
        config = watched(for_kimg(preset("mnist32"), 16), measurements=6, num=100)
        nimg = 1000 * config.runtime.metrics_kimg
        assert 15_999 // nimg == 6
        assert 15_900 // nimg == 5
        assert config.runtime.metrics_num == 50

    def test_operations_are_those_of_training_alone(self, tmp_path, capsys):
        """Not those of tracing a step, which runs it once more."""
        prepare("avatars:64", tmp_path / "data", PrepareConfig(resolution=16, workers=1))
        dataset, widths = Dataset.open(tmp_path / "data"), {"fmap_max": 32, "fmap_base": 512, "z_dim": 32}
        options = {**widths, "resolution": 16, "start_resolution": 16, "precision": "fp32", "compile": "off"}
        config = override(preset("quickstart"), {**options, "data": str(tmp_path / "data"), "device": "cpu"})
        folder = RunFolder(tmp_path / "run")
        folder.write(config, DataFacts.of(dataset))
        try_run(str(folder.path), 0.01)
        (stage,) = json.loads(capsys.readouterr().out)
        setup = RunSetup(config, ImageShape(16, 3), CPU)
        with torch.device("meta"):
            networks = models.build(config.model, setup.shape, seed=0)
        assert stage["flops_per_image"] == pytest.approx(operations(setup, 16, networks), rel=0.1)

    def test_too_little(self):
        with pytest.raises(ConfigError, match=r"the budget leaves mnist32 .* images at 4x4, less than a batch"):
            for_kimg(preset("mnist32"), 0.01)


class TestContestants:
    def test_short_names_are_presets_that_fit(self, shapes):
        config = CompareConfig(models="progan, dcgan,lsgan64,progan", budget_kimg=1, width=24)
        found = contestants(config, shapes, 16)
        assert {name: each.preset for name, each in found.items()} == {
            "progan": "mnist32-paper",
            "dcgan": "dcgan32",
            "lsgan64": "lsgan64",
            "progan-2": "mnist32-paper",
        }
        assert found["progan"] == found["progan-2"]
        for name, each in found.items():
            assert each.schedule.resolution == 16
            assert each.schedule.start_resolution == (4 if "progan" in name else 16)
            assert each.dataset.data == str(shapes.path)
        assert (found["progan"].model.fmap_max, found["progan"].model.fmap_base) == (24, 192)
        assert found["dcgan"].model.width == 24
        assert found["dcgan"].schedule.stable_kimg.at(16) == pytest.approx(8 * 720 / 1000), "eight epochs"

    def test_presets_by_size_and_colour(self, shapes):
        config = CompareConfig(budget_kimg=1)
        assert [fit(name, config, shapes, 64).preset for name in ("dcgan", "lsgan", "progan")] == [
            "dcgan64",
            "lsgan64",
            "mnist32-paper",
        ]
        assert fit("progan", config, shapes, 128).preset == "folder128"
        for size, name in ((64, "mnist32"), (128, "folder128")):
            assert fit("progan-fast", config, shapes, size).preset == name
        assert not fit("progan", config, shapes, 128).dataset.mirror, "the comparison says whether"

    def test_another_loss_has_the_rates_of_the_paper(self, shapes):
        words = "progan-fast; soft = progan-fast --loss lsgan"
        fast, soft = contestants(CompareConfig(models=words, budget_kimg=1), shapes, 16).values()
        assert (fast.loss.kind, fast.schedule.lr.at(16), fast.optimizer.penalty_every) == ("nonsaturating", 0.008, 16)
        assert (soft.loss.kind, soft.schedule.lr.at(16), soft.optimizer.penalty_every) == ("lsgan", 0.002, 1)

    def test_mistakes(self, shapes):
        with pytest.raises(ConfigError, match="no preset 'dcgam'; did you mean dcgan"):
            contestants(CompareConfig(models="dcgam", budget_kimg=1), shapes, 16)
        with pytest.raises(ConfigError, match="either --budget-kimg or --budget-minutes"):
            CompareConfig()
        with pytest.raises(ConfigError, match="either --budget-kimg or --budget-minutes"):
            CompareConfig(budget_kimg=1, budget_minutes=1)

    def test_options_names_and_files(self, shapes, tmp_path):
        lines = "progan\n# a remark\nsmooth = progan --loss lsgan  # least squares\n\nprogan --no-mirror --lr=0.01\n"
        (tmp_path / "models.txt").write_text(lines)
        words = "progan; smooth = progan --loss lsgan; progan --no-mirror --lr=0.01"
        assert read_models(str(tmp_path / "models.txt")) == words
        found = contestants(CompareConfig(models=words, budget_kimg=1, mirror=True, width=24), shapes, 16)
        assert list(found) == ["progan", "smooth", "progan --mirror false --lr 0.01"]
        assert [each.loss.kind for each in found.values()] == ["wgan-gp", "lsgan", "wgan-gp"]
        assert [each.dataset.mirror for each in found.values()] == [True, True, False], "its own option wins"
        assert found["smooth"].preset == "mnist32-paper"
        assert found["smooth"].model.fmap_max == 24
        (wide,) = contestants(CompareConfig(models="progan --fmap-max 9", budget_kimg=1, width=24), shapes, 16).values()
        assert (wide.model.fmap_max, wide.model.fmap_base) == (9, 192)
        (fixed,) = contestants(CompareConfig(models="progan --start-resolution 16", budget_kimg=1), shapes, 16).values()
        assert fixed.schedule.start_resolution == 16

    @pytest.mark.parametrize(
        ("models", "message"),
        [
            ("progan --lr", "progan: --lr needs a value"),
            ("progan --learning-rate 1", "progan: there is no option --learning-rate"),
            ("progan --width 3", "--width belongs to model dcgan; this run has progan"),
            ("progan --lr x", "--lr.*neither a number"),
            ("progan --lr 1 --lr 2", "--lr is given twice"),
            ("progan lsgan", "progan: 'lsgan' is no option"),
            ("a = progan --device cuda", "a: --device cannot differ between models. Give it to the command itself"),
            ("progan --data x", "--data cannot differ"),
            ("progan --out x", "there is no option --out"),
            ("progan --resolution 8", "--resolution cannot differ"),
            ("progan --total-kimg 8", "the budget says how long runs are"),
            ("progan --metrics-kimg 8", "--metrics-kimg cannot differ"),
            ("a = progan; a = dcgan", "'a' is there twice"),
            ("a = progan; b = progan", "'a' and 'b' are the same"),
            ("progan; progan --loss wgan-gp", "are the same"),
            ("progan; mnist32-paper", "'progan' and 'mnist32-paper' are the same"),
            ("progan --lr 1; progan --lr 1", "is there twice"),
            ("progan, dcgan --lr 1", "with options, put `;` between models"),
            ("--lr 1", "does not begin with a preset"),
            ("real images = progan", "cannot be a name"),
            ("../x = progan", "cannot be a name"),
            (" = progan", "cannot be a name"),
            ('progan --lr "1', "cannot be understood"),
            (";", "name at least one"),
            ("nowhere.txt", "there is no file nowhere.txt"),
            ("; ".join(f"progan --lr 0.{i}" for i in range(1, 22)), "21 are too many"),
        ],
    )
    def test_mistakes_in_options(self, shapes, models, message):
        with pytest.raises(ConfigError, match=message) as caught:
            contestants(CompareConfig(models=models, budget_kimg=1), shapes, 16)
        assert len(str(caught.value).splitlines()) == 1

    def test_twenty_names_are_twenty_folders(self):
        names = ["a/b", "a b", "A-B", "progan --lr 1", "é", "ü", "control-untrained", "x" * 90, "x" * 91, "c.d"]
        found = folders(names)
        assert len({each.casefold() for each in found.values()}) == len(names)
        assert all(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", each) for each in found.values())
        assert found["c.d"] == "c.d", "old names stay"
        assert not found["control-untrained"].startswith("control-")

    def test_a_name_with_a_number_is_no_twin(self, shapes, tmp_path):
        plan, other = plans.Planned(RunConfig(), 1.0, 1.0), plans.Planned(preset("mnist32"), 1.0, 1.0)
        config = CompareConfig(budget_kimg=1, seeds=1)
        members = plans.members(tmp_path, {"lr": plan, "lr-2": other, "lr-slow": other}, config, shapes)
        assert [each.seed for each in members] == [0, 0, 0]

    def test_what_changes_no_operation_has_one_trial(self, shapes, monkeypatch):
        tried = []
        answer = ({(16, "stable"): 0.01}, {(16, "stable"): 1.0})
        monkeypatch.setattr(plans, "try_stages", lambda model, *rest: (tried.append(model.loss.kind), answer)[1])
        models = "dcgan; dcgan --lr 0.01; dcgan --beta1 0.1; dcgan --batch-size 32; dcgan --loss lsgan"
        config = CompareConfig(models=models, budget_minutes=1, precision="fp32")
        planned = plans.make(contestants(config, shapes, 16), config, shapes, 8, 1, lambda text: None)
        assert tried == ["nonsaturating", "nonsaturating", "lsgan"]
        assert len(planned) == 5

    def test_all_compute_in_the_precision_that_was_chosen_once(self, shapes, monkeypatch):
        chosen = iter(["bf16", "fp32"])

        def decide(setup):
            assert setup.config.runtime.compile == "off", "not every model can be compiled"
            return dataclasses.replace(setup.numerics, precision=next(chosen))

        monkeypatch.setattr(plans.autotune, "decide_precision", decide)
        monkeypatch.setattr(plans, "try_stages", lambda model, *rest: ({(16, "stable"): 1.0}, {(16, "stable"): 1.0}))
        config = CompareConfig(models="dcgan,lsgan", budget_kimg=1)
        planned = plans.make(contestants(config, shapes, 16), config, shapes, 8, 1, lambda text: None)
        assert {(each.config.runtime.precision, each.config.runtime.compile) for each in planned.values()} == {
            ("bf16", "off")
        }

    def test_twins_have_other_seeds(self, shapes, tmp_path):
        config = CompareConfig(budget_kimg=1, seeds=2, seed=5)
        plan = plans.Planned(RunConfig(), 1.0, 1.0)
        members = plans.members(tmp_path, {"a": plan, "b": plan, "a-2": plan}, config, shapes)
        assert [(each.model, each.seed) for each in members] == [
            ("a", 5), ("b", 5), ("a-2", 7), ("a", 6), ("b", 6), ("a-2", 8),
        ]  # fmt: skip
        assert members[2].config.runtime.seed == 7


@pytest.fixture(scope="module")
def measured(parts, tmp_path_factory) -> Comparison:
    """Pseudo-models in the places of models, three of each."""
    train, held_out = parts
    measurer = Measurer(train, held_out, METRICS, 80, 16, tmp_path_factory.mktemp("c"))
    some = list(controls(train, held_out, 80, 16, preset("mnist32")))
    found = []
    for control in some:
        runs = [Trained(k, "", measurer.control(control, k)) for k in range(3)]
        found.append(Contestant(control.name, control.about, False, runs, 16))  # tested as models are
    first = found[0].runs[0].values["G_ema"]
    floors = {name: value.floor.value for name, value in first.items()}
    return Comparison("controls", [], list(first), floors, found)


class TestControls:
    """The comparison must be able to fail: what is known to be worse has to come out worse."""

    def test_they_rank_as_they_must(self, measured):
        swd = measured.ranking("swd")
        assert set(swd[:2]) == {"held-out images", "training images"}
        assert [name.split()[0] for name in swd[2:]] == ["without", "untrained"]
        assert [name.split()[0] for name in measured.ranking("coverage")[2:]] == ["without", "untrained"]

    def test_what_differs_is_said_to_differ(self, measured):
        found = {(each.a, each.b.split()[0]): each.better for each in measured.differences("swd")}
        assert found["held-out images", "untrained"] == "held-out images"
        assert found["held-out images", "without"] == "held-out images"
        assert found["held-out images", "training"] is None

    def test_copies_of_training_images_are_found_out(self, measured):
        copies = next(each for each in measured.contestants if each.name == "training images")
        assert copies.numbers(MEMORISATION) == [0, 0, 0]
        found = {(each.a, each.b): each.better for each in measured.differences(MEMORISATION)}
        assert found["held-out images", "training images"] == "held-out images"

    def test_the_first_held_out_control_is_the_floor(self, measured):
        first = next(each for each in measured.contestants if each.name == "held-out images").runs[0]
        assert all(value.value == pytest.approx(value.floor.value) for value in first.values["G_ema"].values())

    def test_a_data_set_without_labels_has_no_class_to_leave_out(self, parts, monkeypatch):
        monkeypatch.setattr(Dataset, "labels", lambda self, indices: None)
        names = [control.name for control in controls(*parts, 80, 16, preset("mnist32"))]
        assert names == ["held-out images", "training images", "untrained"]

    def test_one_image_that_is_a_held_out_one_by_chance_does_not_decide(self, parts, tmp_path):
        train, held = parts
        measurer = Measurer(train, held, ("ms_ssim",), 80, 16, tmp_path)
        images = torch.from_numpy(held.pixels(16, held.order(80, 50, 0)))
        before = measurer._memorisation(images)["memorisation"].value
        images[7] = torch.from_numpy(held.pixels(16, held.order(0, 1, 0)))[0]
        assert measurer._memorisation(images)["memorisation"].value == pytest.approx(before, abs=0.05)

    @pytest.mark.parametrize("share", [0, 0.25, 0.6])
    def test_the_share_of_copies_is_told(self, parts, tmp_path, share):
        train, held = parts
        measurer = Measurer(train, held, ("ms_ssim",), 80, 16, tmp_path)
        images = torch.from_numpy(held.pixels(16, held.order(80, 80, 0)))
        copied = round(80 * share)
        images[:copied] = torch.from_numpy(train.pixels(16, np.arange(copied)))
        values = measurer._memorisation(images)
        assert values["copies"].value == share
        run = Trained(0, "", {"G_ema": values})
        floors = {name: value.floor.value for name, value in values.items()}
        found = findings(Comparison("", [], list(values), floors, [Contestant("a", "", False, [run], 16)]))
        said = f"a: {100 * share:.3g} % of its images are copies of training images."
        assert (said if share else "No model repeats its training images.") in found

    def test_a_class_may_have_any_name(self, parts, tmp_path):
        control = dataclasses.replace(next(controls(*parts, 40, 16, preset("mnist32"))), name="without cat/dog: 1")
        measurer = Measurer(*parts, ("ms_ssim",), 40, 16, tmp_path)
        assert measurer.control(control, 0) == measurer.control(control, 0)

    def test_measurements_are_remembered(self, parts, tmp_path, monkeypatch):
        measurer = Measurer(*parts, ("ms_ssim",), 40, 16, tmp_path)
        control = next(controls(*parts, 40, 16, preset("mnist32")))
        first = measurer.control(control, 0)
        monkeypatch.setattr(Measurer, "_memorisation", None)
        assert measurer.control(control, 0) == first
        with pytest.raises(TypeError):
            Measurer(*parts, ("ms_ssim",), 32, 16, tmp_path).control(control, 0)  # other numbers are measured anew


OPTIONS = {
    "models": "mnist32,mnist32",
    "width": 8,
    "budget_kimg": 0.6,
    "seeds": 2,
    "num": 64,
    "measurements": 2,
    "jobs": 2,
    "device": "cpu",
    "precision": "fp32",
    "controls": True,
}


def compare_twins(shapes: Dataset, folder: Path) -> Outcome:
    """A model against itself, stopped after its first runs and gone on with."""

    @contextmanager
    def until_a_run_is_finished(until):
        yield lambda: any((folder / "runs").glob("*/state/state-0000006*"))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(protocol, "stop_on_signals", until_a_run_is_finished)
        assert compare(shapes.path, folder, quiet=True, **OPTIONS).comparison is None
    before = {path: path.stat().st_mtime_ns for path in (folder / "runs").glob("*/state/state-0000006*")}
    assert 1 <= len(before) < 4
    outcome = compare(shapes.path, folder, quiet=True, **OPTIONS)
    assert all(path.stat().st_mtime_ns == time for path, time in before.items()), "finished runs are let alone"
    return outcome


def check_no_significant_difference(outcome: Outcome) -> None:
    for metric in ("swd", "ms_ssim"):
        (found,) = outcome.comparison.differences(metric)
        assert {found.a, found.b} == {"mnist32", "mnist32-2"}
        assert not found.significant
        assert found.low < 0 < found.high
    assert "No significant difference between mnist32 and mnist32-2" in outcome.page.read_text(encoding="utf-8")


def check_runs_are_ordinary_ones_with_the_budget(outcome: Outcome) -> None:
    runs = [run for each in outcome.comparison.models for run in each.runs]
    assert [run.seed for run in runs] == [0, 1, 2, 3]
    for run in runs:
        config, _ = RunFolder(outcome.path / run.folder).read()
        assert run.kimg == pytest.approx(0.6, abs=0.02)
        assert config.runtime.seed == run.seed
        assert config.schedule.resolution == 16
        assert sum("metrics/G_ema/swd" in line for line in run.stats) >= 1
    assert len({run.values["G_ema"]["swd"].value for run in runs}) == 4, "seeds differ"
    assert all(run.values["G"]["swd"] != run.values["G_ema"]["swd"] for run in runs)


def check_numbers_for_other_programs(outcome: Outcome) -> None:
    content = json.loads((outcome.path / "comparison.json").read_text())
    assert [each["name"] for each in content["contestants"]][:2] == ["mnist32", "mnist32-2"]
    assert content["differences"]["swd"][0]["significant"] is False
    assert content["ranking"]["swd"][-1] != "held-out images"
    rows = list(csv.DictReader((outcome.path / "comparison.csv").open()))
    value = next(row for row in rows if (row["seed"], row["network"], row["metric"]) == ("1", "G", "ms_ssim"))
    run = outcome.comparison.models[0].runs[1]
    assert float(value["value"]) == run.values["G"]["ms_ssim"].value
    assert {path.name for path in (outcome.path / "grids").iterdir()} == {"mnist32.png", "mnist32-2.png"}


def check_costs(outcome: Outcome) -> None:
    each = outcome.comparison.models[0]
    folder = outcome.path / each.runs[0].folder / "state"
    from safetensors import safe_open

    with safe_open(sorted(folder.glob("*"))[-1], "pt") as file:
        names = [name for name in file.keys() if name.startswith("G.") and ".adam." not in name]  # noqa: SIM118
        weights = sum(file.get_tensor(name).numel() for name in names)
    assert each.parameters[0] == weights
    assert each.training_flops > 600 * 6 * (each.image_flops[1] / 100), "at least some passes for each image"


def check_the_page_is_complete(outcome: Outcome) -> None:
    tags = check_complete(outcome.page.read_text(encoding="utf-8"))
    words = " ".join(tags.words)
    for expected in ("held-out images", "untrained", "Judge by eye", "Nearest training images"):
        assert expected in words
    assert outcome.page.stat().st_size < 10e6


def check_without_real_images(shapes: Dataset, outcome: Outcome, monkeypatch: pytest.MonkeyPatch) -> None:
    with_reals = Tags(outcome.page.read_text(encoding="utf-8")).images
    monkeypatch.setattr(protocol, "train_all", lambda members, *rest: all(m.reached(m.total_nimg) for m in members))
    monkeypatch.setattr(Measurer, "_networks", None)  # all is remembered
    compare(shapes.path, outcome.path, quiet=True, reals=False, **OPTIONS)
    document = outcome.page.read_text(encoding="utf-8")
    assert "Nearest training images" not in document
    # five grids (four controls, reals), 12 of the panel and two pictures of neighbours fewer
    assert Tags(document).images == with_reals - 5 - 12 - 2


def check_another_comparison_is_refused(shapes: Dataset, outcome: Outcome) -> None:
    with pytest.raises(RunError, match=r"holds another comparison \(seeds: 2 -> 3\)"):
        compare(shapes.path, outcome.path, quiet=True, **{**OPTIONS, "seeds": 3})


@pytest.mark.long
def test_a_model_against_itself(shapes, tmp_path, monkeypatch):
    """One test, for the runs take most of its time."""
    outcome = compare_twins(shapes, tmp_path / "out")
    check_no_significant_difference(outcome)
    check_runs_are_ordinary_ones_with_the_budget(outcome)
    check_numbers_for_other_programs(outcome)
    check_costs(outcome)
    check_the_page_is_complete(outcome)
    check_without_real_images(shapes, outcome, monkeypatch)
    check_another_comparison_is_refused(shapes, outcome)


def test_a_run_that_fails_says_why(shapes, tmp_path):
    config = fit("mnist32", CompareConfig(budget_kimg=1), shapes, 16)
    member = Member("a", 0, config, RunFolder(tmp_path / "a-seed0"))
    member.folder.path.mkdir()
    (member.folder.path / "config.json").write_text("{}")
    with pytest.raises(RunError, match=r"a-seed0 failed: .*config.json cannot be read.* \(more in .*process.log\)"):
        train_all([member], shapes.path, 1, 1, lambda text: None, lambda: False)


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        ("swd,swdd", "did you mean swd"),
        ("swd,neighbours", "held-out"),
        ("fid", "fid is not measured in comparisons"),
        ("swd,inception-score", "inception-score is not"),
    ],
)
def test_metrics_are_checked_before_anything_is_trained(shapes, tmp_path, monkeypatch, metrics, message):
    monkeypatch.setattr(plans, "make", None)
    with pytest.raises(ConfigError, match=message):
        compare(shapes.path, tmp_path, quiet=True, **{**OPTIONS, "metrics": metrics})


def test_metrics_may_change_afterwards(shapes, tmp_path):
    """They decide no run."""
    configs = [CompareConfig(metrics=metrics, budget_kimg=1) for metrics in ("swd", "ms-ssim")]
    requests = [protocol.begin(shapes.path, tmp_path, config, print)[2] for config in configs]
    assert requests[0] == requests[1]


def test_a_split_left_by_a_call_that_failed_is_not_taken_for_another(shapes, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (600, 16, 16), dtype=np.uint8)
    np.save(tmp_path / "noise.npy", noise)
    prepare(str(tmp_path / "noise.npy"), tmp_path / "noise", PrepareConfig(workers=1))
    other = Dataset.open(tmp_path / "noise")
    for dataset, num in ((shapes, 64), (other, 64), (other, 32)):
        ground = protocol.lay(tmp_path / "out", dataset, CompareConfig(num=num, seeds=2, budget_kimg=1))
        assert ground.train.count + ground.held_out.count == dataset.count
        assert (ground.num, ground.held_out.count) == (num, 3 * num)


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [0, 1])
def test_a_run_that_diverges_is_left_out_of_a_comparison(shapes, tmp_path, monkeypatch, jobs):
    """It is not tried again, and the others are compared."""
    options = {
        **OPTIONS,
        "models": "tame = lsgan32 --batch-size 8; wild = lsgan32 --batch-size 8 --lr 1e6",
        "jobs": jobs,
    }
    options |= {"budget_kimg": 0.3, "seeds": 1, "measurements": 5, "controls": False, "metrics": "swd"}
    outcome = compare(shapes.path, tmp_path, quiet=True, **options)
    stats = outcome.path / "runs" / "tame-seed0" / "stats.jsonl"  # as if it had gone back once
    lines = stats.read_text().splitlines()
    last = json.loads(lines[-1])
    stats.write_text("\n".join([*lines[:-1], json.dumps({**last, "lr": last["lr"] / 2})]) + "\n")
    (line,) = [note for note in outcome.comparison.notes if "diverged" in note]
    assert line.startswith("wild-seed0 is left out: it diverged at ")
    assert [each.name for each in outcome.comparison.models] == ["tame"]
    monkeypatch.setattr(runs, "train_run", None)
    monkeypatch.setattr(runs, "_call", None)
    again = compare(shapes.path, tmp_path, quiet=True, **options)
    assert again.comparison.floors == outcome.comparison.floors
    assert (
        "tame-seed0 diverged and went back; its learning rates ended at 0.5 of those given." in again.comparison.notes
    )
    assert line in outcome.page.read_text(encoding="utf-8")


def test_old_plans_are_read(tmp_path):
    """As an earlier version wrote them, without what was asked for."""
    plan = plans.Planned(preset("mnist32"), 3.0, 2.0)
    plans.write(tmp_path, {"models": "progan"}, {"progan": plan})
    content = json.loads((tmp_path / plans.FILE).read_text())
    for name in ("given", "rungs"):
        del content["models"]["progan"][name]
    (tmp_path / plans.FILE).write_text(json.dumps(content))
    assert plans.read(tmp_path, {"models": "progan"}) == {"progan": plan}
    with pytest.raises(RunError, match="holds a comparison"):
        plans.read(tmp_path, {"models": "progan"}, plans.SWEEP)


class TestPairs:
    """Models that begin alike are compared seed by seed."""

    def test_paired_interval(self):
        a, b = [10.0, 20.0, 31.0], [9.0, 18.0, 28.0]  # differences 1, 2, 3: 2 ± 4.3027 · 1 / √3
        found = results.paired(a, b)
        assert found[:3] == pytest.approx((2, 2 - 2.48414, 2 + 2.48414), rel=1e-5)
        assert found[3] == pytest.approx(0.0741799, rel=1e-4)
        assert results.paired(a, a) == (0, 0, 0, 1)
        assert results.paired(a, [x - 1 for x in a])[3] == 1

    def test_only_models_with_the_same_networks_and_seeds(self):
        def contestant(name, begins, seeds, values):
            runs = [Trained(k, "", {"G_ema": {"swd": Measured(v)}}) for k, v in zip(seeds, values, strict=True)]
            return Contestant(name, "", False, runs, 16, begins=begins)

        values = ([10.0, 20.0, 30.0], [11.0, 21.5, 31.0])
        models = [
            contestant("a", "net", (0, 1, 2), values[0]),
            contestant("b", "net", (0, 1, 2), values[1]),
            contestant("c", "other net", (0, 1, 2), values[1]),
            contestant("d", "net", (3, 4, 5), values[1]),
            contestant("e", "", (0, 1, 2), values[1]),
        ]
        found = {(x.a, x.b): x for x in Comparison("", [], ["swd"], {"swd": 5.0}, models).differences("swd")}
        assert [pair for pair, each in found.items() if each.paired] == [("a", "b")]
        assert found["a", "b"].high < 0 < found["a", "c"].high, "what the seeds have in common is no part of it"


def twenty(count: int = 20) -> tuple[Comparison, Pictures]:
    """A comparison of models with long names, and pictures of them."""
    rng = np.random.default_rng(0)
    names = [f"{i} progan --loss lsgan --batch-size 4:64,32:16 --lr 0.00{i}" for i in range(1, count + 1)]
    models = []
    for i, name in enumerate(names):
        stats = [
            {
                "cur_nimg": 1000 * k, "resolution": 16, "phase": "stable", "trained": 60.0 * k,
                "metrics/G_ema/swd": 90 / k + i, "metrics/floor/swd": 5.0, "D/real": 1 / k, "G/fake": 2.0,
            }
            for k in range(1, 5)
        ]  # fmt: skip
        runs = [
            Trained(k, "", {"G_ema": {"swd": Measured(10.0 + i + 4 * rng.random())}}, 4, 240, 2**28, (), stats)
            for k in range(3)
        ]
        models.append(Contestant(name, f"preset mnist32 {name}", False, runs, 16, (10**6, 10**6), (1, 1), 1e12, "net"))
    pixels = torch.from_numpy(rng.integers(0, 256, (16, 1, 16, 16), dtype=np.uint8))
    spectra = {name: [([0.1, 0.2, 0.3], [3.0 + i / 9, 2.0, 1.0])] for i, name in enumerate(names)}
    pictures = Pictures(dict.fromkeys(names, pixels), pixels, spectra, {})
    facts = [("models", "; ".join(names))]
    return Comparison(f"{count} models on shapes", facts, ["swd"], {"swd": 5.0}, models), pictures


class TestTwenty:
    """A page with as many models as there may be, with long names."""

    def test_lines_of_a_chart_can_be_told_apart(self):
        chart = Chart([Line(f"a long name, number {i}", [0, 1], [i, i], i) for i in range(20)], "x", "y").svg()
        drawn = re.findall(r'<path d="M[^"]*L[^"]*"[^>]*style="([^"]*)"', chart)
        looks = {
            (re.search(r"stroke: (#\w+)", style)[1], (re.search("stroke-dasharray: ([^;]*)", style) or [0, ""])[1])
            for style in drawn
            if "stroke-width: 1.6" in style
        }
        assert len(looks) == 20
        assert chart.count(">a long name, number 19</text>") == 1
        height = float(re.search(r'viewBox="0 0 [\d.]+ ([\d.]+)"', chart)[1])
        assert height > 2.7 * 72 + 10 * 8, "names stand below, not over the curves"

    def test_few_short_names_stay_inside(self):
        chart = Chart([Line(name, [0, 1], [1, 2], i) for i, name in enumerate("ab")], "x", "y").svg()
        assert float(re.search(r'viewBox="0 0 [\d.]+ ([\d.]+)"', chart)[1]) == pytest.approx(2.7 * 72)

    def test_sentences_of_many_pairs(self):
        differences = twenty()[0].differences("swd")
        assert len(differences) == 190
        lines = sentences(differences)
        told = sum(each.significant for each in differences)
        assert 0 < told < 190
        assert len(lines) == told + 1
        assert lines[-1] == f"No significant difference in {190 - told} of 190 pairs."
        assert len(sentences(twenty(3)[0].differences("swd"))) == 3

    @pytest.mark.slow
    def test_page_is_complete(self):
        document = comparison_page(*twenty())
        tags = check_complete(document)
        assert "All 190 differences" in document
        assert document.count('<button class="tile"') == 21 * 5
        assert tags.images == 21 + 21 * 5

    @pytest.mark.browser
    @pytest.mark.parametrize("width", [1280, 390])
    def test_nothing_is_wider_than_the_window(self, browser, tmp_path, width):
        (tmp_path / "page.html").write_text(comparison_page(*twenty()), encoding="utf-8")
        page = browser.new_page(viewport={"width": width, "height": 900})
        page.goto((tmp_path / "page.html").as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.close()


def test_page_escapes_names_and_hides_the_key():
    evil = "<script>alert(1)</script>"
    value = {"G_ema": {"swd": Measured(10.0)}}
    models = [
        Contestant(name, evil, False, [Trained(k, "", value, kimg=1, seconds=1) for k in (0, 1)], 16)
        for name in (evil, "b")
    ]
    comparison = Comparison(evil, [(evil, evil)], ["swd"], {"swd": 5.0}, models, [evil])
    pixels = torch.randint(0, 256, (16, 3, 8, 8), dtype=torch.uint8)
    near = pixels[None, :4].expand(2, -1, -1, -1, -1)
    pictures = Pictures({evil: pixels, "b": 255 - pixels}, pixels, {evil: [([0.1, 0.2], [1, 2])]}, {evil: near})
    document = comparison_page(comparison, pictures)
    assert "<script>alert" not in document
    check_complete(document)
    panel = document[document.index('class="panel"') : document.index("<script>")]
    assert "alert" not in panel
    assert panel.count('<button class="tile"') == 36
    assert "Beware: " in document


def Measured(value: float):
    from progan.metrics import Value

    return Value(value, value - 1, value + 1)


class TestCommand:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ([], "how long is each run"),
            (["--budget-kimg", "1", "--seeds", "0"], "--seeds must be at least 1"),
            (["--budget-kimg", "1", "--models", "nonsense"], "no preset 'nonsense'"),
            (["--budget-kimg", "0.01"], "less than a batch"),
            (["--budget-kimg", "x"], "--budget-kimg must be a number"),
        ],
    )
    def test_mistakes(self, shapes, tmp_path, capsys, arguments, message):
        command = ["compare", "--data", str(shapes.path), "--out", str(tmp_path / "c"), "--quiet"]
        assert main([*command, *arguments]) == 2
        assert message in capsys.readouterr().err.splitlines()[-1]
