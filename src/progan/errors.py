"""Errors that users can fix: one line that says what to do, an exit code, no traceback."""

from collections.abc import Iterable
from typing import ClassVar


class ProganError(Exception):
    """Base of all errors that a user can cause and fix."""

    exit_code: ClassVar[int] = 2


class ConfigError(ProganError):
    """A setting with an impossible value, or one that the chosen model or loss does not have."""


class UnknownKindError(ConfigError):
    """A model or a loss that no installed package has."""


class DatasetError(ProganError):
    """Images that cannot be read, prepared or trained on."""


class SnapshotError(ProganError):
    """A file that is not a snapshot of progan, or a snapshot without what was asked for."""


class ExportError(ProganError):
    """A snapshot that cannot be exported, or an export that cannot be written."""


class RunError(ProganError):
    """A run folder that cannot be written, continued or read."""


class ProcessError(ProganError):
    """One of the processes that train together has ended."""


class DeviceError(ProganError):
    """A device or numeric precision that this machine does not have."""


class DivergenceError(RunError):
    """A run that diverged and was stopped."""

    exit_code = 3


class MemoryShortError(RunError):
    """A run that does not fit into the free memory."""

    exit_code = 4


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """End of an error about a misspelt name: `; did you mean mnist32?`, or nothing if no choice is like the word."""
    import difflib

    close = difflib.get_close_matches(word, list(choices), n=1)
    return f"; did you mean {close[0]}?" if close else ""
