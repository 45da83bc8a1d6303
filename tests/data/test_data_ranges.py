"""Values of any type and range, colour profiles, and files of numbers: what becomes 0 … 255, and what is said of it."""

import contextlib
import io
import struct
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
import pydicom
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageOps
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

import progan.data.prepare as preparation
from progan.cli import main
from progan.config import PrepareConfig
from progan.data.dataset import Dataset
from progan.data.prepare import prepare, workers
from progan.data.prepare.ranges import usual
from progan.data.prepare.report import PrepareReport, remarks
from progan.data.split import split
from progan.errors import ConfigError, DatasetError

Y, X = np.mgrid[0:16, 0:16] / 15
RAMP = np.rint(X * 255)  # what every ramp from the lowest to the highest value becomes
COLOURS = np.stack([X, Y, 1 - X], -1)
COLOURED = np.rint(COLOURS * 255)
IMAGES = np.stack([np.roll(COLOURED, i, 1) for i in range(6)]).astype(np.uint8)
CLASSES = np.array([2, 0, 1, 1, 0, 2])


def ramp(low: float, high: float, dtype: str, values: np.ndarray = X) -> np.ndarray:
    """Values of the ramp between two ends."""
    scaled = values * (high - low) + low
    return (scaled if np.dtype(dtype).kind == "f" else np.rint(scaled)).astype(dtype)


def saved(image: Image.Image | np.ndarray, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(file, kind, **options)
    return file.getvalue()


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def tiff(array: np.ndarray, **options: Any) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, array, **{"photometric": "minisblack", **options})
    return file.getvalue()


def prepared(tmp_path: Path, files: dict[str, bytes], **settings: Any) -> tuple[np.ndarray, PrepareReport]:
    """Pixels [N, R, R] or [N, R, R, 3] of a folder with these files, and the report."""
    folder = tmp_path / "files"
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return of_source(folder, tmp_path / "out", **settings)


def of_source(source: Path, out: Path, **settings: Any) -> tuple[np.ndarray, PrepareReport]:
    report = prepare(source, out, PrepareConfig(**{"workers": 1, **settings}))
    dataset = Dataset.open(out, verify=True)
    pixels = dataset.pixels(dataset.resolutions[-1], np.arange(dataset.count)).transpose(0, 2, 3, 1)
    return (pixels[..., 0] if dataset.channels == 1 else pixels), report


# --- which range


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, (0, 1)),
        (-0.004, 1.004, (0, 1)),
        (0, 0.05, (0, 1)),
        (-1.01, 1.02, (-1, 1)),
        (-0.3, 0.9, (-1, 1)),
        (0, 255, (0, 255)),
        (-2, 257, (0, 255)),
        (0, 1023, (0, 1023)),
        (0, 4095, (0, 4095)),
        (-40, 4130, (0, 4095)),
        (0, 5000, (0, 16383)),
        (0, 65535, (0, 65535)),
        (1000, 1000, (0, 1023)),
        (-1024, 3071, (-1024, 3071)),
        (0, 1e6, (0, 1e6)),
        (-128, 127, (-128, 127)),  # within 1 % of 0 … 16383, where it would be black
        (-3, 9, (-3, 9)),
        (0, 9, (0, 9)),
        (-8, 300, (0, 1023)),
    ],
)
@pytest.mark.parametrize("floats", [False, True])
def test_the_smallest_usual_range_that_holds_all_values(
    low: float, high: float, expected: tuple[float, float], floats: bool
) -> None:
    assert usual(low, high, floats) == expected


@pytest.mark.parametrize("ends", [(-0.05, 1.05), (0, 1.015), (-5, 260), (-8, 250)])
def test_floats_that_overshoot_a_range_are_not_squeezed_into_a_wider_one(ends: tuple[float, float]) -> None:
    """As resampling makes them; in -1 … 1 they would be washed out, in 0 … 1023 dark."""
    assert usual(*ends, floats=True) == ends


ENDS = [
    ("u1", 0, 255), ("i1", -128, 127), ("u2", 0, 1023), ("u2", 0, 4095), ("u2", 0, 65535), ("i2", -1024, 3071),
    ("u4", 0, 16383), ("u4", 0, 2**32 - 1), ("i4", -5000, 100_000), ("i8", 0, 255), ("f2", 0, 1), ("f4", -1, 1),
    ("f8", 0, 1), ("f8", -3, 9), ("f4", 0, 255),
]  # fmt: skip
MAKERS: dict[str, Callable[[np.ndarray], bytes]] = {
    "npy": npy,
    "black is zero": tiff,
    "white is zero": lambda array: tiff(array, photometric="miniswhite"),
}


