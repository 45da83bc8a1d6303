"""Run: training with the standard observers, in a folder, begun or continued."""

import contextlib
import dataclasses
import tempfile
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from progan.config import RunConfig, coerce, no_images
from progan.data.dataset import Dataset, Manifest
from progan.data.prepare import left_out_note, request_key
from progan.data.sources import open_source
from progan.data.sources.named import preparation
from progan.devices import computing_with, is_out_of_memory, keep_pages, plain_modes
from progan.errors import ConfigError, MemoryShortError, RunError
from progan.files import word
from progan.models import ImageShape
from progan.options import override
from progan.progress import Log, log_line, silent
from progan.report import html
from progan.run import copies, initial
from progan.run.assemble import (
    AUTO,
    assemble,
    configure,
    fit_into_memory,
    image_shape,
    no_labels,
    open_dataset,
    open_dataset_in_turn,
    open_held_out,
    out_of_memory,
    prepared_before,
    set_up,
    share_config,
)
from progan.run.observers import Flatness, observers
from progan.run_folder import DataFacts, RunFolder, numbered
from progan.schedule import Schedule, Stage, for_seconds, in_images, unreached
from progan.snapshot import Snapshot, load
from progan.training import numerics
from progan.training.loop import never
from progan.training.loop import train as train_job
from progan.training.numerics import Numerics
from progan.training.observers import wandb
from progan.training.observers.profiler import Profile
from progan.training.observers.retrying import RetryingObserver
from progan.training.observers.run_files import read_stats
from progan.training.parallel import rendezvous
from progan.training.parallel.processes import Processes
from progan.training.parallel.sharding import check_sharding
from progan.training.preflight import autotune, fit
from progan.training.preflight.estimate import Pace, Plan, announcement, plan, seconds_per_image, too_long
from progan.training.setup import RunSetup
from progan.training.signals import deadline, stop_on_signals
from progan.training.state import StateFolder

FEW = 50
"""Images of a set below which a run begins with advice."""


@dataclass(frozen=True)
class Run:
    """Result of `train`: a run folder and how far it is."""

    path: Path
    finished: bool
    cur_nimg: int
    seconds: float
    """Seconds of training since the run began, pauses left out."""
    signal: int | None = None
    """Number of the signal that stopped the run."""

    @property
    def folder(self) -> RunFolder:
        return RunFolder(self.path)

    def _repr_html_(self) -> str:
        """What notebooks show: how far the run is, and its newest grid."""
        grid, size = self.grid(), self.folder.read()[0].schedule.resolution
        rows = {
            "run": self.path,
            "state": "finished" if self.finished else "stopped; the same call goes on",
            "images shown": f"{self.cur_nimg / 1000:g} thousand, up to {size}x{size}",
            "time": f"{self.seconds / 60:.1f} minutes",
        }
        picture = "" if grid is None else html.picture(grid.read_bytes(), "image/png", f"samples of {self.path.name}")
        return html.facts(rows.items()) + picture

    def snapshot(self, resolution: int | None = None) -> Snapshot:
        """Newest snapshot, or that of a resolution."""
        return load(self.folder.snapshot(resolution))

    def send_report(self) -> None:
        """Send the page of the run, which comes after its training, to where the run is copied, if it is.

        Raises RunError.
        """
        with copies.copying(self.folder.read()[0].runtime.copy_to, self.folder, log_line):
            pass

    def grid(self) -> Path | None:
        """Path of the newest sample grid; None if there is none."""
        return max(self.folder.samples.glob("fakes-*.png"), default=None)


