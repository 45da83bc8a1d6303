"""A bar for work that knows how much of it is done."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Say = Callable[[str], None]
"""Something that tells people a line."""


@contextmanager
def progress_bar(title: str, unit: str = "img", hidden: bool = False) -> Iterator[Callable[[int, int], None]]:
    """Something to tell (done, total): a bar on a terminal, nothing elsewhere or where `hidden`."""
    from tqdm import tqdm

    with tqdm(desc=title, unit=unit, unit_scale=True, disable=hidden or not sys.stderr.isatty(), leave=False) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield show


def warn(text: str) -> None:
    """A line on standard error, above a progress bar if there is one. Never fails, even where nobody listens."""
    from tqdm import tqdm

    with contextlib.suppress(OSError, ValueError):  # the terminal is gone, or the stream is closed
        tqdm.write(text, file=sys.stderr)
        sys.stderr.flush()
