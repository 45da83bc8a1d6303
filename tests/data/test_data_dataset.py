"""The prepared dataset: order, pixels, labels, and what it says when its files are not right."""

import json
import os
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from progan.config import PrepareConfig
from progan.data.dataset import Dataset
from progan.data.prepare import prepare
from progan.errors import DatasetError

COUNT = 23


def numbered_images(count: int) -> np.ndarray:
    """Image n is all n, uint8 [count, 8, 8, 3], blue inverted."""
    images = np.arange(count, dtype=np.uint8)[:, None, None, None].repeat(8, 1).repeat(8, 2).repeat(3, 3)
    images[..., 2] = 255 - images[..., 2]
    return images


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("dataset")
    np.savez(base / "numbers.npz", images=numbered_images(COUNT), labels=np.arange(COUNT) % 3)
    prepare(base / "numbers.npz", base / "out", PrepareConfig(workers=1))
    return base / "out"


@pytest.fixture(scope="module")
def dataset(folder: Path) -> Dataset:
    return Dataset.open(folder)


def test_facts(dataset: Dataset) -> None:
    assert (dataset.name, dataset.count, dataset.channels, dataset.resolutions) == ("numbers", COUNT, 3, (4, 8))
    assert (dataset.label_kind, dataset.label_names) == ("class", ("0", "1", "2"))
    assert dataset.level_bytes(8) == COUNT * 8 * 8 * 3


@settings(max_examples=60, deadline=None)
@given(start=st.integers(0, 10**7), size=st.integers(0, 3 * COUNT), seed=st.integers(0, 2**32))
def test_any_part_of_the_stream_can_be_had_alone(dataset: Dataset, start: int, size: int, seed: int) -> None:
    together = dataset.order(start, size, seed)
    assert together.dtype == np.int64
    one_by_one = [dataset.order(position, 1, seed)[0] for position in range(start, start + size)]
    assert together.tolist() == one_by_one


@settings(max_examples=30, deadline=None)
@given(epoch=st.integers(0, 1000), seed=st.integers(0, 2**32))
def test_an_epoch_shows_each_image_once(dataset: Dataset, epoch: int, seed: int) -> None:
    assert sorted(dataset.order(epoch * COUNT, COUNT, seed)) == list(range(COUNT))


def test_epochs_and_seeds_differ_and_repeat(dataset: Dataset) -> None:
    first = dataset.order(0, COUNT, 7).tolist()
    assert first != dataset.order(COUNT, COUNT, 7).tolist()
    assert first != dataset.order(0, COUNT, 8).tolist()
    assert first == dataset.order(0, COUNT, 7).tolist()


def test_threads_see_the_same_order(dataset: Dataset) -> None:
    expected = [dataset.order(start, 50, 3).tolist() for start in range(0, 400, 50)]
    seen: list[bool] = []

    def look() -> None:
        seen.extend(dataset.order(50 * n, 50, 3).tolist() == wanted for n, wanted in enumerate(expected))

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [True] * 32


def test_pixels_are_the_images_asked_for_channels_first(dataset: Dataset) -> None:
    indices = np.array([5, 0, 22, 5])
    for resolution in (4, 8):
        pixels = dataset.pixels(resolution, indices)
        assert pixels.dtype == np.uint8
        assert pixels.shape == (4, 3, resolution, resolution)
        assert pixels.flags.c_contiguous
        assert pixels.flags.writeable
        assert (pixels[:, 0] == indices[:, None, None]).all()
        assert (pixels[:, 2] == 255 - indices[:, None, None]).all()


def test_labels_are_one_hot(dataset: Dataset) -> None:
    labels = dataset.labels(np.array([0, 4, 5]))
    assert labels is not None
    assert labels.dtype == np.float32
    assert labels.tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]


def test_other_resolutions_are_refused(dataset: Dataset) -> None:
    with pytest.raises(DatasetError, match=r"no images of 16x16.*--resolution 16"):
        dataset.pixels(16, np.array([0]))


