"""The StyleGAN family's zips and folders: their labels; and what `prepare --to` writes, such zips among it."""

import csv
import io
import itertools
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from progan.cli import main
from progan.config import PrepareConfig
from progan.data.dataset import Dataset
from progan.data.prepare import prepare, writers
from progan.data.prepare.output import read_ledger
from progan.data.prepare.writers import prepare_as
from progan.errors import DatasetError

ONE = PrepareConfig(workers=1)
COLOUR = np.random.default_rng(0).integers(0, 256, (6, 16, 16, 3), dtype=np.uint8)
NAMES = [f"{n // 3:05d}/img{n:08d}.png" for n in range(6)]  # two folders, which are no classes


def stylegan(path: Path, labels: Any, extra: str = "") -> Path:
    """A zip, or a folder where the name has no suffix, as dataset_tool.py writes it."""
    files = {"dataset.json": json.dumps({"labels": labels}).encode()}
    for name, image in zip(NAMES, COLOUR, strict=True):
        encoded = io.BytesIO()
        Image.fromarray(image).save(encoded, "PNG")
        files[name] = encoded.getvalue()
    files = {extra + name: content for name, content in files.items()}
    if path.suffix:
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in files.items():
                archive.writestr(name, content)
        return path
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


def prepared(source: Path, out: Path, config: PrepareConfig = ONE) -> Dataset:
    prepare(source, out, config)
    return Dataset.open(out, verify=True)


def table(dataset: Dataset) -> np.ndarray:
    labels = dataset.labels(np.arange(dataset.count))
    assert labels is not None
    return labels


@pytest.mark.parametrize("place", ["a.zip", "folder"])
@pytest.mark.parametrize("extra", ["", "wrapped/"])
def test_class_numbers_are_columns(tmp_path: Path, place: str, extra: str) -> None:
    numbers = [4, 0, 4, 2, 0, 2]
    source = stylegan(tmp_path / place, list(zip(NAMES, numbers, strict=True))[::-1], extra)
    dataset = prepared(source, tmp_path / "out")
    assert (dataset.label_kind, dataset.label_names) == ("class", ("0", "1", "2", "3", "4"))
    assert np.array_equal(table(dataset), np.eye(5)[numbers])
    assert (dataset.pixels(16, np.arange(6)).transpose(0, 2, 3, 1) == COLOUR).all()
    assert not (tmp_path / "out" / "skipped.csv").exists()


@pytest.mark.parametrize("labels", [None, []])
def test_no_labels(tmp_path: Path, labels: Any) -> None:
    """The folders of the layout are no classes, and dataset.json is no failed image."""
    source = stylegan(tmp_path / "a.zip", labels)
    dataset = prepared(source, tmp_path / "out", PrepareConfig(strict=True, workers=1))
    assert (dataset.label_kind, dataset.count) == (None, 6)


def test_a_folder_of_stylegan_is_no_prepared_dataset(tmp_path: Path) -> None:
    source = stylegan(tmp_path / "folder", None)
    assert main(["train", "quickstart", "--data", str(source), "--dry-run", "--json"]) == 0


@pytest.mark.parametrize("low", [0.0, 0.25, -1.0])
def test_vectors_are_attributes_from_0_to_1(tmp_path: Path, low: float) -> None:
    vectors = np.where(np.arange(12).reshape(6, 2) % 5 < 2, low, 1.0)
    source = stylegan(tmp_path / "a.zip", list(zip(NAMES, vectors.tolist(), strict=True)))
    dataset = prepared(source, tmp_path / "out")
    assert (dataset.label_kind, dataset.label_names) == ("attributes", ("0", "1"))
    assert np.array_equal(table(dataset), np.maximum(vectors, 0))  # -1 and 1 are no and yes, as CelebA has them


def test_labels_none(tmp_path: Path) -> None:
    source = stylegan(tmp_path / "a.zip", [["elsewhere.png", -3]])
    config = PrepareConfig(labels="none", strict=True, workers=1)
    assert prepared(source, tmp_path / "out", config).label_kind is None


def test_an_image_without_a_label_is_refused(tmp_path: Path) -> None:
    source = stylegan(tmp_path / "a.zip", [[name, n % 2] for n, name in enumerate(NAMES) if n != 4])
    dataset = prepared(source, tmp_path / "out")
    assert table(dataset).argmax(1).tolist() == [0, 1, 0, 1, 1]
    (row,) = read_ledger(tmp_path / "out" / "skipped.csv")
    assert (row["file"], row["detail"]) == (NAMES[4], "no label in dataset.json")


