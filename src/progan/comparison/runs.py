"""The runs of a comparison: ordinary run folders, tried and trained in processes of their own, some at a time."""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from progan import run
from progan.config import RunConfig
from progan.data.dataset import Dataset
from progan.errors import DivergenceError, RunError
from progan.files import write_whole
from progan.progress import Log, silent
from progan.run.assemble import assemble, set_up
from progan.run_folder import DataFacts, RunFolder
from progan.schedule import Cost, Schedule, Stage
from progan.training.loop import train
from progan.training.observers.base import Observer
from progan.training.parallel.processes import ALONE
from progan.training.preflight.estimate import Operations

_TRAIN = (
    "import sys; from progan.comparison.runs import train_run; train_run(sys.argv[1], sys.argv[2], int(sys.argv[3]))"
)
_TRY = "import sys; from progan.comparison.runs import try_run; try_run(sys.argv[1], float(sys.argv[2]))"
_LOG, _DIVERGED = "process.log", "diverged.txt"
_WARM = 2
"""Blocks of a trial that are not counted: what is allocated or chosen once happens in them."""
_LEAST = 3
"""Blocks that are counted, at least."""


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
    def total_nimg(self) -> int:
        """Images of the whole run."""
        return Schedule(self.config.schedule).total_nimg

    @property
    def diverged(self) -> str | None:
        """What the run ended with, if it diverged."""
        path = self.folder.path / _DIVERGED
        return path.read_text(encoding="utf-8") if path.exists() else None

    def reached(self, cur_nimg: int) -> bool:
        """True if its last state has so many images, or its last snapshot where only that was kept."""
        names = ("state/state-*", "snapshots/generator-*")
        found = next(filter(None, (list(self.folder.path.glob(name)) for name in names)), [])
        matches = [re.fullmatch(r"[a-z]+-(\d+)(-\d+x\d+)?\.safetensors", path.name) for path in found]
        return max((int(match[1]) for match in matches if match), default=-1) >= cur_nimg


