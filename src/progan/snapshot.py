"""Snapshots: an averaged generator with all that is needed to use it, in one .safetensors file that holds no code.

One made from another implementation's file may also hold the trained generator and the discriminator. Whoever uses them
in Python may give lists, numpy arrays and tensors of any device.
"""

import copy
import hashlib
import json
import math
import operator
import os
import reprlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from progan import models, randomness
from progan.config import RunConfig
from progan.data.dataset import LabelKind
from progan.devices import plain_modes
from progan.errors import DeviceError, ProganError, SnapshotError, UnknownKindError, did_you_mean
from progan.files import printable, write_whole
from progan.images import at_once, downscale, grid, pil_image, to_images, to_pixels, upscale
from progan.models import Discriminator, Generator, ImageShape
from progan.models.layers import plain
from progan.options import from_dict, parse_json, to_dict
from progan.per_resolution import RESOLUTIONS
from progan.scores import Scores
from progan.tensorfile import DamagedError, from_bytes, to_bytes

FORMAT, VERSIONS = "progan snapshot", ("1", "2")
"""Name of the format and its versions: 2 has the trained generator or the discriminator, too."""
MEAN, ROWS = "truncation.mean", "labels.rows"
RAW, CRITIC = "trained-G.", "D."
"""What the names of the other networks' weights begin with."""
_MEAN_LATENTS = 10_000
_MOST_LISTED = 40  # names in an error
_LOUDEST = 16.0
"""Largest magnitude of images in floats; what is larger are pixels."""


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


