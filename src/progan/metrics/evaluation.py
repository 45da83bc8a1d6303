"""How good a generator is: its images against a dataset's, and that dataset's against itself."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import Tensor

from progan import randomness
from progan.data.dataset import Dataset
from progan.errors import ConfigError
from progan.images import to_pixels
from progan.metrics import METRICS, Value
from progan.snapshot import Snapshot

NUM = 16_384
"""Images of each kind, where the data has twice as many (Karras et al. 2018, section 5)."""
LEAST = 8
"""Fewer images of a kind give no interval."""
DEFAULT = ("swd", "ms_ssim")
_BATCH = 64

Generate = Callable[[Tensor, Tensor | None], Tensor]
"""Latents float32 [n, z_dim] and labels float32 [n, L] or None -> pixels uint8 [n, C, R, R]."""
Progress = Callable[[int, int], None]
"""Told how many fakes are measured, of how many."""


def evaluate(
    snapshot: Snapshot,
    dataset: Dataset,
    metrics: Sequence[str] = DEFAULT,
    num: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, Value]:
    """What the metrics (names of METRICS) say of a snapshot's images at its own resolution, each with its floor.

    `num` images of each kind, default: half of the dataset, at most 16,384. Raises a ProganError where the two cannot
    be compared.
    """
    yardstick = Yardstick(dataset, metrics, num, seed, snapshot.device)
    return measure_snapshot(snapshot, yardstick, progress)


def measure_snapshot(snapshot: Snapshot, yardstick: "Yardstick", progress: Progress | None = None) -> dict[str, Value]:
    """See `evaluate`."""
    yardstick.check(snapshot)

    def generate(z: Tensor, labels: Tensor | None) -> Tensor:
        device = snapshot.device
        return to_pixels(snapshot.generate(z.to(device), None if labels is None else labels.to(device)))

    z_dim, labelled = snapshot.z_dim, snapshot.G.label_size > 0
    return yardstick.measure(generate, snapshot.resolution, z_dim, labelled, progress)


class Yardstick:
    """Measures generators against the same images of a dataset, from the same latents.

    Reals are the first `num` images in the order that the seed gives; the floor compares the first `floor_num` of them
    with the `floor_num` that follow. Fakes have the latents of seeds `first_seed` and on, and the labels of the reals.
    """

    def __init__(
        self,
        dataset: Dataset,
        metrics: Sequence[str] = DEFAULT,
        num: int | None = None,
        seed: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        self._names = [_known(name) for name in metrics]
        self.num = min(NUM, dataset.count // 2) if num is None else num
        self.floor_num = min(self.num, dataset.count // 2)
        if self.floor_num < LEAST or self.num > dataset.count:
            raise ConfigError(
                f"{self.num} images cannot be compared with {dataset.name}, which has {dataset.count}: "
                f"--num must be from {LEAST} to the size of the data, and that at least {2 * LEAST}"
            )
        self.seed, self.first_seed = seed, seed * self.num  # another seed shares no latent
        self._dataset = dataset
        self._device = torch.device("cpu" if torch.device(device).type == "mps" else device)  # MPS has no float64
        self._floors: dict[int, dict[str, Value]] = {}

    def check(self, snapshot: Snapshot) -> None:
        """Raise ConfigError where the snapshot's images cannot be compared with the dataset's."""
        dataset, shape = self._dataset, snapshot.info.shape
        if shape.channels != dataset.channels:
            made, there = ("grey" if channels == 1 else "RGB" for channels in (shape.channels, dataset.channels))
            raise ConfigError(
                f"the snapshot makes {made} images, {dataset.name} has {there} ones. Prepare them with --{made.lower()}"
            )
        names, numbers = snapshot.info.label_names, tuple(map(str, range(shape.label_size)))
        if shape.label_size and (len(dataset.label_names) != len(names) or names not in (numbers, dataset.label_names)):
            raise ConfigError(f"the snapshot was trained with labels {', '.join(names)}, which {dataset.name} lacks")

    def measure(
        self, generate: Generate, resolution: int, z_dim: int, labelled: bool, progress: Progress | None = None
    ) -> dict[str, Value]:
        """The numbers of a generator of this resolution, by name."""
        found = self._compare(resolution, self.num, self._fakes(generate, z_dim, labelled, progress))
        if resolution not in self._floors:
            others = self._reals(resolution, self.floor_num, self.floor_num)
            self._floors[resolution] = self._compare(resolution, self.floor_num, others)
        floors = self._floors[resolution]
        return {name: dataclasses.replace(value, floor=floors[name]) for name, value in found.items()}

    def _compare(self, resolution: int, num: int, fakes: Iterable[Tensor]) -> dict[str, Value]:
        """The first `num` reals with as many other images."""
        metrics = [METRICS[name](self.seed) for name in self._names]
        for images, real in ((self._reals(resolution, 0, num), True), (fakes, False)):
            for pixels in images:
                for metric in metrics:
                    metric.update(pixels, real)
        return {name: value for metric in metrics for name, value in metric.result().items()}

    def _reals(self, resolution: int, start: int, num: int) -> Iterator[Tensor]:
        for first, n in _batches(start, num):
            pixels = self._dataset.pixels(resolution, self._dataset.order(first, n, self.seed))
            yield torch.from_numpy(pixels).to(self._device)

    def _fakes(self, generate: Generate, z_dim: int, labelled: bool, progress: Progress | None) -> Iterator[Tensor]:
        for first, n in _batches(0, self.num):
            seeds = range(self.first_seed + first, self.first_seed + first + n)
            rows = self._dataset.labels(self._dataset.order(first, n, self.seed)) if labelled else None
            labels = None if rows is None else torch.from_numpy(rows)
            yield generate(torch.from_numpy(randomness.latents(seeds, z_dim)), labels).to(self._device)
            if progress:
                progress(first + n, self.num)


def _batches(start: int, num: int) -> Iterator[tuple[int, int]]:
    return ((first, min(_BATCH, start + num - first)) for first in range(start, start + num, _BATCH))


def _known(name: str) -> str:
    """A metric's name, written with _ or with -."""
    if (spelled := name.strip().replace("-", "_")) not in METRICS:
        listed = ", ".join(METRICS).replace("_", "-")
        raise ConfigError(f"there is no metric {name!r}; there are {listed}")
    return spelled
