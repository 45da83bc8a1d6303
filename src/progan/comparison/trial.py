"""How long an image takes at each stage of a run: a few seconds of real training at every stage, thrown away.

Run as a process of its own, `python -m progan.comparison.trial RUN SECONDS`, with the threads that the run will have.
"""

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from progan.data.dataset import Dataset
from progan.progress import silent
from progan.run.assemble import assemble, set_up
from progan.run_folder import RunFolder
from progan.schedule import Span, Stage
from progan.training.loop import Job, train
from progan.training.observers.base import Silent
from progan.training.parallel.processes import ALONE
from progan.training.state import TrainingState

_WARM = 2
"""Blocks that are not counted: what is allocated or chosen once happens in them."""
_LEAST = 3
"""Blocks that are."""


class Operations(TorchDispatchMode):
    """Counts floating-point operations as PyTorch's FlopCounterMode does, which fails at gradients of gradients."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if (formula := flop_registry.get(func._overloadpacket)) is not None:
            self.count += formula(*args, **(kwargs or {}), out_val=out)
        return out


class Stopwatch(Silent):
    """Counts images and seconds after the first blocks; says when enough are counted."""

    def __init__(self, seconds: float, device: torch.device) -> None:
        self._enough, self._device = seconds, device
        self._blocks = self._images = 0
        self._began = self._processor = 0.0
        self.cost = 0.0
        """Seconds per image."""

    def on_progress(self, cur_nimg: int, stage: Stage) -> None:
        self._blocks += 1
        if self._blocks == _WARM:
            self._began, self._processor, self._images = self._now(), time.process_time(), cur_nimg
        elif self._blocks >= _WARM + _LEAST:
            self.cost = self._seconds() / (cur_nimg - self._images)

    def __call__(self) -> bool:
        """Whether to stop; asked after every block."""
        return self._blocks >= _WARM + _LEAST and time.perf_counter() - self._began >= self._enough

    def _seconds(self) -> float:
        """By the clock; of a single thread on a CPU by the processor, so that what else runs there does not count."""
        seconds = self._now() - self._began
        alone = self._device.type == "cpu" and torch.get_num_threads() == 1
        return min(seconds, time.process_time() - self._processor) if alone else seconds

    def _now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()


def measure(folder: RunFolder, seconds: float) -> list[dict[str, Any]]:
    """Of every stage of the run in the folder, which is only read: seconds and operations per image."""
    config, data = folder.read()
    dataset = Dataset.open(config.dataset.data or data.path)
    setup = set_up(config, dataset, None, silent, ALONE)
    found = []
    with tempfile.TemporaryDirectory() as scratch:
        for span, _ in setup.schedule.extents():
            place = RunFolder(Path(scratch) / f"{span.resolution}-{span.phase}")
            job, _ = assemble(setup, dataset, place)
            found.append({"resolution": span.resolution, "phase": span.phase, **_stage(job, span, seconds)})
    return found


def _stage(job: Job, span: Span, seconds: float) -> dict[str, float]:
    state: TrainingState = job.state
    state.cur_nimg = span.start + max(1, (span.end - span.start) // 4)  # inside: alpha is neither 0 nor 1 in a fade
    before = state.cur_nimg
    with Operations() as operations:
        train(job, [], stopped=lambda: True)  # one block
    flops = operations.count / (state.cur_nimg - before)
    watch = Stopwatch(seconds, torch.device(state.numerics.device))
    train(job, [watch], watch)
    return {"seconds_per_image": watch.cost, "flops_per_image": flops}


if __name__ == "__main__":
    print(json.dumps(measure(RunFolder(Path(sys.argv[1])), float(sys.argv[2]))))
