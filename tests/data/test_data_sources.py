"""Every kind of source, and labels from folders and tables."""

import contextlib
import gzip
import io
import json
import os
import struct
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from progan import avatars
from progan.config import PrepareConfig
from progan.data.dataset import Dataset
from progan.data.prepare import prepare
from progan.data.sources import open_source
from progan.data.sources.archives import entry_bytes
from progan.data.sources.base import Unreadable
from progan.data.sources.folder import open_archive
from progan.data.sources.labels import SUFFIXES, table_labels
from progan.errors import DatasetError

SHARED = Path(__file__).parents[3] / "shared" / "data"
RANDOM = np.random.default_rng(0)
GREY = RANDOM.integers(0, 256, (6, 16, 16), dtype=np.uint8)
COLOUR = RANDOM.integers(0, 256, (6, 16, 16, 3), dtype=np.uint8)
CLASSES = np.array([2, 0, 1, 1, 0, 2])


def prepared(source: Path | str, out: Path, **settings: object) -> Dataset:
    prepare(source, out, PrepareConfig(workers=1, **settings))  # type: ignore[arg-type]
    return Dataset.open(out, verify=True)


def top(dataset: Dataset) -> np.ndarray:
    """All pixels of the highest resolution, [N, R, R, C] or [N, R, R]."""
    pixels = dataset.pixels(dataset.resolutions[-1], np.arange(dataset.count)).transpose(0, 2, 3, 1)
    return pixels[..., 0] if dataset.channels == 1 else pixels


def classes(dataset: Dataset) -> list[str]:
    labels = dataset.labels(np.arange(dataset.count))
    assert labels is not None
    assert (labels.sum(1) == 1).all()
    return [dataset.label_names[column] for column in labels.argmax(1)]


# --- arrays


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


@pytest.mark.parametrize("packed", [True, False])
def test_idx_with_the_labels_beside_it(tmp_path: Path, packed: bool) -> None:
    pack, suffix = (gzip.compress, ".gz") if packed else (bytes, "")
    images = tmp_path / f"train-images-idx3-ubyte{suffix}"
    images.write_bytes(pack(idx(GREY)))
    assert prepared(images, tmp_path / "bare").label_kind is None
    (tmp_path / f"train-labels-idx1-ubyte{suffix}").write_bytes(pack(idx(CLASSES)))
    dataset = prepared(images, tmp_path / "out")
    assert (dataset.name, dataset.channels, dataset.label_kind) == ("train-images", 1, "class")
    assert (top(dataset) == GREY).all()
    assert classes(dataset) == [str(n) for n in CLASSES]
    assert prepared(images, tmp_path / "none", labels="none").label_kind is None
    folder = tmp_path / "mnist"
    folder.mkdir()
    for file in tmp_path.glob("train-*"):
        file.rename(folder / file.name)
    assert classes(prepared(folder, tmp_path / "of-folder")) == classes(dataset)


@pytest.mark.parametrize("content", [gzip.compress(idx(GREY))[:-40], idx(GREY)[:-1]])
def test_idx_that_is_cut_off(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "images-idx3-ubyte").write_bytes(content)
    with pytest.raises(DatasetError, match="Download it again"):
        prepared(tmp_path / "images-idx3-ubyte", tmp_path / "out")


ARRAYS = {
    "grey": (GREY, GREY),
    "grey with an axis": (GREY[..., None], GREY),
    "colour": (COLOUR, COLOUR),
    "channels first": (COLOUR.transpose(0, 3, 1, 2), COLOUR),
    "fortran order": (np.asfortranarray(COLOUR), COLOUR),
    "0…1": (COLOUR.astype(np.float32) / 255, COLOUR),
    "-1…1": (COLOUR.astype(np.float64) / 127.5 - 1, COLOUR),
    "0…255": (COLOUR.astype(np.float16), COLOUR),
    "int64": (COLOUR.astype(np.int64), COLOUR),
    "uint16": (GREY.astype(np.uint16) * 257, GREY),
    "bool": (GREY > 127, np.where(GREY > 127, 255, 0)),
    "big endian": (COLOUR.astype(">i4"), COLOUR),
    "opaque": (np.concatenate([COLOUR, np.full((6, 16, 16, 1), 255, np.uint8)], 3), COLOUR),
}


