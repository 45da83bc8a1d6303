"""What all requests to the server of `progan app` share: runs, the thread that computes, trainings that are watched."""

import threading
from collections import OrderedDict
from concurrent.futures import Future, ThreadPoolExecutor
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from progan.app.pictures import BusyError, Studio, dataset_page
from progan.app.runs import Shelf, Watch, version
from progan.commands import AppConfig
from progan.run_folder import RunFolder

if TYPE_CHECKING:
    from progan.training.preflight.estimate import Pace

MOST_STREAMS = 128
"""Pages that may follow a training at the same time."""
MOST_PAGES = 2
"""Pages about the images of runs that are kept in memory, or made."""


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
        self._watched: WeakValueDictionary[Path, Watch] = WeakValueDictionary()
        """Trainings that somebody follows, who holds them."""
        self._pace: OrderedDict[Path, Pace | None] = OrderedDict()
        """Estimates of how long a training takes; None while they are being made."""
        self._data: dict[tuple[Path, tuple[int, int]], Future[str]] = {}
        self._pages = ThreadPoolExecutor(1, "pages")
        self._looking, self._showing = threading.Lock(), threading.Lock()

    def watch(self, folder: RunFolder) -> Watch:
        """What is known of a training now."""
        with self._looking:
            watch = self._watched.setdefault(folder.path, Watch(folder))
            if watch.look():
                watch.left = self.seconds_left(watch)
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
        while len(self._pace) > MOST_STREAMS:
            self._pace.popitem(last=False)

    def data_page(self, folder: RunFolder) -> "Future[str]":
        """The page of a run's images, some time, made once for each run that had this folder.

        Raises BusyError while those of others are made.
        """
        with self._showing:
            key = folder.path, version(folder.config)
            if key not in self._data or (self._data[key].done() and self._data[key].exception()):
                done = [other for other, page in self._data.items() if page.done()]
                if len(self._data) - len(done) >= MOST_PAGES:
                    raise BusyError("the pages of other runs are being made: try again soon")
                for other in done[: len(self._data) - MOST_PAGES + 1]:
                    del self._data[other]
                self._data[key] = self._pages.submit(dataset_page, folder)
            return self._data[key]


def state(watch: Watch) -> dict[str, Any]:
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
        "left": watch.left,
        "grids": watch.grids,
        "pictures": watch.pictures,
        "report": watch.report,
    }
