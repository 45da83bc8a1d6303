"""Observers of every run: files, health, console, and the metrics of `progan evaluate` while it is training."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import progan
from progan.data.dataset import Dataset
from progan.files import Claim, PendingWrites, write_whole
from progan.images import at_once, to_pixels
from progan.metrics.evaluation import Yardstick
from progan.models import Generator
from progan.options import leaves, override
from progan.progress import log_line, silent
from progan.run.assemble import open_held_out
from progan.run_folder import RunFolder
from progan.schedule import Stage
from progan.snapshot import SnapshotInfo, generate
from progan.training.loop import Job
from progan.training.observers.base import Observer, Tick
from progan.training.observers.console import Console
from progan.training.observers.health import SIGNS, Health, Sample, d_won
from progan.training.observers.retrying import KeepFolder, RetryingObserver
from progan.training.observers.run_files import (
    SWD,
    SampleGrids,
    Snapshots,
    StatsFile,
    columns,
    picture,
    record,
    until,
)
from progan.training.observers.tensorboard import TensorBoard
from progan.training.observers.wandb import Wandb
from progan.training.state import TrainingState

LOW = "metrics/low/swd"
"""Name in stats.jsonl of the lower end of the 95 % interval of the averaged generator's SWD."""
PATIENCE = 5
"""Measurements without improvement after which a run is flat."""
SMALLEST = 16
"""Smallest resolution that is measured: the coarsest scale of the metrics."""