@pytest.mark.parametrize("kind", ARRAYS)
def test_arrays(tmp_path: Path, kind: str) -> None:
    array, expected = ARRAYS[kind]
    np.save(tmp_path / "array.npy", array)
    assert (top(prepared(tmp_path / "array.npy", tmp_path / "npy")) == expected).all()
    np.savez_compressed(tmp_path / "array.npz", x_train=array, y_train=CLASSES[:, None])
    dataset = prepared(tmp_path / "array.npz", tmp_path / "npz")
    assert (top(dataset) == expected).all()
    assert classes(dataset) == [str(n) for n in CLASSES]


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.array([object()] * 3), "not Python objects"),
        (np.zeros((6, 16), np.uint8), r"shape \[6, 16\]"),
        (np.zeros((6, 16, 16, 7), np.uint8), r"shape \[6, 16, 16, 7\]"),
        (np.full((6, 16, 16), -1000, np.int32), "all values are -1000"),
        (np.full((6, 16, 16), np.nan), "NaN or infinite"),
        (np.zeros((6, 16, 16), np.complex64), "not pixels"),
    ],
)
def test_arrays_that_are_no_images(tmp_path: Path, array: np.ndarray, message: str) -> None:
    np.save(tmp_path / "array.npy", array, allow_pickle=True)
    with pytest.raises(DatasetError, match=message):
        prepared(tmp_path / "array.npy", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_npz_needs_a_name_it_knows(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", first=GREY, second=GREY)
    with pytest.raises(DatasetError, match="holds first, second; the images must be called `images`"):
        prepared(tmp_path / "a.npz", tmp_path / "out")
    np.savez(tmp_path / "b.npz", images=GREY, labels=CLASSES[:3])
    with pytest.raises(DatasetError, match=r"labels of shape \[3\] for 6 images"):
        prepared(tmp_path / "b.npz", tmp_path / "out")


def test_labels_that_are_objects_or_no_numbers(tmp_path: Path) -> None:
    words = np.array(list("ababab"), object)
    np.savez(tmp_path / "a.npz", images=GREY, labels=words)
    (tmp_path / "folder").mkdir()
    np.save(tmp_path / "folder" / "images.npy", GREY)
    np.save(tmp_path / "folder" / "labels.npy", words, allow_pickle=True)
    for source in ("a.npz", "folder"):
        with pytest.raises(DatasetError, match=r"labels that are Python objects, .* astype\(str\)"):
            prepared(tmp_path / source, tmp_path / "out")
    np.savez(tmp_path / "b.npz", images=GREY, labels=np.array([0, 1, np.nan, 0, 1, 0]))
    report = prepare(tmp_path / "b.npz", tmp_path / "out", PrepareConfig(workers=1))
    assert (report.label_kind, report.count) == (None, 6)
    assert "no classes (a value that is no number). Prepared without labels" in report.notes[0]


@pytest.mark.parametrize("member", ["images", "labels", "label_names"])
def test_npz_that_is_a_bomb(tmp_path: Path, member: str) -> None:
    arrays = {"images": GREY, "labels": CLASSES, "label_names": np.array(["a"] * 10)}
    np.savez_compressed(tmp_path / "bomb.npz", **{**arrays, member: np.zeros((2**17, 16, 16), np.uint8)})
    assert (tmp_path / "bomb.npz").stat().st_size < 2**17
    with pytest.raises(DatasetError, match=rf"refused as an archive bomb: it unpacks to 33,554,560 bytes \({member}"):
        prepared(tmp_path / "bomb.npz", tmp_path / "out")
    assert not list((tmp_path).rglob("images.npy"))
    # As many bytes that are not packed, or hardly, are no bomb.
    np.savez(tmp_path / "large.npz", images=np.zeros((2**17, 16, 16), np.uint8))
    assert len(open_source(str(tmp_path / "large.npz"), tmp_path / "scratch", PrepareConfig()).entries) == 2**17


def test_idx_that_is_a_bomb(tmp_path: Path) -> None:
    many = np.zeros((2**17, 16, 16), np.uint8)
    (tmp_path / "images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(many)))
    with pytest.raises(DatasetError, match=r"images-idx3-ubyte\.gz is refused as an archive bomb"):
        prepared(tmp_path / "images-idx3-ubyte.gz", tmp_path / "out")
    (tmp_path / "images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(GREY)))
    (tmp_path / "labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(np.concatenate([CLASSES, CLASSES]))))
    with pytest.raises(DatasetError, match=r"labels of shape \[7\] for 6 images"):
        prepared(tmp_path / "images-idx3-ubyte.gz", tmp_path / "out")


def test_tables_of_labels_in_an_npz(tmp_path: Path) -> None:
    for name, table, kind in (
        ("one-hot", np.eye(6), "class"),
        ("attributes", np.eye(6) + np.eye(6)[::-1], "attributes"),
    ):
        np.savez(tmp_path / f"{name}.npz", images=GREY, labels=table)
        dataset = prepared(tmp_path / f"{name}.npz", tmp_path / name)
        assert dataset.label_kind == kind
        assert np.array_equal(dataset.labels(np.arange(6)), table)  # type: ignore[arg-type]


@pytest.mark.parametrize("fine", [False, True])
def test_cifar_binary(tmp_path: Path, fine: bool) -> None:
    """CIFAR-10 has a class before each image, CIFAR-100 a coarse and a fine one."""
    images = RANDOM.integers(0, 256, (6, 3, 32, 32), dtype=np.uint8)
    heads = np.stack([np.full(6, 9), CLASSES], 1) if fine else CLASSES[:, None]
    records = np.concatenate([heads.astype(np.uint8), images.reshape(6, -1)], 1)
    if fine:
        (tmp_path / "train.bin").write_bytes(records.tobytes())
        (tmp_path / "fine_label_names.txt").write_text("apple\nfish\nbaby\n")
    else:
        (tmp_path / "data_batch_1.bin").write_bytes(records[:4].tobytes())
        (tmp_path / "data_batch_2.bin").write_bytes(records[4:].tobytes())
        (tmp_path / "batches.meta.txt").write_text("apple\nfish\nbaby\n")
    dataset = prepared(tmp_path, tmp_path.with_name(f"cifar-{fine}"))
    assert (top(dataset) == images.transpose(0, 2, 3, 1)).all()
    assert classes(dataset) == [["apple", "fish", "baby"][n] for n in CLASSES]


# --- avatars


def test_avatars_are_drawn_at_the_top_and_averaged_below(tmp_path: Path) -> None:
    dataset = prepared("avatars:5", tmp_path / "out", seed=3)
    assert (dataset.name, dataset.resolutions[-1], dataset.label_kind) == ("avatars", 64, "attributes")
    assert (top(dataset) == avatars.draw(range(5), 64, 3)).all()
    assert np.array_equal(dataset.labels(np.arange(5)), avatars.attributes(range(5), 3))  # type: ignore[arg-type]
    assert (top(prepared("avatars:5", tmp_path / "small", resolution=16)) == avatars.draw(range(5), 16)).all()
    half = dataset.pixels(32, np.arange(5)).astype(float)
    mean = top(dataset).reshape(5, 32, 2, 32, 2, 3).mean((2, 4)).transpose(0, 3, 1, 2)
    assert np.abs(half - mean).max() <= 0.5


# --- labels of files


def write(folder: Path, names: list[str]) -> Path:
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), number).save(path)
    return folder


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["cat/1.png", "cat/2.png", "dog/1.png"], ["cat", "cat", "dog"]),
        (["all/in/cat/1.png", "all/in/dog/1.png"], ["cat", "dog"]),
        (["cat/a/1.png", "cat/b/1.png", "dog/a/1.png"], ["cat", "cat", "dog"]),
        (["1/a.png", "2/a.png", "10/a.png"], ["1", "10", "2"]),  # in the order of the files
        (["1.png", "cat/2.png"], None),
        (["cat/1.png", "cat/2.png"], None),
        (["1.png", "2.png"], None),
    ],
)
def test_folders_are_classes(tmp_path: Path, names: list[str], expected: list[str] | None) -> None:
    dataset = prepared(write(tmp_path / "images", names), tmp_path / "out")
    assert dataset.label_kind == (None if expected is None else "class")
    if expected:
        assert classes(dataset) == expected
    assert prepared(tmp_path / "images", tmp_path / "none", labels="none").label_kind is None


