"""What stops a run: a signal or a time limit.

The first Ctrl-C, SIGTERM or closed terminal asks it to save and stop, the second stops it at once.
"""

import math
import re
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from progan.errors import ConfigError

NAMES = ("SIGINT", "SIGTERM", "SIGHUP")


class StopRequest:
    """Request to stop a run; call it to see if there was one, or if the monotonic clock shows `until`, in seconds."""

    def __init__(self, until: float) -> None:
        self._until = until
        self.signal: int | None = None
        """Number of the first signal."""

    def __call__(self) -> bool:
        return self.signal is not None or time.monotonic() >= self._until

    def handle(self, number: int, frame: FrameType | None) -> None:
        if self.signal is None:
            self.signal = number
        elif number == signal.SIGINT:
            raise KeyboardInterrupt
        else:
            sys.exit(128 + number)


@contextmanager
def stop_on_signals(until: float = math.inf) -> Iterator[StopRequest]:
    """Request that is set by signals while inside, and by time; the handlers of before are restored afterwards.

    A SIGHUP that is ignored, as under nohup, stays ignored.
    """
    request = StopRequest(until)
    if threading.current_thread() is not threading.main_thread():  # only the main thread may install handlers
        yield request
        return
    numbers = [getattr(signal, name) for name in NAMES if hasattr(signal, name)]  # Windows has no SIGHUP
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
    if not 0 < found < math.inf:
        raise ConfigError(f"--for must be a duration such as 50m, 2h or 1h30m; got {duration!r}")
    return found
