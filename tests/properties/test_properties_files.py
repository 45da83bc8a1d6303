"""Our own files in any state: taken as they are meant, or refused with a word; nothing in them is run."""

import csv
import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import steps
from hostile import JSON, TEXTS, cases, changed, damaged, fine_or_refused, pickled
from progan import models, snapshot
from progan.cli.data import findings
from progan.config import OptimizerConfig, PrepareConfig, ProGANConfig, RunConfig, ScheduleConfig
from progan.data.dataset import Dataset
from progan.data.inspection import facts, inspect
from progan.data.prepare import prepare
from progan.data.split import split
from progan.images import to_pixels
from progan.importers import import_official
from progan.models import ImageShape
from progan.options import parse_json
from progan.run_folder import DataFacts, RunFolder
from progan.sampling.pictures import encode
from progan.snapshot import Snapshot, SnapshotInfo, of_generator
from progan.tensorfile import from_bytes, to_bytes
from progan.training import state as states
from progan.training.numerics import Numerics
from progan.training.observers.run_files import read_stats

MODEL = ProGANConfig(z_dim=4, fmap_base=16, fmap_max=4)
SHAPE = ImageShape(8, 1, 2)
NUMERICS = Numerics("cpu", "fp32", 1, torch.__version__)
PICKLE = Path(__file__).parents[1] / "reference" / "network-final-small-nosrc.pkl"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    monkeypatch.setattr(snapshot, "_MEAN_LATENTS", 10)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A snapshot with labels."""
    G, _ = models.build(MODEL, SHAPE, seed=3)
    config = RunConfig(model=MODEL, schedule=ScheduleConfig(resolution=8))
    info = SnapshotInfo(config, SHAPE, 8, 1.0, 1234, "digits", "attributes", ("hat=a", "hat=b"), "CC0")
    path = tmp_path_factory.mktemp("saved") / "a.safetensors"
    of_generator(G, info, torch.eye(2)).save(path)
    return path.read_bytes()


def signed(tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> bytes:
    """A file whose checksum is right."""
    return b"".join(to_bytes(tensors, {name: text for name, text in metadata.items() if name != "sha256"}))


def use(loaded: Snapshot, folder: Path) -> None:
    """What every command does with a snapshot."""
    info = loaded.info
    # By number, since a name may hold the comma that parts values.
    first = ["", 0] if info.label_kind == "attributes" else list(info.label_names[:1]) * 2
    rows = loaded.labels(first) if loaded.G.label_size else None
    images = loaded.generate(loaded.latents([0, 1]), rows, truncation=0.7)
    assert images.shape == (2, info.shape.channels, info.resolution, info.resolution)
    assert encode(to_pixels(images)[0], loaded, [0]).startswith(b"\x89PNG")
    loaded.save(folder / "again.safetensors")
    assert snapshot.load(folder / "again.safetensors").info == info


@cases
@given(data=st.data())
def test_damaged_snapshots(saved: bytes, tmp_path: Path, data: st.DataObject) -> None:
    (tmp_path / "x.safetensors").write_bytes(damaged(saved, data.draw))
    if loaded := fine_or_refused(lambda: snapshot.load(tmp_path / "x.safetensors")):
        use(loaded, tmp_path)


@cases
@given(data=st.data())
def test_snapshots_that_say_something_else(saved: bytes, tmp_path: Path, data: st.DataObject) -> None:
    metadata, tensors = from_bytes(saved)
    info = changed(json.loads(metadata["info"]), data.draw)
    content = signed(tensors, {**metadata, "info": json.dumps(info)})
    (tmp_path / "x.safetensors").write_bytes(content)
    if loaded := fine_or_refused(lambda: snapshot.load(tmp_path / "x.safetensors")):
        use(loaded, tmp_path)


def other(tensor: torch.Tensor, draw: Callable[[Any], Any]) -> torch.Tensor:
    """A tensor of another shape, type or content."""
    kind = draw(st.sampled_from([torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.bool, torch.float32]))
    shape = draw(st.just(list(tensor.shape)) | st.lists(st.integers(0, 5), max_size=4))
    return torch.full(shape, draw(st.sampled_from([0.0, 1e30, float("nan"), float("inf")]))).to(kind)


@pytest.mark.slow
@cases
@given(data=st.data())
def test_snapshots_with_other_tensors(saved: bytes, tmp_path: Path, data: st.DataObject) -> None:
    metadata, tensors = from_bytes(saved)
    name = data.draw(st.sampled_from(sorted(tensors)))
    match data.draw(st.sampled_from(["other", "other", "gone", "added"])):
        case "gone":
            del tensors[name]
        case "added":
            tensors[data.draw(TEXTS.filter(lambda text: text.isprintable()))] = torch.zeros(1)
        case _:
            tensors[name] = other(tensors[name], data.draw)
    (tmp_path / "x.safetensors").write_bytes(signed(tensors, metadata))
    if loaded := fine_or_refused(lambda: snapshot.load(tmp_path / "x.safetensors")):
        use(loaded, tmp_path)


def new_state(seed: int) -> states.TrainingState:
    return steps.new_state(MODEL, OptimizerConfig(), SHAPE, seed, NUMERICS)


@pytest.fixture(scope="module")
def older_and_newer(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Files of two states of a run, optimisers included."""
    state, paths = new_state(1), []
    for cur_nimg in (8, 16):
        for net, optimizer in ((state.G, state.g_optimizer), (state.D, state.d_optimizer)):
            for parameter in net.parameters():
                parameter.grad = torch.randn(parameter.shape).to(memory_format=torch.preserve_format)
            optimizer.step()
        state.cur_nimg, state.stage = cur_nimg, (8, "fade")
        paths.append(tmp_path_factory.mktemp("states") / f"{cur_nimg}.safetensors")
        paths[-1].write_bytes(state.serialize())
    return paths[0], paths[1]


