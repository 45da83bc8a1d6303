"""Interpolations and films."""

import math

import numpy as np
import pytest
import torch
from PIL import Image

import tiny
from generators import small
from progan.cli import main
from progan.errors import ConfigError, RunError
from progan.run_folder import RunFolder
from progan.sampling.films import growth, sample_grids, write_film
from progan.sampling.interpolation import between, sheet, there_and_back, wander

pytestmark = pytest.mark.usefixtures("traced_once")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run folder made by the command, with every stage."""
    return tiny.made(tmp_path_factory.mktemp("films"), stable_kimg=0.05, fade_kimg=0.05)


class Latents:
    """A stand-in for a snapshot: normal latents."""

    def latents(self, seeds):
        return torch.randn(len(seeds), 5, generator=torch.Generator().manual_seed(1))


def test_wandering_latents_are_noise_smoothed_round_a_circle():
    frames, smooth = 48, 3.0
    found = torch.stack(list(wander(Latents(), 2, frames, smooth, seed=0)))
    noise = Latents().latents(range(frames * 2)).view(frames, 2, 5).double()
    # The definition: the mean of all frames, weighted by a Gaussian of their distance on the circle.
    distance = torch.arange(frames)[:, None] - torch.arange(frames)[None]
    weights = sum(torch.exp(-(((distance + turn * frames) / smooth) ** 2) / 2) for turn in (-2, -1, 0, 1, 2))
    expected = torch.einsum("ab,bnz->anz", weights.double() / (smooth * math.sqrt(2 * math.pi)), noise)
    expected /= expected.square().mean().sqrt()
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-5)
    # Where the film goes round it moves no more than elsewhere.
    steps = (found - found.roll(1, 0)).norm(dim=(1, 2))
    assert steps[0] < 2 * steps.median()


def test_ways_begin_and_end_where_they_should_with_labels_in_between():
    a, b = torch.eye(2), torch.eye(2).flip(0)
    start, end = torch.tensor([[1.0, 0.0]] * 2), torch.tensor([[0.0, 1.0]] * 2)
    moments = list(between((a, start), (b, end), 5))
    assert len(moments) == 5
    torch.testing.assert_close(moments[0], (a, start))
    torch.testing.assert_close(moments[-1], (b, end))
    torch.testing.assert_close(moments[2][0], torch.full((2, 2), math.sqrt(0.5)))
    torch.testing.assert_close(moments[1][1], torch.tensor([[0.75, 0.25]] * 2))


def test_a_way_is_played_back_without_its_ends():
    assert list(there_and_back([1, 2, 3, 4])) == [1, 2, 3, 4, 3, 2]
    assert list(there_and_back([1, 2])) == [1, 2]


def test_pixels_are_enlarged_and_not_smoothed():
    pixels = torch.tensor([0, 255, 7, 9], dtype=torch.uint8).view(1, 1, 2, 2)
    assert sheet(pixels, 1, 2).tolist() == [[[0, 0, 255, 255], [0, 0, 255, 255], [7, 7, 9, 9], [7, 7, 9, 9]]]


def frames(count, size=(3, 20, 33)):
    """Frames of one grey each, brighter and brighter."""
    return (torch.full(size, 10 * i, dtype=torch.uint8) for i in range(count))


def length(film):
    """Milliseconds of an animated picture."""
    total = 0
    for i in range(film.n_frames):
        film.seek(i)
        film.load()
        total += film.info["duration"]
    return total


def test_an_mp4_has_all_frames_in_a_form_that_browsers_play(tmp_path):
    av = pytest.importorskip("av")
    said = []
    assert write_film(tmp_path / "x.mp4", frames(12), 24, said.append) == 12
    assert said == ["note: an .mp4 has even sides of at least 16: 33x20 is padded to 34x20"]
    with av.open(str(tmp_path / "x.mp4")) as film:
        stream = film.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert (stream.width, stream.height, stream.average_rate) == (34, 20, 24)
        shown = [frame.to_ndarray(format="rgb24") for frame in film.decode(stream)]
    # The colours, up to what the encoder loses.
    assert np.allclose([frame[5, 5] for frame in shown], [[10 * i] * 3 for i in range(12)], atol=3)
    assert [path.name for path in tmp_path.iterdir()] == ["x.mp4"]


def test_a_webp_and_a_folder_have_all_frames(tmp_path):
    assert write_film(tmp_path / "x.webp", frames(5), 20, print) == 5
    with Image.open(tmp_path / "x.webp") as film:
        assert (film.n_frames, film.size, film.info["loop"]) == (5, (33, 20), 0)
        assert length(film) == 250
    assert write_film(tmp_path / "x", frames(3, (1, 8, 8)), 20, print) == 3
    shown = [Image.open(path) for path in sorted((tmp_path / "x").iterdir())]
    assert [image.getpixel((0, 0)) for image in shown] == [0, 10, 20]


def test_frames_of_a_longer_film_go_once_the_new_ones_are_there(tmp_path):
    write_film(tmp_path, frames(6, (1, 8, 8)), 20, print)
    for other in ("frame-final.png", "frame-00004.jpg", "frame-000004.png"):
        (tmp_path / other).touch()
    (tmp_path / "frame-100000.png").touch()  # of a very long film
    before = {path.name for path in tmp_path.iterdir()}

    def broken():
        yield from frames(2, (1, 8, 8))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_film(tmp_path, broken(), 20, print)
    assert {path.name for path in tmp_path.iterdir()} == before
    assert write_film(tmp_path, frames(3, (1, 8, 8)), 20, print) == 3
    assert {path.name for path in tmp_path.iterdir()} == before - {f"frame-{i:05d}.png" for i in (3, 4, 5, 100_000)}


@pytest.mark.parametrize(("kind", "most"), [("webp", 16_383), ("mp4", 16_384)])
def test_frames_too_large_for_a_film_are_one_line(kind, most, tmp_path):
    if kind == "mp4":
        pytest.importorskip("av")
    for size in ((1, 16, most + 1), (1, most + 1, 16)):
        message = f"{kind} has at most {most} pixels a side; {size[2]}x{size[1]} needs a folder of frames"
        with pytest.raises(ConfigError, match=message):
            write_film(tmp_path / f"x.{kind}", frames(2, size), 20, print)
    assert not list(tmp_path.iterdir())
    assert write_film(tmp_path / f"x.{kind}", frames(2, (1, 16, most)), 20, print) == 2


@pytest.mark.parametrize("kind", ["webp", "mp4"])
def test_a_film_that_cannot_be_written_is_named(kind, tmp_path):
    if kind == "mp4":
        pytest.importorskip("av")
    with pytest.raises(FileNotFoundError) as error:
        write_film(tmp_path / "nowhere" / f"x.{kind}", frames(2), 20, print)
    assert error.value.filename == str(tmp_path / "nowhere" / f"x.{kind}.progan-tmp")


def test_a_missing_package_is_named_with_the_command(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    with pytest.raises(ConfigError, match=r"an .mp4 needs PyAV: pip install '.\[video\]'"):
        write_film(tmp_path / "x.mp4", frames(2), 20, print)


def test_a_training_is_a_film_with_an_equal_part_for_each_resolution(run):
    folder = RunFolder(run)
    grids = sample_grids(folder)
    assert [grid.resolution for grid in grids] == sorted(grid.resolution for grid in grids)
    assert {grid.columns() for grid in grids} == {8}
    film = list(growth(folder, 128, 2, 10))
    assert len(film) == 20
    # It begins with the first grid and the first of the new resolution stands in the middle of it.
    middle = next(grid for grid in grids if grid.resolution == 8)
    for frame, grid in ((film[0], grids[0]), (film[10], middle)):
        expected = np.asarray(grid.picture(8, False, 128))
        assert np.array_equal(frame[:, :128].permute(1, 2, 0).numpy(), expected)
        assert frame[:, 128:].float().std() > 0  # the caption
    assert not torch.equal(film[9], film[10])


def test_cells_of_a_grid_keep_their_rows_if_asked_to(tmp_path, run):
    """16 cells of 64 pixels in rows of 4, of which a square of 2 x 2 is taken."""
    image = Image.new("L", (4 * 64 + 3 * 2, 4 * 64 + 3 * 2), 255)
    for i in range(16):
        image.paste(i * 10, (i % 4 * 66, i // 4 * 66, i % 4 * 66 + 64, i // 4 * 66 + 64))
    (tmp_path / "samples").mkdir()
    image.save(tmp_path / "samples" / "fakes-000000008-64x64.png")
    (grid,) = sample_grids(RunFolder(tmp_path))
    assert grid.columns() == 4
    for keep_rows, expected in ((True, [0, 10, 40, 50]), (False, [0, 10, 20, 30])):
        square = np.asarray(grid.picture(2, keep_rows, 128))
        assert [square[32, 32, 0], square[32, 96, 0], square[96, 32, 0], square[96, 96, 0]] == expected


def test_other_files_among_the_samples_are_no_grids(tmp_path):
    (tmp_path / "samples").mkdir()
    for name in ("copy-of-8x8", "000000008-8x16", "000000008-8x8 (1)", "000000008-0x0", "000000016-8x8"):
        (tmp_path / "samples" / f"fakes-{name}.png").touch()
    (grid,) = sample_grids(RunFolder(tmp_path))
    assert (grid.path.name, grid.cur_nimg, grid.resolution) == ("fakes-000000016-8x8.png", 16, 8)


def test_a_run_without_grids_is_no_film(tmp_path):
    with pytest.raises(RunError, match="too few sample grids"):
        next(growth(RunFolder(tmp_path), 128, 1, 1))


@pytest.mark.parametrize(
    ("arguments", "written", "shape"),
    [
        ([], "RUN/interpolation.png", (9 * 8, 8 * 8)),
        (["--pairs", "5:6", "--frames", "3", "--upscale", "4", "--out", "x.png"], "x.png", (96, 32)),
        (["--out", "x.webp", "--grid"], "x.webp", (72, 64)),
        (["--out", "x.webp", "--frames", "4"], "x.webp", (3 * 128, 3 * 128)),
        (["--out", "x.webp", "--frames", "4", "--loop", "4", "--upscale", "1", "--fps", "1"], "x.webp", (16, 16)),
        (["--film", "--out", "x", "--frames", "3"], "x/frame-00003.png", (384, 384)),
    ],
)
def test_interpolate_writes_what_the_name_says(run, arguments, written, shape, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["interpolate", str(run), *arguments]) == 0
    with Image.open(written.replace("RUN", str(run))) as image:
        assert image.size == shape
        film = written == "x.webp" and "--grid" not in arguments
        assert getattr(image, "n_frames", 1) == ((4 if "--loop" in arguments else 6) if film else 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out", "x.gif"], "cannot write x.gif"),
        (["--film", "--out", "x.png"], "cannot write x.png"),
        (["--loop", "4", "--out", "x.jpg"], "cannot write x.jpg"),
        (["--pairs", "1:2:3"], "--pairs must look like 12:97,3:5"),
        (["--frames", "1"], "--frames must be from 2"),
        (["--seconds", "0"], "--seconds must be above 0"),
        (["--label-from", "3"], "--label-from and --label-to go together"),
        (["--label", "hat=cap"], "there is no label 'hat=cap'"),
        (["--label-from", "a", "--label-to", "b"], "there is no label 'a'"),
        (["--pairs", "1:2", "--seed", "3"], "--seed does not go with --pairs"),
        (["--pairs", "1:2", "--loop", "3"], "--pairs is of a way"),
        (["--pairs", "1:2,5"], "--pairs 5 ends where it begins"),
        (["--loop", "3", "--grid"], "--grid does not go with --loop"),
        (["--loop", "3", "--label-from", "a", "--label-to", "b"], "--label-from is of a way"),
        (["--label", "a", "--label-from", "a", "--label-to", "b"], "--label does not go with --label-from"),
        (["--pairs", "1:2", "--label", "a", "--label", "b"], "there are 2 labels for 1 rows"),
        (["--frames", "10000", "--upscale", "8"], "fewer --frames or --pairs, or --film"),
        (["--seconds", "3"], "--seconds is of a film"),
        (["--fps", "3", "--out", "x.png"], "--fps is of a film"),
        (["--frames", "3", "--seconds", "3", "--out", "x.webp"], "--seconds does not go with --frames"),
        (["--grid", "--out", "x.mp4"], "cannot write x.mp4"),
        (["--label-from", "a", "--label-to", "a"], "ends where it begins"),
    ],
)
def test_mistakes_get_one_line_and_nothing_is_written(run, arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["interpolate", str(run), *arguments]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_no_name_at_all_is_the_usual_one(run, tmp_path, monkeypatch):
    """Not the working directory, which would be filled with frames."""
    monkeypatch.chdir(tmp_path)
    assert main(["interpolate", str(run), "--frames", "2", "--out", ""]) == 0
    assert not list(tmp_path.iterdir())


def test_a_folder_is_made_with_the_first_frame(tmp_path):
    small(resolution=8, final=8).save(tmp_path / "g.safetensors")
    out = str(tmp_path / "frames")
    assert main(["interpolate", str(tmp_path / "g.safetensors"), "--film", "--resolution", "16", "--out", out]) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["g.safetensors"]


def test_a_way_from_class_to_class_names_the_seeds_that_it_shows(tmp_path):
    small(kind="class", names=("cat", "dog")).save(tmp_path / "g.safetensors")
    labels = ["--label-from", "cat", "--label-to", "dog", "--frames", "2"]
    assert main(["interpolate", str(tmp_path / "g.safetensors"), *labels, "--pairs", "5:7,6"]) == 0
    assert Image.open(tmp_path / "g-interpolation.png").text["seed"] == "5,6"


def test_video_is_written_beside_the_run(run, tmp_path, capsys):
    assert main(["video", str(run), "--seconds", "1", "--fps", "5", "--out", str(tmp_path / "x.webp")]) == 0
    with Image.open(tmp_path / "x.webp") as film:
        assert (length(film), film.size) == (1000, (512, 512 + 64))  # equal frames are one
    assert main(["video", str(tmp_path)]) == 2
    assert "is not a run folder" in capsys.readouterr().err
