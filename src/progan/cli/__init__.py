"""The command line: `progan COMMAND`. A command is a file of this folder and a line of COMMANDS.

Files are imported at once, torch only when a command runs.
"""

import contextlib
import io
import os
import sys
from collections.abc import Callable, Sequence

import progan
from progan.cli import (
    app,
    cache,
    compare,
    completion,
    data,
    doctor,
    evaluate,
    export,
    find,
    importing,
    interpolate,
    prepare,
    report,
    sample,
    share,
    submit,
    sweep,
    train,
)
from progan.cli.base import Parser, Run, UsageError
from progan.errors import ProganError
from progan.export import EXPORTERS
from progan.progress import log_line
from progan.submit import TARGETS

__all__ = ["COMMANDS", "UsageError", "main", "parser"]

COMMANDS: dict[str, tuple[Callable[[Parser], None], Run]] = {
    "train": (train.add_arguments, train.run),
    "prepare": (prepare.add_arguments, prepare.run),
    "data show": (data.add_show_arguments, data.show),
    "data split": (data.add_split_arguments, data.split),
    "data diff": (data.add_diff_arguments, data.diff),
    "cache list": (lambda parser: None, cache.show),
    "cache clear": (lambda parser: None, cache.clear),
    "sample": (sample.add_arguments, sample.run),
    "interpolate": (interpolate.add_arguments, interpolate.run),
    "video": (interpolate.add_video_arguments, interpolate.video),
    "find": (find.add_arguments, find.run),
    "evaluate": (evaluate.add_arguments, evaluate.run),
    "compare": (compare.add_arguments, compare.run),
    "sweep": (sweep.add_arguments, sweep.run),
    "report": (report.add_arguments, report.run),
    "app": (app.add_arguments, app.run),
    **{f"export {kind}": export.command(kind) for kind in EXPORTERS},
    "share": (share.add_arguments, share.run),
    "import": (importing.add_arguments, importing.run),
    **{f"submit {kind}": submit.command(kind) for kind in TARGETS},
    "doctor": (lambda parser: None, doctor.run),
    "completion": (completion.add_arguments, completion.run),
}
"""Command -> what adds its arguments, what carries it out (and has its help as docstring)."""
GROUPS = {
    "data": "look at a dataset, split it, or compare two",
    "cache": "list or delete datasets that were prepared for --data",
    "export": "take a generator along: ONNX, a page for the browser, an Android app",
    "submit": "train or compare on a cluster or cloud",
}
"""First word of commands of two words -> its help."""


def parser() -> Parser:
    """Parser of the whole command line; the namespace it gives has the command's function as `run`."""
    top = Parser(prog="progan", description="Train Progressive GANs on your own images, and use them.")
    top.add_argument("--version", action="version", version=f"progan {progan.__version__}")
    homes = {"": top.add_subparsers(title="commands", metavar="COMMAND", required=True)}
    owners: dict[str, list[str]] = {}
    for command, (add_arguments, run) in COMMANDS.items():
        group, _, name = command.rpartition(" ")
        if group not in homes:
            inner = homes[""].add_parser(group, help=GROUPS[group])
            homes[group] = inner.add_subparsers(title="commands", metavar="COMMAND", required=True)
        leaf = homes[group].add_parser(name, run=run, help=(run.__doc__ or ".").splitlines()[0][:-1])
        add_arguments(leaf)
        leaf.owners = owners
        for flag in leaf._option_string_actions:
            owners.setdefault(flag, []).append(leaf.prog)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command. Returns its exit code: 0, 2 for a mistake of the user's, 3 for a run that diverged, 4 for one
    that does not fit into the memory, 130 after Ctrl-C.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names of files need not be Unicode
    try:
        options = parser().parse_args(arguments)
        return int(options.run(options))
    except ProganError as error:
        return _fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        return _fail("stopped", 130)
    except BrokenPipeError:  # `progan … | head`
        return 0
    except OSError as error:  # of a file that was named, or of the disk
        place = error.filename2 or error.filename
        return _fail(f"{place}: {error.strerror}. Fix this, or choose another place" if place else str(error))
    finally:
        # What nobody reads, Python would try to write once more at its end, and exit with 120 when that fails too.
        for stream in filter(None, (sys.stdout, sys.stderr)):  # a program without a console has none
            try:
                stream.flush()
            except (OSError, ValueError):
                with contextlib.suppress(OSError, ValueError):
                    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _fail(message: str, code: int = 2) -> int:
    log_line(f"progan: {' '.join(message.splitlines())}")
    return code
