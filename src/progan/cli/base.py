"""What commands are made of: parsers with errors of one line, flags made from config dataclasses, the answer."""

import argparse
import inspect
import itertools
import re
import sys
import textwrap
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from progan.config import coerce, flag
from progan.errors import ConfigError, ProganError, did_you_mean
from progan.options import Option, json_text, options
from progan.per_resolution import RESOLUTIONS, PerResolution
from progan.pretrained import DEFAULT, is_inside
from progan.progress import log_line

DEVICE = "where to compute: `auto`, `cpu`, `cuda`, `cuda:1`, …"
"""Help of the --device of commands that use a trained generator."""

DOWNLOAD = "fetch a published set that is not here through Hugging Face's `datasets`, into $PROGAN_DATA"
"""Help of --download."""

Run = Callable[[argparse.Namespace], int]
"""Carries out a command and returns its exit code. Its docstring is the help: the first line for the list of commands,
the text, examples (indented), more text.
"""


class UsageError(ProganError):
    """A command line that cannot be understood."""


class Parser(argparse.ArgumentParser):
    """Parser of a command, or of `progan` and groups of commands, which have no `run`.

    Raises UsageError, with the nearest name, where argparse would print the usage and exit.
    """

    owners: Mapping[str, Sequence[str]] = {}
    """Flag -> commands that have it, for flags given to the wrong command."""

    others: Iterable[str] = ()
    """Flags of the command before this one, where both are given on one line: what is mistyped may be one of them."""

    sorts = False
    """True where a word may be left out that another follows: `find RUN --steps 9 IMAGE` would otherwise take RUN for
    the image, before it has seen the second.
    """

    rest: Callable[[argparse.Namespace, list[str], "Parser"], None] | None = None
    """Takes the words that this parser does not know, where they are another command's."""

    def __init__(self, run: Run | None = None, **settings: Any) -> None:
        # A command may bring a --help of its own ("resolve").
        super().__init__(allow_abbrev=False, formatter_class=_Formatter, conflict_handler="resolve", **settings)
        # What begins like a negative number is a value (`--range -1024:3071`), as it is for Python 3.14.
        self._negative_number_matcher = re.compile(r"-\.?\d")
        if run:
            parts = inspect.cleandoc(run.__doc__ or "").split("\n\n")
            examples = next((i for i, part in enumerate(parts) if part.startswith("    ")), len(parts))
            self.description = " ".join(parts[:examples])
            self.epilog = "\n\n".join(["examples:\n" + "".join(parts[examples : examples + 1]), *parts[examples + 1 :]])
            self.add_argument("--json", action="store_true", help="print one JSON object instead of text")
            self.set_defaults(run=run)

    def commands(self) -> dict[str, "Parser"]:
        """Parsers of the commands below this one, by name."""
        groups = (action.choices for action in self._actions if isinstance(action, argparse._SubParsersAction))
        return next(groups, {})

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Raises UsageError for the first unknown flag, even where a required argument is missing as well."""
        args = sys.argv[1:] if args is None else args
        if self.rest is not None:
            found, unknown = super().parse_known_args(args, namespace)
            self.rest(found, unknown, self)
            return found, []
        names = self.commands()  # what follows one of them is for its own parser
        for word in itertools.takewhile(lambda word: word != "--" and word not in names, args):
            name = word.partition("=")[0]
            if name.startswith("--") and " " not in word and name not in self._option_string_actions:
                if commands := self.owners.get(name):
                    listed = ", ".join(f"`{command}`" for command in commands)
                    self.error(f"{name} is an option of {listed}, not of `{self.prog}`")
                self.error(
                    f"there is no option {name}{did_you_mean(name, [*self._option_string_actions, *self.others])}"
                )
        found, unknown = super().parse_known_args(self._sorted(args) if self.sorts else args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return found, unknown

    def _sorted(self, args: Iterable[str]) -> list[str]:
        """Words that are no option's, then the options with their values (what follows `--` is no option)."""
        options: list[str] = []
        words: list[str] = []
        rest = iter(args)
        for word in rest:
            if word == "--":
                return [*options, word, *words, *rest]
            option = self._option_string_actions.get(word)
            if option is None and not word.startswith("--"):
                words.append(word)
            else:
                options.append(word)
            if option is not None and option.nargs is None:  # `--seed=3` is one word, and no option's name
                options.extend(itertools.islice(rest, 1))
        return [*words, *options]

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            name = action.option_strings[0] if action.option_strings else str(action.metavar).lower()
            hint = did_you_mean(value, action.choices) or f"; there are {', '.join(action.choices)}"
            self.error(f"there is no {name} {value!r}{hint}")

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}{'' if message.endswith('?') else '.'} See `{self.prog} --help`")


