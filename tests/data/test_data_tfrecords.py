"""The authors' TFRecords: known answers from files that their tool wrote, and files that are damaged or foreign."""

import contextlib
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from progan.config import PrepareConfig
from progan.data.dataset import Dataset
from progan.data.prepare import prepare
from progan.data.prepare.output import read_ledger
from progan.data.sources import open_source
from progan.data.sources.tfrecords import crc32c, masked_crc32c
from progan.errors import DatasetError

FIXTURE = Path(__file__).parents[1] / "reference" / "tfrecord_fixture16"
ALL = np.arange(12)
ONE = PrepareConfig(workers=1)


@pytest.fixture
def records(tmp_path: Path) -> Path:
    """A copy of the top level and its labels, to be damaged."""
    folder = tmp_path / "records"
    folder.mkdir()
    for name in ("fixture16-r04.tfrecords", "fixture16-rxx.labels"):
        shutil.copy(FIXTURE / name, folder)
    return folder


def prepared(source: Path, out: Path, config: PrepareConfig = ONE) -> Dataset:
    prepare(source, out, config)
    return Dataset.open(out, verify=True)


def frame(payload: bytes) -> bytes:
    """A record as TFRecord files hold it."""
    length = struct.pack("<Q", len(payload))
    return length + masked(length) + payload + masked(payload)


def masked(content: bytes) -> bytes:
    return masked_crc32c(np.frombuffer(content, np.uint8)[None]).astype("<u4").tobytes()


def field(number: int, content: bytes) -> bytes:
    """A protobuf field of bytes, shorter than 128."""
    return bytes([number << 3 | 2, len(content)]) + content


def example(**features: bytes) -> bytes:
    entries = (field(1, field(1, name.encode()) + field(2, value)) for name, value in features.items())
    return field(1, b"".join(entries))


def image_example(shape: bytes, data: bytes) -> bytes:
    return example(shape=field(3, field(1, shape)), data=field(1, field(1, data)))


@pytest.mark.parametrize(
    ("content", "expected"),
    [(b"123456789", 0xE3069283), (bytes(32), 0x8A9136AA), (b"\xff" * 32, 0x62A8AB43), (bytes(range(32)), 0x46DD794E)],
)
def test_crc32c_of_the_standards(content: bytes, expected: int) -> None:
    """RFC 3720, appendix B.4."""
    assert crc32c(np.frombuffer(content, np.uint8)[None])[0] == expected


@pytest.mark.parametrize("size", [4, 31, 33, 64, 65, 1000])
def test_crc32c_of_any_length_byte_by_byte(size: int) -> None:
    rows = np.random.default_rng(size).integers(0, 256, (3, size), dtype=np.uint8)
    for row, found in zip(rows, crc32c(rows), strict=True):
        crc = 0xFFFFFFFF
        for byte in row.tolist():
            crc ^= byte
            for _ in range(8):
                crc = crc >> 1 ^ (crc & 1) * 0x82F63B78
        assert found == crc ^ 0xFFFFFFFF


def test_the_authors_files(tmp_path: Path) -> None:
    """Pixels and labels bit for bit, and our lower levels are theirs."""
    source = np.load(FIXTURE / "source_images.npz")
    dataset = prepared(FIXTURE, tmp_path / "out")
    assert (dataset.name, dataset.resolutions, dataset.channels) == ("fixture16", (4, 8, 16), 3)
    assert (dataset.label_kind, dataset.label_names) == ("class", ("0", "1", "2", "3"))
    pixels, labels = dataset.pixels(16, ALL), dataset.labels(ALL)
    assert labels is not None
    order = [int(np.flatnonzero((source["images"] == image).all((1, 2, 3)))[0]) for image in pixels]
    assert sorted(order) == list(range(12))  # the authors' tool may have shuffled them
    assert (labels == source["labels"][order]).all()
    assert (labels == np.load(FIXTURE / "fixture16-rxx.labels")).all()
    for power in (2, 3):
        level = prepared(FIXTURE / f"fixture16-r0{power}.tfrecords", tmp_path / f"{power}")
        assert level.resolutions[-1] == 2**power
        assert (level.pixels(2**power, ALL) == dataset.pixels(2**power, ALL)).all()


def test_one_file_without_labels_in_two_processes(records: Path, tmp_path: Path) -> None:
    whole = prepared(records, tmp_path / "whole")
    (records / "fixture16-rxx.labels").rename(tmp_path / "labels")
    top = (records / "fixture16-r04.tfrecords").rename(records / "renamed.tfrecords")
    dataset = prepared(top, tmp_path / "out", PrepareConfig(workers=2))
    assert (dataset.name, dataset.label_kind) == ("renamed", None)
    assert (dataset.pixels(16, ALL) == whole.pixels(16, ALL)).all()


def test_labels_can_be_left_out_or_several(records: Path, tmp_path: Path) -> None:
    assert prepared(records, tmp_path / "none", PrepareConfig(labels="none", workers=1)).label_kind is None
    values = np.random.default_rng(0).random((12, 3)).astype(np.float32)
    np.save(tmp_path / "values.npy", values)
    (tmp_path / "values.npy").replace(records / "fixture16-rxx.labels")
    dataset = prepared(records, tmp_path / "out")
    assert dataset.label_kind == "attributes"
    assert np.array_equal(dataset.labels(ALL), values)  # type: ignore[arg-type]


