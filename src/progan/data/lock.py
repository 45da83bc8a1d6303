"""A folder that one process at a time works in. The lock ends with the process, however that ends."""

import contextlib
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LOCK_NAME = ".lock"
_LOCKED_BYTE = 1 << 30
"""Of the file, on Windows, which does not let others read the byte that is locked."""


class HeldError(Exception):
    """Another process holds the folder; the text says which."""


class NoLocksError(OSError):
    """The file system knows no locks."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Make the folder, wait until no other process holds it, and hold it; if it is empty at the end, it goes."""
    claim = Claim(folder, wait=True)
    try:
        yield
    finally:
        claim.release()
        with contextlib.suppress(OSError):  # of a folder that is not empty
            folder.rmdir()


class Claim:
    """A folder, made if need be, that this process holds. Raises HeldError unless it is to wait, and OSError."""

    def __init__(self, folder: Path, wait: bool = False) -> None:
        self._path = folder / LOCK_NAME
        self._descriptor = self._take(wait)

    @property
    def holds(self) -> bool:
        """Whether the file that is locked still lies in the folder."""
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
        """Let others have it."""
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
    """Raises BlockingIOError if another holds it, NoLocksError if there are none here."""
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
        import errno
        import fcntl

        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            raise
        except OSError as error:
            if error.errno in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL):
                raise NoLocksError(error.errno, error.strerror) from None
            raise