def test_labels_that_were_not_asked_for_or_cannot_be(tmp_path: Path) -> None:
    np.save(tmp_path / "array.npy", GREY)
    (tmp_path / "table.csv").write_text("file,label\n0,a\n")
    assert prepared("avatars:3", tmp_path / "out", labels="none", resolution=4).label_kind is None
    for source in ("avatars:3", tmp_path / "array.npy"):
        with pytest.raises(DatasetError, match="is for image files"):
            prepared(source, tmp_path / "other", labels=str(tmp_path / "table.csv"))


def test_train_and_test_are_not_classes(tmp_path: Path) -> None:
    names = ["test/cat/9.png", "train/cat/1.png", "train/dog/2.png"]
    assert classes(prepared(write(tmp_path / "images", names), tmp_path / "out")) == ["cat", "cat", "dog"]


WORDS = ["red", "blue", "red"]
CLASS_TABLES = {
    "labels.csv": "file,label\na.png,red\nb.png,blue\nsub/c.png,red\n",
    "no-header.csv": "a.png,red\nb.png,blue\nsub/c.png,red\n",
    "stems.csv": "id,kind\nc,red\na,red\nb,blue\n",
    "semicolons.csv": "\ufeffname;label;size\na.png;red;3\nb.png;blue;4\nc.png;red;5\n",
    "tabs.tsv": "label\tfile\nred\ta.png\nblue\tb.png\nred\tc.png\n",
    "plain.json": json.dumps({"a.png": "red", "b.png": "blue", "c.png": "red"}),
    "records.json": json.dumps(
        [{"label": w, "image": f} for f, w in zip(["a.png", "b.png", "sub/c.png"], WORDS, strict=True)]
    ),
    "metadata.jsonl": '{"file_name": "a.png", "label": "red"}\n{"file_name": "b.png", "label": "blue"}\n'
    '{"file_name": "c.png", "label": "red"}\n',
    "dataset.json": json.dumps({"labels": [["a.png", "red"], ["b.png", "blue"], ["sub/c.png", "red"]]}),
}


