"""The command line, as people call it."""

import json
import subprocess
import sys

import pytest
from PIL import Image

from progan.cli import main
from progan.cli.sample import parse_seeds
from progan.errors import ConfigError

pytestmark = pytest.mark.usefixtures("traced_once")

TINY = (
    "--data avatars:32 --resolution 8 --stable-kimg 0.05 --fade-kimg 0.05 --batch-size 8 --fmap-max 8 --z-dim 8 "
    "--device cpu --precision fp32"
).split()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run folder made by the command."""
    folder = tmp_path_factory.mktemp("cli")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PROGAN_CACHE", str(folder / "cache"))
        patch.chdir(folder)
        assert main(["train", *TINY, "--quiet"]) == 0
    return folder / "runs" / "00000-quickstart-avatars"


def test_without_out_a_numbered_folder_is_made(run):
    assert (run / "config.json").exists()


def test_json_is_one_object_and_nothing_else(run, capsys):
    assert main(["train", "--out", str(run), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["finished"]
    assert main(["train", "celeba64", "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["images"] == 10_000_000
    assert main(["doctor", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["--device auto"]


def test_sample_writes_a_grid_of_the_size_asked_for(run, tmp_path, capsys):
    assert main(["sample", str(run), "--num", "6", "--columns", "3", "--out", str(tmp_path / "g.png")]) == 0
    assert Image.open(tmp_path / "g.png").size == (24, 16)
    assert str(tmp_path / "g.png") in capsys.readouterr().out


def test_sample_takes_the_resolutions_own_snapshot_of_a_run(run, tmp_path, capsys):
    main(["sample", str(run), "--resolution", "4", "--num", "1", "--out", str(tmp_path / "a.png"), "--json"])
    report = json.loads(capsys.readouterr().out)
    assert report["resolution"] == 4
    newest = next((run / "snapshots").glob("*-8x8.safetensors"))
    main(["sample", str(newest), "--resolution", "4", "--num", "1", "--out", str(tmp_path / "b.png")])
    assert "box-averaged from 8x8" in capsys.readouterr().out


def test_sample_separate_files_and_seeds(run, tmp_path):
    assert main(["sample", str(run), "--seeds", "3,5-6", "--separate", "--out", str(tmp_path / "many")]) == 0
    assert sorted(path.name for path in (tmp_path / "many").iterdir()) == [
        "seed-0000003.png", "seed-0000005.png", "seed-0000006.png",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "required"),
        (["tarin"], "invalid choice"),
        (["train", "--batch-szie", "3"], "--batch-szie. `progan train --help`"),
        (["train", "--lr", "fast"], "--lr"),
        (["train", "--resolution", "48", "--dry-run"], "--resolution must be a power of two"),
        (["train", "--loss", "hinges", "--dry-run"], "--loss must be one of"),
        (["train", "mnist32"], "--data"),
        (["train", "--out", "/dev/null/x", *TINY], "/dev/null/x"),
        (["sample", "nowhere"], "does not exist"),
        (["sample", ".", "--num", "3"], "no snapshot"),
        (["sample", "nowhere", "--seeds", "3-"], "does not exist"),
        (["sample", "nowhere", "--num", "x"], "--num"),
    ],
)
def test_a_mistake_gets_one_line_and_exit_code_2(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("PROGAN_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    captured = capsys.readouterr()
    lines = [line for line in captured.err.splitlines() if not line.startswith(("preparing", "avatars"))]
    assert len(lines) == 1
    assert message in lines[0]
    assert captured.out == ""


def test_seeds():
    assert parse_seeds("3,7,20-22") == [3, 7, 20, 21, 22]
    for text in ("", "a", "1,,2", "-3", "4-x"):
        with pytest.raises(ConfigError, match="3,7,20-29"):
            parse_seeds(text)


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["sample", "--help"], ["--version"]])
def test_help_is_there_without_torch(arguments):
    lines = ["import sys", "from progan.cli import main", "sys.argv = ['progan']"]
    lines += [f"try: main({arguments})", "finally: print('torch' in sys.modules)"]
    code = "\n".join(lines)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"
    assert "progan" in done.stdout


def test_cache_is_listed_and_cleared(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PROGAN_CACHE", str(tmp_path))
    main(["train", *TINY, "--total-kimg", "0.01", "--quiet", "--out", str(tmp_path / "run")])
    assert main(["cache", "list", "--json"]) == 0
    (entry,) = json.loads(capsys.readouterr().out)["entries"]
    assert entry["complete"]
    assert main(["cache", "clear"]) == 0
    assert main(["cache", "list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["entries"] == []
