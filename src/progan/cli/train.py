"""`progan train`: begin a run, or continue one."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from progan.cli.base import DOWNLOAD, Parser, add_flags, answer
from progan.config import CHANGEABLE, INEXACT, RunConfig, flag
from progan.errors import ProganError
from progan.files import word
from progan.options import KINDS, OF_TRAIN, Option, options, owners
from progan.presets import PRESETS, RECIPES, about, preset
from progan.progress import duration, log_line

if TYPE_CHECKING:
    from progan.run import Run
    from progan.training.preflight.estimate import Plan

_COMMON = (
    "data", "labels", "mirror", "resolution", "total_kimg", "batch_size", "lr", "model", "loss", "device", "precision",
    "seed",
)  # fmt: skip
"""Options of a run in the short help, in this order; --help-all has all."""
_GROUPS = {
    "dataset": "dataset",
    "model": "model",
    "loss": "loss",
    "schedule": "schedule",
    "optimizer": "optimiser",
    "runtime": "running",
    "health": "health",
}
"""Group of a run's configuration -> its title in the help, in this order."""


def add_arguments(parser: Parser, config: RunConfig | None = None, everything: bool = True) -> None:
    """All that can be given, or what people use most; with the values of `config`, else of the quickstart."""
    parser.add_argument("-h", "--help", action=_Help, help="show the options used most")
    parser.add_argument("--help-all", action=_Help, help="show all options and presets")
    text = f"a named configuration: {', '.join(list(PRESETS)[:7])}, … (all: --help-all)"
    parser.add_argument("preset", metavar="PRESET", nargs="?", help=f"{text} (default: quickstart)")
    parser.add_argument("--out", metavar="DIR", help="run folder (default: a new one in runs/)")
    text = "stop after 50m, 2h, 1h30m …, all saved (default: no limit)"
    parser.add_argument("--for", dest="time_limit", metavar="TIME", help=text)
    text = "fit the stages of a new run into so many minutes here (default: no)"
    parser.add_argument("--minutes", type=float, metavar="N", help=text)
    parser.add_argument("--dry-run", action="store_true", help="print stages, memory and time; do not train")
    parser.add_argument("--quiet", action="store_true", help="show no progress")
    if everything:
        parser.add_argument("--download", action="store_true", help=DOWNLOAD)
        text = "paper: the preset's networks and stages with the loss and rates of the paper"
        parser.add_argument("--recipe", choices=RECIPES, help=f"{text} (default: those of the preset)")
    changeable, inexact = (", ".join(f"--{flag(name)}" for name in names) for names in (CHANGEABLE, INEXACT))
    changeable += f"; or as another run than was begun: {inexact}, added images"
    text = f"continue a run with other values of {changeable if everything else 'some options (see --help-all)'}"
    parser.add_argument("--allow-change", action="store_true", help=text)
    if everything:
        parser.add_argument("--profile", action="store_true", help="record where the time of some iterations goes")
    shown = {title: run_options(config or preset("quickstart"), group) for group, title in _GROUPS.items()}
    if everything:
        for title, group_options in shown.items():
            add_flags(parser.add_argument_group(title), group_options)
    else:
        by_name = {option.name: option for group_options in shown.values() for option in group_options}
        add_flags(parser, [by_name[name] for name in _COMMON])


def run_options(config: RunConfig, group: str) -> list[Option]:
    """Options of a group, with the configuration's values as defaults; those of other models or losses as well, with
    their own defaults, and with the names of what has them before the documentation.
    """
    part, kinds = getattr(config, group), KINDS.get(group, {})
    found: dict[str, Option] = {}
    if kinds:
        text = f"{'Networks' if group == 'model' else 'Loss'}: {', '.join(kinds)}."
        found[group] = Option(group, str, part.kind, text)
    for option in (option for cls in [*kinds.values(), type(part)] for option in options(cls)):
        having = owners(group, option.name)
        mark = "" if len(having) == len(kinds) else f"[{', '.join(having)}] "
        if not having:
            value = getattr(part, option.name)
        else:  # the preset's own first, then those of models or losses that have another
            values = {kind: getattr(part if kind == part.kind else kinds[kind], option.name) for kind in having}
            first = values.get(part.kind, next(iter(values.values())))
            own = [_short(first)] if part.kind in values else []
            others = [f"{kind}: {_short(each)}" for kind, each in values.items() if not own or each != first]
            alike = all(each == first for each in values.values())
            value = first if alike else "; ".join([*own, ", ".join(others)])
        found[option.name] = replace(option, default=value, doc=mark + option.doc)
    return list(found.values())


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


class _Help(argparse.Action):
    """Prints the help, with the values of the preset that stands before it."""

    def __init__(self, option_strings: Sequence[str], dest: str, help: str) -> None:
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, default=argparse.SUPPRESS, help=help)

    def __call__(self, parser: argparse.ArgumentParser, namespace: Any, values: Any, option_string: Any = None) -> None:
        config, everything = preset(namespace.preset or "quickstart"), option_string == "--help-all"
        shown = Parser(run, prog=parser.prog, usage="progan train [PRESET] [OPTIONS]")
        add_arguments(shown, config, everything)
        if namespace.preset:
            shown.description = f"Train with preset {config.preset}: {about(config.preset)}"
        elif everything:
            listed = "\n".join(f"  {name:26}{about(name)}" for name in PRESETS)
            shown.description = f"{shown.description}\n\npresets:\n{listed}"
        shown.print_help()
        parser.exit()


