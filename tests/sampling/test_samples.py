"""Samples as grids, files, zips and arrays."""

import subprocess
import sys
import time
import zipfile
import zlib

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image

from generators import small
from progan import models
from progan.cli import main
from progan.config import RunConfig
from progan.models import ImageShape
from progan.options import override
from progan.sampling.archive import GrowingZip, _Member
from progan.sampling.pictures import Drawing, captioned, joined, write_arrays, write_files, write_zip
from progan.snapshot import SnapshotInfo, of_generator


@pytest.fixture(scope="module")
def made():
    """A snapshot with attributes, whose labels follow rows of the data where they are not named."""
    config = override(RunConfig(), {"resolution": 8, "fmap_max": 8, "z_dim": 8, "labels": True})
    shape = ImageShape(8, 3, 4)
    info = SnapshotInfo(config, shape, 8, 1.0, 8, "data", "attributes", ("hat=cap", "hat=none", "eyes=1", "eyes=2"))
    rows = torch.tensor([[1, 0, 1, 0], [0, 1, 0, 1], [1, 0, 0, 1], [0, 1, 1, 0], [1, 0, 1, 0.0]])
    return of_generator(models.build(config.model, shape, seed=3)[0], info, rows)


def content(folder):
    """Bytes of every file by name."""
    return {path.name: path.read_bytes() for path in folder.glob("*.png")}


def interrupted(write, *arguments, at):
    """What a call leaves that is interrupted after so many images."""

    def stop(done, of):
        if done >= at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(*arguments, progress=stop)


def test_an_interrupted_call_goes_on_to_the_same_files(made, tmp_path):
    drawing = Drawing(made, range(80), [""] * 80)
    assert write_files(tmp_path / "whole", drawing) == 80
    whole = content(tmp_path / "whole")
    assert len(whole) == 80
    interrupted(write_files, tmp_path / "cut", drawing, at=32)
    assert len(content(tmp_path / "cut")) == 32
    (tmp_path / "cut" / "seed-0000040.png.progan-tmp").write_bytes(b"half")  # as after a kill
    assert write_files(tmp_path / "cut", drawing) == 48
    assert content(tmp_path / "cut") == whole


@pytest.mark.parametrize("change", [{"truncation": 0.5}, {"upscale": 2}, {"resolution": 4}, None])
def test_other_pictures_take_the_place_of_the_old_ones(change, made, tmp_path):
    drawing = Drawing(made, range(40), [""] * 40)
    interrupted(write_files, tmp_path, drawing, at=32)
    before = content(tmp_path)
    # Attributes that are not named follow from the place in the list of seeds: there these are other pictures, too.
    other = Drawing(made, range(21, 40), [""] * 19) if change is None else Drawing(made, range(40), [""] * 40, **change)
    assert write_files(tmp_path, other) == len(other.seeds)
    after = content(tmp_path)
    made_anew = [f"seed-{seed:07d}.png" for seed in other.seeds]
    assert any(before[name] != after[name] for name in made_anew if name in before)


def test_what_an_earlier_call_left_is_not_taken_for_files_of_an_interrupted_one(made, tmp_path):
    drawing = Drawing(made, range(80), [""] * 80)
    write_files(tmp_path / "here", Drawing(made, range(80), [""] * 80, truncation=0.2))
    interrupted(write_files, tmp_path / "here", drawing, at=32)
    assert write_files(tmp_path / "here", drawing) == 48
    write_files(tmp_path / "whole", drawing)
    assert content(tmp_path / "here") == content(tmp_path / "whole")