def observers(
    job: Job, dataset: Dataset, folder: RunFolder, claim: Claim | None, quiet: bool, flat: "Flatness | None" = None
) -> list[Observer]:
    """Standard observers of a run, without the console where `quiet`; `flat` is one of them."""
    setup, config, shape = job.setup, job.setup.config, job.setup.shape
    runtime, pending = config.runtime, job.pending
    rows = _label_rows(dataset) if config.dataset.labels else None
    kind, names = (dataset.label_kind, tuple(dataset.label_names)) if config.dataset.labels else (None, ())
    licence = str(folder.initial().get("licence", ""))  # that of the networks the run began with
    stage = shape.resolution, 1.0, 0
    shown = override(config, {"copy_to": None})  # whoever gets a snapshot need not know where the run is copied
    info = SnapshotInfo(shown, shape, *stage, dataset.name, kind, names, licence, progan.__version__)
    settings = {"model": config.model.kind, "loss": config.loss.kind}
    settings |= {option.name: value for _, option, value in leaves(config)}
    try:
        _write_reals(folder, dataset, shape.resolution)
    except OSError as error:
        raise folder.unwritable(error) from None

    # Observers that measure come before those that write what was measured.
    held_out = open_held_out(config, dataset)
    unseen = None if held_out is None else Sample(held_out, use_labels=False)
    signs = SIGNS if config.health.rescue else (*SIGNS, d_won(setup.loss))  # a rescue says so itself
    watching: list[Observer] = [
        RetryingObserver("config.json", KeepFolder(folder, claim, log_line), pending, folder),
        Health(Sample(dataset, config.dataset.labels), unseen, signs, folder.stats),
    ]
    if runtime.metrics_kimg is not None:
        num = min(runtime.metrics_num, dataset.count // 2)
        yardstick = Yardstick(dataset, num=num, device=setup.numerics.device)
        watching += [PeriodicMetrics(yardstick, runtime.metrics_kimg), *([flat] if flat else [])]
    writing: dict[str, Observer] = {
        "samples": SampleGrids(folder.samples, job.state.G.z_dim, kind, rows, runtime.grid_kimg),
        "snapshots": Snapshots(folder, info, rows, runtime.snapshot_kimg),
        "stats.jsonl": StatsFile(folder.stats),
        "tensorboard": TensorBoard(folder.path / "tensorboard", folder.samples, settings),
    }
    watching += [RetryingObserver(name, each, pending, folder) for name, each in writing.items()]
    if runtime.wandb is not None:
        watching.append(Wandb(runtime.wandb, folder.path, folder.samples, settings, log_line))
    if not quiet and job.pace is not None:  # a closed terminal does not end a run
        console = Console(setup.schedule, job.pace)
        watching.append(RetryingObserver("progress", console, PendingWrites(silent), folder))
    return watching


def _label_rows(dataset: Dataset) -> Tensor | None:
    """Labels float32 [n, L] of up to 1,024 images, for sample grids and the mean activation."""
    rows = dataset.labels(dataset.order(0, min(1024, dataset.count), seed=0))
    return None if rows is None else torch.from_numpy(rows)


def _write_reals(folder: RunFolder, dataset: Dataset, resolution: int) -> None:
    """Write `samples/reals.png`: what fakes should look like."""
    folder.samples.mkdir(parents=True, exist_ok=True)
    across = columns(resolution)
    indices = dataset.order(0, min(across**2, dataset.count), seed=0)
    pixels = torch.from_numpy(dataset.pixels(resolution, indices))
    write_whole(folder.samples / "reals.png", picture(pixels, across))


class PeriodicMetrics(Observer):
    """Observer that adds metrics of G and of its average to the first tick after every `metrics_kimg`.

    `metrics/G_ema/swd`, `metrics/G/swd` and `metrics/floor/swd` … at the resolution of the stage. In a fade the reals
    are not faded: they show what is still to come.
    """

    def __init__(self, yardstick: Yardstick, metrics_kimg: float) -> None:
        self._yardstick, self._nimg = yardstick, 1000 * metrics_kimg
        self._last = 0

    def on_start(self, state: TrainingState, stage: Stage) -> None:
        self._last = state.cur_nimg - state.tally.images  # the last tick

    def on_tick(self, tick: Tick, state: TrainingState) -> None:
        due = tick.cur_nimg // self._nimg > self._last // self._nimg  # the same in a run that was stopped in between
        self._last = tick.cur_nimg
        if due and tick.stage.resolution >= SMALLEST:
            for name, network in (("G_ema", state.G_ema), ("G", state.G)):
                tick.metrics.update(self._measure(name, network, tick.stage, state))

    def _measure(self, name: str, network: Generator, stage: Stage, state: TrainingState) -> dict[str, float]:
        def pixels(z: Tensor, labels: Tensor | None) -> Tensor:
            z, size = z.to(state.numerics.dtype), at_once(stage.resolution, 16)
            batches = generate(network, z, labels, stage.resolution, stage.alpha, size)
            return torch.cat([to_pixels(images) for images in batches])

        was_training = network.training
        network.eval()  # so that statistics of batches, where a network has any, stay those of the training
        with torch.no_grad():
            values = self._yardstick.measure(pixels, stage.resolution, network.z_dim, network.label_size > 0)
        network.train(was_training)
        numbers = {f"metrics/{name}/{key}": value.value for key, value in values.items()}
        floors = {f"metrics/floor/{key}": value.floor.value for key, value in values.items() if value.floor}
        if name == "G_ema":
            numbers[LOW] = values["swd"].low
        return {**numbers, **floors}


class Flatness(Observer):
    """Observer that finds whether the SWD no longer improves; what it finds follows from stats.jsonl."""

    def __init__(self, stats: Path, resolution: int) -> None:
        self._stats, self._resolution = stats, resolution
        self._lines: list[dict[str, Any]] = []

    def on_start(self, state: TrainingState, stage: Stage) -> None:
        self._lines = until(state.cur_nimg, self._stats)

    def on_tick(self, tick: Tick, state: TrainingState) -> None:
        self._lines.append(record(tick))
        if self():
            best = min(self._measured(), key=lambda line: float(line[SWD]))
            tick.notices.append(
                f"the SWD no longer improves: {best[SWD]:.3g} at {best['cur_nimg'] / 1000:g} kimg, and none of "
                f"{PATIENCE} measurements since is below its interval. The run ends here (--stop-when-flat)"
            )

    def __call__(self) -> bool:
        """True if none of the last measurements is below the interval of the best one before them."""
        lines = self._measured()
        before, last = lines[:-PATIENCE], lines[-PATIENCE:]
        if not before:
            return False
        best = min(before, key=lambda line: float(line[SWD]))
        return bool(min(line[SWD] for line in last) >= best[LOW])

    def _measured(self) -> list[dict[str, Any]]:
        """Lines with a measurement at the final resolution, after its fade."""
        return [
            line
            for line in self._lines
            if line["resolution"] == self._resolution and line["phase"] == "stable" and LOW in line
        ]
