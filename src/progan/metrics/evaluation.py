"""How good a generator is: its images against a dataset's, and that dataset's against itself."""

import dataclasses
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from progan import randomness
from progan.config import MOST_SEED, coerce
from progan.data.dataset import Dataset, Indices
from progan.errors import ConfigError, did_you_mean
from progan.images import to_images, to_pixels
from progan.metrics import METRICS, Setting, Value, make
from progan.progress import Log, silent
from progan.snapshot import Snapshot

NUM = 16_384
"""Images of each kind, where the data has twice as many (Karras et al. 2018, section 5)."""
LEAST = 8
"""Fewer images of a kind give no interval."""
DEFAULT = ("swd", "ms_ssim")
ALL = "all"
"""In the place of names: every metric that the data allows."""
INCEPTION, INCEPTION_NUM = "inception", 50_000
OF_INCEPTION = ("fid", "kid", "inception_score")
"""In the place of names: those of Inception-v3, and their number of fakes, that of published numbers."""
_BATCH = 64

Generate = Callable[[Tensor, Tensor | None], Tensor]
"""Latents float32 [n, z_dim] and labels float32 [n, L] or None -> images float [n, C, R, R] or pixels uint8."""
Progress = Callable[[int, int], None]
"""Called with the number of images looked at so far, real and generated, and the number of all."""


def evaluate(
    snapshot: Snapshot,
    dataset: Dataset | str | os.PathLike[str],
    metrics: Sequence[str] = DEFAULT,
    num: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
    held_out: Dataset | None = None,
    inception_weights: Path | None = None,
    inception_statistics: Path | None = None,
) -> dict[str, Value]:
    """Numbers of a snapshot's images at its own resolution, with their real-vs-real baselines.

    `dataset`: a prepared one, or its folder. `metrics`: names of METRICS, or `all`, or `inception` for FID, KID and
    Inception score of 50,000 fakes. `num`: images of each kind, default half of the dataset, at most 16,384.
    `inception_weights`, `inception_statistics`: files for these (docs/metrics.md). Raises a ProganError if the two
    cannot be compared, or if a metric lacks what it needs.
    """
    if not isinstance(snapshot, Snapshot):
        raise ConfigError(f"give a generator, such as progan.load(RUN); got {snapshot!r}")
    num, seed = coerce("num", num, int | None), coerce("seed", seed, int)
    dataset = dataset if isinstance(dataset, Dataset) else Dataset.open(dataset)
    metrics = [metrics] if isinstance(metrics, str) else metrics
    yardstick = Yardstick(
        dataset, metrics, num, seed, snapshot.device, held_out, inception_weights, inception_statistics
    )
    return yardstick.measure_snapshot(snapshot, progress)


