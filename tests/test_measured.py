"""Numbers of the pages come from committed JSON, by name."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pytest

from progan import run
from progan.training.preflight import estimate
from script import load

ROOT = Path(__file__).parents[1]
measured = load("measured")

NOT_MEASURED = {
    "README.md": ["| preset | what it is | kimg"],
    "docs/models.md": ["| preset | model | source", "| preset | change", "| loss | D minimises"],
    "docs/paper-map.md": ["| in the paper"],
    "docs/data.md": ["| name | what is downloaded"],
    "docs/performance.md": ["| what | why"],
    "docs/preparing.md": ["| option"],
    "docs/submitting.md": ["| | run here"],
    "docs/comparisons/mnist32/README.md": ["| "],  # written by `progan compare`, from comparison.json beside it
    "docs/comparisons/mnist32-sweep.md": ["| "],  # written by `progan sweep`
    "docs/studies/README.md": ["| | claim"],
    "docs/studies/1-other-gans.md": ["| "],  # written by studies/run.py (test_studies.py), as those of all studies
    "docs/studies/1-faces.md": ["| "],
    "docs/studies/1-more-data.md": ["| "],
    "docs/studies/1-less-data.md": ["| "],
    "docs/studies/2-collapse.md": ["| "],
    "docs/studies/2-normalisation.md": ["| "],
    "docs/studies/3-bce-batchnorm.md": ["| "],
    "docs/studies/4-apophenia.md": ["| "],
    "docs/studies/7-growing.md": ["| "],
}
"""Tables with many numbers that are no measurements: settings, years, sizes of images."""


NUMBERS_OF_TEXT = re.compile(
    r"(?<![\w.])(?<!Python )(?<!PyTorch )(?<!section )(?<!torch )\d+\.\d+(?![\w.])"
    r"|\d[\d,]*(?= ?(?:%|ms|s|min|minutes|h|hours|kB|MB|GB|MiB|GiB|images a second|times|×)(?!\w))"
)
"""What looks like a measurement: decimal numbers, and those with a unit of time, memory or speed."""
SETTINGS: dict[str, list[str]] = {
    "README.md": ["CC BY-NC 4.0"],
    "docs/app.md": ["at most 20 MB", "95 % within"],
    "docs/authors-mnist32.md": ["95 % intervals"],
    "docs/studies/3-bce-batchnorm.md": ["momentum 0.8", "the last 55 %"],
    "docs/comparing.md": ["more than 5 %", "Student's t over", "below 5 %", "never below 0.1"],
    "docs/comparisons/mnist32-sweep.md": [""],  # written by `progan sweep`
    "docs/comparisons/mnist32/README.md": [""],  # written by `progan compare`, from comparison.json beside it
    "docs/faults.md": ["95 % interval"],
    "docs/formats.md": ["version 1.0", "options of 0.1"],
    "docs/health.md": ["below 5 %", "rises by 0.1"],
    "docs/memory.md": ["than 20 %", "with 10 %", "which the 10 %"],
    "docs/metrics.md": ["95 % interval", "= 0.97", "5 % level", "0.05 for a perfect", "less than 99 %"],
    "docs/models.md": ["The paper's 0.01", "before 1.6", "s = 0.2·max"],
    "docs/paper-map.md": ["arXiv 1710.10196"],
    "docs/performance.md": ["at most 20 seconds", "95 % interval"],
    "docs/results.md": ["and 3.14"],
    "docs/several-processes.md": ["own timeout does after 10 minutes"],
    "docs/small-sets.md": ["(0.6) is how sure", "at most 0.8", "95 % interval"],
}
"""The same of pages' numbers that are no measurements: settings, versions, what follows by arithmetic."""


def leaves(tree: Any) -> Iterator[float]:
    """All numbers of a JSON."""
    if isinstance(tree, dict | list):
        for value in tree.values() if isinstance(tree, dict) else tree:
            yield from leaves(value)
    elif isinstance(tree, int | float):
        yield float(tree)


def numbers(cell: str) -> list[str]:
    found = re.findall(r"[−-]?\d[\d,]*\.?\d*(?:e-?\d+)?", cell)
    return [number.replace(",", "").replace("−", "-") for number in found]


def is_rounded(shown: str, values: list[float]) -> bool:
    """True if a number with these digits is one of the values, or one in thousands, percent, or MB."""
    digits, _, exponent = shown.partition("e")
    half = 0.5000001 * 10.0 ** (int(exponent or 0) - len(digits.partition(".")[2]))
    return any(abs(value * unit - float(shown)) <= half for value in values for unit in (1, -1, 100, 1e3, 1e-3, 1e-6))


