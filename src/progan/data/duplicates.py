"""Images that occur more than once in a dataset, also where they were compressed or resized anew."""

import numpy as np
import numpy.typing as npt

from progan.data.dataset import Dataset

_BLOCK = 4096
_SIDE = 32
_HASH_SIDE = 8
_NEAR_BITS = 6  # of 64 that may differ; new compression flips a few
_NEIGHBOURS = 4
# How much two pictures may differ, as root mean square: a part of their contrast and a pixel level. Copies that were
# compressed and resized anew stay below 0.1, shifted a little below 0.2; then 212 of MNIST's 60,000 digits have a twin.
_SAME_SHARE = 0.2
_SAME_LEVELS = 1.0


def find_duplicates(dataset: Dataset) -> list[list[int]]:
    """Groups of indices, each of images that look the same."""
    hashes = perceptual_hashes(dataset)
    pairs = _near_pairs(hashes)
    first, second = (pairs[:, side] for side in (0, 1))
    return _groups(pairs[_look_the_same(dataset, first, second)])


def perceptual_hashes(dataset: Dataset) -> npt.NDArray[np.uint64]:
    """64 bits per image, uint64 [N]: signs of its lowest frequencies against their median (pHash)."""
    side = min(_SIDE, dataset.resolutions[-1])
    basis = _cosines(side, min(_HASH_SIDE, side))
    hashes = np.zeros(dataset.count, np.uint64)
    for start in range(0, dataset.count, _BLOCK):
        indices = np.arange(start, min(start + _BLOCK, dataset.count))
        grey = dataset.pixels(side, indices).mean(1, dtype=np.float32)  # [n, side, side]
        frequencies = (basis @ grey @ basis.T).reshape(len(indices), -1)
        frequencies[:, 0] = 0  # brightness says nothing of the content
        bits = frequencies > np.median(frequencies, axis=1, keepdims=True)
        packed = np.zeros((len(indices), 8), np.uint8)  # at 4x4 there are only 16 frequencies
        packed[:, : bits.shape[1] // 8] = np.packbits(bits, axis=1)
        hashes[indices] = packed.view(np.uint64)[:, 0]
    return hashes


def _cosines(side: int, count: int) -> npt.NDArray[np.float32]:
    """The first `count` rows of the discrete cosine transform, [count, side]."""
    frequency, position = np.arange(count)[:, None], np.arange(side)[None]
    return np.cos(np.pi * frequency * (position + 0.5) / side).astype(np.float32)


def _near_pairs(hashes: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
    """Pairs [n, 2] of positions whose hashes are nearly equal.

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


def _look_the_same(
    dataset: Dataset, first: npt.NDArray[np.int64], second: npt.NDArray[np.int64]
) -> npt.NDArray[np.bool_]:
    """Whether two images are the same at 32x32 but for what compression does, bool [n]."""
    side = min(_SIDE, dataset.resolutions[-1])
    same = np.zeros(len(first), np.bool_)
    for start in range(0, len(first), _BLOCK):
        block = slice(start, start + _BLOCK)
        one, two = (dataset.pixels(side, some[block]).astype(np.float32) for some in (first, second))
        contrast = np.minimum(one.std((1, 2, 3)), two.std((1, 2, 3)))
        difference = np.sqrt(np.square(one - two).mean((1, 2, 3)))
        same[block] = difference <= _SAME_LEVELS + _SAME_SHARE * contrast
    return same


def _groups(pairs: npt.NDArray[np.int64]) -> list[list[int]]:
    """What is connected by pairs, each group and the list sorted."""
    group_of: dict[int, list[int]] = {}
    for one, two in pairs.tolist():
        mine, other = group_of.setdefault(one, [one]), group_of.setdefault(two, [two])
        if mine is not other:
            mine.extend(other)
            group_of.update(dict.fromkeys(other, mine))
    unique = {id(group): sorted(group) for group in group_of.values()}
    return sorted(unique.values())