@pytest.mark.slow
@cases
@given(data=st.data())
def test_training_states(older_and_newer: tuple[Path, Path], tmp_path: Path, data: st.DataObject) -> None:
    """A damaged newest state is taken whole, or the one before is."""
    older, newer = (path.read_bytes() for path in older_and_newer)
    if data.draw(st.booleans()):
        content = damaged(newer, data.draw)
    else:
        metadata, tensors = from_bytes(newer)
        if data.draw(st.booleans()):
            metadata["progress"] = json.dumps(changed(json.loads(metadata["progress"]), data.draw))
        else:
            name = data.draw(st.sampled_from(sorted(tensors)))
            tensors[name] = other(tensors[name], data.draw)
        content = signed(tensors, metadata)
    (tmp_path / "state-000000008.safetensors").write_bytes(older)
    (tmp_path / "state-000000016.safetensors").write_bytes(content)
    state, folder = new_state(2), states.StateFolder(tmp_path)
    folder.numerics()
    if problems := folder.restore(state):
        assert len(problems) == 1
        assert "\n" not in problems[0]
        assert state.serialize() == older
    else:
        restored, _ = from_bytes(state.serialize())
        assert type(state.cur_nimg) is int
        assert state.cur_nimg >= 0
        assert parse_json(Numerics, json.loads(restored["progress"])["numerics"]) == NUMERICS
    (tmp_path / "state-000000008.safetensors").write_bytes(b"")
    fine_or_refused(lambda: folder.restore(new_state(2)))


@cases
@given(data=st.data())
def test_run_folders(tmp_path: Path, data: st.DataObject) -> None:
    folder, seen = RunFolder(tmp_path / "run"), DataFacts("a", "b", "c", 3, 1, "class", ("x", "y"))
    folder.write(RunConfig(), seen)
    path = folder.path / "config.json"
    content = path.read_bytes()
    assert folder.read() == (RunConfig(), seen)
    if data.draw(st.booleans()):
        path.write_bytes(damaged(content, data.draw))
    else:
        path.write_text(json.dumps(changed(json.loads(content), data.draw)))
    if (found := fine_or_refused(folder.read)) is not None:
        _, known = found
        plain = {name: value for name, value in vars(seen).items() if name != "label_kind"}
        assert all(type(getattr(known, name)) is type(value) for name, value in plain.items())
        assert known.label_kind in (None, "class", "attributes")
        assert all(type(name) is str for name in known.label_names)


