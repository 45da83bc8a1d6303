"""What lies among the images and is none of them: runs, comparisons, prepared datasets; and how folders are named."""

import json
import os
from pathlib import Path

import pytest
from PIL import Image

from progan.cli import main
from progan.comparison import plan
from progan.config import PrepareConfig, RunConfig
from progan.data.cache import open_data
from progan.data.dataset import Dataset
from progan.data.prepare import prepare, request_key
from progan.errors import DatasetError
from progan.files import printable
from progan.run_folder import DataFacts, RunFolder

pytestmark = pytest.mark.usefixtures("traced_once")

ONE = PrepareConfig(workers=1, resolution=8)
TINY = (
    "--fmap-max 8 --fmap-base 64 --z-dim 8 --resolution 8 --batch-size 8 --stable-kimg 0.05 --fade-kimg 0.05 "
    "--total-kimg 0.15 --device cpu --compile off --precision fp32 --quiet"
).split()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROGAN_CACHE", str(tmp_path / "cache"))


def pictures(folder: Path, count: int = 6) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        Image.new("L", (8, 8), number).save(folder / f"{number}.png")
    return folder


def run_in(folder: Path) -> Path:
    """A run with a sample grid, as training leaves it."""
    RunFolder(folder).write(RunConfig(), DataFacts("images", "images", "f", 6, 1, None, ()))
    pictures(folder / "samples", 1)
    return folder


def said(source: Path | str) -> tuple[Dataset, list[str]]:
    lines: list[str] = []
    dataset = open_data(source, ONE, lines.append)
    return dataset, [line for line in lines if line.startswith("note: ")]


def test_runs_and_datasets_among_the_images_are_left_out(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "photos")
    before, notes = said(folder)
    assert (before.count, notes) == (6, [])
    run_in(folder / "runs" / "00000-digits")
    prepare("avatars:2", folder / "prepared", PrepareConfig(resolution=4, workers=1))
    plan.write(folder / "compared", {}, {}) if (folder / "compared").mkdir() is None else None
    pictures(folder / "compared" / "grids", 1)
    dataset, notes = said(folder)
    assert dataset.path == before.path  # the same images: not prepared again
    (note,) = notes
    assert note == (
        "note: left out, since progan made it: compared (a comparison), prepared (a prepared dataset), "
        "runs/00000-digits (a run)"
    )
    (folder / "runs" / "00000-digits" / "config.json").write_text('{"model": "of another program"}')
    assert said(folder)[0].count == 7


def test_out_may_lie_inside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(pictures(tmp_path / "photos"))
    arguments = ["prepare", ".", "out", "--resolution", "8", "--workers", "1"]
    for state in ("prepared", "images already there"):
        assert main(arguments) == 0
        assert f"state     {state}" in capsys.readouterr().out
    report = prepare(".", "second", ONE)
    assert (report.count, report.skipped) == (6, {})
    assert report.notes == ("left out, since progan made it: out (a prepared dataset)",)
    assert main(["prepare", ".", "out.zip", "--to", "stylegan-zip", "--resolution", "8", "--workers", "1"]) == 0
    assert prepare(".", "third", ONE).count == 6
    assert prepare("out.zip", "of-zip", ONE).count == 6  # where it is named


class Stop(Exception):
    pass


def test_an_unfinished_preparation_inside_goes_on(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "photos", 40)

    def stop(done: int, total: int) -> None:
        raise Stop

    with pytest.raises(Stop):
        prepare(folder, folder / "out", ONE, stop)
    assert (folder / "out" / "unfinished.json").exists()
    report = prepare(folder, folder / "out", ONE)
    assert (report.state, report.count, report.skipped) == ("continued", 40, {})


def test_a_run_that_is_the_folder_of_the_images(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "photos")
    key = request_key(str(folder), ONE)
    run_in(folder)
    for name in ("snapshots", "generated", "state"):
        pictures(folder / name, 1)
    assert request_key(str(folder), ONE) == key
    dataset, (note,) = said(folder)
    assert dataset.count == 6
    assert "what belongs to a run" in note
    with pytest.raises(DatasetError, match=r"holds no images but what belongs to a run in .*run\. Name that, or"):
        said(run_in(tmp_path / "run"))