@pytest.mark.parametrize(("dtype", "low", "high"), ENDS)
@pytest.mark.parametrize("kind", MAKERS)
def test_every_number_type_fills_0_to_255(tmp_path: Path, kind: str, dtype: str, low: float, high: float) -> None:
    pixels, report = prepared(tmp_path, {f"a.{kind[:3]}": MAKERS[kind](ramp(low, high, dtype))})
    assert np.array_equal(pixels[0], 255 - RAMP if "white" in kind else RAMP)
    text = f"values {low} … {high} become 0 … 255"
    assert [line[: len(text)] for line in remarks(report)] == ([] if dtype == "u1" else [text])


def test_booleans_are_black_and_white(tmp_path: Path) -> None:
    pixels, report = prepared(tmp_path, {"a.npy": npy(X > 0.5), "b.tif": tiff(X > 0.5)})
    assert (pixels == np.where(X > 0.5, 255, 0)).all()
    assert remarks(report) == []


def test_one_range_for_all_files_of_a_set(tmp_path: Path) -> None:
    """One file of a dark scene and one value a little above 1 must not change the scale of any picture."""
    bright = X.astype("f4")
    bright[0, 0] = 1.004
    pixels, _ = prepared(tmp_path, {"0.tif": tiff((X / 2).astype("f4")), "1.tif": tiff(bright)})
    assert np.array_equal(pixels[0], np.rint(X / 2 * 255))
    assert pixels[1, 0, 0] == 255
    assert np.array_equal(pixels[1, 1:], RAMP[1:])


def test_the_range_is_looked_for_in_every_picture(tmp_path: Path) -> None:
    """The only bright picture of 600 stands where a look at the first, or at some, does not find it."""
    array = np.broadcast_to(ramp(0, 900, "u2"), (600, 16, 16)).copy()
    array[500] = ramp(0, 4095, "u2")
    assert 500 not in [position * 600 // 256 for position in range(256)]
    np.save(tmp_path / "a.npy", array)
    pixels, report = of_source(tmp_path / "a.npy", tmp_path / "out", workers=2)
    assert np.array_equal(pixels[500], RAMP)
    assert pixels[0].max() == 56
    assert report.ranges.integers == (0, 4095)


@pytest.mark.parametrize("where", [0, 2])
def test_pictures_of_8_bits_stay_as_they_are_among_others(tmp_path: Path, where: int) -> None:
    """Whether the one with more bits is seen by the first look (0) or only when it is decoded (2)."""
    files = {f"{i:04d}.png": saved(ramp(0, 100, "u1")) for i in range(400)}
    files[f"{where:04d}.png"] = saved(ramp(0, 4095, "u2"))
    pixels, report = prepared(tmp_path, files, workers=2)
    assert np.array_equal(pixels[where], RAMP)
    assert np.array_equal(pixels[1], ramp(0, 100, "u1"))
    assert "values 0 … 4095 become 0 … 255" in remarks(report)[0]
    assert "399 images of 8 bits as they are" in remarks(report)[0]


def test_floats_in_0_to_1_are_another_unit_than_integers(tmp_path: Path) -> None:
    pixels, report = prepared(tmp_path, {"a.png": saved(ramp(0, 4095, "u2")), "b.tif": tiff(X)})
    assert (pixels == RAMP).all()
    assert [line.partition(" become")[0] for line in remarks(report)] == ["integers 0 … 4095", "floats 0 … 1"]
    # The same units, once as floats: one range.
    (tmp_path / "more").mkdir()
    pixels, _ = prepared(
        tmp_path / "more", {"a.tif": tiff(ramp(-1024, 3071, "i2")), "b.tif": tiff(ramp(0, 3071, "f4"))}
    )
    assert pixels[1].min() == round(1024 / 4095 * 255)


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_masks_are_scaled_and_pictures_that_are_nearly_black_are_not(tmp_path: Path, mode: str) -> None:
    masks = {f"{i}.png": saved(Image.fromarray((i / 4 < X).astype(np.uint8)).convert(mode)) for i in range(4)}
    pixels, report = prepared(tmp_path, masks)
    assert set(pixels.flat) == {0, 255}
    assert remarks(report) == ["values 0 … 1 become 0 … 255 (of other images, too, with --range 0:1)"]
    pixels, report = prepared(tmp_path / "dark", masks | {"dark.png": saved(np.full((16, 16), 2, np.uint8))})
    assert set(pixels.flat) == {0, 1, 2}
    assert remarks(report) == []


def test_values_that_are_not_finite_are_excluded_counted_and_said(tmp_path: Path) -> None:
    odd = X.astype("f4")
    odd[0, :3] = np.nan, np.inf, -np.inf
    pixels, report = prepared(tmp_path, {"a.npy": npy(odd), "b.npy": npy(odd * np.nan)})
    assert pixels.shape == (1, 16, 16)
    assert pixels[0, 0, :3].tolist() == [0, 255, 0]
    assert np.array_equal(pixels[0, 1:], RAMP[1:])
    assert report.skipped == {"no finite value": 1}
    assert remarks(report)[1].startswith("3 values are NaN or infinite")


# --- --range


def test_a_given_range_is_used_and_what_it_cuts_is_said(tmp_path: Path) -> None:
    pixels, report = prepared(tmp_path, {"a.tif": tiff(ramp(-1024, 3071, "i2"))}, range="0:2000")
    assert pixels[0, 0].tolist() == np.rint(ramp(-1024, 3071, "i2")[0].clip(0, 2000) / 2000 * 255).tolist()
    assert remarks(report)[0].startswith("values 0 … 2000 become 0 … 255")
    assert remarks(report)[1] == "128 values (50.00%) lie outside the range and are cut off"


def test_a_given_range_of_8_bits(tmp_path: Path) -> None:
    """A range within 0 … 255 is meant for them, a wider one for others."""
    files = {"a.png": saved(ramp(0, 128, "u1"))}
    pixels, report = prepared(tmp_path, files, range="0:128")
    assert np.array_equal(pixels[0], np.rint(ramp(0, 128, "u1") / 128 * 255))
    assert remarks(report) == ["values 0 … 128 become 0 … 255 (of other images, too, with --range 0:128)"]
    pixels, report = prepared(tmp_path / "wide", files, range="0:4095")
    assert np.array_equal(pixels[0], ramp(0, 128, "u1"))
    assert remarks(report) == []


def test_the_command_takes_a_range_that_begins_with_a_minus(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "a.tif").write_bytes(tiff(ramp(-100, 900, "i2")))
    assert main(["prepare", str(tmp_path / "a"), str(tmp_path / "out"), "--range", "-1024:3071"]) == 0
    assert "values -1024 … 3071 become 0 … 255" in capsys.readouterr().out
    assert Dataset.open(tmp_path / "out").range == "-1024:3071"
    assert main(["data", "show", str(tmp_path / "out")]) == 0
    assert "values -1024 … 3071 become 0 … 255" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["", "5", "1:1", "2:1", "0:nan", "-inf:0", "a:b", "0:1:2", "-1e308:1e308"])