@pytest.mark.parametrize(
    "labels",
    [
        [-1] * 6,
        [0, 1, 2, 3, 4, 10**9],
        [[0.5]] * 5 + [[0.5, 1]],
        [1] * 5 + [[1.0]],
        [[]] * 6,
        [True] * 6,
        [[float("nan")]] * 6,
        [[["a"]]] * 6,
        [[10**400]] * 6,
    ],
)
def test_labels_that_are_none(tmp_path: Path, labels: list[Any]) -> None:
    source = stylegan(tmp_path / "a.zip", list(zip(NAMES, labels, strict=True)))
    with pytest.raises(DatasetError, match=r"neither class numbers nor vectors of one length\. .* --labels none"):
        prepare(source, tmp_path / "out", ONE)


def test_labels_of_other_images(tmp_path: Path) -> None:
    source = stylegan(tmp_path / "a.zip", [[f"else/{n}.png", n] for n in range(6)])
    with pytest.raises(DatasetError, match=r"dataset\.json does not name most of the images"):
        prepare(source, tmp_path / "out", ONE)


# --- writing


def arrays(path: Path, **labels: np.ndarray) -> Path:
    np.savez(path, images=COLOUR, **labels)
    return path


LABELS = {
    "none": {},
    "class": {"labels": np.array([7, 3, 7, 5, 3, 5])},
    "attributes": {"labels": COLOUR[:, 0, 0] / 255},
}


OUTS = {"stylegan-zip": "out.zip", "npz": "out.npz", "imagefolder": "out", "parquet": "out.parquet"}


def content(path: Path) -> dict[str, bytes]:
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return {str(file.relative_to(path)): file.read_bytes() for file in files}


def everything(dataset: Dataset, to: str) -> Any:
    """Names of the labels, and pixels and labels of the images, in order but for folders of classes."""
    numbers = np.arange(dataset.count)
    labels = table(dataset) if dataset.label_kind else numbers
    images = zip(dataset.pixels(16, numbers).tolist(), labels.tolist(), strict=True)
    return dataset.label_names, (sorted(images) if to == "imagefolder" and dataset.label_kind else list(images))


@pytest.mark.parametrize("to", OUTS)
@pytest.mark.parametrize("kind", LABELS)
@pytest.mark.parametrize("channels", ["grey", "rgb"])
def test_what_is_written_gives_the_dataset_it_was_made_of(tmp_path: Path, to: str, kind: str, channels: Any) -> None:
    config = PrepareConfig(channels=channels, workers=1)
    source = arrays(tmp_path / "a.npz", **LABELS[kind])
    expected = prepared(source, tmp_path / "direct", config)
    out = tmp_path / OUTS[to]
    report = prepare_as(to, source, out, config)
    assert (report.count, report.out, report.bytes) == (6, str(out), sum(map(len, content(out).values())))
    found = prepared(out, tmp_path / "again")
    assert expected.label_kind == found.label_kind == {"none": None}.get(kind, kind)
    assert everything(found, to) == everything(expected, to)
    assert (found.fingerprint == expected.fingerprint) or (to, kind) == ("imagefolder", "class")
    assert {path.name for path in tmp_path.iterdir()} == {"a.npz", "direct", out.name, "again"}
    prepare_as(to, tmp_path / "direct", tmp_path / f"of-dataset{out.suffix}")
    assert content(tmp_path / f"of-dataset{out.suffix}") == content(out)


def test_what_stylegan_expects(tmp_path: Path) -> None:
    prepare_as("stylegan-zip", arrays(tmp_path / "a.npz", **LABELS["class"]), tmp_path / "out.zip", ONE)
    names = [f"00000/img{n:08d}.png" for n in range(6)]
    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        assert archive.namelist() == [*names, "dataset.json"]
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}
        assert json.loads(archive.read("dataset.json"))["labels"] == [
            list(pair) for pair in zip(names, [2, 0, 2, 1, 0, 1], strict=True)
        ]
        with Image.open(archive.open(names[3])) as image:
            assert (image.format, np.array_equal(image, COLOUR[3])) == ("PNG", True)
    prepare_as("stylegan-zip", arrays(tmp_path / "b.npz"), tmp_path / "bare.zip", ONE)
    with zipfile.ZipFile(tmp_path / "bare.zip") as archive:
        assert json.loads(archive.read("dataset.json")) == {"labels": None}


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = stylegan(tmp_path / "folder", None)
    (source / "note.txt").write_text("no image")
    command = ["prepare", str(source), str(tmp_path / "out.zip"), "--to", "stylegan-zip", "--workers", "1"]
    assert main(command) == 0
    assert f"named in {tmp_path / 'out.zip'}.skipped.csv" in capsys.readouterr().out
    assert [row["file"] for row in read_ledger(tmp_path / "out.zip.skipped.csv")] == ["note.txt"]
    assert main(command) == 2
    assert "is there already" in capsys.readouterr().err


