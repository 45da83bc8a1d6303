"""Published sets by name: where they are looked for, in the formats in which they are published, and what is said."""

import dataclasses
import gzip
import io
import json
import math
import re
import shlex
import struct
import sys
import types
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from progan.cli import main, train
from progan.config import PrepareConfig
from progan.data import prepare as preparing
from progan.data.cache import open_data
from progan.data.dataset import Dataset
from progan.data.prepare import decode, prepare
from progan.data.prepare.output import read_ledger
from progan.data.prepare.report import PrepareReport
from progan.data.sources import named
from progan.data.sources.named import SETS, fetch, preparation
from progan.errors import DatasetError

pytestmark = pytest.mark.usefixtures("traced_once")

RANDOM = np.random.default_rng(0)
DIGITS = RANDOM.integers(0, 256, (6, 28, 28), dtype=np.uint8)
COLOUR = RANDOM.integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)
FACES = RANDOM.integers(0, 256, (6, 218, 178, 3), dtype=np.uint8)
CODES = [2, 0, 1, 1, 0, 2]


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The empty folder of $PROGAN_DATA; the current folder is an empty one, too."""
    folder = tmp_path / "data"
    folder.mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv(named.FOLDER, str(folder))
    monkeypatch.setenv("PROGAN_CACHE", str(tmp_path / "cache"))
    without_system = dataclasses.replace(SETS["fashion-mnist"], system="")  # this machine may have the package
    monkeypatch.setitem(SETS, "fashion-mnist", without_system)
    return folder


def made(source: str, out: Path, **settings: Any) -> tuple[Dataset, PrepareReport]:
    report = prepare(source, out, preparation(source, workers=1, **settings))
    return Dataset.open(out, verify=True), report


def top(dataset: Dataset) -> np.ndarray:
    return dataset.pixels(dataset.resolutions[-1], np.arange(dataset.count)).transpose(0, 2, 3, 1)


def words(dataset: Dataset) -> list[str]:
    labels = dataset.labels(np.arange(dataset.count))
    assert labels is not None
    return [dataset.label_names[code] for code in labels.argmax(1)]


def png(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def write(folder: Path, contents: dict[str, bytes]) -> Path:
    for name, content in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def zipped(path: Path, contents: dict[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    return path


# --- the formats in which they are published


def mnist(folder: Path) -> Path:
    """The four files, gzipped."""

    def idx(array: np.ndarray) -> bytes:
        return gzip.compress(struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes())

    files = {}
    for part, some in (("train", slice(None)), ("t10k", slice(2))):
        files[f"{part}-images-idx3-ubyte.gz"] = idx(DIGITS[some])
        files[f"{part}-labels-idx1-ubyte.gz"] = idx(np.array(CODES, np.uint8)[some])
    return write(folder, files)


ATTRIBUTES = "6\nSmiling Young\n" + "".join(f"{n + 1:06d}.jpg {1 if n % 2 else -1}  1\n" for n in range(6))
PARTITION = "".join(f"{n + 1:06d}.jpg {n % 3}\n" for n in range(6))
PARTS = ("lefteye", "righteye", "nose", "leftmouth", "rightmouth")
HEADER = " ".join(f"{part}_{axis}" for part in PARTS for axis in "xy")
LANDMARKS = f"6\n{HEADER}\n" + "".join(f"{n + 1:06d}.jpg 69 111 107 111 88 131 73 152 104 152\n" for n in range(6))
ALIGNED = {f"img_align_celeba/{n + 1:06d}.jpg": png(face) for n, face in enumerate(FACES)}  # known by content


def celeba(folder: Path, layout: str) -> Path:
    """The download page's folders, torchvision's, or Kaggle's single zip."""
    tables = {"list_attr_celeba.txt": ATTRIBUTES.encode(), "list_landmarks_align_celeba.txt": LANDMARKS.encode()}
    if layout == "page":
        write(folder / "Anno", tables)
        write(folder / "Eval", {"list_eval_partition.txt": PARTITION.encode()})
        zipped(folder / "Img" / "img_align_celeba.zip", ALIGNED)
    elif layout == "torchvision":
        write(folder, {**tables, "list_eval_partition.txt": PARTITION.encode(), **ALIGNED})
    else:
        csv = [ATTRIBUTES.split("\n", 1)[1].replace("Smiling Young", "image_id Smiling Young")]
        csv.append("image_id partition\n" + PARTITION)
        names = ("list_attr_celeba.csv", "list_eval_partition.csv")
        contents = {
            name: ",".join(text.split(" ")).replace(",,", ",").encode() for name, text in zip(names, csv, strict=True)
        }
        inner = {f"img_align_celeba/{name}": content for name, content in ALIGNED.items()}
        return zipped(folder.with_suffix(".zip"), {**inner, **contents})
    return folder


