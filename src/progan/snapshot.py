"""Snapshots: an averaged generator with all that is needed to use it, in one .safetensors file that holds no code."""

import copy
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from progan import models, randomness
from progan.config import RunConfig
from progan.data.dataset import LabelKind
from progan.errors import ProganError, SnapshotError
from progan.files import write_whole
from progan.images import at_once, downscale, to_pixels
from progan.models import Generator, ImageShape
from progan.models.layers import plain
from progan.options import from_dict, parse_json, to_dict
from progan.per_resolution import RESOLUTIONS
from progan.tensorfile import DamagedError, from_bytes, to_bytes

FORMAT, VERSION = "progan snapshot", 1
MEAN, ROWS = "truncation.mean", "labels.rows"
_MEAN_LATENTS = 10_000


@dataclass(frozen=True)
class SnapshotInfo:
    """Facts about a snapshot, saved with it."""

    config: RunConfig
    shape: ImageShape
    resolution: int
    """Resolution of its images, at which it was trained."""
    alpha: float
    cur_nimg: int
    dataset: str
    label_kind: LabelKind | None = None
    label_names: tuple[str, ...] = ()
    licence: str = ""
    """Licence of the weights, where it is known."""
    progan: str = ""


class Snapshot:
    """Generator ready for use. Latents float32 [N, z_dim] in, images float32 [N, C, R, R] about -1…1 out."""

    def __init__(
        self, G: Generator, mean: Tensor, info: SnapshotInfo, digest: str = "", label_rows: Tensor | None = None
    ) -> None:
        self.G = G.eval().requires_grad_(False)
        self.mean = mean
        """First activation averaged over 10,000 latents, float32 [C, 4, 4]: what truncation pulls towards."""
        self.info = info
        self.digest = digest
        """SHA-256 of the file, first 16 digits."""
        self.label_rows = label_rows
        """Labels float32 [M, L] of some images of the data, for attributes only."""

    @property
    def resolution(self) -> int:
        return self.info.resolution

    @property
    def z_dim(self) -> int:
        return self.G.z_dim

    @property
    def device(self) -> torch.device:
        return self.mean.device

    def to(self, device: torch.device | str) -> "Snapshot":
        """Move the weights, in place."""
        self.G.to(device)
        self.mean = self.mean.to(device)
        return self

    def latents(self, seeds: Iterable[int]) -> Tensor:
        """Latent of every seed, float32 [N, z_dim]: the same whatever the batch, the machine or the language."""
        return torch.from_numpy(randomness.latents(seeds, self.z_dim)).to(self.device)

    def labels(self, names: Iterable[str | int]) -> Tensor:
        """Label rows float32 [N, L]. Raises SnapshotError for what the snapshot does not know.

        Of classes: a name or number each. Of attributes: values such as `hat=cap,glasses=none` each, put into rows of
        the data in turn, so that what is not named varies as it does there.
        """
        if self.info.label_kind != "attributes" or self.label_rows is None:
            numbers = [self._label(str(name)) for name in names]
            return torch.eye(len(self.info.label_names), device=self.device)[numbers]
        rows = []
        for i, name in enumerate(names):
            row = self.label_rows[i % len(self.label_rows)].clone()
            for value in filter(None, str(name).split(",")):
                self._put(row, value)
            rows.append(row)
        return torch.stack(rows).to(self.device) if rows else self.mean.new_zeros(0, self.G.label_size)

    def _put(self, row: Tensor, value: str) -> None:
        """Give an attribute of a row a value: `hat=cap` takes the place of every other hat."""
        number = self._label(value)
        attribute = self.info.label_names[number].partition("=")[0]
        for i, other in enumerate(self.info.label_names):
            if other.startswith(f"{attribute}="):
                row[i] = 0
        row[number] = 1

    def _label(self, text: str) -> int:
        known = self.info.label_names
        if text in known:
            return known.index(text)
        if text.isdecimal() and int(text) < len(known):
            return int(text)
        listed = ", ".join(known) or "none: it was trained without labels"
        raise SnapshotError(f"there is no label {text!r} in this snapshot; it knows {listed}")

    def generate(
        self,
        z: Tensor,
        labels: Tensor | None = None,
        truncation: float = 1.0,
        resolution: int | None = None,
        batch_size: int | None = None,
    ) -> Tensor:
        """Images float32 [N, C, R, R] of latents [N, z_dim], not clipped; `progan.to_pixels` makes uint8 of them.

        `truncation` below 1 pulls the first activation towards its mean: fewer surprises, less variety. A `resolution`
        below the snapshot's is its output box-averaged, since older to_rgb layers are stale. `batch_size` of them are
        made at once; default: few of large ones.
        """
        if (labels is None) != (self.G.label_size == 0):
            raise SnapshotError("this snapshot needs labels" if labels is None else "this snapshot knows no labels")
        resolution = resolution or self.resolution
        if resolution not in RESOLUTIONS or resolution > self.resolution:
            raise SnapshotError(
                f"this snapshot makes {self.resolution}x{self.resolution}, not {resolution}x{resolution}"
            )
        pull = None if truncation == 1 else (self.mean, truncation)
        batches = generate(self.G, z, labels, self.resolution, self.info.alpha, batch_size, pull)
        parts = [downscale(images, self.resolution // resolution) for images in batches]
        return torch.cat(parts) if parts else z.new_zeros(0, self.info.shape.channels, resolution, resolution)

    def module(self) -> "PlainGenerator":
        """A module of PyTorch alone, on the snapshot's device, for those who trace, export or serve it."""
        return PlainGenerator(self)

    def save(self, path: Path) -> None:
        """Write the file, whole."""
        write_whole(path, *self.to_bytes())

    def to_bytes(self) -> tuple[bytes, memoryview]:
        """The file's content, in pieces. Equal snapshots have equal bytes."""
        info = asdict(replace(self.info, config=RunConfig())) | {"config": to_dict(self.info.config)}
        tensors = dict(self.G.state_dict())
        metadata = {"format": FORMAT, "version": str(VERSION), "info": json.dumps(info)}
        tensors[MEAN] = self.mean
        if self.label_rows is not None:
            tensors[ROWS] = self.label_rows
        return to_bytes(tensors, metadata)


class PlainGenerator(nn.Module):
    """Latents float32 [N, z_dim], and labels float32 [N, L] where there are any, to pixels uint8 [N, C, R, R].

    A copy of a snapshot's generator made of PyTorch's own layers: `torch.export` and `torch.jit.trace` take it, for any
    N. Its images differ from the snapshot's by rounding (about 1e-6). `truncation` may be a tensor [], to be traced.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        super().__init__()
        self.G: Any = plain(copy.deepcopy(snapshot.G)).eval().requires_grad_(False)
        self.resolution, self.alpha = snapshot.resolution, snapshot.info.alpha
        self.register_buffer("mean", snapshot.mean.clone())

    def forward(self, z: Tensor, labels: Tensor | None = None, truncation: float | Tensor = 1.0) -> Tensor:
        return to_pixels(self.images(z, labels, truncation))

    def images(self, z: Tensor, labels: Tensor | None = None, truncation: float | Tensor = 1.0) -> Tensor:
        """Images float32 [N, C, R, R] about -1…1, not clipped."""
        x = self.G.embed(z, labels)
        if not (isinstance(truncation, float) and truncation == 1):
            x = self.mean + truncation * (x - self.mean)
        images: Tensor = self.G.synthesize(x, self.resolution, self.alpha)
        return images


@torch.no_grad()
def generate(
    G: Generator,
    z: Tensor,
    labels: Tensor | None = None,
    resolution: int | None = None,
    alpha: float = 1.0,
    batch_size: int | None = None,
    truncation: tuple[Tensor, float] | None = None,
) -> Iterator[Tensor]:
    """Images float [n, C, R, R] about -1…1, not clipped, of latents [N, z_dim] and labels [N, L], a batch at a time.

    Latents and labels may lie anywhere; G computes in the dtype of the latents on its own device, where the images are.
    `batch_size` default: few of large images. `truncation`: the mean of the first activation [C, 4, 4], and what its
    differences from that mean are multiplied by. The caller puts G into evaluation mode.
    """
    device, resolution = next(G.parameters()).device, resolution or G.resolution
    batch_size = batch_size or at_once(resolution)
    for i in range(0, len(z), batch_size):
        some = slice(i, i + batch_size)
        x = G.embed(z[some].to(device), None if labels is None else labels[some].to(device))
        if truncation is not None:
            mean, factor = truncation
            x = mean + factor * (x - mean)
        yield G.synthesize(x, resolution, alpha)


def of_generator(G: Generator, info: SnapshotInfo, label_rows: Tensor | None = None) -> Snapshot:
    """Snapshot of a copy of G, on the CPU. `label_rows` [M, L] are labels as the data has them."""
    G = copy.deepcopy(G).to("cpu", memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    kept = label_rows if info.label_kind == "attributes" else None
    return Snapshot(G, _mean_activation(G, label_rows), info, label_rows=kept)


@torch.no_grad()
def _mean_activation(G: Generator, label_rows: Tensor | None) -> Tensor:
    z = torch.from_numpy(randomness.latents(range(_MEAN_LATENTS), G.z_dim))
    rows = None if label_rows is None else label_rows.cpu()[torch.arange(len(z)) % len(label_rows)]
    total = torch.zeros(())
    for i in range(0, len(z), 1000):
        total = total + G.embed(z[i : i + 1000], None if rows is None else rows[i : i + 1000]).sum(0)
    return total / len(z)


def load(path: str | Path) -> Snapshot:
    """Snapshot of a file. Raises SnapshotError if it is none of ours; runs no code from it."""
    path = Path(path)
    try:
        content = path.read_bytes()
        metadata, tensors = from_bytes(content)
    except OSError as error:
        raise SnapshotError(f"{path} cannot be read: {error.strerror}") from None
    except DamagedError as error:
        raise SnapshotError(f"{path} is damaged: {error}. Copy it again, or use another of RUN/snapshots") from None
    except ValueError:
        raise SnapshotError(f"{path} is not a snapshot, or is damaged. Snapshots lie in RUN/snapshots") from None
    if metadata.get("format") != FORMAT:
        raise SnapshotError(f"{path} is not a snapshot of progan")
    if metadata.get("version") != str(VERSION):
        raise SnapshotError(f"{path} has format version {metadata.get('version')}, this progan reads {VERSION}")
    try:
        info = _info(json.loads(metadata["info"]))
        with torch.device("meta"):
            G, _ = models.build(info.config.model, info.shape, seed=0)
        mean, rows = tensors.pop(MEAN), tensors.pop(ROWS, None)
        _check_tensors(G, tensors, mean, rows, info)
        G.load_state_dict(tensors, assign=True)
    except (KeyError, TypeError, ValueError, RuntimeError, ProganError) as error:
        raise SnapshotError(f"{path} is damaged: {str(error).splitlines()[0]}") from None
    return Snapshot(G, mean, info, hashlib.sha256(content).hexdigest()[:16], rows)


def _info(data: Mapping[str, Any]) -> SnapshotInfo:
    info = parse_json(SnapshotInfo, {**data, "config": from_dict(data["config"])})
    shape, labels = info.shape, len(info.label_names)
    if shape.resolution not in RESOLUTIONS or info.resolution not in RESOLUTIONS or info.resolution > shape.resolution:
        raise ValueError(f"it makes {info.resolution}x{info.resolution} of {shape.resolution}x{shape.resolution}")
    if shape.channels not in (1, 3) or shape.label_size != labels or (info.label_kind is None) != (labels == 0):
        raise ValueError(f"it has {shape.channels} channels and {shape.label_size} labels, {labels} of them with names")
    if not 0 <= info.alpha <= 1 or info.cur_nimg < 0:
        raise ValueError(f"alpha {info.alpha} at {info.cur_nimg} images")
    return info


def _check_tensors(
    G: Generator, tensors: Mapping[str, Tensor], mean: Tensor, rows: Tensor | None, info: SnapshotInfo
) -> None:
    """What `load_state_dict` does not look at: types, and the tensors that are not the network's."""
    for name, expected in G.state_dict().items():
        if name in tensors and tensors[name].dtype != expected.dtype:
            raise ValueError(f"{name} holds {tensors[name].dtype}")
    z, labels = torch.empty(1, G.z_dim, device="meta"), torch.empty(1, G.label_size, device="meta")
    if mean.shape != G.embed(z, labels if G.label_size else None).shape[1:] or mean.dtype != torch.float32:
        raise ValueError(f"{MEAN} is {mean.dtype} {list(mean.shape)}")
    if info.label_kind == "attributes" and (
        rows is None or rows.ndim != 2 or rows.shape[1] != G.label_size or len(rows) == 0 or rows.dtype != torch.float32
    ):
        raise ValueError(f"{ROWS} is missing or does not fit the labels")