def test_ranges_that_are_none(text: str) -> None:
    with pytest.raises(ConfigError, match="--range must be LOW:HIGH"):
        PrepareConfig(range=text)


def test_the_range_is_kept_and_goes_on_into_both_parts_of_a_split(tmp_path: Path) -> None:
    _, report = prepared(tmp_path, {f"{i}.png": saved(ramp(0, 4095, "u2")) for i in range(4)})
    split(report.out, tmp_path / "train", tmp_path / "held", count=2)
    assert [Dataset.open(path).range for path in (report.out, tmp_path / "train", tmp_path / "held")] == ["0:4095"] * 3


def test_an_interrupted_preparation_keeps_its_range(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "FEW_IMAGES", 2)
    array = np.stack([ramp(0, 4095, "u2")] * 20)
    np.save(tmp_path / "a.npy", array)
    expected, _ = of_source(tmp_path / "a.npy", tmp_path / "whole", workers=2)

    def stop(done: int, total: int) -> None:
        if done > 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(tmp_path / "a.npy", tmp_path / "out", PrepareConfig(workers=1), stop)
    monkeypatch.setattr(preparation, "survey", None)  # what was decided is not asked again
    pixels, report = of_source(tmp_path / "a.npy", tmp_path / "out")
    assert (report.state, report.tally.wide) == ("continued", 20)
    assert np.array_equal(pixels, expected)


# --- 16 bits of colour


def chunk(name: bytes, content: bytes) -> bytes:
    check = struct.pack(">I", zlib.crc32(name + content))
    return struct.pack(">I", len(content)) + name + content + check


def png16(numbers: np.ndarray, kind: int, transparent: bytes = b"") -> bytes:
    """A PNG of 16 bits [H, W, C], its rows stored as differences from the pixel to the left."""
    rows = numbers.astype(">u2")
    height, width = numbers.shape[:2]
    packed = np.frombuffer(rows.tobytes(), np.uint8).reshape(height, width, -1)
    packed = np.diff(packed, axis=1, prepend=np.zeros_like(packed[:, :1]))
    lines = b"".join(b"\1" + line.tobytes() for line in packed)

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0))
    colour = chunk(b"tRNS", transparent) if transparent else b""
    return b"\x89PNG\r\n\x1a\n" + header + colour + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("top", [4095, 65535])
