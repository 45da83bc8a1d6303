"""The authors' multi-resolution TFRecords as a source, without TensorFlow.

Every record of a file holds an image of one shape, so all have one length and the file is an array [N, 16 + length] of
bytes: the length (uint64) and its checksum, the payload (a `tf.train.Example`) and its checksum.

A checksum, CRC-32C, goes through its bytes one after another. To let numpy work on wide arrays, each string is cut into
lanes whose checksums are taken side by side and then joined in pairs; 3 MB take some 20 ms.
"""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from progan.config import PrepareConfig
from progan.data.sources.base import Labels, Source, Unreadable, array_labels
from progan.errors import DatasetError

_SUFFIX = ".tfrecords"
_NAME = re.compile(r"(?P<name>.+)-r(?P<power>\d\d)" + re.escape(_SUFFIX))
_HEADER = 12  # bytes before the payload; 4 follow it
_BATCH_BYTES = 2**20  # checked at once
_NO_EXAMPLE = "a record is no tf.train.Example of one image"
_VARINT, _BYTES = 0, 2  # wire types; the others do not occur in what is parsed here
_POLYNOMIAL = 0x82F63B78  # of CRC-32C, bits reversed
_LANE = 32  # bytes
_Bytes = npt.NDArray[np.uint8]
_Words = npt.NDArray[np.uint32]


