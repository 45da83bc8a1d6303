"""Files on a disk that may fail, in folders that others may use.

Files are written whole: a reader finds the old content or the new one, never a part of it. Logs only grow. What cannot
be written is kept or tried again. A folder is locked by one process at a time.
"""

import contextlib
import errno
import os
import re
import shlex
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from progan.errors import ConfigError
from progan.progress import log_line

UNFINISHED = ".progan-tmp"
"""Suffix of a file that is being written."""
_PATIENCE = (0.02, 0.08, 0.3, 0.6)
"""Seconds between attempts to replace a file on Windows."""
_LONGEST_NAME = 80
"""Characters: more stands around it, and a name has at most 255 bytes, a path on Windows 260 characters."""
MOST_WAITING = 8
"""Number of files that a queue keeps in memory while the disk is full."""


def word(path: str | Path) -> str:
    """A path as a word of a command line that is shown to be copied."""
    return shlex.quote(str(path))


def printable(name: str) -> str:
    """Name of a file as it can be shown and stored anywhere: bytes that are not UTF-8 are escaped, as in `caf\\xe9`."""
    try:
        return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # halves of characters, as Windows and JSON may have them
        return name.encode("utf-8", "backslashreplace").decode()


def write_whole(path: Path, *content: bytes | memoryview, sync: bool = True) -> None:
    """Write the pieces to a temporary file beside `path`, force it to the disk unless not `sync`, and rename it."""
    if not path.name:
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    temporary = path.with_name(path.name + UNFINISHED)
    try:
        with temporary.open("wb") as file:
            for piece in content:
                file.write(piece)
            if sync:
                file.flush()
                os.fsync(file.fileno())
        _replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    if sync:
        _sync_folder(path.parent)


def _replace(temporary: Path, path: Path) -> None:
    """Rename over a file. Windows refuses that while another program reads it: wait for a second."""
    for seconds in _PATIENCE if os.name == "nt" else ():
        try:
            return os.replace(temporary, path)
        except PermissionError:
            time.sleep(seconds)
    return os.replace(temporary, path)


def folder_name(text: str) -> str:
    """The text as part of a folder's name on any system: without `:` and the like, and not too long."""
    return re.sub(r'[\x00-\x1f<>:"/\\|?*]', "-", text)[:_LONGEST_NAME].rstrip(". ")


def output_path(out: str, name: str, suffixes: Sequence[str]) -> Path:
    """The file that a command is to write: `out` if it has one of the suffixes, `name` in it if it is a folder.

    A folder is what exists as one, or ends with a separator; folders are made. Raises ConfigError for anything else.
    """
    path = Path(out)
    if path.is_dir() or out.endswith((os.sep, "/")):
        path = path / name
    elif path.suffix.lower() not in suffixes:
        raise ConfigError(f"cannot write {out}: its name must end in {', '.join(suffixes)}, or be a folder's")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot write {out}: {error.strerror}: {error.filename}") from None
    return path


def remove_unfinished(folder: Path) -> None:
    """Delete what killed processes left half-written in a folder and those below it."""
    for path in folder.rglob(f"*{UNFINISHED}"):
        with contextlib.suppress(OSError):
            path.unlink()


class FileQueue:
    """Queue of files to be written whole. Those that cannot be written now are tried again, the newest eight."""

    def __init__(self) -> None:
        self._waiting: dict[Path, tuple[bytes | memoryview, ...]] = {}

    def put(self, path: Path, *content: bytes | memoryview) -> None:
        """Write a file and all that wait; after an OSError it waits, too."""
        self._waiting[path] = content
        for oldest in list(self._waiting)[:-MOST_WAITING]:
            del self._waiting[oldest]
        self.flush()

    def flush(self) -> None:
        """Write all files that wait."""
        for path, content in list(self._waiting.items()):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, *content)
            del self._waiting[path]