def train_all(
    members: Sequence[Member],
    data: Path,
    jobs: int,
    threads: int,
    log: Log,
    stop: Callable[[], bool],
    until: Mapping[str, int] | None = None,
) -> bool:
    """Train those that are not finished, `jobs` at a time; False if `stop` ended it, with all saved.

    `until`: name of a member -> number of images at which it is saved and stopped before its end. One that diverges is
    left as it is (`Member.diverged`). Raises RunError where one fails; the others are stopped with their states saved.
    """
    ends = {member.name: (until or {}).get(member.name, member.total_nimg) for member in members}
    waiting = [member for member in members if member.diverged is None and not member.reached(ends[member.name])]
    number = {member.name: f"{i + 1} of {len(members)}" for i, member in enumerate(members)}
    running: dict[str, tuple[Member, subprocess.Popen[Any]]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < max(jobs, 1) and not stop():
                member = waiting.pop(0)
                log(f"training {number[member.name]}: {member.name}")
                if jobs == 0:
                    if train_run(member.folder.path, data, ends[member.name]):
                        return False
                    continue
                arguments = member.folder.path, data, ends[member.name]
                with (member.folder.path / _LOG).open("wb") as file:
                    process = _call(_TRAIN, *arguments, threads=threads, stdout=file, stderr=file)
                running[member.name] = member, process
            if stop():
                return False
            for name, (member, process) in list(running.items()):
                if process.poll() is not None:
                    del running[name]
                    _check(member, process.returncode, ends[name])
            time.sleep(0.05 if running else 0)
        return True
    finally:
        # Ask all of them to save and stop, then wait for it.
        for _, process in running.values():
            if sys.platform == "win32":
                process.send_signal(signal.CTRL_BREAK_EVENT)
            else:
                process.terminate()
        for _, process in running.values():
            process.wait()


def train_run(out: str | Path, data: str | Path, until: int) -> bool:
    """Train a run until it has seen so many images; True if a signal ended it. One that diverges leaves a file."""
    try:
        return run.train(out=out, data=data, quiet=True, until=until).signal is not None
    except DivergenceError as error:
        write_whole(Path(out) / _DIVERGED, str(error).encode())
        return False


def _check(member: Member, code: int, cur_nimg: int) -> None:
    if code == 0 and (member.diverged is not None or member.reached(cur_nimg)):
        return
    if code == 0:  # by the file that stops a run
        raise RunError(f"{member.name} was stopped, all saved. The same command goes on")
    log = member.folder.path / _LOG
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    raise RunError(f"{member.name} failed: {lines[-1] if lines else f'exit code {code}'} (more in {log})")


def _call(code: str, *arguments: object, threads: int, **settings: Any) -> "subprocess.Popen[Any]":
    """A Python process that computes with so many threads. Ctrl-C does not reach it: this process stops it."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    if sys.platform == "win32":
        settings["creationflags"] = subprocess.CREATE_NEW_PROCESS_GROUP
    else:
        settings["start_new_session"] = True
    return subprocess.Popen(command, env=environment, **settings)


def try_stages(model: RunConfig, data: Dataset, jobs: int, threads: int, seconds: float) -> tuple[Cost, Cost]:
    """Seconds and operations per image at every stage: the mean over `jobs` processes at once (0: in this one).

    A trial is some `seconds` of real training at every stage, thrown away. Raises RunError if the model cannot be
    trained.
    """
    with tempfile.TemporaryDirectory() as scratch:
        RunFolder(Path(scratch)).write(model, DataFacts.of(data))
        if jobs == 0:
            return _costs([stage_costs(scratch, seconds)])
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        processes = [_call(_TRY, scratch, seconds, threads=threads, **pipes) for _ in range(jobs)]
        answers = []
        try:
            for process in processes:
                out, errors = process.communicate()
                if process.returncode != 0:
                    raise RunError(f"{model.preset} cannot be trained: {(errors.strip() or 'killed').splitlines()[-1]}")
                answers.append(json.loads(out.splitlines()[-1]))
        finally:
            for process in processes:
                process.kill()
    return _costs(answers)


def _costs(answers: Sequence[Sequence[Mapping[str, Any]]]) -> tuple[Cost, Cost]:
    """Mean seconds and operations per image of what several processes found at the same stages."""
    cost, flops = {}, {}
    for stage in zip(*answers, strict=True):
        key = stage[0]["resolution"], stage[0]["phase"]
        cost[key] = sum(answer["seconds_per_image"] for answer in stage) / len(answers)
        flops[key] = stage[0]["flops_per_image"]
    return cost, flops


def try_run(path: str, seconds: float) -> None:
    """Print `stage_costs` as JSON."""
    print(json.dumps(stage_costs(path, seconds)))


def stage_costs(path: str, seconds: float) -> list[dict[str, Any]]:
    """Seconds and operations per image at every stage of the run in a folder, which is only read."""
    config, data = RunFolder(Path(path)).read()
    dataset = Dataset.open(config.dataset.data or data.path)
    setup = set_up(config, dataset, None, silent, ALONE)
    found = []
    with tempfile.TemporaryDirectory() as scratch:
        for span, _ in setup.schedule.extents():
            place = RunFolder(Path(scratch) / f"{span.resolution}-{span.phase}")
            job, _ = assemble(setup, dataset, place)
            # Inside the stage: alpha is neither 0 nor 1 in a fade.
            first = job.state.cur_nimg = span.start + max(1, (span.end - span.start) // 4)
            # Steps are traced before operations are counted: what a trace is tried with is no part of training.
            if job.executors is not None:
                job.executors.of(setup.schedule.at(first))
            with Operations() as operations:
                train(job, [], stopped=lambda: True)  # one block
            flops = operations.count / (job.state.cur_nimg - first)
            watch = Stopwatch(seconds, setup.device)
            train(job, [watch], watch.enough)
            stage = {"resolution": span.resolution, "phase": span.phase}
            found.append({**stage, "seconds_per_image": watch.cost, "flops_per_image": flops})
    return found


class Stopwatch(Observer):
    """Counts images and seconds after the first blocks; says when enough are counted."""

    def __init__(self, seconds: float, device: torch.device) -> None:
        self._wanted, self._device = seconds, device
        self._blocks = self._images = 0
        self._began = self._processor = 0.0
        self.cost = 0.0
        """Seconds per image."""

    def on_progress(self, cur_nimg: int, stage: Stage) -> None:
        self._blocks += 1
        if self._blocks == _WARM:
            self._began, self._processor, self._images = self._now(), time.process_time(), cur_nimg
        elif self._blocks >= _WARM + _LEAST:
            seconds = self._now() - self._began
            # Of a single thread on a CPU the processor's time counts, so that other processes there do not.
            if self._device.type == "cpu" and torch.get_num_threads() == 1:
                seconds = min(seconds, time.process_time() - self._processor)
            self.cost = seconds / (cur_nimg - self._images)

    def enough(self) -> bool:
        """True when training may stop; asked after every block."""
        return self._blocks >= _WARM + _LEAST and time.perf_counter() - self._began >= self._wanted

    def _now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()
