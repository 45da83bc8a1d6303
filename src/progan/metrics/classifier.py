"""A small classifier that reads the labels of a dataset off images; trained when it is first needed, then kept."""

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from progan.data.cache import cache_folder
from progan.data.dataset import Dataset, Indices
from progan.errors import ConfigError
from progan.files import folder_name, write_whole
from progan.images import downscale, to_images
from progan.metrics.base import Setting
from progan.randomness import mix
from progan.tensorfile import from_bytes, to_bytes

LARGEST = 32
"""Resolution to which larger images are brought before they are read."""
MOST, ASIDE = 60_000, 5_000
"""Images the classifier learns from, and those put aside to see what it gets right (of a small dataset a tenth)."""
SHOWN = 150_000
"""Images it is shown while it learns, each several times."""
_VERSION = 2  # to be raised when the same data gives another classifier


class Classifier(nn.Module):
    """Six convolutions and a head with one logit for every label; the resolution is a multiple of 8.

    `sizes`: how many neighbouring labels exclude each other: [10] for ten digits, [5, 7, …] for attributes.
    """

    def __init__(self, resolution: int, channels: int, sizes: Sequence[int]) -> None:
        super().__init__()
        self.sizes = list(sizes)
        body = [*_block(channels, 24, 1), *_block(24, 48, 2), *_block(48, 48, 1), *_block(48, 96, 2)]
        body += [*_block(96, 96, 1), *_block(96, 128, 2)]
        head = [nn.Flatten(), nn.Linear(128 * (resolution // 8) ** 2, 256), nn.ReLU(), nn.Linear(256, sum(sizes))]
        self.layers = nn.Sequential(*body, *head)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Images float [N, C, R, R] in -1…1 -> logits [N, size] of every group."""
        logits: Tensor = self.layers(images)
        return torch.split(logits, self.sizes, 1)

    @torch.no_grad()
    def read(self, pixels: Tensor) -> Tensor:
        """uint8 [N, C, R, R] -> the label of every group, int64 [N, groups]."""
        self.eval()
        parts = [self(to_images(part.to(self._device))) for part in torch.split(pixels, 500)]
        return torch.cat([torch.stack([out.argmax(1) for out in outs], 1) for outs in parts])

    @property
    def _device(self) -> torch.device:
        return next(self.parameters()).device

    def learn(self, pixels: Tensor, targets: Tensor, epochs: int = 6, batch: int = 100) -> None:
        """Cross-entropy of every group against targets int64 [N, groups], one learning-rate cycle."""
        steps = epochs * (len(pixels) // batch)  # whole batches
        optimizer = torch.optim.AdamW(self.parameters(), weight_decay=1e-2)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
        self.train()
        for _ in range(epochs):
            for rows in torch.randperm(len(pixels))[: steps // epochs * batch].view(-1, batch):
                outs = self(to_images(pixels[rows].to(self._device)))
                wanted = targets[rows].to(self._device)
                losses = [nn.functional.cross_entropy(out, wanted[:, i]) for i, out in enumerate(outs)]
                optimizer.zero_grad()
                torch.stack(losses).sum().backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                schedule.step()


def _block(inputs: int, outputs: int, stride: int) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]


def groups(rows: Tensor, sizes: Sequence[int]) -> Tensor:
    """One-hot rows float [N, L] -> the number of the label in every group, int64 [N, groups]."""
    return torch.stack([block.argmax(1) for block in torch.split(rows, list(sizes), 1)], 1)


def group_sizes(dataset: Dataset, metric: str) -> list[int]:
    """Sizes of the groups of labels that exclude each other.

    All labels of a class dataset are one; of attributes named `colour=red`, those with the same word before the sign.
    Raises ConfigError if the data has no such labels.
    """
    if dataset.label_kind == "class":
        return [len(dataset.label_names)]
    if dataset.label_kind == "attributes" and all("=" in name for name in dataset.label_names):
        words = (name.partition("=")[0] for name in dataset.label_names)
        return [len(list(some)) for _, some in itertools.groupby(words)]
    raise ConfigError(
        f"{metric} needs data with labels (classes, or attributes such as hat=cap); {dataset.name} has none"
    )


class LabelReader:
    """Reads the groups of a dataset's labels off images of one resolution.

    With `per_colour` there are three groups of ten, and each is read off one colour alone by the same network.
    """

    def __init__(self, setting: Setting, metric: str, per_colour: bool = False) -> None:
        self.dataset = setting.need_dataset(metric)
        setting.need_resolution(metric, 8)
        self._sizes = group_sizes(self.dataset, metric)
        self._setting, self._metric, self._per_colour = setting, metric, per_colour
        self._resolution = min(LARGEST, setting.resolution)
        self._network: Classifier | None = None
        self.right = 0.0
        """Fraction of the images put aside that the network, once trained, gets right; of the hardest attribute."""

    def read(self, pixels: Tensor) -> Tensor:
        """Pixels uint8 [N, C, R, R] -> number of the value in every group, int64 [N, groups]."""
        small = downscale(pixels.float(), pixels.shape[2] // self._resolution).round().to(torch.uint8)
        self._network = self._network or self._trained()
        if not self._per_colour:
            return self._network.read(small)
        return self._network.read(small.flatten(0, 1)[:, None]).view(len(small), -1)

    def frequencies(self) -> list[npt.NDArray[np.int64]]:
        """How often each value of every group occurs in the dataset, int64 [values] each."""
        codes = self._codes(np.arange(self.dataset.count)).numpy()
        return [np.bincount(codes[:, i], minlength=size) for i, size in enumerate(self._sizes)]

    def _codes(self, indices: Indices) -> Tensor:
        """The labels of images of the dataset: int64 [n, groups]."""
        rows = self.dataset.labels(indices)
        assert rows is not None
        return groups(torch.from_numpy(rows), self._sizes)

    def _trained(self) -> Classifier:
        """The network: from the cache, or trained now and put there."""
        kind, channels, sizes = "", self.dataset.channels, self._sizes
        if self._per_colour:
            kind, channels, sizes = "-colours", 1, self._sizes[:1]
        facts_of = f"{self.dataset.fingerprint[:16]}-{self._resolution}{kind}-{_VERSION}"
        path = cache_folder("classifiers") / f"{folder_name(self.dataset.name)}-{facts_of}.safetensors"
        with torch.random.fork_rng(devices=[]):  # training it draws no number that others would have had
            torch.manual_seed(mix(_VERSION, self._resolution))
            network = Classifier(self._resolution, channels, sizes).to(self._setting.device)
            facts = _load(network, path)
            if facts is None:
                self._setting.log(f"{self._metric}: training a classifier of {self.dataset.name}, once; kept as {path}")
                facts = self._learn(network)
                path.parent.mkdir(parents=True, exist_ok=True)
                write_whole(path, *to_bytes(network.state_dict(), {"facts": json.dumps(facts)}))
        self.right = min(facts["right"])
        self._setting.note(
            f"{self._metric}: read by a classifier that gets {self.right:.2%} right of {facts['images']:,} images put "
            "aside" + (" (of the hardest attribute)" if len(facts["right"]) > 1 else "")
        )
        return network

    def _learn(self, network: Classifier) -> dict[str, Any]:
        """Train the network; what it gets right of the images put aside, by group, and how many they were.

        Images like one put aside are not learned from: a stacked digit is in many images, and some data has doubles.
        """
        dataset, colours = self.dataset, len(self._sizes) if self._per_colour else 1
        # The first images of the order are put aside; of stacked digits every colour is an image of its own.
        aside = min(ASIDE, max(1, dataset.count // 10))
        order = dataset.order(0, min(dataset.count, MOST // colours + aside), seed=_VERSION)
        pixels, codes = torch.from_numpy(dataset.pixels(self._resolution, order)), self._codes(order)
        if self._per_colour:
            pixels, codes, aside = pixels.flatten(0, 1)[:, None], codes.view(-1, 1), colours * aside
        known = {image.tobytes() for image in pixels[:aside].numpy()}
        fresh = [i for i, image in enumerate(pixels.numpy()) if image.tobytes() not in known]
        if len(fresh) < 2:  # batch norm takes no single image
            raise ConfigError(
                f"{self._metric} needs images that differ; {dataset.name} has {len(known) + len(fresh)} different ones"
            )
        images, targets = pixels[fresh], codes[fresh]
        network.learn(images, targets, epochs=-(-SHOWN // len(images)), batch=min(100, len(images)))
        right = network.read(pixels[:aside]).cpu() == codes[:aside]
        return {"right": right.double().mean(0).tolist(), "images": aside}


def _load(network: Classifier, path: Path) -> dict[str, Any] | None:
    """Take the weights from the file and return what is known of them; None if there are none that can be read."""
    try:
        metadata, tensors = from_bytes(path.read_bytes())
        network.load_state_dict(tensors)
        facts: dict[str, Any] = json.loads(metadata["facts"])
        return facts
    except (FileNotFoundError, ValueError, KeyError, RuntimeError):
        return None
