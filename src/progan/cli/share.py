"""`progan share`: a folder to publish."""

import argparse
from pathlib import Path

from progan.cli.base import Parser, add_flags, add_source, answer, given
from progan.commands import ExportConfig
from progan.options import options
from progan.pretrained import locate
from progan.progress import log_line


def add_arguments(parser: Parser) -> None:
    add_source(parser)
    parser.add_argument("out", metavar="OUT", help="the folder to write")
    add_flags(parser, options(ExportConfig))


def run(arguments: argparse.Namespace) -> int:
    """Write a folder to publish: a model card, the snapshots, a grid and the licence.

    It is laid out as the Hugging Face Hub wants it. Nothing is sent anywhere: the command that does is printed.

        progan share runs/digits digits --licence mit
    """
    from progan.export.card import check_folder, push_command, write_card
    from progan.export.source import open_source

    config, out = ExportConfig(**given(arguments, ExportConfig)), Path(arguments.out)
    source = open_source(locate(arguments.source, log_line), config)
    check_folder(out)
    files = write_card(source, out)
    facts = {"out": str(out), "resolutions": list(source.snapshots), "files": [file.name for file in files]}
    unknown = [] if source.licence else ["its licence is not known: give --licence"]
    push = f"publish it: {push_command(out)}"
    return answer(arguments, facts, "\n".join([f"{out}: {len(files)} files", *unknown, push]))
