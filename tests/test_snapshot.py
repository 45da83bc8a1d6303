"""Snapshots: what goes in comes out, on any batch, and nothing else gets in."""

import json
from dataclasses import replace

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image

from progan import models, randomness, sampling, snapshot
from progan.cli import main
from progan.config import ProGANConfig, RunConfig, ScheduleConfig
from progan.errors import SnapshotError
from progan.images import downscale, to_pixels
from progan.models import ImageShape
from progan.sampling.pictures import Drawing, write_files
from progan.snapshot import SnapshotInfo, of_generator

MODEL = ProGANConfig(z_dim=8, fmap_base=64, fmap_max=8)


def make(labels: int = 0, channels: int = 3) -> snapshot.Snapshot:
    shape = ImageShape(16, channels, labels)
    G, _ = models.build(MODEL, shape, seed=3)
    config = RunConfig(model=MODEL, schedule=ScheduleConfig(resolution=16))
    names = tuple(f"class{i}" for i in range(labels))
    info = SnapshotInfo(config, shape, 16, 1.0, 1234, "digits", "class" if labels else None, names)
    return of_generator(G.to(memory_format=torch.channels_last), info, torch.eye(labels) if labels else None)


@pytest.fixture
def saved(tmp_path):
    made = make()
    made.save(tmp_path / "a.safetensors")
    return made, tmp_path / "a.safetensors"


def test_a_saved_snapshot_comes_back_the_same(saved):
    made, path = saved
    loaded = snapshot.load(path)
    assert loaded.info == made.info
    z = made.latents(range(5))
    assert torch.equal(loaded.generate(z), made.generate(z))
    assert torch.equal(loaded.mean, made.mean)
    assert loaded.digest


def test_a_seed_is_the_same_picture_in_any_batch(saved):
    made, _ = saved
    whole = made.generate(made.latents(range(20)), batch_size=20)
    parts = torch.cat([made.generate(made.latents([seed])) for seed in range(20)])
    torch.testing.assert_close(whole, parts, rtol=0, atol=1e-5)


def test_truncation_pulls_the_first_activation_to_its_mean(saved):
    made, _ = saved
    z = made.latents(range(50))
    none, half, full = (made.generate(z, truncation=psi) for psi in (0.0, 0.5, 1.0))
    assert none.std(0).max() == 0  # everybody is the mean
    assert 0 < half.std(0).mean() < full.std(0).mean()
    z = torch.from_numpy(randomness.latents(range(10_000), 8))
    torch.testing.assert_close(made.mean, made.G.embed(z).mean(0), rtol=1e-4, atol=1e-5)


def test_a_lower_resolution_is_the_average_of_the_output(saved):
    made, _ = saved
    z = made.latents(range(3))
    torch.testing.assert_close(made.generate(z, resolution=4), downscale(made.generate(z), 4))
    with pytest.raises(SnapshotError, match="makes 16x16"):
        made.generate(z, resolution=32)


def test_labels_by_name_and_index():
    made = make(labels=3)
    assert torch.equal(made.labels(["class1", 2]), torch.eye(3)[[1, 2]])
    with pytest.raises(SnapshotError, match=r"no label '2'.* index 2 is called 'class2' \(--label-index 2\)"):
        made.labels(["2"])
    for index in (3, -1):
        with pytest.raises(SnapshotError, match=f"no label with index {index}; this snapshot has 3, from 0"):
            made.labels([index])
    with pytest.raises(SnapshotError, match="knows class0, class1, class2"):
        made.labels(["cat"])
    with pytest.raises(SnapshotError, match="needs labels"):
        made.generate(made.latents([1]))
    batches = list(Drawing(made, range(7), ["class1"] * 7).pixels(batch_size=2))
    assert [len(batch) for batch in batches] == [2, 2, 2, 1]
    # Names that are numbers are names: 7 is not the eighth.
    made.info = replace(made.info, label_names=("7", "0", "2"))
    assert torch.equal(made.labels(["7", "0", 0, "2"]), torch.eye(3)[[0, 1, 0, 2]])