@pytest.mark.parametrize("kind", ["L", "LA", "RGB", "RGBA"])
def test_png_of_16_bits_is_not_cut_to_8(tmp_path: Path, kind: str, top: int) -> None:
    numbers = ramp(0, top, "u2", COLOURS if kind.startswith("RGB") else X[..., None])
    if kind.endswith("A"):
        numbers = np.concatenate([numbers, np.full((16, 16, 1), 65535)], -1)
    pixels, _ = prepared(tmp_path, {"a.png": png16(numbers, {"L": 0, "RGB": 2, "LA": 4, "RGBA": 6}[kind])})
    assert np.array_equal(pixels[0], COLOURED if kind.startswith("RGB") else RAMP)


def test_the_transparent_colour_of_a_png_of_16_bits(tmp_path: Path) -> None:
    numbers = ramp(0, 65535, "u2", COLOURS)
    content = png16(numbers, 2, struct.pack(">HHH", *numbers[3, 5]))
    pixels, _ = prepared(tmp_path, {"a.png": content}, background="#010203")
    expected = COLOURED.copy()
    expected[3, 5] = 1, 2, 3
    assert np.array_equal(pixels[0], expected)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_tiff_of_16_bits_of_colour(tmp_path: Path, order: Any, compression: str | None, planar: str) -> None:
    numbers = ramp(0, 4095, "u2", COLOURS if planar == "contig" else COLOURS.transpose(2, 0, 1))
    options = {"photometric": "rgb", "planarconfig": planar, "byteorder": order, "compression": compression}
    pixels, _ = prepared(tmp_path, {"a.tif": tiff(np.ascontiguousarray(numbers), **options)})
    assert np.array_equal(pixels[0], COLOURED)


@pytest.mark.parametrize("orientation", range(2, 9))
@pytest.mark.parametrize("colour", [False, True])
def test_cameras_held_any_way_with_16_bits(tmp_path: Path, orientation: int, colour: bool) -> None:
    """As Pillow turns the same picture of 8 bits."""
    picture = COLOURED.astype(np.uint8) if colour else (X * 200 + Y * 55).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(saved(picture, exif=exif)))))
    turned = [(274, "H", 1, orientation, True)]
    numbers = picture.astype("u2") * 257
    content = png16(numbers if colour else numbers[..., None], 2 if colour else 0)
    content = content[:33] + chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0")) + content[33:]
    files = {
        "a.tif": tiff(numbers, photometric="rgb" if colour else "minisblack", extratags=turned),
        "b.png": content,
    }
    pixels, _ = prepared(tmp_path, files)
    assert np.array_equal(pixels, [expected] * 2)


# --- colour profiles

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
SWAPPED = SRGB.replace(b"rXYZ", b"----").replace(b"bXYZ", b"rXYZ").replace(b"----", b"bXYZ")
"""A profile whose red is blue."""


def profile(space: bytes, pcs: bytes, tags: dict[bytes, bytes]) -> bytes:
    """An ICC profile of version 2 for printing or showing."""
    table, body, start = b"", b"", 132 + 12 * len(tags)
    for name, content in tags.items():
        content += bytes(-len(content) % 4)
        table += name + struct.pack(">II", start + len(body), len(content))
        body += content
    kind = b"prtr" if space == b"CMYK" else b"mntr"
    header = struct.pack(">I4sI4s4s4s", start + len(body), b"lcms", 0x02100000, kind, space, pcs)
    header += bytes(12) + b"acsp" + bytes(28) + struct.pack(">III", 0xF6D6, 0x10000, 0xD32D)
    return header.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body


WHITE = b"XYZ \0\0\0\0" + struct.pack(">III", 0xF6D6, 0x10000, 0xD32D)
LINEAR_GREY = profile(b"GRAY", b"XYZ ", {b"wtpt": WHITE, b"kTRC": b"curv" + bytes(8)})
_IDENTITY = struct.pack(">9i", *(65536 if i % 4 == 0 else 0 for i in range(9)))
_CORNERS = b"".join(bytes([0 if corner & 1 else 255, 128, 128]) for corner in range(16))  # L falls with black alone
_LUT = b"mft1" + bytes([0, 0, 0, 0, 4, 3, 2, 0]) + _IDENTITY + bytes(range(256)) * 4 + _CORNERS + bytes(range(256)) * 3
ONLY_BLACK_PRINTS = profile(b"CMYK", b"Lab ", {b"wtpt": WHITE, b"A2B0": _LUT})


