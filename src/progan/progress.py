"""Progress bars and lines for people, on standard error."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Log = Callable[[str], None]
"""Callback that shows people a line."""


MEASURABLE = 0.05
"""Seconds below which a count says nothing about speed."""


def speed(count: float, seconds: float, unit: str = "img") -> str:
    """`1,234 img/s`, `0.25 img/s`; empty where the time is too short to tell."""
    if seconds < MEASURABLE:
        return ""
    rate = count / seconds
    return f"{rate:,.0f} {unit}/s" if rate >= 100 else f"{rate:.3g} {unit}/s"


@contextmanager
def progress_bar(title: str, unit: str = "img", hidden: bool = False) -> Iterator[Callable[[int, int], None]]:
    """Callback (done, total) that draws a bar on a terminal, and nothing elsewhere or where `hidden`.

    The speed leaves out what was done at the first call, which may be the work of an interrupted command.
    """
    from tqdm import tqdm

    with tqdm(desc=title, unit=unit, unit_scale=True, disable=hidden or not on_terminal(), leave=False) as bar:

        def show(done: int, total: int) -> None:
            if bar.total is None:
                bar.initial = bar.n = bar.last_print_n = done
            bar.total = total
            bar.update(done - bar.n)

        yield show


def on_terminal() -> bool:
    """True if standard error is a terminal; without a console, as under pythonw, there is none at all."""
    return sys.stderr is not None and not getattr(sys.stderr, "closed", False) and sys.stderr.isatty()


def silent(text: str) -> None:
    """Log that shows nothing."""


def log_line(text: str) -> None:
    """Write a line to standard error, above a progress bar if there is one. Never fails, even if the stream is gone."""
    if sys.stderr is None:
        return
    from tqdm import tqdm

    with contextlib.suppress(OSError, ValueError):  # the terminal is gone, or the stream is closed
        tqdm.write(text, file=sys.stderr)
        sys.stderr.flush()


def duration(seconds: float) -> str:
    """`45 s`, `12 min`, `3 h 20 min`, `4 d 3 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"
