"""What the finished generators are worth, measured alike, remembered in JSON beside the runs; and pictures of them."""

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from progan.comparison.controls import Control
from progan.comparison.runs import Member
from progan.data.dataset import Dataset
from progan.files import write_whole
from progan.images import downscale, to_pixels
from progan.metrics import Value, limits
from progan.metrics.base import mean_of
from progan.metrics.evaluation import Yardstick
from progan.metrics.nearest import beside, nearest_images
from progan.models import Generator, ImageShape
from progan.randomness import latents
from progan.report.charts import spectrum
from progan.report.comparison_page import REALS, Pictures, Spectrum
from progan.report.results import MEMORISATION
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
        self._key = {"metrics": list(metrics), "num": num, "data": held_out.fingerprint, "resolution": resolution}
        self._cache = cache
        self._baseline: Value | None = None

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

        return self._remembered(f"control-{control.name.replace(' ', '-')}-seed{seed}", measure)

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
        """Distance to the nearest training image over that to the nearest of as many held-out ones; 0 for copies.

        The baseline is that of other held-out images. It is not 1: there are more training images to be near to.
        """
        if self._baseline is None:
            others = self._held_out.order(self.num, self._queries, 0)
            baseline = self._nearness(torch.from_numpy(self._held_out.pixels(self._resolution, others))).value
            self._baseline = Value(baseline, baseline, baseline)
        return {MEMORISATION: dataclasses.replace(self._nearness(pixels), floor=self._baseline)}

    def _nearness(self, pixels: Tensor) -> Value:
        to_train = nearest_images(pixels, self._train, k=1)[0][:, 0]
        reference = self._held_out.order(0, self.num, 0)
        to_held_out = nearest_images(pixels, self._held_out, k=1, among=reference)[0][:, 0]
        return mean_of(to_train / to_held_out.clamp_min(1e-6)).within(*limits(MEMORISATION))

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
