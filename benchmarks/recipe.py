"""Which settings give better images in the same processor time: whole runs, several seeds each, in alternation.

    python benchmarks/recipe.py OUT.json "paper = quickstart-paper" "fast = quickstart --resolution 32" ...
        [--data DIR] [--seeds 11,12,13] [--num 4096] [--at 32] [--jobs 1] [--runs runs/recipe]

A run is a process of its own with one thread. How long each is, its options say: what it took is in OUT.json, in
processor seconds, all included that it does (preparing, trials, compiling, grids). Its averaged generator is measured
against the data, at its resolution and, with `--at`, with its images averaged down to that. Finished runs are kept.
"""

import argparse
import json
import os
import platform
import shlex
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

import progan
from progan.images import downscale, to_pixels
from progan.metrics.evaluation import Yardstick
from progan.options import to_dict
from progan.run_folder import RunFolder
from progan.snapshot import Snapshot

METRICS = ("swd", "ms_ssim", "density_coverage", "precision_recall")
_BATCH = 64


def train(folder: Path, words: list[str], seed: int) -> dict[str, float]:
    """Processor seconds and seconds of a whole run; those of an earlier call if it is there."""
    spent = folder.with_suffix(".json")
    if not spent.exists():
        command = [sys.executable, "-m", "progan", "train", *words, "--seed", str(seed), "--threads", "1", "--quiet"]
        begun = time.perf_counter()
        process = subprocess.Popen([*command, "--out", str(folder)], env={**os.environ, "OMP_NUM_THREADS": "1"})
        _, status, usage = os.wait4(process.pid, 0)
        if status:
            raise SystemExit(f"{folder.name} failed")
        took = {"processor_seconds": usage.ru_utime + usage.ru_stime, "seconds": time.perf_counter() - begun}
        spent.write_text(json.dumps(took), encoding="utf-8")
    return dict(json.loads(spent.read_text(encoding="utf-8")))


def measure(snapshot: Snapshot, dataset: progan.Dataset, num: int, resolution: int) -> dict[str, Any]:
    """The metrics of a generator's images, averaged down to the resolution, with their baselines."""

    def pixels(z: Tensor, labels: Tensor | None) -> Tensor:
        parts = (snapshot.generate(z[i : i + _BATCH]) for i in range(0, len(z), _BATCH))
        return torch.cat([to_pixels(downscale(part, snapshot.resolution // resolution)) for part in parts])

    found = Yardstick(dataset, METRICS, num).measure(pixels, resolution, snapshot.z_dim, False)
    return {name: asdict(value) for name, value in found.items()}


def main() -> None:
    """Train, measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("settings", nargs="+", metavar="NAME = PRESET OPTIONS")
    parser.add_argument("--data")
    parser.add_argument("--seeds", default="11,12,13")
    parser.add_argument("--num", type=int, default=4096)
    parser.add_argument("--at", type=int, metavar="RESOLUTION")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--runs", type=Path, default=Path("runs/recipe"))
    arguments = parser.parse_args()
    named = {
        name.strip(): shlex.split(words) for name, _, words in (text.partition("=") for text in arguments.settings)
    }
    torch.set_num_threads(1)

    def one(case: tuple[str, str]) -> dict[str, Any]:
        seed, name = case
        words = named[name] + (["--data", arguments.data] if arguments.data else [])
        folder = arguments.runs / f"{name}-seed{seed}"
        folder.parent.mkdir(parents=True, exist_ok=True)
        took = train(folder, words, int(seed))
        snapshot, (_, data) = progan.load(folder), RunFolder(folder).read()
        dataset = progan.Dataset.open(data.path)
        sizes = sorted({snapshot.resolution, arguments.at or snapshot.resolution}, reverse=True)
        metrics = {f"{size}x{size}": measure(snapshot, dataset, arguments.num, size) for size in sizes}
        for size, values in metrics.items():
            print(name, seed, f"{took['processor_seconds']:.0f} s", size, end="", flush=True)
            print("".join(f"  {metric} {value['value']:.3g}" for metric, value in values.items()), flush=True)
        kimg = snapshot.info.cur_nimg / 1000
        return {"name": name, "seed": int(seed), "kimg": kimg, **took, "metrics": metrics}

    with ThreadPoolExecutor(arguments.jobs) as pool:
        runs = list(pool.map(one, product(arguments.seeds.split(","), named)))
    options: dict[str, Any] = {}
    means: dict[str, Any] = {}
    for name in named:
        config, data = RunFolder(arguments.runs / f"{name}-seed{runs[0]['seed']}").read()
        options[name] = {**to_dict(config), "dataset": {"data": data.name}}
        some = [run for run in runs if run["name"] == name]
        means[name] = {"processor_seconds": fmean(run["processor_seconds"] for run in some)}
        for size in some[0]["metrics"]:
            values = [run["metrics"][size] for run in some]
            means[name][size] = {key: fmean(each[key]["value"] for each in values) for key in values[0]}
        print(name, means[name])
    report = {"num": arguments.num, "machine": platform.processor() or platform.machine(), "torch": torch.__version__}
    text = json.dumps({**report, "settings": options, "means": means, "runs": runs}, indent=1)
    arguments.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