@plain_modes()
def train(
    preset: str | None = None,
    data: str | Path | None = None,
    out: str | Path | None = None,
    quiet: bool = False,
    allow_change: bool = False,
    profile: bool = False,
    time_limit: str | float | None = None,
    minutes: float | None = None,
    until: int | None = None,
    **options: Any,
) -> Run:
    """Begin a run, or go on with the one in `out`, until its end, Ctrl-C, or a file `stop` in the run folder.

    `preset` is a name of `progan.presets`, default `quickstart`, or what the run in `out` has; `options` are those of
    the command line: `total_kimg=50, batch_size="4:64,32:16", loss="lsgan"`. Raises a ProganError for what cannot be.
    `profile` records some iterations into `profile.json`. `time_limit` stops the run and saves it after so many seconds
    from now, or `90s`, `50m`, `1h30m`, and `until` at so many images; another call goes on. `minutes` shortens or
    lengthens the stages of a new run, all alike, so that it ends after about so many minutes of training here.
    Called in processes that torchrun started, they train together; `out` is needed then.
    """
    ends = deadline(time_limit)
    out = None if out is None else coerce("out", out, str)
    minutes = coerce("minutes", minutes, float | None)
    until = coerce("until", until, int | None)
    if out == "":
        raise ConfigError("--out is empty: name a folder")
    with rendezvous.join() as processes:
        if out is None and rendezvous.launched():
            raise ConfigError("with torchrun, name the run folder with --out, so that a restart finds it")
        folder = None if out is None else RunFolder(Path(out))
        quiet = quiet or not processes.first
        log: Log = silent if quiet else log_line
        with computing_with(torch.get_num_threads()):  # until the run has found its own number
            try:
                setup, dataset, pace = _agree(preset, data, folder, allow_change, options, log, processes, minutes)
                folder = folder or RunFolder(numbered(Path("runs"), f"{setup.config.preset}-{dataset.name}"))
                try:
                    return _train(setup, dataset, folder, allow_change, profile, quiet, ends, until, pace)
                except _OutOfMemoryError as short:
                    traceback.clear_frames(short.__traceback__)  # what they hold is in the way of a smaller batch
                    raise out_of_memory(setup, short.numerics, short.stage, folder) from None
            finally:
                keep_pages(False)


@dataclass
class _OutOfMemoryError(Exception):
    """Ends a run: its numerics, and the stage in which memory ran out."""

    numerics: Numerics
    stage: Stage


def _agree(
    preset: str | None,
    data: str | Path | None,
    folder: RunFolder | None,
    allow_change: bool,
    options: dict[str, Any],
    log: Log,
    processes: Processes,
    minutes: float | None,
) -> tuple[RunSetup, Dataset, Pace | None]:
    """Setup and images, the same in all processes, and the pace of a new run of so many minutes. What cannot continue
    is refused before any trial.
    """
    # Only the first process sees the run folder. One that is not here yet may be fetched from its copy.
    config = RunConfig()
    if processes.first:
        if options.get("copy_to") is not None and folder is not None:
            copies.fetch(coerce("copy_to", options["copy_to"], str), folder, log)
        config = configure(preset, data, folder, options, minutes)
        if config.runtime.copy_to is not None:
            copies.check(config.runtime.copy_to, folder)
    if config.runtime.wandb is not None:
        wandb.check_installed()
    prepared = prepared_before(config, folder) if processes.first else ""
    config = share_config(config, processes)
    dataset = open_dataset_in_turn(config, log, processes, prepared)
    config = dataclasses.replace(config, schedule=in_images(config.schedule, dataset.count))
    for note in check_sharding(config, processes.size):
        log(f"note: {note}")
    if processes.first:
        open_held_out(config, dataset)
    if processes.first and folder is not None and folder.exists:
        with folder.held(log_line):
            folder.begin(config, DataFacts.of(dataset), allow_change)
            refuse_lost(folder)
    if processes.first and config.runtime.init is not None and (folder is None or StateFolder(folder.state).empty):
        initial.check(initial.read(config.runtime.init), config, image_shape(config, dataset))
    new = processes.first and (folder is None or StateFolder(folder.state).empty)
    if minutes is not None and processes.first and folder is not None and folder.exists:
        log(kept_length(config))
    # As one goes on with a run: --out may be mistyped.
    bare = all(value is None for value in (preset, data, minutes, *options.values()))
    if new and folder is not None and not folder.exists and bare:
        log(f"note: there is no run in {folder.path} yet: a new one of preset {config.preset} begins")
    if (new or "total_kimg" in options) and minutes is None and (short := unreached(config.schedule)) is not None:
        log(f"warning: {short}")
    setup = set_up(config, dataset, folder, log, processes)
    setup, pace = fit_into_memory(setup, dataset, folder, str(options.get("batch_size")) == AUTO), None
    if new and minutes is not None and (folder is None or not folder.exists):
        setup, pace = autotune.fit_into(setup, minutes)
        log(f"{minutes:g} minutes here are {setup.schedule.total_nimg / 1000:.4g} kimg; every stage keeps its share")
    processes.wait()  # the first may have measured for long
    return dataclasses.replace(setup, config=share_config(setup.config, processes)), dataset, pace


