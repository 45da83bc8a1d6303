"""What stops a run: a signal, a time limit, or a file in its folder.

The first Ctrl-C, SIGTERM or closed terminal asks it to save and stop, the second stops it at once. The file is for
those who do not have its terminal: another program, or somebody on another machine that shares the disk.
"""

import contextlib
import math
import re
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from progan.errors import ConfigError

NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
LONGEST = 10**9
"""Seconds of a time limit, thirty years: larger ones are mistakes, and might not be numbers of a clock."""
LOOK_EVERY = 1.0
"""Seconds between two looks for the file: asking a shared disk takes time."""


class StopRequest:
    """Request to stop a run; call it to see if there was one, or if the monotonic clock shows `until`, in seconds.

    A `file` that has appeared is a request as SIGINT is, and is deleted.
    """

    def __init__(self, until: float, file: Path | None = None) -> None:
        self._until, self._file, self._next_look = until, file, -math.inf
        self.signal: int | None = None
        """Number of the first signal."""

    def __call__(self) -> bool:
        now = time.monotonic()
        if self._file is not None and now >= self._next_look:
            self._next_look = now + LOOK_EVERY
            if self.signal is None and self._file.is_file():
                self.signal = signal.SIGINT
                with contextlib.suppress(OSError):  # the next run deletes it
                    self._file.unlink()
        return self.signal is not None or now >= self._until

    def handle(self, number: int, frame: FrameType | None) -> None:
        if self.signal is None:
            self.signal = number
        elif number == signal.SIGINT:
            raise KeyboardInterrupt
        else:
            sys.exit(128 + number)


@contextmanager
def stop_on_signals(until: float = math.inf, file: Path | None = None) -> Iterator[StopRequest]:
    """Request that is set by signals while inside, by time, and by a file; the handlers of before are restored
    afterwards.

    A SIGHUP that is ignored, as under nohup, stays ignored.
    """
    request = StopRequest(until, file)
    if threading.current_thread() is not threading.main_thread():  # only the main thread may install handlers
        yield request
        return
    numbers = [getattr(signal, name) for name in NAMES if hasattr(signal, name)]  # Windows has SIGBREAK for SIGHUP
    before = {number: signal.getsignal(number) for number in numbers}
    for number, handler in before.items():
        if signal.Signals(number).name != "SIGHUP" or handler != signal.SIG_IGN:
            signal.signal(number, request.handle)
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def deadline(time_limit: str | float | None) -> float:
    """Seconds of the monotonic clock at which a time limit that begins now ends; infinite without one."""
    return math.inf if time_limit is None else time.monotonic() + seconds(time_limit)


def seconds(duration: str | float) -> float:
    """Seconds of a duration: a number of them, or words such as `90s`, `50m`, `1h30m`, `2d`. Raises ConfigError."""
    words = re.fullmatch(r"(?:(\d+)d)? *(?:(\d+)h)? *(?:(\d+)m)? *(?:(\d+)s)?", str(duration).strip())
    if words:
        days, hours, minutes, rest = (int(word or 0) for word in words.groups())
        found: float = ((days * 24 + hours) * 60 + minutes) * 60 + rest
    else:
        found = duration if isinstance(duration, int | float) else math.nan
    if not 0 < found <= LONGEST:
        raise ConfigError(f"--for must be a duration such as 50m, 2h or 1h30m; got {duration!r}")
    return found
