"""The command line: `progan COMMAND`. Each command is a module with `register`; torch is imported when one runs."""

import contextlib
import io
import os
import sys
from collections.abc import Sequence

import progan
from progan.cli import cache, compare, data, doctor, evaluate, importing, prepare, report, sample, train
from progan.cli.flags import Parser, UsageError
from progan.errors import ProganError
from progan.progress import warn


def parser() -> Parser:
    """Of all commands."""
    top = Parser("progan", "Train Progressive GANs on your own images, and use them.")
    top.add_argument("--version", action="version", version=f"progan {progan.__version__}")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in (train, prepare, data, cache, sample, evaluate, compare, report, importing, doctor):
        command.register(commands)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command. Gives 0, 2 for a mistake of the user's, 3 for a run that diverged, 4 for one that does
    not fit into the memory, 130 after Ctrl-C.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names of files need not be Unicode
    try:
        return _run(arguments)
    finally:
        _drop_what_nobody_reads()


def _run(arguments: Sequence[str] | None) -> int:
    try:
        options = parser().parse_args(arguments)
        return int(options.run(options) or 0)
    except (ProganError, UsageError) as error:
        return _fail(str(error), getattr(error, "exit_code", 2))
    except KeyboardInterrupt:
        return _fail("stopped", 130)
    except BrokenPipeError:  # `progan … | head`
        return 0
    except OSError as error:  # of a file that was named, or of the disk
        place = error.filename2 or error.filename
        return _fail(f"{place}: {error.strerror}. Mend that, or choose another place" if place else str(error))


def _drop_what_nobody_reads() -> None:
    """Python would try to write it once more at its end, and exit with 120 when that fails too."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _fail(message: str, code: int = 2) -> int:
    warn(f"progan: {' '.join(message.splitlines())}")
    return code