@cases
@given(data=st.data())
def test_statistics(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "stats.jsonl"
    lines = [{"cur_nimg": 100 * i, "loss": {"D": 0.5}} for i in range(4)]
    sound = "".join(json.dumps(line) + "\n" for line in lines).encode()
    path.write_bytes(sound)
    assert read_stats(path) == lines
    if data.draw(st.booleans()):
        path.write_bytes(damaged(sound, data.draw))
    else:
        path.write_text("".join(json.dumps(line) + "\n" for line in [*lines, data.draw(JSON), lines[0]]))
    found = fine_or_refused(lambda: read_stats(path))
    assert found is None or all(isinstance(line, dict) for line in found)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a prepared dataset."""
    folder = tmp_path_factory.mktemp("dataset")
    images = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), dtype=np.uint8)
    np.savez(folder / "x.npz", images=images, labels=np.array([0, 1, 2, 0, 1, 2]))
    prepare(folder / "x.npz", folder / "out", PrepareConfig(workers=1))
    return {path.name: path.read_bytes() for path in (folder / "out").iterdir()}


def look(folder: Path) -> None:
    """What commands do with a dataset."""
    opened = Dataset.open(folder)
    every = np.arange(opened.count)
    for resolution in opened.resolutions:
        assert opened.pixels(resolution, every).shape == (opened.count, opened.channels, resolution, resolution)
    labels = opened.labels(every)
    assert labels is None or labels.shape == (opened.count, len(opened.label_names))
    inspection = inspect(opened)
    assert all(isinstance(text, str) for _, text in [*facts(inspection), *findings(inspection)])
    split(folder, folder / "a", folder / "b", count=1)


@cases
@given(data=st.data())
def test_prepared_datasets(dataset: dict[str, bytes], tmp_path: Path, data: st.DataObject) -> None:
    folder = tmp_path / str(len(list(tmp_path.iterdir())))
    folder.mkdir()
    name = data.draw(st.sampled_from(["dataset.json", *sorted(dataset)]))
    for each, content in dataset.items():
        (folder / each).write_bytes(content)
    if name == "dataset.json" and data.draw(st.integers(0, 3)):
        (folder / name).write_text(json.dumps(changed(json.loads(dataset[name]), data.draw)))
    elif name == "images.csv" and data.draw(st.booleans()):
        text = io.StringIO()
        csv.writer(text).writerows(data.draw(st.lists(st.lists(TEXTS, max_size=4), max_size=8)))
        (folder / name).write_text("file,width,height\n" + text.getvalue(), errors="replace")
    else:
        (folder / name).write_bytes(damaged(dataset[name], data.draw))
    fine_or_refused(lambda: look(folder))


@pytest.mark.slow
@cases
@given(data=st.data())
def test_unfinished_preparations(tmp_path: Path, data: st.DataObject) -> None:
    """Whatever stands in the note of an unfinished preparation, what comes out is whole."""
    place = tmp_path / str(len(list(tmp_path.iterdir())))
    place.mkdir()
    np.save(place / "x.npy", np.random.default_rng(0).integers(0, 256, (6, 8, 8), dtype=np.uint8))

    class Stop(Exception):
        pass

    def stop(read: int, total: int) -> None:
        raise Stop

    config, out = PrepareConfig(workers=1), place / "out"
    with pytest.raises(Stop):
        prepare(place / "x.npy", out, config, stop)
    note = (out / "unfinished.json").read_bytes()
    if data.draw(st.booleans()):
        (out / "unfinished.json").write_bytes(damaged(note, data.draw))
    else:
        (out / "unfinished.json").write_text(json.dumps(changed(json.loads(note), data.draw)))
    if fine_or_refused(lambda: prepare(place / "x.npy", out, config)):
        opened = Dataset.open(out, verify=True)
        assert (opened.pixels(8, np.arange(6))[:, 0] == np.load(place / "x.npy")).all()


@pytest.mark.slow
@cases
@given(data=st.data())
def test_network_pickles(tmp_path: Path, data: st.DataObject) -> None:
    (tmp_path / "x.pkl").write_bytes(damaged(PICKLE.read_bytes(), data.draw))
    if imported := fine_or_refused(lambda: import_official(tmp_path / "x.pkl")):
        use(imported, tmp_path)


def test_pickles_in_the_place_of_our_files_are_not_run(tmp_path: Path) -> None:
    payload = pickled(tmp_path / "run")
    for name in ("x.safetensors", "state-000000008.safetensors", "config.json", "dataset.json", "stats.jsonl", "x.pkl"):
        (tmp_path / name).write_bytes(payload)
    for reader in (
        lambda: snapshot.load(tmp_path / "x.safetensors"),
        lambda: states.StateFolder(tmp_path).restore(new_state(2)),
        lambda: RunFolder(tmp_path).read(),
        lambda: Dataset.open(tmp_path),
        lambda: import_official(tmp_path / "x.pkl"),
    ):
        assert fine_or_refused(reader) is None
    fine_or_refused(lambda: read_stats(tmp_path / "stats.jsonl"))
    assert not (tmp_path / "run").exists()
