"""How preparation scales: speed against Pillow's own, memory, what a kill costs, and files above 4 GB.

    python benchmarks/prepare.py SOURCE OUT.json [--parts speed scale large] [--images N] [--scratch DIR]

- `speed`: JPEGs of 178x218 to 64x64 in one process, in alternation with Pillow that opens, decodes and resizes the same
  files and keeps nothing: as it comes, and with its draft mode, which decodes these pictures at half their size as
  preparation does. CPU time.
- `scale`: a tenth of the files, and all of them: images a second, the peak of memory; the same bytes after a kill.
- `large`: 360,000 images of 64x64, 4.4 GB: as an npy file, a level of a dataset in one file, StyleGAN's zip, npz and
  parquet; pictures on both sides of 4 GiB are read again. Needs 16 GB of disk.

The files are a few thousand crops of SOURCE's photographs; each has its number in a JPEG comment, so that no two files
have the same bytes, and none is a link. OUT.json gets a key for each part; those of an earlier call stay.
"""

import argparse
import io
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
from PIL import Image

from progan.config import PrepareConfig
from progan.data.dataset import Dataset
from progan.data.prepare import prepare
from progan.data.prepare.output import UNFINISHED
from progan.data.prepare.writers import prepare_as
from progan.data.sources import open_source

SIZE, RESOLUTION, DISTINCT, QUALITY = (178, 218), 64, 2000, 87
REPEATS, SPEED_IMAGES = 5, 4000
LARGE = 360_000
BORDER = 2**32 // (RESOLUTION * RESOLUTION * 3)  # the image in which the 4 GiB of a level end
_PREPARE = """
import json, pathlib, sys, time
from progan.config import PrepareConfig
from progan.data.prepare import prepare
def peak():  # ru_maxrss would count the parent's
    return int(pathlib.Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) / 1024
before, wall = peak(), time.perf_counter()
prepare(sys.argv[1], sys.argv[2], PrepareConfig(resolution=64, workers=1))
seconds = time.process_time()
print(json.dumps({"cpu_seconds": seconds, "seconds": time.perf_counter() - wall, "mb_before": before, "mb": peak()}))
"""


def photographs(source: str, scratch: Path) -> list[bytes]:
    """JPEGs of 178x218: crops of the source's pictures."""
    opened, rng, found = open_source(source, scratch, PrepareConfig()), np.random.default_rng(0), []
    pictures = [image.convert("RGB") for image in opened.reader.read(opened.entries, RESOLUTION)]  # type: ignore[union-attr]
    for number in range(DISTINCT):
        picture = pictures[number % len(pictures)]
        width = rng.uniform(0.7, 1) * min(picture.width, picture.height * SIZE[0] / SIZE[1])
        height = width * SIZE[1] / SIZE[0]
        left, top = rng.uniform(0, picture.width - width), rng.uniform(0, picture.height - height)
        file = io.BytesIO()
        crop = picture.resize(SIZE, Image.Resampling.BICUBIC, (left, top, left + width, top + height))
        crop.save(file, "JPEG", quality=QUALITY)
        found.append(file.getvalue())
    return found


def make_files(folder: Path, photos: list[bytes], count: int) -> Path:
    """The JPEGs, again and again, each with its number as a comment."""
    folder.mkdir()
    for number in range(count):
        photo, text = photos[number % DISTINCT], b"%d" % number
        comment = b"\xff\xfe" + (len(text) + 2).to_bytes(2, "big") + text
        (folder / f"{number:06d}.jpg").write_bytes(photo[:2] + comment + photo[2:])
    return folder


def pillow(paths: list[str], draft: bool) -> None:
    """What Pillow needs for the centred square of each file."""
    for path in paths:
        with Image.open(path) as image:
            if draft:
                image.draft("RGB", (RESOLUTION, RESOLUTION))
            (width, height), side = image.size, min(image.size)
            left, top = (width - side) // 2, (height - side) // 2
            box = (left, top, left + side, top + side)
            image.resize((RESOLUTION, RESOLUTION), Image.Resampling.LANCZOS, box)


def cpu(work: Callable[[], object]) -> float:
    """Seconds of CPU of this process."""
    began = time.process_time()
    work()
    return time.process_time() - began


def speed(photos: list[bytes], scratch: Path) -> dict[str, float]:
    """Images a second of CPU, and preparation's time as a multiple of Pillow's: medians of alternating runs."""
    folder = make_files(scratch / "speed", photos, SPEED_IMAGES)
    paths, config = sorted(map(str, folder.iterdir())), PrepareConfig(resolution=RESOLUTION, workers=1)
    runs = []
    for repeat in range(REPEATS):
        plain, drafted = (cpu(lambda draft=draft: pillow(paths, draft)) for draft in (False, True))  # type: ignore[misc]
        ours = cpu(lambda repeat=repeat: prepare(folder, scratch / f"speed-{repeat}", config))  # type: ignore[misc]
        runs.append((plain, drafted, ours))
        print(" ".join(f"{SPEED_IMAGES / seconds:,.0f}" for seconds in runs[-1]), "images/s", flush=True)
    plain, drafted, ours = (SPEED_IMAGES / median(column) for column in zip(*runs, strict=True))
    return {
        "images": SPEED_IMAGES,
        "pillow_images_per_cpu_second": plain,
        "pillow_draft_images_per_cpu_second": drafted,
        "images_per_cpu_second": ours,
        "times_pillow": median(ours / plain for plain, _, ours in runs),
        "times_pillow_draft": median(ours / drafted for _, drafted, ours in runs),
    }


