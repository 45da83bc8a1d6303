"""`progan submit`: train or compare on machines elsewhere."""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from progan.cli import compare, train
from progan.cli.base import Parser, Run, add_flags, answer, given, written
from progan.commands import CompareConfig
from progan.config import check_minutes, no_images
from progan.errors import ConfigError
from progan.options import options, override
from progan.presets import preset
from progan.submit import TARGETS
from progan.training.signals import deadline

_INPUTS = ("data", "held_out", "init")
"""Options that name what a run reads."""


def command(kind: str) -> tuple[Callable[[Parser], None], Run]:
    """What adds the arguments of `progan submit KIND`, and what carries it out."""
    target = TARGETS[kind]

    def add_arguments(parser: Parser) -> None:
        parser.usage = f"progan submit {kind} [OPTIONS] [arguments of `progan train`]"
        parser.add_argument("--compare", action="store_true", help="run `progan compare`, whose arguments follow")
        parser.add_argument("--dry-run", action="store_true", help="print the file, do not submit it")
        add_flags(parser, options(target.config))
        parser.rest = _parse

    def run(arguments: argparse.Namespace) -> int:
        import importlib

        from progan.submit.base import Work

        config = target.config(**given(arguments, target.config))
        inner = arguments.inner
        if not inner.out:
            raise ConfigError("name the run folder with --out, so that the job finds it when it is started again")
        deadline(inner.time_limit)
        if arguments.compare:
            _check_comparison(inner)
            if config.processes > 1:
                raise ConfigError("a comparison trains on one GPU of one host; leave out --gpus and --hosts")
        else:
            _check(inner)
        words = written(arguments.parser, inner, leave=("out", *_INPUTS))
        inputs = {f"--{name.replace('_', '-')}": getattr(inner, name, None) for name in _INPUTS}
        work = Work(
            "compare" if arguments.compare else "train",
            tuple(words),
            inner.out,
            {flag: place for flag, place in inputs.items() if place},
        )
        module = importlib.import_module(f"progan.submit.{kind}")
        text = module.describe(work, config)
        outcome = None if arguments.dry_run else module.submit(work, config)
        facts = {"target": kind, "file": text, "submitted": outcome, "config": asdict(config)}
        return answer(arguments, facts, text.rstrip("\n") if outcome is None else outcome)

    run.__doc__ = f"{target.about.rstrip()}\n\n        {_MORE}\n"
    return add_arguments, run


_MORE = """All other arguments are those of `progan train` (`progan train --help-all`), or with --compare those of
        `progan compare`. Nothing is needed for --dry-run."""


def _parse(arguments: argparse.Namespace, words: Sequence[str], owners: Parser) -> None:
    """Read what is left of the command line as that of the command that is to run; its own errors are raised."""
    name, module = ("compare", compare) if arguments.compare else ("train", train)
    parser = Parser(module.run, prog=f"progan {name}")
    module.add_arguments(parser)
    parser.owners, parser.others = owners.owners, owners._option_string_actions
    arguments.parser, arguments.inner = parser, parser.parse_args(words)


def _check_comparison(inner: argparse.Namespace) -> None:
    """Raise ConfigError for options that the comparison would refuse, where they can be known here. A file of models
    becomes its text, since the file may not be where the job is.
    """
    from progan.comparison.contestants import chosen_options, parse, read_models
    from progan.metrics.evaluation import known

    config = CompareConfig(**given(inner, CompareConfig))
    models = read_models(config.models)
    if models != config.models:
        inner.models = models
    for each in parse(models):
        chosen_options(each, resolution=64, channels=3)
    known(config.metrics.split(","))


def _check(inner: argparse.Namespace) -> None:
    """Raise ConfigError for options that the run would refuse, where they can be known here."""
    begun = inner.preset is None and (Path(inner.out) / "config.json").exists()
    changes = train.changes(inner)
    check_minutes(inner.minutes, changes.get("total_kimg"))
    if begun or "init" in changes:  # their networks decide which options there are
        return
    if changes.get("batch_size") == "auto":
        del changes["batch_size"]
    chosen = preset(inner.preset or "quickstart", changes.pop("recipe", None), changes.get("loss"))
    config = override(chosen, changes)
    if not config.dataset.data:
        raise no_images(config)