def refuse_lost(folder: RunFolder) -> None:
    """Raise RunError for a run that has trained and has no state any more: it would begin anew, over what it has made.

    The first tick's line is written before the first state: a run that was killed in between has lost nothing.
    """
    states = StateFolder(folder.state)
    if not states.empty:
        return
    ticks = len(read_stats(folder.stats))
    if ticks > 1 or (ticks == 0 and any(folder.snapshots.glob("generator-*"))):
        raise states.lost("the training states are gone")


def _train(
    setup: RunSetup,
    dataset: Dataset,
    folder: RunFolder,
    allow_change: bool,
    profile: bool,
    quiet: bool,
    ends: float,
    until: int | None,
    pace: Pace | None,
) -> Run:
    """Begin or continue in the folder, until so many seconds of the monotonic clock or so many images.

    Raises RunError if not all is written.
    """
    config, processes, log = setup.config, setup.processes, setup.log
    with folder.held(log_line) if processes.first else contextlib.nullcontext() as claim:
        if processes.first and folder.stop.is_file():  # meant for an earlier run; from here on it is for this one
            folder.stop.unlink()
        # The folder remembers configuration and data; networks, state and feed are made for them.
        changes = folder.begin(config, DataFacts.of(dataset), allow_change) if processes.first else []
        rendezvous.require_shared(folder.config, processes)
        job, resumed = assemble(setup, dataset, folder, pace, decide=True)
        since = job.state.cur_nimg
        if processes.first and folder.record(config, DataFacts.of(dataset), changes, since):
            log(f"note: from {since / 1000:g} kimg on it is not the run that was begun: {'; '.join(changes)}")
        if not resumed:
            together = f", {processes.size} processes" if processes.size > 1 else ""
            log(f"run folder {folder.path}: {job.state.numerics.device}, {job.state.numerics.precision}{together}")
            if (few := advice(config, dataset.count)) is not None:
                log(few)
        if job.pace is not None and (pace is not None or since > 0):  # others are told when all is decided
            for line in announcement(config, job.pace, since):
                log(line)
        log(f"sample grids come in {folder.samples}, watch the run with: progan app {word(folder.path)}")

        # Only the first process has observers.
        wanted = config.runtime.stop_when_flat and processes.first
        flat = Flatness(folder.stats, config.schedule.resolution) if wanted else None
        watching = observers(job, dataset, folder, claim, quiet, flat) if processes.first else []
        if profile and processes.first:
            watching.append(RetryingObserver("profile", Profile(folder.path, log), job.pending, folder))
        # The first process looks for the file that asks it to stop; what one is asked, all obey.
        copy_to = config.runtime.copy_to if processes.first else None
        with (
            stop_on_signals(ends, folder.stop if processes.first else None) as stopped,
            copies.copying(copy_to, folder, log_line) as copier,
        ):
            watching += [copier] if copier is not None else []

            def stop() -> bool:
                return stopped() or (until is not None and job.state.cur_nimg >= until)

            try:
                finished = train_job(job, watching, stop, flat or never)
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                traceback.clear_frames(error.__traceback__)
                stage = setup.schedule.at(job.state.cur_nimg)
                raise _OutOfMemoryError(job.state.numerics, stage) from None
    state, again = job.state, f"progan train --out {word(folder.path)}"
    if job.pending.unwritten:
        raise RunError(
            f"stopped at {state.cur_nimg / 1000:g} kimg, but not all could be written: {job.pending}. "
            f"Fix the cause, then continue from what is saved: {again}"
        )
    if not finished:
        log(f"stopped at {state.cur_nimg / 1000:g} kimg, all saved. To go on: {again}")
    return Run(folder.path, finished, state.cur_nimg, state.elapsed + state.tally.seconds, stopped.signal)


def kept_length(config: RunConfig) -> str:
    """A line for --minutes, where a run is continued."""
    kimg = Schedule(config.schedule).total_nimg / 1000
    return f"note: --minutes is for a new run, and this one keeps its {kimg:g} kimg"


