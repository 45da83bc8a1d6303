"""A run: training with the standard observers, in a folder, begun or continued."""

import contextlib
import dataclasses
import json
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import progan
from progan import continuing, losses
from progan.config import PrepareConfig, RunConfig
from progan.data.cache import open_data
from progan.data.dataset import Dataset
from progan.data.lock import Claim
from progan.data.manifest import Manifest
from progan.errors import ConfigError, DatasetError, MemoryShortError, RunError
from progan.files import write_whole
from progan.metrics.evaluation import LEAST, Yardstick
from progan.models import ImageShape
from progan.options import from_dict, override, to_dict
from progan.periodic import PeriodicMetrics
from progan.presets import preset as named_preset
from progan.progress import progress_bar, warn
from progan.runfolder import DataFacts, RunFolder, numbered
from progan.schedule import Schedule, Stage, in_images
from progan.snapshot import Snapshot, SnapshotInfo, load
from progan.training import fitting, meeting, memory, precision, tuning
from progan.training import state as states
from progan.training.compiled import Compiler
from progan.training.console import Console
from progan.training.distributed import Processes
from progan.training.feed import Feed
from progan.training.health import Health
from progan.training.home import Home
from progan.training.loop import Job, Observer
from progan.training.loop import train as train_job
from progan.training.observers import SampleGrids, Snapshots, StatsFile, columns, picture
from progan.training.outputs import Outputs
from progan.training.plan import Plan, plan, seconds_per_image
from progan.training.precision import Numerics
from progan.training.probe import Sample
from progan.training.profiling import Profile
from progan.training.shares import check_shares
from progan.training.signals import stop_on_signals
from progan.training.tensorboard import TensorBoard
from progan.training.tolerant import Tolerant

AUTO = "auto"
"""As a batch size: that of the preset, or less where memory is short."""
Say = Callable[[str], None]


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
    with meeting.join() as processes:
        if out is None and meeting.launched():
            raise ConfigError("with torchrun, name the run folder with --out, so that a restart finds it")
        return _train(
            preset,
            data,
            None if out is None else RunFolder(Path(out)),
            quiet,
            allow_change,
            profile,
            options,
            processes,
        )


def _train(
    preset: str | None,
    data: str | Path | None,
    folder: RunFolder | None,
    quiet: bool,
    allow_change: bool,
    profile: bool,
    options: dict[str, Any],
    processes: Processes,
) -> Run:
    quiet = quiet or not processes.first
    say: Say = (lambda text: None) if quiet else warn
    config = configure(preset, data, folder, options) if processes.first else RunConfig()
    config = agree(config, processes)
    dataset = open_dataset_in_turn(config, say, processes)
    config = dataclasses.replace(config, schedule=in_images(config.schedule, dataset.count))
    for note in check_shares(config, processes.size):
        say(f"note: {note}")
    shape = image_shape(config, dataset)
    config = fitting_config(config, shape, dataset, folder, options.get("batch_size") == AUTO, say, processes)
    folder = folder or RunFolder(numbered(Path("runs"), f"{config.preset}-{dataset.name}"))
    with folder.held(warn) if processes.first else contextlib.nullcontext() as claim:
        changes = continuing.begin(folder, config, DataFacts.of(dataset), allow_change) if processes.first else []
        job, resumed = assemble(config, dataset, shape, folder, say, processes)
        continuing.record(folder, config, changes, job.state.cur_nimg)
        if not resumed:
            together = f", {processes.size} processes" if processes.size > 1 else ""
            say(f"run folder {folder.path}: {job.state.numerics.device}, {job.state.numerics.precision}{together}")
        watching = observers(job, dataset, shape, folder, claim, quiet) if processes.first else []
        if profile:
            watching.append(Profile(folder.path))
        with stop_on_signals() as stopped:
            try:
                finished = train_job(job, watching, stopped)
            except (MemoryError, RuntimeError) as error:
                if not memory.ran_out(error):
                    raise
                traceback.clear_frames(error.__traceback__)
                stage, numerics = job.schedule.at(job.state.cur_nimg), job.state.numerics
                del job, watching
                raise out_of_memory(config, shape, numerics, stage, folder) from None
    run = Run(folder.path, finished, job.state.cur_nimg, job.state.elapsed + job.state.tally.seconds, stopped.signal)
    again = f"progan train --out {folder.path}"
    if job.outputs.unwritten:
        raise RunError(
            f"stopped at {run.cur_nimg / 1000:g} kimg, but not all could be written: {job.outputs}. "
            f"Mend that, then go on from what is saved: {again}"
        )
    if not finished:
        say(f"stopped at {run.cur_nimg / 1000:g} kimg, all saved. To go on: {again}")
    return run