def test_several_files_are_one_array(dataset: Dataset, tmp_path: Path) -> None:
    np.savez(tmp_path / "numbers.npz", images=numbered_images(COUNT), labels=np.arange(COUNT) % 3)
    prepare(tmp_path / "numbers.npz", tmp_path / "out", PrepareConfig(workers=1), file_limit=5 * 8 * 8 * 3)
    assert len(list((tmp_path / "out").glob("images-0008-*.npy"))) == 5
    parted = Dataset.open(tmp_path / "out", verify=True)
    indices = np.array([22, 4, 5, 0, 14, 15, 5])
    assert (parted.pixels(8, indices) == dataset.pixels(8, indices)).all()
    assert (parted.pixels(4, indices) == dataset.pixels(4, indices)).all()
    assert np.array_equal(parted.labels(indices), dataset.labels(indices))  # type: ignore[arg-type]


def test_files_are_plain_numpy(folder: Path, dataset: Dataset) -> None:
    images = np.load(folder / "images-0008.npy")
    assert images.shape == (COUNT, 8, 8, 3)
    assert (images.transpose(0, 3, 1, 2) == dataset.pixels(8, np.arange(COUNT))).all()
    assert np.load(folder / "labels.npy").dtype == np.float32


def test_fingerprint_follows_the_data_alone(folder: Path, dataset: Dataset, tmp_path: Path) -> None:
    images = numbered_images(COUNT)
    for name, changed in (("same", images), ("other", np.where(images == 3, 4, images))):
        np.savez(tmp_path / f"{name}.npz", images=changed.astype(np.uint8), labels=np.arange(COUNT) % 3)
        prepare(tmp_path / f"{name}.npz", tmp_path / name, PrepareConfig(workers=1))
    assert Dataset.open(tmp_path / "same").fingerprint == dataset.fingerprint
    assert Dataset.open(tmp_path / "other").fingerprint != dataset.fingerprint


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "copy"))  # with its times


def flip_a_byte(path: Path, keep_time: bool) -> None:
    status = path.stat()
    content = bytearray(path.read_bytes())
    content[200] ^= 1
    path.write_bytes(content)
    if keep_time:
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_no_dataset(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"no dataset\.json\. Run: progan prepare"):
        Dataset.open(tmp_path)


def test_missing_file(copy: Path) -> None:
    (copy / "images-0004.npy").unlink()
    with pytest.raises(DatasetError, match=r"images-0004\.npy is missing"):
        Dataset.open(copy)


def test_other_size(copy: Path) -> None:
    with (copy / "labels.npy").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(DatasetError, match=r"labels\.npy has \d+ bytes instead of"):
        Dataset.open(copy)


def test_changed_bytes_are_seen_by_their_time(copy: Path) -> None:
    flip_a_byte(copy / "images-0008.npy", keep_time=False)
    with pytest.raises(DatasetError, match=r"images-0008\.npy was changed"):
        Dataset.open(copy)


def test_changed_bytes_with_their_old_time_are_seen_by_verify(copy: Path) -> None:
    flip_a_byte(copy / "images-0008.npy", keep_time=True)
    Dataset.open(copy)
    with pytest.raises(DatasetError, match=r"images-0008\.npy was changed"):
        Dataset.open(copy, verify=True)


def test_a_copy_without_times_is_read_once(copy: Path) -> None:
    manifest = copy / "dataset.json"
    os.utime(manifest, (0, 0))
    Dataset.open(copy)
    newest = max(path.stat().st_mtime_ns for path in copy.glob("*.npy"))
    assert manifest.stat().st_mtime_ns >= newest  # so the next start need not read


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 99}, "version 99"),
        ({"format": "other"}, "not a prepared dataset"),
        ({"count": COUNT + 1}, "damaged"),
        ({"arrays": {}}, "damaged"),
        (
            {"arrays": {"images-0004": [{"file": "../evil.npy", "rows": 1, "bytes": 1, "sha256": ""}]}},
            "leaves the folder",
        ),
        ({"unknown": 1}, "damaged"),
    ],
)
def test_wrong_manifests(copy: Path, change: dict[str, object], message: str) -> None:
    manifest = copy / "dataset.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), **change}))
    with pytest.raises(DatasetError, match=message):
        Dataset.open(copy)


@pytest.mark.parametrize("text", ["", "{", "[]", '"progan dataset"', "\0"])
def test_manifests_that_are_none(copy: Path, text: str) -> None:
    (copy / "dataset.json").write_text(text)
    with pytest.raises(DatasetError):
        Dataset.open(copy)
