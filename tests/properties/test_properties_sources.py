"""Whatever lies in a source: it is prepared whole, or refused with a word; nothing else is touched, nothing is run."""

import gzip
import io
import itertools
import json
import os
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from hostile import NAMES, SCALARS, TEXTS, Payload, cases, changed, damaged, fine_or_refused, pickled, tree
from progan.config import PrepareConfig
from progan.data.dataset import Dataset
from progan.data.inspection import inspect
from progan.data.prepare import prepare
from progan.data.prepare.report import PrepareReport

Files = dict[str, bytes]
REFERENCE = Path(__file__).parents[1] / "reference" / "tfrecord_fixture16"
RANDOM = np.random.default_rng(0)
PIXELS = RANDOM.integers(0, 256, (5, 16, 12, 3), dtype=np.uint8)
CLASSES = np.array([1, 0, 2, 1, 0])


def picture(number: int, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(PIXELS[number]).save(file, kind, **options)
    return file.getvalue()


def npy(array: np.ndarray, **options: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


def npz(**arrays: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def zipped(files: Files, method: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content, method)
    return file.getvalue()


def tarred(files: Files) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return file.getvalue()


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.astype(np.uint8).tobytes()


FOLDER = {
    "a/1.png": picture(0),
    "a/2.jpg": picture(1, "JPEG"),
    "b/3.webp": picture(2, "WEBP", lossless=True),
    "b/4.gif": picture(3, "GIF"),
    "b/5.tif": picture(4, "TIFF"),
}
TABLE = "".join(f"{name},{code}\n" for name, code in zip(FOLDER, CLASSES, strict=True)).encode()
STYLEGAN = {
    **{f"00000/{n}.png": picture(n) for n in range(5)},
    "dataset.json": json.dumps({"labels": [[f"00000/{n}.png", int(CLASSES[n])] for n in range(5)]}).encode(),
}
CIFAR = np.concatenate([CLASSES[:, None], RANDOM.integers(0, 256, (5, 3072))], 1).astype(np.uint8).tobytes()
BASES: dict[str, tuple[str, Files]] = {
    "folder": ("", FOLDER),
    "folder with a table": ("", {**FOLDER, "labels.csv": TABLE}),
    "zip": ("x.zip", {"x.zip": zipped(FOLDER, zipfile.ZIP_DEFLATED)}),
    "zip with a table beside it": ("x.zip", {"x.zip": zipped(FOLDER), "x.csv": TABLE}),
    "zip in a folder": ("", {"x.zip": zipped(FOLDER), "y.png": picture(0)}),
    "tar": ("x.tar", {"x.tar": tarred(FOLDER)}),
    "tar.gz": ("x.tar.gz", {"x.tar.gz": gzip.compress(tarred(FOLDER), mtime=0)}),
    "npy": ("x.npy", {"x.npy": npy(PIXELS)}),
    "npy of floats": ("x.npy", {"x.npy": npy(PIXELS.astype(np.float32) / 255)}),
    "npz": ("x.npz", {"x.npz": npz(images=PIXELS, labels=CLASSES)}),
    "idx": ("", {"train-images-idx3-ubyte": idx(PIXELS[..., 0]), "train-labels-idx1-ubyte": idx(CLASSES)}),
    "idx.gz": ("x-idx3.gz", {"x-idx3.gz": gzip.compress(idx(PIXELS[..., 0]), mtime=0)}),
    "cifar": ("", {"data_batch_1.bin": CIFAR, "batches.meta.txt": b"cat dog frog"}),
    "cifar in one file": ("x.bin", {"x.bin": CIFAR}),
    "tfrecords": ("", {path.name: path.read_bytes() for path in REFERENCE.iterdir() if path.suffix != ".npz"}),
    "stylegan zip": ("x.zip", {"x.zip": zipped(STYLEGAN)}),
    "stylegan folder": ("", STYLEGAN),
}


@pytest.fixture
def attempt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Dataset | None]:
    """Prepare files of a folder of their own, and check what became of them."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # no test pulls the plug
    monkeypatch.chdir(tmp_path)
    numbers = itertools.count()

    def run(files: Files, source: str = "", **settings: Any) -> Dataset | None:
        place = tmp_path / f"{next(numbers)}"
        for name, content in files.items():
            path = place / "in" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        before, out = tree(place), place / "out"
        config = PrepareConfig(resolution=8, workers=1, **settings)
        report: PrepareReport | None = fine_or_refused(lambda: prepare(place / "in" / source, out, config))
        assert {name: content for name, content in tree(place).items() if not name.startswith("out")} == before
        if report is None:
            assert not (out / "dataset.json").exists()
            return None
        left = {path.name for path in out.iterdir()}
        assert left <= {"dataset.json", "images-0004.npy", "images-0008.npy", "images.csv", "skipped.csv", "labels.npy"}
        dataset = Dataset.open(out, verify=True)
        assert dataset.count == report.count > 0
        assert dataset.count + sum(report.skipped.values()) == report.read
        assert inspect(dataset).count == len(dataset.pixels(8, np.arange(dataset.count)))
        assert (dataset.labels(np.arange(dataset.count)) is None) == (report.label_kind is None)
        return dataset

    yield run
    assert {path.name for path in tmp_path.iterdir()} <= {str(n) for n in range(next(numbers))}


@pytest.mark.parametrize("base", BASES)
def test_the_sources_are_sound_as_they_are(base: str, attempt: Callable[..., Dataset | None]) -> None:
    source, files = BASES[base]
    dataset = attempt(files, source)
    assert dataset is not None
    assert dataset.count >= 5


@cases
@given(data=st.data())
def test_damaged_files(attempt: Callable[..., Dataset | None], data: st.DataObject) -> None:
    source, files = BASES[data.draw(st.sampled_from(sorted(BASES)))]
    victim = data.draw(st.sampled_from(sorted(files)))
    attempt({**files, victim: damaged(files[victim], data.draw)}, source)


@cases
@given(
    name=st.sampled_from(["x", "x.png", "x.zip", "x.tar.gz", "x.npy", "x.npz", "x.bin", "x.tfrecords"]),
    start=st.sampled_from([b"", b"PK\3\4", b"\x1f\x8b\x08", b"\x93NUMPY\1\0", b"\0\0\x08\3", b"\xff\xd8\xff", b"BZ"]),
    rest=st.binary(max_size=300),
)
def test_random_bytes(attempt: Callable[..., Dataset | None], name: str, start: bytes, rest: bytes) -> None:
    attempt({name: start + rest}, name)
    attempt({name: start + rest, "sound.png": picture(0)})


@cases
@example(names=["a\rb.png"], kind="zip", strict=False)
@given(names=st.lists(NAMES, max_size=4), kind=st.sampled_from(["zip", "tar", "zip in zip"]), strict=st.booleans())
def test_hostile_names_in_archives(
    attempt: Callable[..., Dataset | None], names: list[str], kind: str, strict: bool
) -> None:
    files = {**dict.fromkeys(names, picture(1)), "good.png": picture(0)}
    try:
        content = tarred(files) if kind == "tar" else zipped(files)
    except (ValueError, UnicodeEncodeError):  # what the format itself cannot hold
        return
    if kind == "zip in zip":
        content = zipped({"inner.zip": content, "sound.png": picture(2)})
    attempt({"x.tar" if kind == "tar" else "x.zip": content}, "x.tar" if kind == "tar" else "x.zip", strict=strict)


@cases
@given(data=st.data())
def test_tables_of_labels(attempt: Callable[..., Dataset | None], data: st.DataObject) -> None:
    sound = [
        {"labels": [[name, int(code)] for name, code in zip(FOLDER, CLASSES, strict=True)]},
        {"labels": [[name, [0.5, 1.0]] for name in FOLDER], "label_names": ["x", "y"]},
        dict(zip(FOLDER, CLASSES.tolist(), strict=True)),
        [{"file": name, "smile": 1, "hat": -1} for name in FOLDER],
    ]
    name = data.draw(st.sampled_from(["dataset.json", "labels.json", "labels.jsonl", "labels.csv", "labels.tsv"]))
    if name.endswith(("json", "jsonl")):
        content = json.dumps(changed(data.draw(st.sampled_from(sound)), data.draw)).encode()
    else:
        rows = data.draw(st.lists(st.lists(TEXTS | SCALARS.map(str), max_size=3), max_size=3))
        lines = [",".join([file, *row]) for file, row in zip(FOLDER, itertools.cycle([*rows, ["1"]]), strict=False)]
        content = "\n".join(lines).encode("utf-8", "replace")
    wanted = {"labels": "in/" + name} if data.draw(st.booleans()) else {}
    attempt({**FOLDER, name: content}, **wanted)


@cases
@given(
    dtype=st.sampled_from("u1 u2 u4 u8 i1 i2 i4 i8 f2 f4 f8 c8 ? S3 U2 M8[s] m8[s]".split()),
    shape=st.lists(st.integers(0, 5), max_size=5),
    order=st.sampled_from("CF"),
    value=st.sampled_from([0, 1, -1, 255, 256, 1e30, np.nan, np.inf]),
    labels=st.none() | st.lists(SCALARS, max_size=5),
)
def test_arrays_of_any_kind(
    attempt: Callable[..., Dataset | None], dtype: str, shape: list[int], order: Any, value: float, labels: Any
) -> None:
    with np.errstate(all="ignore"):
        try:
            array = np.full(shape, value, order=order).astype(dtype)
        except (ValueError, OverflowError, TypeError):
            return
    attempt({"x.npy": npy(array)}, "x.npy")
    if labels is not None:
        attempt({"x.npz": npz(images=array, labels=np.array([str(label) for label in labels]))}, "x.npz")


@pytest.mark.parametrize("name", ["data_batch_1", "data_batch_1.bin", "x.npy", "x.npz", "x.pkl", "x.png", "x.zip"])
def test_a_pickle_is_never_run(attempt: Callable[..., Dataset | None], tmp_path: Path, name: str) -> None:
    payload = pickled(tmp_path / "run")
    attempt({name: payload, "batches.meta": payload})
    attempt({name: payload}, name)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("place", ["images", "labels"])
def test_objects_in_arrays_are_never_run(attempt: Callable[..., Dataset | None], tmp_path: Path, place: str) -> None:
    objects = np.array([Payload(tmp_path / "run")] * 5, dtype=object)
    arrays = {"images": PIXELS, "labels": CLASSES, place: objects}
    assert attempt({"x.npz": npz(**arrays)}, "x.npz") is None
    if place == "images":
        assert attempt({"x.npy": npy(objects)}, "x.npy") is None
    assert attempt({**BASES["tfrecords"][1], "fixture16-rxx.labels": npy(objects)}) is None
    assert not (tmp_path / "run").exists()
