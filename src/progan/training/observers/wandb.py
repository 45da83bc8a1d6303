"""Weights & Biases observer. All of it happens in a thread of its own, so that no network slows training."""

import importlib.util
import secrets
from collections.abc import Mapping
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Any

from progan.errors import ConfigError
from progan.files import write_whole
from progan.progress import Log
from progan.schedule import Stage
from progan.training.observers.base import Observer, Tick
from progan.training.observers.run_files import chart_values, grid_thumbnail
from progan.training.state import TrainingState

PATIENCE = 60
"""Seconds that the end of a run waits for what is still to be sent."""


def check_installed() -> None:
    """Raise ConfigError, with the command to install it, where the package is missing."""
    found = importlib.util.find_spec("wandb")
    if found is None or found.origin is None:  # a mere folder of that name, as it leaves one in every run, is none
        raise ConfigError("--wandb needs wandb: pip install '.[wandb]' in the checkout of progan")


class Wandb(Observer):
    """Observer that sends the numbers of stats.jsonl, the sample grids and the options to a project there.

    The run has the name of its folder, and an id that is kept in `wandb/id`, so that a continued run goes on there too.
    Whatever fails becomes one warning, after which nothing more is sent.
    """

    def __init__(self, project: str, folder: Path, samples: Path, settings: Mapping[str, Any], log: Log) -> None:
        self._project, self._folder, self._samples, self._log = project, folder, samples, log
        self._settings = {
            name: value if isinstance(value, int | float) else str(value) for name, value in settings.items()
        }
        self._queue: SimpleQueue[dict[str, Any] | None] = SimpleQueue()
        self._thread: Thread | None = None
        self._failed = False
        self._shown: Path | None = None

    def on_start(self, state: TrainingState, stage: Stage) -> None:
        # A run that diverged ends, and starts again from an earlier moment.
        if not self._failed:
            self._queue = SimpleQueue()
            self._thread = Thread(target=self._send, name="wandb", daemon=True)
            self._thread.start()
        if state.cur_nimg == 0:
            self._put(0, {}, stage.resolution)

    def on_tick(self, tick: Tick, state: TrainingState) -> None:
        notices = {"notices": " | ".join(tick.notices)} if tick.notices else {}
        self._put(tick.cur_nimg, {**chart_values(tick), **notices}, tick.stage.resolution)

    def on_stage_end(self, stage: Stage, following: Stage | None, state: TrainingState) -> None:
        self._put(state.cur_nimg, {}, stage.resolution)

    def on_end(self, finished: bool, state: TrainingState) -> None:
        self._queue.put(None)
        if self._thread is not None:
            self._thread.join(PATIENCE)
        if self._sending:
            self._failed = True
            self._log(
                f"warning: --wandb: not all was sent within {PATIENCE} seconds; wandb sync {self._folder / 'wandb'}"
            )

    @property
    def _sending(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def _put(self, cur_nimg: int, values: dict[str, Any], resolution: int) -> None:
        """Queue values, and the grid of this moment if there is one that was not shown yet."""
        path, grid = grid_thumbnail(self._samples, cur_nimg, resolution, self._shown)
        if grid is not None:
            values, self._shown = {**values, "samples": grid}, path
        if values and self._sending:
            self._queue.put({"kimg": cur_nimg / 1000, **values})

    def _send(self) -> None:
        """Send what is queued until the run ends."""
        try:
            import wandb

            run = self._begin(wandb)
            while (values := self._queue.get()) is not None:
                if "samples" in values:
                    values["samples"] = wandb.Image(values["samples"])
                run.log(values)
            run.finish()
        except Exception as error:  # of any kind: the network, the account, another version
            self._failed = True
            reason = str(error).strip().partition("\n")[0] or type(error).__name__
            self._log(f"warning: --wandb: {reason}. The run goes on, and nothing more is sent")

    def _begin(self, wandb: Any) -> Any:
        """The run there. What is not needed is left out: code, console, packages."""
        wanted = {"console": "off", "silent": True, "save_code": False, "disable_code": True, "disable_git": True}
        wanted |= {"x_save_requirements": False, "init_timeout": PATIENCE, "finish_timeout": PATIENCE}
        known = wandb.Settings.model_fields  # which change from version to version
        settings = wandb.Settings(**{name: value for name, value in wanted.items() if name in known})
        online = wandb.setup().settings.mode == "online"
        if online and wandb.api.api_key is None:  # it would ask on the terminal
            raise ConfigError("not logged in: run `wandb login`, or set WANDB_MODE=offline")
        kept = self._folder / "wandb" / "id"
        if not kept.exists():
            kept.parent.mkdir(exist_ok=True)
            write_whole(kept, secrets.token_hex(4).encode())
        run = wandb.init(
            project=self._project, name=self._folder.resolve().name, id=kept.read_text().strip(), resume="allow",
            dir=self._folder, config=self._settings, settings=settings,
        )  # fmt: skip
        # A run that goes back to an earlier moment has points there twice; wandb's own steps could only rise.
        run.define_metric("kimg")
        run.define_metric("*", step_metric="kimg")
        if online:
            self._log(f"charts at {run.url}")
        return run