def test_sample_takes_names_and_indices_in_their_order(tmp_path, capsys):
    make(labels=3).save(tmp_path / "a.safetensors")
    command = ["sample", str(tmp_path / "a.safetensors"), "--seeds", "5", "--separate", "--out", str(tmp_path / "out")]
    assert main([*command, "--label-index", "2", "--label", "class0"]) == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "seed-0000005-class0.png",
        "seed-0000005-class2.png",
    ]
    assert main([*command, "--label", "2"]) == 2
    assert "(--label-index 2)" in capsys.readouterr().err
    # Classes without names, as those of imported pickles, are called by their numbers, and that is said.
    made = make(labels=3)
    made.info = replace(made.info, label_names=("0", "1", "2"))
    made.save(tmp_path / "a.safetensors")
    assert main([*command, "--label", "2"]) == 0
    assert "these classes are called by their numbers" in capsys.readouterr().err


@pytest.mark.parametrize("channels", [1, 3])
def test_files_say_where_they_come_from(channels, tmp_path):
    made = make(channels=channels)
    write_files(tmp_path / "out", Drawing(made, [7, 9]))
    picture = Image.open(tmp_path / "out" / "seed-0000009.png")
    assert picture.text["seed"] == "9"
    expected = to_pixels(made.generate(made.latents([9])))[0].permute(1, 2, 0).numpy()
    assert np.array_equal(np.array(picture).reshape(16, 16, channels), expected)


def edited(path, change):
    """The file with its header changed, and no checksum that would say so."""
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    del header["__metadata__"]["sha256"]
    change(header["__metadata__"])
    header = json.dumps(header).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + content[8 + size :])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: path.unlink(), "cannot be read"),
        (lambda path: path.write_bytes(b""), "not a snapshot"),
        (lambda path: path.write_bytes(path.read_bytes()[:-10]), "damaged: its bytes do not fit its checksum"),
        (lambda path: path.write_bytes(path.read_bytes()[:100]), "not a snapshot"),
        (lambda path: path.write_bytes(b"\x80\x04K\x01."), "not a snapshot"),
        (lambda path: safetensors.torch.save_file({"a": torch.ones(1)}, path), "not a snapshot of progan"),
        (lambda path: edited(path, lambda meta: meta.update(version="99")), "version 99"),
        (lambda path: edited(path, lambda meta: meta.update(info="{}")), "damaged"),
        (lambda path: edited(path, lambda meta: meta.update(info="[")), "damaged"),
        (
            lambda path: edited(
                path, lambda meta: meta.update(info=json.dumps({**json.loads(meta["info"]), "alpha": 10**400}))
            ),
            "damaged",
        ),
        (
            lambda path: edited(path, lambda meta: meta.update(info=meta["info"].replace('"z_dim": 8', '"z_dim": 9'))),
            "damaged",
        ),
    ],
)
def test_what_is_no_snapshot_is_refused_in_one_line(spoil, message, saved):
    _, path = saved
    spoil(path)
    with pytest.raises(SnapshotError, match=message) as error:
        snapshot.load(path)
    assert "\n" not in str(error.value)


def test_attributes_are_put_into_rows_of_the_data(tmp_path):
    names = ("hat=none", "hat=cap", "hat=sunhat", "beard=none", "beard=full")
    data = torch.tensor([[1.0, 0, 0, 1, 0], [0, 1, 0, 0, 1]])
    G, _ = models.build(MODEL, ImageShape(16, 3, 5), seed=3)
    info = SnapshotInfo(RunConfig(model=MODEL), ImageShape(16, 3, 5), 16, 1.0, 0, "faces", "attributes", names)
    of_generator(G, info, data).save(tmp_path / "a.safetensors")
    made = snapshot.load(tmp_path / "a.safetensors")
    assert torch.equal(made.labels(["", "", ""]), data[[0, 1, 0]])
    assert made.labels(["hat=sunhat", "hat=sunhat,beard=none"]).tolist() == [[0, 0, 1, 1, 0], [0, 0, 1, 1, 0]]
    assert made.labels([2, 4]).tolist() == [[0, 0, 1, 1, 0], [0, 1, 0, 0, 1]]
    with pytest.raises(SnapshotError, match="no label 'hat=crown'"):
        made.labels(["hat=crown"])


def test_a_file_is_not_taken_for_that_of_another_resolution(saved):
    made, path = saved
    assert sampling.load(path, made.resolution).resolution == made.resolution
    with pytest.raises(SnapshotError, match=r"makes 16x16, not 4x4"):
        sampling.load(path, 4)