def test_pictures_of_other_colour_profiles_are_converted_counted_and_said(tmp_path: Path) -> None:
    red = Image.new("RGB", (64, 64), (255, 0, 0))
    icc = (34675, "B", len(SWAPPED), SWAPPED, True)
    files = {
        "0.png": saved(red, icc_profile=SWAPPED),
        "1.jpg": saved(red, "JPEG", quality=95, icc_profile=SWAPPED),
        "2.png": saved(red.quantize(4), icc_profile=SWAPPED),
        "3.tif": saved(red, "TIFF", icc_profile=SWAPPED),
        "4.png": saved(Image.new("L", (64, 64), 128), icc_profile=LINEAR_GREY),
        "5.jpg": saved(
            Image.new("CMYK", (64, 64), (255, 255, 255, 0)), "JPEG", quality=95, icc_profile=ONLY_BLACK_PRINTS
        ),
        "7.tif": tiff(np.full((64, 64, 3), (65535, 0, 0), "u2"), photometric="rgb", extratags=[icc]),
        "6.png": saved(Image.new("RGBA", (64, 64), (255, 0, 0, 0)), icc_profile=SWAPPED),
    }
    pixels, report = prepared(tmp_path, files, background="#00ff00")
    blue, middle = [0, 0, 255], pixels[:, 32, 32].astype(int)
    expected = [blue, blue, blue, blue, [188] * 3, [255] * 3, [0, 255, 0], blue]
    assert np.abs(middle - expected).max() <= 3
    assert remarks(report)[-1:] == ["8 images converted from another colour profile to sRGB"]


def test_pictures_in_srgb_are_not_touched_and_broken_profiles_are_said(tmp_path: Path) -> None:
    picture = COLOURED.astype(np.uint8)
    files = {
        "0.png": saved(picture, icc_profile=SRGB),
        "1.png": saved(picture, icc_profile=b"nonsense"),
        "2.png": saved(picture, icc_profile=SWAPPED[:200]),
        "3.png": saved(picture, icc_profile=LINEAR_GREY),
    }
    pixels, report = prepared(tmp_path, files)
    assert (pixels == COLOURED).all()
    assert remarks(report) == ["3 images with a colour profile that is broken or not for such pixels: ignored"]


@pytest.mark.parametrize("source", [SRGB, SWAPPED])
def test_large_jpegs_of_a_profile_that_become_grey(tmp_path: Path, source: bytes) -> None:
    """Decoding them as grey at once, which is quick, would drop the colours that the profile speaks of."""
    red = Image.new("RGB", (256, 256), (255, 0, 0))
    pixels, _ = prepared(tmp_path, {"a.jpg": saved(red, "JPEG", icc_profile=source)}, resolution=16, channels="grey")
    assert abs(int(pixels[0, 8, 8]) - (76 if source is SRGB else 29)) <= 2  # luma of red, of blue


# --- files of many pictures, and of numbers


def test_all_pages_of_a_tiff_are_pictures(tmp_path: Path) -> None:
    grey = [Image.fromarray(np.roll(RAMP, i, 1).astype(np.uint8)) for i in range(12)]
    files = {
        "a.tif": saved(grey[0], "TIFF", save_all=True, append_images=grey[1:]),
        "b.tiff": tiff(np.stack([ramp(0, 1, "f8", np.roll(X, i, 1)) for i in range(2)])),
        "c": saved(grey[0], "TIFF", save_all=True, append_images=grey[1:2]),
        "d.tif": saved(grey[0], "TIFF"),
    }
    pixels, report = prepared(tmp_path, files)
    assert report.count == 12 + 2 + 2 + 1
    for number, turn in enumerate([*range(12), 0, 1, 0, 1, 0]):
        assert np.array_equal(pixels[number], np.roll(RAMP, turn, 1)), number
    names = [line.partition(",")[0] for line in (tmp_path / "out" / "images.csv").read_text().splitlines()[1:]]
    assert names == [*(f"a.tif#{i}" for i in range(12)), "b.tiff#0", "b.tiff#1", "c#0", "c#1", "d.tif"]
    # Named itself, and in a zip.
    pixels, _ = of_source(tmp_path / "files" / "a.tif", tmp_path / "one", workers=2)
    assert pixels.shape == (12, 16, 16)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("x/a.tif", files["a.tif"])
    assert np.array_equal(of_source(tmp_path / "a.zip", tmp_path / "zipped")[0], pixels)