@pytest.mark.parametrize("page", measured.pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_tables_are_those_of_the_json(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert measured.filled(text) == text, "run python scripts/measured.py"


def test_every_number_of_the_json_is_in_a_page() -> None:
    found = {name for page in measured.pages() for name in measured.NUMBER.findall(page.read_text(encoding="utf-8"))}
    assert found == set(measured.TEXT)


@pytest.mark.parametrize("name", sorted(measured.TEXT))
def test_numbers_of_the_text_were_measured(name: str) -> None:
    entry = measured.TEXT[name]
    if "from" not in entry:  # nothing was kept but the number: by which command, on which machine
        assert entry["by"]
        return
    file, *path = entry["from"].split(" > ")
    value = json.loads((measured.MEASURED / file).read_text(encoding="utf-8"))
    for key in path:
        value = value[int(key) if isinstance(value, list) else key]
    in_minutes_or_hours = [value / 60, value / 3600]
    assert is_rounded(numbers(entry["shown"])[0], [value, *in_minutes_or_hours])


@pytest.mark.parametrize("page", measured.pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_measurements_in_the_text_have_a_name(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    text = re.sub(r"^```.*?^```", "", measured.NUMBER.sub("", text), flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"^(?: {4}|\|).*|`[^`]*`|\]\([^)]*\)|\d+×\d+", "", text, flags=re.MULTILINE)
    known = SETTINGS.get(str(page.relative_to(ROOT)), [])
    # A study's page quotes its results.
    number = page.name.partition("-")[0] if page.parent.name == "studies" else "none"
    results = [
        json.loads(path.read_text(encoding="utf-8")) for path in ROOT.glob(f"studies/results/study-{number}/*/*.json")
    ]
    quoted = [value for result in results for value in leaves(result)]
    around = [
        text[found.start() - 30 : found.end() + 20]
        for found in NUMBERS_OF_TEXT.finditer(text)
        if not is_rounded(numbers(found[0])[0], quoted)
    ]
    assert [said for said in around if not any(setting in said for setting in known)] == []


@pytest.mark.parametrize("name", sorted(measured.TABLES))
def test_tables_were_measured(name: str) -> None:
    """Numbers were kept in a file, or it is said by which command they came, on which machine."""
    assert "raw" in measured.TABLES[name] or measured.TABLES[name].get("by")


def test_every_table_of_the_json_is_in_one_page() -> None:
    texts = [page.read_text(encoding="utf-8") for page in measured.pages()]
    found = [name for text in texts for name, _, _ in measured.TABLE.findall(text)]
    assert sorted(found) == sorted(measured.TABLES)


@pytest.mark.parametrize("page", measured.pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_other_tables_hold_no_measurements(page: Path) -> None:
    text = measured.NUMBER.sub("", measured.TABLE.sub("", page.read_text(encoding="utf-8")))
    known = NOT_MEASURED.get(str(page.relative_to(ROOT)), [])
    for head, body in re.findall(r"^(\|.*)\n\|[-:|]+\|\n((?:\|.*\n)+)", text, re.MULTILINE):
        many = len(re.findall(r"\d\.\d|\d{2,}", re.sub(r"`[^`]*`|\]\([^)]*\)|\d+×\d+", "", body))) > 8
        assert not many or head.startswith(tuple(known)), f"{page.name}: {head}"


@pytest.mark.parametrize("name", [name for name, table in measured.TABLES.items() if "raw" in table])
def test_numbers_are_those_that_were_measured(name: str) -> None:
    if name in ("training-step", "presets") or name.startswith(("equal-quality", "labels")):
        pytest.skip("by name: below")
    files = sorted(measured.MEASURED.glob(measured.TABLES[name]["raw"]))
    values = [value for file in files for value in leaves(json.loads(file.read_text(encoding="utf-8")))]
    shown = [number for row in measured.TABLES[name]["rows"] for cell in row[1:] for number in numbers(cell)]
    if name == "authors-mnist32":  # its first rows are runs of the authors' code
        shown = [number for row in measured.TABLES[name]["rows"][2:] for cell in row[1:] for number in numbers(cell)]
    if name == "tolerances":
        shown = [number for row in measured.TABLES[name]["rows"] for number in numbers(row[1])]
    if name == "faces-found":
        shown = [number for number in shown if number not in ("20", "0.8")]  # collages; a setting
    if name == "forms":
        shown = [number for number in shown if number not in ("32", "16", "255")]  # fp32, fp16, n/255
    assert shown
    assert [number for number in shown if not is_rounded(number, values)] == []


def test_steps_and_what_they_gain() -> None:
    raw = json.loads((measured.MEASURED / "training-step.json").read_text(encoding="utf-8"))
    cases = {f"{case['resolution']} / {case['fmap_max']} / {case['batch']}": case for case in raw["cases"]}
    table = measured.TABLES["training-step"]
    assert [row[0] for row in table["rows"]] == list(cases)
    for label, *cells in table["rows"]:
        case = cases[label]
        speeds = case["img_per_sec"]
        for variant, cell in zip(table["columns"][1:-1], cells[:-1], strict=True):
            speed, *gain = numbers(cell)
            assert is_rounded(speed, [speeds[variant]]), (label, variant)
            assert all(is_rounded(number, [speeds[variant] / speeds["plain fp32"]]) for number in gain), (
                label,
                variant,
            )
        reached = speeds["bf16 compiled"] * case["gflop_per_image"]["ours"] / raw["peaks_gflops"]["bf16"]["convolution"]
        assert is_rounded(numbers(cells[-1])[0], [reached]), label


def test_fractions_that_show_their_label() -> None:
    """Of fakes and of held-out real images: each digit and the mean, and the means over the values of an attribute."""
    files = (measured.MEASURED / f"labels-{name}.json" for name in ("mnist32", "avatars32"))
    digits, attributes = (json.loads(file.read_text(encoding="utf-8"))["shares"] for file in files)
    for kind, (_, *shown) in enumerate(measured.TABLES["labels-mnist32"]["rows"]):
        values = [shares[kind] for shares in digits.values()]
        for cell, value in zip(shown, [*values, fmean(values)], strict=True):
            assert is_rounded(*numbers(cell), [value])
    rows = measured.TABLES["labels-avatars32"]["rows"]
    assert [row[0] for row in rows] == list(dict.fromkeys(name.partition("=")[0] for name in attributes))
    for attribute, count, *shown in rows:
        values = [shares for name, shares in attributes.items() if name.startswith(f"{attribute}=")]
        assert len(values) == int(count)
        for cell, value in zip(shown, np.mean(values, 0), strict=True):
            assert is_rounded(*numbers(cell), [value]), attribute


@pytest.mark.parametrize(
    ("name", "seconds"), [("equal-quality-mnist", False), ("equal-quality-faces", True)], ids=["mnist", "faces"]
)
def test_means_of_runs(name: str, seconds: bool) -> None:
    runs = json.loads((measured.MEASURED / measured.TABLES[name]["raw"]).read_text(encoding="utf-8"))["runs"]
    modes = {run["mode"] for run in runs}
    rows = [row for row in measured.TABLES[name]["rows"] if row[0] in modes]
    assert len(rows) == len(modes)
    for mode, swd, *others, took in rows:
        some = [run for run in runs if run["mode"] == mode]
        distances = [run["swd"] for run in some]
        for shown, value in zip(numbers(swd), (fmean(distances), min(distances), max(distances)), strict=True):
            assert is_rounded(shown, [value]), (mode, shown)
        for shown, key in zip(others, ("ms_ssim", "density", "coverage"), strict=True):
            assert is_rounded(shown, [fmean(run[key] for run in some)]), (mode, key)
        if seconds:
            spent = [run["seconds"] for run in some]
            assert [round(min(spent)), round(max(spent))] == [float(number) for number in took.split("–")]


def test_times_of_presets() -> None:
    raw = json.loads((measured.MEASURED / "presets.json").read_text(encoding="utf-8"))["presets"]
    rows = {row[0].split("`")[1]: row for row in measured.TABLES["presets"]["rows"]}
    for name in raw:
        _, _, kimg, time = rows[name]
        assert float(numbers(kimg)[0]) == raw[name]["kimg"]
        if "**" not in time:  # measured: docs/results.md
            hours = float(numbers(time)[0]) / (60 if "min" in time else 1)
            assert hours == pytest.approx(raw[name]["hours"], rel=0.03)


@pytest.mark.slow
def test_times_of_presets_are_the_plans(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = json.loads((measured.MEASURED / "presets.json").read_text(encoding="utf-8"))
    monkeypatch.setattr(estimate, "_convolution_speed", lambda numerics: raw["convolution_gflops"] * 1e9)
    for name, said in raw["presets"].items():
        plan = run.dry_run(name, device="cpu", precision="fp32", threads=1)[0]
        assert plan.images == 1000 * said["kimg"]
        assert plan.seconds / 3600 == pytest.approx(said["hours"], rel=0.01)
