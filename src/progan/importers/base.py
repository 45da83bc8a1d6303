"""What every importer ends with: weights of another implementation by our names, and the snapshot that they make."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

import progan
from progan import models
from progan.config import DatasetConfig, ProGANConfig, RunConfig, ScheduleConfig
from progan.data.dataset import LabelKind
from progan.models import ImageShape
from progan.per_resolution import RESOLUTIONS
from progan.progress import Log
from progan.snapshot import Snapshot, SnapshotInfo, of_generator

LIMIT = 2**16
"""Largest number of maps, latents or labels of a network."""
WITHOUT_G = "without the trained generator, only its average"
WITHOUT_D = "without its discriminator"
_ROWS = 1024
Weights = Mapping[str, Tensor]
Network = TypeVar("Network", bound=nn.Module)
Result = TypeVar("Result")


class Refused(Exception):
    """What is wrong with a file, in a few words."""


def checked(shape: ImageShape) -> ImageShape:
    """The shape, if such images are made here. Raises Refused."""
    size = shape.resolution
    if size not in RESOLUTIONS or shape.channels not in (1, 3):
        raise Refused(f"it makes images of {size}x{size} pixels with {shape.channels} channels")
    return shape


@dataclass(frozen=True)
class Imported:
    """Networks of a file as ours: configuration, stage, and weights by the names of `models.progan`."""

    model: ProGANConfig
    shape: ImageShape
    resolution: int
    """At which it was trained last."""
    alpha: float
    average: Weights
    """The averaged generator; of a file that has none, the trained one."""
    G: Weights | None = None
    """The trained generator and, below, the discriminator. What does not fit is left out, and said."""
    D: Weights | None = None
    labels: Sequence[Sequence[str]] = ()
    """Names of the classes; where there are several attributes, those of each, as `attribute=value`."""
    notes: Sequence[str] = ()
    """Lines that whoever imports it must know."""

    def snapshot(self, licence: str, log: Log) -> Snapshot:
        """The networks ready for use, on the CPU. Raises Refused for weights that do not fit the configuration."""
        shape, labels = self.shape, tuple(name for names in self.labels for name in names)
        assert len(labels) == shape.label_size
        with torch.device("meta"):
            average, D = models.build(self.model, shape, seed=0)
            G, _ = models.build(self.model, shape, seed=0)
        config = RunConfig(
            dataset=DatasetConfig(data="", labels=bool(labels)),
            schedule=ScheduleConfig(resolution=shape.resolution),
            model=self.model,
        )
        kind: LabelKind | None = ("attributes" if len(self.labels) > 1 else "class") if labels else None
        stage = self.resolution, self.alpha
        info = SnapshotInfo(config, shape, *stage, 0, "", kind, labels, licence, progan.__version__)
        made = of_generator(_filled(average, self.average), info, _rows(self.labels) if labels else None)
        notes = list(self.notes)
        made.raw = taken(lambda: _ready(G, self.G), WITHOUT_G, notes)
        made.D = taken(lambda: _ready(D, self.D), WITHOUT_D, notes)
        for note in notes:
            log(f"note: {note}")
        return made


def taken(take: Callable[[], Result], without: str, notes: list[str]) -> Result | None:
    """What `take` returns. None, and a note, where it raises Refused: training on can do without it."""
    try:
        return take()
    except Refused as error:
        notes.append(f"{without}: {error}")
        return None


def _ready(network: Network, weights: Weights | None) -> Network | None:
    return None if weights is None else _filled(network, weights).eval().requires_grad_(False)


def _filled(network: Network, weights: Weights) -> Network:
    """The network with the weights, all of which it must have, finite and in float32."""
    tensors = {}
    for name, expected in network.state_dict().items():
        if name not in weights:
            raise Refused(f"it lacks what would be {name}")
        value = weights[name]
        if value.shape != expected.shape:
            raise Refused(f"{name} would have the shape {list(value.shape)}, not {list(expected.shape)}")
        value = value.to(torch.float32).contiguous()
        if not value.isfinite().all():
            raise Refused("it has weights that are not finite")
        tensors[name] = value
    if unknown := sorted(weights.keys() - tensors.keys()):
        raise Refused(f"it has what would be {unknown[0][:40]}, which such networks have not")
    network.load_state_dict(tensors, assign=True)
    return network


def _rows(labels: Sequence[Sequence[str]]) -> Tensor:
    """Labels float32 [n, L] that stand for the data's: every class, or combinations of the attributes' values."""
    sizes = [len(names) for names in labels]
    count = min(math.prod(sizes), _ROWS)
    numbers = [torch.arange(count) // math.prod(sizes[:i]) % size for i, size in enumerate(sizes)]
    return torch.cat([torch.eye(size)[each] for size, each in zip(sizes, numbers, strict=True)], 1)
