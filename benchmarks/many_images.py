"""Whether a million images start and run like a thousand: seconds to the first batch, memory, seconds a batch.

    python benchmarks/many_images.py OUT.json

The images are zeros of 16x16 in a sparse file; each measurement is a process of its own.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

RESOLUTION, CHANNELS, BATCH = 16, 3, 16
MEASURE = """
import json, sys, time
import numpy, torch
from progan.data.dataset import Dataset
def memory():
    lines = dict(line.split(":", 1) for line in open("/proc/self/status"))
    return int(lines["RssAnon"].split()[0]) / 1024  # not the file's pages, which the system keeps while it has room
before, start = memory(), time.perf_counter()
data = Dataset.open(sys.argv[1])
data.pixels(16, data.order(0, 16, 0))
first = time.perf_counter() - start
middle, start = memory(), time.perf_counter()
for i in range(1, 2001):
    data.pixels(16, data.order(16 * i, 16, 0))
batch = (time.perf_counter() - start) / 2000
first_mb, run_mb = middle - before, memory() - middle
print(json.dumps({"first_batch_seconds": first, "batch_ms": 1000 * batch, "start_mb": first_mb, "run_mb": run_mb}))
"""


def make(folder: Path, count: int) -> None:
    """A prepared dataset of `count` images."""
    from progan.data.dataset import FileRecord, Manifest, array_name

    arrays = {}
    for resolution in (4, 8, RESOLUTION):
        name = array_name(resolution)
        path = folder / f"{name}.npy"
        np.lib.format.open_memmap(path, "w+", np.uint8, (count, resolution, resolution, CHANNELS)).flush()
        arrays[name] = (FileRecord(path.name, count, path.stat().st_size, "0" * 64),)
    Manifest("many", count, CHANNELS, (4, 8, RESOLUTION), None, (), "zeros", arrays, {}).write(folder)


def main() -> None:
    """Print and write what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    found = {}
    for count in (1_000, 1_000_000):
        with tempfile.TemporaryDirectory() as folder:
            make(Path(folder), count)
            done = subprocess.run([sys.executable, "-c", MEASURE, folder], check=True, capture_output=True)
            found[count] = json.loads(done.stdout)
            print(count, found[count], flush=True)
    options.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
