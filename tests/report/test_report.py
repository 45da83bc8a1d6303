"""The page of a run and what stands on it: numbers with known answers, and a file that needs nothing else."""

import math
import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from html_tags import Tags, check_complete
from progan.cli import main
from progan.config import PrepareConfig
from progan.data.dataset import Dataset
from progan.data.prepare import prepare
from progan.metrics import Value
from progan.metrics.nearest import nearest_images
from progan.report import comparison_page, results, run_page
from progan.report.charts import Chart, Line, spectrum
from progan.report.comparison_tables import differences as differences_table
from progan.report.comparison_tables import quality
from progan.report.history import Collapse, collapses, curve, growth, with_training_time
from progan.report.html import contents, data_uri, page, preformatted, section, table, text
from progan.report.results import Comparison, Contestant, Trained, differences, holm, mean, p_value, t_quantile, welch
from progan.run_folder import RunFolder
from progan.sampling.interpolation import slerp
from progan.snapshot import load

pytestmark = pytest.mark.usefixtures("traced_once")


class TestStatistics:
    @pytest.mark.parametrize(("dof", "t"), [(1, 12.7062), (2, 4.30265), (4, 2.77645), (10, 2.22814), (1000, 1.96234)])
    def test_quantiles_of_the_tables(self, dof, t):
        assert t_quantile(dof) == pytest.approx(t, rel=1e-5)
        assert p_value(t, dof) == pytest.approx(0.05, rel=1e-4)

    def test_mean_of_three(self):
        value = mean([1.0, 2.0, 3.0])
        assert (value.value, value.high - 2) == (2, pytest.approx(4.30265 / math.sqrt(3), rel=1e-5))
        assert value.low == pytest.approx(4 - value.high)
        assert math.isnan(mean([1.0]).low)

    def test_a_mean_of_distances_has_no_interval_below_0(self):
        """The mean of 0.1, 0.2 and 9 has one from -9.6, and that of differences may be below 0."""
        assert mean([0.1, 0.2, 9.0]).low < -9
        runs = [Trained(seed, "", {"G_ema": {"swd": Value(x, x, x)}}) for seed, x in enumerate((0.1, 0.2, 9.0))]
        others = [replace(run, values={"G_ema": {"swd": Value(1.0, 1, 1)}}) for run in runs]
        models = [Contestant(name, "", False, some, 16) for name, some in (("one", runs), ("two", others))]
        comparison = Comparison("", [], ["swd"], {"swd": 1.0}, models)
        assert "<small>0 … 15.8</small>" in quality(comparison)
        for name in ("precision", "coverage", results.COPIES):  # nor has that of a fraction one above 1
            some = [replace(run, values={"G_ema": {name: run.values["G_ema"]["swd"]}}) for run in runs]
            fractions = Comparison("", [], [name], {}, [Contestant("one", "", False, some, 16)])
            assert "<small>0 … 1</small>" in quality(fractions), name
        assert "-9" not in quality(comparison)
        assert "-10.6" in differences_table(comparison)

    def test_welch_of_a_worked_example(self):
        """Variances 1 and 4 of three each: standard error √(5/3), 50/17 = 2.94 degrees of freedom."""
        value, low, high, p = welch([1.0, 2.0, 3.0], [4.0, 6.0, 8.0])
        assert value == -4
        assert p == pytest.approx(p_value(4 / math.sqrt(5 / 3), 50 / 17))
        assert (high - low) / 2 == pytest.approx(t_quantile(50 / 17) * math.sqrt(5 / 3))
        assert p == pytest.approx(0.0546, abs=5e-4)
        assert welch([1.0, 1.0], [1.0, 1.0])[3] == 1
        assert welch([1.0, 1.0], [2.0, 2.0])[3] == 1, "two numbers each that do not vary do not say how far they could"
        (found,) = differences({"a": [1.0] * 3, "b": [0.0] * 3}, 0.0, {"a": 1, "b": 1})
        assert (found.paired, found.p, found.better) == (True, 1, None)

    def test_holm(self):
        assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
        assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
        assert holm([math.nan, 0.001, 0.01]) == pytest.approx([1.0, 0.002, 0.01]), "what is no number is no test"

    def test_the_better_one_is_nearer_to_the_floor(self):
        groups = {"low": [1.0, 1.1, 1.2], "middle": [5.0, 5.1, 5.2], "high": [9.0, 9.1, 9.2]}
        found = {(each.a, each.b): each.better for each in differences(groups, floor=8.0)}
        assert found == {("low", "middle"): "middle", ("low", "high"): "high", ("middle", "high"): "high"}

    def test_noise_is_no_difference(self):
        (found,) = differences({"a": [1.0, 5.0, 3.0], "b": [2.0, 4.0, 6.0]}, floor=0.0)
        assert not found.significant
        assert found.better is None
        assert found.low < 0 < found.high
        assert differences({"a": [1.0], "b": [2.0, 3.0]}, 0.0) == [], "one seed says nothing"

    @pytest.mark.slow
    def test_one_test_in_twenty_errs(self):
        """Equal groups of three from a normal distribution: at most 5 % of 500 tests, within three standard errors."""
        draws = np.random.default_rng(0).normal(size=(500, 2, 3))
        wrong = sum(welch(list(a), list(b))[3] < 0.05 for a, b in draws)
        assert 0.01 * 500 < wrong < 0.08 * 500