@pytest.mark.parametrize("to", OUTS)
def test_what_was_interrupted_is_not_there_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, to: str
) -> None:
    source, out = arrays(tmp_path / "a.npz"), tmp_path / OUTS[to]
    rows = writers._rows

    def fail(dataset: Dataset) -> Iterator[Any]:
        yield from itertools.islice(rows(dataset), 3)
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(writers, "_rows", fail)
        with pytest.raises(DatasetError, match="No space left on device"):
            prepare_as(to, source, out, ONE)
    assert not list(tmp_path.rglob(out.name))
    (tmp_path / f".{out.name}.work" / out.name).write_text("of a killed process")
    assert prepare_as(to, source, out, ONE).state == "already there"  # its images were
    assert {path.name for path in tmp_path.iterdir()} == {"a.npz", out.name}


def test_one_label_for_all_images_of_an_npz_is_one_line(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=COLOUR, labels=np.array(1), label_names=np.array(["cat", "dog"]))
    with pytest.raises(DatasetError, match=r"has labels of shape \[\] for 6 images"):
        prepare(tmp_path / "a.npz", tmp_path / "out", ONE)


def test_a_list_of_skipped_files_is_that_of_the_last_call(tmp_path: Path) -> None:
    source = stylegan(tmp_path / "folder", None)
    (source / "broken.png").write_text("no image")
    prepare_as("npz", source, tmp_path / "out.npz", ONE)
    (source / "broken.png").unlink()
    (tmp_path / "out.npz").unlink()
    assert (tmp_path / "out.npz.skipped.csv").exists()
    prepare_as("npz", source, tmp_path / "out.npz", ONE)
    assert not (tmp_path / "out.npz.skipped.csv").exists()


@pytest.mark.parametrize("name", [".", "/", "..", "s3://bucket/name"])
def test_a_name_that_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(writers, "refuse_existing", lambda out: None)
    kind, message = ("npz", "bucket/name must end in .npz") if "s3" in name else ("imagefolder", "is no name")
    with pytest.raises(DatasetError, match=message):
        prepare_as(kind, arrays(tmp_path / "a.npz"), name, ONE)


UNUSUAL = {
    "one attribute": ("attributes", ("hat",), [[0.0], [1.0], [1.0], [0.0], [1.0], [0.0]]),
    "two of which one is true": ("attributes", ("hat", "cap"), [[0.0, 1.0], [1.0, 0.0]] * 3),
    "one class of two": ("class", ("cat", "dog"), [[1.0, 0.0]] * 6),
    "an unused class": ("class", ("cat", "dog", "owl"), [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]] * 3),
}


@pytest.mark.parametrize("to", ["npz", "stylegan-zip"])
@pytest.mark.parametrize("kind", UNUSUAL)
def test_labels_that_look_like_others_come_back_as_they_were(tmp_path: Path, to: str, kind: str) -> None:
    label_kind, names, rows = UNUSUAL[kind]
    labels: Any = np.array(rows, np.float32)
    np.savez(
        tmp_path / "a.npz",
        images=COLOUR,
        labels=labels.argmax(1) if label_kind == "class" else labels,
        label_names=np.array(names),
    )
    first = prepared(tmp_path / "a.npz", tmp_path / "first")
    prepare_as(to, tmp_path / "first", tmp_path / OUTS[to])
    again = prepared(tmp_path / OUTS[to], tmp_path / "again")
    for dataset in (first, again):
        assert (dataset.label_kind, dataset.label_names, table(dataset).tolist()) == (label_kind, names, rows)
    assert first.fingerprint == again.fingerprint


WORDS = ["zebra", "../up", "Train", "a.b", ".hidden", "Zebra"]


def named_classes(folder: Path) -> Path:
    """A dataset whose classes have names that folders cannot all have, in an order that is not that of words."""
    table = {f"{n}.png": WORDS[n] for n in range(6)}
    for name, image in zip(table, COLOUR, strict=True):
        folder.mkdir(exist_ok=True)
        Image.fromarray(image).save(folder / name)
    (folder / "labels.json").write_text(json.dumps(table))
    return folder


def test_names_of_classes_that_no_folder_can_have(tmp_path: Path) -> None:
    expected = prepared(named_classes(tmp_path / "a"), tmp_path / "direct")
    for to, out in OUTS.items():
        prepare_as(to, tmp_path / "direct", tmp_path / "out" / out)
        found = prepared(tmp_path / "out" / out, tmp_path / f"again-{to}")
        assert everything(found, to) == everything(expected, to)
    assert sorted(path.name for path in (tmp_path / "out" / "out").iterdir()) == [
        *(f"class-{n:04d}" for n in range(6)),
        "metadata.csv",
    ]
    assert not list(tmp_path.rglob("up"))