@pytest.mark.parametrize("layout", ["page", "torchvision", "kaggle"])
def test_celeba_as_it_is_published(data: Path, tmp_path: Path, layout: str) -> None:
    place = celeba(data / "CelebA", layout)
    for number, name in enumerate(("celeba", f"celeba={place}")):
        dataset, report = made(name, tmp_path / f"out{number}")
        assert (dataset.name, dataset.label_names, report.skipped) == ("celeba", ("Smiling", "Young"), {})
        assert (top(dataset) == FACES[:, 57:185, 25:153]).all()  # 128x128 around (89, 121), as the authors cut it
        labels = dataset.labels(np.arange(6))
        assert labels is not None
        assert labels.tolist() == [[n % 2, 1] for n in range(6)]
        assert any("all partitions are taken: train (2)" in note for note in report.notes)
    assert (top(made("celeba", tmp_path / "part", partition="test")[0]) == FACES[[2, 5], 57:185, 25:153]).all()
    whole, _ = made("celeba", tmp_path / "whole", crop="none", resolution=256)  # what is given wins
    assert whole.resolutions[-1] == 256


DOTS = [  # both eyes, nose, corners of the mouth: upright, turned and small, and upside down
    [(69, 111), (107, 111), (88, 131), (73, 152), (104, 152)],
    [(60, 60), (80, 75), (64, 76), (51, 75), (66, 86)],
    [(220, 200), (160, 200), (190, 170), (212, 140), (168, 140)],
]


def dotted(size: tuple[int, int], dots: list[tuple[int, int]]) -> bytes:
    """A grey picture with a red dot on the left eye and a blue one on the right."""
    picture = Image.new("RGB", size, (128, 128, 128))
    for (x, y), colour in zip(dots, ("red", "blue"), strict=False):
        picture.paste(Image.new("RGB", (3, 3), colour), (x - 1, y - 1))
    return png(np.asarray(picture))


def centre(image: np.ndarray, channel: int) -> tuple[float, float]:
    """Where the red (0) or blue (2) dot is, in pixels from the corner."""
    weight = np.maximum(image[..., channel].astype(float) - image[..., 2 - channel] - 20, 0)
    rows, columns = np.mgrid[: len(image), : len(image)] + 0.5
    return float((weight * columns).sum() / weight.sum()), float((weight * rows).sum() / weight.sum())


def landmarks(dots: list[list[tuple[int, int]]], csv: bool = False) -> bytes:
    lines = [f"{n + 1:06d}.jpg " + "  ".join(f"{x} {y}" for x, y in points) for n, points in enumerate(dots)]
    text = "\n".join([f"image_id {HEADER}" if csv else f"{len(dots)}\n{HEADER}", *lines, ""])
    return re.sub(" +", ",", text).encode() if csv else text.encode()


@pytest.mark.parametrize("layout", ["wild", "wild.zip", "aligned", "kaggle.zip"])
@pytest.mark.parametrize("align", ["celeba", "ffhq"])
def test_celeba_aligned_anew_by_its_landmarks(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layout: str, align: str
) -> None:
    """Both tables lie there, with the same names of files: that of the pictures is taken, and no face is looked for."""
    monkeypatch.setattr(decode, "find_faces", None)
    monkeypatch.setattr(preparing, "load_detector", None)
    wild, aligned = DOTS, [[(x, y + n) for x, y in DOTS[0]] for n in range(3)]
    is_wild = layout.startswith("wild")
    dots, size, name = (wild, (300, 260), "img_celeba") if is_wild else (aligned, (178, 218), "img_align_celeba")
    pictures = {f"{name}/{n + 1:06d}.jpg": dotted(size, points) for n, points in enumerate(dots)}
    lists = {"list_landmarks_celeba": landmarks(wild), "list_landmarks_align_celeba": landmarks(aligned)}
    place = data / "CelebA"
    if layout == "kaggle.zip":
        zipped(data / "celeba.zip", {**pictures, "list_landmarks_align_celeba.csv": landmarks(aligned, csv=True)})
    else:
        write(place / "Anno", {f"{table}.txt": content for table, content in lists.items()})
        if layout == "wild.zip":
            zipped(place / "Img" / f"{name}.zip", pictures)
        else:
            write(place / "Img", pictures)
    dataset, report = made("celeba", tmp_path / "out", crop="faces", align=align, resolution=128, channels="rgb")
    assert (dataset.count, report.skipped) == (3, {})
    table = "list_landmarks_celeba" if is_wild else "list_landmarks_align_celeba"
    assert any(f"faces are where {table}." in note for note in report.notes)
    for image, points in zip(top(dataset), dots, strict=True):
        (x0, y0), (x1, y1), _, (x2, y2), (x3, y3) = points
        eyes, mouth = math.dist((x0, y0), (x1, y1)), math.dist((x0 + x1, y0 + y1), (x2 + x3, y2 + y3)) / 2
        if align == "celeba":  # where its aligned pictures have the eyes on average, in 128x128 around (89, 121)
            part = eyes / max(eyes, 0.65 * mouth)
            places = [(45.245 + 37.492 / 2 * (1 + side * part), 54.5) for side in (-1, 1)]
        else:  # appendix C of the paper
            square = max(4.0 * eyes, 3.6 * mouth)
            places = [(64 + side * 64 * eyes / square, 64 - 12.8 * mouth / square) for side in (-1, 1)]
        assert np.allclose([centre(image, 0), centre(image, 2)], places, atol=1.5), (points, align)


