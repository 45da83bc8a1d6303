"""A run: training with the standard observers, in a folder, begun or continued."""

import contextlib
import dataclasses
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from progan.config import RunConfig
from progan.data.dataset import Dataset, Manifest
from progan.errors import ConfigError, MemoryShortError, RunError
from progan.models import ImageShape
from progan.progress import Say, warn
from progan.run import resume
from progan.run.assembling import assemble, numerics_of
from progan.run.opening import image_shape, open_dataset_in_turn
from progan.run.settings import AUTO, agree, configure, fitting_config, out_of_memory
from progan.run.watching import observers
from progan.run_folder import DataFacts, RunFolder, numbered
from progan.schedule import Stage, in_images
from progan.snapshot import Snapshot, load
from progan.training.loop import train as train_job
from progan.training.numerics import Numerics, choose_numerics
from progan.training.observers.profiler import Profile
from progan.training.parallel import rendezvous
from progan.training.parallel.processes import Processes
from progan.training.parallel.sharding import check_shares
from progan.training.preflight import autotune, fit, memory
from progan.training.preflight.estimate import Plan, plan
from progan.training.signals import stop_on_signals


@dataclass(frozen=True)
class Run:
    """A run folder after `train`."""

    path: Path
    finished: bool
    cur_nimg: int
    seconds: float
    """Of training, over all the times it was continued."""
    signal: int | None = None
    """Number of the signal that stopped it."""

    @property
    def folder(self) -> RunFolder:
        return RunFolder(self.path)

    def snapshot(self, resolution: int | None = None) -> Snapshot:
        """The newest snapshot, or that of a resolution."""
        return load(self.folder.snapshot(resolution))

    def grid(self) -> Path | None:
        """The newest picture of samples."""
        return max(self.folder.samples.glob("fakes-*.png"), default=None)


def train(
    preset: str | None = None,
    data: str | Path | None = None,
    out: str | Path | None = None,
    quiet: bool = False,
    allow_change: bool = False,
    profile: bool = False,
    **options: Any,
) -> Run:
    """Begin a run, or go on with the one in `out`, until its end or Ctrl-C.

    `preset` is a name of `progan.presets`, default `quickstart`, or what the run in `out` has; `options` are those of
    the command line: `total_kimg=50, batch_size="4:64,32:16", loss="lsgan"`. Raises a ProganError for what cannot be.
    `profile` records some iterations into `profile.json`.
    Called in processes that torchrun started, they train together; `out` is needed then.
    """
    with rendezvous.join() as processes:
        if out is None and rendezvous.launched():
            raise ConfigError("with torchrun, name the run folder with --out, so that a restart finds it")
        folder = None if out is None else RunFolder(Path(out))
        quiet = quiet or not processes.first
        say: Say = (lambda text: None) if quiet else warn
        config, dataset, numerics = _agree(preset, data, folder, allow_change, options, say, processes)
        folder = folder or RunFolder(numbered(Path("runs"), f"{config.preset}-{dataset.name}"))
        try:
            return _train(config, dataset, folder, numerics, allow_change, profile, quiet, processes)
        except _OutOfMemoryError as short:
            traceback.clear_frames(short.__traceback__)  # what they hold is in the way of a smaller batch
            shape = image_shape(config, dataset)
            raise out_of_memory(config, shape, short.numerics, short.stage, folder) from None


@dataclass
class _OutOfMemoryError(Exception):
    """Ends a run; how it was computed and where it was."""

    numerics: Numerics
    stage: Stage


