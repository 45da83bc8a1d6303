"""Kill a run with SIGKILL at random moments, continue it each time, and compare its end with an uninterrupted run's.

Prints a line for every kill and exits 1 if the last snapshots are not equal files, or if too few kills hit a fade.

    python scripts/kill_runs.py [--kills 20] [--fades 5] [--precision fp32|bf16|fp16] [--processes 1] [--seed 0]
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from progan.sampling import load
from progan.training.observers.run_files import read_stats

# Small, but with every stage, several ticks in each, and a loss with a double backward.
COMMAND = (
    "train --data avatars:500 --resolution 16 --stable-kimg 2.5 --fade-kimg 2.5 --fmap-max 16 --z-dim 16 "
    "--batch-size 4:16,16:8 --tick-kimg 0.4 --mirror --device cpu --quiet"
).split()


def start(out: Path, precision: str, processes: int) -> subprocess.Popen[bytes]:
    """The run, begun or continued."""
    several = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    launcher = several if processes > 1 else []
    command = [sys.executable, *launcher, "-m", "progan", *COMMAND, "--precision", precision, "--out", str(out)]
    return subprocess.Popen(command, stderr=subprocess.DEVNULL)


def kill(process: "subprocess.Popen[bytes]") -> None:
    """SIGKILL for it and for the processes it started, which torchrun puts into sessions of their own."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    for pid in (process.pid, *map(int, children)):
        os.kill(pid, signal.SIGKILL)
    process.wait()


def wait_until_it_trains(process: "subprocess.Popen[bytes]", stats: Path) -> None:
    """Until the run rewrites its statistics, the last thing before the first iteration."""
    before = stats.stat().st_mtime_ns if stats.exists() else 0
    while process.poll() is None and (not stats.exists() or stats.stat().st_mtime_ns == before):
        time.sleep(0.01)


def newest_state(out: Path) -> int:
    """cur_nimg of the newest state, 0 if there is none."""
    return max((int(path.stem.removeprefix("state-")) for path in (out / "state").glob("*.safetensors")), default=0)


def phase_at(out: Path, cur_nimg: int) -> str:
    """What the run was doing after that many images, by its statistics."""
    lines = read_stats(out / "stats.jsonl")
    later = [line for line in lines if line["cur_nimg"] > cur_nimg] or lines[-1:]
    return f"{later[0]['resolution']}x{later[0]['resolution']} {later[0]['phase']}"


def main() -> int:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--fades", type=int, default=5)
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as folder:
        whole, killed = Path(folder, "whole"), Path(folder, "killed")
        if start(whole, options.precision, options.processes).wait() != 0:
            print("the uninterrupted run failed")
            return 1
        seconds = read_stats(whole / "stats.jsonl")[-1]["elapsed"]
        print(f"uninterrupted: {seconds:.0f} s of training")
        kills, at = 0, []
        while kills < options.kills:
            process = start(killed, options.precision, options.processes)
            wait_until_it_trains(process, killed / "stats.jsonl")
            try:
                process.wait(timeout=rng.uniform(0, 1.1) * seconds / options.kills)
                break  # it came to its end
            except subprocess.TimeoutExpired:
                kill(process)
            kills += 1
            at.append(newest_state(killed))
            print(f"kill {kills:2}: newest state at {at[-1]} images, {phase_at(whole, at[-1])}", flush=True)
        start(killed, options.precision, options.processes).wait()
        fades = sum("fade" in phase_at(whole, reached) for reached in at)
        digests = [load(path).digest for path in (whole, killed)]
        same = digests[0] == digests[1]
        print(
            f"{kills} kills, {fades} in a fade; last snapshots {' and '.join(digests)}: {'equal' if same else 'DIFFER'}"
        )
        return 0 if same and kills >= options.kills and fades >= options.fades else 1


if __name__ == "__main__":
    sys.exit(main())