def test_a_folder_for_every_class(tmp_path: Path) -> None:
    source = arrays(tmp_path / "a.npz", labels=np.array(["cat", "dog", "cat", "owl", "dog", "owl"]))
    prepare_as("imagefolder", source, tmp_path / "out", ONE)
    files = [f"{word}/{n:08d}.png" for n, word in enumerate(["cat", "dog", "cat", "owl", "dog", "owl"])]
    found = content(tmp_path / "out")
    assert sorted(found) == sorted([*files, "metadata.csv"])
    assert list(csv.reader(found["metadata.csv"].decode().splitlines()))[1:3] == [
        [files[0], "cat"],
        [files[1], "dog"],
    ]
    assert np.array_equal(Image.open(io.BytesIO(found[files[3]])), COLOUR[3])


def test_no_folder_has_the_name_of_a_device_of_windows(tmp_path: Path) -> None:
    words = ["con", "Aux", "lpt1", "console", "aux 2", "nul"]
    source = arrays(tmp_path / "a.npz", labels=np.array(words))
    prepare_as("imagefolder", source, tmp_path / "out", ONE)
    folders = {path.name for path in (tmp_path / "out").iterdir() if path.is_dir()}
    assert folders == {"class-0000", "aux 2", "class-0002", "console", "class-0004", "class-0005"}


def test_what_numpy_and_datasets_find(tmp_path: Path) -> None:
    source = arrays(tmp_path / "a.npz", **LABELS["class"])
    prepare_as("npz", source, tmp_path / "out.npz", ONE)
    with np.load(tmp_path / "out.npz", allow_pickle=False) as found:
        assert (found["images"] == COLOUR).all()
        assert (found["labels"].tolist(), found["label_names"].tolist()) == ([2, 0, 2, 1, 0, 1], ["3", "5", "7"])
    assert {info.compress_type for info in zipfile.ZipFile(tmp_path / "out.npz").infolist()} == {zipfile.ZIP_DEFLATED}
    datasets = pytest.importorskip("datasets")
    prepare_as("parquet", source, tmp_path / "out.parquet", ONE)
    opened = datasets.Dataset.from_parquet(str(tmp_path / "out.parquet"), cache_dir=str(tmp_path / "cache"))
    assert opened.features["label"].names == ["3", "5", "7"]
    assert opened["label"][:] == [2, 0, 2, 1, 0, 1]
    assert (np.stack([np.asarray(image) for image in opened["image"]]) == COLOUR).all()


def test_classes_that_no_image_has_keep_their_names(tmp_path: Path) -> None:
    names = np.array(["a", "b", "c", "d"])
    np.savez(tmp_path / "a.npz", images=COLOUR, labels=np.array([1, 3, 1, 1, 3, 3]), label_names=names)
    dataset = prepared(tmp_path / "a.npz", tmp_path / "out")
    assert dataset.label_names == ("a", "b", "c", "d")
    assert table(dataset).argmax(1).tolist() == [1, 3, 1, 1, 3, 3]
    np.savez(tmp_path / "b.npz", images=COLOUR, labels=np.array([1, 3, 1, 1, 3, 9]), label_names=names)  # do not fit
    assert prepared(tmp_path / "b.npz", tmp_path / "out2").label_names == ("1", "3", "9")


def test_among_the_images(tmp_path: Path) -> None:
    """What is written there is left out when the folder is prepared again, or is not written there."""
    source = stylegan(tmp_path / "images", None)
    for to, out in OUTS.items():
        if to in ("stylegan-zip", "npz"):
            prepare_as(to, source, source / out, ONE)
        else:
            with pytest.raises(DatasetError, match="lies among the images"):
                prepare_as(to, source, source / "deeper" / out, ONE)
    assert prepared(source, tmp_path / "again", PrepareConfig(workers=1, strict=True)).count == 6


def test_what_cannot_be_written(tmp_path: Path) -> None:
    source = arrays(tmp_path / "a.npz")
    with pytest.raises(DatasetError, match=r"must end in \.zip"):
        prepare_as("stylegan-zip", source, tmp_path / "out", ONE)
    with pytest.raises(DatasetError, match=r"must end in \.npz"):
        prepare_as("npz", source, tmp_path / "out.zip", ONE)
    with pytest.raises(DatasetError, match="does not exist"):
        prepare_as("stylegan-zip", tmp_path / "nothing", tmp_path / "out.zip", ONE)
    prepare(source, tmp_path / "dataset", ONE)
    with pytest.raises(DatasetError, match="is prepared already"):
        prepare_as("stylegan-zip", tmp_path / "dataset", tmp_path / "out.zip", PrepareConfig(resolution=8))
    assert {path.name for path in tmp_path.iterdir()} == {"a.npz", "dataset"}
