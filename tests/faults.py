"""Small runs to be harmed, in this process and in one of their own."""

import errno
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import progan
from progan.training import loop
from progan.training.observers.base import Observer
from tiny import TINY, flags


class At(Observer):
    """Calls something once, before the files of the first tick at or after so many images are written."""

    def __init__(self, calls: dict[int, Callable[[], object]]) -> None:
        self._calls = dict(sorted(calls.items()))

    def on_tick(self, tick, state):
        for nimg in [nimg for nimg in self._calls if nimg <= tick.cur_nimg]:
            self._calls.pop(nimg)()


class StopAt(Observer):
    """Stops a run at the first evaluation of the schedule at or after so many images."""

    def __init__(self, nimg: int) -> None:
        self._nimg, self._reached = nimg, 0

    def on_progress(self, cur_nimg, stage):
        self._reached = cur_nimg

    def __call__(self) -> bool:
        return self._reached >= self._nimg


def train_with(patch, out: Path, observer: Observer, stop: StopAt | None = None, **options) -> progan.Run:
    """A tiny run that an observer watches before all others."""
    original = loop.train
    first = [observer] if stop is None else [observer, stop]

    def watched(job, watching, stopped, *_):
        return original(job, [*first, *watching], stop or stopped)

    with patch.context() as inner:
        inner.setattr("progan.run.train_job", watched)
        return progan.train(out=out, **{**TINY, **options})


def no_space(*_: object) -> None:
    """In the place of a system call: a full disk."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def command(out: Path, **options) -> list[str]:
    """The command line of a tiny run."""
    return [sys.executable, "-m", "progan", "train", *flags(**options), "--out", str(out)]


def wait_for(condition: Callable[[], bool], process: "subprocess.Popen[str]") -> None:
    """Until it holds; fails where the process ends before."""
    deadline = time.monotonic() + 400
    while not condition():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.01)
