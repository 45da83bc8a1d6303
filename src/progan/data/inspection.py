"""Inspection of a prepared dataset: counts, and images that deserve a second look (duplicates, blank, badly sized)."""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from progan.data.dataset import Dataset, Indices, Pixels
from progan.data.prepare.output import IMAGES, read_ledger
from progan.data.prepare.report import PrepareReport, remarks
from progan.errors import DatasetError
from progan.options import parse_json

_SIDE = 32  # pixels of a side at which images are looked at
_BLANK, _FAINT = 1.0, 6.0  # standard deviation of pixels
_LONG = 3.0  # sides
_ENLARGED = 3.0

_HASH_SIDE = 8
_NEAR_BITS = 6  # of 64 that may differ; new compression flips a few
_NEIGHBOURS = 4
# How much two pictures may differ, as a fraction of their contrast, once brightness and contrast are made equal.
_SAME = 0.12  # photographs and digits stay below when they are compressed anew with quality 75
_SAME_IF_ALONE = 0.23  # found in published photographs; of MNIST's digits many are as near to others
_SIMILAR = 0.6
_LEVELS = 1.0  # root mean square that rounding does to any picture
_OTHER_LIGHT = 48.0, 2.0  # of the means in levels, of the contrasts as a ratio: more is another picture


@dataclass(frozen=True)
class Suspect:
    """An image that may not belong."""

    index: int
    file: str
    reason: str


@dataclass(frozen=True)
class Inspection:
    """Everything that `progan data show` reports."""

    path: str
    name: str
    fingerprint: str
    count: int
    channels: int
    resolutions: tuple[int, ...]
    bytes: Mapping[int, int]
    """Resolution -> bytes."""
    label_kind: str | None
    label_counts: Mapping[str, int]
    """Label -> images that have it."""
    original_sizes: Mapping[str, tuple[int, int]]
    """`smallest`, `median` and `largest` width and height of the originals, by area."""
    preparation: Mapping[str, Any]
    """Settings and counts of the preparation."""
    duplicates: list[list[int]]
    """Groups of images that look the same."""
    duplicate_files: list[list[str]]
    """Names of their files."""
    suspects: list[Suspect]


def facts(inspection: Inspection) -> list[tuple[str, str]]:
    """Name and text of the rows that say what the dataset is."""
    upscaled = skipped = "not recorded"
    pixels: list[str] = []
    with contextlib.suppress(ValueError):  # a dataset need not say how it was prepared
        made = parse_json(PrepareReport, inspection.preparation.get("report"))
        pixels = remarks(made)
        upscaled, skipped = f"{made.upscaled:,}", f"{sum(made.skipped.values()):,} of {made.read:,} files"
    sizes = [f"{name} {width}x{height}" for name, (width, height) in inspection.original_sizes.items()]
    levels, size = " ".join(map(str, inspection.resolutions)), sum(inspection.bytes.values()) / 1e6
    return [
        ("dataset", f"{inspection.name} ({inspection.fingerprint[:8]}) in {inspection.path}"),
        ("images", f"{inspection.count:,}, {'grey' if inspection.channels == 1 else 'RGB'}"),
        ("resolutions", f"{levels}, {size:,.1f} MB"),
        ("originals", ", ".join(sizes) or "not recorded"),
        ("upscaled", upscaled),
        ("skipped", skipped),
        *(("pixels", remark) for remark in pixels),
        ("labels", f"{len(inspection.label_counts)}, {inspection.label_kind}" if inspection.label_kind else "none"),
        ("duplicates", f"{len(inspection.duplicates):,} groups, {sum(map(len, inspection.duplicates)):,} images"),
        ("suspicious", f"{len(inspection.suspects):,}"),
    ]


