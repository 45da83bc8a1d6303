"""How far the estimate of memory is off: the peak of real training steps beside the plan's figure.

Each case runs in a process of its own, so that its peak is its own: a fade at its middle, D and G steps, a state
written, a sample grid drawn. What the process holds before the networks are made is not counted.

    python benchmarks/memory.py [--precision fp32|bf16|fp16] [--threads N] [--model progan|dcgan]
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

CASES = {
    "progan": (
        (4, 512, 16),
        (8, 512, 64),
        (16, 128, 16),
        (16, 128, 64),
        (32, 64, 16),
        (32, 64, 64),
        (32, 512, 8),
        (64, 64, 16),
        (64, 256, 16),
        (128, 64, 8),
        (128, 128, 4),
        (256, 32, 8),
        (256, 64, 4),
    ),
    "dcgan": ((32, 512, 64), (64, 512, 64), (64, 512, 128)),
}
"""Resolution, fmap_max, batch size."""


def measure(model: str, resolution: int, fmap_max: int, batch: int, precision: str, threads: int) -> dict[str, float]:
    """Peak bytes of training steps, and what the plan says of them."""
    import dataclasses

    import torch

    from progan import losses
    from progan.config import RunConfig
    from progan.models import ImageShape
    from progan.options import override
    from progan.randomness import Rng
    from progan.schedule import Schedule
    from progan.training import state as states
    from progan.training.accelerate.traced import Tracer
    from progan.training.numerics import Numerics
    from progan.training.observers.run_files import peak_memory, sample
    from progan.training.preflight import memory
    from progan.training.step import average, process_reals, train_d, train_g

    torch.set_num_threads(threads)
    numerics = Numerics("cpu", precision, threads, torch.__version__)
    fixed = {} if model == "progan" else {"start_resolution": resolution, "loss": "nonsaturating"}
    size = {"resolution": resolution, "fmap_max": fmap_max, "batch_size": batch}
    config, shape = override(RunConfig(), {"model": model, **fixed, **size}), ImageShape(resolution, 3)
    stage = Schedule(config.schedule).at(0)
    grows = model == "progan" and resolution > 4
    stage = dataclasses.replace(stage, resolution=resolution, batch_size=batch, alpha=0.5 if grows else 1.0)
    planned = memory.estimate(config, shape, precision, resolution, batch)
    before = peak_memory()
    state = states.new(config.model, config.optimizer, shape, 0, numerics)
    loss = losses.build(config.loss)
    step = Tracer(config, state.G, state.D, loss, shape, numerics).step(stage, batch, kernels=False)
    pixels = torch.randint(0, 256, (batch, 3, resolution, resolution), dtype=torch.uint8)
    for i in range(3):
        reals, rng = process_reals(pixels, stage.alpha), Rng(0, i, "D")
        train_d(state.G, state.D, state.d_optimizer, loss, reals, None, stage, rng, numerics.dtype, traced=step)
        average(state.G_ema, state.G, 0.999)
        train_g(state.G, state.D, state.g_optimizer, loss, batch, None, stage, rng, numerics.dtype, traced=step)
    steps = peak_memory() - before
    with tempfile.TemporaryDirectory() as folder:
        states.StateFolder(Path(folder)).write(state)
    sample(state, stage, torch.zeros(64, state.G.z_dim), None)
    return {"steps": steps, "all": peak_memory() - before, "planned": planned}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--model", default="progan")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        case = [int(number) for number in options.case.split(",")]
        print(json.dumps(measure(options.model, *case, options.precision, options.threads)))
        return
    print(f"| resolution, fmap_max, batch | MB used, {options.precision} | of that by steps | MB planned | ratio |")
    print("|---|---|---|---|---|")
    command = [sys.executable, __file__, "--precision", options.precision, "--threads", str(options.threads)]
    for case in CASES[options.model]:
        text = ", ".join(map(str, case))
        arguments = [*command, "--model", options.model, "--case", text]
        found = json.loads(subprocess.run(arguments, check=True, capture_output=True).stdout)
        steps, used, planned = (found[name] / 2**20 for name in ("steps", "all", "planned"))
        print(f"| {text} | {used:.0f} | {steps:.0f} | {planned:.0f} | {planned / used:.2f} |", flush=True)


if __name__ == "__main__":
    main()
