"""`progan train`: begin a run, or go on with one."""

import argparse
import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from progan.cli.flags import add_flags
from progan.config import (
    CHANGEABLE,
    LOSS_CONFIGS,
    MODEL_CONFIGS,
    DatasetConfig,
    HealthConfig,
    OptimizerConfig,
    RuntimeConfig,
    ScheduleConfig,
    flag,
)
from progan.options import Option, options
from progan.presets import PRESETS, about
from progan.progress import warn

if TYPE_CHECKING:
    from progan.run import Run
    from progan.training.preflight.estimate import Plan

QUALITY_NUM = 2048
"""Images that the number at the end of a run is measured with."""
_OWN = ("preset", "out", "allow_change", "dry_run", "json", "quiet", "profile", "run")
_GROUPS = {
    "data": DatasetConfig,
    "schedule": ScheduleConfig,
    "optimiser": OptimizerConfig,
    "running": RuntimeConfig,
    "health": HealthConfig,
}


def register(commands: "argparse._SubParsersAction[Any]") -> None:
    """Add the command."""
    presets = "\n".join(f"  {name:26} {about(name)}" for name in PRESETS)
    parser = commands.add_parser(
        "train",
        help="train a generator on images",
        description="Train a generator. Without arguments: the quickstart, on embedded data.\n\npresets:\n" + presets,
        epilog="The same command with the same --out goes on where the run stopped; so does `progan train --out RUN`.\n"
        "Exit code: 0 at the end of the run, 130, 143 or 129 if Ctrl-C, SIGTERM or SIGHUP stopped it, 2 for an error,\n"
        "3 if it diverged for good, 4 if it does not fit into the memory.\n"
        "X|R:X,… is a number, or one for each resolution from which it holds: --batch-size 4:512,8:256,64:32",
    )
    parser.add_argument("preset", nargs="?", help="a named configuration; the flags below change it [quickstart]")
    parser.add_argument("--out", metavar="DIR", help="run folder [a new one in runs/]")
    parser.add_argument(
        "--allow-change",
        action="store_true",
        help=f"go on with other values of {', '.join(f'--{flag(name)}' for name in CHANGEABLE)}",
    )
    parser.add_argument("--dry-run", action="store_true", help="print the plan and stop")
    parser.add_argument("--json", action="store_true", help="print one JSON object at the end")
    parser.add_argument("--profile", action="store_true", help="record where the time of some iterations goes")
    parser.add_argument("--quiet", action="store_true", help="no progress on the screen")
    for title, cls in _GROUPS.items():
        add_flags(parser, title, options(cls), defaults=False)
    for title, kinds in (("model", MODEL_CONFIGS), ("loss", LOSS_CONFIGS)):
        merged = {option.name: option for cls in kinds.values() for option in options(cls)}
        choice = Option(title, str, None, f"one of {', '.join(kinds)}")
        add_flags(parser, title, [choice, *merged.values()], defaults=False)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Handle the command."""
    from progan import run
    from progan.training.numerics import thread_count
    from progan.training.parallel.rendezvous import is_first, launched

    changes = {name: value for name, value in vars(arguments).items() if name not in _OWN}
    data = changes.pop("data", None)
    if arguments.dry_run and not is_first():
        return 0
    if arguments.dry_run:
        plan, config, numerics = run.dry_run(arguments.preset, data, **changes)
        if arguments.json:
            print(json.dumps({**asdict(plan), "seconds": plan.seconds, "images": plan.images}))
        else:
            print(f"{config.preset} on {numerics.device}, {plan.precision}, {thread_count(numerics.threads)}")
            print(plan_table(plan))
        return 0
    quiet = arguments.quiet
    result = run.train(
        arguments.preset, data, arguments.out, quiet, arguments.allow_change, arguments.profile, **changes
    )
    if not is_first():
        return 0
    if result.finished:
        try:
            write_report(result)
        except OSError as error:
            warn(f"warning: no report: {error.strerror}. Once that is mended: progan report {result.path}")
    if arguments.json:
        described = {"run": str(result.path), "finished": result.finished, "cur_nimg": result.cur_nimg}
        print(json.dumps({**described, "seconds": result.seconds, "grid": str(result.grid())}))
    elif result.finished and not quiet:
        print(closing(result), file=sys.stderr)
    if result.finished or launched():  # torchrun would start again a process that does not return 0
        return 0
    return 128 + (result.signal or 0)


def plan_table(plan: "Plan") -> str:
    """The plan as lines for people."""
    from progan.training.observers.console import duration

    lines = [f"G has {plan.parameters[0]:,} weights, D {plan.parameters[1]:,}", ""]
    lines.append(f"{'stage':>16} {'kimg':>8} {'batch':>6} {'iterations':>11} {'lr':>8} {'memory':>9} {'time':>12}")
    for stage in plan.stages:
        name = f"{stage.resolution}x{stage.resolution} {stage.phase}"
        iterations = -(-stage.images // stage.batch_size)
        lines.append(
            f"{name:>16} {stage.images / 1000:8g} {stage.batch_size:6} {iterations:11,} {stage.lr:8g} "
            f"{stage.memory / 2**30:6.1f} GB {duration(stage.seconds):>12}"
        )
    total = f"{plan.images / 1000:g} kimg, about {duration(plan.seconds)}, {plan.disk / 2**30:.1f} GB of disk"
    return "\n".join([*lines, "", f"together {total} (memory and time are estimates)", *plan.notes])


def closing(result: "Run") -> str:
    """What to look at, how good it is, and what to do next."""
    from progan.training.observers.console import duration

    _, data = result.folder.read()
    page = result.path / "report.html"
    return "\n".join(
        [
            f"trained {result.cur_nimg / 1000:g} kimg in {duration(result.seconds)}",
            f"  samples    {result.grid()}",
            f"  generator  {result.folder.snapshot()}",
            f"  quality    {quality(result) or f'progan evaluate {result.path} --data {data.path}'}",
            f"  page       {page if page.exists() else f'progan report {result.path}'}",
            f"  charts     tensorboard --logdir {result.path}",
            f"next: progan sample {result.path} --num 64, or your own images: progan train --data FOLDER",
        ]
    )


def write_report(result: "Run") -> None:
    """The run's page, where it takes only seconds: small images, or a GPU to draw the samples."""
    from progan.data.dataset import Dataset
    from progan.devices import find_device
    from progan.report.run_page import write_run_page

    config, data = result.folder.read()
    device = find_device(config.runtime.device)
    if config.schedule.resolution <= 128 or device.type == "cuda":
        write_run_page(result.folder, Dataset.open(data.path), device)


def quality(result: "Run") -> str | None:
    """A first number where it takes only seconds: small images, enough of them."""
    from progan.data.dataset import Dataset
    from progan.metrics.evaluation import evaluate

    _, data = result.folder.read()
    snapshot = result.snapshot()
    if not 16 <= snapshot.resolution <= 64 or data.count < 2 * QUALITY_NUM:
        return None
    swd = evaluate(snapshot, Dataset.open(data.path), ("swd",), QUALITY_NUM)["swd"]
    floor = swd.floor.value if swd.floor else float("nan")
    return f"sliced Wasserstein distance {swd.value:.1f}; other real images would get {floor:.1f}"
