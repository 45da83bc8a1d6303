"""Parts of a run: configuration, images, numerics, state and all that trains with them."""

import dataclasses
import json
import socket
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from progan.config import RunConfig, check_minutes, coerce, no_images
from progan.data.cache import open_data, preparation_notes
from progan.data.dataset import Dataset, Manifest
from progan.data.sources.named import preparation
from progan.devices import UNTRIED, keep_pages
from progan.errors import ConfigError, DatasetError, MemoryShortError
from progan.files import word
from progan.metrics.evaluation import LEAST
from progan.models import ImageShape
from progan.options import from_dict, override, to_dict
from progan.presets import preset as named_preset
from progan.progress import Log, log_line, progress_bar, silent
from progan.run import initial
from progan.run_folder import RunFolder
from progan.schedule import Stage
from progan.training import numerics
from progan.training.accelerate.traced import Executors
from progan.training.feed import Feed
from progan.training.loop import Job
from progan.training.numerics import Numerics
from progan.training.observers.run_files import until
from progan.training.parallel import rendezvous
from progan.training.parallel.processes import Processes
from progan.training.preflight import autotune, fit
from progan.training.preflight.estimate import Pace, announcement
from progan.training.setup import RunSetup
from progan.training.state import StateFolder, TrainingState, share

AUTO = "auto"
"""Batch size of the preset, or less where memory is short."""


def configure(
    preset: str | None,
    data: str | Path | None,
    folder: RunFolder | None,
    options: dict[str, Any],
    minutes: float | None = None,
) -> RunConfig:
    """Configuration of a preset, or of the run in the folder, with data and options put in.

    With --init, options of the model and the first resolution are those of the networks to begin with. The lengths that
    --minutes led to hold when a run is continued.
    """
    check_minutes(minutes, options.get("total_kimg"))
    changes = {name: value for name, value in options.items() if name != "recipe"}
    changes |= {} if data is None else {"data": str(data)}
    begun = folder.read()[0] if folder is not None and folder.exists else None
    if folder is not None and begun is not None and data is None:
        folder.images()  # or RunError
    if preset is None and begun is not None:
        if options.get("recipe") is not None:
            raise ConfigError("--recipe is for a new run: leave it out to go on with this one")
        config = begun
    else:
        config = named_preset(preset or "quickstart", options.get("recipe"), options.get("loss"))
    if begun is not None and config is not begun:  # what a run has until it is given another
        kept = {"copy_to": begun.runtime.copy_to, "held_out": begun.health.held_out}
        changes = {**kept, **changes}
    if changes.get("copy_to") is not None and "://" not in str(changes["copy_to"]):
        changes["copy_to"] = str(Path(changes["copy_to"]).absolute())  # for those who go on from another folder
    if config is not begun and changes.get("init") is not None:
        final = coerce("resolution", changes.get("resolution", config.schedule.resolution), int)
        if begun is None:
            known = initial.read(coerce("init", changes["init"], str))
            model, start = known.model, known.start(final)
        else:  # what was begun goes on without them
            model, start = begun.model, begun.schedule.start_resolution
        if changes.get("model", model.kind) != model.kind:
            raise ConfigError(f"--init {changes['init']} has networks of --model {model.kind}, not {changes['model']}")
        schedule = replace(config.schedule, resolution=final, start_resolution=final)
        config = replace(config, model=model, schedule=schedule)
        changes = {"start_resolution": start, **changes}
    if begun is not None and minutes is not None:
        lengths = {name: getattr(begun.schedule, name) for name in ("stable_kimg", "fade_kimg", "total_kimg")}
        changes = {**changes, **lengths, "stable_epochs": None}
    if options.get("batch_size") != AUTO:
        return override(config, changes)
    config = override(config, {name: value for name, value in changes.items() if name != "batch_size"})
    found = begun or config  # what `auto` found when the run was begun holds
    return replace(config, schedule=replace(config.schedule, batch_size=found.schedule.batch_size))


def share_config(config: RunConfig, processes: Processes) -> RunConfig:
    """Configuration of the first process, the only one that needs to see the run folder."""
    return from_dict(json.loads(processes.broadcast(json.dumps(to_dict(config)).encode())))


def prepared_before(config: RunConfig, folder: RunFolder | None) -> str:
    """Where the images of the run in the folder were prepared to, if --data still names the same; empty if not."""
    if folder is None or not folder.exists:
        return ""
    begun, data = folder.read()
    return data.path if config.dataset.data == begun.dataset.data else ""


