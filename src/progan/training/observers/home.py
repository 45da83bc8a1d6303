"""What makes a folder that of a run, kept while it goes on."""

from collections.abc import Callable

from progan.errors import RunError
from progan.files import Claim, HeldError, write_whole
from progan.run_folder import RunFolder
from progan.schedule import Stage
from progan.training.observers.base import Tick
from progan.training.observers.run_files import Silent
from progan.training.state import TrainingState


class Home(Silent):
    """Makes the folder again if it was moved or deleted; ends the run if another process took it since."""

    def __init__(self, folder: RunFolder, claim: Claim | None, warn: Callable[[str], None]) -> None:
        self._folder, self._claim, self._warn = folder, claim, warn

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
            self._warn(f"warning: {path} was moved or deleted: made again, without what was in it")
