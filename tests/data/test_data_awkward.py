"""Whatever people's folders hold: each kind of file has a known outcome."""

import io
import struct
import tarfile
import warnings
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from progan.config import PrepareConfig
from progan.data.dataset import Dataset
from progan.data.prepare import prepare
from progan.data.prepare.decode import Target, decode_chunk
from progan.data.prepare.ranges import Ranges
from progan.data.sources.archives import Entry
from progan.data.sources.pictures import FileReader
from progan.errors import DatasetError

RED, GREEN, GREY, WHITE, BLACK = (255, 0, 0), (0, 255, 0), (128, 128, 128), (255, 255, 255), (0, 0, 0)


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def plain(mode: str, colour: object, size: tuple[int, int] = (32, 32)) -> Image.Image:
    return Image.new(mode, size, colour)


def palette() -> Image.Image:
    image = plain("P", 1)
    image.putpalette([0, 0, 0, *RED])
    return image


def see_through_palette() -> bytes:
    return encoded(palette(), transparency=1)


def sixteen_bits() -> Image.Image:
    return Image.fromarray(np.full((32, 32), 128 * 257, np.uint16))


def half(top: tuple[int, ...], bottom: tuple[int, ...]) -> Image.Image:
    image = plain("RGB", top, (64, 64))
    image.paste(bottom, (0, 32, 64, 64))
    return image


def upside_down_jpeg() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 3
    return encoded(half(BLACK, WHITE), "JPEG", exif=exif)


def animation() -> bytes:
    return encoded(plain("RGB", RED), "GIF", save_all=True, append_images=[plain("RGB", GREEN)])


def wide() -> Image.Image:
    image = plain("RGB", GREEN, (96, 32))
    image.paste(RED, (32, 0, 64, 32))
    return image


def jpeg(colour: tuple[int, int, int]) -> bytes:
    return encoded(plain("RGB", colour), "JPEG", quality=95)