def test_landmarks_that_do_not_fit(data: Path, tmp_path: Path) -> None:
    dots = [DOTS[0], [(900, 900)] * 5, [(20, 20)] * 5, DOTS[0]]
    pictures = {f"img_align_celeba/{n + 1:06d}.jpg": dotted((178, 218), DOTS[0]) for n in range(5)}  # the last unnamed
    write(data / "celeba" / "Img", pictures)
    table = data / "celeba" / "Anno" / "list_landmarks_align_celeba.txt"
    write(table.parent, {table.name: landmarks(dots)})
    dataset, report = made("celeba", tmp_path / "out", crop="faces", resolution=64)
    assert (dataset.count, report.skipped) == (2, {"no eyes": 3})
    reasons = [row["detail"] for row in read_ledger(tmp_path / "out" / "skipped.csv")]
    assert reasons == [
        "the landmarks are not those of this picture",
        "both are in the same place",
        "the table of landmarks does not name it",
    ]
    assert made("celeba", tmp_path / "two", crop="faces", resolution=64, max_images=1)[0].count == 1
    before = (tmp_path / "out" / "dataset.json").read_bytes()
    table.write_bytes(landmarks([DOTS[1], *dots[1:]]))  # another table is another set
    with pytest.raises(DatasetError, match="made from another source"):
        made("celeba", tmp_path / "out", crop="faces", resolution=64)
    assert (tmp_path / "out" / "dataset.json").read_bytes() == before
    words = landmarks(dots).replace(b" 69 ", b" x ")
    for content, said in (
        (b"4\nnose_x\n000001.jpg 1\n000002.jpg 2\n000003.jpg 3\n", "no column lefteye_x"),
        (words, "a landmark that is no number"),
    ):
        table.write_bytes(content)
        with pytest.raises(DatasetError, match=said):
            made("celeba", tmp_path / "bad", crop="faces", resolution=64)


def celeba_hq(layout: str, folder: Path) -> Path:
    faces = {f"CelebA-HQ-img/{n}.jpg": png(image) for n, image in enumerate(COLOUR)}
    attributes = "6\nBald Male\n" + "".join(f"{n}.jpg  {1 if n < 2 else -1} -1\n" for n in range(6))
    if layout in ("masks", "masks.zip"):
        masks = {f"CelebAMask-HQ-mask-anno/0/{n:05d}_{part}.png": png(COLOUR[0]) for n in range(6) for part in "abc"}
        files = {**faces, **masks, "CelebAMask-HQ-attribute-anno.txt": attributes.encode(), "README.txt": b"read me"}
        files = {f"CelebAMask-HQ/{name}": content for name, content in files.items()}
        return write(folder, files) if layout == "masks" else zipped(folder / "CelebAMask-HQ.zip", files).parent
    if layout == "folder":
        return write(folder, {f"{n:05d}.png": png(image) for n, image in enumerate(COLOUR)})
    if layout == "zip":
        return zipped(folder.with_suffix(".zip"), {f"{n:05d}.png": png(image) for n, image in enumerate(COLOUR)})
    if layout == "npz":
        np.savez_compressed(folder.with_suffix(".npz"), images=COLOUR)
        return folder.with_suffix(".npz")
    return parquet(folder / "data" / "train-00000-of-00001.parquet", COLOUR).parent.parent


