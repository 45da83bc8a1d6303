"""What two prepared datasets share and do not."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from progan.data.dataset import Dataset, Indices, Pixels
from progan.data.inspection import find_duplicates, image_files

_EXAMPLES = 10
_BLOCK_BYTES, _MANY = 2**24, 4096


@dataclass(frozen=True)
class Part:
    """One of two datasets that are compared."""

    path: str
    name: str
    fingerprint: str
    count: int
    equal: int
    """Images of which the other has one with equal pixels at the resolution of the comparison."""
    alike: int
    """Others of which the other has one that looks the same (`find_duplicates`)."""
    alone: int
    """The rest."""
    alone_files: list[str]
    """Examples of the rest."""
    label_kind: str | None
    own_labels: list[str]
    """Labels that the other has not."""


@dataclass(frozen=True)
class Difference:
    """What `progan data diff` reports. Of examples there are at most ten."""

    a: Part
    b: Part
    resolution: int
    """The highest that both have, at which images are compared; grey ones as RGB where the other has colours."""
    equal_files: list[tuple[str, str]]
    """Examples of files of a and of b with equal pixels."""
    alike_files: list[tuple[str, str]]
    """Examples of files of a and of b that only look the same."""
    relabelled: int | None
    """Pairs of equal images with different labels, of those labels that both know; None if they have no such labels."""
    relabelled_files: list[tuple[str, str, str, str]]
    """Examples: file of a, file of b, label in a, label in b."""


def compare(a: Dataset, b: Dataset) -> Difference:
    """What two datasets share and do not: by the exact pixels of their images, then by their look."""
    resolution = min(a.resolutions[-1], b.resolutions[-1])
    channels = max(a.channels, b.channels)
    digests = [_digests(each, resolution, channels) for each in (a, b)]
    first = [{digest: index for index, digest in reversed(list(enumerate(each)))} for each in digests]
    equal = [
        np.fromiter((digest in other for digest in each), np.bool_, len(each))
        for each, other in zip(digests, first[::-1], strict=True)
    ]
    # Images of b that a has would stand between those that only look the same, so that they are left out.
    rest = np.flatnonzero(~equal[1])
    both = _Joined(a, b, rest, resolution, channels)
    alike = [np.zeros(each.count, np.bool_) for each in (a, b)]
    pairs: list[tuple[int, int]] = []
    for group in find_duplicates(both):
        of_a = [index for index in group if index < a.count]
        of_b = [int(rest[index - a.count]) for index in group if index >= a.count]
        own = [index for index in of_a if not equal[0][index]]
        shared = [first[1][digests[0][index]] for index in of_a if equal[0][index]]  # of b, too
        if of_a and of_b:
            alike[1][of_b] = True
        if of_b or shared:
            alike[0][own] = True
        if (own and (of_b or shared)) or (of_a and of_b):
            pairs.append(((own or of_a)[0], (of_b or shared)[0]))
    files = [image_files(each) for each in (a, b)]
    matches = sorted((first[0][digest], index) for digest, index in first[1].items() if digest in first[0])
    relabelled = _relabelled(a, b, matches)

    def part(number: int, each: Dataset, other: Dataset) -> Part:
        alone = np.flatnonzero(~equal[number] & ~alike[number]).tolist()
        return Part(
            path=str(each.path),
            name=each.name,
            fingerprint=each.fingerprint,
            count=each.count,
            equal=int(equal[number].sum()),
            alike=int(alike[number].sum()),
            alone=len(alone),
            alone_files=[files[number][index] for index in alone[:_EXAMPLES]],
            label_kind=each.label_kind,
            own_labels=[name for name in each.label_names if name not in other.label_names],
        )

    return Difference(
        a=part(0, a, b),
        b=part(1, b, a),
        resolution=resolution,
        equal_files=[(files[0][one], files[1][two]) for one, two in matches[:_EXAMPLES]],
        alike_files=[(files[0][one], files[1][two]) for one, two in pairs[:_EXAMPLES]],
        relabelled=None if relabelled is None else len(relabelled),
        relabelled_files=[
            (files[0][one], files[1][two], *labels) for one, two, labels in (relabelled or [])[:_EXAMPLES]
        ],
    )


class _Joined:
    """All images of `a` and some of `b`, as if they were one dataset."""

    def __init__(self, a: Dataset, b: Dataset, some: Indices, resolution: int, channels: int) -> None:
        self.parts, self.some, self.channels = (a, b), some, channels
        self.count = a.count + len(some)
        self.resolutions = tuple(size for size in a.resolutions if size <= resolution)

    def blocks(self, size: int = 4096) -> Iterator[Indices]:
        """Indices of all images in order."""
        for start in range(0, self.count, size):
            yield np.arange(start, min(start + size, self.count))

    def pixels(self, resolution: int, indices: Indices) -> Pixels:
        """Pixels uint8 [n, C, R, R]."""
        a, b = self.parts
        of_a = indices < a.count
        pixels = np.empty((len(indices), self.channels, resolution, resolution), np.uint8)
        pixels[of_a] = a.pixels(resolution, indices[of_a])  # grey is repeated
        pixels[~of_a] = b.pixels(resolution, self.some[indices[~of_a] - a.count])
        return pixels


def _digests(dataset: Dataset, resolution: int, channels: int) -> list[bytes]:
    """Digest of each image's pixels, 16 bytes, grey ones repeated to that many channels."""
    found = []
    for indices in dataset.blocks(max(1, _BLOCK_BYTES // (channels * resolution**2))):
        pixels = dataset.pixels(resolution, indices)
        pixels = np.ascontiguousarray(np.broadcast_to(pixels, (len(pixels), channels, resolution, resolution)))
        found += [hashlib.blake2b(image.data, digest_size=16).digest() for image in pixels]
    return found


def _relabelled(a: Dataset, b: Dataset, pairs: list[tuple[int, int]]) -> list[tuple[int, int, tuple[str, str]]] | None:
    """Pairs of images with different labels, and these; None where the labels cannot be compared.

    Classes are compared by name; of attributes those that both have.
    """
    common = [name for name in a.label_names if name in b.label_names]
    if a.label_kind is None or a.label_kind != b.label_kind or not common:
        return None

    def words(dataset: Dataset, indices: Indices) -> list[list[str]]:
        """What is said of each image: its class, or the common attributes."""
        rows = dataset.rows("labels", indices)
        if dataset.label_kind == "class":
            return [[dataset.label_names[code]] for code in rows.argmax(1)]
        columns = [dataset.label_names.index(name) for name in common]
        return [[f"{name}={value:g}" for name, value in zip(common, row, strict=True)] for row in rows[:, columns]]

    found = []
    for start in range(0, len(pairs), _MANY):
        some = np.array(pairs[start : start + _MANY], np.int64)
        for (one, two), *texts in zip(some.tolist(), words(a, some[:, 0]), words(b, some[:, 1]), strict=True):
            differing = [(x, y) for x, y in zip(*texts, strict=True) if x != y]
            if differing:
                old, new = (", ".join(side) for side in zip(*differing, strict=True))
                found.append((one, two, (old, new)))
    return found
