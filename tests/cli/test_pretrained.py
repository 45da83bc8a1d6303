"""The generator in the package: every command takes it by its name, or where nothing is named."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

import progan
from progan import pretrained, sampling
from progan.cli import main, parser
from progan.errors import SnapshotError
from progan.presets import preset
from progan.run_folder import RunFolder

pytestmark = pytest.mark.usefixtures("traced_once")

RESOLUTIONS = (4, 8, 16, 32, 64)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """A working directory of the test's own, with an empty cache."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PROGAN_CACHE", str(tmp_path / "cache"))


def test_it_makes_images_of_every_resolution():
    for resolution in RESOLUTIONS:
        made = progan.load(pretrained.DEFAULT, resolution)
        images = made.generate(made.latents(range(4)))
        assert images.shape == (4, 3, resolution, resolution)
        assert images.std() > 0.2


def test_it_is_small_and_says_where_it_comes_from():
    folder = RunFolder(pretrained.locate(pretrained.DEFAULT))
    assert sum(path.stat().st_size for path in folder.path.rglob("*") if path.is_file()) <= 8_000_000
    config, data = folder.read()
    assert config == preset(pretrained.DEFAULT)
    assert data.path == "avatars"  # nothing of the machine that trained it
    assert sampling.load(folder.path).info.licence == "MIT"


def test_no_block_of_a_higher_resolution_is_kept():
    low, high = (progan.load(pretrained.DEFAULT, resolution) for resolution in (16, 64))
    assert sum(p.numel() for p in low.G.parameters()) < sum(p.numel() for p in high.G.parameters())
    assert not torch.equal(low.mean, high.mean)  # trained on since then


@pytest.mark.parametrize("source", [[], [pretrained.DEFAULT]])
def test_sample_needs_no_training_and_no_argument(source, tmp_path, capsys):
    assert main(["sample", *source, "--num", "4"]) == 0
    assert Image.open(tmp_path / "generated.png").size == (128, 128)
    assert capsys.readouterr().out.startswith("4 images of 64x64: generated.png")


def test_interpolate_find_and_share_need_none_either(tmp_path):
    assert main(["interpolate", "--pairs", "1:2", "--frames", "3"]) == 0
    assert Image.open(tmp_path / "interpolation.png").size[0] == 192
    Image.new("RGB", (64, 64)).save("a.png")
    assert main(["find", "--steps", "1", "a.png", "--no-reals", "--quiet"]) == 0
    assert (tmp_path / "found-a" / "found.png").exists()
    assert main(["share", "out"]) == 0
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert 'license: "mit"' in card
    assert "swd" in card.lower()


@pytest.mark.parametrize(("there", "shown"), [([], pretrained.FOLDER / pretrained.DEFAULT), (["runs"], Path("runs"))])
def test_the_app_shows_it_where_there_are_no_runs(there, shown, monkeypatch):
    served = []
    monkeypatch.setattr("progan.app.server.serve", lambda source, *_: served.append(source))
    for name in there:
        Path(name).mkdir()
    assert main(["app"]) == 0
    assert served == [shown]


@pytest.mark.slow
def test_evaluate_compares_with_what_it_was_trained_on(capsys):
    assert main(["evaluate", "--resolution", "16", "--num", "64", "--metrics", "swd", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["source"], facts["dataset"], facts["resolution"]) == (pretrained.DEFAULT, "avatars", 16)


def test_words_and_options_may_stand_in_any_order():
    find = parser().commands()["find"]
    for words in (["a.png"], [pretrained.DEFAULT, "a.png"]):
        for place in range(len(words) + 1):
            given = find.parse_args([*words[:place], "--steps", "7", *words[place:], "--no-reals", "--seed=-3"])
            assert (given.source, given.image) == (pretrained.DEFAULT, "a.png")
            assert (given.steps, given.seed, given.no_reals) == (7, -3, True)


def test_a_path_of_that_name_wins_and_is_said(tmp_path, capsys):
    (tmp_path / pretrained.DEFAULT).mkdir()
    assert main(["sample"]) == 2
    said = capsys.readouterr().err
    assert "is the one here" in said
    assert "is not a run folder" in said


def test_another_name_is_no_generator():
    with pytest.raises(SnapshotError, match=r"the name of a generator in the package \(avatars64\)"):
        sampling.load("avatars65")


@pytest.mark.parametrize("network", ["D", "G"])
def test_there_is_no_other_network_to_wait_for(network):
    with pytest.raises(SnapshotError, match=r"avatars64 holds no .*: give the folder of the run"):
        progan.load(pretrained.DEFAULT, network=network)


@pytest.mark.slow
def test_a_run_begins_with_it(tmp_path):
    from tiny import TINY

    options = {**TINY, "data": "avatars:64", "init": pretrained.DEFAULT, "total_kimg": 0.05, "resolution": 64}
    model = {"z_dim": 128, "fmap_base": 1024, "fmap_max": 64}
    run = progan.train(**{**options, **model}, out=tmp_path / "run")
    begun = RunFolder(Path(run.path)).initial()
    assert begun["dataset"] == "avatars"
    assert Path(begun["path"]).is_relative_to(pretrained.FOLDER)