def digests(out: Path) -> list[str]:
    """SHA-256 of every array, as the manifest has it."""
    arrays = json.loads((out / "dataset.json").read_text())["arrays"]
    return [file["sha256"] for files in arrays.values() for file in files]


def scale(photos: list[bytes], scratch: Path, count: int) -> dict[str, object]:
    """A tenth of the files, again killed in the middle and continued, and all of them."""
    found: dict[str, object] = {}
    for size in (count // 10, count):
        source, out = make_files(scratch / f"files-{size}", photos, size), scratch / f"out-{size}"
        command = [sys.executable, "-c", _PREPARE, str(source)]
        done = subprocess.run([*command, str(out)], check=True, capture_output=True, text=True)
        measured = json.loads(done.stdout)
        found[str(size)] = {**measured, "images_per_cpu_second": size / measured["cpu_seconds"]}
        print(size, found[str(size)], flush=True)
        if size < count:
            found["killed_after"] = killed_and_continued(command, source, scratch / "killed", digests(out))
    return found


def killed_and_continued(command: list[str], source: Path, out: Path, expected: list[str]) -> int:
    """How many images were done when the process was killed, after the half; continued, it gives the expected bytes."""
    process = subprocess.Popen([*command, str(out)], stdout=subprocess.DEVNULL)
    while _read(out) < len(os.listdir(source)) // 2:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = _read(out)
    assert prepare(source, out, PrepareConfig(resolution=RESOLUTION, workers=1)).state == "continued"
    assert digests(out) == expected
    return done


def _read(out: Path) -> int:
    """How many candidates the note of an unfinished preparation says to be done."""
    try:
        return int(json.loads((out / UNFINISHED).read_bytes())["note"]["read"])
    except (FileNotFoundError, ValueError):
        return 0


def large(scratch: Path) -> dict[str, object]:
    """Every container above 4 GB: some pictures of noise, which are read again, among pictures of equal rows."""
    rng, places = np.random.default_rng(0), (0, BORDER - 1, BORDER, BORDER + 1, LARGE - 1)
    marks = rng.integers(0, 256, (len(places), RESOLUTION, RESOLUTION, 3), dtype=np.uint8)
    source, out = scratch / "large.npy", scratch / "large"
    array = np.lib.format.open_memmap(source, "w+", np.uint8, (LARGE, RESOLUTION, RESOLUTION, 3))
    for start in range(0, LARGE, 1000):  # zeros would be refused as an archive bomb, once they are compressed
        array[start : start + 1000] = rng.integers(0, 256, (1000, 1, RESOLUTION, 3), dtype=np.uint8)
    for place, mark in zip(places, marks, strict=True):
        array[place] = mark
    array.flush()
    found: dict[str, object] = {}

    def check(name: str, path: Path) -> None:
        opened = open_source(str(path), scratch / "unpacked", PrepareConfig())
        images = opened.reader.read([opened.entries[place] for place in places], RESOLUTION)
        for image, mark in zip(images, marks, strict=True):
            assert (np.asarray(getattr(image, "numbers", image)) == mark).all(), (name, image)
        found[name] = path.stat().st_size
        print(name, f"{path.stat().st_size / 2**32:.2f} times 4 GiB", flush=True)

    check("npy", source)
    prepare(source, out, PrepareConfig(resolution=RESOLUTION, channels="rgb", workers=1), file_limit=2**40)
    level = out / f"images-{RESOLUTION:04d}.npy"
    assert (Dataset.open(out).pixels(RESOLUTION, np.array(places)).transpose(0, 2, 3, 1) == marks).all()
    found["dataset"] = level.stat().st_size
    source.unlink()
    for kind, name in (("npz", "large.npz"), ("stylegan-zip", "large.zip")):
        prepare_as(kind, out, scratch / name)
        check(kind, scratch / name)
        (scratch / name).unlink()
    check("parquet", _parquet(scratch / "large.parquet", places, marks))
    return found


def _parquet(path: Path, places: tuple[int, ...], marks: np.ndarray) -> Path:
    """A parquet file whose pictures are not compressed, so that it is above 4 GB in little time."""
    import pyarrow
    from pyarrow import parquet

    def png(pixels: np.ndarray) -> bytes:
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, "PNG", compress_level=0)
        return stream.getvalue()

    schema = pyarrow.schema([("image", pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())]))])
    zeros, some = png(np.zeros_like(marks[0])), dict(zip(places, map(png, marks), strict=True))
    with parquet.ParquetWriter(path, schema, compression="none", use_dictionary=False) as writer:
        for start in range(0, LARGE, 1000):
            rows = [{"bytes": some.get(row, zeros), "path": f"{row}.png"} for row in range(start, start + 1000)]
            writer.write_table(pyarrow.table([pyarrow.array(rows, schema.field(0).type)], schema=schema))
    return path


def main() -> None:
    """Print and write what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", help="folder or zip of photographs")
    parser.add_argument("out", type=Path, help="JSON to write")
    parser.add_argument("--parts", nargs="+", choices=("speed", "scale", "large"), default=["speed", "scale", "large"])
    parser.add_argument("--images", type=int, default=200_000)
    parser.add_argument("--scratch", help="folder of a disk with room; default: the system's for temporary files")
    options = parser.parse_args()
    found = json.loads(options.out.read_text()) if options.out.exists() else {}
    for part in options.parts:
        with tempfile.TemporaryDirectory(dir=options.scratch) as name:
            scratch = Path(name)
            if part == "large":
                found[part] = large(scratch)
            else:
                photos = photographs(options.source, scratch)
                found["bytes_of_a_file"] = round(np.mean([len(photo) for photo in photos]))
                found[part] = speed(photos, scratch) if part == "speed" else scale(photos, scratch, options.images)
        options.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