@pytest.mark.parametrize("table", CLASS_TABLES)
@pytest.mark.parametrize("place", ["inside", "named", "zipped", "beside"])
def test_tables_of_classes(tmp_path: Path, table: str, place: str) -> None:
    folder = write(tmp_path / "images", ["a.png", "b.png", "sub/c.png"])
    text, source, labels = CLASS_TABLES[table], folder, "auto"
    if place in ("inside", "zipped"):
        (folder / table).write_text(text)
    if place in ("zipped", "beside"):
        source = tmp_path / "images.zip"
        with zipfile.ZipFile(source, "w") as archive:
            for path in folder.rglob("*.*"):
                archive.write(path, path.relative_to(folder))
    if place == "beside":
        (tmp_path / f"images{Path(table).suffix}").write_text(text)
    if place == "named":
        (tmp_path / table).write_text(text)
        labels = str(tmp_path / table)
    dataset = prepared(source, tmp_path / "out", labels=labels)
    assert classes(dataset) == WORDS
    assert dataset.count == 3
    assert not (tmp_path / "out" / "skipped.csv").exists()  # a table of labels is no failed image


@pytest.mark.parametrize(
    "text",
    [
        "file,smiling,hat\na.png,1,-1\nb.png,-1,-1\nc.png,1,1\n",
        "file,smiling,hat\na.png,1,0\nb.png,0,0\nc.png,1,1\n",
        json.dumps(
            {"a.png": {"smiling": 1, "hat": 0}, "b.png": {"smiling": 0, "hat": 0}, "c.png": {"smiling": 1, "hat": 1}}
        ),
        json.dumps(
            [{"file": f, "smiling": s, "hat": h} for f, s, h in (("a.png", 1, 0), ("b.png", 0, 0), ("c.png", 1, 1))]
        ),
    ],
)
def test_tables_of_attributes(tmp_path: Path, text: str) -> None:
    folder = write(tmp_path / "images", ["a.png", "b.png", "c.png"])
    (folder / f"attributes.{'json' if text[0] in '{[' else 'csv'}").write_text(text)
    dataset = prepared(folder, tmp_path / "out")
    assert (dataset.label_kind, dataset.label_names) == ("attributes", ("smiling", "hat"))
    labels = dataset.labels(np.arange(3))
    assert labels is not None
    assert labels.tolist() == [[1, 0], [0, 0], [1, 1]]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["labels", "file", "a.png"]), inner),
)


