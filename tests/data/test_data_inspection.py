"""`progan data show`, `progan data split` and `progan prepare`, each on data whose faults are known."""

import io
import json
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageEnhance

from progan.cli import main
from progan.config import PrepareConfig
from progan.data.dataset import Dataset
from progan.data.difference import compare
from progan.data.inspection import find_duplicates, inspect, perceptual_hashes
from progan.data.prepare import prepare
from progan.data.prepare.output import ArrayWriter
from progan.data.split import split
from progan.errors import DatasetError
from progan.report.dataset_page import page, sheet, sheets

RANDOM = np.random.default_rng(1)


def scene(size: tuple[int, int] = (96, 96)) -> Image.Image:
    """Something with structure at every scale, as photographs have it."""
    layers = [
        np.asarray(
            Image.fromarray(RANDOM.integers(0, 256, (side, side, 3), dtype=np.uint8)).resize(
                size, Image.Resampling.BICUBIC
            )
        )
        / side
        for side in (3, 6, 12, 24)
    ]
    total = np.sum(layers, 0)
    return Image.fromarray((255 * (total - total.min()) / np.ptp(total)).astype(np.uint8))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """30 cats and 12 dogs; a cat three times, a dog twice, a blank, a faint, a long and a tiny picture among them."""
    base = tmp_path_factory.mktemp("show")
    for kind, count in (("cat", 30), ("dog", 12)):
        (base / "images" / kind).mkdir(parents=True)
        for number in range(count):
            scene().save(base / "images" / kind / f"{number:02d}.png")
    cats, dogs = base / "images" / "cat", base / "images" / "dog"
    cat = Image.open(cats / "03.png")
    cat.save(cats / "90-compressed.jpg", quality=60)
    cat.resize((70, 70), Image.Resampling.LANCZOS).save(cats / "91-smaller.png")
    Image.open(dogs / "05.png").save(dogs / "92-copy.webp", quality=80)
    Image.new("RGB", (96, 96), "navy").save(cats / "93-blank.png")
    Image.fromarray(np.asarray(scene()) // 32 + 100).save(cats / "94-faint.png")
    scene((400, 80)).save(cats / "95-long.png")
    scene((20, 20)).save(cats / "96-tiny.png")
    prepare(base / "images", base / "out", PrepareConfig(resolution=64, workers=1))
    return base / "out"


@pytest.fixture(scope="module")
def dataset(folder: Path) -> Dataset:
    return Dataset.open(folder)


def test_duplicates_are_found_and_nothing_else(dataset: Dataset) -> None:
    assert inspect(dataset).duplicate_files == [
        ["cat/03.png", "cat/90-compressed.jpg", "cat/91-smaller.png"],
        ["dog/05.png", "dog/92-copy.webp"],
    ]


def test_each_suspect_has_its_reason(dataset: Dataset) -> None:
    assert {suspect.file: suspect.reason for suspect in inspect(dataset).suspects} == {
        "cat/93-blank.png": "blank",
        "cat/94-faint.png": "nearly one colour",
        "cat/95-long.png": "extreme shape, 400x80",
        "cat/96-tiny.png": "enlarged 3 times",
    }


def test_counts_and_sizes(dataset: Dataset) -> None:
    inspection = inspect(dataset)
    assert inspection.label_counts == {"cat": 36, "dog": 13}
    assert inspection.original_sizes == {"smallest": (20, 20), "median": (96, 96), "largest": (400, 80)}
    assert inspection.bytes == {size: 49 * size * size * 3 for size in (4, 8, 16, 32, 64)}


def test_all_alike_is_one_group(tmp_path: Path) -> None:
    np.save(tmp_path / "same.npy", np.full((40, 8, 8), 7, np.uint8))
    prepare(tmp_path / "same.npy", tmp_path / "out", PrepareConfig(workers=1))
    assert find_duplicates(Dataset.open(tmp_path / "out")) == [list(range(40))]


def test_equal_hashes_alone_are_no_duplicates(tmp_path: Path) -> None:
    """Less contrast leaves the signs of all frequencies as they are, and another picture."""
    picture = np.asarray(scene((32, 32)).convert("L")).astype(np.float32)
    np.save(tmp_path / "two.npy", np.rint([picture, picture / 3 + 80]).astype(np.uint8))
    prepare(tmp_path / "two.npy", tmp_path / "out", PrepareConfig(workers=1))
    dataset = Dataset.open(tmp_path / "out")
    one, two = perceptual_hashes(dataset).tolist()
    assert (one ^ two).bit_count() <= 2
    assert find_duplicates(dataset) == []


def ones(count: int) -> list[np.ndarray]:
    """Digits 1 of 28x28, each drawn by another hand: slant, curve, length and pressure differ."""
    random = np.random.default_rng(1)
    along, knots = np.linspace(0, 1, 40), np.linspace(0, 1, 5)
    found = []
    for _ in range(count):
        image = Image.new("L", (112, 112))
        across = 56 + random.normal(0, 14) * (1 - 2 * along) + np.interp(along, knots, random.normal(0, 3, 5))
        down = np.interp(along, (0, 1), (16 + random.normal(0, 2), 96 + random.normal(0, 2)))
        radius = np.interp(along, knots, random.uniform(4, 8) + random.normal(0, 1, 5))
        for x, y, r in zip(across, down, radius, strict=True):
            ImageDraw.Draw(image).ellipse((x - r, y - r, x + r, y + r), fill=255)
        found.append(np.asarray(image.resize((28, 28), Image.Resampling.BOX)))
    return found


def test_digits_of_different_hands_are_no_duplicates_and_copies_are(tmp_path: Path) -> None:
    digits, copies = ones(2000), []
    for digit in digits[:20]:
        file = io.BytesIO()
        Image.fromarray(digit).save(file, "JPEG", quality=90)
        copies.append(np.asarray(Image.open(file)))
    np.save(tmp_path / "ones.npy", np.stack(digits + copies))
    prepare(tmp_path / "ones.npy", tmp_path / "out", PrepareConfig(workers=1))
    assert find_duplicates(Dataset.open(tmp_path / "out")) == [[number, 2000 + number] for number in range(20)]


def test_copies_in_another_light_or_size_are_duplicates(tmp_path: Path) -> None:
    def compressed(image: Image.Image, quality: int) -> Image.Image:
        file = io.BytesIO()
        image.save(file, "JPEG", quality=quality)
        return Image.open(io.BytesIO(file.getvalue()))

    changes: list[Callable[[Image.Image], Image.Image]] = [
        lambda image: compressed(image, 40),
        lambda image: image.resize((50, 50), Image.Resampling.LANCZOS),
        lambda image: image.resize((200, 200), Image.Resampling.BICUBIC),
        lambda image: ImageEnhance.Contrast(image).enhance(1.2),
        lambda image: ImageEnhance.Brightness(image).enhance(0.85),
        lambda image: compressed(ImageEnhance.Contrast(image).enhance(0.8).resize((60, 60)), 70),
    ]
    folder = tmp_path / "images"
    folder.mkdir()
    for number, change in enumerate(changes):
        original = scene()
        original.save(folder / f"{number}-original.png")
        change(original).save(folder / f"{number}-copy.png")
        scene().save(folder / f"{number}-stranger.png")
    prepare(folder, tmp_path / "out", PrepareConfig(resolution=64, workers=1))
    found = inspect(Dataset.open(tmp_path / "out")).duplicate_files
    assert found == [[f"{number}-copy.png", f"{number}-original.png"] for number in range(len(changes))]


def test_noise_has_no_duplicates(tmp_path: Path) -> None:
    np.save(tmp_path / "noise.npy", RANDOM.integers(0, 256, (3000, 16, 16), dtype=np.uint8))
    prepare(tmp_path / "noise.npy", tmp_path / "out", PrepareConfig(workers=1))
    assert find_duplicates(Dataset.open(tmp_path / "out")) == []


def test_a_sheet_shows_the_images_row_by_row(dataset: Dataset) -> None:
    pixels = dataset.pixels(16, np.arange(5)).transpose(0, 2, 3, 1)
    picture = sheet(dataset, 16, np.arange(5), 3).permute(1, 2, 0).numpy()
    assert picture.shape == (2 * 32 + 2, 3 * 32 + 4, 3)  # 16 is shown at 32, gaps of 2
    for number in range(5):
        row, column = divmod(number, 3)
        cell = picture[34 * row : 34 * row + 32, 34 * column : 34 * column + 32]
        assert (cell == pixels[number].repeat(2, 0).repeat(2, 1)).all()
    assert (picture[34:, 68:] == 255).all()


def test_sheets_show_other_images_each_while_there_are_any(tmp_path: Path) -> None:
    """Images of one grey each, so many that two sheets of the smallest resolutions do not take all."""
    pixels = np.arange(2400, dtype=np.uint16).repeat(64).reshape(-1, 8, 8)
    np.save(tmp_path / "x.npy", np.stack([pixels // 256, pixels % 256, pixels * 0], -1).astype(np.uint8))
    prepare(tmp_path / "x.npy", tmp_path / "out", PrepareConfig(workers=1))
    shown = []
    for _, sheet_ in sheets(Dataset.open(tmp_path / "out")):
        cells = sheet_[:, ::34, ::34].flatten(1).T.tolist()
        shown.append({tuple(cell) for cell in cells if cell != [255, 255, 255]})
    assert len(shown) == 2
    assert min(map(len, shown)) > 400
    assert not shown[0] & shown[1]


def test_a_sheet_for_every_resolution_and_label(dataset: Dataset) -> None:
    names = [name for name, _ in sheets(dataset)]
    assert names == [f"resolution-{size:04d}" for size in (4, 8, 16, 32, 64)] + ["label-000-cat", "label-001-dog"]


def test_the_page_is_complete_and_harmless(dataset: Dataset) -> None:
    text = page(dataset, inspect(dataset), [("<script>", "a & b")])
    tags: list[tuple[str, dict[str, str | None]]] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
            tags.append((tag, dict(attributes)))

    Reader().feed(text)
    assert "&lt;script&gt;" in text
    assert not {"script", "link", "iframe"} & {tag for tag, _ in tags}
    images = [attributes["src"] or "" for tag, attributes in tags if tag == "img"]
    assert len(images) == 5 + 2 + 1 + 2  # resolutions, labels, suspects, groups of duplicates
    assert all(source.startswith("data:image/webp;base64,") for source in images)


# --- split


def test_split_parts_the_images_and_keeps_everything_else(dataset: Dataset, tmp_path: Path) -> None:
    report = split(dataset.path, tmp_path / "train", tmp_path / "heldout", count=9, seed=4)
    assert (report.train_count, report.heldout_count) == (40, 9)
    parts = [Dataset.open(tmp_path / name, verify=True) for name in ("train", "heldout")]
    names = [(part.path / "images.csv").read_text().splitlines()[1:] for part in parts]
    assert sorted(names[0] + names[1]) == sorted((dataset.path / "images.csv").read_text().splitlines()[1:])
    everything = (dataset.path / "images.csv").read_text().splitlines()[1:]
    for part, lines in zip(parts, names, strict=True):
        indices = np.array([everything.index(line) for line in lines])
        assert indices.tolist() == sorted(indices)
        for resolution in dataset.resolutions:
            assert (part.pixels(resolution, np.arange(part.count)) == dataset.pixels(resolution, indices)).all()
        assert np.array_equal(part.labels(np.arange(part.count)), dataset.labels(indices))  # type: ignore[arg-type]


def test_split_follows_the_seed(dataset: Dataset, tmp_path: Path) -> None:
    prints = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        split(dataset.path, tmp_path / f"{name}-train", tmp_path / name, fraction=0.25, seed=seed)
        prints.append(Dataset.open(tmp_path / name).fingerprint)
    assert prints[0] == prints[1] != prints[2]
    assert Dataset.open(tmp_path / "a").count == 12


@pytest.mark.parametrize(
    "size", [{}, {"count": 0}, {"count": 49}, {"fraction": 1.0}, {"fraction": -0.5}, {"count": 3, "fraction": 0.5}]
)
def test_splits_that_cannot_be(dataset: Dataset, tmp_path: Path, size: dict[str, float]) -> None:
    with pytest.raises(DatasetError):
        split(dataset.path, tmp_path / "train", tmp_path / "heldout", **size)  # type: ignore[arg-type]
    assert not (tmp_path / "train").exists()


@pytest.mark.parametrize(
    ("train", "heldout", "message"),
    [
        ("train", "full", "full is not empty"),
        ("train", "train", "train lies in"),
        ("held/train", "held", "train lies in .*held"),
        ("train", "train/held", "held lies in .*train"),
    ],
)
def test_a_split_writes_nothing_where_one_of_its_places_is_not_free(
    dataset: Dataset, tmp_path: Path, train: str, heldout: str, message: str
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("of someone")
    with pytest.raises(DatasetError, match=message):
        split(dataset.path, tmp_path / train, tmp_path / heldout, count=5)
    assert {path.name for path in tmp_path.iterdir()} == {"full"}


@pytest.mark.parametrize("rows", [5, 45])  # in the part to train on, and in the other
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_split_that_was_stopped_leaves_nothing_and_can_be_repeated(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int, error: BaseException
) -> None:
    written = 0

    def append(writer: ArrayWriter, block: np.ndarray) -> None:
        nonlocal written
        write(writer, block)
        if writer.name == "images-0004" and (written := written + len(block)) > rows:
            raise error

    write = ArrayWriter.append
    with monkeypatch.context() as patch:
        patch.setattr(ArrayWriter, "append", append)
        with pytest.raises((DatasetError, KeyboardInterrupt)):
            split(dataset.path, tmp_path / "train", tmp_path / "heldout", count=9)
    assert not list(tmp_path.iterdir())
    assert split(dataset.path, tmp_path / "train", tmp_path / "heldout", count=9).train_count == 40


# --- the command line


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_show_on_the_command_line(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "data", "show", folder, "--sheets", tmp_path / "sheets", "--html", tmp_path / "a.html")
    assert code == 0
    assert "cat/03.png = cat/90-compressed.jpg = cat/91-smaller.png" in out
    assert "cat/93-blank.png: blank" in out
    assert len(list((tmp_path / "sheets").glob("*.png"))) == 7
    assert (tmp_path / "a.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    code, out, _ = run(capsys, "data", "show", folder, "--json")
    assert json.loads(out)["label_counts"] == {"cat": 36, "dog": 13}


def test_prepare_and_split_on_the_command_line(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = folder.parent / "images"
    code, out, _ = run(capsys, "prepare", images, tmp_path / "out", "--resolution", 8, "--grey", "--workers", 1)
    assert code == 0
    assert "49 of 49 candidates" in out
    assert "1 (grey)" in out
    code, out, error = run(capsys, "prepare", images, tmp_path / "again", "--resolution", 8, "--workers", 1, "--json")
    assert (json.loads(out)["count"], error) == (49, "")
    code, out, _ = run(capsys, "data", "split", tmp_path / "out", tmp_path / "a", tmp_path / "b", "--fraction", 0.2)
    assert code == 0
    assert Dataset.open(tmp_path / "b").count == 10


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["prepare", "nowhere", "out"], "nowhere does not exist"),
        (["prepare", "avatars:3", "out", "--resolution", "48"], "power of two from 4 to 1024"),
        (["prepare", "avatars:3", "out", "--crop", "nose"], "--crop must be one of center, none"),
        (["prepare", "avatars:3", "out", "--background", "nocolour"], "is not a colour"),
        (["prepare", "avatars:3", "out", "--grey", "--rgb"], "not allowed with"),
        (["prepare", "avatars:3"], "required: OUT"),
        (["data", "show", "nowhere"], "nowhere does not exist"),
        (["data", "split", "nowhere", "a", "b", "--count", "3"], "no dataset.json"),
        (["data", "split", "nowhere", "a", "b"], "one of the arguments --count --fraction is required"),
    ],
)
def test_mistakes_get_one_line_and_code_2(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, error = run(capsys, *arguments)
    assert (code, out) == (2, "")
    assert message in error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


# --- what two datasets share


def labelled(folder: Path, images: dict[str, Image.Image], labels: dict[str, str] | None, resolution: int) -> Dataset:
    (folder / "images").mkdir(parents=True)
    for name, image in images.items():
        image.save(folder / "images" / name)
    if labels:
        (folder / "images" / "labels.json").write_text(json.dumps(labels))
    prepare(folder / "images", folder / "out", PrepareConfig(resolution=resolution, workers=1))
    return Dataset.open(folder / "out")


def test_what_two_datasets_share(tmp_path: Path) -> None:
    pictures = [scene((64, 64)) for _ in range(12)]
    first = {f"{number}.png": picture for number, picture in enumerate(pictures[:9])}
    second = {f"b{number}.png": picture for number, picture in enumerate(pictures) if number >= 5}  # 5 … 8 are in both
    second["again.png"] = pictures[5]
    pictures[0].save(tmp_path / "compressed.jpg", quality=70)
    second["near.png"] = Image.open(tmp_path / "compressed.jpg").convert("RGB")
    first["near-8.png"] = ImageEnhance.Brightness(pictures[8]).enhance(0.95)  # of one that both have
    a_labels = {name: "cat" if number % 2 else "dog" for number, name in enumerate(first)}
    b_labels = {name: "cat" if number % 2 else "owl" for number, name in enumerate(second)}
    a = labelled(tmp_path / "a", first, a_labels, 64)
    b = labelled(tmp_path / "b", second, b_labels, 64)
    found = compare(a, b)
    assert found.resolution == 64
    assert (found.a.count, found.a.equal, found.a.alike, found.a.alone) == (10, 4, 2, 4)
    assert (found.b.count, found.b.equal, found.b.alike, found.b.alone) == (9, 5, 1, 3)
    assert found.a.alone_files == [f"{number}.png" for number in (1, 2, 3, 4)]
    assert found.b.alone_files == ["b10.png", "b11.png", "b9.png"]
    assert found.equal_files == [("5.png", "again.png"), *((f"{n}.png", f"b{n}.png") for n in (6, 7, 8))]
    assert sorted(found.alike_files) == [("0.png", "near.png"), ("near-8.png", "b8.png")]
    assert (found.a.own_labels, found.b.own_labels) == (["dog"], ["owl"])
    # 5 and its first copy are both cats.
    assert found.relabelled == 3
    assert found.relabelled_files == [
        ("6.png", "b6.png", "dog", "cat"), ("7.png", "b7.png", "cat", "owl"), ("8.png", "b8.png", "dog", "cat")
    ]  # fmt: skip
    back = compare(b, a)
    assert (back.a.equal, back.a.alike, back.a.alone) == (5, 1, 3)
    assert (back.b.equal, back.b.alike, back.b.alone) == (4, 2, 4)


def test_datasets_of_other_resolutions_channels_and_labels(tmp_path: Path) -> None:
    grey = {f"{number}.png": scene((32, 32)).convert("L") for number in range(4)}
    levels = {name: picture.reduce(2) for name, picture in grey.items()}
    a = labelled(tmp_path / "a", grey, None, 32)
    colours = {**levels, "own.png": scene((16, 16))}
    b = labelled(tmp_path / "b", colours, {name: str(number % 2) for number, name in enumerate(colours)}, 16)
    assert (a.channels, b.channels) == (1, 3)
    found = compare(a, b)
    assert (found.resolution, found.relabelled) == (16, None)
    assert found.a.equal + found.a.alike == found.b.equal + found.b.alike == 4
    assert found.b.alone_files == ["own.png"]
    same = compare(a, a)
    assert (same.a.equal, same.b.equal, same.a.alike, same.a.alone) == (4, 4, 0, 0)


def test_attributes_that_differ(tmp_path: Path) -> None:
    images = RANDOM.integers(0, 256, (6, 8, 8), dtype=np.uint8)
    tables = np.eye(6, 3), np.eye(6, 3)
    tables[0][5] = tables[1][5] = 1  # more than one hot: attributes
    tables[1][2, 1] = 1
    datasets = []
    for name, table in zip("ab", tables, strict=True):
        np.savez(tmp_path / f"{name}.npz", images=images, labels=table)
        prepare(tmp_path / f"{name}.npz", tmp_path / name, PrepareConfig(workers=1))
        datasets.append(Dataset.open(tmp_path / name))
    assert compare(*datasets).relabelled_files == [("2", "2", "1=0", "1=1")]


def test_diff_on_the_command_line(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    split(folder, tmp_path / "train", tmp_path / "heldout", count=9, seed=4)
    code, out, _ = run(capsys, "data", "diff", tmp_path / "train", tmp_path / "heldout")
    assert code == 0
    assert "equal       0 of A, 0 of B" in out
    code, out, _ = run(capsys, "data", "diff", folder, tmp_path / "heldout")
    assert "equal       9 of A, 9 of B" in out
    assert "relabelled  0 equal images have other labels" in out
    code, out, _ = run(capsys, "data", "diff", folder, folder, "--json")
    facts = json.loads(out)
    assert (facts["a"]["equal"], facts["b"]["alone"], len(facts["equal_files"])) == (49, 0, 10)
    np.save(tmp_path / "new.npy", np.zeros((4, 8, 8), np.uint8))
    code, _, said = run(capsys, "data", "diff", tmp_path / "new.npy", tmp_path / "nothing")
    assert code == 2
    assert "nothing does not exist" in said
    assert "preparing" not in said  # the first one, for a second that is missing
