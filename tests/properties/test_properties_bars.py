"""Bars and lines of progress, however short the time: no speed that nothing has, no empty place between commas."""

import io
import re
import sys

import pytest
import tqdm.std
from hypothesis import given
from hypothesis import strategies as st

from progan import progress
from progan.cli.prepare import report_table
from progan.data.prepare.report import PrepareReport
from progan.progress import MEASURABLE, progress_bar, speed
from progan.schedule import Stage
from progan.training.meter import Tally
from progan.training.observers import console
from progan.training.observers.base import Tick
from progan.training.preflight.estimate import Pace

TIMES = st.one_of(st.sampled_from([0.0, 5e-324, 1e-9, 1e-6, 1e-3]), st.floats(0, 2))
STAGE = Stage(resolution=8, phase="stable", alpha=1.0, batch_size=8, g_lr=0.001, d_lr=0.001)
MOST = 1e6 / MEASURABLE
"""Images a second: a million in the shortest time that counts."""


def check(text: str) -> None:
    assert not re.search(r",\s*,|\[\s*,|,\s*\]|  +left|\b(nan|inf)\b|e\+\d", text), text
    for number, scale in re.findall(r"([\d.,]+)([kMGTPEZ]?) ?(?:img|images|step)/s", text):
        assert float(number.replace(",", "")) * 1000 ** " kMGTPEZ".index(scale or " ") <= 1.01 * MOST, text


@given(st.integers(0, 10**6), TIMES)
def test_speeds(count, seconds):
    check(speed(count, seconds))
    assert (speed(count, seconds) == "") == (seconds < MEASURABLE)


def test_speeds_are_written_in_full():
    assert speed(98765, 0.5) == "197,530 img/s"
    assert speed(1, 4, "step") == "0.25 step/s"


@pytest.fixture
def terminal(monkeypatch):
    """A standard error that is a terminal, and the clock of bars."""
    clock = [100.0]
    monkeypatch.setattr(tqdm.std, "time", lambda: clock[0])
    for module in (progress, console):
        monkeypatch.setattr(module, "on_terminal", lambda: True)

    def stream() -> io.StringIO:
        written = io.StringIO()
        monkeypatch.setattr(sys, "stderr", written)
        return written

    return clock, stream


STEPS = st.lists(st.tuples(st.integers(0, 10**5), TIMES), min_size=1, max_size=6)


def test_bars(terminal):
    clock, stream = terminal

    @given(STEPS, st.integers(0, 10**6))
    def draw(steps, more):
        written, done = stream(), 0
        total = sum(n for n, _ in steps) + more
        with progress_bar("sampling") as show:
            for n, seconds in steps:
                done += n
                clock[0] += seconds
                show(done, total)
        check(written.getvalue())

    draw()


def test_a_bar_leaves_out_what_an_interrupted_command_had_done(terminal):
    clock, stream = terminal
    written = stream()
    with progress_bar("sampling") as show:
        show(50_000, 100_000)
        for done in (50_001, 50_002):
            clock[0] += 1
            show(done, 100_000)
    assert "1.00img/s" in written.getvalue()
    assert "kimg/s" not in written.getvalue()


class Line:
    """A schedule of one stage, as the console needs it."""

    total_nimg = 150

    def extents(self):
        return []


@pytest.mark.parametrize("bar", [True, False])
def test_lines_of_training(terminal, monkeypatch, bar):
    clock, stream = terminal
    monkeypatch.setattr(console, "on_terminal", lambda: bar)

    @given(STEPS)
    def draw(steps):
        written, done = stream(), 0
        pace = Pace(Line(), {8: 0.1, 16: 0.4}, {})
        shown = console.Console(Line(), pace)
        none = type("None", (), {"describe": lambda self: ""})()
        state = type("State", (), {"cur_nimg": 0, "elapsed": 0.0, "tally": Tally(), "adjustments": none})
        shown.on_start(state, STAGE)
        for n, seconds in steps:
            done += n
            clock[0] += seconds
            shown.on_progress(done, STAGE)
            tick = Tick(done, STAGE, {"D/real": 1.0}, n, seconds, 0.0, 1.0, {"D": 0, "G": 0}, {"augment/p": 0.5})
            shown.on_tick(tick, state)
            assert pace.left(done) >= 0
        shown.on_end(True, state)
        check(written.getvalue())
        assert "left" in written.getvalue()

    draw()


@given(st.integers(1, 10**6), TIMES, st.sampled_from(["prepared", "already there"]))
def test_tables_of_preparations(count, seconds, state):
    report = PrepareReport(
        out="out", source="in", state=state, read=count, count=count, skipped={}, upscaled=0, resolutions=(4, 8),
        channels=3, label_kind=None, label_names=(), bytes=1, seconds=seconds,
    )  # fmt: skip
    check(report_table(report))