@dataclass(frozen=True)
class RecordReader:
    """Opens images in the records of a file. Picklable."""

    path: str
    length: int
    """Bytes of a payload."""

    def read(self, entries: Sequence[int], resolution: int) -> Iterator[Image.Image | Unreadable]:
        """Image of each record, in turn; those whose checksum is wrong are unreadable."""
        records = _records(Path(self.path), self.length)
        step = max(1, _BATCH_BYTES // self.length)
        for start in range(0, len(entries), step):
            some = records[list(entries[start : start + step])]
            payloads = some[:, _HEADER:-4]  # checksums of a block at once: numpy is slow byte by byte
            sound = masked_crc32c(payloads) == _uint32(some[:, -4:])
            yield from (_image(payload, ok) for payload, ok in zip(payloads, sound, strict=True))


def open_tfrecords(source: str, scratch: Path, config: PrepareConfig) -> Source | None:
    """A folder with NAME-r02.tfrecords … NAME-r10.tfrecords, of which the highest is read, or one such file.

    Labels are in NAME-rxx.labels beside it: an npy file, float32 [N, L].
    """
    path = _highest(Path(source)) if Path(source).is_dir() else Path(source)
    if path is None or path.suffix != _SUFFIX:
        return None
    reader = RecordReader(str(path), _payload_length(path))
    count = len(_records(path, reader.length))
    matched = _NAME.fullmatch(path.name)
    name = matched["name"] if matched else path.stem
    labels_path = path.with_name(f"{name}-rxx.labels")
    labels = _labels(labels_path, count) if config.labels == "auto" and labels_path.exists() else None
    return Source(name, reader, range(count), labels)


def _highest(folder: Path) -> Path | None:
    """The file of the highest resolution in a folder."""
    files = [(matched, path) for path in folder.glob(f"*{_SUFFIX}") if (matched := _NAME.fullmatch(path.name))]
    names = sorted({matched["name"] for matched, _ in files})
    if len(names) > 1:
        raise DatasetError(f"{folder} holds TFRecords of {', '.join(names)}. Name one file")
    return max(files, key=lambda item: int(item[0]["power"]))[1] if files else None


def _payload_length(path: Path) -> int:
    """Bytes of every record's payload, after a look at the frames of all records and into the first."""
    size = path.stat().st_size
    with path.open("rb") as file:
        header = np.frombuffer(file.read(_HEADER), np.uint8)
    if len(header) < _HEADER or masked_crc32c(header[None, :8])[0] != _uint32(header[None, 8:])[0]:
        raise DatasetError(f"{path} is not a TFRecord file: its first record has no valid length")
    length = int.from_bytes(header[:8].tobytes(), "little")
    if _HEADER + length + 4 > size:
        raise DatasetError(f"{path} is cut off in its first record. Copy it again")
    # All frames begin with the same length and checksum, if the file is whole and its images are of one size.
    records = _records(path, length)
    damaged = np.flatnonzero((records[:, :_HEADER] != header).any(1))
    if len(damaged):
        raise DatasetError(
            f"{path}: record {damaged[0]} is damaged or of another size than the first. Copy the file again"
        )
    if rest := size % (_HEADER + length + 4):
        raise DatasetError(f"{path} is cut off: {rest} bytes follow its {len(records)} whole records. Copy it again")
    try:
        _parse(memoryview(records[0, _HEADER:-4].tobytes()))
    except ValueError as error:
        raise DatasetError(f"{path} is not in the layout of the Progressive GAN authors: {error}") from None
    return length


def _records(path: Path, length: int) -> _Bytes:
    """The whole records uint8 [N, 16 + length], memory-mapped."""
    frame = _HEADER + length + 4
    return np.asarray(np.memmap(path, np.uint8, "r", shape=(path.stat().st_size // frame, frame)))


def _labels(path: Path, count: int) -> Labels:
    try:
        values = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DatasetError(f"{path} cannot be read ({error}). Copy it again, or use --labels none") from None
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "buif" or not np.isfinite(values).all():
        raise DatasetError(f"{path} holds no numbers. Use --labels none")
    return array_labels(values, count, path)


def _image(payload: _Bytes, sound: bool) -> Image.Image | Unreadable:
    if not sound:
        return Unreadable("damaged", "its checksum in the TFRecord file differs")
    try:
        pixels = _parse(memoryview(payload.tobytes())).transpose(1, 2, 0)
    except ValueError as error:
        return Unreadable("not an image", str(error))
    return Image.fromarray(np.ascontiguousarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels))


def _parse(payload: memoryview) -> _Bytes:
    """Pixels uint8 [C, H, W] of a `tf.train.Example`; ValueError where it is something else."""
    features = {}
    for entry in _inner(_inner([payload], 1), 1):  # Example -> Features -> map entries
        features[_one(entry, 1).tobytes().decode()] = _one(entry, 2)
    if not features.keys() >= {"shape", "data"}:
        raise ValueError(f"its features are {', '.join(map(repr, sorted(features))) or 'none'}, not 'shape' and 'data'")
    shape = list(_integers(features["shape"]))
    data = _one(_one(features["data"], 1), 1)  # Feature -> BytesList -> bytes
    if len(shape) != 3 or shape[0] not in (1, 3) or 0 in shape or math.prod(shape) != len(data):
        raise ValueError(f"its shape is {shape} for {len(data)} bytes")
    return np.frombuffer(data, np.uint8).reshape(shape)


def _integers(feature: memoryview) -> Iterator[int]:
    """A Feature's Int64List, packed or not."""
    for values in _inner([feature], 3):
        for _, value in _fields(values):
            if isinstance(value, int):
                yield value
                continue
            position = 0
            while position < len(value):
                number, position = _varint(value, position)
                yield number


def _inner(messages: list[memoryview], number: int) -> list[memoryview]:
    """Values of bytes that the messages hold under a field number."""
    found = (value for message in messages for field, value in _fields(message) if field == number)
    return [value for value in found if isinstance(value, memoryview)]


def _one(message: memoryview, number: int) -> memoryview:
    """The one value of bytes that the message holds under a field number. Raises ValueError."""
    found = _inner([message], number)
    if len(found) != 1:
        raise ValueError(_NO_EXAMPLE)
    return found[0]


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Field numbers and values of a protobuf message."""
    position = 0
    while position < len(message):
        key, position = _varint(message, position)
        value, position = _varint(message, position)
        if key & 7 == _VARINT:
            yield key >> 3, value
        elif key & 7 == _BYTES and value <= len(message) - position:
            yield key >> 3, message[position : position + value]
            position += value
        else:
            raise ValueError(_NO_EXAMPLE)


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    """A number, seven bits a byte, lowest first, and the position behind it."""
    value = 0
    for shift, byte in enumerate(message[position : position + 10]):
        value |= (byte & 127) << 7 * shift
        if byte < 128:
            return value, position + shift + 1
    raise ValueError(_NO_EXAMPLE)


def _uint32(columns: _Bytes) -> _Words:
    """uint8 [n, 4], little-endian -> uint32 [n]."""
    return np.ascontiguousarray(columns).view("<u4")[:, 0].astype(np.uint32)


# --- CRC-32C

_TABLE: _Words = np.arange(256, dtype=np.uint32)  # what a byte becomes
for _ in range(8):
    _TABLE = (_TABLE >> np.uint32(1)) ^ (_TABLE & np.uint32(1)) * np.uint32(_POLYNOMIAL)


def masked_crc32c(rows: _Bytes) -> _Words:
    """Bytes [n, B], B >= 4 -> checksums [n], turned and shifted by a constant as TensorFlow stores them."""
    crc = crc32c(rows)
    masked: _Words = ((crc >> np.uint32(15)) | (crc << np.uint32(17))) + np.uint32(0xA282EAD8)
    return masked


def crc32c(rows: _Bytes) -> _Words:
    """Bytes [n, B], B >= 4 -> checksums [n]."""
    count, size = rows.shape
    lanes = 1 << max(0, -(-size // _LANE) - 1).bit_length()
    padded = np.zeros((count, lanes * _LANE), np.uint8)  # zeros in front of what follows change nothing
    padded[:, -size:] = rows
    padded[:, padded.shape[1] - size :][:, :4] ^= 255  # the same as to begin with all bits set
    # The checksum of every lane, one byte of all lanes after the other.
    state = np.zeros((count, lanes), np.uint32)
    for column in np.ascontiguousarray(padded.reshape(count, lanes, _LANE).transpose(2, 0, 1)):
        state = _followed_by_zero(state ^ column)
    # What each bit of a checksum becomes when a lane of zeros follows. With it pairs of lanes are joined.
    behind: _Words = np.uint32(1) << np.arange(32, dtype=np.uint32)
    for _ in range(_LANE):
        behind = _followed_by_zero(behind)
    while state.shape[1] > 1:
        state = _apply(behind, state[:, 0::2]) ^ state[:, 1::2]
        behind = _apply(behind, behind)
    inverted: _Words = ~state[:, 0]
    return inverted


def _followed_by_zero(words: _Words) -> _Words:
    """The checksums when a byte 0 follows."""
    after: _Words = _TABLE[words & 255] ^ (words >> np.uint32(8))
    return after


def _apply(images: _Words, words: _Words) -> _Words:
    """A linear map, given by what it makes of each bit, of words of any shape."""
    result = np.zeros_like(words)
    for bit, image in enumerate(images):
        result ^= (words >> np.uint32(bit) & np.uint32(1)) * image
    return result
