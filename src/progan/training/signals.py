"""Ctrl-C, SIGTERM and a closed terminal: the first asks the run to save and stop, the second stops it at once."""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

NAMES = ("SIGINT", "SIGTERM", "SIGHUP")


class StopRequest:
    """Whether somebody wants the run to end."""

    def __init__(self) -> None:
        self.signal: int | None = None
        """The number of the signal that asked first."""

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
    """While inside, the signals set the request; the handlers of before come back afterwards.

    A SIGHUP that is ignored, as under nohup, stays so.
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
