"""What several processes on one machine cost: processor seconds for 1,000 images by 1, 2, 4 … processes of one thread.

Processor time, and not time on the wall, so that other programs on the machine do not decide the result; waiting for
each other costs none. Each number is the difference between a long run and a short one of quickstart-paper at one
resolution; the least of `--rounds` counts. With enough cores, N processes are N / ratio times as fast as one.

    python benchmarks/several_processes.py [--processes 1 2 4] [--resolution 32] [--batch-size 16] [--rounds 3]
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
from collections import defaultdict

SHORT, LONG = 0.1, 1.1
"""Thousands of images."""


def seconds(processes: int, kimg: float, options: argparse.Namespace) -> float:
    """Processor time of one run, all its processes together."""
    several = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    flags = f"--resolution {options.resolution} --start-resolution {options.resolution} --device cpu --quiet"
    flags += f" --batch-size {options.batch_size} --total-kimg {kimg} --tick-kimg 10"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with tempfile.TemporaryDirectory() as out:
        command = [
            sys.executable,
            *(several if processes > 1 else []),
            "-m",
            "progan",
            "train",
            "quickstart-paper",
            *flags.split(),
        ]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        subprocess.run([*command, "--out", out], check=True, env=environment, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Print a line for each number of processes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--resolution", type=int, default=32)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    least: defaultdict[int, float] = defaultdict(lambda: float("inf"))
    for _ in range(options.rounds):
        for processes in options.processes:
            cost = (seconds(processes, LONG, options) - seconds(processes, SHORT, options)) / (LONG - SHORT)
            least[processes] = min(least[processes], cost)
    base = least[options.processes[0]]
    for processes, cost in least.items():
        print(f"{processes:3} processes  {cost:8.2f} s  x {cost / base:.2f}")


if __name__ == "__main__":
    main()