def dry_run(
    preset: str | None = None, data: str | Path | None = None, **options: Any
) -> tuple[Plan, RunConfig, Numerics]:
    """What a run would take. Data that is not prepared yet is not looked at: it counts as RGB.

    Raises ConfigError if the run's length is in epochs and the data is not prepared.
    """
    config = configure(preset, data, None, options)
    numerics = precision.choose(config.runtime)
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
    notes: list[str] = []
    try:
        config = fitting.ensure(config, shape, numerics, held, options.get("batch_size") == AUTO, 0, notes.append)
    except MemoryShortError as error:
        notes.append(str(error))
    return dataclasses.replace(plan(config, shape, numerics), notes=tuple(notes)), config, numerics


def _nothing(resolution: int) -> int:
    return 0


def configure(
    preset: str | None, data: str | Path | None, folder: RunFolder | None, options: dict[str, Any]
) -> RunConfig:
    """Preset, or the configuration of the run in the folder, with data and options put in."""
    changes = options if data is None else {**options, "data": str(data)}
    begun = folder.read()[0] if folder is not None and folder.exists else None
    config = begun if preset is None and begun is not None else named_preset(preset or "quickstart")
    if options.get("batch_size") != AUTO:
        return override(config, changes)
    config = override(config, {name: value for name, value in changes.items() if name != "batch_size"})
    found = begun or config  # what `auto` found when the run was begun holds
    return dataclasses.replace(
        config, schedule=dataclasses.replace(config.schedule, batch_size=found.schedule.batch_size)
    )


def fitting_config(
    config: RunConfig,
    shape: ImageShape,
    dataset: Dataset,
    folder: RunFolder | None,
    auto: bool,
    say: Say,
    processes: Processes,
) -> RunConfig:
    """The configuration with batches that fit into the memory. Raises MemoryShortError if they do not."""
    start = 0
    if processes.first and folder is not None and folder.exists:
        start, auto = max(states.StateFolder(folder.state).positions(), default=0), False
    start, auto = json.loads(processes.broadcast(json.dumps([start, auto]).encode()))
    numerics = precision.choose(config.runtime, processes)
    return fitting.ensure(config, shape, numerics, dataset.level_bytes, auto, start, say, processes)


def out_of_memory(
    config: RunConfig, shape: ImageShape, numerics: Numerics, stage: Stage, folder: RunFolder
) -> MemoryShortError:
    """What to say where memory ran out in training."""
    saved = max(states.StateFolder(folder.state).positions(), default=0) / 1000
    what = fitting.after_all(config, shape, numerics, stage)
    goes_on = f"where more is free, progan train --out {folder.path} goes on"
    return MemoryShortError(f"{what}. All up to {saved:g} kimg is saved: {goes_on}")


def agree(config: RunConfig, processes: Processes) -> RunConfig:
    """The configuration of the first process, the only one that needs to see the run folder."""
    return from_dict(json.loads(processes.broadcast(json.dumps(to_dict(config)).encode())))


def open_dataset_in_turn(config: RunConfig, say: Say, processes: Processes) -> Dataset:
    """The run's data, prepared by the first process, and by one on each machine that does not share its disk."""
    if not processes.first:
        processes.wait()
    dataset = open_dataset(config, say)
    if processes.first:
        processes.wait()
    processes.wait()
    if processes.broadcast(dataset.fingerprint.encode()) != dataset.fingerprint.encode():
        raise DatasetError(f"process {processes.rank + 1}: {dataset.path} has other images than that of the first one")
    return dataset


def open_dataset(config: RunConfig, say: Say) -> Dataset:
    """The run's data, prepared into the cache if it is not prepared yet."""
    if not config.dataset.data:
        raise ConfigError(f"preset {config.preset} needs images: name a folder, zip or dataset with --data")
    resolution = config.schedule.resolution
    with progress_bar("preparing", hidden=not meeting.is_first()) as progress:
        dataset = open_data(config.dataset.data, PrepareConfig(resolution=resolution), say, progress)
    if resolution not in dataset.resolutions:
        most = dataset.resolutions[-1]
        raise DatasetError(
            f"{dataset.path} has images up to {most}x{most}. Use --resolution {most}, or prepare it with "
            f"--resolution {resolution}"
        )
    if config.dataset.labels and dataset.label_kind is None:
        raise DatasetError(f"--labels: {dataset.path} has no labels. Leave it out, or prepare the images with labels")
    if config.runtime.metrics_kimg is not None and dataset.count < 2 * LEAST:
        raise DatasetError(f"--metrics-kimg: {dataset.path} has too few images to measure with, {dataset.count}")
    return dataset


def open_held_out(config: RunConfig, dataset: Dataset) -> Dataset | None:
    """The images of --held-out. Raises DatasetError if D could not be shown them, or is trained on them."""
    if config.health.held_out is None:
        return None
    held_out = Dataset.open(config.health.held_out)
    if held_out.fingerprint == dataset.fingerprint:
        raise DatasetError(f"--held-out {held_out.path} are the images of --data. Part them with progan data split")
    if held_out.channels != dataset.channels or config.schedule.resolution not in held_out.resolutions:
        raise DatasetError(
            f"--held-out {held_out.path} does not have the channels and resolutions of --data. Make both with "
            "progan data split"
        )
    return held_out


