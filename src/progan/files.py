"""Files written whole: a reader finds the old content or the new one, never a part of it. Logs that only grow."""

import contextlib
import errno
import os
from pathlib import Path

UNFINISHED = ".progan-tmp"
"""Ends the name of a file that is being written."""
MOST_WAITING = 8
"""Files that a shelf keeps in memory while the disk is full."""


def write_whole(path: Path, *content: bytes | memoryview) -> None:
    """Write the pieces to a temporary file beside `path`, force it to the disk, and rename it."""
    if not path.name:
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    temporary = path.with_name(path.name + UNFINISHED)
    try:
        with temporary.open("wb") as file:
            for piece in content:
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    _sync_folder(path.parent)


def remove_unfinished(folder: Path) -> None:
    """Delete what killed processes left half-written in a folder and those below it."""
    for path in folder.rglob(f"*{UNFINISHED}"):
        with contextlib.suppress(OSError):
            path.unlink()


class Shelf:
    """Files to be written whole. What cannot be written now is kept and tried again, the newest eight of them."""

    def __init__(self) -> None:
        self._waiting: dict[Path, tuple[bytes | memoryview, ...]] = {}

    def put(self, path: Path, *content: bytes | memoryview) -> None:
        """Write it and all that waits; after an OSError it waits."""
        self._waiting[path] = content
        for oldest in list(self._waiting)[:-MOST_WAITING]:
            del self._waiting[oldest]
        self.flush()

    def flush(self) -> None:
        """Write all that waits."""
        for path, content in list(self._waiting.items()):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, *content)
            del self._waiting[path]


class Log:
    """A file that only grows. What cannot be written now is kept, and written before what comes next."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._waiting = b""

    def append(self, content: bytes) -> None:
        """Write at the end, all or nothing, and force it to the disk. After an OSError the content waits."""
        self._waiting += content
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("ab", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            try:
                rest = memoryview(self._waiting)
                while rest:
                    rest = rest[file.write(rest) :]
                os.fsync(file.fileno())
            except OSError:
                file.truncate(size)
                raise
        self._waiting = b""


def _sync_folder(folder: Path) -> None:
    """Force a renaming to the disk, where the system can."""
    if os.name == "nt":
        return
    with contextlib.suppress(OSError):  # the file itself is safe, and not every file system syncs folders
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