def changes(arguments: argparse.Namespace) -> dict[str, Any]:
    """Options of the run that the command line gives, as text."""
    return {name: value for name, value in vars(arguments).items() if name not in OF_TRAIN}


def run(arguments: argparse.Namespace) -> int:
    """Train a generator on images.

    Without arguments: preset quickstart, half an hour or more on a CPU.

        progan train
        progan train quickstart --data my-photos/ --out runs/photos
        progan train mnist32 --data train-images-idx3-ubyte.gz --labels --total-kimg 110
        progan train paper1024 --data celebahq/ --dry-run

    The same command with the same --out continues a stopped run, and so does `progan train --out DIR`. X|R:X,… is one
    number, or numbers that hold from a resolution upwards: 4:512,8:256,64:32. `progan train PRESET --help` shows the
    values of a preset. Exit codes: 0 done; 130, 143, 129 stopped by Ctrl-C, SIGTERM, SIGHUP; 2 error; 3 diverged; 4
    out of memory.
    """
    from progan import run
    from progan.training.numerics import thread_count
    from progan.training.parallel.rendezvous import is_first, launched

    options = changes(arguments)
    data, quiet = options.pop("data", None), arguments.quiet
    if arguments.download and is_first():
        from progan.data.sources.named import fetch

        fetch(data or "", log_line)
    if arguments.dry_run:
        if not is_first():
            return 0
        plan, config, numerics = run.dry_run(arguments.preset, data, arguments.minutes, arguments.out, **options)
        title = f"{config.preset} on {numerics.device}, {plan.precision}, {thread_count(numerics.threads)}"
        facts = {**asdict(plan), "seconds": plan.seconds, "images": plan.images}
        return answer(arguments, facts, f"{title}\n{plan_table(plan)}")
    result = run.train(
        arguments.preset,
        data,
        arguments.out,
        quiet,
        arguments.allow_change,
        profile=arguments.profile,
        time_limit=arguments.time_limit,
        minutes=arguments.minutes,
        **options,
    )
    if not is_first():
        return 0
    if result.finished:
        number = None
        try:
            number = write_report(result)
        except (OSError, ProganError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            log_line(f"warning: no report: {reason}. Once this is fixed, run: progan report {word(result.path)}")
        try:
            result.send_report()
        except ProganError as error:
            log_line(f"warning: {error}")
        if not quiet and not arguments.json:
            print(closing(result, number), file=sys.stderr)
    facts = {"run": str(result.path), "finished": result.finished, "cur_nimg": result.cur_nimg}
    answer(arguments, {**facts, "seconds": result.seconds, "grid": str(result.grid())}, None)
    # torchrun would start again a process that does not return 0; a run that --for stopped did as it was told.
    return 0 if result.finished or result.signal is None or launched() else 128 + result.signal


def plan_table(plan: "Plan") -> str:
    """The plan as lines of text."""
    lines = [f"G has {plan.parameters[0]:,} parameters, D {plan.parameters[1]:,}", ""]
    lines.append(f"{'stage':>16} {'kimg':>8} {'batch':>6} {'iterations':>11} {'lr':>8} {'memory':>9} {'time':>12}")
    for stage in plan.stages:
        name = f"{stage.resolution}x{stage.resolution} {stage.phase}"
        lines.append(
            f"{name:>16} {stage.images / 1000:8g} {stage.batch_size:6} {stage.iterations:11,} {stage.lr:8g} "
            f"{stage.memory / 2**30:6.1f} GB {duration(stage.seconds):>12}"
        )
    total = f"{plan.images / 1000:g} kimg, about {duration(plan.seconds)}, {plan.disk / 2**30:.1f} GB of disk"
    return "\n".join([*lines, "", f"together {total} (memory and time are estimates)", *plan.notes])


def closing(result: "Run", number: str | None) -> str:
    """What to look at, how good it is (`number`), and what to do next."""
    config, data = result.folder.read()
    best = result.folder.best(config.schedule.resolution)
    page, path = result.path / "report.html", word(result.path)
    lines = [
        f"trained {result.cur_nimg / 1000:g} kimg in {duration(result.seconds)}",
        f"  samples    {result.grid()}",
        f"  generator  {result.folder.snapshot()}",
        *([f"  best       {best}, by its SWD"] if best.exists() else []),
        f"  quality    {number or f'progan evaluate {path} --data {word(data.path)}'}",
        f"  page       {page if page.exists() else f'progan report {path}'}",
        f"  charts     tensorboard --logdir {path}",
        f"next: progan sample {path} --num 64, or your own images: progan train --data FOLDER",
    ]
    return "\n".join(lines)


def write_report(result: "Run") -> str | None:
    """Write the run's page where it takes only seconds: for small images, or with a GPU to draw the samples.

    Returns the number on the page that says how good the generator is, where that takes only seconds as well.
    """
    from progan.data.dataset import Dataset
    from progan.devices import find_device
    from progan.report.run_page import quality, write_run_page

    config, data = result.folder.read()
    dataset, device = Dataset.open(data.path), find_device(config.runtime.device)
    number = quality(result.snapshot(), dataset)
    if config.schedule.resolution <= 128 or device.type == "cuda":
        write_run_page(result.folder, dataset, device, number=number)
    return number
