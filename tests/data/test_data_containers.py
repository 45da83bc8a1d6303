"""Data sets as they are downloaded: LMDB, parquet, CIFAR, CelebA, torchvision's folders, photographs of telephones."""

import bz2
import gzip
import io
import itertools
import json
import lzma
import pickle
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from progan.cli import main
from progan.config import PrepareConfig
from progan.data.dataset import Dataset
from progan.data.prepare import prepare
from progan.data.prepare.output import read_ledger
from progan.data.prepare.report import PrepareReport
from progan.data.prepare.writers import prepare_as
from progan.data.sources import archives, open_source, pictures
from progan.data.sources.parquet import ParquetReader
from progan.errors import DatasetError

RANDOM = np.random.default_rng(0)
COLOUR = RANDOM.integers(0, 256, (12, 16, 16, 3), dtype=np.uint8)
CIFAR = RANDOM.integers(0, 256, (6, 3, 32, 32), dtype=np.uint8)
CODES = [2, 0, 1, 1, 0, 2]
WORDS = ["apple", "fish", "baby"]


def png(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def made(source: Path | str, out: Path, **settings: Any) -> tuple[Dataset, PrepareReport]:
    report = prepare(source, out, PrepareConfig(workers=1, **settings))
    return Dataset.open(out, verify=True), report


def top(dataset: Dataset) -> np.ndarray:
    return dataset.pixels(dataset.resolutions[-1], np.arange(dataset.count)).transpose(0, 2, 3, 1)


def names(dataset: Dataset) -> list[str]:
    labels = dataset.labels(np.arange(dataset.count))
    assert labels is not None
    return [dataset.label_names[code] for code in labels.argmax(1)]


def write(folder: Path, contents: dict[str, bytes]) -> Path:
    for name, content in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


# --- LMDB


def lmdb_folder(path: Path, values: dict[bytes, bytes]) -> Path:
    lmdb = pytest.importorskip("lmdb")
    path.mkdir(parents=True)
    with lmdb.open(str(path), map_size=2**24) as environment, environment.begin(write=True) as transaction:
        for key, value in values.items():
            transaction.put(key, value)
    return path


def test_lmdb_as_lsuns(tmp_path: Path) -> None:
    keys = [f"{number:040x}".encode() for number in range(12)]
    folder = lmdb_folder(tmp_path / "lsun" / "church_train_lmdb", dict(zip(keys, map(png, COLOUR), strict=True)))
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    dataset, _ = made(folder, tmp_path / "out")
    assert (dataset.name, (top(dataset) == COLOUR).all()) == ("church_train", True)
    assert [row["file"] for row in read_ledger(tmp_path / "out" / "images.csv")] == [key.decode() for key in keys]
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before  # opened for reading only
    for number, named in enumerate((folder / "data.mdb", tmp_path / "lsun")):
        assert made(named, tmp_path / f"near{number}")[0].fingerprint == dataset.fingerprint


def test_lmdb_of_several_sizes_and_with_what_is_no_image(tmp_path: Path) -> None:
    sizes = {f"{size}-{n:05d}".encode(): png(COLOUR[n, :size, :size]) for size in (8, 16) for n in range(3)}
    dataset, _ = made(lmdb_folder(tmp_path / "sizes", {**sizes, b"length": b"3"}), tmp_path / "out")
    assert (top(dataset) == COLOUR[:3]).all()
    mixed = lmdb_folder(tmp_path / "mixed", {b"a": png(COLOUR[0]), b"caf\xe9": b"pickled", b"z": png(COLOUR[1])})
    dataset, report = made(mixed, tmp_path / "out2")
    assert (dataset.count, report.skipped) == (2, {"not an image": 1})
    # Cut off: reading behind the end of a mapped file would end this process.
    whole = (tmp_path / "mixed" / "data.mdb").read_bytes()
    for number, content in enumerate((bytes(8192), whole[: 2 * 4096], whole[:100], b"")):
        write(tmp_path / f"damaged{number}", {"data.mdb": content})
        with pytest.raises(DatasetError, match="is no LMDB that can be read"):
            made(tmp_path / f"damaged{number}", tmp_path / "no")


# --- parquet


def parquet(path: Path, columns: dict[str, Any], features: dict[str, Any] | None, **options: Any) -> Path:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    table = pyarrow.table(columns)
    if features:
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(table, path, **options)
    return path


def cells(pixels: np.ndarray) -> list[dict[str, Any]]:
    return [{"bytes": png(one), "path": f"{number}.png"} for number, one in enumerate(pixels)]


FEATURES = {"image": {"_type": "Image"}, "label": {"names": ["zebra", "ape", "none"], "_type": "ClassLabel"}}


def hugging_face(folder: Path) -> Path:
    """Two files for training, of groups of two rows, and one for testing, as `datasets` lays them out."""
    for shard, some in enumerate((slice(0, 5), slice(5, 9))):
        labels = [number % 2 for number in range(12)][some]
        columns = {"image": cells(COLOUR[some]), "label": labels, "text": ["words"] * len(labels)}
        parquet(folder / "data" / f"train-{shard:05d}-of-00002.parquet", columns, FEATURES, row_group_size=2)
    test = {"image": cells(COLOUR[9:]), "label": [1, 1, -1], "text": ["words"] * 3}
    parquet(folder / "data" / "test-00000-of-00001.parquet", test, FEATURES)
    (folder / "README.md").write_text("a data set")
    return folder


def test_parquet_as_hugging_face_writes_it(tmp_path: Path) -> None:
    folder = hugging_face(tmp_path / "set")
    dataset, report = made(folder / "data", tmp_path / "out")
    assert (top(dataset) == COLOUR[:9]).all()
    assert dataset.label_names == ("zebra", "ape", "none")  # in the order of the data set
    assert names(dataset) == ["zebra", "ape"] * 4 + ["zebra"]
    assert report.notes == ("the images are those of train; `progan prepare --partition` takes test",)
    dataset, report = made(folder, tmp_path / "above", partition="test")  # one level above
    assert (top(dataset) == COLOUR[9:11]).all()
    assert names(dataset) == ["ape", "ape"]
    assert "1 images without a label are left out (`progan prepare --labels none` takes them)" in report.notes
    assert made(folder, tmp_path / "all", partition="all", labels="none")[0].count == 12
    dataset, report = made(folder / "data" / "train-00001-of-00002.parquet", tmp_path / "one")
    assert (top(dataset) == COLOUR[5:9]).all()
    assert "is one of 2 files" in report.notes[0]
    with pytest.raises(DatasetError, match=r"has no such part\. There are test, train"):
        made(folder, tmp_path / "no", partition="valid")


@pytest.mark.parametrize("place", ["", "train"])
def test_a_suffix_in_capitals(tmp_path: Path, place: str) -> None:
    path = parquet(tmp_path / "set" / "SET.PARQUET", {"image": cells(COLOUR[:4])}, None)
    dataset, _ = made(path.parent if place else path, tmp_path / "out")
    assert (top(dataset) == COLOUR[:4]).all()


@pytest.mark.parametrize("lacking", ["image", "kind"])
def test_parquet_files_of_other_columns_are_refused(tmp_path: Path, lacking: str) -> None:
    columns = {"image": cells(COLOUR[:4]), "kind": [0, 1, 0, 1]}
    parquet(tmp_path / "set" / "train-00000-of-00002.parquet", columns, None)
    other = {f"{name}s" if name == lacking else name: column for name, column in columns.items()}
    parquet(tmp_path / "set" / "train-00001-of-00002.parquet", other, None)
    with pytest.raises(DatasetError, match=f"train-00001-of-00002.parquet has no column {lacking}, which train-00000"):
        made(tmp_path / "set", tmp_path / "out")


def test_what_is_no_number_in_a_column_of_parquet_is_no_label(tmp_path: Path) -> None:
    """As pandas writes a missing label, where labels are numbers."""
    nan = float("nan")
    for name, columns in (
        ("class", {"kind": [0.0, nan, 0.0, 1.0]}),
        ("attributes", {"hat": [0.0, nan, 0.0, 1.0], "smile": [1.0] * 4}),
    ):
        path = parquet(tmp_path / f"{name}.parquet", {"image": cells(COLOUR[:4]), **columns}, None)
        dataset, report = made(path, tmp_path / name)
        assert (dataset.count, dataset.label_kind) == (3, name)
        assert "1 images without a label are left out" in report.notes[0]


def test_rows_of_parquet_in_any_order(tmp_path: Path) -> None:
    source = open_source(str(hugging_face(tmp_path / "set")), tmp_path / "scratch", PrepareConfig())
    assert isinstance(source.reader, ParquetReader)
    for rows in ([0, 3, 4, 5, 8], [8, 0, 0, 4], [7]):
        found = [np.asarray(image) for image in source.reader.read(rows, 16)]
        assert (np.array(found) == COLOUR[rows]).all()


def test_other_columns_of_parquet(tmp_path: Path) -> None:
    columns = {"img": [png(one) for one in COLOUR], "kind": ["b", "a"] * 6, "id": list(range(12))}
    path = parquet(tmp_path / "a.parquet", columns, None)
    dataset, report = made(path, tmp_path / "out")
    assert (dataset.label_kind, (top(dataset) == COLOUR).all()) == (None, True)
    assert "--label-column kind takes its 2 values as classes" in report.notes[0]
    dataset, _ = made(path, tmp_path / "named", label_column="kind")
    assert names(dataset) == ["b", "a"] * 6
    bad = [*cells(COLOUR[:3]), {"bytes": None, "path": "x.png"}, {"bytes": b"text", "path": "y"}]
    _, report = made(parquet(tmp_path / "b.parquet", {"image": bad}, None), tmp_path / "out2")
    assert (report.count, report.skipped) == (3, {"not an image": 2})
    with pytest.raises(DatasetError, match="has no column of images, only text"):
        made(parquet(tmp_path / "c.parquet", {"text": ["a"]}, None), tmp_path / "no")
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(DatasetError, match="is damaged"):
        made(path, tmp_path / "no")
    # Tables of that kind beside images do not hide them.
    write(tmp_path / "images", {"0.png": png(COLOUR[0])})
    parquet(tmp_path / "images" / "captions.parquet", {"text": ["a"]}, None)
    assert made(tmp_path / "images", tmp_path / "out3")[0].count == 1


# --- CIFAR


def batch(images: np.ndarray, codes: list[int], fine: bool = False, protocol: int = 2) -> bytes:
    """As the authors pickled it: with Python 2, whose protocol is 2."""
    labels = {"fine_labels": codes, "coarse_labels": [9] * len(codes)} if fine else {"labels": codes}
    return pickle.dumps({"data": images.reshape(len(images), -1), "filenames": ["x"], **labels}, protocol)


def cifar(fine: bool, protocol: int = 2) -> dict[str, bytes]:
    if fine:
        meta = {"fine_label_names": WORDS, "coarse_label_names": ["all"]}
        contents = {"train": batch(CIFAR, CODES, True, protocol), "test": batch(CIFAR[::-1], CODES[::-1], True)}
        return {**contents, "meta": pickle.dumps(meta, protocol)}
    contents = {
        "data_batch_1": batch(CIFAR[:4], CODES[:4], protocol=protocol),
        "data_batch_2": batch(CIFAR[4:], CODES[4:]),
    }
    contents["test_batch"] = batch(CIFAR[::-1], CODES[::-1])
    return {**contents, "batches.meta": pickle.dumps({"label_names": WORDS}, protocol), "readme.html": b"<p>"}


def packed(path: Path, folder: str, contents: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        info = tarfile.TarInfo(folder)
        info.type = tarfile.DIRTYPE
        archive.addfile(info)
        for name, content in contents.items():
            info = tarfile.TarInfo(f"{folder}/{name}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


@pytest.mark.parametrize("fine", [False, True])
@pytest.mark.parametrize("protocol", [2, 5])
def test_cifar_for_python_without_running_a_pickle(tmp_path: Path, fine: bool, protocol: int) -> None:
    contents, folder = cifar(fine, protocol), "cifar-100-python" if fine else "cifar-10-batches-py"
    archive = packed(tmp_path / f"{folder}.tar.gz", folder, contents)
    write(tmp_path / "root" / folder, contents)  # torchvision's
    for number, source in enumerate((archive, tmp_path / "root" / folder, tmp_path / "root")):
        dataset, _ = made(source, tmp_path / f"out{number}")
        assert (top(dataset) == CIFAR.transpose(0, 2, 3, 1)).all()
        assert (dataset.label_names, names(dataset)) == (tuple(WORDS), [WORDS[code] for code in CODES])
        dataset, _ = made(source, tmp_path / f"test{number}", partition="test")
        assert (top(dataset) == CIFAR[::-1].transpose(0, 2, 3, 1)).all()
        assert made(source, tmp_path / f"all{number}", partition="all")[0].count == 12
    assert not list(tmp_path.glob("out*/.scratch"))


def test_cifar_binary_as_downloaded(tmp_path: Path) -> None:
    records = np.concatenate([np.array(CODES, np.uint8)[:, None], CIFAR.reshape(6, -1)], 1).tobytes()
    contents = {
        "data_batch_1.bin": records,
        "test_batch.bin": records[:3073],
        "batches.meta.txt": b"apple\nfish\nbaby\n\n",
    }
    archive = packed(tmp_path / "cifar-10-binary.tar.gz", "cifar-10-batches-bin", contents)
    dataset, _ = made(archive, tmp_path / "out")
    assert (dataset.name, (top(dataset) == CIFAR.transpose(0, 2, 3, 1)).all()) == ("cifar-10-binary", True)
    assert names(dataset) == [WORDS[code] for code in CODES]
    assert made(archive, tmp_path / "test", partition="test")[0].count == 1
    archive.write_bytes(archive.read_bytes()[:-3000])
    with pytest.raises(DatasetError, match="is cut off or damaged"):
        made(archive, tmp_path / "no")


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("this ran",)


OBJECTS = np.array([None, {}], object)
PICKLES = {
    "print": (pickle.dumps({"data": Evil(), "labels": []}), "asks for builtins.print, which could run code"),
    "objects": (pickle.dumps({"data": OBJECTS, "labels": [0, 1]}), "other numbers than bytes"),
    "numbers": (pickle.dumps({"data": np.zeros((2, 3072)), "labels": [0, 1]}), "other numbers than bytes"),
    "short": (pickle.dumps({"data": np.zeros((2, 9), np.uint8), "labels": [0, 1]}), r"the shape \[2, 9\]"),
    "classes": (pickle.dumps({"data": np.zeros((2, 3072), np.uint8), "labels": [0]}), r"its classes \[1\]"),
    "words": (pickle.dumps({"data": np.zeros((1, 3072), np.uint8), "labels": ["a"]}), "is no batch of CIFAR"),
    "empty": (pickle.dumps({}), "is no batch of CIFAR"),
    "list": (pickle.dumps([1]), "it is no dictionary"),
    "cut": (pickle.dumps({"data": np.zeros((1, 3072), np.uint8)})[:-90], "is refused"),
}


@pytest.mark.parametrize("kind", PICKLES)
def test_other_pickles_are_refused(tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    content, message = PICKLES[kind]
    write(tmp_path / "in", {"data_batch_1": content})
    with pytest.raises(DatasetError, match=message):
        made(tmp_path / "in", tmp_path / "out")
    assert "this ran" not in capsys.readouterr().out


def test_other_tars_are_no_cifar(tmp_path: Path) -> None:
    archive = packed(tmp_path / "pictures.tar.gz", "./pictures", {"train": png(COLOUR[0]), "b.png": png(COLOUR[1])})
    assert made(archive, tmp_path / "out")[0].count == 2


# --- CelebA


def celeba(root: Path, nested: str = "") -> Path:
    """12 images as torchvision has them, with all tables of the authors."""
    contents = {}
    for number in range(12):
        pixels = np.zeros((218, 178, 3), np.uint8)
        pixels[57:185, 25:153] = COLOUR[number].repeat(8, 0).repeat(8, 1)  # 128x128 around row 121, column 89
        contents[f"img_align_celeba/{nested}{number + 1:06d}.jpg"] = png(pixels)
    files = [f"{number + 1:06d}.jpg" for number in range(12)]
    values = {f: (1 if n % 2 else -1, -1 if n % 3 else 1) for n, f in enumerate(files)}
    attributes = ["12", "Smiling Wearing_Hat ", *(f"{f} {a:2d} {b:2d}" for f, (a, b) in values.items())]
    tables = {
        "list_attr_celeba.txt": attributes,
        "list_eval_partition.txt": [f"{f} {0 if n < 8 else 1 if n < 10 else 2}" for n, f in enumerate(files)],
        "identity_CelebA.txt": [f"{f} {n // 2}" for n, f in enumerate(files)],
        "list_bbox_celeba.txt": [
            "12",
            "image_id x_1 y_1 width height",
            *(f"{f}  95 71 226 {n}" for n, f in enumerate(files)),
        ],
    }
    write(root, contents | {name: "\n".join(lines).encode() for name, lines in tables.items()})
    return root


ATTRIBUTES = np.array([[n % 2, n % 3 == 0] for n in range(12)])


@pytest.mark.parametrize("named", [".", "celeba", "celeba/img_align_celeba"])
@pytest.mark.parametrize("nested", ["", "img_align_celeba/"])
def test_celeba_with_attributes_partitions_and_crop(tmp_path: Path, named: str, nested: str) -> None:
    celeba(tmp_path / "root" / "celeba", nested)
    source = tmp_path / "root" / named / (nested if "img" in named else "")
    dataset, report = made(source, tmp_path / "out", crop="celeba", resolution=16)
    assert (dataset.label_names, dataset.count, report.skipped) == (("Smiling", "Wearing_Hat"), 12, {})
    assert np.array_equal(dataset.labels(np.arange(12)), ATTRIBUTES)  # type: ignore[arg-type]
    assert np.abs(top(dataset)[:, 4:12, 4:12].astype(int) - COLOUR[:, 4:12, 4:12]).max() < 90  # resampled
    assert (
        "all partitions are taken: train (8), valid (2), test (2). `progan prepare --partition` takes one"
        in report.notes
    )
    dataset, report = made(source, tmp_path / "valid", partition="valid")
    assert np.array_equal(dataset.labels(np.arange(2)), ATTRIBUTES[8:10])  # type: ignore[arg-type]
    assert any("--crop celeba` cuts out the 128x128" in note for note in report.notes)


def test_celeba_as_kaggle_has_it(tmp_path: Path) -> None:
    root = celeba(tmp_path / "celeba", "img_align_celeba/")
    for path in root.glob("*.txt"):
        path.unlink()
    lines = [f"{n + 1:06d}.jpg,{1 if n % 2 else -1},{-1 if n % 3 else 1}" for n in range(12)]
    (root / "list_attr_celeba.csv").write_text("image_id,Smiling,Wearing_Hat\n" + "\n".join(lines))
    (root / "list_eval_partition.csv").write_text(
        "image_id,partition\n" + "\n".join(f"{n + 1:06d}.jpg,{n // 5}" for n in range(12))
    )
    dataset, _ = made(root, tmp_path / "out", partition="train")
    assert np.array_equal(dataset.labels(np.arange(5)), ATTRIBUTES[:5])  # type: ignore[arg-type]


def test_folders_are_partitions(tmp_path: Path) -> None:
    source = write(
        tmp_path / "a",
        {
            f"{part}/{word}/{n}.png": png(COLOUR[n])
            for n, (part, word) in enumerate(itertools.product(("train", "val", "test"), ("cat", "dog")))
        },
    )
    dataset, report = made(source, tmp_path / "out")
    assert (dataset.count, names(dataset)) == (6, ["cat", "dog"] * 3)
    assert report.notes == (
        "all partitions are taken: test (2), train (2), valid (2). `progan prepare --partition` takes one",
    )
    dataset, report = made(source, tmp_path / "valid", partition="valid")
    assert (report.notes, names(dataset), (top(dataset) == COLOUR[2:4]).all()) == ((), ["cat", "dog"], True)
    with pytest.raises(DatasetError, match="--partition train: no image is in it"):
        made(source / "val", tmp_path / "no", partition="train")
    with pytest.raises(DatasetError, match="does not come in partitions"):
        made("avatars:3", tmp_path / "no", partition="train")


# --- MNIST and its kin in torchvision's folders, and one level off


def idx(array: np.ndarray) -> bytes:
    head = bytes([0, 0, 8, array.ndim]) + b"".join(int(size).to_bytes(4, "big") for size in array.shape)
    return head + array.astype(np.uint8).tobytes()


def mnist(folder: Path, prefix: str = "") -> Path:
    grey = COLOUR[..., 0]
    contents = {
        f"{prefix}train-images-idx3-ubyte": idx(grey),
        f"{prefix}train-labels-idx1-ubyte": idx(np.arange(12) % 3),
    }
    test = "test" if prefix else "t10k"
    contents |= {
        f"{prefix}{test}-images-idx3-ubyte": idx(grey[:4]),
        f"{prefix}{test}-labels-idx1-ubyte": idx(np.arange(4) % 3),
    }
    return write(folder, contents | {f"{name}.gz": gzip.compress(content) for name, content in contents.items()})


@pytest.mark.parametrize("prefix", ["", "qmnist-"])
def test_torchvisions_root_of_mnist(tmp_path: Path, prefix: str) -> None:
    mnist(tmp_path / "root" / "MNIST" / "raw", prefix)
    for number, place in enumerate(("MNIST/raw", "MNIST", "")):
        dataset, report = made(tmp_path / "root" / place, tmp_path / f"out{number}")
        assert (top(dataset)[..., 0] == COLOUR[..., 0]).all()
        assert names(dataset) == ["0", "1", "2"] * 4
        assert bool(report.notes) == (place != "MNIST/raw")
    assert made(tmp_path / "root", tmp_path / "test", partition="test")[0].count == 4


def test_what_lies_beside_a_data_set_is_said(tmp_path: Path) -> None:
    write(mnist(tmp_path / "raw"), {"a.zip": b"", "sub/b.png": png(COLOUR[0])})
    _, report = made(tmp_path / "raw", tmp_path / "out")
    assert report.notes == (f"not used, though in {tmp_path / 'raw'}: a.zip, sub/b.png",)


def test_several_data_sets_in_a_folder_are_named(tmp_path: Path) -> None:
    mnist(tmp_path / "root" / "MNIST" / "raw")
    write(tmp_path / "root" / "cifar-10-batches-py", cifar(False))
    with pytest.raises(DatasetError, match=r"several data sets\. Name one of .*MNIST/raw, .*cifar-10-batches-py"):
        made(tmp_path / "root", tmp_path / "out")
    mnist(tmp_path / "emnist", "emnist-letters-")
    mnist(tmp_path / "emnist", "emnist-digits-")
    with pytest.raises(DatasetError, match=r"2 files of train images\. Name one of emnist-digits-test-images"):
        made(tmp_path / "emnist", tmp_path / "out")


def test_what_a_file_is_that_is_no_source(tmp_path: Path) -> None:
    mnist(tmp_path / "raw")
    write(tmp_path, {"bad.png": b"no picture", "t.csv": b"file,label\n", "a.safetensors": b"{}", "notes.md": b"#"})
    np.save(tmp_path / "labels.npy", np.arange(9))
    prepare("avatars:3", tmp_path / "prepared", PrepareConfig(resolution=4, workers=1))
    for name, message in {
        "raw/train-labels-idx1-ubyte.gz": "holds labels, not images",
        "bad.png": "is no picture that can be read",
        "t.csv": r"is a table, not images\. Name the folder of the images",
        "a.safetensors": "is a snapshot or a state",
        "notes.md": "neither an archive nor an array",
        "labels.npy": "a number or word for each image, as labels are",
        "prepared/dataset.json": r"part of a prepared dataset\. Name its folder",
        "nowhere": "does not exist",
    }.items():
        with pytest.raises(DatasetError, match=message):
            made(tmp_path / name, tmp_path / "out")


def test_a_single_picture_is_said_to_be_one(tmp_path: Path) -> None:
    write(tmp_path, {"one.png": png(COLOUR[0]), "without": png(COLOUR[1])})
    for name, pixels in (("one.png", COLOUR[0]), ("without", COLOUR[1])):
        dataset, report = made(tmp_path / name, tmp_path / f"out-{name}")
        assert (top(dataset) == pixels).all()
        assert report.notes == (f"{name} is a single picture",)


# --- archives and photographs


def test_zips_of_other_methods(tmp_path: Path) -> None:
    for method in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        path = tmp_path / f"{method}.zip"
        with zipfile.ZipFile(path, "w", method) as archive:
            for number, pixels in enumerate(COLOUR):
                archive.writestr(f"{number:02d}.png", png(pixels))
            archive.writestr("large.png", bytes(2**25))
            archive.writestr("empty.png", b"")
        dataset, report = made(path, tmp_path / f"out{method}")
        assert (top(dataset) == COLOUR).all()
        assert report.skipped == {"refused": 1, "empty file": 1}
        assert "zip bomb" in (tmp_path / f"out{method}" / "skipped.csv").read_text()


@pytest.mark.parametrize(("method", "pack"), [(zipfile.ZIP_BZIP2, bz2.compress), (zipfile.ZIP_LZMA, None)])
def test_no_more_is_unpacked_than_a_zip_lists(tmp_path: Path, method: int, pack: Any) -> None:
    content = bytes(2**24)
    if pack is None:
        filters = [{"id": lzma.FILTER_LZMA1, "dict_size": 2**16}]
        properties = lzma._encode_filter_properties(filters[0])  # type: ignore[attr-defined]
        packed = (
            b"\x09\x04"
            + len(properties).to_bytes(2, "little")
            + properties
            + lzma.compress(content, lzma.FORMAT_RAW, filters=filters)
        )
    else:
        packed = pack(content)
    head = bytes(26) + b"\1\0\0\0a"
    (tmp_path / "z").write_bytes(head + packed)
    entry = archives.Entry("a", str(tmp_path / "z"), 100, 0, (method, len(packed), 0))
    with pytest.raises(archives.Unreadable, match="checksum"):
        archives.entry_bytes(entry)
    found = []
    real = archives.zlib.crc32
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(archives.zlib, "crc32", lambda unpacked: found.append(len(unpacked)) or real(unpacked))
        with pytest.raises(archives.Unreadable):
            archives.entry_bytes(entry)
    assert found == [100]


def test_methods_that_are_not_read_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.png", png(COLOUR[0]))
        archive.writestr("b.png", png(COLOUR[1]))
    content = bytearray(path.read_bytes())
    at = content.index(b"PK\x01\x02")
    content[at + 10] = 93
    path.write_bytes(content)
    made(path, tmp_path / "out")
    (row,) = read_ledger(tmp_path / "out" / "skipped.csv")
    assert row["detail"] == "packed with Zstandard, which is not read. Pack it with deflate"


def test_photographs_of_telephones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    stream = io.BytesIO()
    pillow_heif.from_pillow(Image.new("RGB", (64, 64), (200, 30, 30))).save(stream, quality=95)
    source = write(tmp_path / "phone", {"IMG_1.HEIC": stream.getvalue()})
    dataset, _ = made(source, tmp_path / "out")
    assert np.abs(top(dataset).astype(int) - (200, 30, 30)).max() < 8
    write(source, {"2.png": png(COLOUR[0])})
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    pictures._formats.cache_clear()
    _, report = made(source, tmp_path / "without")
    assert report.skipped == {"pillow_heif is missing": 1}
    assert "pip install '.[heic]'" in (tmp_path / "without" / "skipped.csv").read_text()
    pictures._formats.cache_clear()


@pytest.mark.parametrize(
    ("module", "extra", "name"), [("lmdb", "lmdb", "data.mdb"), ("pyarrow.parquet", "parquet", "a.parquet")]
)
def test_missing_packages_are_named_with_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, extra: str, name: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    write(tmp_path / "in", {name: b"PAR1"})
    with pytest.raises(DatasetError, match=rf"pip install '\.\[{extra}\]' in the checkout"):
        made(tmp_path / "in", tmp_path / "out")


def test_archives_of_what_is_read_where_it_lies(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "church_train_lmdb.zip", "w") as archive:
        archive.writestr("church_train_lmdb/data.mdb", b"x")
    with pytest.raises(DatasetError, match=r"holds church_train_lmdb/data\.mdb.* Unpack it and name its folder"):
        made(tmp_path / "church_train_lmdb.zip", tmp_path / "out")


# --- object storage


def test_sources_on_object_storage(tmp_path: Path) -> None:
    """fsspec's memory:// stands for s3://, gs:// and az://."""
    fsspec = pytest.importorskip("fsspec")
    system = fsspec.filesystem("memory")
    system.pipe({f"/bucket/set/{'ab'[n % 2]}/{n:02d}.png": png(COLOUR[n]) for n in range(12)})
    np.savez(tmp_path / "images.npz", images=COLOUR, labels=np.arange(12) % 3)
    system.pipe("/bucket/images.npz", (tmp_path / "images.npz").read_bytes())
    try:
        dataset, report = made("memory://bucket/set", tmp_path / "folder")
        assert (dataset.name, dataset.count, names(dataset)) == ("set", 12, ["a"] * 6 + ["b"] * 6)
        assert (top(dataset) == np.concatenate([COLOUR[::2], COLOUR[1::2]])).all()
        assert report.notes == ("memory://bucket/set was copied to be read",)
        assert not (tmp_path / "folder" / ".scratch").exists()
        dataset, _ = made("memory://bucket/images.npz", tmp_path / "file")
        assert ((top(dataset) == COLOUR).all(), names(dataset)[:4]) == (True, ["0", "1", "2", "0"])
        assert made("memory://bucket/set", tmp_path / "folder")[1].state == "already there"
        system.pipe("/bucket/set/a/13.png", png(COLOUR[0]))  # another set now
        with pytest.raises(DatasetError, match="made from another source"):
            made("memory://bucket/set", tmp_path / "folder")
        with pytest.raises(DatasetError, match=r"memory://bucket/no does not exist, or holds no files"):
            made("memory://bucket/no", tmp_path / "no")
    finally:
        system.store.clear()


@pytest.mark.parametrize(("to", "name"), [("npz", "out.npz"), ("imagefolder", "out")])
def test_what_is_written_to_object_storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, to: str, name: str) -> None:
    fsspec = pytest.importorskip("fsspec")
    monkeypatch.setenv("PROGAN_CACHE", str(tmp_path / "cache"))
    write(tmp_path / "images", {f"{'ab'[n % 2]}/{n}.png": png(COLOUR[n]) for n in range(6)})
    (tmp_path / "images" / "a" / "notes.md").write_text("no image")
    expected, _ = made(tmp_path / "images", tmp_path / "direct")
    system, out = fsspec.filesystem("memory"), f"memory://bucket/{name}"
    try:
        with pytest.raises(DatasetError, match="there is no bucket /bucket"):
            prepare_as(to, tmp_path / "images", out, PrepareConfig(workers=1))
        system.mkdir("/bucket")
        report = prepare_as(to, tmp_path / "images", out, PrepareConfig(workers=1))
        assert (report.out, report.count) == (out, 6)
        assert made(out, tmp_path / "again")[0].fingerprint == expected.fingerprint
        assert b"a/notes.md" in system.cat(f"/bucket/{name}.skipped.csv")
        assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
        with pytest.raises(DatasetError, match="is there already"):
            prepare_as(to, tmp_path / "images", out, PrepareConfig(workers=1))
        with pytest.raises(DatasetError, match="a dataset to train on lies on a disk"):
            prepare(tmp_path / "images", "memory://bucket/dataset", PrepareConfig(workers=1))
    finally:
        system.rm("/bucket", recursive=True)


def test_object_storage_without_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(DatasetError, match=r"s3fs is missing .*'\.\[s3\]'"):
        made("s3://bucket/set", tmp_path / "no")


@pytest.mark.service
def test_sources_of_every_kind_on_s3(bucket: Any, tmp_path: Path) -> None:
    folder = write(tmp_path / "set", {f"{'ab'[n % 2]}/{n:02d}.png": png(COLOUR[n]) for n in range(12)})
    bucket.put(str(folder), "bucket/set", recursive=True)
    bucket.pipe("bucket/set/", b"")  # as consoles make folders
    bucket.pipe("bucket/set.zip", zipped(folder).getvalue())
    np.savez(tmp_path / "images.npz", images=COLOUR, labels=np.arange(12) % 2)
    bucket.put(str(tmp_path / "images.npz"), "bucket/images.npz")
    expected, _ = made(folder, tmp_path / "local")
    sources = ("s3://bucket/set", "s3://bucket/set/", "s3://bucket/set.zip", "s3://bucket/images.npz")
    for number, source in enumerate(sources):
        dataset, report = made(source, tmp_path / f"out{number}")
        order = np.arange(12) if source.endswith("npz") else [*range(0, 12, 2), *range(1, 12, 2)]
        assert (top(dataset) == COLOUR[order]).all()
        assert f"{source} was copied to be read" in report.notes
        assert names(dataset) == (["0", "1"] * 6 if source.endswith("npz") else names(expected))
    assert Dataset.open(tmp_path / "out0").fingerprint == expected.fingerprint


@pytest.mark.service
def test_what_is_sent_to_s3_trains_from_there(bucket: Any, tmp_path: Path) -> None:
    folder = write(tmp_path / "set", {f"{n:02d}.png": png(COLOUR[n]) for n in range(12)})
    tiny = (
        "--fmap-max 8 --fmap-base 64 --z-dim 8 --resolution 8 --batch-size 8 --stable-kimg 0.02 --fade-kimg 0.02 "
        "--total-kimg 0.06 --tick-kimg 0.06 --device cpu --compile off --precision fp32 --quiet"
    )
    for to, name in (("npz", "crops.npz"), ("stylegan-zip", "crops.zip"), ("parquet", "crops.parquet")):
        assert main(["prepare", str(folder), f"s3://bucket/made/{name}", "--to", to, "--quiet"]) == 0
        assert (top(made(f"s3://bucket/made/{name}", tmp_path / to)[0]) == COLOUR).all()
    assert sorted(bucket.ls("bucket/made")) == [f"bucket/made/crops.{kind}" for kind in ("npz", "parquet", "zip")]
    run = tmp_path / "run"
    assert main(["train", "--data", "s3://bucket/made/crops.npz", "--out", str(run), *tiny.split()]) == 0
    assert list((run / "snapshots").iterdir())


@pytest.mark.service
def test_what_is_wrong_with_s3_is_one_line(
    bucket: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write(tmp_path / "set", {f"{n:02d}.png": png(COLOUR[n]) for n in range(3)})
    send = [str(folder), "s3://nowhere/crops.npz", "--to", "npz"]

    def line(*command: str) -> str:
        fsspec = pytest.importorskip("fsspec")
        fsspec.get_filesystem_class("s3").clear_instance_cache()
        assert main(["prepare", *command, "--quiet"]) == 2
        (said,) = capsys.readouterr().err.splitlines()
        return said

    assert "there is no bucket nowhere. Make it, or correct the address" in line(*send)
    assert not (tmp_path / "cache").exists()  # said before anything is prepared
    assert "bucket does not exist). Correct the address" in line("s3://nowhere/set", str(tmp_path / "out"))
    assert "does not exist, or holds no files" in line("s3://bucket/set", str(tmp_path / "out"))
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    for command in (["s3://bucket/set", str(tmp_path / "out")], [str(folder), "s3://bucket/crops.npz", "--to", "npz"]):
        said = line(*command)
        assert "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE" in said


def zipped(folder: Path) -> io.BytesIO:
    """A zip of a folder."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for path in sorted(folder.rglob("*.*")):
            archive.write(path, path.relative_to(folder))
    return stream


@pytest.mark.parametrize(
    ("address", "package", "extra"), [("gs://b/set", "gcsfs", "gs"), ("az://b/set", "adlfs", "az")]
)
def test_each_provider_names_its_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str, package: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(DatasetError, match=rf"{package} is missing .*'\.\[{extra}\]'"):
        made(address, tmp_path / "no")
    with pytest.raises(DatasetError, match=rf"{package} is missing .*'\.\[{extra}\]'"):
        prepare_as("npz", "avatars:3", f"{address}.npz")
