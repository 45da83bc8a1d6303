"""Beginning with something: what fits is taken, what does not is new and said, and the source is not needed again."""

import json
import shutil

import pytest
import torch

import progan
from official_pickles import SMALL
from progan import run
from progan.cli import main
from progan.config import PrepareConfig
from progan.data.prepare import prepare
from progan.errors import ConfigError, ProganError, RunError, SnapshotError
from progan.importers import import_network
from progan.run import FEW, advice, initial
from progan.run_folder import RunFolder
from progan.training import loop
from progan.training.state import StateFolder, parse
from tiny import TINY

pytestmark = pytest.mark.usefixtures("own_cache", "traced_once")
RUN = {**TINY, "data": "avatars:60", "stable_kimg": 0.04, "fade_kimg": 0.04}


@pytest.fixture(scope="module")
def source(tmp_path_factory, own_cache, traced_once):
    """A run at 8x8 in colour."""
    return progan.train(out=tmp_path_factory.mktemp("source") / "run", **RUN)


def tensors(folder: RunFolder, first: bool = False) -> dict[str, torch.Tensor]:
    """Weights and moments of the newest state, or of the first."""
    states = StateFolder(folder.state)
    position = (min if first else max)(states.positions())
    return parse((folder.state / f"state-{position:09d}.safetensors").read_bytes())[1]


def begun(out, monkeypatch, **options) -> tuple[progan.Run, dict[str, torch.Tensor]]:
    """A run that was stopped before its first iteration, and its state."""
    with monkeypatch.context() as patch:
        patch.setattr("progan.run.train_job", lambda job, watching, *_: False)
        made = progan.train(out=out, **{**RUN, **options})
    return made, tensors(made.folder)


def test_a_run_begins_with_all_networks_of_another(source, tmp_path, monkeypatch, capsys):
    made, found = begun(tmp_path / "run", monkeypatch, init=source.path, quiet=False)
    theirs = {name: value for name, value in tensors(source.folder).items() if ".adam." not in name}
    assert found.keys() == theirs.keys()
    assert all(torch.equal(found[name], value) for name, value in theirs.items())
    assert not torch.equal(found["G.conv.weight"], found["G_ema.conv.weight"])
    config, _ = made.folder.read()
    assert config.runtime.init == str(source.path)
    assert config.schedule.start_resolution == 8, "what it knows counts as grown"
    facts = made.folder.initial()
    assert facts["cur_nimg"] == source.cur_nimg
    assert facts["dataset"] == "avatars"
    assert len(facts["sha256"]) == 64
    assert facts["anew"] == {}
    said = capsys.readouterr().err
    assert f"begins with G and D of {source.path} (8x8, 0.12 kimg of avatars)" in said


def test_a_snapshot_gives_its_average_to_both_and_a_new_d(source, tmp_path, monkeypatch):
    path = source.folder.snapshot()
    line = initial.check(initial.read(str(path)), source.folder.read()[0], initial.read(str(path)).shape)
    assert "D is new, it has none" in line
    _, found = begun(tmp_path / "run", monkeypatch, init=path)
    average = progan.load(path).G.state_dict()
    assert all(
        torch.equal(found[f"{part}.{name}"], value) for name, value in average.items() for part in ("G", "G_ema")
    )
    assert not torch.equal(found["D.conv.weight"], tensors(source.folder)["D.conv.weight"])


def test_a_state_is_taken_as_its_run_is(source):
    paths = sorted(source.folder.state.glob("state-*.safetensors"))
    earlier = initial.read(str(paths[0]))
    assert earlier.facts["cur_nimg"] < source.cur_nimg
    assert earlier.weights.keys() == {"G", "D", "G_ema"}


@pytest.mark.slow
def test_a_pickle_of_the_authors_is_taken_with_its_licence(tmp_path, monkeypatch):
    snapshot = import_network(SMALL)
    shape = snapshot.info.shape
    prepare(
        "avatars:60",
        tmp_path / "data",
        PrepareConfig(resolution=shape.resolution, channels="grey" if shape.channels == 1 else "rgb"),
    )
    bare = {name: value for name, value in RUN.items() if name not in ("fmap_base", "fmap_max", "z_dim")}
    with monkeypatch.context() as patch:
        patch.setattr("progan.run.train_job", lambda job, watching, *_: False)
        options = {**bare, "data": tmp_path / "data", "resolution": shape.resolution, "init": SMALL, "total_kimg": 0.01}
        made = progan.train(out=tmp_path / "run", **options)
    found, expected = tensors(made.folder), snapshot.G.state_dict()
    same = [name for name in expected if torch.equal(found[f"G_ema.{name}"], expected[name])]
    assert set(expected) - set(same) <= {"dense.weight", "dense.bias"}, "labels make another first layer"
    assert made.folder.read()[0].model == snapshot.info.config.model, "built as it was there"
    assert made.folder.initial()["licence"] == "CC BY-NC 4.0"
    final = progan.train(out=tmp_path / "run", quiet=True)
    assert final.snapshot().info.licence == "CC BY-NC 4.0"


