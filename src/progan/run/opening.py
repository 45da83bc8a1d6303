"""The images of a run."""

from progan.config import PrepareConfig, RunConfig
from progan.data.cache import open_data
from progan.data.dataset import Dataset
from progan.errors import ConfigError, DatasetError
from progan.metrics.evaluation import LEAST
from progan.models import ImageShape
from progan.progress import Say, progress_bar
from progan.training.parallel import rendezvous
from progan.training.parallel.processes import Processes


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
    with progress_bar("preparing", hidden=not rendezvous.is_first()) as progress:
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
