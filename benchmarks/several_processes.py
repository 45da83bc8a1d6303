"""What several processes on one machine gain: images a second by 1, 2, 4 … processes of one thread each.

Short runs of one resolution with the quickstart's networks, in turn, `--rounds` times; the best tick of each number of
processes counts, the first tick of a run not.

    python benchmarks/several_processes.py [--processes 1 2 4] [--resolution 32] [--batch-size 16] [--rounds 3]
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

from progan.training.observers import read_stats


def speed(processes: int, options: argparse.Namespace) -> float:
    """Images a second in the best tick but the first of one run."""
    tick = options.kimg / 8
    with tempfile.TemporaryDirectory() as out:
        several = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
        flags = f"--resolution {options.resolution} --start-resolution {options.resolution} --device cpu --quiet"
        flags += f" --batch-size {options.batch_size} --total-kimg {options.kimg} --tick-kimg {tick} --out {out}"
        command = [sys.executable, *(several if processes > 1 else []), "-m", "progan", "train", *flags.split()]
        subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True)
        return max(line["img_per_sec"] for line in read_stats(Path(out, "stats.jsonl"))[1:])


def main() -> None:
    """Print a line for each number of processes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--resolution", type=int, default=32)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--kimg", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    best: defaultdict[int, float] = defaultdict(float)
    for _ in range(options.rounds):
        for processes in options.processes:
            best[processes] = max(best[processes], speed(processes, options))
    base = best[options.processes[0]]
    for processes, value in best.items():
        print(f"{processes:3} processes  {value:8.1f} img/s  x {value / base:.2f}")


if __name__ == "__main__":
    main()