@settings(max_examples=200, deadline=None)
@given(content=JSON | st.text())
def test_whatever_a_table_holds_there_is_no_traceback(content: object) -> None:
    for suffix in SUFFIXES:
        text = content if isinstance(content, str) else json.dumps(content)
        with contextlib.suppress(DatasetError):
            table_labels(f"table{suffix}", text.encode("utf-8", "surrogatepass"), ["a.png", "b.png"])


def test_an_image_that_the_table_lacks_is_skipped_and_said(tmp_path: Path) -> None:
    folder = write(tmp_path / "images", ["a.png", "b.png", "c.png"])
    (folder / "labels.csv").write_text("file,label\na.png,red\nc.png,blue\n")
    dataset = prepared(folder, tmp_path / "out")
    assert classes(dataset) == ["red", "blue"]
    assert top(dataset)[:, 0, 0].tolist() == [0, 2]
    assert "b.png,refused,no label in labels.csv" in (tmp_path / "out" / "skipped.csv").read_text()


def test_other_tables_are_no_labels_unless_named(tmp_path: Path) -> None:
    folder = write(tmp_path / "images", ["a.png", "b.png", "c.png"])
    for name, text in (
        ("prices.csv", "item,price\nx,1\n"),
        ("notes.json", "{}"),
        ("ragged.csv", "file,label\na.png\n"),
    ):
        (folder / name).write_text(text)
        with pytest.raises(DatasetError):
            prepared(folder, tmp_path / "named", labels=str(folder / name))
    dataset = prepared(folder, tmp_path / "out")
    assert (dataset.label_kind, dataset.count) == (None, 3)


def test_words_are_no_attributes(tmp_path: Path) -> None:
    folder = write(tmp_path / "images", ["a.png", "b.png"])
    (tmp_path / "table.csv").write_text("file,colour,size\na.png,red,3\nb.png,blue,4\n")
    with pytest.raises(DatasetError, match="--label-column colour takes its 2 values as classes"):
        prepared(folder, tmp_path / "out", labels=str(tmp_path / "table.csv"))
    with pytest.raises(DatasetError, match="is not a file"):
        prepared(folder, tmp_path / "out", labels="nowhere.csv")


# --- archives


def test_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    folder = write(tmp_path / "images", ["a.png"])
    elsewhere = write(tmp_path / "elsewhere", ["b.png"])
    (folder / "more").symlink_to(elsewhere)
    (folder / "again").symlink_to(folder)
    assert prepared(folder, tmp_path / "out").count == 2


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_what_is_neither_a_file_nor_a_folder_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for source in (tmp_path / "pipe", f"stacked:{tmp_path / 'pipe'}"):
        with pytest.raises(DatasetError, match=r"neither a file nor a folder. Save it as a file first"):
            prepared(source, tmp_path / "out")
    for source in ("", "stacked:"):
        with pytest.raises(DatasetError, match=r"^no SOURCE is named"):
            prepared(source, tmp_path / "out")


def test_links_that_lead_nowhere_are_counted_and_named(tmp_path: Path) -> None:
    folder = write(tmp_path / "images", ["a.png"])
    (folder / "lost.png").symlink_to(tmp_path / "nowhere.png")
    (folder / "lost.zip").symlink_to(tmp_path / "nowhere.zip")
    (folder / "itself.png").symlink_to(folder / "itself.png")
    prepare(folder, tmp_path / "out", PrepareConfig(workers=1))
    assert (tmp_path / "out" / "skipped.csv").read_text().splitlines()[1:] == [
        f"itself.png,refused,Too many levels of symbolic links: {folder / 'itself.png'}",
        f"lost.png,refused,No such file or directory: {tmp_path / 'nowhere.png'}",
        f"lost.zip,refused,No such file or directory: {tmp_path / 'nowhere.zip'}",
    ]
    (folder / "a.png").unlink()
    with pytest.raises(DatasetError, match=r"no image that can be read .*refused \("):
        prepared(folder, tmp_path / "none")


