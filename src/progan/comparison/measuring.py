"""What the finished generators are worth, measured alike, remembered in JSON beside the runs."""

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
from progan.images import to_pixels
from progan.metrics import Value
from progan.metrics.evaluation import Generate, Yardstick
from progan.metrics.intervals import mean_of
from progan.metrics.nearest_images import nearest
from progan.models import Generator, ImageShape
from progan.randomness import latents
from progan.report.results import MEMORISATION
from progan.training.numerics import choose
from progan.training.setup import RunSetup
from progan.training.state import StateFolder, TrainingState

_QUERIES = 256
Values = dict[str, Value]


class Measurer:
    """One yardstick for all: held-out images that no model saw, the same latents for every generator."""

    def __init__(
        self, train: Dataset, held_out: Dataset, metrics: tuple[str, ...], num: int, resolution: int, cache: Path
    ) -> None:
        self._train, self._held_out, self._resolution = train, held_out, resolution
        self.num, self.train_count = num, train.count
        self._yardstick = Yardstick(held_out, metrics, num)
        self._key = {"metrics": list(metrics), "num": num, "data": held_out.fingerprint, "resolution": resolution}
        self._cache = cache
        self._ratio: float | None = None

    def all(self, members: Sequence[Member], controls: Sequence[Control], seeds: int, jobs: int) -> None:
        """Measure everything once, `jobs` at a time; `member` and `control` then only remember."""
        self.member(members[0])  # alone: it makes what all share
        with ThreadPoolExecutor(jobs) as pool:
            list(pool.map(self.member, members[1:]))
        for control in controls:
            for k in range(seeds):
                self.control(control, k)

    def member(self, member: Member) -> dict[str, Values]:
        """Of the run's averaged generator and of the one that was trained."""
        return self._remembered(member.name, lambda: self._networks(member))

    def control(self, control: Control, k: int) -> dict[str, Values]:
        """Of its images with the k-th seed."""
        name = f"control-{control.name.replace(' ', '-')}-seed{k}"

        def measure() -> dict[str, Values]:
            values = self._yardstick.measure(control.images(k).generate(), self._resolution, 1, False)
            return {"G_ema": {**values, **self._memorisation(control.images(k).take(self._queries))}}

        return self._remembered(name, measure)

    @property
    def _queries(self) -> int:
        return min(_QUERIES, self.num)

    def _networks(self, member: Member) -> dict[str, Values]:
        found = {}
        for name, network in networks(member, self._train).items():
            device = next(network.parameters()).device
            generate = _generate(network, self._resolution, device)
            values = self._yardstick.measure(generate, self._resolution, network.z_dim, False)
            z = torch.from_numpy(latents(range(self._queries), network.z_dim))
            found[name] = {**values, **self._memorisation(to_pixels(generate(z, None)))}
        return found

    def _memorisation(self, pixels: Tensor) -> Values:
        """Distance to the nearest training image over that to the nearest of as many held-out ones; 0 for copies.

        The floor is that of other held-out images. It is not 1: there are more training images to be near to.
        """
        if self._ratio is None:
            numbers = self._held_out.order(self.num, self._queries, 0)
            self._ratio = self._nearness(torch.from_numpy(self._held_out.pixels(self._resolution, numbers))).value
        return {
            MEMORISATION: dataclasses.replace(
                self._nearness(pixels), floor=Value(self._ratio, self._ratio, self._ratio)
            )
        }

    def _nearness(self, pixels: Tensor) -> Value:
        reference = self._held_out.order(0, self.num, 0)
        to_train = nearest(pixels, self._train, k=1).distance[:, 0]
        to_held_out = nearest(pixels, self._held_out, k=1, among=reference).distance[:, 0]
        return mean_of(to_train / to_held_out.clamp_min(1e-6))

    def _remembered(self, name: str, measure: Callable[[], dict[str, Values]]) -> dict[str, Values]:
        path = self._cache / f"{name}.json"
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if content["key"] == self._key:
                return {network: values_of(values) for network, values in content["values"].items()}
        except (OSError, ValueError, KeyError, TypeError):
            pass  # not measured yet, or otherwise
        found = measure()
        path.parent.mkdir(parents=True, exist_ok=True)
        plain = {
            network: {key: dataclasses.asdict(v) for key, v in values.items()} for network, values in found.items()
        }
        write_whole(path, json.dumps({"key": self._key, "values": plain}, indent=1).encode())
        return found


def values_of(data: Mapping[str, Any]) -> Values:
    """Values as JSON held them."""
    return {
        name: Value(**{**value, "floor": Value(**value["floor"]) if value["floor"] else None})
        for name, value in data.items()
    }


def networks(member: Member, dataset: Dataset) -> dict[str, Generator]:
    """`G_ema` and `G` at the end of a run, for use."""
    config = member.config
    shape = ImageShape(config.schedule.resolution, dataset.channels)
    exact = choose(dataclasses.replace(config.runtime, precision="fp32"))
    state = TrainingState.new(RunSetup(config, shape, exact))
    StateFolder(member.folder.state).restore(state)
    return {"G_ema": state.G_ema.eval(), "G": state.G.eval()}


def _generate(network: Generator, resolution: int, device: torch.device) -> Generate:
    @torch.no_grad()
    def generate(z: Tensor, labels: Tensor | None) -> Tensor:
        return torch.cat([network(some.to(device), None, resolution) for some in torch.split(z, 32)])

    return generate
