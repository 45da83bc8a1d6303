"""When the training state is written."""

import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from progan.files import PendingWrites
from progan.training.meter import Meter
from progan.training.preflight import memory
from progan.training.state import StateFolder, TrainingState

STATE_SHARE = 0.02
"""Of the time that writing states may take."""


class StateKeeper:
    """Writes states as often as its share of the time allows. One that cannot be written is tried again next time."""

    def __init__(self, states: StateFolder, outputs: PendingWrites) -> None:
        self._states, self._outputs = states, outputs
        self._cost = 0.0
        self._written = time.perf_counter()

    def write(self, state: TrainingState, force: bool) -> None:
        start = time.perf_counter()
        if force or self._cost <= STATE_SHARE * (start - self._written):
            with self._outputs.attempt("the training state"):
                self._states.write(state)
                self._written = time.perf_counter()
                self._cost = self._written - start


@contextmanager
def spared(state: TrainingState, meter: Meter, keeper: StateKeeper) -> Iterator[None]:
    """If memory runs out inside before anything was changed, as where a larger stage begins, the state is written."""
    clocks, counted = state.clocks(), len(state.uncounted)
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        untouched = len(state.uncounted) == counted and torch.equal(state.clocks(), clocks)
        if memory.ran_out(error) and untouched:
            traceback.clear_frames(error.__traceback__)  # which hold the tensors of the failed step
            state.tally = meter.tally()
            keeper.write(state, force=True)
        raise
