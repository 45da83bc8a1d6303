"""What all requests to the server of `progan app` share: runs, the thread that computes, trainings that are watched."""

import threading
from collections import OrderedDict
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from progan.app.pictures import BusyError, Studio, dataset_page
from progan.app.runs import Shelf, Watch, version
from progan.commands import AppConfig
from progan.run_folder import RunFolder

if TYPE_CHECKING:
    from progan.training.preflight.estimate import Pace

MOST_WATCHED = 8
"""Runs whose statistics are kept in memory."""


def page_files() -> dict[str, bytes]:
    """The page's files by their names, those that only a server's page has in `server/`."""
    folder = resources.files("progan.app").joinpath("page")
    places = {"": folder, "server/": folder.joinpath("server")}
    return {
        f"{at}{file.name}": file.read_bytes()
        for at, where in places.items()
        for file in where.iterdir()
        if file.is_file()
    }


class Desk:
    """What all requests share."""

    def __init__(self, shelf: Shelf, config: AppConfig) -> None:
        self.shelf, self.reals = shelf, config.reals
        self.studio = Studio(config.device)
        self.files = page_files()
        self.streams = 0
        self._watched: OrderedDict[Path, Watch] = OrderedDict()
        self._pace: OrderedDict[Path, Pace | None] = OrderedDict()
        """Estimates of how long a training takes; None while they are being made."""
        self._data: OrderedDict[tuple[Path, tuple[int, int]], str] = OrderedDict()
        self._looking, self._showing = threading.Lock(), threading.Lock()

    def watch(self, folder: RunFolder) -> Watch:
        """What is known of a training now."""
        with self._looking:
            watch = self._watched.setdefault(folder.path, Watch(folder))
            self._watched.move_to_end(folder.path)
            while len(self._watched) > MOST_WATCHED:
                self._watched.popitem(last=False)
            watch.look()
            return watch

    def seconds_left(self, watch: Watch) -> float | None:
        """Seconds that a training still takes; None as long as nobody knows."""
        path = watch.folder.path
        if not watch.lines or not watch.live:
            return None
        if path not in self._pace:
            self._pace[path] = None
            try:
                self.studio.do(lambda: self._estimate(watch.folder), long=True)
            except BusyError:
                del self._pace[path]
        pace = self._pace.get(path)
        return None if pace is None else pace.over().follow(watch.lines).left(watch.lines[-1]["cur_nimg"])

    def _estimate(self, folder: RunFolder) -> None:
        """Find out what an image costs at each resolution, in the thread that computes."""
        from progan.config import RunConfig
        from progan.models import ImageShape
        from progan.progress import silent
        from progan.training import numerics
        from progan.training.parallel.processes import ALONE
        from progan.training.preflight.autotune import pace_of
        from progan.training.setup import RunSetup

        config, data = folder.read()
        labels = len(data.label_names) if config.dataset.labels else 0
        shape = ImageShape(config.schedule.resolution, data.channels, labels)
        # What is measured soon outweighs these estimates: of which machine they are matters little.
        setup = RunSetup(config, shape, numerics.choose(RunConfig().runtime), ALONE, silent)
        self._pace[folder.path] = pace_of(setup)
        while len(self._pace) > MOST_WATCHED:
            self._pace.popitem(last=False)

    def data_page(self, folder: RunFolder) -> str:
        """The page of a run's images, made once for each run that had this folder."""
        with self._showing:
            key = folder.path, version(folder.config)
            if key not in self._data:
                self._data[key] = dataset_page(folder)
                while len(self._data) > 2:
                    self._data.popitem(last=False)
            return self._data[key]


def state(desk: Desk, watch: Watch) -> dict[str, Any]:
    """What the page of a training shows besides its curves."""
    last = watch.lines[-1] if watch.lines else {}
    now = last.get("cur_nimg", 0)
    return {
        "live": watch.live,
        "asked": watch.live and watch.asked,
        "finished": bool(watch.total) and now >= watch.total,
        "cur_nimg": now,
        "total": watch.total,
        "spans": watch.spans,
        "resolution": last.get("resolution", watch.spans[0][0] if watch.spans else 0),
        "phase": last.get("phase", "stable"),
        "alpha": last.get("alpha", 1),
        "left": desk.seconds_left(watch),
        "grids": watch.grids,
    }