def open_dataset_in_turn(config: RunConfig, log: Log, processes: Processes, prepared: str = "") -> Dataset:
    """Images of the run, prepared by the first process, and by one on each machine that does not share its disk.

    `prepared`, which only the first process needs to know, is as for `open_dataset`.
    """
    prepared = json.loads(processes.broadcast(json.dumps(prepared).encode()))
    if not processes.first:
        processes.wait()
    try:
        dataset = open_dataset(config, log, prepared)
    except DatasetError as error:
        where = "" if processes.size == 1 else f"on {socket.gethostname()}: "
        raise DatasetError(f"{where}{error}") from None
    if processes.first:
        processes.wait()
    processes.wait()
    if processes.broadcast(dataset.fingerprint.encode()) != dataset.fingerprint.encode():
        raise DatasetError(f"on {socket.gethostname()}: {dataset.path} has other images than that of the first process")
    return dataset


def open_dataset(config: RunConfig, log: Log, prepared: str = "") -> Dataset:
    """Images of the run, prepared into the cache if they are not prepared yet.

    `prepared` is where a run that goes on has them prepared: that is taken where --data can no longer be opened.
    """
    if not config.dataset.data:
        raise no_images(config)
    resolution = config.schedule.resolution
    with progress_bar("preparing", hidden=not rendezvous.is_first()) as progress:
        wanted = preparation(config.dataset.data, resolution=resolution, label_column=config.dataset.label_column)
        try:
            dataset = open_data(config.dataset.data, wanted, log, progress)
        except DatasetError as error:
            if not prepared or not Manifest.is_in(Path(prepared)):
                raise
            dataset = Dataset.open(prepared)
            reason = str(error).partition(". ")[0]
            log(f"note: {reason}. The run goes on with the copy that was prepared of it, {prepared}")
    if resolution not in dataset.resolutions:
        most = dataset.resolutions[-1]
        raise DatasetError(
            f"{dataset.path} has images up to {most}x{most}. Use --resolution {most}, or prepare it with "
            f"--resolution {resolution}"
        )
    if config.dataset.labels and dataset.label_kind is None:
        raise no_labels(str(dataset.path), preparation_notes(dataset))
    if config.runtime.metrics_kimg is not None and dataset.count < 2 * LEAST:
        raise DatasetError(f"--metrics-kimg: {dataset.path} has too few images to measure with, {dataset.count}")
    return dataset


def no_labels(place: str, notes: Sequence[str]) -> DatasetError:
    """Error for --labels where the data has none; the notes say why."""
    return DatasetError(
        f"--labels: {'; '.join((f'{place} has no labels', *notes))}. Leave it out, or prepare images with labels"
    )


def open_held_out(config: RunConfig, dataset: Dataset) -> Dataset | None:
    """Images of --held-out. Raises DatasetError if D could not be shown them, or is trained on them."""
    if config.health.held_out is None:
        return None
    held_out = Dataset.open(config.health.held_out)
    if held_out.fingerprint == dataset.fingerprint:
        raise DatasetError(
            f"--held-out {held_out.path} has the same images as --data. Split them with progan data split"
        )
    if held_out.channels != dataset.channels or config.schedule.resolution not in held_out.resolutions:
        raise DatasetError(
            f"--held-out {held_out.path} does not have the channels and resolutions of --data. Make both with "
            "progan data split"
        )
    return held_out


def image_shape(config: RunConfig, dataset: Dataset) -> ImageShape:
    """Shape of the images and labels that the networks are built for."""
    labels = len(dataset.label_names) if config.dataset.labels else 0
    return ImageShape(config.schedule.resolution, dataset.channels, labels)


