"""`progan sweep`: options tried under a budget."""

import argparse

from progan.cli.base import Parser, add_flags, answer, given
from progan.commands import SweepConfig
from progan.options import options


def add_arguments(parser: Parser) -> None:
    parser.add_argument(
        "base",
        nargs="?",
        default="progan",
        metavar="MODEL",
        help="a preset, `progan`, `dcgan` or `lsgan`; with options in quotes",
    )
    parser.add_argument("--data", required=True, metavar="PATH", help="a prepared dataset, or what `prepare` takes")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder of the sweep")
    parser.add_argument(
        "--vary",
        action="append",
        default=[],
        metavar="'--OPTION X,Y'",
        help="an option and the values to try, with spaces between those that have commas themselves; given several "
        "times, every combination",
    )
    parser.add_argument(
        "--choices",
        metavar="'OPTIONS; …'",
        help="options to try together, `;` between the choices, or a file with one on each line",
    )
    add_flags(parser, options(SweepConfig))
    parser.add_argument("--no-reals", action="store_true", help="keep real images out of the page")
    parser.add_argument("--for", dest="time_limit", metavar="TIME", help="stop training and save after 90s, 50m, 2h …")
    parser.add_argument("--quiet", action="store_true", help="show no progress")


def run(arguments: argparse.Namespace) -> int:
    """Try options of a GAN under a budget and say which are best.

    All candidates are trained for a while, the worse of them (by SWD against images that none was shown) are dropped,
    the others go on, until two are left, whose runs are whole. The outcome is the command line of the best, a page with
    all numbers, and JSON and CSV.

        progan sweep progan --data mine --vary "--lr 0.0005,0.001,0.002" --minutes 30 --out rates
        progan sweep dcgan --data mine --vary "--lr 1e-4,2e-4 --z-dim 64,100" --kimg 60 --out grid
        progan sweep --data mine --choices "--loss lsgan; --loss hinge --lr 0.001" --kimg 60 --out list

    The same command with the same --out continues a stopped sweep. Every run is an ordinary run folder in DIR/runs.
    """
    from progan.comparison.sweep import METRIC, sweep
    from progan.report.comparison_tables import rung_lines

    outcome = sweep(
        arguments.data,
        arguments.out,
        arguments.base,
        arguments.vary,
        arguments.choices or "",
        arguments.quiet,
        not arguments.no_reals,
        arguments.time_limit,
        **given(arguments, SweepConfig),
    )
    if outcome.comparison is None:
        return 130
    lines = [line for i, rung in enumerate(outcome.rungs, 1) for line in rung_lines(i, rung, METRIC)]
    lines += [f"note: {note}" for note in outcome.comparison.notes]
    winner = outcome.rungs[-1].standings[0].name
    path = outcome.path
    facts = {
        "winner": winner,
        "command": outcome.command,
        "notes": list(outcome.comparison.notes),
        "page": str(outcome.page),
        "json": str(path / "sweep.json"),
        "csv": str(path / "sweep.csv"),
    }
    text = "\n".join([*lines, f"page: {outcome.page}", f"best: {winner}", outcome.command])
    return answer(arguments, facts, text)