def zipped(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return stream.getvalue()


def tarred(files: dict[str, bytes], mode: str = "w") -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def test_a_second_name_in_a_tar_is_a_picture_too(tmp_path: Path) -> None:
    """A hard link, as tar writes it where two names are of one file."""
    with tarfile.open(tmp_path / "set.tar", "w") as archive:
        for name, link in (("a.jpg", ""), ("copy/a.jpg", "a.jpg"), ("copy/none.jpg", "gone.jpg")):
            info = tarfile.TarInfo(name)
            content = jpeg(RED)
            info.size, info.type, info.linkname = (
                (0, tarfile.LNKTYPE, link) if link else (len(content), tarfile.REGTYPE, "")
            )
            archive.addfile(info, io.BytesIO(content) if not link else None)
    report = prepare(tmp_path / "set.tar", tmp_path / "out", PrepareConfig(workers=1))
    assert (report.count, report.skipped) == (2, {})


def bomb_png() -> bytes:
    """20,000 x 20,000 pixels in a few bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


# Name -> (content, the colour of the picture's middle or the reason why there is none). Red is the usual colour.
GOOD: dict[str, tuple[Callable[[], bytes], tuple[int, int, int]]] = {
    "rgb.jpg": (lambda: jpeg(RED), RED),
    "rgb.png": (lambda: encoded(plain("RGB", RED)), RED),
    "rgb.webp": (lambda: encoded(plain("RGB", RED), "WEBP", lossless=True), RED),
    "rgb.bmp": (lambda: encoded(plain("RGB", RED), "BMP"), RED),
    "rgb.tiff": (lambda: encoded(plain("RGB", RED), "TIFF"), RED),
    "grey.png": (lambda: encoded(plain("L", 128)), GREY),
    "bilevel.png": (lambda: encoded(plain("1", 1)), WHITE),
    "rgba.png": (lambda: encoded(plain("RGBA", (*RED, 255))), RED),
    "rgba-invisible.png": (lambda: encoded(plain("RGBA", (*RED, 0))), WHITE),
    "rgba-half.png": (lambda: encoded(plain("RGBA", (0, 0, 0, 128))), (127, 127, 127)),
    "la.png": (lambda: encoded(plain("LA", (128, 255))), GREY),
    "la-invisible.png": (lambda: encoded(plain("LA", (128, 0))), WHITE),
    "upside-down.jpg": (upside_down_jpeg, BLACK),
    "palette.png": (lambda: encoded(palette()), RED),
    "palette-invisible.png": (see_through_palette, WHITE),
    "sixteen-bits.png": (lambda: encoded(sixteen_bits()), GREY),
    "sixteen-bits.tiff": (lambda: encoded(sixteen_bits(), "TIFF"), GREY),
    "float.tiff": (lambda: encoded(Image.fromarray(np.full((32, 32), 128 / 255, np.float32)), "TIFF"), GREY),
    "cmyk.jpg": (lambda: encoded(plain("CMYK", (0, 255, 255, 0)), "JPEG", quality=95), RED),
    "animated.gif": (animation, RED),
    "wide.png": (lambda: encoded(wide()), RED),
    "tall.png": (lambda: encoded(wide().transpose(Image.Transpose.ROTATE_90)), RED),
    "small.png": (lambda: encoded(plain("RGB", RED, (5, 7))), RED),
    "line.png": (lambda: encoded(plain("RGB", RED, (900, 1))), RED),
    "wrong-suffix.txt": (lambda: jpeg(RED), RED),
    "no-suffix": (lambda: encoded(plain("RGB", RED)), RED),
    "sub/folder/deep.jpg": (lambda: jpeg(GREEN), GREEN),
    "ünï cödé 📷.png": (lambda: encoded(plain("RGB", RED)), RED),
    "zip.zip/a.png": (lambda: zipped({"a.png": encoded(plain("RGB", RED))}), RED),
    "nested.zip/in.zip/a.png": (lambda: zipped({"in.zip": zipped({"a.png": encoded(plain("RGB", RED))})}), RED),
    "tar.tar/a.png": (lambda: tarred({"a.png": encoded(plain("RGB", RED))}), RED),
    "tgz.tar.gz/a.png": (lambda: tarred({"a.png": encoded(plain("RGB", RED))}, "w:gz"), RED),
}
WIDE = Ranges.by_user(0, 65535)
BAD: dict[str, tuple[Callable[[], bytes], str]] = {
    "truncated.jpg": (lambda: encoded(Image.effect_noise((64, 64), 90), "JPEG")[:-900], "damaged"),
    "truncated.png": (lambda: encoded(Image.effect_noise((64, 64), 90))[:-900], "damaged"),
    "empty.jpg": (lambda: b"", "empty file"),
    "text.jpg": (lambda: b"no picture at all", "not an image"),
    "notes.md": (lambda: b"# notes", "not an image"),
    "phone.heic": (lambda: b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "damaged"),
    "bomb.png": (bomb_png, "decompression bomb"),
    "program.eps": (lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image"),
    "broken.zip": (lambda: zipped({"a.png": encoded(plain("RGB", RED))})[:-9], "refused"),
    "outside.zip/../evil.png": (lambda: zipped({"../evil.png": encoded(plain("RGB", RED))}), "refused"),
    "bomb.zip/zeros.bmp": (lambda: zipped({"zeros.bmp": bytes(2**25)}), "refused"),
}
IGNORED: dict[str, bytes] = {
    ".hidden.png": encoded(plain("RGB", GREEN)),
    ".DS_Store": b"\0",
    "Thumbs.db": b"\0",
    "desktop.ini": b"",
    "__MACOSX/._rgb.png": encoded(plain("RGB", GREEN)),
    "._rgb.jpg": b"\0",
}


def write(folder: Path, name: str, content: bytes) -> None:
    """A name that goes on behind an archive's suffix stands for a member of the archive."""
    parts = Path(name).parts
    archive = next((n for n, part in enumerate(parts) if part.endswith((".zip", ".tar", ".gz"))), len(parts) - 1)
    path = folder.joinpath(*parts[: archive + 1])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("awkward")
    for name, (content, _) in {**GOOD, **BAD}.items():
        write(folder, name, content())
    for name, content in IGNORED.items():
        write(folder, name, content)
    return folder


def test_each_kind_has_its_outcome(folder: Path, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report = prepare(folder, tmp_path / "out", PrepareConfig(resolution=16, labels="none", workers=1))
    skipped = dict(line.split(",")[:2] for line in (tmp_path / "out" / "skipped.csv").read_text().splitlines()[1:])
    assert skipped == {name: reason for name, (_, reason) in BAD.items()}
    assert report.read == len(GOOD) + len(BAD)
    assert report.count == len(GOOD)
    assert report.skipped == {
        "refused": 3,
        "not an image": 3,
        "damaged": 3,
        "empty file": 1,
        "decompression bomb": 1,
    }
    assert report.upscaled == 2  # small, line
    dataset = Dataset.open(tmp_path / "out", verify=True)
    middles = dataset.pixels(16, np.arange(dataset.count))[:, :, 8, 8]
    for name, middle in zip(sorted(GOOD), middles, strict=True):
        assert np.abs(middle.astype(int) - GOOD[name][1]).max() < 20, name  # beside an edge, or out of a JPEG


@settings(max_examples=150, deadline=None)
@given(name=st.sampled_from([name for name in GOOD if "/" not in name]), data=st.data())
def test_damaged_bytes_give_an_image_or_a_reason(folder: Path, name: str, data: st.DataObject) -> None:
    content = bytearray(GOOD[name][0]())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = folder.with_name("damaged")
    path.write_bytes(content[: data.draw(st.integers(1, len(content)))])
    chunk = decode_chunk(FileReader(), [Entry(name, str(path), path.stat().st_size)], Target(8, 3, ranges=WIDE))
    assert len(chunk.kept) + len(chunk.skipped) == 1
    assert chunk.levels[-1].shape == (len(chunk.kept), 8, 8, 3)


def test_strict_fails_at_the_first_bad_file(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"bomb\.png: decompression bomb.*--strict"):
        prepare(folder, tmp_path / "out", PrepareConfig(resolution=16, strict=True, workers=1))
    assert not (tmp_path / "out" / "dataset.json").exists()
