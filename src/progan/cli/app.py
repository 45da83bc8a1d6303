"""`progan app`: the page that makes pictures, follows a training and shows comparisons."""

import argparse
from pathlib import Path

from progan.cli.base import Parser, add_flags, given
from progan.commands import AppConfig
from progan.errors import RunError
from progan.options import options
from progan.pretrained import DEFAULT, locate
from progan.progress import log_line

RUNS = "runs"
"""Folder in which `progan train` begins runs."""


def add_arguments(parser: Parser) -> None:
    text = "a run folder, a folder with runs and comparisons, a snapshot, or the name of a generator in the package"
    text = f"{text} (default: {RUNS}, or {DEFAULT} where there is none)"
    parser.add_argument("source", metavar="RUN|FOLDER|SNAPSHOT", nargs="?", help=text)
    add_flags(parser, options(AppConfig))


def run(arguments: argparse.Namespace) -> int:
    """Show runs on a page of this machine: make pictures, follow a training, stop it.

    It works without a network, and only this machine can reach it unless --host says otherwise.

        progan app
        progan app runs/digits
        progan app digits.safetensors
        progan app --host 0.0.0.0 --port 8000

    The address that it prints holds a token, without which nothing can be changed.
    """
    from progan.app.server import serve
    from progan.options import json_text

    source = locate(arguments.source or (RUNS if Path(RUNS).is_dir() else DEFAULT), log_line)
    if not source.exists() and arguments.source:
        raise RunError(
            f"{source} does not exist. Give a run folder, one with runs, such as {RUNS}, or a snapshot (.safetensors)"
        )
    shown = (lambda address: print(json_text({"address": address}), flush=True)) if arguments.json else None
    serve(source, AppConfig(**given(arguments, AppConfig)), log_line, shown)
    return 0
