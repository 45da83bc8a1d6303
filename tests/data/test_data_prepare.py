"""Preparation: the pyramid, cropping, decisions made by looking, going on after a kill, and the cache."""

import io
import os
import pickle
import shutil
import socket
import struct
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from progan import files
from progan.config import PrepareConfig
from progan.data.cache import cache_folder, clear_cache, list_cache, open_data
from progan.data.dataset import Dataset
from progan.data.prepare import prepare
from progan.data.prepare.decode import Target, fit, pyramid
from progan.errors import DatasetError
from progan.files import locked

ONE = PrepareConfig(workers=1)
FIXTURE = Path(__file__).parents[3] / "shared" / "reference" / "tfrecord_fixture16"


def photograph(width: int, height: int, seed: int = 0) -> Image.Image:
    """Smooth colours, a different one in every corner."""
    corners = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), dtype=np.uint8)
    return Image.fromarray(corners).resize((width, height), Image.Resampling.BICUBIC)


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def write_images(folder: Path, count: int, size: tuple[int, int] = (20, 20)) -> Path:
    folder.mkdir(exist_ok=True)
    for number in range(count):
        photograph(*size, seed=number).save(folder / f"{number:04d}.png")
    return folder


def digest(folder: Path) -> dict[str, bytes]:
    """Name -> content of everything but the manifest, which tells the time taken."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.name != "dataset.json"}


# --- the pyramid


def test_levels_are_rounded_only_at_the_end() -> None:
    """Means 0.5 0.5 0.5 1 have the mean 0.625, which is 1; rounded before (halves to even), 0 0 0 1 would give 0."""
    block = np.array([[2, 0, 2, 0], [0, 0, 0, 0], [2, 0, 4, 0], [0, 0, 0, 0]], np.uint8)
    four, eight, sixteen = pyramid(np.tile(block, (4, 4))[None, :, :, None])
    assert sixteen.shape == (1, 16, 16, 1)
    assert (eight[0, :, :, 0] == np.tile([[0, 0], [0, 1]], (4, 4))).all()
    assert (four == 1).all()


@settings(max_examples=40, deadline=None)
@given(power=st.integers(2, 6), channels=st.sampled_from([1, 3]), seed=st.integers(0, 999))
def test_every_level_is_the_mean_of_the_pixels_it_covers(power: int, channels: int, seed: int) -> None:
    size = 2**power
    top = np.random.default_rng(seed).integers(0, 256, (2, size, size, channels), dtype=np.uint8)
    levels = pyramid(top)
    assert [level.shape[1] for level in levels] == [2**k for k in range(2, power + 1)]
    for level in levels:
        side, block = level.shape[1], size // level.shape[1]
        exact = top.astype(np.float64).reshape(2, side, block, side, block, channels).mean((2, 4))
        assert (level == np.rint(exact)).all()


def test_large_white_stays_white() -> None:
    """The sums of a 1024x1024 picture still fit float32."""
    top = np.full((1, 1024, 1024, 1), 255, np.uint8)
    top[0, 0, 0] = 254
    assert [int(level.min()) for level in pyramid(top)] == [255] * 8 + [254]


@pytest.mark.skipif(not FIXTURE.exists(), reason="needs ../shared/reference")
def test_levels_equal_those_of_the_authors() -> None:
    """Pixels as they stand in the TFRecords that the authors' dataset tool wrote."""
    source = np.load(FIXTURE / "source_images.npz")["images"].transpose(0, 2, 3, 1)  # [12, 16, 16, 3]
    by_content = {image.tobytes(): level for image, level in zip(source, range(len(source)), strict=True)}
    tops = records(FIXTURE / "fixture16-r04.tfrecords", 16)
    order = [by_content[image.tobytes()] for image in tops]  # the tool may shuffle
    for level, power in zip(pyramid(source[order]), (2, 3, 4), strict=True):
        assert (level == records(FIXTURE / f"fixture16-r0{power}.tfrecords", 2**power)).all()


