"""A hundred thousand samples: how fast files are written beside the generator's own rate, peak memory, and a kill.

    python benchmarks/many_samples.py OUT.json [--threads 1] [--num 100000]

Rates are medians of rounds in which generator, folder and zip take turns, and so are their ratios. Memory is the peak
of `progan sample --separate` as a process of its own. One of them is killed half-way, and its zip compared with that of
a command that was not.
"""

import argparse
import hashlib
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from beside_training import snapshot
from training_step import machine

from progan.sampling.pictures import Drawing, write_files, write_zip

RATES = ((32, 64, 128), (64, 64, 32))
"""Resolution and fmap_max of a generator, and images of a round."""
ROUNDS = 5
MEMORY = (16, 16)
"""Of the generator that many are made by: a small one, beside which what is kept for each image would be seen."""

COMMAND = """
import sys
from progan.cli import main
assert main(sys.argv[1:]) == 0
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


def rates(folder: Path) -> list[dict[str, object]]:
    """Images a second of each, and what part of the generator's rate it is."""
    found = []
    for resolution, fmap_max, num in RATES:
        drawing = Drawing(snapshot(resolution, fmap_max), range(num))
        times: dict[str, list[float]] = {"generator": [], "folder": [], "zip": []}
        for _ in range(ROUNDS + 1):
            for name, taken in times.items():
                start = time.perf_counter()
                if name == "generator":
                    for _ in drawing.pixels():
                        pass
                elif name == "folder":
                    write_files(folder / "files", drawing)
                else:
                    write_zip(folder / "files.zip", drawing)
                taken.append(time.perf_counter() - start)
                shutil.rmtree(folder / "files", ignore_errors=True)
        per_second = {name: num / statistics.median(taken[1:]) for name, taken in times.items()}
        shares = {
            name: statistics.median(g / t for g, t in zip(times["generator"][1:], times[name][1:], strict=True))
            for name in ("folder", "zip")
        }
        size = (folder / "files.zip").stat().st_size / num
        found.append({"resolution": resolution, "fmap_max": fmap_max, "images_per_second": per_second,
                      "of_the_generators_rate": shares, "bytes_of_a_picture": size})  # fmt: skip
        print(found[-1], flush=True)
    return found


def sample(folder: Path, out: Path, num: int) -> "subprocess.Popen[str]":
    """The command, begun; it prints its peak at the end."""
    words = ["sample", str(folder / "g.safetensors"), "--separate", "--quiet", "--num", str(num), "--out", str(out)]
    return subprocess.Popen([sys.executable, "-c", COMMAND, *words], stdout=subprocess.PIPE, text=True)


def peak(process: "subprocess.Popen[str]") -> float:
    """MiB that it had in memory at most, once it has ended."""
    said, _ = process.communicate()
    assert process.returncode == 0
    return int(said.split()[-1]) / 1024


def memory(folder: Path, num: int) -> dict[str, dict[int, float]]:
    """Peaks for a hundredth, a tenth and all."""
    snapshot(*MEMORY).save(folder / "g.safetensors")
    found: dict[str, dict[int, float]] = {"folder": {}, "zip": {}}
    for kind, counts in (("folder", (num // 100, num // 10)), ("zip", (num // 100, num // 10, num))):
        for count in counts:
            out = folder / ("many.zip" if kind == "zip" else f"many-{count}")
            found[kind][count] = peak(sample(folder, out, count))
            print(kind, count, found[kind][count], flush=True)
    return found


def killed(folder: Path, num: int) -> dict[str, object]:
    """Whether a zip whose command was killed half-way is the one of a command that was not."""
    whole = hashlib.sha256((folder / "many.zip").read_bytes()).hexdigest()
    half = (folder / "many.zip").stat().st_size // 2
    out, unfinished = folder / "cut.zip", folder / "cut.zip.unfinished" / "cut.zip"
    process = sample(folder, out, num)
    while not unfinished.exists() or unfinished.stat().st_size < half:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    left = unfinished.stat().st_size
    most = peak(sample(folder, out, num))
    same = hashlib.sha256(out.read_bytes()).hexdigest() == whole
    return {"killed_at_bytes": left, "of_bytes": 2 * half, "same_bytes": same, "peak_mib_going_on": most}


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--num", type=int, default=100_000)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    report: dict[str, object] = {"machine": machine("cpu"), "threads": options.threads, "torch": torch.__version__}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        report["rates"] = rates(folder)
        report["peak_mib"], report["num"] = memory(folder, options.num), options.num
        report["kill"] = killed(folder, options.num)
    text = json.dumps(report, indent=1)
    print(text)
    options.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
