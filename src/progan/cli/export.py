"""`progan export`: trained generators in forms that need no progan."""

import argparse
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from progan.cli.base import Parser, Run, add_flags, add_source, answer, given
from progan.export import EXPORTERS
from progan.options import options
from progan.pretrained import locate
from progan.progress import log_line, silent


def command(kind: str) -> tuple[Callable[[Parser], None], Run]:
    """What adds the arguments of `progan export KIND`, and what carries it out."""
    exporter = EXPORTERS[kind]

    def add_arguments(parser: Parser) -> None:
        add_source(parser)
        parser.add_argument("out", metavar="OUT", help=exporter.file or "the folder to write")
        add_flags(parser, options(exporter.config))

    def run(arguments: argparse.Namespace) -> int:
        import importlib

        from progan.export.card import check_folder, push_command
        from progan.export.source import open_source

        config, out = exporter.config(**given(arguments, exporter.config)), Path(arguments.out)
        source = open_source(locate(arguments.source, log_line), config)
        if not exporter.file:
            check_folder(out)
        module = importlib.import_module(exporter.home or f"progan.export.{kind}")
        files = module.export(source, out, config, silent if arguments.json else log_line)
        if exporter.file and len(files) == 1:
            out = files[0]  # which may lie in a folder that was named
        sizes = ", ".join(f"{r}x{r}" for r in source.snapshots)
        size = sum(file.stat().st_size for file in files)
        facts = {
            "out": str(out),
            "resolutions": list(source.snapshots),
            "files": [str(file.relative_to(out)) for file in files if file != out],
            "bytes": size,
            "config": asdict(config),
        }
        count = f"{len(files)} files, " if len(files) > 1 else ""
        lines = [f"{out}: {kind} of {sizes}, {count}{size / 1e6:.1f} MB"]
        if kind == "web":
            lines.append(f"look at it: python -m http.server --directory {out} 8000, then http://localhost:8000")
        if not exporter.file:
            lines.append(f"publish it: {push_command(out, kind)}")
        return answer(arguments, facts, "\n".join(lines))

    run.__doc__ = exporter.about
    return add_arguments, run
