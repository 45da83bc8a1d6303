"""What the finished generators are worth, measured alike, remembered in JSON beside the runs; and pictures of them."""

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from progan.comparison.contestants import folders
from progan.comparison.controls import Control
from progan.comparison.runs import Member
from progan.data.dataset import Dataset
from progan.files import write_whole
from progan.images import downscale, to_pixels
from progan.metrics import Value, limits
from progan.metrics.base import fraction_of, jackknife
from progan.metrics.evaluation import Yardstick
from progan.metrics.nearest import beside, nearest_images
from progan.models import Generator, ImageShape
from progan.randomness import latents
from progan.report.charts import spectrum
from progan.report.comparison_page import REALS, Pictures, Spectrum
from progan.report.results import COPIES, MEMORISATION
from progan.sampling.pictures import samples
from progan.schedule import Stage
from progan.snapshot import generate, load
from progan.training.numerics import choose
from progan.training.setup import RunSetup
from progan.training.state import StateFolder, TrainingState

_QUERIES = 256
"""Images whose distance to training images is measured."""
_SPECTRUM, _SHOWN = 512, 64
_QUERIES_SHOWN, _NEIGHBOURS_SHOWN = 6, 4
_PARTS = 8  # of the jackknife
_COPY = 0.25
"""An image is a copy if its distance to the nearest training image is less than so much of that to any held-out one."""
_VERSION = 2  # of what is remembered. 2: memorisation is a ratio of means

Values = dict[str, Value]