Images = Tensor | npt.NDArray[Any] | Sequence[Any]
"""Images for a discriminator, see `Critic`."""
Labels = Tensor | npt.NDArray[Any] | Sequence[Any] | str | int
"""Labels of images, see `Snapshot.generate`."""


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
        self.raw: Generator | None = None
        """The trained generator, of which G is the average, where the file has it."""
        self.D: Discriminator | None = None
        """The discriminator, where the file has it."""

    def __repr__(self) -> str:
        shape, labels = self.info.shape, self.info.label_names
        size = f"{self.resolution}x{self.resolution} {'grey' if shape.channels == 1 else 'RGB'}"
        return f"<Snapshot: {size}, z_dim {self.z_dim}, {len(labels) or 'no'} labels, {self.device}>"

    def _repr_png_(self) -> bytes:
        """What notebooks show: a grid of the images of seeds 0 … 15, classes in turn."""
        size = self.G.label_size
        names: list[str | int] = (
            [""] * 16 if self.info.label_kind == "attributes" else [i % size for i in range(16) if size]
        )
        pixels = to_pixels(self.generate(self.latents(range(16)), self.labels(names) if size else None))
        file = BytesIO()
        pil_image(grid(upscale(pixels.float(), max(1, 64 // self.resolution)).to(torch.uint8), 8, gap=1)).save(
            file, "png"
        )
        return file.getvalue()

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
        """Move the weights, in place. Raises DeviceError if there is no such device."""
        for network in (self.G, self.raw, self.D):
            if network is not None:
                _move(network, device)
        self.mean = self.mean.to(device)
        return self

    def latents(self, seeds: Iterable[int] | int) -> Tensor:
        """Latent of every seed (0 … 2^64-1), float32 [N, z_dim]: the same whatever the batch, the machine or the
        language. Raises SnapshotError for other seeds.
        """
        try:
            numbers = [operator.index(seed) for seed in _listed(seeds)]
            if not all(0 <= number < 2**64 for number in numbers):
                raise ValueError
        except (TypeError, ValueError):
            raise SnapshotError(f"seeds are whole numbers from 0 to 2^64-1; got {reprlib.repr(seeds)}") from None
        return torch.from_numpy(randomness.latents(numbers, self.z_dim)).to(self.device)

    def labels(self, names: Iterable[str | int] | str | int, places: Sequence[int] | None = None) -> Tensor:
        """Label rows float32 [N, L]. Raises SnapshotError for what the snapshot does not know.

        Of classes: a name (str) or an index (int) each. Of attributes: values such as `hat=cap,glasses=none` each, put
        into rows of the data in turn, so that what is not named varies as it does there; `places` numbers these rows
        otherwise than 0, 1, 2 ….
        """
        names = _listed(names)
        if self.info.label_kind != "attributes" or self.label_rows is None:
            numbers = [self.label_index(name) for name in names]
            return torch.eye(len(self.info.label_names), device=self.device)[numbers]
        rows = []
        for i, name in zip(range(len(names)) if places is None else places, names, strict=True):
            row = self.label_rows[i % len(self.label_rows)].clone()
            for value in filter(None, name.split(",")) if isinstance(name, str) else [name]:
                self._put(row, value)
            rows.append(row)
        return torch.stack(rows).to(self.device) if rows else self.mean.new_zeros(0, self.G.label_size)

    def _put(self, row: Tensor, value: str | int) -> None:
        """Give an attribute of a row a value: `hat=cap` takes the place of every other hat."""
        number = self.label_index(value)
        attribute = self.info.label_names[number].partition("=")[0]
        for i, other in enumerate(self.info.label_names):
            if other.startswith(f"{attribute}="):
                row[i] = 0
        row[number] = 1

    def label_index(self, label: str | int) -> int:
        """Index of a class or attribute, given by its name (str) or index (int). Raises SnapshotError."""
        known = self.info.label_names
        if not isinstance(label, str):
            number = _whole(label)
            if number is not None and 0 <= number < len(known):
                return number
            has = f"has {len(known)}, from 0" if known else "was trained without labels"
            raise SnapshotError(f"there is no label with index {reprlib.repr(label)}; this snapshot {has}")
        if label not in known:
            label = printable(label)  # as names that are not UTF-8 are stored
        if label in known:
            return known.index(label)
        hint = did_you_mean(label, known)
        if not hint and label.isdecimal() and int(label) < len(known):
            hint = f"; the one with index {label} is called {known[int(label)]!r} (--label-index {label})"
        listed = ", ".join(known[:_MOST_LISTED]) + (" …" if len(known) > _MOST_LISTED else "")
        hint = hint or f"; it knows {listed or 'none: it was trained without labels'}"
        raise SnapshotError(f"there is no label {label!r} in this snapshot{hint}")

    def generate(
        self,
        z: Tensor | npt.NDArray[Any] | Sequence[Any],
        labels: Labels | None = None,
        truncation: float = 1.0,
        resolution: int | None = None,
        batch_size: int | None = None,
    ) -> Tensor:
        """Images float32 [N, C, R, R] of latents [N, z_dim], not clipped; `progan.to_pixels` makes uint8 of them.

        Latents may be a list, an array or a tensor, [z_dim] for one image. `labels`: rows [N, L] as of `labels()`, a
        name or number for each image, or one row, name or number for all. Raises SnapshotError for what does not fit.
        `truncation` below 1 pulls the first activation towards its mean: fewer surprises, less variety. A `resolution`
        below the snapshot's is its output box-averaged, since older to_rgb layers are stale. `batch_size` of them are
        made at once; default: few of large ones.
        """
        z = self._checked_latents(z)
        if (labels is None) != (self.G.label_size == 0):
            raise SnapshotError("this snapshot needs labels" if labels is None else "this snapshot knows no labels")
        rows = None if labels is None else self._label_rows(labels, len(z))
        try:
            truncation = math.nan if isinstance(truncation, str) else float(truncation)
        except (TypeError, ValueError, RuntimeError):
            truncation = math.nan
        if not math.isfinite(truncation):
            raise SnapshotError("truncation must be a number about 0 to 1")
        _check_batch_size(batch_size)
        resolution = self.resolution if resolution is None else resolution
        if _whole(resolution) not in RESOLUTIONS or resolution > self.resolution:
            raise SnapshotError(
                f"this snapshot makes {self.resolution}x{self.resolution}, not {resolution}x{resolution}"
            )
        pull = None if truncation == 1 else (self.mean, truncation)
        batches = generate(self.G, z, rows, self.resolution, self.info.alpha, batch_size, pull)
        parts = [downscale(images, self.resolution // resolution) for images in batches]
        return torch.cat(parts) if parts else z.new_zeros(0, self.info.shape.channels, resolution, resolution)

    def _checked_latents(self, z: Any) -> Tensor:
        """Latents [N, z_dim], in float32 unless they have 16 bits."""
        given = _tensor(z, "latents")
        if given.dtype not in (torch.float16, torch.bfloat16):
            given = given.to(torch.float32)
        given = given.new_zeros(0, self.z_dim) if given.numel() == 0 else given
        given = given[None] if given.ndim == 1 else given
        if given.ndim != 2 or given.shape[1] != self.z_dim:
            raise SnapshotError(f"latents are [N, {self.z_dim}], or [{self.z_dim}] for one; got {_shape(z)}")
        if not given.isfinite().all():
            raise SnapshotError("latents must be finite")
        return given.contiguous()

    def _label_rows(self, labels: Any, n: int) -> Tensor:
        """Label rows float32 [n, L] of whatever says which label each of n images, or all of them, shall have."""
        size = self.G.label_size
        if isinstance(labels, np.ndarray) and labels.dtype.kind in "USO":
            labels = labels.tolist()
        if isinstance(labels, str) or (isinstance(labels, int) and self.info.label_kind == "attributes"):
            return self.labels([labels] * n)
        if isinstance(labels, list | tuple) and any(isinstance(label, str) for label in labels):
            return self.labels(list(labels) * n if len(labels) == 1 else self._one_each(labels, n))
        given = _tensor(labels, "labels")
        if given.ndim == 0 and self.info.label_kind == "attributes":
            return self.labels([labels] * n)
        if given.ndim == 0:
            given = given.expand(n)
        whole = not given.is_floating_point() or bool((given == given.round()).all())
        # Numbers of classes or, where they are as many as a row has entries and not one for each image, a row.
        if given.ndim == 1 and whole and (len(given) == n or len(given) != size) and self.info.label_kind == "class":
            numbers = self._one_each(given.tolist() * n if len(given) == 1 else given.tolist(), n)
            if not all(0 <= number < size for number in numbers):
                raise SnapshotError(f"labels are numbers from 0 to {size - 1}; got {reprlib.repr(given.tolist())}")
            return torch.eye(size)[[int(number) for number in numbers]]
        rows = given.to(torch.float32)
        rows = rows[None] if rows.ndim == 1 else rows
        if rows.ndim != 2 or rows.shape[1] != size or len(rows) not in (1, n) or not rows.isfinite().all():
            raise SnapshotError(f"labels are names or numbers, or rows [{n}, {size}]; got {_shape(labels)}")
        return rows.expand(n, size)

    def _one_each(self, labels: Sequence[Any], n: int) -> Sequence[Any]:
        if len(labels) != n:
            raise SnapshotError(f"there are {len(labels)} labels for {n} latents: give one for each, or one for all")
        return labels

    def module(self) -> "PlainGenerator":
        """A module of PyTorch alone, on the snapshot's device, for those who trace, export or serve it."""
        return PlainGenerator(self)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the file, whole."""
        write_whole(Path(path), *self.to_bytes())

    def to_bytes(self) -> tuple[bytes, memoryview]:
        """The file's content, in pieces. Equal snapshots have equal bytes."""
        info = asdict(replace(self.info, config=RunConfig())) | {"config": to_dict(self.info.config)}
        tensors = dict(self.G.state_dict())
        for prefix, network in ((RAW, self.raw), (CRITIC, self.D)):
            if network is not None:
                tensors |= {prefix + name: value for name, value in network.state_dict().items()}
        version = VERSIONS[self.raw is not None or self.D is not None]
        metadata = {"format": FORMAT, "version": version, "info": json.dumps(info)}
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


class Critic:
    """Discriminator ready for use: images to scores and features.

    Images [N, C, R, R] or [N, R, R, C], grey ones without C, too, and one image without N: lists, arrays or tensors.
    Whole numbers are pixels 0…255, others images about -1…1. R is the `resolution` at which it was trained last.
    What it says of an image depends on the others of its group (minibatch standard deviation), as in training.
    """

    def __init__(self, D: Discriminator, info: SnapshotInfo) -> None:
        self.D = D.eval().requires_grad_(False)
        self.info = info

    def __repr__(self) -> str:
        return f"<Critic: {self.resolution}x{self.resolution}, {len(self.info.label_names) or 'no'} labels>"

    @property
    def resolution(self) -> int:
        return self.info.resolution

    @property
    def device(self) -> torch.device:
        return next(self.D.parameters()).device

    def to(self, device: torch.device | str) -> "Critic":
        """Move the weights, in place. Raises DeviceError if there is no such device."""
        _move(self.D, device)
        return self

    def __call__(self, images: Images, batch_size: int | None = None) -> Scores:
        """Scores, `value` float32 [N] and `logits` [N, L] or None. Raises SnapshotError for images that do not fit."""
        parts = [self.D.score(x["last"]) for x in self._batches(images, batch_size)]
        logits = [part.logits for part in parts if part.logits is not None]
        return Scores(torch.cat([part.value for part in parts]), torch.cat(logits) if logits else None)

    def features(self, images: Images, batch_size: int | None = None) -> dict[str, Tensor]:
        """Features float32 [N, …] after the block of each resolution (`16x16`, `8x8` …), and `last`, what scores are
        made of. Raises SnapshotError for images that do not fit.
        """
        parts = list(self._batches(images, batch_size))
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    @torch.no_grad()
    def _batches(self, images: Images, batch_size: int | None) -> Iterator[dict[str, Tensor]]:
        """Features of a batch at a time; whole groups of the minibatch standard deviation, except at the end."""
        _check_batch_size(batch_size)
        given, group = self._checked(images), self.info.config.model.group_size
        size = batch_size or max(group, at_once(self.resolution) // group * group)
        for i in range(0, len(given), size):
            yield dict(self.D.features(given[i : i + size].to(self.device), self.info.alpha))

    def _checked(self, images: Images) -> Tensor:
        """Images float32 [N, C, R, R], N at least 1."""
        given, shape = _tensor(images, "images"), self.info.shape
        r, c = self.resolution, shape.channels
        if given.shape in ((r, r), (r, r, c), (c, r, r)):
            given = given[None]
        if given.shape[1:] == (r, r) and c == 1:
            given = given[:, None]
        if given.shape[1:] == (r, r, c):
            given = given.permute(0, 3, 1, 2)
        if given.shape[1:] != (c, r, r) or len(given) == 0:
            raise SnapshotError(
                f"this discriminator judges images [N, {c}, {r}, {r}] or [N, {r}, {r}, {c}]; got {_shape(images)}"
            )
        least, most = float(given.min()), float(given.max())
        if not given.is_floating_point():
            if least < 0 or most > 255:
                raise SnapshotError(f"whole numbers are pixels from 0 to 255; got {least:g} … {most:g}")
            return to_images(given.contiguous())
        if not (math.isfinite(least) and math.isfinite(most)) or max(-least, most) > _LOUDEST:
            raise SnapshotError(f"images are about -1 … 1, and pixels 0 … 255 uint8; got {least:g} … {most:g}")
        return given.to(torch.float32).contiguous()


def _whole(value: Any) -> int | None:
    """What is a whole number, of Python, numpy or torch; None for anything else."""
    try:
        return operator.index(value)
    except (TypeError, RuntimeError):
        return None


def _check_batch_size(batch_size: Any) -> None:
    if batch_size is not None and (_whole(batch_size) or 0) < 1:
        raise SnapshotError(f"batch_size must be a whole number of at least 1; got {batch_size!r}")


def _move(network: nn.Module, device: torch.device | str) -> None:
    try:
        network.to(device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise DeviceError(f"{device} cannot be used here: {reason}. `progan doctor` shows what can") from None


def _listed(values: Any) -> list[Any]:
    """A list of what may also be a single number or word."""
    if isinstance(values, str) or not isinstance(values, Iterable) or getattr(values, "ndim", 1) == 0:
        return [values]
    return list(values)


def _tensor(values: Any, what: str) -> Tensor:
    """A tensor of a list, an array or a tensor. Raises SnapshotError for what holds no numbers."""
    try:
        if isinstance(values, list | tuple) and any(isinstance(each, Tensor | np.ndarray) for each in values):
            values = torch.stack([_tensor(each, what) for each in values])
        if not isinstance(values, Tensor):
            # Tensors are neither read-only nor backwards nor big-endian, and compute little with wide unsigned numbers.
            array = np.array(values)
            wide = array.dtype.kind == "u" and array.dtype.itemsize > 1
            values = torch.from_numpy(array.astype(np.int64 if wide else array.dtype.newbyteorder("=")))
    except (TypeError, ValueError, RuntimeError):
        raise SnapshotError(f"{what} must be numbers of one shape; got {reprlib.repr(values)}") from None
    if values.is_complex():
        raise SnapshotError(f"{what} must be real numbers")
    detached: Tensor = values.detach()
    return detached


def _shape(values: Any) -> str:
    return str(list(_tensor(values, "they").shape))


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


@plain_modes()
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
    if metadata.get("version") not in VERSIONS:
        raise SnapshotError(f"{path} has format version {metadata.get('version')}, this progan reads {VERSIONS[-1]}")
    try:
        info = _info(json.loads(metadata["info"]))
        with torch.device("meta"):
            G, D = models.build(info.config.model, info.shape, seed=0)
            raw, _ = models.build(info.config.model, info.shape, seed=0)
        mean, rows = tensors.pop(MEAN), tensors.pop(ROWS, None)
        others = [_below(tensors, prefix) for prefix in (RAW, CRITIC)]
        _check_rest(G, mean, rows, info)
        for network, own in zip((raw, D), others, strict=True):
            if own:
                _fill(network, own)
        _fill(G, tensors)
    except UnknownKindError as error:
        raise SnapshotError(f"{path} cannot be used: {error}") from None
    except (KeyError, TypeError, ValueError, RuntimeError, ProganError) as error:
        raise SnapshotError(f"{path} is damaged: {str(error).splitlines()[0]}") from None
    made = Snapshot(G, mean, info, hashlib.sha256(content).hexdigest()[:16], rows)
    made.raw = raw.eval().requires_grad_(False) if others[0] else None
    made.D = D.eval().requires_grad_(False) if others[1] else None
    return made


def _below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Take the tensors of a network out of those of a file."""
    return {name.removeprefix(prefix): tensors.pop(name) for name in list(tensors) if name.startswith(prefix)}


def _fill(network: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Load weights, whose types `load_state_dict` does not look at."""
    for name, expected in network.state_dict().items():
        if name in tensors and tensors[name].dtype != expected.dtype:
            raise ValueError(f"{name} holds {tensors[name].dtype}")
    network.load_state_dict(tensors, assign=True)


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


def _check_rest(G: Generator, mean: Tensor, rows: Tensor | None, info: SnapshotInfo) -> None:
    """The tensors that are not the networks'."""
    z, labels = torch.empty(1, G.z_dim, device="meta"), torch.empty(1, G.label_size, device="meta")
    if mean.shape != G.embed(z, labels if G.label_size else None).shape[1:] or mean.dtype != torch.float32:
        raise ValueError(f"{MEAN} is {mean.dtype} {list(mean.shape)}")
    if info.label_kind == "attributes" and (
        rows is None or rows.ndim != 2 or rows.shape[1] != G.label_size or len(rows) == 0 or rows.dtype != torch.float32
    ):
        raise ValueError(f"{ROWS} is missing or does not fit the labels")