def test_channels_of_a_tiff_that_are_no_transparency(tmp_path: Path) -> None:
    two = np.stack([X, Y], -1).astype("f4")
    files = {
        "two.tif": tiff(two, planarconfig="contig"),
        "clear.tif": tiff(np.stack([X, np.ones_like(X)], -1), planarconfig="contig", extrasamples=["unassalpha"]),
        "more.tif": tiff(np.concatenate([COLOURS, Y[..., None]], -1), photometric="rgb", extrasamples=["unspecified"]),
    }
    pixels, report = prepared(tmp_path, files)
    assert np.array_equal(pixels, [np.repeat(RAMP[..., None], 3, -1), COLOURED])
    assert report.skipped == {"not an image": 1}


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_of_an_animation_the_first_picture_is_used_and_it_is_said(tmp_path: Path, kind: str) -> None:
    red, blue = (Image.new("RGB", (16, 16), colour) for colour in ("red", "blue"))
    files = {"a": saved(red, kind, save_all=True, append_images=[blue]), "b": saved(red, kind)}
    pixels, report = prepared(tmp_path, files)
    assert np.abs(pixels[:, 8, 8].astype(int) - [255, 0, 0]).max() <= 2
    assert remarks(report) == ["of 1 animation only the first image"]


@pytest.mark.parametrize("dtype", ["u1", "f8"])
@pytest.mark.parametrize("first", [False, True])
def test_smaller_copies_in_a_tiff_are_no_pictures(tmp_path: Path, dtype: str, first: bool) -> None:
    """By Pillow (u1) and by tifffile (f8)."""
    large, file = ramp(0, 255, dtype), io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        for small in (first, not first):
            writer.write(large[::2, ::2] if small else large, subfiletype=int(small), photometric="minisblack")
    pixels, _ = prepared(tmp_path, {"a.tif": file.getvalue()}, resolution=16)
    assert np.array_equal(pixels, [RAMP])


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (COLOURED.astype(np.uint8), [COLOURED]),
        (COLOURS.transpose(2, 0, 1), [COLOURED]),
        (X.astype("f4"), [RAMP]),
        (np.stack([X] * 4), [RAMP] * 4),
        (np.stack([X] * 5)[..., None], [RAMP] * 5),
        (np.stack([COLOURS.transpose(2, 0, 1)] * 2), [COLOURED] * 2),
    ],
)
def test_folders_of_npy_files(tmp_path: Path, array: np.ndarray, expected: list[np.ndarray]) -> None:
    """One picture each, or many."""
    pixels, _ = prepared(tmp_path, {"a.npy": npy(array), "sub/b.npy": npy(array)})
    assert np.array_equal(pixels, expected * 2)


def test_npy_files_called_images_and_labels(tmp_path: Path) -> None:
    files = {"X_train.npy": npy(IMAGES), "y_train.npy": npy(CLASSES), "x_test.npy": npy(IMAGES[:2])}
    pixels, report = prepared(tmp_path, files)
    assert np.array_equal(pixels, IMAGES)
    labels = Dataset.open(report.out).labels(np.arange(6))
    assert labels is not None
    assert labels.argmax(1).tolist() == CLASSES.tolist()


def test_npy_files_among_pictures_are_something_else(tmp_path: Path) -> None:
    files = {
        "a.tif": saved(RAMP.astype(np.uint8), "TIFF"),
        "b.png": saved(RAMP.astype(np.uint8)),
        "codes.npy": npy(np.eye(12)),
    }
    _, report = prepared(tmp_path, files)
    assert (report.count, report.skipped) == (2, {"refused": 1})
    assert "codes.npy,refused,an array among pictures" in (tmp_path / "out" / "skipped.csv").read_text()


@pytest.mark.parametrize(
    "content",
    [
        {"images": IMAGES, "labels": CLASSES},
        {"anything": IMAGES, "label": CLASSES},
        {"train/X": IMAGES.transpose(0, 3, 1, 2), "train/Y": CLASSES},
        {"image": IMAGES / np.float16(255), "target": CLASSES[:, None], "names": np.array([b"a", b"b"])},
        {"data4x4": IMAGES[:, ::4, ::4].transpose(0, 3, 1, 2), "data16x16": IMAGES.transpose(0, 3, 1, 2)},
    ],
)
def test_hdf5(tmp_path: Path, content: dict[str, np.ndarray]) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for name, array in content.items():
            file.create_dataset(name, data=array, compression="gzip")
    if "data4x4" in content:  # the authors' older files
        np.save(tmp_path / "a-labels.npy", np.eye(3)[CLASSES])
    pixels, report = of_source(tmp_path / "a.h5", tmp_path / "out", workers=2)
    assert np.array_equal(pixels, IMAGES)
    labels = Dataset.open(tmp_path / "out").labels(np.arange(6))
    assert report.label_kind == "class"
    assert labels is not None
    assert labels.argmax(1).tolist() == CLASSES.tolist()