def test_a_damaged_or_encrypted_zip(tmp_path: Path) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name in ("a.png", "b.png"):
            content = io.BytesIO()
            Image.new("L", (8, 8)).save(content, "PNG")
            archive.writestr(name, content.getvalue())
    whole = stream.getvalue()
    (tmp_path / "cut.zip").write_bytes(whole[:-30])
    with pytest.raises(DatasetError, match="damaged archive"):
        prepared(tmp_path / "cut.zip", tmp_path / "out")
    at = whole.index(b"PK\x01\x02") + 6  # the version of zip that is needed
    (tmp_path / "new.zip").write_bytes(whole[:at] + bytes([64]) + whole[at + 1 :])
    with pytest.raises(DatasetError, match=r"version 6\.4"):
        prepared(tmp_path / "new.zip", tmp_path / "out")
    at = whole.index(b"IDAT") + 6
    (tmp_path / "flipped.zip").write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    assert prepared(tmp_path / "flipped.zip", tmp_path / "flipped").count == 1
    assert "a.png,damaged,its checksum" in (tmp_path / "flipped" / "skipped.csv").read_text()


def test_encrypted_arrays(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=np.zeros((8, 8, 8), np.uint8))
    content = bytearray((tmp_path / "a.npz").read_bytes())
    for mark, offset in ((b"PK\x01\x02", 8), (b"PK\x03\x04", 6)):
        content[content.index(mark) + offset] |= 1
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(DatasetError, match="encrypted"):
        prepared(tmp_path / "a.npz", tmp_path / "out")


def test_sizes_that_a_zip_declares_are_limits(tmp_path: Path) -> None:
    """A directory entry that promises 10 bytes is not believed to hold more, nor read further."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("liar.png", bytes(2**20))
        archive.writestr("good.png", b"")
    content = bytearray(stream.getvalue())
    at = content.index(b"PK\x01\x02")
    content[at + 24 : at + 28] = struct.pack("<I", 10)  # uncompressed size in the central directory
    (tmp_path / "liar.zip").write_bytes(content)
    source = open_archive(str(tmp_path / "liar.zip"), tmp_path / "scratch", PrepareConfig())
    assert source is not None
    (liar,) = [entry for entry in source.entries if entry.name == "liar.png"]
    tracemalloc.start()
    with pytest.raises(Unreadable):
        entry_bytes(liar)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**19
    with pytest.raises(DatasetError, match="no image that can be read"):
        prepared(tmp_path / "liar.zip", tmp_path / "out")


def test_archives_nested_too_deep_are_refused(tmp_path: Path) -> None:
    content = b"whatever"
    folder = write(tmp_path / "images", ["a.png"])
    for _ in range(4):
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w") as archive:
            archive.writestr("inner.zip", content)
        content = stream.getvalue()
    (folder / "matryoshka.zip").write_bytes(content)
    assert prepared(folder, tmp_path / "out").count == 1
    assert "archives inside each other" in (tmp_path / "out" / "skipped.csv").read_text()
    assert not list((tmp_path / "out").glob(".*"))  # nothing unpacked is left


# --- real data


@pytest.mark.skipif(not SHARED.exists(), reason="needs ../shared/data")
def test_mnist_as_published(tmp_path: Path) -> None:
    dataset = prepared(SHARED / "t10k-images-idx3-ubyte.gz", tmp_path / "out")
    assert (dataset.count, dataset.channels, dataset.resolutions[-1]) == (10_000, 1, 32)
    counts = np.bincount([int(name) for name in classes(dataset)])
    assert counts.tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert top(dataset)[:, 2:30, 2:30].mean() == pytest.approx(33.791, abs=1e-3)  # 0.1325 · 255, as published


@pytest.mark.skipif(not SHARED.exists(), reason="needs ../shared/data")
def test_press_photographs(tmp_path: Path) -> None:
    report = prepare(SHARED / "faces-raw-500.zip", tmp_path / "out", PrepareConfig(resolution=64))
    assert (report.read, report.count, report.channels, report.skipped, report.upscaled) == (500, 500, 3, {}, 83)