def test_grey_and_unpacked_shapes(tmp_path: Path) -> None:
    """Other protobuf writers store each number of the shape in a field of its own."""
    data = bytes(range(16))
    unpacked = example(shape=field(3, b"\x08\x01\x08\x04\x08\x04"), data=field(1, field(1, data)))
    for name, payload in (("packed", image_example(b"\x01\x04\x04", data)), ("unpacked", unpacked)):
        (tmp_path / f"{name}.tfrecords").write_bytes(frame(payload))
        dataset = prepared(tmp_path / f"{name}.tfrecords", tmp_path / name)
        assert dataset.pixels(4, np.arange(1)).tobytes() == data


def test_damaged_pixels_are_skipped_and_named(records: Path, tmp_path: Path) -> None:
    path = records / "fixture16-r04.tfrecords"
    content = bytearray(path.read_bytes())
    content[len(content) // 12 * 5 + 400] ^= 1
    path.write_bytes(content)
    dataset = prepared(records, tmp_path / "out")
    rows = list(read_ledger(tmp_path / "out" / "skipped.csv"))
    assert [(row["file"], row["reason"]) for row in rows] == [("5", "damaged")]
    labels = np.delete(np.load(FIXTURE / "fixture16-rxx.labels"), 5, 0)
    assert np.array_equal(dataset.labels(np.arange(11)), labels)  # type: ignore[arg-type]


TOP = (FIXTURE / "fixture16-r04.tfrecords").read_bytes()
FRAME = len(TOP) // 12
BAD = {
    "empty": (b"", "not a TFRecord file"),
    "text": (b"no records here, only words", "not a TFRecord file"),
    "wrong length": (b"\x28" + TOP[1:], "not a TFRecord file"),
    "cut in the first": (TOP[:100], "cut off in its first"),
    "cut in the last": (TOP[:-1], "follow its 11 whole records"),
    "a damaged frame": (TOP[: 3 * FRAME] + b"\0" + TOP[3 * FRAME + 1 :], "record 3 is damaged"),
    "huge": (struct.pack("<Q", 2**64 - 1) + masked(b"\xff" * 8), "cut off in its first"),
    "nothing inside": (bytes(8) + masked(bytes(8)) + bytes(4), "features are none"),
    "no protobuf": (frame(b"\xff" * 40), "no tf.train.Example"),
    "another layout": (frame(example(**{"image/encoded": b"", "label": b""})), "'image/encoded', 'label', not 'shape'"),
    "two pictures": (frame(example(shape=b"", data=field(1, field(1, b"a") * 2))), "Example of one image"),
    "a field too long": (frame(b"\x0a\x7f" + image_example(b"\x01\x04\x04", bytes(16))[2:]), "no tf.train.Example"),
    "wrong shape": (frame(image_example(b"\x03\x04\x04", bytes(16))), r"shape is \[3, 4, 4\] for 16 bytes"),
}


@pytest.mark.parametrize("kind", BAD)
def test_files_that_cannot_be_read(tmp_path: Path, kind: str) -> None:
    content, message = BAD[kind]
    (tmp_path / "bad-r04.tfrecords").write_bytes(content)
    with pytest.raises(DatasetError, match=message) as error:
        prepare(tmp_path / "bad-r04.tfrecords", tmp_path / "out", ONE)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


def test_labels_that_cannot_be_used(records: Path, tmp_path: Path) -> None:
    path = records / "fixture16-rxx.labels"
    whole = path.read_bytes()
    np.save(tmp_path / "short.npy", np.eye(4, dtype=np.float32))
    np.save(tmp_path / "nan.npy", np.full((12, 2), np.nan, np.float32))
    np.save(tmp_path / "objects.npy", np.array([None] * 12), allow_pickle=True)
    for content, message in (
        ((tmp_path / "short.npy").read_bytes(), r"shape \[4, 4\] for 12 images"),
        ((tmp_path / "nan.npy").read_bytes(), "no numbers"),
        ((tmp_path / "objects.npy").read_bytes(), "cannot be read"),
        (whole[:-5], "cannot be read"),
        (b"", "cannot be read"),
    ):
        path.write_bytes(content)
        with pytest.raises(DatasetError, match=message):
            prepare(records, tmp_path / "out", ONE)


def test_two_sets_in_a_folder(records: Path, tmp_path: Path) -> None:
    shutil.copy(records / "fixture16-r04.tfrecords", records / "other-r05.tfrecords")
    with pytest.raises(DatasetError, match=r"TFRecords of fixture16, other\. Name one file"):
        prepare(records, tmp_path / "out", ONE)


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_any_damage_gives_images_or_one_line(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Payloads with valid checksums, so that the parser sees the damage."""
    payload = bytearray(TOP[12 : FRAME - 4])
    for _ in range(data.draw(st.integers(1, 3))):
        payload[data.draw(st.integers(0, 40))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged-r04.tfrecords"
    path.write_bytes(frame(bytes(payload)))
    with contextlib.suppress(DatasetError):
        source = open_source(str(path), path.parent, ONE)
        assert len(list(source.reader.read(source.entries, 16))) == 1