def records(path: Path, side: int) -> np.ndarray:
    """Pixels uint8 [n, R, R, 3] of a TFRecord file: the bytes of the `data` feature, which end each record."""
    content, position, images = path.read_bytes(), 0, []
    while position < len(content):
        (length,) = struct.unpack_from("<Q", content, position)
        record = content[position + 12 : position + 12 + length]
        at = record.index(b"data") + len(b"data")
        size = 3 * side * side
        start = next(k for k in range(at, len(record)) if len(record) - k >= size and _ends_length(record, k, size))
        images.append(np.frombuffer(record[start : start + size], np.uint8).reshape(3, side, side).transpose(1, 2, 0))
        position += 12 + length + 4
    return np.stack(images)


def _ends_length(record: bytes, position: int, size: int) -> bool:
    """Whether the bytes before are the tag of a bytes value and the length `size` (a varint)."""
    varint = bytes([size & 127 | 128, size >> 7]) if size > 127 else bytes([size])
    return record[:position].endswith(b"\x0a" + varint)


# --- one image


def opened(image: Image.Image, kind: str = "PNG", **options: object) -> Image.Image:
    return Image.open(io.BytesIO(encoded(image, kind, **options)))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("crop", ["center", "none"])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_cameras_held_any_way_give_upright_pictures(orientation: int, crop: str, kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"JPEG": {"quality": 95}, "WEBP": {"lossless": True}}.get(kind, {})
    image = opened(photograph(96, 48), kind, exif=exif, **options)
    target = Target(16, 3, crop)  # type: ignore[arg-type]
    upright = opened(ImageOps.exif_transpose(image))
    expected, _ = fit(upright, target)
    pixels, _ = fit(image, target)
    assert np.abs(pixels.astype(int) - expected).max() <= (3 if kind == "JPEG" else 1)


@pytest.mark.parametrize("size", [(350, 350), (351, 600), (1023, 517), (64, 64), (200, 2000)])
@pytest.mark.parametrize("crop", ["center", "none"])
@pytest.mark.parametrize("channels", [1, 3])
def test_draft_decoding_shows_the_same_part_of_the_picture(size: tuple[int, int], crop: str, channels: int) -> None:
    """A box that is off by half a pixel of the reduced image gives errors many times as large."""
    target = Target(16, channels, crop)  # type: ignore[arg-type]
    image = photograph(*size)
    exact, _ = fit(opened(image), target)
    drafted, _ = fit(opened(image, "JPEG", quality=100, subsampling=0), target)
    assert np.sqrt(np.square(exact.astype(float) - drafted).mean()) < 1.5


@pytest.mark.parametrize(
    ("side", "most_alias"), [(100, 3), (127, 3), (130, 42), (315, 3), (322, 32), (690, 4), (704, 32), (1400, 3)]
)
def test_fine_patterns_are_averaged_and_coarse_ones_kept(side: int, most_alias: float) -> None:
    """Stripes too fine for the picture must not come back as coarser ones; at 2, 5 and 11 times the draft begins."""

    def contrast(frequency: float) -> float:
        """Of stripes with an amplitude of 100, in the picture; 1 is the highest frequency that it can show."""
        wave = 127.5 + 100 * np.cos(np.pi * frequency * 64 / side * np.arange(side) + 0.3)
        stripes = Image.fromarray(np.tile(np.rint(wave).astype(np.uint8), (side, 1)))
        pixels, _ = fit(opened(stripes, "JPEG", quality=95), Target(64, 1))
        return float(pixels[8:-8, 8:-8].astype(float).std() * 2**0.5)

    assert contrast(0.5) > 93
    assert max(contrast(frequency) for frequency in (1.5, 2, 3) if frequency * 64 <= side) < most_alias


def test_the_middle_is_kept_or_all_of_it() -> None:
    image = Image.new("RGB", (64, 32), "blue")
    image.paste("red", (16, 0, 48, 32))
    middle, _ = fit(image, Target(8, 3))
    assert np.abs(middle.astype(int) - [255, 0, 0]).max() < 20  # at the rim the filter takes in what was cut off
    whole, _ = fit(image, Target(8, 3, "none"))
    assert (whole[[0, 1, 6, 7]] == 0).all()  # padded
    assert np.abs(whole[2:6, 3:5].astype(int) - [255, 0, 0]).max() < 20
    assert np.abs(whole[2:6, [0, 7]].astype(int) - [0, 0, 255]).max() < 20


def test_pictures_of_the_right_size_are_not_touched() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    same, enlarged = fit(opened(Image.fromarray(pixels)), Target(16, 3))
    assert (same == pixels).all()
    assert not enlarged


