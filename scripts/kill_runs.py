"""Kill a run with SIGKILL at random moments, continue it each time, and compare its end with an uninterrupted run's.

Prints a line for every kill and exits 1 if any weight of the last snapshot differs, or if too few kills hit a fade.

    python scripts/kill_runs.py [--kills 20] [--fades 5] [--precision fp32|bf16] [--seed 0]
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from progan.sampling import load

# Small, but with every stage, several ticks in each, and a loss with a double backward.
COMMAND = (
    "train --data avatars:500 --resolution 16 --stable-kimg 2.5 --fade-kimg 2.5 --fmap-max 16 --z-dim 16 "
    "--batch-size 4:16,16:8 --tick-kimg 0.4 --mirror --device cpu --quiet"
).split()


def start(out: Path, precision: str) -> subprocess.Popen[bytes]:
    """The run, begun or continued."""
    command = [sys.executable, "-m", "progan", *COMMAND, "--precision", precision, "--out", str(out)]
    return subprocess.Popen(command, stderr=subprocess.PIPE)


def newest_state(out: Path) -> int:
    """cur_nimg of the newest state, 0 if there is none."""
    return max((int(path.stem.removeprefix("state-")) for path in (out / "state").glob("*.safetensors")), default=0)


def phase_at(out: Path, cur_nimg: int) -> str:
    """What the run was doing after that many images, by its statistics."""
    lines = [json.loads(text) for text in (out / "stats.jsonl").read_text().splitlines() if text.endswith("}")]
    later = [line for line in lines if line["cur_nimg"] > cur_nimg] or lines[-1:]
    return f"{later[0]['resolution']}x{later[0]['resolution']} {later[0]['phase']}"


def main() -> int:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--fades", type=int, default=5)
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as folder:
        whole, killed = Path(folder, "whole"), Path(folder, "killed")
        began = time.monotonic()
        if start(whole, options.precision).wait() != 0:
            print("the uninterrupted run failed")
            return 1
        seconds = time.monotonic() - began
        print(f"uninterrupted: {seconds:.0f} s")
        kills, at = 0, []
        while kills < options.kills:
            process = start(killed, options.precision)
            try:
                process.wait(timeout=rng.uniform(0.3, 1.7) * seconds / options.kills + 4)
                break  # it came to its end
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                kills += 1
                reached = newest_state(killed)
                at.append(reached)
                print(f"kill {kills:2}: newest state at {reached} images")
        start(killed, options.precision).wait()
        fades = sum("fade" in phase_at(whole, reached) for reached in at)
        weights = [load(path).G.state_dict() for path in (whole, killed)]
        same = all(bool((weights[0][name] == weights[1][name]).all()) for name in weights[0])
        print(f"{kills} kills, {fades} in a fade; final weights {'equal bit for bit' if same else 'DIFFER'}")
        return 0 if same and kills >= options.kills and fades >= options.fades else 1


if __name__ == "__main__":
    sys.exit(main())
