"""Every kind of source, by name. A new one is a function in its own file and a line here."""

import dataclasses
import functools
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tokenize import TokenError
from zipfile import BadZipFile

from PIL import Image

from progan.config import PrepareConfig
from progan.data.sources.archives import list_archive, list_folder
from progan.data.sources.arrays import open_cifar, open_idx, open_npy
from progan.data.sources.base import Labels, Source, Unreadable
from progan.data.sources.folder import Entry, FileReader
from progan.data.sources.labels import file_labels
from progan.data.sources.stacked import open_stacked
from progan.data.sources.stylegan import stylegan_labels
from progan.data.sources.tfrecords import open_tfrecords
from progan.errors import DatasetError

_DAMAGED = (
    ValueError, LookupError, EOFError, OverflowError, SyntaxError, TokenError, struct.error, zlib.error, BadZipFile,
    RuntimeError,
)  # fmt: skip
"""What numpy and the standard library raise at a file that is not what it begins as: RuntimeError at zips that are
encrypted or too new."""
AVATARS_COUNT = 20_000
AVATARS_RESOLUTION = 64


def open_source(source: str, scratch: Path, config: PrepareConfig) -> Source:
    """What a user's words stand for; the first kind that knows them opens it.

    `scratch` is a folder for what must be unpacked to be read; it is made when needed.
    """
    for opener in SOURCES.values():
        try:
            found = opener(source, scratch, config)
        except _DAMAGED as error:
            raise DatasetError(f"{source} is damaged ({error}). Copy or download it again") from None
        if found:
            if not found.entries:
                raise DatasetError(f"{source} holds no images")
            if config.labels not in ("auto", "none") and not isinstance(found.reader, FileReader):
                raise DatasetError(f"--labels {config.labels} is for image files; {source} brings its own labels")
            return found if config.labels != "none" else dataclasses.replace(found, labels=None)
    raise DatasetError(f"{source} is no archive and no array. Put the images into a folder and name that")


def _open_avatars(source: str, scratch: Path, config: PrepareConfig) -> Source | None:
    kind, _, number = source.partition(":")
    if kind != "avatars":
        return None
    if number and not (number.isdecimal() and int(number) > 0):
        raise DatasetError(f"{source} is not understood. Write `avatars` or `avatars:5000`")
    from progan import avatars

    labels = Labels("attributes", avatars.LABEL_NAMES, functools.partial(avatars.attributes, seed=config.seed))
    count = int(number) if number else AVATARS_COUNT
    return Source("avatars", AvatarReader(config.seed), range(count), labels, AVATARS_RESOLUTION)


@dataclass(frozen=True)
class AvatarReader:
    """Draws the embedded faces."""

    seed: int

    def read(self, entries: Sequence[int], resolution: int) -> Iterator[Image.Image | Unreadable]:
        """See candidates.Reader."""
        from progan import avatars

        yield from (Image.fromarray(pixels) for pixels in avatars.draw(entries, resolution, self.seed))


def _open_folder(source: str, scratch: Path, config: PrepareConfig) -> Source | None:
    path = Path(source)
    return _files(path, list_folder(path, scratch), config) if path.is_dir() else None


def _open_archive(source: str, scratch: Path, config: PrepareConfig) -> Source | None:
    path = Path(source)
    entries = list_archive(path, scratch) if path.is_file() else None
    return None if entries is None else _files(path, entries, config)


def _files(path: Path, entries: list[Entry], config: PrepareConfig) -> Source:
    images, labels = stylegan_labels(entries, config.labels) or file_labels(entries, path, config.labels)
    return Source(path.resolve().name.split(".")[0] or "images", FileReader(), images, labels)


def _open_stacked(source: str, scratch: Path, config: PrepareConfig) -> Source | None:
    return open_stacked(source, scratch, config, open_source)


SOURCES: dict[str, Callable[[str, Path, PrepareConfig], Source | None]] = {
    "avatars": _open_avatars,
    "stacked": _open_stacked,
    "idx": open_idx,
    "cifar": open_cifar,
    "tfrecords": open_tfrecords,
    "npy": open_npy,
    "archive": _open_archive,
    "folder": _open_folder,
}
"""Kind -> opener, which gives None for what is not of its kind. Asked in this order."""
