"""How far the estimates of `progan train --dry-run` are off: time and memory of real steps beside the plan's figures.

Each case runs in a process of its own, so that its peak memory is its own. The constants of
`training/preflight/estimate.py` were chosen by this script.

    python benchmarks/estimates.py [--precision fp32|bf16|fp16] [--threads N]
"""

import argparse
import json
import subprocess
import sys
import time

CASES = (
    (4, 128, 32),
    (8, 128, 16),
    (16, 128, 16),
    (32, 64, 16),
    (32, 512, 8),
    (64, 64, 16),
    (128, 64, 8),
    (256, 64, 4),
)
"""Resolution, fmap_max, batch size."""


def measure(resolution: int, fmap_max: int, batch: int, precision: str, threads: int) -> dict[str, float]:
    """Seconds per image and peak bytes of training steps, and what the plan says of them."""
    import torch

    from progan.config import ProGANConfig, RunConfig, ScheduleConfig
    from progan.models import ImageShape
    from progan.per_resolution import per_resolution
    from progan.training.numerics import Numerics
    from progan.training.observers.run_files import peak_memory
    from progan.training.preflight.estimate import plan
    from progan.training.setup import RunSetup
    from progan.training.state import TrainingState
    from progan.training.step import Step

    if threads:
        torch.set_num_threads(threads)
    numerics = Numerics("cpu", precision, torch.get_num_threads(), torch.__version__)
    schedule = ScheduleConfig(resolution=resolution, start_resolution=resolution, batch_size=per_resolution(batch))
    config = RunConfig(model=ProGANConfig(fmap_max=fmap_max), schedule=schedule)
    setup = RunSetup(config, ImageShape(resolution, 3), numerics)
    planned = plan(setup).stages[0]
    before = peak_memory()
    state = TrainingState.new(setup)
    step = Step(setup, state, setup.schedule.at(0))
    pixels = torch.randint(0, 256, (batch, 3, resolution, resolution), dtype=torch.uint8)

    def iterate(i: int) -> None:
        draws = step.rng(i, "D")
        reals = step.process(pixels, draws)
        step.d(reals, None, draws)
        step.average()
        step.g(None, step.rng(i, "G"), reals)

    iterate(0)
    seconds = []
    for i in range(5):
        start = time.perf_counter()
        iterate(i)
        seconds.append(time.perf_counter() - start)
    return {
        "seconds": sorted(seconds)[2] / batch,
        "planned_seconds": planned.seconds / planned.images,
        "memory": peak_memory() - before,
        "planned_memory": planned.memory,
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--case", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        case = [int(number) for number in options.case.split(",")]
        print(json.dumps(measure(*case, options.precision, options.threads)))
        return
    print(f"{'case':>14} {'ms/image':>9} {'planned':>9} {'ratio':>6} {'MB':>7} {'planned':>8} {'ratio':>6}")
    for case in CASES:
        command = [sys.executable, __file__, "--precision", options.precision, "--threads", str(options.threads)]
        text = ",".join(map(str, case))
        found = json.loads(subprocess.run([*command, "--case", text], check=True, capture_output=True).stdout)
        ms, planned_ms = 1000 * found["seconds"], 1000 * found["planned_seconds"]
        mb, planned_mb = found["memory"] / 2**20, found["planned_memory"] / 2**20
        print(f"{text:>14} {ms:9.2f} {planned_ms:9.2f} {planned_ms / ms:6.2f}", end=" ")
        print(f"{mb:7.0f} {planned_mb:8.0f} {planned_mb / mb:6.2f}", flush=True)


if __name__ == "__main__":
    main()