@pytest.mark.parametrize("layout", ["masks", "masks.zip", "folder", "zip", "npz", "parquet"])
def test_celeba_hq_as_people_have_it(data: Path, tmp_path: Path, layout: str) -> None:
    place = celeba_hq(layout, data / "celeba_hq")
    for number, name in enumerate(("celeba-hq", f"celeba-hq={place}")):
        dataset, _ = made(name, tmp_path / f"out{number}")
        assert (dataset.name, (top(dataset) == COLOUR).all()) == ("celeba-hq", True)
        if layout.startswith("masks"):
            assert dataset.label_names == ("Bald", "Male")
            labels = dataset.labels(np.arange(6))
            assert labels is not None
            assert labels[:, 0].tolist() == [1, 1, 0, 0, 0, 0]


def test_mnist_and_its_parts(data: Path, tmp_path: Path) -> None:
    mnist(data / "MNIST" / "raw")  # as torchvision has it
    dataset, report = made("mnist", tmp_path / "out")
    assert (dataset.name, dataset.count, words(dataset)) == ("mnist", 6, [str(code) for code in CODES])
    assert (top(dataset)[:, 2:30, 2:30, 0] == DIGITS).all()
    assert f"mnist is {data / 'MNIST'}" in report.notes
    assert made("mnist", tmp_path / "test", partition="test")[0].count == 2
    with pytest.raises(DatasetError, match="mnist has no labels of ten classes"):  # it has three here
        made("stacked:mnist", tmp_path / "stacked")
    with pytest.raises(DatasetError, match="has no labels of ten classes"):  # and not: has no partitions
        made("stacked:mnist", tmp_path / "stacked", partition="test")


