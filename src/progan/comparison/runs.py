"""The members of a comparison: ordinary run folders, trained in processes of their own, some at a time."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from progan.config import RunConfig
from progan.errors import RunError
from progan.run_folder import RunFolder
from progan.schedule import Schedule

_TRAIN = "import sys, progan; progan.train(out=sys.argv[1], data=sys.argv[2], quiet=True)"
_LOG = "process.log"


@dataclass(frozen=True)
class Member:
    """A model with one seed."""

    model: str
    seed: int
    config: RunConfig
    folder: RunFolder

    @property
    def name(self) -> str:
        return self.folder.path.name

    @property
    def finished(self) -> bool:
        """Whether its last state is that of the end."""
        names = [re.fullmatch(r"state-(\d+)\.safetensors", path.name) for path in self.folder.state.glob("state-*")]
        last = max((int(match[1]) for match in names if match), default=-1)
        return last >= Schedule(self.config.schedule).total_nimg


def train_all(
    members: Sequence[Member], data: Path, jobs: int, threads: int, say: Callable[[str], None], stop: Callable[[], bool]
) -> bool:
    """Train those that are not finished, `jobs` at a time; False if `stop` ended it, with all saved.

    Raises RunError where one fails; the others are stopped with their states saved.
    """
    waiting = [member for member in members if not member.finished]
    number = {member.name: f"{i + 1} of {len(members)}" for i, member in enumerate(members)}
    running: dict[str, tuple[Member, subprocess.Popen[bytes]]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < jobs and not stop():
                member = waiting.pop(0)
                say(f"training {number[member.name]}: {member.name}")
                running[member.name] = member, _start(member, data, threads)
            if stop():
                return False
            for name, (member, process) in list(running.items()):
                if process.poll() is not None:
                    del running[name]
                    _check(member, process.returncode)
            time.sleep(0.05)
        return True
    finally:
        _end([process for _, process in running.values()])


def call(arguments: Sequence[str], threads: int, **settings: object) -> "subprocess.Popen[bytes]":
    """A Python process that computes with so many threads. Ctrl-C does not reach it: we tell it to stop."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    command = [sys.executable, *arguments]
    return subprocess.Popen(command, env=environment, start_new_session=True, **settings)  # type: ignore[call-overload, no-any-return]


def _start(member: Member, data: Path, threads: int) -> "subprocess.Popen[bytes]":
    with (member.folder.path / _LOG).open("wb") as log:
        return call(["-c", _TRAIN, str(member.folder.path), str(data)], threads, stdout=log, stderr=log)


def _check(member: Member, code: int) -> None:
    if code == 0 and member.finished:
        return
    log = member.folder.path / _LOG
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    raise RunError(f"{member.name} failed: {lines[-1] if lines else f'exit code {code}'} (more in {log})")


def _end(processes: Sequence["subprocess.Popen[bytes]"]) -> None:
    """Ask all of them to save and stop, and wait for it."""
    for process in processes:
        process.terminate()
    for process in processes:
        process.wait()