def inspect(dataset: Dataset) -> Inspection:
    """Look at every image, at a low resolution. Raises DatasetError where the list of images is damaged."""
    rows, files = list(read_ledger(dataset.path / IMAGES)), image_files(dataset)
    try:
        # Of a face, what was cut out for it is judged, not the picture around it.
        shapes = [(int(row["side"]),) * 2 if "side" in row else (int(row["width"]), int(row["height"])) for row in rows]
        sizes = np.array([(int(row["width"]), int(row["height"])) for row in rows], np.int64).reshape(-1, 2)
        if len(rows) not in (0, dataset.count) or not (sizes > 0).all():
            raise ValueError("not of these images")
    except (KeyError, ValueError, OverflowError) as error:
        raise DatasetError(f"{dataset.path / IMAGES} is damaged ({error}). Prepare the images again") from None
    # Sizes of the originals by their area.
    by_area = [(width, height) for width, height in sizes[np.argsort(sizes.prod(1), kind="stable")].tolist()]
    places = {"smallest": 0, "median": len(by_area) // 2, "largest": -1} if by_area else {}
    duplicates = find_duplicates(dataset)
    reasons = {**_odd_shapes(np.array(shapes, np.int64).reshape(-1, 2), dataset.resolutions[-1]), **_blank(dataset)}
    return Inspection(
        path=str(dataset.path),
        name=dataset.name,
        fingerprint=dataset.fingerprint,
        count=dataset.count,
        channels=dataset.channels,
        resolutions=dataset.resolutions,
        bytes={resolution: dataset.level_bytes(resolution) for resolution in dataset.resolutions},
        label_kind=dataset.label_kind,
        label_counts={name: len(have) for name, have in label_members(dataset).items()},
        original_sizes={name: by_area[place] for name, place in places.items()},
        preparation=dataset.manifest.preparation,
        duplicates=duplicates,
        duplicate_files=[[files[index] for index in group] for group in duplicates],
        suspects=[Suspect(index, files[index], reason) for index, reason in sorted(reasons.items())],
    )


def _name(row: Mapping[str, str]) -> str:
    """Name of an image for people: its file, and which of the file's faces it is."""
    return f"{row['file']}, face {row['face']}" if row.get("face", "0") != "0" else row["file"]


def image_files(dataset: Dataset) -> list[str]:
    """Names of the images' files, or their numbers where the dataset does not say. Raises DatasetError."""
    files = [_name(row) for row in read_ledger(dataset.path / IMAGES) if "file" in row]
    if len(files) not in (0, dataset.count):
        raise DatasetError(f"{dataset.path / IMAGES} is damaged (not of these images). Prepare the images again")
    return files or [str(index) for index in range(dataset.count)]


def label_members(dataset: Dataset) -> dict[str, Indices]:
    """Label -> indices of the images that have it (a value above 0.5)."""
    found: list[list[Indices]] = [[] for _ in dataset.label_names]
    for indices in dataset.blocks() if dataset.label_kind else ():
        labels = dataset.rows("labels", indices)
        for column, parts in enumerate(found):
            parts.append(indices[labels[:, column] > 0.5])
    return {name: np.concatenate(parts) for name, parts in zip(dataset.label_names, found, strict=True)}


def _odd_shapes(sizes: npt.NDArray[np.int64], resolution: int) -> dict[int, str]:
    """Index -> reason for long and for tiny originals, of width and height int64 [N, 2]."""
    reasons: dict[int, str] = {}
    for index, (width, height) in enumerate(sizes.tolist()):
        short, long = min(width, height), max(width, height)
        if long >= short * _LONG:
            reasons[index] = f"extreme shape, {width}x{height}"
        elif short * _ENLARGED <= resolution:
            reasons[index] = f"enlarged {resolution / short:.0f} times"
    return reasons


def _blank(dataset: Dataset) -> dict[int, str]:
    """Index -> reason for pictures that show next to nothing."""
    reasons: dict[int, str] = {}
    for indices in dataset.blocks():
        pixels = dataset.pixels(min(_SIDE, dataset.resolutions[-1]), indices).astype(np.float32)
        contrast = pixels.std((2, 3)).max(1)  # of the liveliest channel
        for index, value in zip(indices.tolist(), contrast, strict=True):
            if value < _FAINT:
                reasons[index] = "blank" if value < _BLANK else "nearly one colour"
    return reasons


# --- images that occur more than once, also where they were compressed or resized anew


class Images(Protocol):
    """What duplicates are looked for in: a dataset, or several as if they were one."""

    count: int
    resolutions: tuple[int, ...]

    def blocks(self, size: int = 4096) -> Iterator[Indices]:
        """Indices of all images in order, int64 [size] at a time."""

    def pixels(self, resolution: int, indices: Indices) -> Pixels:
        """Pixels uint8 [n, C, R, R]."""


def find_duplicates(dataset: Images) -> list[list[int]]:
    """Groups of indices, each of images that look the same.

    The hash proposes pairs, their pixels decide: alike is the same; nearly alike is the same only where neither image
    has others that are merely similar, as simple drawings have.
    """
    pairs = _near_pairs(perceptual_hashes(dataset))  # [n, 2]
    differences = _differences(dataset, pairs)
    # Images that have others which are similar but not the same: there, only a close likeness counts.
    crowded = np.zeros(dataset.count, np.bool_)
    crowded[pairs[(differences > _SAME_IF_ALONE) & (differences < _SIMILAR)]] = True
    alone = ~crowded[pairs].any(1)
    # Connected pairs are one group.
    group_of: dict[int, list[int]] = {}
    for one, two in pairs[differences <= np.where(alone, _SAME_IF_ALONE, _SAME)].tolist():
        mine, other = group_of.setdefault(one, [one]), group_of.setdefault(two, [two])
        if mine is not other:
            mine.extend(other)
            group_of.update(dict.fromkeys(other, mine))
    return sorted({id(group): sorted(group) for group in group_of.values()}.values())


def perceptual_hashes(dataset: Images) -> npt.NDArray[np.uint64]:
    """64 bits per image, uint64 [N]: signs of its lowest frequencies against their median (pHash)."""
    side = min(_SIDE, dataset.resolutions[-1])
    frequency, position = np.arange(min(_HASH_SIDE, side))[:, None], np.arange(side)[None]
    basis = np.cos(np.pi * frequency * (position + 0.5) / side).astype(np.float32)  # of the discrete cosine transform
    hashes = np.zeros(dataset.count, np.uint64)
    for indices in dataset.blocks():
        grey = dataset.pixels(side, indices).mean(1, dtype=np.float32)  # [n, side, side]
        frequencies = (basis @ grey @ basis.T).reshape(len(indices), -1)
        frequencies[:, 0] = 0  # brightness is independent of the content
        bits = frequencies > np.median(frequencies, axis=1, keepdims=True)
        packed = np.zeros((len(indices), 8), np.uint8)  # at 4x4 there are only 16 frequencies
        packed[:, : bits.shape[1] // 8] = np.packbits(bits, axis=1)
        hashes[indices] = packed.view(np.uint64)[:, 0]
    return hashes


def _near_pairs(hashes: npt.NDArray[np.uint64]) -> Indices:
    """Pairs int64 [n, 2] of positions whose hashes are nearly equal.

    Sorted by the hash, near ones stand close together unless they differ in a high bit; so the hash is turned and
    sorted again. Finds nearly all pairs in time that grows like sorting.
    """
    found = [np.empty((0, 2), np.int64)]
    for turn in range(0, 64, 8):
        turned = (hashes << np.uint64(turn)) | (hashes >> np.uint64((64 - turn) % 64))
        order = np.argsort(turned, kind="stable")
        for step in range(1, _NEIGHBOURS + 1):
            pairs = np.stack([order[:-step], order[step:]], axis=1)
            differing = hashes[pairs[:, 0]] ^ hashes[pairs[:, 1]]
            bits = np.unpackbits(differing.view(np.uint8).reshape(-1, 8), axis=1).sum(1)
            found.append(np.sort(pairs[bits <= _NEAR_BITS], axis=1))
    return np.unique(np.concatenate(found), axis=0)


def _differences(dataset: Images, pairs: Indices) -> npt.NDArray[np.float32]:
    """Difference of the images of each pair at 32x32, float32 [n]: 0 … 1, infinite in too different a light."""
    side = min(_SIDE, dataset.resolutions[-1])
    most_lighter, most_stronger = _OTHER_LIGHT
    found = [np.empty(0, np.float32)]
    for start in range(0, len(pairs), 4096):
        block = pairs[start : start + 4096].T
        one, two = (dataset.pixels(side, some).reshape(len(some), -1).astype(np.float32) for some in block)
        # Correlation of the two without their means; what it leaves of the weaker contrast is the difference.
        means, contrasts = (np.stack([f(vectors, 1) for vectors in (one, two)]) for f in (np.mean, np.std))
        one, two = (vectors - mean[:, None] for vectors, mean in zip((one, two), means, strict=True))
        low, high = contrasts.min(0), contrasts.max(0)
        likeness = np.einsum("nd,nd->n", one, two) / np.maximum(one.shape[1] * low * high, 1e-6)
        rest = low * np.sqrt(np.maximum(0, 1 - likeness * np.abs(likeness)))
        differences = np.maximum(0, rest - _LEVELS) / np.maximum(low, _LEVELS)
        other = (np.abs(means[0] - means[1]) > most_lighter) | (high > most_stronger * low + _LEVELS) | (likeness < 0)
        found.append(np.where(other & (high > _LEVELS), np.inf, differences).astype(np.float32))
    return np.concatenate(found)