def test_fashion_mnist_of_debians_package(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    system = mnist(tmp_path / "usr" / "fashion-mnist")
    monkeypatch.setitem(SETS, "fashion-mnist", named.NamedSet("files", ("fashion-mnist",), system=str(system)))
    for is_set in (True, False):
        if not is_set:
            monkeypatch.delenv(named.FOLDER)
        dataset, report = made("fashion-mnist", tmp_path / f"out{is_set}")
        assert (dataset.name, dataset.count) == ("fashion-mnist", 6)
        assert f"fashion-mnist is {system}" in report.notes
    monkeypatch.setenv(named.FOLDER, str(data))
    mnist(data / "fashion_mnist")  # the user's own comes first
    assert f"fashion-mnist is {data / 'fashion_mnist'}" in made("fashion-mnist", tmp_path / "own")[1].notes


def cifar10(folder: Path) -> Path:
    records = np.concatenate([np.array(CODES)[:, None], COLOUR.transpose(0, 3, 1, 2).reshape(6, -1)], 1)
    return write(folder, {"data_batch_1.bin": records.astype(np.uint8).tobytes(), "batches.meta.txt": b"a\nb\nc\n"})


def ffhq(folder: Path) -> Path:
    for part, size in (("thumbnails128x128", 16), ("images1024x1024", 32)):
        write(folder, {f"{part}/{n // 3}000/{n}.png": png(image[:size]) for n, image in enumerate(COLOUR)})
    return folder


def lsun(folder: Path) -> Path:
    lmdb = pytest.importorskip("lmdb")
    folder.mkdir(parents=True)
    with lmdb.open(str(folder), map_size=2**24) as environment, environment.begin(write=True) as transaction:
        for number, image in enumerate(COLOUR):
            transaction.put(f"{number:040x}".encode(), png(image))
    return folder


def test_cifar_lsun_and_ffhq(data: Path, tmp_path: Path) -> None:
    cifar10(data / "cifar-10-batches-bin")
    dataset, _ = made("cifar10", tmp_path / "cifar")
    assert (words(dataset), (top(dataset) == COLOUR).all()) == ([["a", "b", "c"][code] for code in CODES], True)
    # Folders of thousands, which are no classes; the thumbnails only where the large ones are not there.
    ffhq(data / "ffhq")
    dataset, _ = made("ffhq", tmp_path / "ffhq")
    assert (dataset.label_kind, (top(dataset) == COLOUR).all()) == (None, True)
    lsun(data / "lsun" / "church_outdoor_train_lmdb")
    for number, name in enumerate(("lsun:church_outdoor", f"lsun:church_outdoor={data / 'lsun'}")):
        dataset, _ = made(name, tmp_path / f"lsun{number}")
        assert (dataset.name, (top(dataset) == COLOUR).all()) == ("lsun-church_outdoor", True)


# --- Hugging Face


def parquet(path: Path, pixels: np.ndarray) -> Path:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    features = {"image": {"_type": "Image"}, "label": {"names": ["zebra", "ape", "owl"], "_type": "ClassLabel"}}
    cells = [{"bytes": png(one), "path": f"{number}.png"} for number, one in enumerate(pixels)]
    table = pyarrow.table({"image": cells, "label": CODES[: len(cells)]})
    table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(table, path)
    return path


def test_the_splits_of_a_set_of_hugging_face(data: Path, tmp_path: Path) -> None:
    parquet(data / "owner" / "name" / "data" / "train-00000-of-00001.parquet", COLOUR)
    parquet(data / "owner" / "name" / "data" / "odd_ones-00000-of-00001.parquet", COLOUR[:2])
    dataset, _ = made("hf:owner/name", tmp_path / "all")
    assert (dataset.name, dataset.count, words(dataset)[0]) == ("owner-name", 6, "owl")
    dataset, _ = made("hf:owner/name:odd_ones", tmp_path / "odd")
    assert (dataset.name, dataset.count) == ("owner-name-odd_ones", 2)
    with pytest.raises(DatasetError, match=r"has no split test\. There are odd_ones, train"):
        made("hf:owner/name:test", tmp_path / "no")
    for name in ("hf:", "hf:owner", "hf:../..", "hf:a/b/c", "lsun:", "lsun"):
        with pytest.raises(DatasetError, match="is not understood"):
            made(name, tmp_path / "no")


def test_download_through_datasets(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real library in offline mode: OWNER/NAME is a local folder with parquet files, which it takes as it is."""
    pytest.importorskip("datasets")
    from datasets import config

    monkeypatch.setattr(config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(config, "HF_DATASETS_CACHE", str(tmp_path / "hf"))
    parquet(Path("owner") / "name" / "data" / "train-00000-of-00001.parquet", COLOUR)
    parquet(Path("owner") / "name" / "data" / "test-00000-of-00001.parquet", COLOUR[:2])
    with pytest.raises(DatasetError, match=r"not here\. Download .* Or let --download fetch it"):
        made("hf:owner/name", tmp_path / "no")
    assert main(["prepare", "hf:owner/name", str(tmp_path / "out"), "--download", "--workers", "1", "--quiet"]) == 0
    dataset = Dataset.open(tmp_path / "out")
    assert (words(dataset), (top(dataset) == COLOUR).all()) == ([["zebra", "ape", "owl"][code] for code in CODES], True)
    names = [f"{part}-00000-of-00001.parquet" for part in ("test", "train")]
    assert sorted(path.name for path in (data / "owner" / "name").iterdir()) == names
    assert {path.name for path in (data / "owner").iterdir()} == {"name"}
    # Once it is here, nothing is asked for again.
    monkeypatch.setitem(sys.modules, "datasets", types.ModuleType("datasets"))
    fetch("hf:owner/name")
    assert made("hf:owner/name:test", tmp_path / "test")[0].count == 2


def test_what_cannot_be_downloaded(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DatasetError, match=r"datasets is missing .*'\.\[hub\]'"):
        fetch("mnist")
    with pytest.raises(DatasetError, match=r"Download img_align_celeba\.zip"):  # not there in that form
        fetch("celeba")
    with pytest.raises(DatasetError, match="is not the name of a published set"):
        fetch("photos")
    monkeypatch.delenv(named.FOLDER)
    with pytest.raises(DatasetError, match="set PROGAN_DATA to the folder"):
        fetch("mnist")
    assert not list(data.iterdir())


# --- what is said


def test_a_path_of_that_name_wins_and_it_is_said(data: Path, tmp_path: Path) -> None:
    mnist(data / "mnist")
    write(Path("mnist"), {f"{n}.png": png(image) for n, image in enumerate(COLOUR[:3])})
    dataset, report = made("mnist", tmp_path / "out")
    assert dataset.count == 3
    assert report.notes == (
        "mnist is the file or folder of that name here, not the published set (mnist=PATH names that)",
    )
    assert made(f"mnist={data / 'mnist'}", tmp_path / "named")[0].count == 6
    write(Path("celeba"), {f"{n}.png": png(image) for n, image in enumerate(COLOUR[:3])})
    assert preparation("celeba") == PrepareConfig()  # and it is not cropped as the set would be
    assert made("./mnist", tmp_path / "path")[1].notes == ()


@pytest.mark.parametrize("name", [*SETS, "lsun:bedroom", "hf:a/b", "hf:a/b:test"])
@pytest.mark.parametrize("is_set", [True, False])
def test_what_is_not_here(
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    is_set: bool,
) -> None:
    monkeypatch.setattr(named.os.path, "isdir", lambda path: Path(path).is_dir() and not str(path).startswith("/usr"))
    if not is_set:
        monkeypatch.delenv(named.FOLDER)
    for command in (["prepare", name, str(tmp_path / "out")], ["train", "mnist32", "--data", name, "--dry-run"]):
        assert main(command) == 2
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1
        assert f"{name} is not here. Download" in lines[0]
        assert f"{name}=PATH" in lines[0]
        assert (str(data) if is_set else "set PROGAN_DATA=FOLDER") in lines[0]
    assert not (tmp_path / "out").exists()


def test_misspelt_and_misplaced(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DatasetError, match=r"fashon-mnist does not exist; did you mean fashion-mnist"):
        made("fashon-mnist", tmp_path / "no")
    with pytest.raises(DatasetError, match=r"/nowhere does not exist\. For celeba, download img_align_celeba\.zip"):
        made("celeba=/nowhere", tmp_path / "no")
    prepare("avatars:3", data / "mnist", PrepareConfig(resolution=4, workers=1))
    with pytest.raises(DatasetError, match=r"is a prepared dataset\. Name it by itself"):
        made("mnist", tmp_path / "no")
    monkeypatch.setenv(named.FOLDER, str(data / "nowhere"))
    with pytest.raises(DatasetError, match="which is no folder"):
        made("cifar10", tmp_path / "no")


def test_a_named_set_is_prepared_once_and_again_when_it_changes(data: Path) -> None:
    mnist(data / "mnist")
    lines: list[str] = []
    first = open_data("mnist", None, lines.append)
    assert open_data("mnist", None, lines.append).path == first.path
    assert any(line.startswith("mnist was prepared before") for line in lines)
    (data / "mnist" / "t10k-labels-idx1-ubyte.gz").write_bytes(b"")
    assert open_data("mnist").path != first.path


# --- docs/data.md

PAGE = Path(__file__).parents[2] / "docs" / "data.md"
SECTIONS = {
    title: re.findall(r"^    progan (.*)$", text, flags=re.MULTILINE)
    for title, _, text in (part.partition("\n") for part in PAGE.read_text(encoding="utf-8").split("\n## ")[1:])
}
TINY = (
    "--fmap-max 8 --fmap-base 64 --z-dim 8 --start-resolution 8 --resolution 8 --batch-size 8 --stable-kimg 0.02 "
    "--fade-kimg 0.02 --total-kimg 0.06 --tick-kimg 0.02 --device cpu --compile off --precision fp32 --quiet"
).split()


def downloads(data: Path) -> None:
    """Six images of every set, as the page says that they are downloaded."""
    for name in ("mnist", "fashion-mnist"):
        mnist(data / name)
    cifar10(data / "cifar-10-batches-bin")
    celeba(data / "celeba", "page")
    celeba_hq("masks.zip", data / "celeba-hq")
    ffhq(data / "ffhq")
    lsun(data / "lsun" / "bedroom_train_lmdb")
    parquet(Path("ylecun") / "mnist" / "train-00000-of-00001.parquet", DIGITS)


TITLES = [title for title, found in SECTIONS.items() if found]


@pytest.mark.parametrize("title", [TITLES[0], *(pytest.param(title, marks=pytest.mark.slow) for title in TITLES[1:])])
def test_from_a_download_to_a_grid(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, title: str) -> None:
    pytest.importorskip("datasets")
    from datasets import config

    monkeypatch.setattr(config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(config, "HF_DATASETS_CACHE", str(tmp_path / "hf"))
    monkeypatch.setattr(train, "write_report", lambda result: None)  # the page of a run has its own tests
    downloads(data)
    runs = []
    for command in SECTIONS[title]:
        words = shlex.split(command)
        runs += [Path(words[words.index("--out") + 1])] if words[0] == "train" else []
        assert main([*words, *(TINY if words[0] == "train" else [])]) == 0, command
    assert len(runs) == 1
    assert list((runs[0] / "samples").glob("*.png"))


def test_the_page_has_a_section_for_every_set() -> None:
    assert len(TITLES) == len(SETS) + 2  # LSUN and Hugging Face
