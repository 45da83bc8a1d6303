"""A folder that one process at a time works in. The lock ends with the process, however that ends."""

import contextlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LOCK_NAME = ".lock"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Make the folder, wait until no other process holds it, and hold it; if it is empty at the end, it goes."""
    descriptor = _lock(folder)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # Windows keeps open files
            (folder / LOCK_NAME).unlink()
        os.close(descriptor)
        with contextlib.suppress(OSError):  # of a folder that is not empty
            folder.rmdir()


def _lock(folder: Path) -> int:
    path = folder / LOCK_NAME
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_LOCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX)
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor
        os.close(descriptor)  # its last holder removed the file while we waited