def test_a_zip_has_the_same_files_and_an_interrupted_one_goes_on_to_the_same_bytes(made, tmp_path):
    drawing = Drawing(made, range(80), [""] * 80)
    write_files(tmp_path / "files", drawing)
    write_zip(tmp_path / "whole.zip", drawing)
    interrupted(write_zip, tmp_path / "x.zip", drawing, at=64)
    assert not (tmp_path / "x.zip").exists()
    unfinished = tmp_path / "x.zip.unfinished" / "x.zip"
    unfinished.write_bytes(unfinished.read_bytes()[:-5])  # as after a kill: the last member is not whole
    assert write_zip(tmp_path / "x.zip", drawing) == 17
    assert (tmp_path / "x.zip").read_bytes() == (tmp_path / "whole.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "x.zip") as archive:
        assert archive.testzip() is None
        assert archive.namelist() == sorted(content(tmp_path / "files"))
        assert {name: archive.read(name) for name in archive.namelist()} == content(tmp_path / "files")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["files", "whole.zip", "x.zip"]


@pytest.mark.parametrize("write", [write_files, write_zip])
def test_another_class_takes_the_place_of_the_old_one(write, tmp_path):
    source = small(kind="class", names=("cat", "dog"))
    interrupted(write, tmp_path / "x.zip", Drawing(source, range(80), ["cat"] * 80), at=64)
    dogs = Drawing(source, range(40), ["dog"] * 40)
    assert write(tmp_path / "x.zip", dogs) == 40
    write_files(tmp_path / "dogs", dogs)
    if write is write_zip:
        zipfile.ZipFile(tmp_path / "x.zip").extractall(tmp_path / "out")
    found = content(tmp_path / ("out" if write is write_zip else "x.zip"))
    assert content(tmp_path / "dogs").items() <= found.items()


def test_classes_with_the_same_name_as_files_have_their_index(tmp_path):
    source = small(kind="class", names=("a b", "c", "a_b", "A b"))
    labels = ["a_b", "A b", 0]
    drawing = Drawing(source, [7, 8] * 3, [label for label in labels for _ in range(2)])
    write_files(tmp_path / "files", drawing)
    expected = {f"seed-000000{seed}-{word}.png" for word in ("a_b-2", "A_b-3", "a_b-0") for seed in (7, 8)}
    assert set(content(tmp_path / "files")) == expected
    write_zip(tmp_path / "x.zip", drawing)
    names = zipfile.ZipFile(tmp_path / "x.zip").namelist()
    assert sorted(names) == sorted(expected)
    write_files(tmp_path / "others", Drawing(source, [7, 7], ["c", "a b"]))
    assert set(content(tmp_path / "others")) == {"seed-0000007-c.png", "seed-0000007-a_b.png"}


@pytest.mark.parametrize("other", ["seeds", "fewer", "truncation", "damaged", "directory"])
def test_a_zip_does_not_go_on_with_what_it_is_not_to_have(other, tmp_path):
    """Other seeds, another look, a member that was damaged, and a directory that was being written."""
    source = small()
    interrupted(write_zip, tmp_path / "x.zip", Drawing(source, range(80)), at=64)
    seeds = {"seeds": range(3, 83), "fewer": range(40)}.get(other, range(80))
    drawing = Drawing(source, seeds, (), 0.5 if other == "truncation" else 1.0)
    unfinished = tmp_path / "x.zip.unfinished" / "x.zip"
    if other == "damaged":
        bad = bytearray(unfinished.read_bytes())
        bad[bad.rindex(b"IEND") - 50] ^= 1  # in the last picture
        unfinished.write_bytes(bad)
    if other == "directory":
        unfinished.write_bytes(unfinished.read_bytes() + b"PK\x01\x02" + bytes(40))
    write_zip(tmp_path / "x.zip", drawing)
    write_zip(tmp_path / "anew.zip", drawing)
    assert (tmp_path / "x.zip").read_bytes() == (tmp_path / "anew.zip").read_bytes()


@pytest.mark.slow
def test_a_command_that_was_killed_goes_on_to_the_same_bytes(made, tmp_path):
    made.save(tmp_path / "g.safetensors")

    def command(name):
        words = [
            str(tmp_path / "g.safetensors"),
            "--num",
            "3000",
            "--separate",
            "--quiet",
            "--out",
            str(tmp_path / name),
        ]
        return [sys.executable, "-m", "progan", "sample", *words]

    subprocess.run(command("whole.zip"), check=True)
    with subprocess.Popen(command("cut.zip")) as process:
        unfinished, least = tmp_path / "cut.zip.unfinished" / "cut.zip", (tmp_path / "whole.zip").stat().st_size // 3
        while not unfinished.exists() or unfinished.stat().st_size < least:
            assert process.poll() is None
            time.sleep(0.001)
        process.kill()
    assert not (tmp_path / "cut.zip").exists()
    before = unfinished.read_bytes()
    subprocess.run(command("cut.zip"), check=True)
    whole = (tmp_path / "whole.zip").read_bytes()
    assert (tmp_path / "cut.zip").read_bytes() == whole
    assert whole.startswith(before[:least])  # what was there was kept
    with zipfile.ZipFile(tmp_path / "cut.zip") as archive:
        assert len(archive.namelist()) == 3000


@pytest.mark.slow
def test_zips_of_many_members_and_of_many_bytes_are_read_by_others(tmp_path, monkeypatch):
    """More than 65,535 members; and places that 32 bits cannot hold, here those that 12 bits cannot."""
    many = GrowingZip(tmp_path / "many.zip", [])
    for i in range(66_000):
        many.add(f"{i}.png", b"%d" % i)
    many.finish()
    with zipfile.ZipFile(tmp_path / "many.zip") as archive:
        assert len(archive.namelist()) == 66_000
        assert archive.read("65999.png") == b"65999"
    far = GrowingZip(tmp_path / "far.zip", [])
    far.add("ü.png", b"first")
    far._file.seek(2**32 + 5)  # a hole, which takes no room on the disk
    monkeypatch.setattr(far, "_members", lambda end: iter([_Member(b"far.png", zlib.crc32(b"last"), 4, 2**32 + 5)]))
    far.add("far.png", b"last")
    far.count = 1
    far.finish()
    with zipfile.ZipFile(tmp_path / "far.zip") as archive:
        assert archive.read("far.png") == b"last"


def test_arrays_have_images_seeds_and_labels(made, tmp_path):
    drawing = Drawing(made, [5, 9], ["hat=cap", "hat=none"])
    write_arrays(tmp_path / "x.npz", drawing)
    found = np.load(tmp_path / "x.npz", allow_pickle=False)
    expected = torch.cat(list(drawing.pixels())).permute(0, 2, 3, 1).numpy()
    assert np.array_equal(found["images"], expected)
    assert found["seeds"].tolist() == [5, 9]
    assert found["labels"].tolist() == ["hat=cap", "hat=none"]


def test_an_image_is_the_same_in_every_batch_and_alone(made):
    drawing = Drawing(made, range(30, 40), [""] * 10)
    together = torch.cat(list(drawing.pixels()))
    assert torch.equal(torch.cat(list(drawing.pixels(batch_size=3))), together)
    assert torch.equal(torch.cat(list(drawing.pixels([7, 2]))), together[[7, 2]])


def test_captions_are_below_their_images_and_long_ones_end_early():
    pixels = torch.zeros(3, 1, 64, 64, dtype=torch.uint8)
    sheet = captioned(pixels, ["7", "", "a caption that is much too long for it"], 2)
    assert sheet.shape == (1, 2 * (64 + 10 + 4), 2 * 66)
    assert sheet[0, :64, :64].max() == 0
    ink = (sheet[0, 64:78] < 128).sum(0)
    assert ink[:66].sum() > 0  # "7"
    assert ink[66:].sum() == 0  # nothing
    assert (sheet[0, 142:, :64] < 128).any()
    assert (sheet[0, 78:, 66:] < 128).sum() == 0  # no image, no words


def test_the_command_takes_all_of_it(made, tmp_path, capsys):
    made.save(tmp_path / "g.safetensors")
    source = str(tmp_path / "g.safetensors")
    for extra in (
        ["--separate", "--out", str(tmp_path / "x.zip")],
        ["--separate", "--format", "jpg", "--out", str(tmp_path / "x")],
        ["--out", str(tmp_path / "x.npz")],
        ["--captions", "--upscale", "8", "--out", str(tmp_path / "x.png")],
    ):
        assert main(["sample", source, "--num", "4", "--label", "hat=cap", *extra]) == 0
    assert len(zipfile.ZipFile(tmp_path / "x.zip").namelist()) == 4
    assert len(list((tmp_path / "x").glob("*.jpg"))) == 4
    assert np.load(tmp_path / "x.npz")["images"].shape == (4, 8, 8, 3)
    assert Image.open(tmp_path / "x.png").size == (2 * 66, 2 * (64 + 14))
    assert main(["sample", source, "--upscale", "0"]) == 2


class ByBrightness:
    """A stand-in for a discriminator: bright images are real."""

    resolution = 8

    def __call__(self, pixels):
        from progan.scores import Scores

        return Scores(pixels.float().mean((1, 2, 3)), None)


def test_the_best_are_those_with_the_highest_scores_and_said_to_be_picked(made, tmp_path):
    drawing = Drawing(made, range(20), [""] * 20)
    images = torch.cat(list(drawing.pixels()))
    order = images.float().mean((1, 2, 3)).argsort(descending=True)
    best = drawing.best(ByBrightness(), 3)
    assert list(best.seeds) == order[:3].tolist()
    # They are the images that were judged, though attributes that are not named follow from the place in a list.
    assert torch.equal(torch.cat(list(best.pixels())), images[order[:3]])
    two = joined([drawing.take(range(4)).best(ByBrightness(), 1), drawing.take(range(4, 8)).best(ByBrightness(), 1)])
    assert list(two.seeds) == [
        int(images[:4].float().mean((1, 2, 3)).argmax()),
        4 + int(images[4:8].float().mean((1, 2, 3)).argmax()),
    ]
    write_files(tmp_path, best)
    said = Image.open(next(tmp_path.glob("*.png"))).text["picked"]
    assert said == "the best 3 of 20 by the discriminator's score"
    write_files(tmp_path, best, ".webp")
    described = Image.open(next(tmp_path.glob("*.webp"))).getexif()[ExifTags.Base.ImageDescription]
    assert described.startswith(said)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--of", "9"], "give --best"),
        (["--best", "0"], "--best must be from 1"),
        (["--best", "9", "--of", "5"], "--best must be from 1 to --of"),
        (["--best", "2", "--of", "0"], "--best must be from 1 to --of"),
        (["--best", "9", "--num", "5"], "--num does not go with --best"),
        (["--best", "2"], "holds no discriminator"),
    ],
)
def test_what_cannot_be_picked_is_one_line(arguments, message, made, tmp_path, capsys):
    made.save(tmp_path / "g.safetensors")
    assert main(["sample", str(tmp_path / "g.safetensors"), *arguments]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--seeds 1,2 --num 3", "--num does not go with --seeds"),
        ("--seeds 1,2 --seed 3", "--seed does not go with --seeds"),
        ("--seeds 1,2 --best 1 --of 2", "--of does not go with --seeds"),
        ("--seeds 1,2 --best 3", "cannot be picked from 2 seeds"),
        ("--label hat=cap --label hat=cap", "a label is given twice"),
        ("--seeds 5-3", "--seeds 5-3 goes backwards: write 3-5"),
        ("--seeds 5-3,7 --separate", "--seeds 5-3 goes backwards: write 3-5"),
        ("--seeds 0-9223372036854775807", "--seeds may be up to 1,000,000 numbers"),
        ("--separate --columns 3", "--columns is of a grid"),
        ("--separate --captions", "--captions is of a grid"),
        ("--separate --out x.npz", "x.npz is the name of a single file"),
        ("--separate --out x.png", "x.png is the name of a single file"),
        ("--separate --out g.safetensors", "g.safetensors is a file"),
        ("--separate --seeds 1,2,1", "names a seed twice"),
        ("--num 1025 --upscale 64", "a grid of 33 x 32 images has 16,896x16,384 pixels: give --separate"),
        (
            "--num 100 --columns 1 --upscale 64 --out x.webp",
            "webp has at most 16383 pixels a side; 512x51200 needs a PNG",
        ),
        ("--format jpg", "--format is the kind of the files of --separate"),
        ("--out x.zip", "x.zip is for many files: give --separate"),
        ("--out x.npz --upscale 2", "--upscale is of pictures"),
        ("--out x.npz --captions", "--captions is of pictures"),
        ("--out x.npz --columns 2", "--columns is of pictures"),
        ("--num 999999 --label hat=cap --label hat=none", "are more than 1,000,000"),
        ("--label-index 9", "there is no label with index 9"),
        ("--separate --out d --label hat=cup", "there is no label 'hat=cup'"),
        ("--separate --out x.zip --label hat=cup", "there is no label 'hat=cup'"),
        ("--separate --out d --resolution 16", "--resolution 16 is above 8"),
        ("--seed -1", "--seed must be at least 0"),
        ("--seed 9223372036854775800 --num 9", "last of 9 seeds must be below 2^63"),
    ],
)
def test_options_that_do_not_go_together_are_one_line(arguments, message, made, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    made.save(tmp_path / "g.safetensors")
    assert main(["sample", "g.safetensors", *arguments.split()]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["g.safetensors"]


def test_the_highest_seed_can_be_drawn(made, tmp_path):
    made.save(tmp_path / "g.safetensors")
    most = str(2**63 - 1)
    assert main(["sample", str(tmp_path / "g.safetensors"), "--seed", most, "--num", "1"]) == 0
    assert Image.open(tmp_path / "g-generated.png").text["seed"] == most


def test_a_class_is_named_once_however_it_is_named(tmp_path, capsys):
    small(kind="class", names=("zero", "one")).save(tmp_path / "g.safetensors")
    out = ["--separate", "--out", str(tmp_path / "out")]
    assert main(["sample", str(tmp_path / "g.safetensors"), "--label", "one", "--label-index", "1", *out]) == 2
    assert "a label is given twice" in capsys.readouterr().err


def test_a_folder_that_is_called_like_a_zip_is_refused_first(made, tmp_path, capsys):
    made.save(tmp_path / "g.safetensors")
    (tmp_path / "x.zip").mkdir()
    assert main(["sample", str(tmp_path / "g.safetensors"), "--separate", "--out", str(tmp_path / "x.zip")]) == 2
    assert "x.zip is a folder" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["g.safetensors", "x.zip"]