@pytest.mark.parametrize(("size", "crop", "expected"), [((15, 99), "center", True), ((15, 99), "none", False)])
def test_enlarged_is_what_lacks_pixels(size: tuple[int, int], crop: str, expected: bool) -> None:
    assert fit(photograph(*size), Target(16, 3, crop))[1] is expected  # type: ignore[arg-type]


def test_transparency_shows_the_background() -> None:
    image = Image.new("RGBA", (8, 8), (255, 0, 0, 0))
    assert (fit(image, Target(8, 3, background=(1, 2, 3)))[0] == [1, 2, 3]).all()


# --- decisions made by looking


def test_28_becomes_32_with_zeros_around(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(1, 256, (3, 28, 28), dtype=np.uint8)
    np.save(tmp_path / "digits.npy", images)
    report = prepare(tmp_path / "digits.npy", tmp_path / "out", ONE)
    pixels = Dataset.open(tmp_path / "out").pixels(32, np.arange(3))[:, 0]
    assert (pixels[:, 2:30, 2:30] == images).all()
    assert pixels.astype(int).sum() == images.astype(int).sum()
    assert report.upscaled == 0


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [([20, 20, 20], 16), ([100, 40, 40], 32), ([3, 3], 4), ([64, 64, 7], 64), ([5000, 5000], 1024)],
)
def test_resolution_is_what_most_images_fill(tmp_path: Path, sizes: list[int], expected: int) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for number, size in enumerate(sizes):
        Image.new("L", (size, size + 9), 9).save(folder / f"{number}.png")
    assert prepare(folder, tmp_path / "out", ONE).resolutions[-1] == expected