def line(nimg: int, swd: float, ms_ssim: float, resolution: int = 32, phase: str = "stable"):
    metrics = {"metrics/G/swd": swd, "metrics/G/ms_ssim": ms_ssim, "metrics/floor/swd": 5, "metrics/floor/ms_ssim": 0.2}
    return {"cur_nimg": nimg, "resolution": resolution, "phase": phase, **metrics}


class TestCollapse:
    def test_variety_lost_and_found(self):
        values = [0.9, 0.3, 0.3, 0.7, 0.5, 0.3, 0.3]
        (event,) = collapses([line(1000 * i, 20, value) for i, value in enumerate(values)])
        assert event == Collapse("variety", 32, 3000, 5000)
        assert event.recovered

    def test_quality_lost_for_good(self):
        values = [90, 30, 20, 100, 90, 80]
        (event,) = collapses([line(1000 * i, value, 0.25) for i, value in enumerate(values)])
        assert event == Collapse("quality", 32, 3000, None)
        assert not event.recovered

    def test_what_is_no_collapse(self):
        assert collapses([line(1000 * i, 20, 0.9) for i in range(5)]) == [], "never had variety"
        growing = [line(0, 5, 0.2, 16), line(1, 50, 0.9, 32, "fade"), line(2, 50, 0.2, 32)]
        assert collapses(growing) == [], "a new resolution begins anew"
        assert collapses([line(i, value, 0.2) for i, value in enumerate([3, 9.5, 9.5])]) == [], "near the floor"
        assert collapses([{"cur_nimg": 5, "resolution": 8, "phase": "stable"}]) == [], "nothing measured"
        same = [{**line(1000 * i, 20, 0.9), "metrics/floor/ms_ssim": 1.0} for i in range(3)]
        assert collapses(same) == [], "real images that are all alike have no variety to be lost"


class TestPictures:
    def test_spectrum_of_a_wave(self):
        """Eight waves across: the power is at an eighth of a cycle per four pixels."""
        wave = (127.5 + 100 * torch.cos(2 * math.pi * 8 * torch.arange(32) / 32)).round().to(torch.uint8)
        frequencies, power = spectrum(wave.expand(3, 1, 32, 32))
        assert len(power) == len(frequencies) == 16
        assert frequencies[np.argmax(power)] == 0.25
        assert spectrum(torch.zeros(2, 1, 8, 8, dtype=torch.uint8))[1] == [-3, -3, -3, -3]

    def test_halfway_on_the_sphere(self):
        a, b = torch.tensor([[2.0, 0.0], [3.0, 0.0]]), torch.tensor([[0.0, 2.0], [3.0, 0.0]])
        root = math.sqrt(2)
        torch.testing.assert_close(slerp(a, b, 0.5), torch.tensor([[root, root], [3.0, 0.0]]))

    def test_data_uri_is_the_picture(self):
        from base64 import b64decode
        from io import BytesIO

        from PIL import Image

        pixels = torch.randint(0, 256, (3, 9, 7), dtype=torch.uint8)
        kind, content = data_uri(pixels).split(",")
        assert kind == "data:image/webp;base64"
        np.testing.assert_array_equal(np.asarray(Image.open(BytesIO(b64decode(content)))), pixels.permute(1, 2, 0))


def charts_of(document):
    """Names of the charts."""
    return re.findall(r'role="img" aria-label="([^"]*)"', document)


