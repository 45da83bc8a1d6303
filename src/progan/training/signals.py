"""Signals: the first Ctrl-C, SIGTERM or closed terminal asks a run to save and stop, the second stops it at once."""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

NAMES = ("SIGINT", "SIGTERM", "SIGHUP")


class StopRequest:
    """Request to stop a run; call it to see if there was one."""

    def __init__(self) -> None:
        self.signal: int | None = None
        """Number of the first signal."""

    def __call__(self) -> bool:
        return self.signal is not None

    def handle(self, number: int, frame: FrameType | None) -> None:
        if self.signal is None:
            self.signal = number
        elif number == signal.SIGINT:
            raise KeyboardInterrupt
        else:
            sys.exit(128 + number)


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Request that is set by signals while inside; the handlers of before are restored afterwards.

    A SIGHUP that is ignored, as under nohup, stays ignored.
    """
    request = StopRequest()
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