def advice(config: RunConfig, count: int) -> str | None:
    """A line on what so few images give and what helps; None if there are more."""
    helps = {
        "more images": True,
        "--augment ada": config.dataset.augment == "none",
        "--init with a generator of similar images": config.runtime.init is None,
        "--mirror (where a mirror image makes sense)": not config.dataset.mirror,
    }
    if count >= FEW:
        return None
    listed = ", ".join(name for name, missing in helps.items() if missing)
    return f"note: from {count} images G learns little but to repeat them. What helps: {listed}"


@plain_modes()
def dry_run(
    preset: str | None = None,
    data: str | Path | None = None,
    minutes: float | None = None,
    out: str | Path | None = None,
    **options: Any,
) -> tuple[Plan, RunConfig, Numerics]:
    """Plan of a whole run, or of the one that lies in `out`, without training.

    Data that is not prepared yet is opened but not decoded: it counts as RGB. Raises DatasetError for data that `train`
    would refuse to open, RunError for settings that the run in `out` cannot have, ConfigError if the run's length is in
    epochs and the data is not prepared.
    """
    folder = None if out is None else RunFolder(Path(out))
    minutes = coerce("minutes", minutes, float | None)
    config = configure(preset, data, folder, options, minutes)
    if data is not None and not config.dataset.data:
        raise no_images(config)
    begun = folder is not None and folder.exists
    if folder is not None and begun:
        facts = folder.read()[1]
        config = dataclasses.replace(config, schedule=in_images(config.schedule, facts.count))
        folder.begin(config, facts, allow_change=True)
    prepared = prepared_before(config, folder)
    source = prepared if prepared and Manifest.is_in(Path(prepared)) else config.dataset.data
    resolution = config.schedule.resolution
    shape, held = ImageShape(resolution, channels=3), _nothing
    notes: list[str] = []
    if source and not Manifest.is_in(Path(source)):
        wanted = preparation(source, resolution=resolution, label_column=config.dataset.label_column)
        left_out: list[str] = []
        request_key(source, wanted, left_out)
        with tempfile.TemporaryDirectory() as scratch:
            opened = open_source(source, Path(scratch), wanted)
        notes += [*left_out_note(left_out), *opened.notes]
        if config.health.held_out is not None:
            Dataset.open(config.health.held_out)
        if config.dataset.labels:
            if opened.labels is None:
                raise no_labels(source, opened.notes)
            shape = dataclasses.replace(shape, label_size=len(opened.labels.names))
    elif source:
        dataset = open_dataset(override(config, {"data": source}), log_line)
        open_held_out(config, dataset)
        held = dataset.level_bytes
        shape = image_shape(config, dataset)
        config = dataclasses.replace(config, schedule=in_images(config.schedule, dataset.count))
    if config.schedule.stable_epochs is not None:
        raise ConfigError(
            "--dry-run: to plan epochs the number of images is needed: name a prepared dataset with --data, or give "
            "--stable-kimg"
        )
    if config.runtime.init is not None:
        known = initial.read(config.runtime.init, notes.append)
        if held is _nothing:  # images that were not looked at
            shape = dataclasses.replace(shape, channels=known.shape.channels)
        notes.append(initial.check(known, config, shape))
    setup = RunSetup(config, shape, numerics.choose(config.runtime), log=notes.append)
    found, words = autotune.foresee(setup)
    setup = dataclasses.replace(setup, numerics=found)
    try:
        setup = dataclasses.replace(setup, config=fit.ensure(setup, held, str(options.get("batch_size")) == AUTO, 0))
    except MemoryShortError as error:
        notes.append(str(error))
    if minutes is not None and begun:
        notes.append(kept_length(setup.config))
    elif minutes is not None:
        each = seconds_per_image(setup)
        cost = {(span.resolution, span.phase): each[span.resolution] for span in setup.schedule.spans}
        setup = dataclasses.replace(setup, config=for_seconds(setup.config, 60 * minutes, cost))
    elif (short := unreached(setup.config.schedule)) is not None:
        notes.append(f"warning: {short}")
    planned = plan(setup)
    if (long := too_long(setup.config, planned.seconds)) is not None:
        notes.append(long)
    return dataclasses.replace(planned, precision=words, notes=tuple(notes)), setup.config, found


def _nothing(resolution: int) -> int:
    return 0
