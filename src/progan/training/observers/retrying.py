"""Observers of an unreliable disk: what cannot be written is tried again, a folder that vanished is made again."""

from progan.errors import RunError
from progan.files import Claim, HeldError, PendingWrites, write_whole
from progan.progress import Log
from progan.run_folder import RunFolder
from progan.schedule import Stage
from progan.training.observers.base import Observer, Tick
from progan.training.state import TrainingState


class RetryingObserver(Observer):
    """Observer that lets another one fail with an OSError, except at the start: a run that cannot write does not begin.

    What the other could not write it tries again at every tick and at the end.
    """

    def __init__(self, name: str, observer: Observer, pending: PendingWrites, folder: RunFolder) -> None:
        self._name, self._observer, self._pending, self._folder = name, observer, pending, folder

    def on_start(self, state: TrainingState, stage: Stage) -> None:
        try:
            self._observer.on_start(state, stage)
        except OSError as error:
            raise self._folder.unwritable(error) from None

    def on_progress(self, cur_nimg: int, stage: Stage) -> None:
        with self._pending.attempt(self._name, settles=False):
            self._observer.on_progress(cur_nimg, stage)

    def on_tick(self, tick: Tick, state: TrainingState) -> None:
        with self._pending.attempt(self._name):
            self._observer.on_tick(tick, state)

    def on_stage_end(self, stage: Stage, following: Stage | None, state: TrainingState) -> None:
        with self._pending.attempt(self._name, settles=False):
            self._observer.on_stage_end(stage, following, state)

    def on_end(self, finished: bool, state: TrainingState) -> None:
        with self._pending.attempt(self._name):
            self._observer.on_end(finished, state)


class KeepFolder(Observer):
    """Observer that makes a moved or deleted run folder again, and ends the run if another process has it."""

    def __init__(self, folder: RunFolder, claim: Claim | None, log: Log) -> None:
        self._folder, self._claim, self._log = folder, claim, log

    def on_start(self, state: TrainingState, stage: Stage) -> None:
        self._content = self._folder.config.read_bytes()

    def on_tick(self, tick: Tick, state: TrainingState) -> None:
        path = self._folder.path
        if self._claim is not None and not self._claim.holds:
            try:
                self._claim.renew()
            except HeldError as error:
                raise RunError(
                    f"{path} was moved or deleted, and now {error} trains there: stopped at "
                    f"{state.cur_nimg / 1000:g} kimg, nothing saved since the folder changed hands"
                ) from None
        if not self._folder.exists:
            path.mkdir(parents=True, exist_ok=True)
            write_whole(self._folder.config, self._content)
            self._log(f"warning: {path} was moved or deleted: made again, without what was in it")