def test_grey_pictures_stored_as_rgb_are_grey(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(4):
        photograph(32, 32, number).convert("L").convert("RGB").save(folder / f"{number}.jpg", quality=60)
    assert prepare(folder, tmp_path / "grey", ONE).channels == 1
    photograph(32, 32).save(folder / "colour.jpg")
    assert prepare(folder, tmp_path / "mixed", ONE).channels == 3
    assert prepare(folder, tmp_path / "forced", PrepareConfig(channels="grey", workers=1)).channels == 1


@pytest.mark.parametrize("every", [2, 150])
def test_a_set_with_some_colour_keeps_it(tmp_path: Path, every: int) -> None:
    """Every second picture, which a look at every second one would miss; and two, which a look at some does miss."""
    folder = tmp_path / "images"
    folder.mkdir()
    colour, grey = photograph(8, 8), photograph(8, 8).convert("L").convert("RGB")
    for number in range(600 if every == 2 else 300):
        (colour if number % every == every - 1 else grey).save(folder / f"{number:04d}.png")
    report = prepare(folder, tmp_path / "out", ONE)
    assert report.channels == 3
    dataset = Dataset.open(tmp_path / "out", verify=True)
    assert (dataset.pixels(8, np.array([every - 1]))[0].transpose(1, 2, 0) == np.asarray(colour)).all()


def test_pictures_beside_files_of_another_kind_in_turn_are_found(tmp_path: Path) -> None:
    """As telephones store them: 256 pairs of IMG_0001.AAE and IMG_0001.JPG."""
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(256):
        (folder / f"IMG_{number:04d}.AAE").write_text("what was done to it")
        Image.new("L", (8, 8), number).save(folder / f"IMG_{number:04d}.JPG", "JPEG")
    assert prepare(folder, tmp_path / "out", ONE).count == 256


# --- whatever happens


@pytest.mark.parametrize("damage", ["missing", "cut off", "dataset.json"])
def test_a_prepared_dataset_that_is_damaged_is_made_again(tmp_path: Path, damage: str) -> None:
    source = write_images(tmp_path / "images", 5)
    whole = digest(open_data(source, ONE).path)

    def harm(folder: Path) -> None:
        if damage == "missing":
            (folder / "images-0008.npy").unlink()
        elif damage == "cut off":
            (folder / "images-0008.npy").write_bytes(b"\x93NUMPY")
        else:
            (folder / "dataset.json").write_text((folder / "dataset.json").read_text()[:200])

    # In the cache, by whatever uses it; elsewhere by the same command.
    harm(open_data(source, ONE).path)
    lines: list[str] = []
    assert digest(open_data(source, ONE, lines.append).path) == whole
    assert any("Prepare the images again. That is done now" in line for line in lines)
    prepare(source, tmp_path / "out", ONE)
    harm(tmp_path / "out")
    if damage == "dataset.json":  # nobody knows what it was made of
        with pytest.raises(DatasetError, match=f"delete {tmp_path / 'out'} before"):
            prepare(source, tmp_path / "out", ONE)
    else:
        assert prepare(source, tmp_path / "out", ONE).state == "prepared"
        assert digest(tmp_path / "out") == whole


def test_workers_do_not_change_a_byte(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "images", 90)
    (folder / "0030.png").write_bytes(b"broken")
    for workers in (1, 3):
        report = prepare(folder, tmp_path / f"{workers}", PrepareConfig(resolution=8, workers=workers))
        assert report.count == 89
    assert digest(tmp_path / "1") == digest(tmp_path / "3")


class Stop(Exception):
    """Like Ctrl-C, at a moment of the test's choice."""


@pytest.mark.parametrize("file_limit", [10**9, 3000])
def test_interrupted_preparation_goes_on(tmp_path: Path, file_limit: int) -> None:
    folder = write_images(tmp_path / "class a", 80)
    write_images(tmp_path / "class b", 20)
    (folder / "0050.png").write_bytes(b"")
    (folder / "0003.png").write_bytes(b"broken")
    config = PrepareConfig(resolution=8, workers=1)
    source = tmp_path / "source"
    source.mkdir()
    for name in ("class a", "class b"):
        (tmp_path / name).rename(source / name)
    prepare(source, tmp_path / "whole", config, file_limit=file_limit)
    done: list[int] = []

    def stop_often(read: int, total: int) -> None:
        assert total == 100
        if read not in done:
            done.append(read)
            raise Stop

    for _ in range(20):
        try:
            report = prepare(source, tmp_path / "parts", config, stop_often, file_limit)
            break
        except Stop:
            assert not (tmp_path / "parts" / "dataset.json").exists()
            for name in ("images-0004", "images-0008", "images.csv", "skipped.csv"):
                # A killed process may leave more than its last note says.
                with max((tmp_path / "parts").glob(f"{name}*")).open("ab") as file:
                    file.write(b"torn")
    assert report.state == "continued"
    assert done == sorted(done)
    assert len(done) >= 4
    assert report.skipped == {"empty file": 1, "not an image": 1}
    assert digest(tmp_path / "parts") == digest(tmp_path / "whole")
    assert Dataset.open(tmp_path / "parts", verify=True).fingerprint == Dataset.open(tmp_path / "whole").fingerprint
    assert prepare(source, tmp_path / "parts", config).state == "already there"


def test_killed_preparation_goes_on(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    content = [encoded(photograph(200, 200, seed)) for seed in range(7)]
    for number in range(500):
        (folder / f"{number:04d}.png").write_bytes(content[number % 7])
    killed, command = tmp_path / "killed", [sys.executable, "-m", "progan", "prepare", str(folder)]
    for _ in range(2):
        process = subprocess.Popen([*command, str(killed), "--workers", "2"], stdout=subprocess.DEVNULL)
        while not (killed / "images-0128.npy").exists() and process.poll() is None:
            time.sleep(0.005)
        process.kill()
        process.wait()
        assert (killed / "unfinished.json").exists()
    config = PrepareConfig(workers=2)
    assert prepare(folder, killed, config).state == "continued"
    prepare(folder, tmp_path / "whole", config)
    assert digest(killed) == digest(tmp_path / "whole")


def test_two_at_once_prepare_once(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "images", 60)
    with ThreadPoolExecutor(3) as threads:
        reports = list(threads.map(lambda _: prepare(folder, tmp_path / "out", ONE), range(3)))
    assert sorted(report.state for report in reports) == ["already there", "already there", "prepared"]
    assert not list((tmp_path / "out").glob(".*"))


def test_who_waits_for_another_process_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, said = write_images(tmp_path / "images", 3), list[str]()
    monkeypatch.setattr(files, "log_line", said.append)
    with ThreadPoolExecutor(1) as threads:
        with locked(tmp_path / "out"):
            waiting = threads.submit(prepare, folder, tmp_path / "out", ONE)
            until = time.monotonic() + 60
            while not said and time.monotonic() < until:
                time.sleep(0.01)
        assert waiting.result().state == "prepared"
    assert said == [f"waiting until process {os.getpid()} on {socket.gethostname()} is done with {tmp_path / 'out'}"]
    prepare(folder, tmp_path / "out", ONE)
    assert len(said) == 1


def test_scripts_without_a_main_guard_work(tmp_path: Path) -> None:
    """`multiprocessing` would run the script again in every worker."""
    write_images(tmp_path / "images", 60)
    script = tmp_path / "script.py"
    script.write_text(
        "from progan.config import PrepareConfig\nfrom progan.data.prepare import prepare\n"
        "print(prepare('images', 'out', PrepareConfig(workers=2)).count)\n"
    )
    done = subprocess.run([sys.executable, script.name], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "60\n"


def test_workers_that_cannot_live_end_in_one_line_and_the_same_call_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_images(tmp_path / "images", 60)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "executable", "false")
        with pytest.raises(DatasetError, match="process that decodes images died"):
            prepare(folder, tmp_path / "out", PrepareConfig(workers=2))
    assert not (tmp_path / "out" / "dataset.json").exists()
    assert prepare(folder, tmp_path / "out", PrepareConfig(workers=2)).state == "continued"


def test_killed_workers_are_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_images(tmp_path / "images", 90)
    started: list[subprocess.Popen[bytes]] = []

    class Recorded(subprocess.Popen):  # type: ignore[type-arg]
        def __init__(self, *arguments: object, **settings: object) -> None:
            super().__init__(*arguments, **settings)  # type: ignore[call-overload]
            started.append(self)
            if len(started) <= 2:
                self.kill()

    with monkeypatch.context() as patch:
        patch.setattr(subprocess, "Popen", Recorded)
        report = prepare(folder, tmp_path / "out", PrepareConfig(resolution=8, workers=2))
    prepare(folder, tmp_path / "whole", PrepareConfig(resolution=8, workers=1))
    assert (report.state, report.count) == ("prepared", 90)
    assert len(started) == 4
    assert digest(tmp_path / "out") == digest(tmp_path / "whole")
    assert all(process.poll() is not None for process in started)


def test_a_worker_whose_parent_was_killed_says_nothing(tmp_path: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    with subprocess.Popen(
        [sys.executable, "-c", "from progan.data.prepare.workers import serve; serve()"],
        stdin=subprocess.PIPE,
        stdout=write,
        stderr=subprocess.PIPE,
    ) as worker:
        os.close(write)
        assert worker.communicate(pickle.dumps((len, ("image",))))[1] == b""


# --- refusals


def test_a_full_disk_is_said_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_images(tmp_path / "images", 5)
    needed = 5 * 3 * (16 * 16 + 8 * 8 + 4 * 4)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=needed - 1))
    with pytest.raises(DatasetError, match="Choose another disk"):
        prepare(folder, tmp_path / "out", ONE)
    assert not (tmp_path / "out").exists()
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=needed))
    assert prepare(folder, tmp_path / "out", ONE).count == 5


