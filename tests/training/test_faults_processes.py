"""Faults that end a process: real ones are killed, signalled and locked out."""

import contextlib
import os
import signal
import socket
import subprocess
import sys

import pytest

import progan
from faults import command, wait_for
from progan.errors import RunError
from progan.files import UNFINISHED
from progan.training.signals import stop_on_signals
from progan.training.state import StateFolder
from tiny import TINY, assert_equal_weights

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals"),
    pytest.mark.usefixtures("own_cache"),
]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nothing happened to."""
    return progan.train(out=tmp_path_factory.mktemp("whole") / "run", **TINY)


@pytest.fixture
def start():
    """Starts a process; whatever a test leaves behind, as one that fails does, is killed at its end."""
    with contextlib.ExitStack() as started:

        def popen(arguments: list[str]) -> "subprocess.Popen[str]":
            process = started.enter_context(subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True))
            started.callback(process.kill)
            return process

        yield popen


@pytest.mark.slow
def test_a_second_process_is_refused_and_a_killed_one_is_gone_on_with(start, whole, tmp_path):
    out = tmp_path / "run"
    process = start(command(out))
    wait_for(lambda: bool(StateFolder(out / "state").positions()), process)
    holder = f"process {process.pid} on {socket.gethostname()}"
    with pytest.raises(RunError, match=f"run is in use: {holder} trains there") as error:
        progan.train(out=out, **TINY)
    assert "\n" not in str(error.value)
    process.kill()
    process.communicate()
    assert (out / ".lock").exists()
    assert progan.train(out=out, **TINY).finished
    assert_equal_weights(whole.path, out)
    assert not (out / ".lock").exists()


DIES_IN_A_WRITE = """
import os, signal, sys
from progan import files
from progan.cli import main

left = 2
original = os.replace

def replace(source, target):
    global left
    left -= target.parent.name == "state"
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    original(source, target)

files.os.replace = replace
main(sys.argv[1:])
"""


@pytest.mark.slow
def test_a_run_killed_while_it_writes_a_state_leaves_nothing_and_goes_on(start, whole, tmp_path):
    out = tmp_path / "run"
    process = start([sys.executable, "-c", DIES_IN_A_WRITE, *command(out)[3:]])
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    left = list((out / "state").glob(f"*{UNFINISHED}"))
    assert len(left) == 1
    assert len(StateFolder(out / "state").positions()) == 1
    left[0].rename(
        left[0].with_name(f"another{UNFINISHED}")
    )  # else the same state, if it is written again, takes its place
    assert progan.train(out=out, **TINY).finished
    assert not list(out.rglob(f"*{UNFINISHED}"))
    assert_equal_weights(whole.path, out)


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_the_second_signal_stops_at_once(start, number, tmp_path):
    out = tmp_path / "run"
    process = start(command(out, schedule_every=65536))  # a block that does not end: the first only asks
    wait_for((out / "stats.jsonl").exists, process)
    process.send_signal(number)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=0.5)
    process.send_signal(number)
    _, err = process.communicate(timeout=400)
    assert process.returncode == 128 + number
    assert "Traceback" not in err
    assert StateFolder(out / "state").positions() == []


@pytest.mark.slow
def test_a_closed_terminal_saves(start, tmp_path):
    out = tmp_path / "run"
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may run under nohup
    try:
        process = start(command(out, total_kimg=500))
    finally:
        signal.signal(signal.SIGHUP, before)
    wait_for((out / "stats.jsonl").exists, process)
    process.stderr.close()
    process.send_signal(signal.SIGHUP)
    assert process.wait(timeout=400) == 128 + signal.SIGHUP
    assert StateFolder(out / "state").positions()[-1] > 0


@pytest.mark.slow
def test_nobody_reading_what_it_says_does_not_end_a_run(start, whole, tmp_path):
    process = start(command(tmp_path / "run"))
    process.stderr.readline()
    process.stderr.close()
    process.wait(timeout=400)
    assert_equal_weights(whole.path, tmp_path / "run")


def test_a_mistake_that_nobody_reads_about_has_its_exit_code():
    reading, writing = os.pipe()
    os.close(reading)
    try:
        show = [sys.executable, "-m", "progan", "data", "show", "nowhere"]
        assert subprocess.run(show, stderr=writing, check=False).returncode == 2
    finally:
        os.close(writing)


def test_under_nohup_a_closed_terminal_does_nothing():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_on_signals() as stopped:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stopped()
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_the_handlers_of_before_come_back():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    with stop_on_signals() as stopped:
        os.kill(os.getpid(), signal.SIGTERM)
        assert stopped()
        assert stopped.signal == signal.SIGTERM
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == before
