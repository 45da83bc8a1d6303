"""Images that occur more than once in a dataset, also where they were compressed or resized anew."""

import numpy as np
import numpy.typing as npt

from progan.data.dataset import Dataset

_BLOCK = 4096
_SIDE = 32
_HASH_SIDE = 8
_NEAR_BITS = 6  # of 64 that may differ; new compression flips a few
_NEIGHBOURS = 4
# How much two pictures may differ, as a part of their contrast, once brightness and contrast are made equal.
_SAME = 0.12  # photographs and digits stay below when they are compressed anew with quality 75
_SAME_IF_ALONE = 0.23  # found in published photographs; of MNIST's digits many are as near to others
_SIMILAR = 0.6
_LEVELS = 1.0  # root mean square that rounding does to any picture
_OTHER_LIGHT = 48.0, 2.0  # of the means in levels, of the contrasts as a ratio: more is another picture


def find_duplicates(dataset: Dataset) -> list[list[int]]:
    """Groups of indices, each of images that look the same.

    The hash proposes pairs, their pixels decide: alike is the same; nearly alike is the same only where neither image
    has others that are merely similar, as simple drawings have.
    """
    pairs = _near_pairs(perceptual_hashes(dataset))
    differences = _differences(dataset, pairs)
    crowded = np.zeros(dataset.count, np.bool_)
    crowded[pairs[(differences > _SAME_IF_ALONE) & (differences < _SIMILAR)]] = True
    alone = ~crowded[pairs].any(1)
    return _groups(pairs[differences <= np.where(alone, _SAME_IF_ALONE, _SAME)])


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


def _differences(dataset: Dataset, pairs: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """How much the images of each pair differ at 32x32, float32 [n]: 0 … 1, infinite in too different a light."""
    side = min(_SIDE, dataset.resolutions[-1])
    found = [np.empty(0, np.float32)]
    for start in range(0, len(pairs), _BLOCK):
        one, two = (_vectors(dataset, side, some) for some in pairs[start : start + _BLOCK].T)
        means, contrasts = (np.stack([f(vectors, 1) for vectors in (one, two)]) for f in (np.mean, np.std))
        one, two = (vectors - mean[:, None] for vectors, mean in zip((one, two), means, strict=True))
        low, high = contrasts.min(0), contrasts.max(0)
        likeness = np.einsum("nd,nd->n", one, two) / np.maximum(one.shape[1] * low * high, 1e-6)
        rest = low * np.sqrt(np.maximum(0, 1 - likeness * np.abs(likeness)))
        differences = np.maximum(0, rest - _LEVELS) / np.maximum(low, _LEVELS)
        most_lighter, most_stronger = _OTHER_LIGHT
        other = (np.abs(means[0] - means[1]) > most_lighter) | (high > most_stronger * low + _LEVELS) | (likeness < 0)
        found.append(np.where(other & (high > _LEVELS), np.inf, differences).astype(np.float32))
    return np.concatenate(found)


def _vectors(dataset: Dataset, side: int, indices: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    return dataset.pixels(side, indices).reshape(len(indices), -1).astype(np.float32)


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
