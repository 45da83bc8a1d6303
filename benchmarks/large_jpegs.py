"""How fast large JPEGs are prepared, against Pillow that only decodes them; how good the pictures are; how much memory.

Photographs of 12 and 2.5 megapixels are put together from smaller real ones, reduced so that they are sharp to the
pixel, and saved with quality 90 and 4:2:0. The same number of processes then alternately prepares them and decodes
them with Pillow's draft for the same resolution (its fastest decoding that leaves enough pixels). Two more columns say
what Pillow alone would reach if it also had to resample what it decoded, with the best and with the cheapest filter.

    python benchmarks/large_jpegs.py SOURCE [--workers N] [--photos N] [--repeats N]
"""

import argparse
import importlib
import io
import json
import resource
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
from progan.data.prepare import prepare
from progan.data.prepare.decode import Target, fit
from progan.data.prepare.workers import core_count, ordered_map
from progan.data.sources import open_source

RESOLUTIONS = (64, 128, 256, 512, 1024)
SIZES = ((4000, 3000), (1920, 1280))
DISTINCT, TILE = 8, 128
_MEMORY = """
import json, pathlib, resource, sys
from progan.data.prepare import prepare
from progan.config import PrepareConfig
source, out, workers = sys.argv[1:]
prepare(source, out, PrepareConfig(resolution=1024, workers=int(workers)))
peak = pathlib.Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]  # ru_maxrss counts the parent's
print(json.dumps([int(peak) / 1024, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024]))
"""


def photographs(source: str, size: tuple[int, int], scratch: Path) -> list[bytes]:
    """JPEGs of that size, each a mosaic of the source's images."""
    opened = open_source(source, scratch, PrepareConfig())
    tiles = [fit(image, Target(TILE, 3))[0] for image in opened.reader.read(opened.entries, TILE)]
    (width, height), found = size, []
    rows, columns = -(-height // TILE), -(-width // TILE)
    for seed in range(DISTINCT):
        chosen = np.random.default_rng(seed).integers(len(tiles), size=(rows, columns))
        mosaic = np.concatenate([np.concatenate([tiles[i] for i in row], axis=1) for row in chosen])
        file = io.BytesIO()
        Image.fromarray(mosaic[:height, :width]).save(file, "JPEG", quality=90, subsampling=2)
        found.append(file.getvalue())
    return found


def draft_decode(paths: list[str], resolution: int) -> None:
    """What Pillow needs at least."""
    for path in paths:
        with Image.open(path) as image:
            image.draft("RGB", (resolution, resolution))
            image.load()


def cost(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds on the clock, and of CPU in this process and its children."""
    began, wall = _cpu_seconds(), time.perf_counter()
    work()
    return time.perf_counter() - wall, _cpu_seconds() - began


def _cpu_seconds() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def compare(folder: Path, out: Path, resolution: int, workers: int, repeats: int) -> tuple[float, float]:
    """Pillow's time divided by ours, on the clock and of CPU: medians of the alternating runs.

    What it takes to start the processes is measured each time and left out.
    """
    paths = sorted(map(str, folder.iterdir()))
    decode = importlib.import_module("large_jpegs").draft_decode  # a name that the worker processes know
    config = PrepareConfig(resolution=resolution, workers=workers)
    ratios = []
    for repeat in range(repeats):
        start = cost(lambda: list(ordered_map(decode, [([], resolution)] * workers, workers)))
        tasks = [([path], resolution) for path in paths]
        theirs = cost(lambda tasks=tasks: list(ordered_map(decode, tasks, workers)))  # type: ignore[misc]
        target = out / f"{resolution}-{repeat}"
        ours = cost(lambda target=target: prepare(folder, target, config))  # type: ignore[misc]
        ratios.append([(one - less) / (other - less) for one, other, less in zip(theirs, ours, start, strict=True)])
    wall, cpu = zip(*ratios, strict=True)
    return median(wall), median(cpu)


def with_resampling(photos: list[bytes], resolution: int, filter: Image.Resampling) -> float:
    """CPU time of Pillow's draft decoding divided by that with the square cut out and resampled."""
    decoding, both = [], []
    for encoded in photos:
        began = time.process_time()
        image = Image.open(io.BytesIO(encoded))
        image.draft("RGB", (resolution, resolution))
        image.load()
        decoding.append(time.process_time() - began)
        (width, height), side = image.size, min(image.size)
        left, top = (width - side) // 2, (height - side) // 2
        image.resize((resolution, resolution), filter, (left, top, left + side, top + side))
        both.append(time.process_time() - began)
    return sum(decoding) / sum(both)


def likeness(photos: list[bytes], resolution: int) -> float:
    """Signal to noise in dB against decoding in full and one Lanczos resampling, the mean over the photographs."""
    found = []
    for encoded in photos:
        image = Image.open(io.BytesIO(encoded))
        (width, height), side = image.size, min(image.size)
        left, top = (width - side) // 2, (height - side) // 2
        box = (left, top, left + side, top + side)
        exact = np.asarray(image.resize((resolution, resolution), Image.Resampling.LANCZOS, box)).astype(np.float64)
        ours, _ = fit(Image.open(io.BytesIO(encoded)), Target(resolution, 3))
        error = np.square(exact - ours).mean()
        found.append(10 * np.log10(255**2 / error) if error else np.inf)
    return float(np.mean(found))


def peak_memory(folder: Path, out: Path, workers: int) -> list[float]:
    """MB of the main process and of the largest worker."""
    command = [sys.executable, "-c", _MEMORY, str(folder), str(out), str(workers)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)  # type: ignore[no-any-return]


def _folder(path: Path, photos: list[bytes], count: int) -> Path:
    path.mkdir()
    for number in range(count):
        (path / f"{number:04d}.jpg").write_bytes(photos[number % DISTINCT])
    return path


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", help="folder or zip of photographs")
    parser.add_argument("--workers", type=int, default=core_count())
    parser.add_argument("--photos", type=int, default=160, help="of the large ones; more of the small")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        for width, height in SIZES:
            photos = photographs(options.source, (width, height), scratch)
            megabytes = np.mean([len(photo) for photo in photos]) / 1e6
            print(f"{width}x{height}, {megabytes:.1f} MB each; {options.workers} processes")
            print(f"{'resolution':>10} {'wall':>6} {'CPU':>6} {'dB':>6} {'lanczos':>8} {'box':>5}   draft decoding = 1")
            count = round(options.photos * SIZES[0][0] * SIZES[0][1] / (width * height))  # as much work of each size
            folder = _folder(scratch / f"{width}", photos, count)
            for resolution in RESOLUTIONS:
                wall, cpu = compare(folder, scratch / f"out-{width}", resolution, options.workers, options.repeats)
                print(f"{resolution:10} {wall:6.2f} {cpu:6.2f} {likeness(photos, resolution):6.1f}", end=" ")
                best, cheapest = (with_resampling(photos, resolution, Image.Resampling[f]) for f in ("LANCZOS", "BOX"))
                print(f"{best:8.2f} {cheapest:5.2f}", flush=True)
        print(f"{'photos':>10} {'main':>6} {'worker':>7}   peak MB to 1024x1024")
        for count in (options.photos // 4, options.photos):
            source = _folder(scratch / f"memory-{count}", photographs(options.source, SIZES[0], scratch), count)
            main_mb, worker_mb = peak_memory(source, scratch / f"memory-out-{count}", options.workers)
            print(f"{count:10} {main_mb:6.0f} {worker_mb:7.0f}", flush=True)


if __name__ == "__main__":
    main()