class Measurer:
    """One yardstick for all: held-out images that no model saw, the same latents for every generator."""

    def __init__(
        self, train: Dataset, held_out: Dataset, metrics: tuple[str, ...], num: int, resolution: int, cache: Path
    ) -> None:
        self._train, self._held_out, self._resolution = train, held_out, resolution
        self.num, self.train_count = num, train.count
        self._queries = min(_QUERIES, num)
        self._yardstick = Yardstick(held_out, metrics, num)
        self._yardstick.require(resolution)
        self._key = {
            "version": _VERSION,
            "metrics": list(metrics),
            "num": num,
            "data": held_out.fingerprint,
            "resolution": resolution,
        }
        self._cache = cache
        self._baseline: Values | None = None

    def all(self, members: Sequence[Member], controls: Sequence[Control], seeds: int, jobs: int) -> None:
        """Measure everything once, `jobs` at a time; `member` and `control` then only remember."""
        self.member(members[0])  # alone: it makes what all share
        with ThreadPoolExecutor(max(jobs, 1)) as pool:
            list(pool.map(self.member, members[1:]))
        for control in controls:
            for seed in range(seeds):
                self.control(control, seed)

    def knows(self, member: Member) -> bool:
        """True if the member was measured before; it may have been trained further since."""
        return self._recall(member.name) is not None

    def member(self, member: Member) -> dict[str, Values]:
        """The numbers of the run's averaged generator and of the one that was trained."""
        return self._remembered(member.name, lambda: self._networks(member))

    def control(self, control: Control, seed: int) -> dict[str, Values]:
        """The numbers of its images with this seed."""

        def measure() -> dict[str, Values]:
            taken = 0  # a control goes on where the last batch ended, whatever the latents

            def draw(z: Tensor, labels: Tensor | None) -> Tensor:
                nonlocal taken
                taken += len(z)
                return control.images(seed, taken - len(z), len(z))

            values = self._yardstick.measure(draw, self._resolution, 1, False)
            return {"G_ema": values | self._memorisation(control.images(seed, 0, self._queries))}

        return self._remembered(f"control-{folders([control.name])[control.name]}-seed{seed}", measure)

    def _networks(self, member: Member) -> dict[str, Values]:
        found = {}
        trained, stage = networks(member, self._train)
        for name, network in trained.items():

            def draw(z: Tensor, labels: Tensor | None, G: Generator = network) -> Tensor:
                # Of a run that has grown further than others, images as small as theirs, as the data's are made.
                batches = generate(G, z, None, stage.resolution, stage.alpha)
                return torch.cat([downscale(images, stage.resolution // self._resolution) for images in batches])

            values = self._yardstick.measure(draw, self._resolution, network.z_dim, False)
            z = torch.from_numpy(latents(range(self._queries), network.z_dim))
            found[name] = values | self._memorisation(to_pixels(draw(z, None)))
        return found

    def _memorisation(self, pixels: Tensor) -> Values:
        """Mean distance to the nearest training image over that to the nearest of as many held-out ones; and which
        fraction of the images are copies: nearer to a training image than to any held-out one, and that by far.

        The baseline is that of other held-out images. It is not 1: there are more training images to be near to.
        """
        if self._baseline is None:
            others = self._held_out.order(self.num, self._queries, 0)
            found = self._nearness(torch.from_numpy(self._held_out.pixels(self._resolution, others)))
            self._baseline = {name: Value(value.value, value.value, value.value) for name, value in found.items()}
        found = self._nearness(pixels)
        return {name: dataclasses.replace(value, floor=self._baseline[name]) for name, value in found.items()}

    def _nearness(self, pixels: Tensor) -> Values:
        to_train = nearest_images(pixels, self._train, k=1)[0][:, 0].double()
        reference = self._held_out.order(0, self.num, 0)
        to_held_out = nearest_images(pixels, self._held_out, k=1, among=reference)[0][:, 0].double()
        # A ratio of means: one image that is a held-out one by chance has no ratio of its own.
        parts = torch.arange(len(pixels)) % _PARTS
        without = [_ratio(to_train[parts != part], to_held_out[parts != part]) for part in range(_PARTS)]
        ratio = jackknife(_ratio(to_train, to_held_out), torch.tensor(without, dtype=torch.float64))
        return {
            MEMORISATION: ratio.within(*limits(MEMORISATION)),
            COPIES: fraction_of(to_train < _COPY * to_held_out),
        }

    def _remembered(self, name: str, measure: Callable[[], dict[str, Values]]) -> dict[str, Values]:
        if (known := self._recall(name)) is not None:
            return known
        found = measure()
        self._cache.mkdir(parents=True, exist_ok=True)
        content = {"key": self._key, "values": found}
        write_whole(self._cache / f"{name}.json", json.dumps(content, indent=1, default=dataclasses.asdict).encode())
        return found

    def _recall(self, name: str) -> dict[str, Values] | None:
        """Numbers that were measured before; None if there are none, or if they were measured otherwise."""
        try:
            content = json.loads((self._cache / f"{name}.json").read_text(encoding="utf-8"))
            if content["key"] == self._key:
                return {network: values_of(values) for network, values in content["values"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            pass
        return None


def _ratio(to_train: Tensor, to_held_out: Tensor) -> float:
    held_out = float(to_held_out.mean())
    return float(to_train.mean()) / held_out if held_out else 1.0


def values_of(data: Mapping[str, Any]) -> Values:
    """Values as JSON held them."""
    return {
        name: Value(**{**value, "floor": Value(**value["floor"]) if value["floor"] else None})
        for name, value in data.items()
    }


def networks(member: Member, dataset: Dataset) -> tuple[dict[str, Generator], Stage]:
    """`G_ema` and `G` as a run left them, in evaluation mode, and the stage that they make images of."""
    config = member.config
    shape = ImageShape(config.schedule.resolution, dataset.channels)
    exact = choose(dataclasses.replace(config.runtime, precision="fp32"))
    setup = RunSetup(config, shape, exact)
    state = TrainingState.new(setup)
    StateFolder(member.folder.state).restore(state)
    return {"G_ema": state.G_ema.eval(), "G": state.G.eval()}, setup.schedule.at(state.cur_nimg)


def gather(
    members: list[Member], controls: list[Control], train: Dataset, held_out: Dataset, resolution: int, reals: bool
) -> Pictures:
    """Images of every model's first seed and spectra of all; real ones, and controls made of them, only if `reals`."""
    grids: dict[str, Tensor] = {}
    spectra: dict[str, list[Spectrum]] = {}
    near: dict[str, Tensor] = {}
    for member in members:
        pixels = samples(load(member.folder.snapshot()), _SPECTRUM)
        if member.model not in grids:
            grids[member.model] = pixels[:_SHOWN]
            if reals:
                queries = pixels[:_QUERIES_SHOWN]
                near[member.model] = beside(queries, train, nearest_images(queries, train, _NEIGHBOURS_SHOWN)[1])
        spectra.setdefault(member.model, []).append(spectrum(pixels))
    others = held_out.order(0, min(_SPECTRUM, held_out.count), seed=0)
    real = torch.from_numpy(held_out.pixels(resolution, others))
    spectra[REALS] = [spectrum(real)]
    if reals:
        grids.update({control.name: control.images(0, 0, _SHOWN) for control in controls})
    return Pictures(grids, real[:_SHOWN] if reals else None, spectra, near)
