"""An observer whose files may fail."""

from progan.files import PendingWrites
from progan.run_folder import RunFolder
from progan.schedule import Stage
from progan.training.observers.base import Observer, Tick
from progan.training.state import TrainingState


class Tolerant:
    """Lets another observer fail with an OSError, except at the start: a run that cannot write does not begin.

    What the observer could not write it tries again at every tick and at the end.
    """

    def __init__(self, name: str, observer: Observer, outputs: PendingWrites, folder: RunFolder) -> None:
        self._name, self._observer, self._outputs, self._folder = name, observer, outputs, folder

    def on_start(self, state: TrainingState, stage: Stage) -> None:
        try:
            self._observer.on_start(state, stage)
        except OSError as error:
            raise self._folder.unwritable(error) from None

    def on_progress(self, cur_nimg: int, stage: Stage) -> None:
        with self._outputs.attempt(self._name, settles=False):
            self._observer.on_progress(cur_nimg, stage)

    def on_tick(self, tick: Tick, state: TrainingState) -> None:
        with self._outputs.attempt(self._name):
            self._observer.on_tick(tick, state)

    def on_stage_end(self, stage: Stage, following: Stage | None, state: TrainingState) -> None:
        with self._outputs.attempt(self._name, settles=False):
            self._observer.on_stage_end(stage, following, state)

    def on_end(self, finished: bool, state: TrainingState) -> None:
        with self._outputs.attempt(self._name):
            self._observer.on_end(finished, state)