def test_labels_take_room_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = np.array([f"{number % 20:02d}" for number in range(40)])
    np.savez(tmp_path / "a.npz", images=np.arange(40 * 64, dtype=np.uint8).reshape(40, 8, 8), labels=names)
    usage = shutil.disk_usage(tmp_path)
    needed = 40 * (8 * 8 + 4 * 4 + 20 * 4)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=needed - 1))
    with pytest.raises(DatasetError, match="Choose another disk"):
        prepare(tmp_path / "a.npz", tmp_path / "out", ONE)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=needed))
    assert prepare(tmp_path / "a.npz", tmp_path / "out", ONE).count == 40


def test_an_unfinished_folder_of_another_request_is_begun_anew(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "images", 60)

    def stop(read: int, total: int) -> None:
        raise Stop

    with pytest.raises(Stop):
        prepare(folder, tmp_path / "out", PrepareConfig(resolution=16, workers=1), stop)
    report = prepare(folder, tmp_path / "out", PrepareConfig(resolution=8, workers=1))
    assert (report.state, report.resolutions) == ("prepared", (4, 8))
    assert not list((tmp_path / "out").glob("images-0016*"))


def test_out_that_holds_something_else_is_left_alone(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "images", 3)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("all my work")
    with pytest.raises(DatasetError, match="is not empty"):
        prepare(folder, tmp_path / "out", ONE)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["thesis.txt"]
    prepare(folder, tmp_path / "done", ONE)
    with pytest.raises(DatasetError, match="with other settings"):
        prepare(folder, tmp_path / "done", PrepareConfig(resolution=4, workers=1))
    with pytest.raises(DatasetError, match="is the folder of the images"):
        prepare(folder, folder, ONE)
    with pytest.raises(DatasetError, match="is prepared already"):
        prepare(tmp_path / "done", tmp_path / "again", ONE)