@pytest.mark.slow
def test_a_higher_final_resolution_goes_on_growing(source, tmp_path, monkeypatch):
    made, found = begun(tmp_path / "run", monkeypatch, init=source.path, resolution=16)
    config, theirs = made.folder.read()[0], tensors(source.folder)
    assert [(span.resolution, span.phase) for span in loop.Schedule(config.schedule).spans] == [
        (8, "stable"),
        (16, "fade"),
        (16, "stable"),
    ]
    assert all(torch.equal(found[name], value) for name, value in theirs.items() if ".adam." not in name)
    assert made.folder.initial()["anew"]["G"] == ["blocks.16.0", "blocks.16.1", "to_rgb.16"]
    # At the first resolution G makes the images that it made.
    whole = progan.train(out=tmp_path / "run", quiet=True)
    assert whole.snapshot().resolution == 16


def test_grey_images_give_new_layers_at_the_images_only(source, tmp_path, monkeypatch):
    prepare("avatars:60", tmp_path / "grey", PrepareConfig(resolution=8, channels="grey"))
    made, found = begun(tmp_path / "run", monkeypatch, init=source.path, data=tmp_path / "grey")
    assert made.folder.initial()["anew"] == {"G": ["to_rgb.4", "to_rgb.8"], "D": ["from_rgb.8", "from_rgb.4"]}
    assert torch.equal(found["G.conv.weight"], tensors(source.folder)["G.conv.weight"])
    assert torch.equal(found["G.to_rgb.8.weight"], found["G_ema.to_rgb.8.weight"])


@pytest.mark.slow
def test_labels_give_new_first_and_last_layers(source, tmp_path, monkeypatch):
    made, _ = begun(tmp_path / "run", monkeypatch, init=source.path, labels=True)
    assert made.folder.initial()["anew"] == {"G": ["dense"], "D": ["dense1"]}


def test_an_explicit_width_is_kept_and_said(source, tmp_path):
    config = run.configure(None, None, None, {**{k: v for k, v in RUN.items() if k != "quiet"}, "init": source.path})
    wider = run.configure(
        None, None, None, {**{k: v for k, v in RUN.items() if k != "quiet"}, "init": source.path, "fmap_base": 32}
    )
    assert config.model.fmap_base == 512
    assert wider.model.fmap_base == 32
    known = initial.read(str(source.path))
    line = initial.check(known, wider, known.shape)
    assert "options of the model that differ: fmap-base 512 -> 32" in line
    assert "\n" not in line


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"init": "nowhere"}, "--init nowhere does not exist"),
        ({"fmap_max": 3}, "no layer of its G fits .fmap-max 8 -> 3"),
        ({"use_wscale": False}, "leave out --use-wscale"),
        ({"model": "dcgan", "start_resolution": 8}, "has networks of --model progan, not dcgan"),
    ],
)
@pytest.mark.parametrize("dry", [False, True])
def test_what_cannot_begin_is_one_line_and_leaves_nothing(options, message, dry, source, tmp_path):
    width = {} if "model" not in options else {"fmap_base", "fmap_max", "z_dim"}
    given = {name: value for name, value in RUN.items() if name not in {*width, "quiet"}}
    given |= {"init": source.path, **options}
    with pytest.raises(ConfigError, match=message) as error:
        run.dry_run(**given) if dry else progan.train(out=tmp_path / "run", quiet=True, **given)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


def test_a_file_of_another_kind_is_refused(tmp_path):
    (tmp_path / "note.txt").write_text("hello")
    (tmp_path / "folder").mkdir()
    for path, error in (("note.txt", SnapshotError), ("folder", RunError)):
        with pytest.raises(error) as said:
            initial.read(str(tmp_path / path))
        assert "\n" not in str(said.value)


def test_networks_that_do_not_grow_keep_their_resolution(tmp_path):
    options = {"data": "avatars:60", "resolution": 8, "start_resolution": 8, "stable_kimg": 0.02, "batch_size": 4}
    options |= {"model": "dcgan", "width": 4, "z_dim": 8, "device": "cpu", "precision": "fp32", "quiet": True}
    dcgan = progan.train(out=tmp_path / "dcgan", **options)
    known = initial.read(str(dcgan.path))
    config = run.configure(None, None, None, {"init": dcgan.path, "resolution": 8})
    assert config.model.kind == "dcgan"
    assert "new in" not in initial.check(known, config, known.shape)
    with pytest.raises(ConfigError, match="give it --resolution 8"):
        initial.check(known, run.configure(None, None, None, {"init": dcgan.path, "resolution": 16}), known.shape)


def test_a_dry_run_says_what_it_would_begin_with(source, capsys):
    assert main(["train", "--dry-run", "--data", "avatars:60", "--resolution", "16", "--init", str(source.path)]) == 0
    said = capsys.readouterr().out
    assert "begins with G and D" in said
    assert "new in G: blocks.16.0" in said
    assert "4x4" not in said.split("new in")[0].split("stage")[1]


