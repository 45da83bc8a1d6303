"""The checksum of TFRecords, CRC-32C, of many byte strings at once.

A checksum goes through its bytes one after another. To let numpy work on wide arrays, each string is cut into lanes
whose checksums are taken side by side and then joined in pairs; 3 MB take some 20 ms.
"""

import numpy as np
import numpy.typing as npt

_POLYNOMIAL = 0x82F63B78
_LANE = 32  # bytes
_Words = npt.NDArray[np.uint32]


def masked_crc32c(rows: npt.NDArray[np.uint8]) -> _Words:
    """Bytes [n, B], B >= 4 -> checksums [n], turned and shifted by a constant as TensorFlow stores them."""
    crc = crc32c(rows)
    masked: _Words = ((crc >> np.uint32(15)) | (crc << np.uint32(17))) + np.uint32(0xA282EAD8)
    return masked


def crc32c(rows: npt.NDArray[np.uint8]) -> _Words:
    """Bytes [n, B], B >= 4 -> checksums [n]."""
    count, size = rows.shape
    lanes = 1 << max(0, -(-size // _LANE) - 1).bit_length()
    padded = np.zeros((count, lanes * _LANE), np.uint8)  # zeros in front of what follows change nothing
    padded[:, -size:] = rows
    padded[:, padded.shape[1] - size :][:, :4] ^= 255  # the same as to begin with all bits set
    state = np.zeros((count, lanes), np.uint32)
    for column in np.ascontiguousarray(padded.reshape(count, lanes, _LANE).transpose(2, 0, 1)):
        state = _TABLE[(state ^ column) & 255] ^ (state >> np.uint32(8))
    behind = _LANE_OF_ZEROS
    while state.shape[1] > 1:
        state = _apply(behind, state[:, 0::2]) ^ state[:, 1::2]
        behind = _apply(behind, behind)
    inverted: _Words = ~state[:, 0]
    return inverted


def _apply(images: _Words, words: _Words) -> _Words:
    """A linear map, given by what it makes of each bit, of words of any shape."""
    result = np.zeros_like(words)
    for bit, image in enumerate(images):
        result ^= (words >> np.uint32(bit) & np.uint32(1)) * image
    return result


def _table() -> _Words:
    """What a byte becomes."""
    words = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        words = (words >> np.uint32(1)) ^ (words & np.uint32(1)) * np.uint32(_POLYNOMIAL)
    return words


def _lane_of_zeros() -> _Words:
    """What each bit of a checksum becomes when a lane of zeros follows."""
    words: _Words = np.uint32(1) << np.arange(32, dtype=np.uint32)
    for _ in range(_LANE):
        words = _TABLE[words & 255] ^ (words >> np.uint32(8))
    return words


_TABLE = _table()
_LANE_OF_ZEROS = _lane_of_zeros()
