"""`progan compare`: several GANs under one protocol."""

import argparse

from progan.cli.base import Parser, add_flags, answer, given
from progan.commands import CompareConfig
from progan.options import options


def add_arguments(parser: Parser) -> None:
    parser.add_argument("--data", required=True, metavar="PATH", help="a prepared dataset, or what `prepare` takes")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder of the comparison")
    add_flags(parser, options(CompareConfig))
    parser.add_argument("--no-reals", action="store_true", help="keep real images out of the page")
    parser.add_argument("--for", dest="time_limit", metavar="TIME", help="stop training and save after 90s, 50m, 2h …")
    parser.add_argument("--quiet", action="store_true", help="show no progress")


def run(arguments: argparse.Namespace) -> int:
    """Train several GANs alike and say which is better.

    They are trained on the same images with the same budget and several seeds, and measured alike. The outcome is one
    page with tables, tests, pictures and charts, and the numbers as JSON and CSV.

        progan compare --data datasets/mine --budget-minutes 60 --out comparison
        progan compare --data datasets/mine --models mnist32,dcgan32 --budget-kimg 100 --out small
        progan compare --data mine --models "progan; soft = progan --loss lsgan" --budget-kimg 99 --out c

    The same command with the same --out continues a stopped comparison. Every run is an ordinary run folder in
    DIR/runs.
    """
    from progan.comparison import compare
    from progan.report.comparison_tables import sentences

    outcome = compare(
        arguments.data,
        arguments.out,
        arguments.quiet,
        not arguments.no_reals,
        arguments.time_limit,
        **given(arguments, CompareConfig),
    )
    if outcome.comparison is None:
        return 130
    found, path = outcome.comparison, outcome.path
    metric = "swd" if "swd" in found.metrics else found.metrics[-1]
    lines = [f"{metric}, nearest to real images first: {', '.join(found.ranking(metric))}"]
    lines += sentences(found.differences(metric))
    places = {"page": outcome.page, "json": path / "comparison.json", "csv": path / "comparison.csv"}
    facts = {name: str(place) for name, place in places.items()}
    return answer(arguments, facts, "\n".join([*lines, f"page: {outcome.page}"]))