class Yardstick:
    """Measures generators against the same images of a dataset, from the same latents.

    Reals are the first `real_num` images in the order that the seed gives; the baseline compares the first `floor_num`
    of them with the `floor_num` that follow. Fakes have the latents of seeds `first_seed` and on, and the labels of the
    reals. `notes` gathers what people must know beside the numbers; `log` is called before what takes long.
    """

    def __init__(
        self,
        dataset: Dataset,
        metrics: Sequence[str] = DEFAULT,
        num: int | None = None,
        seed: int = 0,
        device: torch.device | str = "cpu",
        held_out: Dataset | None = None,
        inception_weights: Path | None = None,
        inception_statistics: Path | None = None,
        log: Log = silent,
    ) -> None:
        asked = [name.strip() for name in metrics]
        self._all = asked == [ALL]
        if asked == [INCEPTION]:
            num = INCEPTION_NUM if num is None else num
        self._names = known(asked)
        # The baseline takes as many images as the measurement where the data has twice as many, else fewer.
        self.num = min(NUM, dataset.count // 2) if num is None else num
        self.real_num = min(self.num, dataset.count)
        self.floor_num = min(self.num, dataset.count // 2)
        uneven = all(METRICS[name].uneven for name in self._names)
        if self.floor_num < LEAST or (self.num > dataset.count and not uneven):
            raise ConfigError(
                f"{self.num} images cannot be compared with {dataset.name}, which has {dataset.count}: "
                f"--num must be from {LEAST} to the size of the data, and that at least {2 * LEAST}"
            )
        most = MOST_SEED // self.num - 1
        if not 0 <= seed <= most:
            raise ConfigError(f"--seed must be from 0 to {most}")
        self.seed, self.first_seed = seed, seed * self.num  # another seed shares no latent
        self._dataset = dataset
        on = "cpu" if torch.device(device).type == "mps" else str(device)  # MPS has no float64
        self._setting = Setting(seed, 0, dataset, held_out, inception_weights, inception_statistics, device=on, log=log)
        self.notes = self._setting.notes
        for option, value, wanted_by in (
            ("--held-out", held_out, ("neighbours",)),
            ("--inception-weights", inception_weights, OF_INCEPTION),
            ("--inception-statistics", inception_statistics, ("fid",)),
        ):
            # Metrics of other packages may look at any of them.
            if value is not None and not any(name in wanted_by or ":" in METRICS[name].home for name in self._names):
                metrics_of = ", ".join(name.replace("_", "-") for name in wanted_by)
                self._setting.note(f"{option} changes none of these metrics; it is for {metrics_of}")
        self._settings: dict[int, Setting] = {}
        self._floors: dict[int, dict[str, Value]] = {}

    def require(self, resolution: int) -> None:
        """Raise ConfigError if one of the metrics lacks what it needs for images of this resolution."""
        for name in [] if self._all else self._names:
            make(name, self.setting(resolution))

    def measure_snapshot(self, snapshot: Snapshot, progress: Progress | None = None) -> dict[str, Value]:
        """The numbers of a snapshot. Raises ConfigError if its images cannot be compared with the dataset's."""
        dataset, shape = self._dataset, snapshot.info.shape
        if shape.channels != dataset.channels:
            made, there = ("grey" if channels == 1 else "RGB" for channels in (shape.channels, dataset.channels))
            raise ConfigError(
                f"the snapshot makes {made} images, {dataset.name} has {there} ones. Prepare them with --{made.lower()}"
            )
        names, numbers = snapshot.info.label_names, tuple(map(str, range(shape.label_size)))
        if shape.label_size and (len(dataset.label_names) != len(names) or names not in (numbers, dataset.label_names)):
            raise ConfigError(f"the snapshot was trained with labels {', '.join(names)}, which {dataset.name} lacks")
        labelled = snapshot.G.label_size > 0
        return self.measure(snapshot.generate, snapshot.resolution, snapshot.z_dim, labelled, progress)

    def first_fakes(self, snapshot: Snapshot, num: int) -> Tensor:
        """Pixels uint8 [n, C, R, R] of the first `num` images that `measure_snapshot` looks at."""
        labelled = snapshot.G.label_size > 0
        fakes = self.fakes(snapshot.generate, snapshot.z_dim, labelled, min(num, self.num))
        return torch.cat([to_pixels(some) for some in fakes])

    def measure(
        self, generate: Generate, resolution: int, z_dim: int, labelled: bool, progress: Progress | None = None
    ) -> dict[str, Value]:
        """The numbers of a generator of this resolution, by name."""
        setting = self.setting(resolution)
        # First the fakes against the reals, then, once for each resolution, other reals against the same reals.
        names = self._possible(setting) if self._all else self._names
        total = self.real_num + self.num + (0 if resolution in self._floors else 2 * self.floor_num)
        done = 0

        def looked(count: int) -> None:
            nonlocal done
            done += count
            if progress:
                progress(done, total)

        asked = ", ".join(name.replace("_", "-") for name in names)
        data = self._dataset.name
        setting.log(f"measuring {asked}: {self.num:,} generated images and {self.real_num:,} of {data}")
        found = self._compare(setting, names, self.real_num, self.fakes(generate, z_dim, labelled, self.num), looked)
        if resolution not in self._floors:
            setting.log(f"the same for the baseline: {self.floor_num:,} images of {data} and {self.floor_num:,} others")
            others = self._reals(resolution, self.floor_num, self.floor_num)
            without = [name for name in names if not METRICS[name].own_floor]
            self._floors[resolution] = self._compare(setting, without, self.floor_num, others, looked)
        floors = self._floors[resolution]
        return {
            name: value if value.floor else dataclasses.replace(value, floor=floors.get(name))
            for name, value in found.items()
        }

    def setting(self, resolution: int) -> Setting:
        """What metrics of images of this resolution are made with."""
        if resolution not in self._settings:
            self._settings[resolution] = dataclasses.replace(self._setting, resolution=resolution)
        return self._settings[resolution]

    def fakes(self, generate: Generate, z_dim: int, labelled: bool, num: int) -> Iterator[Tensor]:
        """The first `num` images of a generator, a batch at a time."""
        for first, indices in self._batches(0, num):
            n = len(indices)
            seeds = range(self.first_seed + first, self.first_seed + first + n)
            rows = self._dataset.labels(indices) if labelled else None
            labels = None if rows is None else torch.from_numpy(rows)
            yield generate(torch.from_numpy(randomness.latents(seeds, z_dim)), labels).to(self._setting.device)

    def _reals(self, resolution: int, start: int, num: int) -> Iterator[Tensor]:
        for _, indices in self._batches(start, num):
            yield torch.from_numpy(self._dataset.pixels(resolution, indices)).to(self._setting.device)

    def _batches(self, start: int, num: int) -> Iterator[tuple[int, Indices]]:
        """Place of the first, and numbers in the dataset, of the `num` images from `start` on, a batch at a time."""
        for first in range(start, start + num, _BATCH):
            yield first, self._dataset.order(first, min(_BATCH, start + num - first), self.seed)

    def _possible(self, setting: Setting) -> list[str]:
        """The metrics that the data allows; a note for each reason says which others are left out."""
        names: list[str] = []
        lacking: dict[str, list[str]] = {}
        for name in self._names:
            try:
                make(name, setting)
                names.append(name)
            except ConfigError as error:
                spelled = name.replace("_", "-")
                lacking.setdefault(str(error).removeprefix(f"{spelled} "), []).append(spelled)
        for reason, others in lacking.items():
            setting.note(f"left out: {', '.join(others)}: {reason}")
        return names

    def _compare(
        self,
        setting: Setting,
        names: Sequence[str],
        real_num: int,
        fakes: Iterable[Tensor],
        looked: Callable[[int], None],
    ) -> dict[str, Value]:
        """The first `real_num` reals with other images; `looked` is called with the size of every batch."""
        metrics = {name: (make(name, setting), METRICS[name].unclipped) for name in names}
        broken = 0
        for batches, real in ((self._reals(setting.resolution, 0, real_num), True), (fakes, False)):
            for batch in batches:
                if batch.is_floating_point():  # a number of black pictures would look like any other
                    broken += int((~batch.isfinite()).flatten(1).any(1).sum())
                # Metrics see rounded and clipped pixels, but for those that look at what clipping cuts.
                forms = {False: to_pixels(batch) if batch.is_floating_point() else batch}
                if any(unclipped for _, unclipped in metrics.values()):
                    forms[True] = batch if batch.is_floating_point() else to_images(batch)
                for metric, unclipped in metrics.values():
                    metric.update(forms[unclipped], real)
                looked(len(batch))
        if broken:
            setting.note(
                f"{broken:,} generated images have values that are NaN or infinite, measured as black or white: "
                "the generator is damaged"
            )
        found: dict[str, Value] = {}
        for name, (metric, _) in metrics.items():
            try:
                found |= {key: value.within(*METRICS[name].limits) for key, value in metric.result().items()}
            except ConfigError as error:  # too few images; of `all` the others are still wanted
                if not self._all:
                    raise
                setting.note(f"left out: {error}")
        return found


def known(asked: Iterable[str]) -> list[str]:
    """Names of metrics that may be written with - instead of _; or all of them, or those of Inception-v3. ConfigError
    for others.
    """
    found = {name.strip().replace("-", "_"): name.strip() for name in asked}
    if list(found) in ([ALL], [INCEPTION]):
        return list(METRICS if ALL in found else OF_INCEPTION)
    for spelled, name in found.items():
        if spelled in (ALL, INCEPTION):
            raise ConfigError(f"--metrics {name} is given alone, since it stands for several metrics")
        if spelled not in METRICS:
            names = [each.replace("_", "-") for each in METRICS]
            hint = did_you_mean(name, names) or f"; there are {', '.join(names)}, or `all`"
            raise ConfigError(f"there is no metric {name!r}{hint}")
    return list(found)