@pytest.mark.parametrize("name", ["a.h5", "A.HDF5"])
def test_a_folder_around_an_hdf5_file(tmp_path: Path, name: str) -> None:
    (tmp_path / "set").mkdir()
    with h5py.File(tmp_path / "set" / name, "w") as file:
        file["images"] = IMAGES
    assert np.array_equal(of_source(tmp_path / "set", tmp_path / "out")[0], IMAGES)


@pytest.mark.parametrize("order", ["C", "F"])
def test_one_picture_as_an_array(tmp_path: Path, order: Literal["C", "F"]) -> None:
    """[H, W, C]: not H pictures that are three pixels wide."""
    np.save(tmp_path / "one.npy", np.asarray(IMAGES[0], order=order))
    pixels, report = of_source(tmp_path / "one.npy", tmp_path / "out")
    assert (report.channels, np.array_equal(pixels, IMAGES[:1])) == (3, True)


def test_hdf5_with_other_things_in_it(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(bytes(6 * 16 * 16))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["pictures"], file["type"], file["nothing"] = IMAGES, np.dtype("u1"), h5py.Empty("f4")
        file["elsewhere"] = h5py.ExternalLink("b.h5", "/images")
        # Raw bytes of another file, which would be the better name: not read.
        file.create_dataset("images", (6, 16, 16), "u1", external=[(str(tmp_path / "secret"), 0, 6 * 16 * 16)])
    assert np.array_equal(of_source(tmp_path / "a.h5", tmp_path / "out")[0], IMAGES)


def test_hdf5_that_is_not_understood(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["one"], file["two"] = IMAGES, IMAGES
    with pytest.raises(DatasetError, match=r"holds one \[6, 16, 16, 3\], two .*must be called `images`"):
        prepare(tmp_path / "a.h5", tmp_path / "out")
    (tmp_path / "cut.h5").write_bytes((tmp_path / "a.h5").read_bytes()[:1000])
    with pytest.raises(DatasetError, match="cannot be read"):
        prepare(tmp_path / "cut.h5", tmp_path / "out")


@pytest.mark.parametrize("images", ["images", "image", "x", "x_train", "arr_0", "X", "Image", "data"])
@pytest.mark.parametrize("labels", ["labels", "label", "y", "y_train", "Y"])
def test_npz_keys_in_singular_and_plural(tmp_path: Path, images: str, labels: str) -> None:
    np.savez(tmp_path / "a.npz", **{images: IMAGES, labels: CLASSES})
    pixels, report = of_source(tmp_path / "a.npz", tmp_path / "out", resolution=16)
    assert np.array_equal(pixels, IMAGES)
    assert report.label_kind == "class"


def dicom(numbers: np.ndarray, photometric: str = "MONOCHROME2", **tags: Any) -> bytes:
    """A DICOM file of pixels [H, W], [N, H, W] with `NumberOfFrames`, or [H, W, 3]."""
    meta = pydicom.dataset.FileMetaDataset()
    meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = ExplicitVRLittleEndian, CTImageStorage
    meta.MediaStorageSOPInstanceUID = "1.2.3"
    data = pydicom.dataset.FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    colour = photometric == "RGB"
    data.SOPClassUID, data.SOPInstanceUID = CTImageStorage, "1.2.3"
    data.Rows, data.Columns, data.SamplesPerPixel = 16, 16, 3 if colour else 1
    data.PhotometricInterpretation, data.PixelRepresentation = photometric, int(numbers.dtype.kind == "i")
    data.BitsAllocated = data.BitsStored = 8 * numbers.itemsize
    data.HighBit = data.BitsStored - 1
    if colour:
        data.PlanarConfiguration = 0
    for name, value in tags.items():
        setattr(data, name, value)
    data.PixelData = numbers.tobytes()
    file = io.BytesIO()
    data.save_as(file, enforce_file_format=True)
    return file.getvalue()


CT = {"RescaleSlope": 1, "RescaleIntercept": -1024}
WINDOW = {"WindowCenter": [40, 300], "WindowWidth": [400, 1500]}
STORED = ramp(0, 4095, "u2")
DICOM: dict[str, tuple[bytes, np.ndarray, dict[str, Any]]] = {
    "by range": (dicom(STORED, **CT), RAMP, {}),
    "signed": (dicom(ramp(-1024, 3071, "i2")), RAMP, {}),
    # DICOM PS3.3, C.11.2.1.2: black at c - 0.5 - (w - 1)/2, white at c - 0.5 + (w - 1)/2.
    "window": (dicom(STORED, **CT, **WINDOW), np.rint(((STORED - 1024.0 + 160) / 399).clip(0, 1) * 255), {}),
    "window overridden": (dicom(STORED, **CT, **WINDOW), RAMP, {"range": "-1024:3071"}),
    "zero is white": (dicom(STORED, "MONOCHROME1"), 255 - RAMP, {}),
    "zero is white, 8 bits": (dicom(RAMP.astype(np.uint8), "MONOCHROME1"), 255 - RAMP, {}),
    "colour": (dicom(COLOURED.astype(np.uint8), "RGB"), COLOURED, {}),
}


@pytest.mark.parametrize("kind", DICOM)
def test_dicom(tmp_path: Path, kind: str) -> None:
    content, expected, settings = DICOM[kind]
    pixels, report = prepared(tmp_path, {"IM0001": content}, **settings)
    assert np.array_equal(pixels[0], expected)
    assert ("1 image through the window of the file" in " ".join(remarks(report))) is (kind == "window")


def test_what_a_dicom_file_says_of_each_frame(tmp_path: Path) -> None:
    """An enhanced file: rescaling for all frames, a window for each."""

    def item(**values: Any) -> pydicom.Dataset:
        made = pydicom.Dataset()
        for name, value in values.items():
            setattr(made, name, value)
        return made

    rescaling = item(RescaleSlope=1, RescaleIntercept=-1024, RescaleType="HU")
    windows = [item(WindowCenter=centre, WindowWidth=1001) for centre in (0.5, 1000.5)]
    content = dicom(
        np.stack([STORED] * 2),
        NumberOfFrames=2,
        SharedFunctionalGroupsSequence=[item(PixelValueTransformationSequence=[rescaling])],
        PerFrameFunctionalGroupsSequence=[item(FrameVOILUTSequence=[window]) for window in windows],
    )
    pixels, _ = prepared(tmp_path, {"a.dcm": content})
    for picture, centre in zip(pixels, (0, 1000), strict=True):
        assert np.array_equal(picture, np.rint(((STORED - 1024.0 - centre) / 1000 + 0.5).clip(0, 1) * 255))


def test_frames_of_dicom(tmp_path: Path) -> None:
    frames = np.stack([np.roll(STORED, i, 1) for i in range(5)])
    files = {
        "a.dcm": dicom(frames, NumberOfFrames=5),
        "b.dcm": dicom(STORED),
        "c.dcm": dicom(STORED, NumberOfFrames=10**9),
    }
    pixels, report = prepared(tmp_path, files)
    assert np.array_equal(pixels, [*(np.roll(RAMP, i, 1) for i in range(5)), RAMP])
    assert report.skipped == {"damaged": 1}


@pytest.mark.parametrize(
    ("module", "name", "content", "command"),
    [
        ("pydicom", "a.dcm", DICOM["by range"][0], "pip install '.[medical]'"),
        ("tifffile", "a.tif", tiff(X), "pip install '.[tiff]'"),
        ("h5py", "a.h5", b"\x89HDF\r\n\x1a\n", "pip install '.[hdf5]'"),
    ],
)
def test_what_is_not_installed_is_named_with_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, name: str, content: bytes, command: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / name).write_bytes(content)
    with pytest.raises(DatasetError) as error:
        prepare(tmp_path / "in" / name if module == "h5py" else tmp_path / "in", tmp_path / "out")
    assert f"{module} is missing" in str(error.value)
    assert command in str(error.value)


SEEDS = {
    "a.tif": tiff(X),
    "b.tif": tiff(np.stack([RAMP] * 3).astype(np.uint8)),
    "c.tif": tiff(ramp(0, 4095, "u2", COLOURS), photometric="rgb"),
    "d.dcm": dicom(np.stack([STORED] * 3), NumberOfFrames=3, **CT, **WINDOW),
    "e.npy": npy(COLOURS),
    "f.png": saved(RAMP.astype(np.uint8), icc_profile=LINEAR_GREY),
}


@settings(max_examples=100, deadline=None)
@given(name=st.sampled_from(list(SEEDS)), data=st.data())
def test_damaged_files_of_numbers_give_pictures_or_reasons(name: str, data: st.DataObject) -> None:
    content = bytearray(SEEDS[name])
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, min(len(content), 400) - 1))] = data.draw(st.integers(0, 255))
    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(DatasetError):
        (Path(folder) / "in").mkdir()
        (Path(folder) / "in" / name).write_bytes(content)
        report = prepare(Path(folder) / "in", Path(folder) / "out", PrepareConfig(resolution=4, workers=1))
        assert report.count + sum(report.skipped.values()) == report.read
