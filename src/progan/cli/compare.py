"""`progan compare`: several GANs under one protocol."""

import argparse
import json
from typing import TYPE_CHECKING, Any

from progan.cli.flags import add_flags
from progan.config import CompareConfig
from progan.options import coerce, options

if TYPE_CHECKING:
    from progan.comparison import Outcome


def register(commands: "argparse._SubParsersAction[Any]") -> None:
    """Add the command."""
    parser = commands.add_parser(
        "compare",
        help="train several GANs alike and say which is better",
        description="Train several GANs on the same images with the same budget and several seeds, measure them alike, "
        "and write\none page with tables, tests, pictures and charts, and the numbers as JSON and CSV.",
        epilog="The same command with the same --out goes on where it stopped. Every run is an ordinary run folder in "
        "DIR/runs.",
    )
    parser.add_argument("--data", required=True, metavar="PATH", help="a prepared dataset, or what `prepare` takes")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder of the comparison")
    add_flags(parser, "protocol", options(CompareConfig))
    parser.add_argument("--no-reals", action="store_true", help="keep real images out of the page")
    parser.add_argument("--json", action="store_true", help="print one JSON object at the end")
    parser.add_argument("--quiet", action="store_true", help="no progress on the screen")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Handle the command."""
    from progan.comparison import compare

    kinds = {option.name: option.type for option in options(CompareConfig)}
    given = {name: coerce(name, value, kinds[name]) for name, value in vars(arguments).items() if name in kinds}
    outcome = compare(arguments.data, arguments.out, arguments.quiet, not arguments.no_reals, **given)
    if outcome.comparison is None:
        return 130
    print(_json(outcome) if arguments.json else _words(outcome))
    return 0


def _json(outcome: "Outcome") -> str:
    path = outcome.path
    names = {"page": outcome.page, "json": path / "comparison.json", "csv": path / "comparison.csv"}
    return json.dumps({name: str(place) for name, place in names.items()})


def _words(outcome: "Outcome") -> str:
    from progan.report.comparison_tables import sentence

    assert outcome.comparison is not None
    metric = outcome.comparison.metrics[-1] if "swd" not in outcome.comparison.metrics else "swd"
    order = ", ".join(outcome.comparison.ranking(metric))
    lines = [f"{metric}, nearest to real images first: {order}"]
    lines += [sentence(each) for each in outcome.comparison.differences(metric)]
    return "\n".join([*lines, f"page: {outcome.page}"])