class AppendOnlyFile:
    """File that only grows. Content that cannot be written now is kept, and written before the next."""

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


class PendingWrites:
    """Outputs of a run that could not be written yet, each with the reason."""

    def __init__(self, log: Callable[[str], None]) -> None:
        self.log = log
        self.unwritten: dict[str, str] = {}
        """Names of outputs that cannot be written, and why."""

    @contextmanager
    def attempt(self, name: str, settles: bool = True) -> Iterator[None]:
        """Context in which an output is written. An OSError is logged once for each cause, not raised.

        With `settles`, leaving without an error means that nothing of the output is pending.
        """
        try:
            yield
        except OSError as error:
            reason = error.strerror or str(error)
            if self.unwritten.get(name) != reason:
                self.log(f"warning: {name} cannot be written: {reason}. Training goes on; the next tick tries again")
            self.unwritten[name] = reason
        else:
            if settles and self.unwritten.pop(name, ""):
                self.log(f"{name} can be written again")

    def __str__(self) -> str:
        by_reason: dict[str, list[str]] = {}
        for name, reason in self.unwritten.items():
            by_reason.setdefault(reason, []).append(name)
        return "; ".join(f"{', '.join(names)} ({reason})" for reason, names in by_reason.items())


LOCK_NAME = ".lock"
_LOCKED_BYTE = 1 << 30
"""Position of the locked byte on Windows, which does not let others read it."""


class HeldError(Exception):
    """Raised where another process holds the folder; the text says which."""


class NoLocksError(OSError):
    """Raised where the file system has no locks."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Make the folder, wait, and say so, until no other process holds it, and hold it; if empty at the end, it goes."""
    try:
        claim = Claim(folder)
    except HeldError as holder:
        log_line(f"waiting until {holder} is done with {folder}")
        claim = Claim(folder, wait=True)
    try:
        yield
    finally:
        claim.release()
        with contextlib.suppress(OSError):  # of a folder that is not empty
            folder.rmdir()


class Claim:
    """Folder, made if need be, that this process holds. Raises HeldError unless it is to wait, and OSError."""

    def __init__(self, folder: Path, wait: bool = False) -> None:
        self._path = folder / LOCK_NAME
        self._descriptor = self._take(wait)

    @property
    def holds(self) -> bool:
        """True if the locked file is still in the folder."""
        try:
            return os.path.samestat(os.fstat(self._descriptor), self._path.stat())
        except FileNotFoundError:
            return False

    def renew(self) -> None:
        """Make and hold the folder again after it was moved or deleted. Raises as at first."""
        descriptor = self._take(wait=False)
        os.close(self._descriptor)
        self._descriptor = descriptor

    def release(self) -> None:
        """Release the folder."""
        with contextlib.suppress(OSError):  # Windows keeps open files
            if self.holds:
                self._path.unlink()
        os.close(self._descriptor)

    def _take(self, wait: bool) -> int:
        while True:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o666)
            try:
                _lock(descriptor, wait)
                os.ftruncate(descriptor, 0)
                os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode())
                if os.path.samestat(os.fstat(descriptor), self._path.stat()):
                    return descriptor
            except FileNotFoundError:  # its last holder removed it while we waited
                pass
            except BlockingIOError:
                holder = os.read(descriptor, 1000).decode(errors="replace")
                os.close(descriptor)
                raise HeldError(holder or "another process") from None
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)


def _lock(descriptor: int, wait: bool) -> None:
    """Lock a file. Raises BlockingIOError if another process holds it, NoLocksError if there are no locks here."""
    if sys.platform == "win32":
        import msvcrt

        os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)
        except PermissionError:
            raise BlockingIOError from None
        finally:
            os.lseek(descriptor, 0, os.SEEK_SET)
    else:
        import fcntl

        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            raise
        except OSError as error:
            if error.errno in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL):
                raise NoLocksError(error.errno, error.strerror) from None
            raise
