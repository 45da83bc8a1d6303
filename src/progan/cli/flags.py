"""Command-line flags made from the fields of config dataclasses, and errors of one line."""

import argparse
import typing
from collections.abc import Iterable
from typing import Any, NoReturn

from progan.config import flag
from progan.options import Option
from progan.per_resolution import PerResolution


class UsageError(Exception):
    """A command line that cannot be understood."""


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line instead of printing the usage."""

    def __init__(self, prog: str, description: str = "", **settings: Any) -> None:
        settings.setdefault("formatter_class", _Formatter)
        super().__init__(prog, description=description, allow_abbrev=False, **settings)

    def parse_known_args(self, *arguments: Any, **settings: Any) -> Any:
        """All of them must be known: found out here, the error is that of the command itself, not of `progan`."""
        found, unknown = super().parse_known_args(*arguments, **settings)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return found, unknown

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}. `{self.prog} --help` shows what there is")


class _Formatter(argparse.RawDescriptionHelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=28)


def add_flags(parser: argparse.ArgumentParser, title: str, options: Iterable[Option], defaults: bool = True) -> None:
    """A flag for every option, in a group of its own; what is not given is absent from the namespace."""
    group = parser.add_argument_group(title)
    for option in options:
        help_text = option.doc.replace("%", "%%") + (_default(option) if defaults else "")
        settings: dict[str, Any] = {"dest": option.name, "default": argparse.SUPPRESS, "help": help_text}
        if option.type is bool:
            settings["action"] = argparse.BooleanOptionalAction
        else:
            settings["metavar"] = _metavar(option.type)
        group.add_argument(f"--{flag(option.name)}", **settings)


def _default(option: Option) -> str:
    if option.default is None or option.default == "" or isinstance(option.default, bool):
        return ""
    return f" [{option.default}]"


def _metavar(kind: Any) -> str:
    members = [member for member in typing.get_args(kind) if member is not type(None)]
    if typing.get_origin(kind) is typing.Literal:
        return "{" + ",".join(map(str, members)) + "}"
    kind = members[0] if members else kind
    return {int: "N", float: "X", str: "TEXT", PerResolution: "X|R:X,…"}.get(kind, "VALUE")