class _Formatter(argparse.HelpFormatter):
    """Shows the default of every option that takes a value; keeps the lines of lists and examples."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=28)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        """Paragraphs as wide as the terminal; of paragraphs with indented lines, each line by itself."""

        def fill(line: str) -> str:
            if line.startswith("    progan "):
                return line[2:]  # an example is not broken
            below = " " * 28 if line.startswith(" ") else ""
            return textwrap.fill(line, width, subsequent_indent=below, break_on_hyphens=False)

        paragraphs = [each if "\n " in each else each.replace("\n", " ") for each in text.split("\n\n")]
        return "\n\n".join("\n".join(map(fill, paragraph.split("\n"))) for paragraph in paragraphs)

    def _get_help_string(self, action: argparse.Action) -> str:
        text = (action.help or "")[:1].upper() + (action.help or "")[1:]
        if not action.option_strings or action.required or action.nargs == 0 or "(default: " in text:
            return text
        return text + (" (default: none)" if action.default in (None, []) else " (default: %(default)s)")

    def _split_lines(self, text: str, width: int) -> list[str]:
        return textwrap.wrap(text, width, break_on_hyphens=False)


def add_flags(group: "argparse._ActionsContainer", options: Iterable[Option]) -> None:
    """A flag for every option; what is not given is absent from the namespace."""
    for option in options:
        settings: dict[str, Any] = {"dest": option.name, "default": argparse.SUPPRESS, "help": _help(option)}
        if option.type is bool:
            settings["action"] = argparse.BooleanOptionalAction
        else:
            settings["metavar"] = _metavar(option)
        group.add_argument(f"--{flag(option.name)}", **settings)


def add_source(parser: Parser) -> None:
    """The trained generator that a command uses, `source`; `pretrained.locate` makes a path of it."""
    text = f"a run folder, a .safetensors file, or the name of a generator in the package (default: {DEFAULT})"
    parser.add_argument("source", metavar="RUN|SNAPSHOT", nargs="?", default=DEFAULT, help=text)
    parser.sorts = True


def beside(source: Path, name: str) -> Path:
    """Where a result goes by default: into a run's folder, beside a snapshot with its name in front; of a generator of
    the package into the working directory.
    """
    if is_inside(source):
        return Path(name)
    return source / name if source.is_dir() else source.with_name(f"{source.stem}-{name}")


def add_label_flags(parser: Parser, text: str) -> None:
    """`--label NAME`, of which `text` is the help, and `--label-index N`: one list `label` of str and int, in order."""
    parser.add_argument("--label", action="append", default=[], metavar="NAME", help=text)
    help = "index of a class, from 0, instead of its name; may be repeated, too"
    parser.add_argument("--label-index", dest="label", action="append", type=int, metavar="N", help=help, default=[])


def note_numbered(names: Sequence[str], labels: Iterable[str | int]) -> None:
    """Say where `--label` takes numbers because the classes have no names."""
    if names and any(isinstance(label, str) for label in labels) and list(names) == [str(i) for i in range(len(names))]:
        log_line("note: these classes are called by their numbers, so --label takes what --label-index takes")


def _help(option: Option) -> str:
    """Documentation and default. Where that is None or empty, the documentation ends with `Default: ….`"""
    text, _, default = option.doc.replace("%", "%%").removesuffix(".").partition(" Default: ")
    if isinstance(option.default, bool):
        default = "yes" if option.default else "no"
    elif option.default not in (None, ""):
        default = f"{option.default:g}" if isinstance(option.default, float) else option.default
    return f"{text.removesuffix('.')} (default: {default})"


def _metavar(option: Option) -> str:
    members = typing.get_args(option.type) or (option.type,)
    if typing.get_origin(option.type) is typing.Literal:
        return "{" + ",".join(map(str, members)) + "}"
    return {int: "N", float: "X", str: option.name.upper(), PerResolution: "X|R:X,…"}[members[0]]


def check_truncation(value: float) -> None:
    """Raise ConfigError for what is no --truncation; say what becomes of pictures beyond 1."""
    if not -100 <= value <= 100:  # which nan is not
        raise ConfigError(f"--truncation must be a number about 0 to 1; got {value}")
    if abs(value) > 1:
        log_line(f"note: --truncation {value:g} goes beyond what the generator was trained for: pictures get stranger")


def check_resolution(value: int | None) -> None:
    """Raise ConfigError for what is no --resolution of pictures."""
    if value is not None and value not in RESOLUTIONS:
        raise ConfigError(f"--resolution must be a power of two from 4 to 1024; got {value}")


def refuse(arguments: argparse.Namespace, names: str, reason: str) -> None:
    """Raise ConfigError for the first option of `names`, in words, that is given: it would do nothing.

    An option is given if it has a value other than None, False or an empty list.
    """
    for name in names.split():
        value = getattr(arguments, name.replace("-", "_"))
        if not (value is None or value is False or value == []):
            raise ConfigError(f"--{name} {reason}")


def given(arguments: argparse.Namespace, cls: type) -> dict[str, Any]:
    """Options of a config dataclass that the command line gives, as values of their types. Raises ConfigError."""
    values = vars(arguments)
    return {o.name: coerce(o.name, values[o.name], o.type) for o in options(cls) if o.name in values}


def written(parser: Parser, values: argparse.Namespace, leave: Sequence[str] = ()) -> list[str]:
    """Words of a command line that gives these values, positional arguments first, without some."""
    words: list[str] = []
    for action in sorted(parser._actions, key=lambda action: bool(action.option_strings)):
        value = getattr(values, action.dest, None)
        if action.dest in leave or value is None or value == action.default:
            continue
        if isinstance(action, argparse.BooleanOptionalAction):
            words.append(action.option_strings[0 if value else 1])
        elif action.nargs == 0:
            words.append(action.option_strings[-1])
        elif not action.option_strings:
            words.append(str(value))
        else:  # a value that begins with a hyphen would be taken for another option
            name = action.option_strings[-1]
            words += [f"{name}={value}"] if str(value).startswith("-") else [name, str(value)]
    return words


def answer(arguments: argparse.Namespace, facts: Mapping[str, Any], text: str | None) -> int:
    """Print the outcome of a command: with --json one JSON object, else the text if there is one. Returns 0."""
    if arguments.json:
        print(json_text(facts))
    elif text is not None:
        print(text)
    return 0