class TestPieces:
    def test_names_are_only_names(self):
        evil = '<script>alert("x")</script> & $x_1$'
        document = page(evil, [section(evil, table((text(evil),), [[text(evil)]]))])
        assert "<script>" not in document
        assert "".join(Tags(document).words).count(evil) == 4
        svg = Chart([Line(evil, [0, 1], [1, 2])], evil, evil, [(0.5, evil)]).svg()
        assert "<script>" not in svg
        assert "".join(Tags(svg).words).count("$x_1$") == 4
        assert text("Section &") in contents([section("Section &", "x")])

    def test_charts_take_the_colour_of_the_page(self):
        lines = [Line("a", [0, 1, 2], [1.0, math.nan, 2.0]), Line("b", [0, 1], [3.0, 5.0], 1, dashed=True)]
        svg = Chart(lines, "x", "y", log_y=True).svg()
        assert svg.startswith("<svg")
        assert "currentColor" in svg
        assert "#000000" not in svg
        assert svg == Chart(lines, "x", "y", log_y=True).svg(), "the same bytes again"
        assert Chart([Line("a", [1], [1])], "x", "y").svg() == ""

    def test_what_is_seen_is_told_and_reached_without_a_mouse(self):
        """A chart has a name, the page a main part, and what scrolls gets the focus."""
        lines = [Line('a "b"', [0, 1], [1, 2]), Line("", [0, 1], [1, 2]), Line("c", [0, 1], [1, 2])]
        chart = Chart(lines, "kimg", "loss of <D>").svg()
        assert chart.count(' role="img" aria-label="loss of &lt;D&gt; over kimg: a &quot;b&quot;, c">') == 1
        assert ' aria-label="y over x">' in Chart([Line("", [0, 1], [1, 2])], "x", "y").svg()
        document = page("x", [section("x", table(("", "a"), [["b", "c"]]), preformatted("d"), chart)])
        Tags(document)
        assert re.search(r"<body><main>.*</main></body>", document, re.DOTALL)
        assert document.count('<div class="scroll" tabindex="0"><table') == 1
        assert document.count('<pre tabindex="0">') == 1
        assert "<th></th>" not in document

    def test_losses_of_labels_have_a_chart_of_their_own(self):
        """They are some fifty times the others, which would be one flat line."""
        names = {"D/real": 0.5, "D/labels": 60.0, "G/fake": 0.7, "G/labels": 70.0, "img_per_sec": 9.0}
        stats = [{"cur_nimg": 1000 * i, "resolution": 8, **names} for i in range(3)]
        kimg = "over thousands of real images"
        assert charts_of(run_page._losses(stats)) == [
            f"loss of D {kimg}: real",
            f"loss of G {kimg}: fake",
            f"loss of the labels {kimg}: D, G",
            f"images a second {kimg}",
        ]
        model = Contestant("one", "", False, [Trained(0, "", {}, stats=stats)], 8)
        assert charts_of(comparison_page._losses([model])) == [
            f"loss {kimg}: D/real, G/fake",
            f"loss of the labels {kimg}: D, G",
        ]
        without = [{name: value for name, value in line.items() if "labels" not in name} for line in stats]
        assert not any("labels" in name for name in charts_of(run_page._losses(without)))

    @pytest.mark.browser
    def test_wide_tables_fit_on_paper(self, browser):
        """A4 has 718 pixels between its margins, and nothing scrolls there."""
        row = [
            f"<b>model {i} with its options</b>" if i == 0 else "0.123<br><small>0.0123 … 0.456</small>"
            for i in range(14)
        ]
        view = browser.new_page(viewport={"width": 718, "height": 1000})
        view.set_content(page("x", [section("x", table([f"metric-{i}" for i in range(14)], [row]))]))
        wide = "document.querySelector('table').getBoundingClientRect().right > innerWidth"
        assert view.evaluate(wide)
        view.emulate_media(media="print")
        assert not view.evaluate(wide)
        assert view.evaluate("getComputedStyle(document.querySelector('.scroll')).overflowX") == "visible"
        view.close()

    @pytest.mark.parametrize("values", [(300.0, 420.0), (2.0, 3.0), (5.0, 900.0)])
    def test_an_axis_has_several_numbers(self, values):
        words = Tags(Chart([Line("", [0, 1], values)], "", "", log_y=True).svg()).words
        numbers = [float(word) for word in words if word.strip().replace(".", "").isdecimal()]
        assert sum(values[0] / 2 <= number <= 2 * values[1] and number not in (0, 1) for number in numbers) >= 2

    def test_training_time_leaves_out_what_is_not_training(self):
        """100 images at 50 a second, 40 seconds of measuring, 100 images at 25 a second."""
        stats = [
            {"cur_nimg": 100, "img_per_sec": 50.0, "elapsed": 42.0},
            {"cur_nimg": 200, "img_per_sec": 25.0, "elapsed": 46.0},
        ]
        assert [line["trained"] for line in with_training_time(stats)] == [2, 6]

    def test_curves_and_growth(self):
        stats = [{"cur_nimg": 1000 * i, "resolution": 8 if i < 3 else 16, "D/real": i / 2} for i in range(5)]
        assert growth(stats) == [(2, "16")]
        stats[1]["D/real"] = math.inf
        x, y = curve(stats, "D/real")
        assert x == [0, 1, 2, 3, 4]
        assert math.isnan(y[1])
        assert y[4] == 2


