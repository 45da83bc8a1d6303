"""What everything beside training takes: starting, drawing samples, measuring. Training and preparation have their own.

    python benchmarks/beside_training.py OUT.json [--threads 4] [--num 4096]

Starts are processes, medians of five, with `import torch` among them to compare with. Samples are drawn by a snapshot
and by the plain generator of `training_step.py`, in alternation. A metric's time is that of `evaluate` with it alone,
floor and generated images included (32x32 avatars), beside the time of generating as many images.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from training_step import PlainG, machine

import progan
from progan.config import PrepareConfig, ProGANConfig, RunConfig
from progan.data.prepare import prepare
from progan.data.split import split
from progan.errors import ConfigError
from progan.metrics import METRICS
from progan.models import ImageShape, build
from progan.snapshot import Snapshot, SnapshotInfo

STARTS = {
    "import torch": ("-c", "import torch"),
    "import progan": ("-c", "import progan"),
    "progan --help": ("-m", "progan", "--help"),
    "progan train --dry-run": ("-m", "progan", "train", "quickstart-paper", "--dry-run"),
    "one iteration": tuple("-m progan train quickstart-paper --total-kimg 0.001 --quiet --compile off".split()),
}
SAMPLES = ((32, 128), (64, 512), (256, 512))
"""Resolution and fmap_max of the generators."""
BATCH = 32
RESOLUTION = 32


def starts(folder: Path) -> dict[str, float]:
    """Seconds from the start of a process to its end. What is made once for a machine was made before."""
    environment = {**os.environ, "PROGAN_CACHE": str(folder / "cache")}
    found = {}
    for name, arguments in STARTS.items():
        command = [sys.executable, *arguments]
        times = []
        for _ in range(6):
            start = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True, cwd=folder, env=environment)
            times.append(time.perf_counter() - start)
        found[name] = statistics.median(times[1:])
    return found


def snapshot(resolution: int, fmap_max: int) -> Snapshot:
    """Of a generator that has learned nothing, which takes as long."""
    shape, model = ImageShape(resolution, 3), ProGANConfig(fmap_max=fmap_max)
    G, _ = build(model, shape, 0)
    info = SnapshotInfo(RunConfig(model=model), shape, resolution, 1.0, 0, "")
    return Snapshot(G.requires_grad_(False), torch.zeros(fmap_max, 4, 4), info)


def rates(calls: dict[str, Callable[[], object]], images: int) -> dict[str, float]:
    """Images a second of each, in alternation."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(7):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - start)
    return {name: images / statistics.median(found[1:]) for name, found in times.items()}


def samples() -> Iterable[dict[str, object]]:
    """Ours and the plain generator."""
    for resolution, fmap_max in SAMPLES:
        ours, plain, z = snapshot(resolution, fmap_max), PlainG(resolution, fmap_max), torch.randn(BATCH, 512)
        with torch.no_grad():
            found = rates(
                {"plain": lambda plain=plain, z=z: plain(z), "ours": lambda ours=ours, z=z: ours.generate(z)}, BATCH
            )
        yield {"resolution": resolution, "fmap_max": fmap_max, "img_per_sec": found}


def metrics(folder: Path, num: int) -> dict[str, float]:
    """Seconds of `evaluate` with each metric that the data allows, and of generating alone."""
    prepare(f"avatars:{3 * num}", folder / "all", PrepareConfig(resolution=RESOLUTION))
    split(folder / "all", folder / "data", folder / "held-out", num)
    data, held_out = (progan.Dataset.open(folder / name) for name in ("data", "held-out"))
    G, z = snapshot(RESOLUTION, 64), torch.randn(num, 512)
    start = time.perf_counter()
    G.generate(z, batch_size=64)
    found = {"generating": time.perf_counter() - start}
    for name in METRICS:
        try:
            progan.evaluate(G, data, [name], 128, held_out=held_out)  # a classifier of the data is trained once
            start = time.perf_counter()
            progan.evaluate(G, data, [name], num, held_out=held_out)
            found[name] = time.perf_counter() - start
        except ConfigError as error:
            print(f"{name} left out: {error}")
    return found


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--num", type=int, default=4096)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    report: dict[str, object] = {"machine": machine("cpu"), "threads": options.threads, "torch": torch.__version__}
    with tempfile.TemporaryDirectory() as name:
        os.environ["PROGAN_CACHE"] = str(Path(name) / "cache")
        report["start_seconds"] = starts(Path(name))
        report["samples"] = list(samples())
        report["num"], report["metrics_seconds"] = options.num, metrics(Path(name), options.num)
    text = json.dumps(report, indent=1)
    print(text)
    options.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
