"""What watches every run."""

import torch
from torch import Tensor

import progan
from progan.data.dataset import Dataset
from progan.files import Claim, PendingWrites, write_whole
from progan.metrics.evaluation import Yardstick
from progan.progress import warn
from progan.run.opening import image_shape, open_held_out
from progan.run.periodic_metrics import PeriodicMetrics
from progan.run_folder import RunFolder
from progan.snapshot import SnapshotInfo
from progan.training.iteration import Job
from progan.training.observers.base import Observer
from progan.training.observers.console import Console
from progan.training.observers.health import SIGNS, Health, d_won
from progan.training.observers.home import Home
from progan.training.observers.probe import Sample
from progan.training.observers.retrying import Tolerant
from progan.training.observers.run_files import SampleGrids, Snapshots, StatsFile, columns, picture
from progan.training.observers.tensorboard import TensorBoard
from progan.training.preflight.estimate import seconds_per_image


def observers(job: Job, dataset: Dataset, folder: RunFolder, claim: Claim | None, quiet: bool) -> list[Observer]:
    """What every run has: grids, snapshots, statistics and, unless quiet, the console."""
    config, runtime, shape = job.config, job.config.runtime, image_shape(job.config, dataset)
    rows = _label_rows(dataset) if config.dataset.labels else None
    kind, names = (dataset.label_kind, tuple(dataset.label_names)) if config.dataset.labels else (None, ())
    info = SnapshotInfo(config, shape, shape.resolution, 1.0, 0, dataset.name, kind, names, progan=progan.__version__)
    try:
        _write_reals(folder, dataset, shape.resolution)
    except OSError as error:
        raise folder.unwritable(error) from None
    held_out = open_held_out(config, dataset)
    unseen = None if held_out is None else Sample(held_out, use_labels=False)
    signs = SIGNS if config.health.rescue else (*SIGNS, d_won(job.loss))  # a rescue says so itself
    watching: list[Observer] = [
        Tolerant("config.json", Home(folder, claim, warn), job.outputs, folder),
        Health(Sample(dataset, config.dataset.labels), unseen, signs, folder.stats),
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
        watching.append(Tolerant("progress", console, PendingWrites(lambda text: None), folder))
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