def _agree(
    preset: str | None,
    data: str | Path | None,
    folder: RunFolder | None,
    allow_change: bool,
    options: dict[str, Any],
    say: Say,
    processes: Processes,
) -> tuple[RunConfig, Dataset, Numerics]:
    """Configuration, images and numerics, the same in all processes. What cannot go on is refused before any trial."""
    config = configure(preset, data, folder, options) if processes.first else RunConfig()
    config = agree(config, processes)
    dataset = open_dataset_in_turn(config, say, processes)
    config = dataclasses.replace(config, schedule=in_images(config.schedule, dataset.count))
    for note in check_shares(config, processes.size):
        say(f"note: {note}")
    if processes.first and folder is not None and folder.exists:
        with folder.held(warn):
            resume.begin(folder, config, DataFacts.of(dataset), allow_change)
    shape, auto = image_shape(config, dataset), options.get("batch_size") == AUTO
    numerics = numerics_of(config, shape, folder, say, processes)
    config = fitting_config(config, shape, dataset, folder, numerics, auto, say, processes)
    return config, dataset, numerics


def _train(
    config: RunConfig,
    dataset: Dataset,
    folder: RunFolder,
    numerics: Numerics,
    allow_change: bool,
    profile: bool,
    quiet: bool,
    processes: Processes,
) -> Run:
    """Begin or go on in the folder. Raises RunError if not all could be written."""
    say: Say = (lambda text: None) if quiet else warn
    with folder.held(warn) if processes.first else contextlib.nullcontext() as claim:
        changes = resume.begin(folder, config, DataFacts.of(dataset), allow_change) if processes.first else []
        job, resumed = assemble(config, dataset, image_shape(config, dataset), folder, numerics, say, processes)
        resume.record(folder, config, changes, job.state.cur_nimg)
        if not resumed:
            together = f", {processes.size} processes" if processes.size > 1 else ""
            say(f"run folder {folder.path}: {job.state.numerics.device}, {job.state.numerics.precision}{together}")
        watching = observers(job, dataset, folder, claim, quiet) if processes.first else []
        if profile and processes.first:
            watching.append(Profile(folder.path))
        with stop_on_signals() as stopped:
            try:
                finished = train_job(job, watching, stopped)
            except (MemoryError, RuntimeError) as error:
                if not memory.ran_out(error):
                    raise
                traceback.clear_frames(error.__traceback__)
                raise _OutOfMemoryError(job.state.numerics, job.schedule.at(job.state.cur_nimg)) from None
    state, again = job.state, f"progan train --out {folder.path}"
    if job.outputs.unwritten:
        raise RunError(
            f"stopped at {state.cur_nimg / 1000:g} kimg, but not all could be written: {job.outputs}. "
            f"Mend that, then go on from what is saved: {again}"
        )
    if not finished:
        say(f"stopped at {state.cur_nimg / 1000:g} kimg, all saved. To go on: {again}")
    return Run(folder.path, finished, state.cur_nimg, state.elapsed + state.tally.seconds, stopped.signal)


def dry_run(
    preset: str | None = None, data: str | Path | None = None, **options: Any
) -> tuple[Plan, RunConfig, Numerics]:
    """What a run would take. Data that is not prepared yet is not looked at: it counts as RGB.

    Raises ConfigError if the run's length is in epochs and the data is not prepared.
    """
    config = configure(preset, data, None, options)
    source = Path(config.dataset.data)
    shape, held = ImageShape(config.schedule.resolution, channels=3), _nothing
    if Manifest.is_in(source):
        dataset = Dataset.open(source)
        held = dataset.level_bytes
        shape = image_shape(config, dataset)
        config = dataclasses.replace(config, schedule=in_images(config.schedule, dataset.count))
    if config.schedule.stable_epochs is not None:
        raise ConfigError(
            "--dry-run: to plan epochs the number of images is needed: name a prepared dataset with --data, or give "
            "--stable-kimg"
        )
    numerics, words = autotune.foresee(config, shape, choose_numerics(config.runtime))
    notes: list[str] = []
    try:
        config = fit.ensure(config, shape, numerics, held, options.get("batch_size") == AUTO, 0, notes.append)
    except MemoryShortError as error:
        notes.append(str(error))
    planned = dataclasses.replace(plan(config, shape, numerics), precision=words, notes=tuple(notes))
    return planned, config, numerics


def _nothing(resolution: int) -> int:
    return 0
