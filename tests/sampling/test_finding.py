"""Finding the latent that reproduces a picture."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

import progan
import tiny
from progan import models
from progan.cli import main
from progan.config import RunConfig
from progan.images import to_images, to_pixels
from progan.models import ImageShape
from progan.options import override
from progan.run_folder import RunFolder
from progan.sampling import finding
from progan.snapshot import SnapshotInfo, of_generator

pytestmark = pytest.mark.usefixtures("traced_once")


def made(labels=0):
    """A snapshot with random weights, and classes."""
    config = override(RunConfig(), {"resolution": 16, "fmap_max": 16, "z_dim": 8})
    names = tuple(f"class{i}" for i in range(labels))
    shape = ImageShape(16, 3, labels)
    info = SnapshotInfo(config, shape, 16, 1.0, 8, "data", "class" if labels else None, names)
    G = models.build(config.model, shape, seed=3)[0]
    with torch.no_grad():
        for name, weight in G.named_parameters():
            if "rgb" in name:
                weight.mul_(0.3)  # so that images lie in -1…1
    return of_generator(G, info, torch.eye(labels) if labels else None)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run folder."""
    return tiny.made(tmp_path_factory.mktemp("finding"), start_resolution=8, total_kimg=0.08)


def test_a_generated_picture_is_found_again(monkeypatch):
    monkeypatch.setattr(finding, "RANDOM", 64)
    snapshot = made()
    z = snapshot.latents([9_999])
    target = to_pixels(snapshot.generate(z))[0]
    seen = []
    found = finding.find(snapshot, target, steps=150, watch=lambda step, pixels: seen.append((step, pixels)))
    assert found.distance < 0.1 * found.random_distance
    assert (found.pixels.float() - target.float()).abs().mean() < 4
    assert found.z.norm() == pytest.approx(8**0.5, rel=1e-3)
    # G looks at the direction of a latent only.
    assert torch.cosine_similarity(found.z, z[0], dim=0) > 0.95
    assert [step for step, _ in seen] == list(range(151))
    assert seen[0][1].shape == target.shape


def test_the_class_of_a_picture_is_found(monkeypatch):
    monkeypatch.setattr(finding, "RANDOM", 64)
    snapshot = made(labels=3)
    target = to_pixels(snapshot.generate(snapshot.latents([5]), [2]))[0]
    found = finding.find(snapshot, target, torch.eye(3), steps=100)
    assert found.labels.tolist() == [0, 0, 1]


def test_likeness_is_zero_for_the_same_and_grows_with_noise(run):
    critic = progan.load(run, network="D")
    images = to_images(torch.randint(0, 256, (4, 3, 8, 8), dtype=torch.uint8))
    likeness = finding.Likeness(images[0], critic)
    noise = torch.randn(3, 8, 8)
    distances = likeness(torch.stack([images[0] + level * noise for level in (0, 0.01, 0.1, 0.5)]))
    assert distances[0] < 1e-9
    assert (distances.diff() > 0).all()
    # What D sees is part of it.
    assert (likeness(images[1:]) > finding.Likeness(images[0], None)(images[1:])).all()


def test_a_laplacian_pyramid_adds_up_to_the_image():
    images = torch.randn(2, 1, 16, 16)
    *edges, whole = finding._laplacian(images)
    assert [x.shape[2] for x in edges] == [16, 8]
    for level in reversed(edges):
        whole = whole.repeat_interleave(2, 2).repeat_interleave(2, 3) + level
    torch.testing.assert_close(whole, images)


def test_the_command_writes_picture_film_and_latent(run, tmp_path, capsys):
    picture = tmp_path / "portrait.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)).save(picture)
    assert main(["find", str(run), str(picture), "--steps", "5", "--out", str(tmp_path / "found"), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["discriminator"]
    with Image.open(tmp_path / "found" / "found.png") as image:
        assert image.size == ((2 + 4) * 128, 128)  # the picture, what was found, four training images
    with Image.open(tmp_path / "found" / "search.webp") as film:
        assert film.size == (256, 128)
    # The latent gives the picture that is shown.
    latent = json.loads((tmp_path / "found" / "latent.json").read_text())
    shown = np.asarray(Image.open(tmp_path / "found" / "found.png"))[::16, 128:256:16]
    again = progan.to_pixels(progan.load(run).generate(latent["z"]))[0].permute(1, 2, 0).numpy()
    assert np.array_equal(shown, again)
    assert main(["find", str(run), str(picture), "--steps", "0", "--no-reals"]) == 0
    assert Image.open(run / "found-portrait" / "found.png").size == (256, 128)


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        ("missing.png", "there is no such file"),
        ("x.png", "no picture that can be read"),
        ("grid.png", "made by progan (a grid of generated images)"),
    ],
)
def test_what_is_no_picture_is_one_line(picture, message, run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.png").write_bytes(b"not a picture")
    assert main(["sample", str(run), "--num", "4", "--out", "grid.png"]) == 0
    assert main(["find", str(run), picture]) == 2
    assert message in capsys.readouterr().err


def test_images_of_another_kind_are_refused_before_the_search(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("progan.sampling.finding.find", None)
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    np.save(tmp_path / "grey.npy", np.zeros((20, 16, 16), np.uint8))
    assert main(["find", str(run), str(tmp_path / "a.png"), "--data", str(tmp_path / "grey.npy")]) == 2
    assert "grey has grey images up to" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--no-reals", "--data", "x"], "leave out --no-reals"),
        (["--label", "x"], "this one was trained without"),
        (["--resolution", "8"], "a snapshot has one resolution"),
    ],
)
def test_options_that_do_not_go_together_are_one_line(arguments, message, run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (8, 8)).save("x.png")
    source = RunFolder(run).snapshot() if "--resolution" in arguments else run
    assert main(["find", str(source), "x.png", *arguments]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
