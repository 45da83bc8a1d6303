"""Files of earlier versions are read, and give the numbers they gave then; files of later ones are refused."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from progan import snapshot
from progan.cli import parser
from progan.data.dataset import Dataset
from progan.errors import RunError, SnapshotError
from progan.files import write_whole
from progan.models import ImageShape
from progan.report.run_page import run_page
from progan.run_folder import DataFacts, RunFolder
from progan.tensorfile import DamagedError, from_bytes, to_bytes
from progan.training import state as states
from progan.training.numerics import Numerics
from progan.training.observers.run_files import read_stats
from steps import new_state

FIXTURES = Path(__file__).parent / "fixtures"
OPTIONS = json.loads((FIXTURES / "options-0.1.json").read_text(encoding="utf-8"))
V1 = FIXTURES / "run-v1"
"""A run of the first version, before files had checksums: avatars with labels, stopped in the fade from 4x4 to 8x8."""


def total(tensors) -> float:
    return sum(float(value.double().abs().sum()) for value in tensors)


def restored(folder: Path) -> states.TrainingState:
    config, data = RunFolder(folder).read()
    shape = ImageShape(config.schedule.resolution, data.channels, len(data.label_names))
    state = new_state(config.model, config.optimizer, shape, 1, Numerics("cpu", "fp32", 1, ""))
    assert states.StateFolder(folder / "state").restore(state) == []
    return state


def test_the_first_version_of_a_state():
    state = restored(V1)
    assert (state.cur_nimg, state.stage, state.skipped) == (96, (8, "fade"), {"D": 0, "G": 0})
    assert (state.g_optimizer.updates, state.d_optimizer.updates) == (5, 5)
    networks = [net.state_dict().values() for net in (state.G, state.D, state.G_ema)]
    moments = [
        moment
        for adam in (state.g_optimizer, state.d_optimizer)
        for entry in adam.state.values()
        for moment in (entry["exp_avg"], entry["exp_avg_sq"])
    ]
    assert total([*networks[0], *networks[1], *networks[2], *moments]) == pytest.approx(3337.058865445868, rel=1e-12)
    assert states.StateFolder(V1 / "state").numerics() == Numerics("cpu", "fp32", 1, "2.13.0+cpu")


def test_the_first_version_of_a_snapshot():
    made = snapshot.load(V1 / "snapshots" / "generator-000000096-8x8.safetensors")
    assert (made.info.cur_nimg, made.info.alpha, made.resolution, made.info.dataset) == (96, 0.76, 8, "avatars")
    images = made.generate(made.latents([7]), made.labels(["hat=cap"]))
    assert images[0, :, 3, 5].tolist() == pytest.approx([1.55221498, 0.81878155, 0.70467734], abs=1e-5)
    assert total([images]) == pytest.approx(165.2079, abs=1e-3)


def test_the_first_version_of_a_configuration():
    config, data = RunFolder(V1).read()
    assert (config.schedule.total_kimg, config.model.z_dim, config.dataset.labels) == (0.09, 4, True)
    assert config.runtime.tick_kimg.at(64) == 0.03
    assert (data.fingerprint, data.count, len(data.label_names)) == ("6b9d8ba503cea00d5bd906dcf52f6861", 64, 49)
    assert (data.resolutions, data.files, RunFolder(V1).changes()) == ((), {}, [])


def test_the_first_version_of_a_dataset():
    dataset = Dataset.open(FIXTURES / "dataset-v1", verify=True)
    assert (dataset.name, dataset.count, dataset.resolutions, dataset.label_kind) == (
        "avatars",
        16,
        (4, 8),
        "attributes",
    )
    assert dataset.fingerprint == "0a75e09892891ad24372c77a19e58875"
    labels = dataset.labels(np.arange(16))
    assert labels is not None
    assert (int(dataset.pixels(8, np.arange(16)).sum()), labels.shape, int(labels.sum())) == (510_673, (16, 49), 160)


def test_the_first_version_of_statistics():
    lines = read_stats(FIXTURES / "stats-v1.jsonl")
    assert [(line["cur_nimg"], line["resolution"], line["phase"]) for line in lines][:3] == [
        (32, 4, "stable"), (48, 4, "stable"), (80, 8, "fade"),
    ]  # fmt: skip
    assert all({"D/real", "D/fake", "D/penalty", "G/fake", "alpha", "img_per_sec"} <= line.keys() for line in lines)


@pytest.mark.slow
def test_a_run_of_the_first_version_gets_a_page_with_its_curves(tmp_path):
    shutil.copytree(V1, tmp_path / "run")
    shutil.copy(FIXTURES / "stats-v1.jsonl", tmp_path / "run" / "stats.jsonl")
    page = run_page(RunFolder(tmp_path / "run"))
    assert page.count("<svg") >= 3, "losses of D and of G, and the speed"
    assert "0.12 thousand real images" in page


@pytest.mark.parametrize("command", OPTIONS)
def test_no_command_or_option_of_an_earlier_version_is_gone(command):
    """From 1.0 on only a major version may remove one; before, a minor version may: then it gets a list of its own."""
    leaf = parser()
    for name in command.split():
        leaf = leaf.commands()[name]
    assert set(OPTIONS[command]) <= leaf._option_string_actions.keys()


def test_a_state_written_anew_holds_the_same(tmp_path):
    state = restored(V1)
    shutil.copy(V1 / "config.json", tmp_path)
    path = states.StateFolder(tmp_path / "state").write(state)
    again = restored(tmp_path)
    assert again.pieces()[1] == state.pieces()[1] == from_end(path)
    assert "sha256" in from_bytes(path.read_bytes())[0]


def from_end(path: Path) -> bytes:
    content = path.read_bytes()
    return content[8 + int.from_bytes(content[:8], "little") :]


def test_equal_snapshots_are_equal_files(tmp_path):
    made = snapshot.load(V1 / "snapshots" / "generator-000000096-8x8.safetensors")
    made.save(tmp_path / "a")
    snapshot.load(tmp_path / "a").save(tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def newer(folder: Path, name: str) -> Path:
    """A file of the fixture as version 99 would write it, in a copy of the run."""
    shutil.copytree(V1, folder)
    path = folder / name
    metadata, tensors = from_bytes(path.read_bytes())
    write_whole(path, *to_bytes(tensors, {**metadata, "version": "99"}))
    return path


def test_a_state_of_a_newer_version_is_refused_even_if_an_older_one_lies_there(tmp_path):
    newer(tmp_path / "run", "state/state-000000096.safetensors")
    shutil.copy(
        V1 / "state" / "state-000000096.safetensors", tmp_path / "run" / "state" / "state-000000050.safetensors"
    )
    for read in (lambda: restored(tmp_path / "run"), states.StateFolder(tmp_path / "run" / "state").numerics):
        with pytest.raises(RunError, match="format version 99; this progan reads 1") as error:
            read()
        assert "\n" not in str(error.value)


def test_a_snapshot_of_a_newer_version_is_refused(tmp_path):
    path = newer(tmp_path / "run", "snapshots/generator-000000096-8x8.safetensors")
    with pytest.raises(SnapshotError, match="format version 99, this progan reads 2") as error:
        snapshot.load(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 99}, "format version 99, this progan reads up to 2. Use a newer one"),
        ({"format": "something"}, "not that of a run of progan"),
        ({"dataset": {}}, "cannot be read"),
    ],
)
def test_a_configuration_that_cannot_be_read_is_refused(change, message, tmp_path):
    content = json.loads((V1 / "config.json").read_text()) | change
    (tmp_path / "config.json").write_text(json.dumps(content))
    with pytest.raises(RunError, match=message) as error:
        RunFolder(tmp_path).read()
    assert "\n" not in str(error.value)


def test_what_a_run_remembers_of_its_data_comes_back(tmp_path):
    config, _ = RunFolder(V1).read()
    data = DataFacts("a", "b", "c", 3, 1, "class", ("x", "y"), (4, 8), {"images-0004": "d"})
    RunFolder(tmp_path).write(config, data, [{"cur_nimg": 7, "changes": ["lr: 1 -> 2"]}])
    assert RunFolder(tmp_path).read() == (config, data)
    assert RunFolder(tmp_path).changes() == [{"cur_nimg": 7, "changes": ["lr: 1 -> 2"]}]


def test_every_single_flipped_bit_is_noticed_or_does_no_harm():
    tensors = {"b": torch.tensor([1.0, 2.0]), "a": torch.tensor([3])}
    content = b"".join(to_bytes(tensors, {"format": "x", "version": "1"}))
    assert from_bytes(content)[1].keys() == tensors.keys()
    unnoticed = set()
    for bit in range(8 * len(content)):
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        try:
            metadata, found = from_bytes(bytes(flipped))
        except ValueError:
            continue
        unnoticed.add(bit // 8)
        assert all(torch.equal(found[name], tensors[name]) for name in tensors)
        assert (metadata["format"], metadata["version"]) == ("x", "1")
    key = content.index(b"sha256")
    assert unnoticed <= set(range(key, key + 6))  # the name of the checksum itself


@pytest.mark.parametrize("length", [1, 8, 100, -1, -8])
def test_a_file_cut_short_is_noticed(length):
    content = b"".join(to_bytes({"a": torch.ones(100)}, {"format": "x"}))
    with pytest.raises(DamagedError if length < 0 else ValueError):
        from_bytes(content[:length])
