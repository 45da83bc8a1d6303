"""`progan completion`: names of commands, options, presets and files at the Tab key."""

import argparse

from progan.cli.base import Parser
from progan.errors import ConfigError

SHELLS = ("bash", "zsh", "tcsh")
_FILES = {
    *("DATASET", "DIR", "FILE", "HELDOUT", "IMAGE", "OUT", "PATH", "RUN", "SOURCE", "TRAIN", "DATA", "A", "B"),
    *("RUN|SNAPSHOT", "RUN|FOLDER|SNAPSHOT", "INIT", "COPY_TO", "HELD_OUT", "LABELS", "MODELS"),
    *("RUNTIME", "ICON", "KEYSTORE"),
}
"""What the help calls a file or a folder."""


def add_arguments(parser: Parser) -> None:
    """Add the shell."""
    parser.add_argument("shell", choices=SHELLS, metavar="SHELL", help=f"one of {', '.join(SHELLS)}")


def run(arguments: argparse.Namespace) -> int:
    """Print a script with which a shell completes progan's commands, options and presets.

    Files and folders are completed where they are meant.

        progan completion bash
        progan completion zsh

    In bash `source <(progan completion bash)` does it for a session, and as a line of ~/.bashrc for all; in zsh the
    script is a file `_progan` of a folder in fpath.
    """
    from progan.cli import parser

    try:
        import shtab
    except ModuleNotFoundError:
        raise ConfigError("completion needs shtab: pip install '.[completion]' in the checkout of progan") from None
    top = parser()
    _describe(top)
    print(shtab.complete(top, arguments.shell))
    return 0


def _describe(parser: Parser) -> None:
    """What can stand for the arguments of a command and of those below it."""
    from progan.presets import PRESETS

    for action in parser._actions:
        if action.metavar == "PRESET":
            action.choices = list(PRESETS)
        elif action.metavar in _FILES and not action.choices:
            action.complete = {"bash": "_shtab_compgen_files", "zsh": "_files", "tcsh": "f"}  # type: ignore[attr-defined]
    for command in parser.commands().values():
        _describe(command)
