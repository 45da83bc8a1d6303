"""Profiler observer (`--profile`): time of some iterations, as a trace and as a summary."""

from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile, schedule

from progan.progress import Log
from progan.schedule import Stage
from progan.training.observers.base import Observer
from progan.training.state import TrainingState

WAIT, WARMUP, ACTIVE = 4, 2, 6
"""Evaluations of the schedule that are skipped, discarded, and recorded."""
OPERATIONS = 10
"""Number of operations in the summary."""
SECTIONS = ("data", "D step", "average", "G step")
"""Parts of an iteration, named in training/loop.py."""


class Profile(Observer):
    """Observer that records a few iterations into a Chrome trace `profile.json` and a summary `profile.txt`."""

    def __init__(self, folder: Path, log: Log) -> None:
        self._folder, self._log = folder, log
        self._written = False

    def on_start(self, state: TrainingState, stage: Stage) -> None:
        gpu = torch.device(state.numerics.device).type == "cuda"
        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if gpu else [])]
        timing = schedule(wait=WAIT, warmup=WARMUP, active=ACTIVE, repeat=1)
        self._profile = profile(activities=activities, schedule=timing, on_trace_ready=self._write)
        self._profile.start()

    def on_progress(self, cur_nimg: int, stage: Stage) -> None:
        self._profile.step()

    def on_end(self, finished: bool, state: TrainingState) -> None:
        self._profile.stop()
        if not self._written:
            self._log("note: the run ended before enough of it was recorded for a profile")

    def _write(self, found: profile) -> None:
        self._written = True
        path = self._folder / "profile.json"
        found.export_chrome_trace(str(path))
        text = f"{summary(found)}\ntrace for chrome://tracing or ui.perfetto.dev: {path}"
        (self._folder / "profile.txt").write_text(text + "\n", encoding="utf-8")
        self._log(text)


def summary(found: profile) -> str:
    """Fraction of each part of an iteration, then the slowest operations, in times of the device that ran them."""
    events = found.key_averages()
    parts = {event.key: event.cpu_time_total for event in events if event.key in SECTIONS}
    whole = sum(parts.values()) or 1.0
    lines = ["part           ms    share"]
    lines += [f"{name:10} {parts[name] / 1000:8.1f} {parts[name] / whole:7.1%}" for name in SECTIONS if name in parts]
    gpu = any(event.self_device_time_total for event in events)
    own = {
        event.key: (event.self_device_time_total if gpu else event.self_cpu_time_total, event.count)
        for event in events
        if event.key not in SECTIONS and not event.key.startswith("ProfilerStep")
    }
    total = sum(time for time, _ in own.values()) or 1.0
    lines += ["", "operation                                              ms    share    calls"]
    for name, (time, calls) in sorted(own.items(), key=lambda item: -item[1][0])[:OPERATIONS]:
        lines.append(f"{name[:48]:48} {time / 1000:8.1f} {time / total:7.1%} {calls:8}")
    return "\n".join(lines)
