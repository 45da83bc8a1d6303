"""Errors that are the user's to mend: one line that says what to do, an exit code, no traceback."""

from collections.abc import Iterable
from typing import ClassVar


class ProganError(Exception):
    """Base of every error a user can cause and can mend."""

    exit_code: ClassVar[int] = 2


class ConfigError(ProganError):
    """A setting that cannot be, or one the chosen model or loss does not have."""


class DatasetError(ProganError):
    """Images that cannot be read, prepared or trained on."""


class SnapshotError(ProganError):
    """A file that is not a snapshot of ours, or one that lacks what was asked of it."""


class RunError(ProganError):
    """A run folder that cannot be written, continued or read."""


class ProcessError(ProganError):
    """Another of the processes that train together is gone."""


class DeviceError(ProganError):
    """A device or numeric precision that this machine does not have."""


class DivergenceError(RunError):
    """A run whose numbers went bad for good."""

    exit_code = 3


class MemoryShortError(RunError):
    """A run that does not fit into the memory there is."""

    exit_code = 4


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """End of an error about a misspelt name: `; did you mean mnist32?`, or nothing if no choice is like the word."""
    import difflib

    close = difflib.get_close_matches(word, list(choices), n=1)
    return f"; did you mean {close[0]}?" if close else ""
