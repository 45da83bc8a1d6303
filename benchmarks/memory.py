"""How far the estimate of memory is off: the peak of real training steps beside the plan's figure.

Each case runs in a process of its own, so that its peak is its own: a fade at its middle, D and G steps, a state
written, a sample grid drawn. What the process holds before the networks are made is not counted.

    python benchmarks/memory.py [--precision fp32|bf16|fp16] [--threads N] [--model progan|dcgan] [--out FILE]

FILE (JSON) gets the rows of this precision; those of others that are in it already stay.
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

    from progan.config import RunConfig
    from progan.models import ImageShape
    from progan.options import override
    from progan.training.accelerate.traced import Executors
    from progan.training.numerics import Numerics
    from progan.training.observers.run_files import peak_memory, sample
    from progan.training.preflight import memory
    from progan.training.setup import RunSetup
    from progan.training.state import StateFolder, TrainingState
    from progan.training.step import Step

    torch.set_num_threads(threads)
    fixed = {} if model == "progan" else {"start_resolution": resolution, "loss": "nonsaturating"}
    size = {"resolution": resolution, "fmap_max": fmap_max, "batch_size": batch}
    config, shape = override(RunConfig(), {"model": model, **fixed, **size}), ImageShape(resolution, 3)
    setup = RunSetup(config, shape, Numerics("cpu", precision, threads, torch.__version__))
    grows = model == "progan" and resolution > 4
    stage = dataclasses.replace(
        setup.schedule.at(0), resolution=resolution, batch_size=batch, alpha=0.5 if grows else 1.0
    )
    planned, before = memory.estimate(setup, resolution, batch), peak_memory()
    state = TrainingState.new(setup)
    step = Step(setup, state, stage, Executors(setup, state).of(stage))
    pixels = torch.randint(0, 256, (batch, 3, resolution, resolution), dtype=torch.uint8)
    for i in range(3):
        draws = step.rng(i, "D")
        reals = step.process(pixels, draws)
        step.d(reals, None, draws)
        step.average()
        step.g(None, step.rng(i, "G"), reals)
    steps = peak_memory() - before
    with tempfile.TemporaryDirectory() as folder:
        StateFolder(Path(folder)).write(state)
    sample(state, stage, torch.zeros(64, state.G.z_dim), None)
    return {"steps": steps, "all": peak_memory() - before, "planned": planned}


def main() -> None:
    """Print the table, and keep it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--model", default="progan")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--case", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        case = [int(number) for number in options.case.split(",")]
        print(json.dumps(measure(options.model, *case, options.precision, options.threads)))
        return
    print(f"| resolution, fmap_max, batch | MB used, {options.precision} | of that by steps | MB planned | ratio |")
    print("|---|---|---|---|---|")
    command = [sys.executable, __file__, "--precision", options.precision, "--threads", str(options.threads)]
    rows = []
    for case in CASES[options.model]:
        text = ", ".join(map(str, case))
        arguments = [*command, "--model", options.model, "--case", text]
        found = json.loads(subprocess.run(arguments, check=True, capture_output=True).stdout)
        steps, used, planned = (found[name] / 2**20 for name in ("steps", "all", "planned"))
        print(f"| {text} | {used:.0f} | {steps:.0f} | {planned:.0f} | {planned / used:.2f} |", flush=True)
        rows.append({"case": text, "used_mib": used, "estimate_mib": planned, "ratio": planned / used})
    if options.out:
        import torch
        from training_step import machine

        kept = json.loads(options.out.read_text(encoding="utf-8")) if options.out.exists() else {}
        about = {"machine": machine("cpu"), "threads": options.threads, "torch": torch.__version__}
        report = {**kept, **about, options.precision: rows}
        options.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