@pytest.mark.parametrize("source", ["nowhere", "avatars:many", "empty", "textual"])
def test_sources_without_images_leave_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "textual").mkdir()
    (tmp_path / "textual" / "a.jpg").write_text("text")
    with pytest.raises(DatasetError):
        prepare(source, "out", ONE)
    assert not (tmp_path / "out").exists()


# --- the cache


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PROGAN_CACHE", str(tmp_path / "cache"))
    return cache_folder()


def test_a_source_is_prepared_once(tmp_path: Path, cache: Path) -> None:
    folder = write_images(tmp_path / "pictures", 5)
    told: list[str] = []
    first = open_data(folder, ONE, told.append)
    assert first.path.parent == cache
    assert open_data(folder, PrepareConfig(workers=2), told.append).path == first.path
    assert open_data(folder, PrepareConfig(resolution=8, workers=1), told.append).path != first.path
    photograph(20, 20, 99).save(folder / "new.png")
    assert open_data(folder, ONE, told.append).count == 6
    assert [line.split()[0] == "preparing" for line in told] == [True, False, True, True]
    assert all(str(folder) in line and str(cache) in line for line in told)


def test_a_prepared_dataset_is_used_where_it_lies(tmp_path: Path, cache: Path) -> None:
    prepare(write_images(tmp_path / "pictures", 5), tmp_path / "out", ONE)
    assert open_data(tmp_path / "out").path == tmp_path / "out"
    assert not cache.exists()


def test_the_cache_is_listed_and_cleared(tmp_path: Path, cache: Path) -> None:
    assert list_cache() == []
    dataset = open_data(write_images(tmp_path / "pictures", 5), ONE)
    (entry,) = list_cache()
    assert (entry.name, entry.complete, entry.path) == ("pictures", True, dataset.path)
    assert entry.bytes == sum(path.stat().st_size for path in dataset.path.iterdir())
    assert clear_cache() == [entry]
    assert list_cache() == []


@pytest.mark.parametrize(("old", "new"), [('"version": 1', '"version": 0'), ('"count": 5', '"count": ')])
def test_what_the_cache_has_of_another_version_or_damaged_is_cleared_too(
    tmp_path: Path, cache: Path, old: str, new: str
) -> None:
    dataset = open_data(write_images(tmp_path / "pictures", 5), ONE)
    manifest = dataset.path / "dataset.json"
    manifest.write_text(manifest.read_text().replace(old, new))
    (unsent := cache.with_name("unsent") / "0123").mkdir(parents=True)
    (unsent / "out.npz").write_bytes(b"images")
    assert [(entry.path, entry.complete) for entry in list_cache()] == [(dataset.path, False), (unsent, False)]
    clear_cache()
    assert list_cache() == []
    assert not unsent.exists()


def test_celeba_is_cut_as_the_authors_cut_it(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (218, 178, 3), np.uint8)
    (tmp_path / "in").mkdir()
    Image.fromarray(picture).save(tmp_path / "in" / "000001.png")
    Image.fromarray(picture[:200]).save(tmp_path / "in" / "000002.png")
    report = prepare(tmp_path / "in", tmp_path / "out", PrepareConfig(crop="celeba"))
    assert report.skipped == {"not 178x218": 1}
    dataset = Dataset.open(tmp_path / "out")
    expected = picture[121 - 64 : 121 + 64, 89 - 64 : 89 + 64]
    assert np.array_equal(dataset.pixels(128, np.array([0]))[0].transpose(1, 2, 0), expected)