def image_shape(config: RunConfig, dataset: Dataset) -> ImageShape:
    """What the networks must know of the data."""
    labels = len(dataset.label_names) if config.dataset.labels else 0
    return ImageShape(config.schedule.resolution, dataset.channels, labels)


def assemble(
    config: RunConfig, dataset: Dataset, shape: ImageShape, folder: RunFolder, say: Say, processes: Processes
) -> tuple[Job, bool]:
    """Networks, optimisers and data, as new or as the newest state has them; whether it was a state.

    What is in the run folder only the first process reads, and tells the others.
    """
    state_folder = states.StateFolder(folder.state)
    now = precision.choose(config.runtime, processes)
    recorded = state_folder.numerics() if processes.first else None
    if recorded is not None:
        now = dataclasses.replace(now, precision=recorded.precision, compiled=recorded.compiled)
    elif processes.first:
        now = tuning.decide(config, shape, now, say)
    if recorded is not None and (changed := precision.differences(recorded, now)):
        say(f"note: not the machine or versions the run began on ({', '.join(changed)}): the bits may differ")
    numerics = precision.agree(now, processes)
    state = states.new(config.model, config.optimizer, shape, config.runtime.seed, numerics)
    resumed = processes.first and not state_folder.empty
    if resumed:
        for problem in state_folder.restore(state):
            warn(f"warning: {problem}; going on from the one before")
        say(f"going on with {folder.path} at {state.cur_nimg / 1000:g} kimg")
    device, runtime = torch.device(numerics.device), config.runtime
    processes.use(device)
    states.agree(state, processes)
    feed = Feed(dataset, runtime.seed, device, runtime.workers, config.dataset.labels, processes)
    loss = losses.build(config.loss, dataset.label_kind or "class")
    compiler = Compiler(state.G, state.D, loss, shape, numerics.dtype, say)
    return Job(
        config, Schedule(config.schedule), loss, feed, state, state_folder, processes, compiler=compiler
    ), resumed


def observers(
    job: Job, dataset: Dataset, shape: ImageShape, folder: RunFolder, claim: Claim | None, quiet: bool
) -> list[Observer]:
    """What every run has: grids, snapshots, statistics and, unless quiet, the console."""
    config, runtime = job.config, job.config.runtime
    rows = _label_rows(dataset) if config.dataset.labels else None
    kind, names = (dataset.label_kind, tuple(dataset.label_names)) if config.dataset.labels else (None, ())
    info = SnapshotInfo(config, shape, shape.resolution, 1.0, 0, dataset.name, kind, names, progan=progan.__version__)
    try:
        _write_reals(folder, dataset, shape.resolution)
    except OSError as error:
        raise folder.unwritable(error) from None
    held_out = open_held_out(config, dataset)
    unseen = None if held_out is None else Sample(held_out, use_labels=False)
    watching: list[Observer] = [
        Tolerant("config.json", Home(folder, claim, warn), job.outputs, folder),
        Health(Sample(dataset, config.dataset.labels), unseen, job.loss, folder.stats),
    ]
    if runtime.metrics_kimg is not None:
        num = min(runtime.metrics_num, dataset.count // 2)
        yardstick = Yardstick(dataset, num=num, device=job.state.numerics.device)
        watching.append(PeriodicMetrics(yardstick, runtime.metrics_kimg))
    writing: dict[str, Observer] = {
        "samples": SampleGrids(folder.samples, job.state.G.z_dim, kind, rows, runtime.grid_kimg),
        "snapshots": Snapshots(folder.snapshots, info, rows, runtime.snapshot_kimg),
        "stats.jsonl": StatsFile(folder.stats),
        "tensorboard": TensorBoard(folder.path / "tensorboard"),
    }
    watching += [Tolerant(name, each, job.outputs, folder) for name, each in writing.items()]
    if not quiet:  # nobody may be listening any more
        console = Console(job.schedule, seconds_per_image(config, shape, job.state.numerics))
        watching.append(Tolerant("progress", console, Outputs(lambda text: None), folder))
    return watching


def _label_rows(dataset: Dataset) -> Tensor | None:
    """Labels float32 [n, L] of up to 1,024 images: what sample grids and the mean activation are conditioned on."""
    rows = dataset.labels(dataset.order(0, min(1024, dataset.count), seed=0))
    return None if rows is None else torch.from_numpy(rows)


def _write_reals(folder: RunFolder, dataset: Dataset, resolution: int) -> None:
    """`samples/reals.png`: what the fakes should look like."""
    folder.samples.mkdir(parents=True, exist_ok=True)
    across = columns(resolution)
    indices = dataset.order(0, min(across**2, dataset.count), seed=0)
    pixels = torch.from_numpy(dataset.pixels(resolution, indices))
    write_whole(folder.samples / "reals.png", picture(pixels, across))
