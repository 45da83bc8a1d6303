"""Labels read off images, as the labels of a dataset have them."""

import itertools
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from progan.data.cache import cache_folder
from progan.data.dataset import Dataset, Indices
from progan.errors import ConfigError
from progan.files import write_whole
from progan.images import downscale
from progan.metrics.classifier import LabelReader, groups
from progan.metrics.setting import Setting
from progan.randomness import mix
from progan.tensorfile import from_bytes, to_bytes

LARGEST = 32
"""Resolution to which larger images are brought before they are read."""
MOST, ASIDE = 60_000, 5_000
"""Images the classifier learns from, and those put aside to see what it gets right (of a small dataset a tenth)."""
SHOWN = 150_000
"""Images it is shown while it learns, each several times."""
_VERSION = 2  # to be raised when the same data gives another classifier


class Group(NamedTuple):
    """Labels that exclude each other."""

    name: str
    values: tuple[str, ...]


def groups_of(dataset: Dataset, metric: str) -> list[Group]:
    """All labels of a class dataset; of attributes named `colour=red`, a group for every word before the sign.

    Raises ConfigError where the data has no such labels.
    """
    if dataset.label_kind == "class":
        return [Group("class", tuple(dataset.label_names))]
    if dataset.label_kind == "attributes" and all("=" in name for name in dataset.label_names):
        parted = (name.partition("=") for name in dataset.label_names)
        return [
            Group(name, tuple(value for _, _, value in some))
            for name, some in itertools.groupby(parted, lambda p: p[0])
        ]
    raise ConfigError(
        f"{metric} needs data with labels (classes, or attributes such as hat=cap); {dataset.name} has none"
    )


class Reader:
    """Reads the groups of a dataset's labels off images of one resolution.

    With `per_colour` there are three groups of ten, and each is read off one colour alone by the same network.
    """

    def __init__(self, setting: Setting, metric: str, per_colour: bool = False) -> None:
        self.dataset = setting.need_dataset(metric)
        setting.need_resolution(metric, 8)
        self.groups = groups_of(self.dataset, metric)
        self._setting, self._metric, self._per_colour = setting, metric, per_colour
        self._resolution = min(LARGEST, setting.resolution)
        self._network: LabelReader | None = None
        self.right = 0.0
        """Share that the network, once there is one, gets right of what was put aside; of the hardest attribute."""

    def read(self, pixels: Tensor) -> Tensor:
        """Pixels uint8 [N, C, R, R] -> number of the value in every group, int64 [N, groups]."""
        small = downscale(pixels.float(), pixels.shape[2] // self._resolution).round().to(torch.uint8)
        return self._parted(self._trained(), small)

    def frequencies(self) -> list[npt.NDArray[np.int64]]:
        """How often each value of every group occurs in the dataset, int64 [values] each."""
        codes = self._codes(np.arange(self.dataset.count)).numpy()
        return [np.bincount(codes[:, i], minlength=len(group.values)) for i, group in enumerate(self.groups)]

    def _parted(self, network: LabelReader, pixels: Tensor) -> Tensor:
        """What the network reads off pixels [N, C, R, R] of its own resolution: int64 [N, groups]."""
        if not self._per_colour:
            return network.read(pixels)
        return network.read(pixels.flatten(0, 1)[:, None]).view(len(pixels), -1)

    def _codes(self, indices: Indices) -> Tensor:
        """The labels of images of the dataset: int64 [n, groups]."""
        rows = self.dataset.labels(indices)
        assert rows is not None
        return groups(torch.from_numpy(rows), [len(group.values) for group in self.groups])

    def _trained(self) -> LabelReader:
        """The network: from the cache, or trained now and put there."""
        if self._network is not None:
            return self._network
        sizes = [len(group.values) for group in self.groups][: 1 if self._per_colour else None]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(mix(_VERSION, self._resolution))
            network = LabelReader(self._resolution, 1 if self._per_colour else self.dataset.channels, sizes)
            network.to(self._setting.device)
            path = self._path()
            facts = _load(network, path)
            if facts is None:
                self._setting.tell(
                    f"{self._metric}: training a classifier of {self.dataset.name}, once; kept as {path}"
                )
                facts = self._learn(network)
                path.parent.mkdir(parents=True, exist_ok=True)
                write_whole(path, *to_bytes(network.state_dict(), {"facts": json.dumps(facts)}))
        self.right = min(facts["right"])
        self._setting.note(
            f"{self._metric}: read by a classifier that gets {self.right:.2%} right of {facts['images']:,} images put "
            "aside" + (" (of the hardest attribute)" if len(facts["right"]) > 1 else "")
        )
        self._network = network
        return network

    def _path(self) -> Path:
        kind = "-colours" if self._per_colour else ""
        name = f"{self.dataset.name}-{self.dataset.fingerprint[:16]}-{self._resolution}{kind}-{_VERSION}.safetensors"
        return cache_folder("classifiers") / name

    def _learn(self, network: LabelReader) -> dict[str, Any]:
        """Train the network. What it gets right of the images put aside, by group, and how many they were.

        Images like one put aside are not learned from: a stacked digit is in many images, and some data has doubles.
        """
        dataset, share = self.dataset, len(self.groups) if self._per_colour else 1
        aside = min(ASIDE, max(1, dataset.count // 10))
        order = dataset.order(0, min(dataset.count, MOST // share + aside), seed=_VERSION)
        pixels, codes = torch.from_numpy(dataset.pixels(self._resolution, order)), self._codes(order)
        if self._per_colour:
            pixels, codes, aside = pixels.flatten(0, 1)[:, None], codes.view(-1, 1), share * aside
        known = {image.tobytes() for image in pixels[:aside].numpy()}
        fresh = [i for i, image in enumerate(pixels.numpy()) if image.tobytes() not in known]
        if not fresh:
            raise ConfigError(
                f"{self._metric} needs images that differ; {dataset.name} has {len(known)} different ones"
            )
        images, targets = pixels[fresh], codes[fresh]
        network.learn(images, targets, epochs=-(-SHOWN // len(images)), batch=min(100, len(images)))
        right = network.read(pixels[:aside]).cpu() == codes[:aside]
        return {"right": right.double().mean(0).tolist(), "images": aside}


def _load(network: LabelReader, path: Path) -> dict[str, Any] | None:
    """Take the weights from the file and give what is known of them; None if there are none that can be read."""
    try:
        metadata, tensors = from_bytes(path.read_bytes())
        network.load_state_dict(tensors)
        facts: dict[str, Any] = json.loads(metadata["facts"])
        return facts
    except (FileNotFoundError, ValueError, KeyError, RuntimeError):
        return None