@pytest.mark.slow
def test_training_twice_in_the_folder_of_the_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The second run reads the images of the first, neither its grids nor the pages and pictures made of it."""
    monkeypatch.chdir(pictures(tmp_path / "photos", 20))
    assert main(["train", "--data", ".", *TINY]) == 0
    (first,) = Path("runs").iterdir()
    assert list(first.glob("samples/*.png"))
    assert main(["sample", str(first), "--num", "2", "--out", "grid.png"]) == 0
    capsys.readouterr()
    assert main(["train", "--data", ".", *TINY[:-1]]) == 0
    assert "left out, since progan made it: runs/00000-" in capsys.readouterr().err
    facts = [RunFolder(path).read()[1] for path in sorted(Path("runs").iterdir())]
    assert [(about.count, about.fingerprint) for about in facts] == [(20, facts[0].fingerprint)] * 2
    Image.open("grid.png").save("copy.jpg")  # says no more where it is from
    assert main(["train", "--data", ".", "--out", ".", *TINY]) == 0
    assert main(["train", "--data", ".", "--out", ".", *TINY]) == 0  # nothing more to do: the same images
    assert RunFolder(Path()).read()[1].count == 21


# --- how the folder is named


@pytest.mark.parametrize("name", [".", "./", "../photos", "../photos/", "../other/../photos/.", "a/.."])
def test_folders_named_by_dots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    folder = pictures(tmp_path / "photos" / "a").parent
    monkeypatch.chdir(pictures(folder))
    pictures(tmp_path / "other", 1)
    report = prepare(name, tmp_path / "out", ONE)
    dataset = Dataset.open(tmp_path / "out")
    assert (report.count, dataset.name, dataset.manifest.source) == (12, "photos", "photos")
    assert open_data(name, ONE).fingerprint == dataset.fingerprint
    assert main(["data", "show", name, "--json"]) == 0
    assert main(["train", "--data", name, "--dry-run", "--json", *TINY[:-1]]) == 0


def test_tables_beside_a_folder_that_is_named_by_a_dot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = pictures(tmp_path / "photos.v2")
    (tmp_path / "photos.v2.csv").write_text("file,label\n" + "\n".join(f"{n}.png,{n % 2}" for n in range(6)))
    monkeypatch.chdir(folder)
    for name in (".", "..", folder):
        report = prepare(name, tmp_path.with_name(f"{tmp_path.name}-{len(str(name))}"), ONE)
        assert report.label_names == ("0", "1")
        assert report.count == 6


# --- names that are not UTF-8


def test_printable() -> None:
    assert printable("café 🐈") == "café 🐈"
    assert printable(os.fsdecode(b"caf\xe9/a")) == "caf\\xe9/a"
    assert printable("half \ud83d of a pair") == "half \\ud83d of a pair"


@pytest.mark.skipif(os.name == "nt", reason="names are Unicode there")
@pytest.mark.slow
def test_names_that_are_not_utf_8_are_shown_escaped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the log, JSON, tables, pages and snapshots, to the end of a training; the folders have such names, too."""
    root = os.path.join(os.fsencode(tmp_path), b"ph\xf6tos")
    for name in (b"cat", b"caf\xe9"):
        os.makedirs(os.path.join(root, name))
        for number in range(4):
            with open(os.path.join(root, name, b"%d\xe9.png" % number), "wb") as file:
                Image.new("L", (8, 8), 30 * number + len(name)).save(file, "PNG")
    source, run = os.fsdecode(root), os.fsdecode(os.path.join(os.fsencode(tmp_path), b"r\xfcn"))
    assert main(["train", "--data", source, "--out", run, "--labels", *TINY]) == 0
    assert main(["report", run]) == 0
    for label in ("caf\\xe9", os.fsdecode(b"caf\xe9")):
        assert main(["sample", run, "--label", label, "--num", "2", "--separate"]) == 0
    assert main(["evaluate", run, "--data", source, "--metrics", "swd", "--num", "4", "--json"]) in (0, 2)
    out = tmp_path / "out"
    assert main(["prepare", source, str(out), "--workers", "1", "--json"]) == 0
    assert main(["data", "show", source, "--html", str(tmp_path / "a.html"), "--sheets", str(tmp_path / "s")]) == 0
    text = capsys.readouterr().out
    text.encode()
    assert "caf\\xe9" in text
    assert json.loads((out / "dataset.json").read_text())["label_names"] == ["caf\\xe9", "cat"]
    assert (out / "images.csv").read_text().splitlines()[1] == "caf\\xe9/0\\xe9.png,8,8"
    assert "caf\\xe9" in (tmp_path / "a.html").read_text()
    page = Path(run, "report.html").read_bytes().decode()
    assert "caf\\xe9" in page
    monkeypatch.chdir(run)
    assert main(["report", "."]) == 0
