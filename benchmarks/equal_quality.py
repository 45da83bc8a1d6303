"""Whether the fast modes give generators as good as plain fp32's: whole grown runs, several seeds each.

    progan data split DATA PARTS/train PARTS/held-out --count 8192
    python benchmarks/equal_quality.py OUT.json PARTS/train PARTS/held-out [--preset mnist32-paper] [--seeds 3]
        [--jobs 4] [--settings fmap_max=64 z_dim=64 stable_kimg=4:3,32:20 ...]

All modes see the same images in the same number. A run is a process with one thread; its averaged generator is then
measured against held-out images, beside what other held-out images get. The verdict is Welch's 95 % interval of each
fast mode's mean minus fp32's: with 0 inside, the seeds show no difference, and none larger than the interval's ends is
to be expected.
"""

import argparse
import json
import platform
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from typing import Any

import torch

import progan
from progan.report.results import mean, welch

MODES = {
    "fp32": {"precision": "fp32", "compile": "off"},
    "bf16": {"precision": "bf16", "compile": "off"},
    "bf16 compiled": {"precision": "bf16", "compile": "on"},
}
"""The first is the one that the others are compared with."""
METRICS = ("swd", "ms_ssim", "density_coverage")
TRAIN = """
import json, sys, torch, progan
torch.set_num_threads(1)
run = progan.train(out=sys.argv[1], **json.loads(sys.argv[2]))
facts = {"path": str(run.path), "finished": run.finished, "seconds": run.seconds, "kimg": run.cur_nimg / 1000}
print(json.dumps(facts))
"""


def train(folder: Path, mode: str, seed: int, options: dict[str, Any]) -> dict[str, Any]:
    """A whole run in a process of its own: its path, seconds and kimg."""
    wanted = {**options, **MODES[mode], "seed": seed, "device": "cpu", "quiet": True}
    command = [sys.executable, "-c", TRAIN, str(folder / f"{mode.replace(' ', '-')}-{seed}"), json.dumps(wanted)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    run: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert run["finished"]
    return run


def verdict(values: dict[str, list[float]]) -> dict[str, dict[str, float]]:
    """Of one metric's values, a list over seeds for each mode: their means, and their differences from the first's."""
    base = next(iter(values))
    found = {}
    for mode, group in values.items():
        value, low, high, p = welch(group, values[base])
        differences = {} if mode == base else {"difference": value, "low": low, "high": high, "p": p}
        found[mode] = {"mean": mean(group).value, "lowest": min(group), "highest": max(group), **differences}
    return found


def main() -> None:
    """Train, measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("data")
    parser.add_argument("held_out", type=Path)
    parser.add_argument("--settings", nargs="+", default=[], help="of the runs, as progan.train takes them: NAME=VALUE")
    parser.add_argument("--preset", default="mnist32-paper")
    parser.add_argument("--modes", default=",".join(MODES))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--num", type=int, default=4096)
    parser.add_argument("--runs", type=Path, help="keep the runs here, and go on with those that are here")
    arguments = parser.parse_args()
    modes = arguments.modes.split(",")
    options = {"preset": arguments.preset, "data": arguments.data}
    options |= dict(setting.split("=", 1) for setting in arguments.settings)
    held_out = progan.Dataset.open(arguments.held_out)
    report: dict[str, Any] = {"options": {**options, "data": Path(arguments.data).name}, "num": arguments.num}
    report |= {"machine": platform.machine(), "torch": torch.__version__, "python": platform.python_version()}
    report["runs"] = []
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary, ThreadPoolExecutor(arguments.jobs) as pool:

        def one(case: tuple[int, str]) -> dict[str, Any]:
            seed, mode = case
            run = train(arguments.runs or Path(temporary), mode, seed, options)
            found = progan.evaluate(progan.load(run.pop("path")), held_out, METRICS, arguments.num)
            report["reals"] = {name: value.floor.value for name, value in found.items() if value.floor}
            line = {"mode": mode, "seed": seed, **run, **{name: value.value for name, value in found.items()}}
            print(line, flush=True)
            return line

        report["runs"] = list(pool.map(one, product(range(arguments.seeds), modes)))
    for metric in report["reals"]:
        values = {mode: [line[metric] for line in report["runs"] if line["mode"] == mode] for mode in modes}
        report[metric] = verdict(values)
        print(metric, report["reals"][metric], json.dumps(report[metric], indent=1))
    arguments.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