@pytest.fixture(scope="module")
def faces(tmp_path_factory) -> Dataset:
    folder = tmp_path_factory.mktemp("data") / "faces"
    prepare("avatars:60", folder, PrepareConfig(resolution=16, workers=1))
    return Dataset.open(folder)


TRAIN = (
    "--resolution 16 --stable-kimg 0.1 --fade-kimg 0.1 --batch-size 8 --tick-kimg 0.04 --fmap-max 8 --z-dim 8 "
    "--metrics-kimg 0.05 --metrics-num 16 --device cpu --precision fp32"
)


@pytest.fixture(scope="module")
def run(faces, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "a <b> & run"
    assert main(["train", "--out", str(folder), "--data", str(faces.path), *TRAIN.split(), "--labels"]) == 0
    return folder


class TestNeighbours:
    def test_copies_are_found(self, faces):
        pixels = torch.from_numpy(faces.pixels(16, np.array([7, 53])))
        distance, number = nearest_images(pixels, faces, k=3)
        assert number[:, 0].tolist() == [7, 53]
        assert distance[:, 0].tolist() == [0, 0]
        other = torch.from_numpy(faces.pixels(16, number[0, 1:2].numpy())).float()
        assert float(distance[0, 1]) == pytest.approx(float((other - pixels[:1].float()).square().mean().sqrt()))


class TestRunPage:
    def test_training_ends_with_a_page(self, run):
        tags = check_complete((run / "report.html").read_text(encoding="utf-8"))
        words = " ".join(tags.words)
        assert "a <b> & run" in words, "a name, not a tag"
        for expected in (
            "Seeds 0 … 63",
            "4x4, after",
            "8x8, after",
            "16x16, after",
            "Real images.",
            "avatars: 60 images, RGB",
            "Dotted lines: from there on",
        ):
            assert expected in words
        assert (run / "report.html").stat().st_size < 10e6

    def test_the_number_of_the_console_is_on_the_page(self, run, faces, monkeypatch):
        monkeypatch.setattr(run_page, "_MEASURED", 16)
        number = run_page.quality(load(RunFolder(run).snapshot()), faces)
        assert re.fullmatch(r"sliced Wasserstein distance [\d.]+ \(real images against .*: [\d.]+\)", number)
        assert f"At the end: {number}." in " ".join(Tags(run_page.run_page(RunFolder(run), faces)).words)
        assert "At the end" not in run_page.run_page(RunFolder(run))

    def test_without_real_images(self, run, tmp_path, capsys):
        with_reals = Tags((run / "report.html").read_text(encoding="utf-8")).images
        out = tmp_path / "page.html"
        assert main(["report", str(run), "--no-reals", "--out", str(out)]) == 0
        assert capsys.readouterr().out.strip() == str(out)
        document = out.read_text(encoding="utf-8")
        assert "nearest" not in document
        assert check_complete(document).images == with_reals - 2

    def test_data_that_is_gone(self, run, tmp_path, capsys, monkeypatch):
        from progan.data.dataset import Manifest

        monkeypatch.setattr(Manifest, "is_in", staticmethod(lambda folder: False))
        assert main(["report", str(run), "--out", str(tmp_path / "page.html"), "--json"]) == 0
        assert '"reals": false' in capsys.readouterr().out

    def test_mistakes(self, tmp_path, capsys):
        assert main(["report", str(tmp_path)]) == 2
        assert "not a run folder" in capsys.readouterr().err