@pytest.mark.slow
def test_a_stopped_run_goes_on_to_the_same_bits_when_its_source_is_gone(source, tmp_path, monkeypatch):
    gone = shutil.copytree(source.path, tmp_path / "gone")
    options = {**RUN, "init": gone, "fade_kimg": 0.08, "resolution": 16}
    whole = progan.train(out=tmp_path / "whole", **options)
    original, calls = loop.train, iter(range(1000))
    for stop in (0, 12):
        with monkeypatch.context() as patch:
            patch.setattr(
                "progan.run.train_job",
                lambda job, watching, *_, stop=stop: original(job, watching, lambda: next(calls) >= stop),
            )
            assert not progan.train(out=tmp_path / "run", **options).finished
        shutil.rmtree(gone, ignore_errors=True)
    rest = progan.train("quickstart", out=tmp_path / "run", **options)  # the same command
    assert rest.finished
    ours, theirs = tensors(rest.folder), tensors(whole.folder)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], value) for name, value in theirs.items())


def test_a_run_killed_before_its_first_tick_needs_no_source(source, tmp_path, monkeypatch):
    gone = shutil.copytree(source.path, tmp_path / "gone")
    begun(tmp_path / "run", monkeypatch, init=gone)
    shutil.rmtree(gone)
    assert progan.train(out=tmp_path / "run", quiet=True).finished


# What may change on the way (--allow-change).


def test_a_learning_rate_may_change_and_the_history_says_that_it_is_another_run(tmp_path, capsys):
    first = progan.train(out=tmp_path / "run", **{**RUN, "total_kimg": 0.04})
    more = {"total_kimg": 0.08, "lr": 0.0005, "ema_decay": 0.99}
    with pytest.raises(RunError, match="Add --allow-change"):
        progan.train(out=tmp_path / "run", **more)
    rest = progan.train(out=tmp_path / "run", allow_change=True, **more)
    assert "from 0.04 kimg on it is not the run that was begun: " in capsys.readouterr().err
    (entry,) = rest.folder.changes()
    assert entry["cur_nimg"] == first.cur_nimg
    assert entry["inexact"] is True
    assert entry["changes"] == ["total-kimg: 0.04 -> 0.08", "lr: 0.002 -> 0.0005", "ema-decay: 0.999 -> 0.99"]
    lines = [json.loads(line) for line in rest.folder.stats.read_text().splitlines()]
    assert lines[-1]["lr"] == 0.0005
    longer = progan.train(out=tmp_path / "run", total_kimg=0.12, allow_change=True, quiet=True)
    assert "inexact" not in longer.folder.changes()[-1]


def test_images_may_be_added(tmp_path):
    for count in (60, 80, 40):
        prepare(f"avatars:{count}", tmp_path / str(count), PrepareConfig(resolution=8))
    prepare("avatars:80", tmp_path / "grey", PrepareConfig(resolution=8, channels="grey"))
    options = {**RUN, "data": tmp_path / "60", "total_kimg": 0.04}
    first = progan.train(out=tmp_path / "run", **options)
    with pytest.raises(RunError, match="--allow-change goes on with images that were added"):
        progan.train(out=tmp_path / "run", data=tmp_path / "80", quiet=True)
    for other in ("40", "grey"):
        with pytest.raises(RunError, match="begun with other images"):
            progan.train(out=tmp_path / "run", data=tmp_path / other, allow_change=True, quiet=True)
    rest = progan.train(out=tmp_path / "run", data=tmp_path / "80", allow_change=True, total_kimg=0.08, quiet=True)
    assert rest.finished
    config, data = rest.folder.read()
    assert (data.count, config.dataset.data) == (80, str(tmp_path / "80"))
    (entry,) = rest.folder.changes()
    assert entry["inexact"] is True
    assert entry["cur_nimg"] == first.cur_nimg
    assert any(line.startswith("data: images: 60 -> 80") for line in entry["changes"])
    # From here on it goes on without the flag, and not with what it had.
    assert progan.train(out=tmp_path / "run", quiet=True).finished
    with pytest.raises(ProganError, match="begun with other images"):
        progan.train(out=tmp_path / "run", data=tmp_path / "60", quiet=True, allow_change=True)


def test_the_history_survives_what_began_and_what_changed(source, tmp_path, monkeypatch):
    made, _ = begun(tmp_path / "run", monkeypatch, init=source.path)
    facts = made.folder.initial()
    rest = progan.train(out=tmp_path / "run", allow_change=True, total_kimg=0.08, lr=0.0002, quiet=True)
    assert rest.folder.initial() == facts
    assert rest.folder.changes()[0]["inexact"] is True


def test_few_images_get_one_line_of_advice_that_names_what_is_not_used_yet(tmp_path, capsys):
    progan.train(out=tmp_path / "run", **{**RUN, "data": "avatars:20", "total_kimg": 0.04, "quiet": False})
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "from 20 images" in line]
    assert all(name in line for name in ("--augment", "--mirror", "--init"))
    config, _ = RunFolder(tmp_path / "run").read()
    assert advice(config, FEW) is None
    used = run.configure(None, "x", None, {"augment": "ada", "mirror": True})
    assert "--augment" not in str(advice(used, 3))
    assert "--mirror" not in str(advice(used, 3))