def set_up(config: RunConfig, dataset: Dataset, folder: RunFolder | None, log: Log, processes: Processes) -> RunSetup:
    """Setup of a run with the numerics of its newest state, or with those that `auto` finds best, nothing compiled yet.

    Only the first process reads the run folder, and tells the others. Raises DeviceError for what this machine lacks,
    RunError if a newer progan wrote the state.
    """
    now = numerics.choose(config.runtime, processes)
    on_cpu = torch.device(now.device).type == "cpu"
    if on_cpu:
        keep_pages(True)
    if (word := UNTRIED.get(torch.device(now.device).type)) is not None:
        log(f"note: {word}")
    setup = RunSetup(config, image_shape(config, dataset), now, processes, log, dataset.label_kind or "class")
    recorded = StateFolder(folder.state).numerics() if processes.first and folder is not None else None
    if recorded is not None:
        wished = numerics.wished_threads(config.runtime)
        threads = wished or min(recorded.threads, now.threads)
        now = replace(
            now,
            precision=recorded.precision,
            compiled=recorded.compiled,
            winograd=recorded.winograd and on_cpu,
            threads=threads,
        )
        if changed := recorded.differences(now):
            log(f"note: not the machine or versions the run began on ({', '.join(changed)}): the bits may differ")
    elif processes.first:
        now = autotune.decide_threads(setup)
        now = autotune.decide_precision(replace(setup, numerics=now))
        now = autotune.decide_winograd(replace(setup, numerics=now))
    now = now.shared(processes)
    torch.set_num_threads(now.threads)
    return replace(setup, numerics=now)


def fit_into_memory(setup: RunSetup, dataset: Dataset, folder: RunFolder | None, auto: bool) -> RunSetup:
    """Setup with batches that fit into the memory. Raises MemoryShortError if they do not."""
    start, processes = 0, setup.processes
    if processes.first and folder is not None and folder.exists:
        start, auto = max(StateFolder(folder.state).positions(), default=0), False
    start, auto = json.loads(processes.broadcast(json.dumps([start, auto]).encode()))
    return replace(setup, config=fit.ensure(setup, dataset.level_bytes, auto, start))


def assemble(
    setup: RunSetup, dataset: Dataset, folder: RunFolder, pace: Pace | None = None, decide: bool = False
) -> tuple[Job, bool]:
    """Networks, optimisers and feed, as new or as the newest state has them; True if there was a state.

    `decide`: a run that is at its beginning finds out what to compile when it begins to train. One that the first
    process has a pace of knows it already.
    """
    processes, states = setup.processes, StateFolder(folder.state)
    decide = json.loads(processes.broadcast(json.dumps(decide and pace is None).encode()))
    resumed = processes.first and not states.empty
    setup = replace(setup, numerics=setup.numerics.shared(processes))
    state = TrainingState.new(setup)
    if setup.config.runtime.init is not None and processes.first and not resumed:
        # From here on the run has what it needs: its first state is written, and the networks are not read again.
        line, facts = initial.begin(initial.read(setup.config.runtime.init, setup.log), setup.config, state)
        setup.log(line)
        folder.record_initial(facts)
        states.write(state)
    if resumed:
        for problem in states.restore(state):
            log_line(f"warning: {problem}; going on from the one before")
        setup.log(f"going on with {folder.path} at {state.cur_nimg / 1000:g} kimg")
        pace = autotune.pace_of(setup, until(state.cur_nimg, folder.stats))
    processes.use(setup.device)
    share(state, processes)
    decision = None
    if decide and state.cur_nimg == 0:
        pace = Pace(setup.schedule, {}, {})
        decision = partial(_decide_compiled, setup, state, pace)
    executors = Executors(setup, state, pace, decision)
    return Job(setup, Feed(setup, dataset), state, states, executors=executors, pace=pace), resumed


def _decide_compiled(setup: RunSetup, state: TrainingState, pace: Pace) -> None:
    """Decide what is compiled, in the first process, and say how long the run will take. Its trials may take a minute,
    and so come after the first grid.
    """
    if setup.processes.first:
        unseen = setup.log is silent and setup.config.runtime.compile != "auto"  # nobody asks how fast it will be
        cost = autotune.speeds(setup, 0.0 if unseen else None)
        state.numerics, found = autotune.decide_compiled(setup, cost)
        pace.become(found)
        for line in announcement(setup.config, pace, 0, shorten=True):
            setup.log(line)
    state.numerics = state.numerics.shared(setup.processes)


def out_of_memory(setup: RunSetup, numerics: Numerics, stage: Stage, folder: RunFolder) -> MemoryShortError:
    """Error of a run whose memory ran out in training."""
    saved = max(StateFolder(folder.state).positions(), default=0) / 1000
    what = fit.after_all(dataclasses.replace(setup, numerics=numerics), stage)
    goes_on = f"where more is free, progan train --out {word(folder.path)} goes on"
    return MemoryShortError(f"{what}. All up to {saved:g} kimg is saved: {goes_on}")
