"""`progan data show`, `data split` and `data diff`: look at a dataset, hold images out for metrics, compare two."""

import argparse
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from progan.cli.base import Parser, answer
from progan.progress import log_line

if TYPE_CHECKING:
    from progan.data.difference import Difference, Part
    from progan.data.inspection import Inspection

_LINES = {"balance": 60, "duplicate": 10, "suspicious": 10}
"""Lines of each finding in a terminal."""


def add_show_arguments(parser: Parser) -> None:
    parser.add_argument("dataset", metavar="DATASET", help="a prepared dataset, or what `progan prepare` takes")
    parser.add_argument("--sheets", metavar="DIR", help="write contact sheets there, one per resolution and label")
    parser.add_argument("--html", metavar="FILE", help="write a page with everything, complete in one file")
    parser.add_argument("--verify", action="store_true", help="first compare every byte with its hash")


def show(arguments: argparse.Namespace) -> int:
    """Show what is in a dataset, and what looks wrong.

    This is counts, sizes, class balance, duplicates, and images that deserve a second look.

        progan data show datasets/mine
        progan data show my-photos/ --html mine.html
    """
    from progan.data.cache import open_data
    from progan.data.dataset import Dataset
    from progan.data.inspection import facts, inspect
    from progan.files import output_path, write_whole

    html = output_path(arguments.html, "dataset.html", (".html", ".htm")) if arguments.html else None
    dataset = open_data(arguments.dataset, None, log_line)
    if arguments.verify:
        Dataset.open(dataset.path, verify=True)
    inspection = inspect(dataset)
    rows = facts(inspection)
    if arguments.sheets or html:
        from progan.report.dataset_page import page, write_sheets

        if arguments.sheets:
            write_sheets(dataset, Path(arguments.sheets))
        if html:
            write_whole(html, page(dataset, inspection, rows).encode())
    text = "\n".join(f"{name:12}{text}" for name, text in [*rows, *findings(inspection)])
    return answer(arguments, dataclasses.asdict(inspection), text)


def add_split_arguments(parser: Parser) -> None:
    parser.add_argument("dataset", metavar="DATASET", help="a prepared dataset")
    parser.add_argument("train", metavar="TRAIN", help="folder of the new dataset to train on")
    parser.add_argument("heldout", metavar="HELDOUT", help="folder of the new dataset to measure with")
    size = parser.add_mutually_exclusive_group(required=True)
    size.add_argument("--count", type=int, metavar="N", help="images to hold out (default: --fraction is used)")
    text = "part of all images to hold out, for example 0.1 (default: --count is used)"
    size.add_argument("--fraction", type=float, metavar="X", help=text)
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="decides which images are held out")


def split(arguments: argparse.Namespace) -> int:
    """Hold images of a prepared dataset out for metrics.

    Images chosen by the seed go to HELDOUT, the others to TRAIN.

        progan data split datasets/mine datasets/train datasets/held-out --fraction 0.1
    """
    from progan.data import split

    a = arguments
    report = split.split(a.dataset, a.train, a.heldout, a.count, a.fraction, a.seed)
    text = (
        f"{report.train_count:,} images to train on in {report.train}\n"
        f"{report.heldout_count:,} images held out in {report.heldout}"
    )
    return answer(arguments, dataclasses.asdict(report), text)


def add_diff_arguments(parser: Parser) -> None:
    parser.add_argument("a", metavar="A", help="a prepared dataset, or what `progan prepare` takes")
    parser.add_argument("b", metavar="B", help="another one")


def diff(arguments: argparse.Namespace) -> int:
    """Compare two datasets: what they share and do not.

    Images are equal where their pixels are, at the highest resolution that both have; others are alike where they look
    the same except for compression, size, brightness and contrast.

        progan data diff datasets/train datasets/held-out
    """
    from progan.data.cache import open_data
    from progan.data.difference import compare
    from progan.data.sources import identity

    for place in (arguments.a, arguments.b):  # that one is missing is said before the other is prepared
        next(identity(place))
    found = compare(*(open_data(place, None, log_line) for place in (arguments.a, arguments.b)))
    text = "\n".join(f"{name:12}{text}" for name, text in difference_rows(found))
    return answer(arguments, dataclasses.asdict(found), text)


def difference_rows(found: "Difference") -> list[tuple[str, str]]:
    """Name and text of the rows that say what two datasets share."""

    def about(part: "Part") -> str:
        return f"{part.name} ({part.fingerprint[:8]}), {part.count:,} images, in {part.path}"

    def listed(part: "Part") -> str:
        more = " …" if len(part.own_labels) > 10 else ""
        return f"{len(part.own_labels)}: {', '.join(part.own_labels[:10])}{more}"

    a, b = found.a, found.b
    rows = [
        ("A", about(a)),
        ("B", about(b)),
        (
            "compared",
            f"at {found.resolution}x{found.resolution}" + ("; the same" if a.fingerprint == b.fingerprint else ""),
        ),
        ("equal", f"{a.equal:,} of A, {b.equal:,} of B"),
        ("alike", f"{a.alike:,} of A, {b.alike:,} of B"),
        ("alone", f"{a.alone:,} of A, {b.alone:,} of B"),
    ]
    if a.label_kind != b.label_kind:
        kinds = [part.label_kind or "none" for part in (a, b)]
        rows.append(("labels", f"A: {kinds[0]}, B: {kinds[1]}"))
    rows += [
        (f"labels of {name}", listed(part))
        for name, part in (("A", a), ("B", b))
        if part.own_labels and part.label_kind
    ]
    if found.relabelled is not None:
        rows.append(("relabelled", f"{found.relabelled:,} equal images have other labels"))
    rows += [("equal", f"{one} = {two}") for one, two in found.equal_files]
    rows += [("alike", f"{one} ~ {two}") for one, two in found.alike_files]
    rows += [("alone in A", file) for file in a.alone_files]
    rows += [("alone in B", file) for file in b.alone_files]
    return rows + [("relabelled", f"{one}: {old}; {two}: {new}") for one, two, old, new in found.relabelled_files]


def findings(inspection: "Inspection") -> list[tuple[str, str]]:
    """Name and text of the rows on class balance, duplicates and suspicious images, so many as a terminal shows."""
    labels = inspection.label_counts.items()
    found = {
        "balance": [f"{count:8,} {count / inspection.count:6.1%}  {name}" for name, count in labels],
        "duplicate": [" = ".join(files) for files in inspection.duplicate_files],
        "suspicious": [f"{suspect.file}: {suspect.reason}" for suspect in inspection.suspects],
    }
    rows: list[tuple[str, str]] = []
    for title, lines in found.items():
        most = _LINES[title]
        rows += [(title, line) for line in lines[:most]]
        if len(lines) > most:
            rows.append((title, f"… {len(lines) - most:,} more: --json or --html"))
    return rows
