"""The folder that is being prepared: files that only grow, and a note of how far they are.

The note is written after what it speaks of. A killed preparation therefore leaves files at least as long as its last
note says, and going on means to cut them to that length.
"""

import dataclasses
import hashlib
import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from progan.data.manifest import FileRecord, array_name
from progan.data.prepare.arrayfile import ArrayWriter
from progan.data.prepare.decode import Chunk, Target
from progan.data.prepare.ledger import IMAGE_COLUMNS, IMAGES, SKIPPED, SKIPPED_COLUMNS, Ledger
from progan.data.sources.base import Source
from progan.files import write_whole
from progan.options import parse_json

UNFINISHED = "unfinished.json"
_SAVE_SECONDS = 2.0


@dataclass(frozen=True)
class Unfinished:
    """The note."""

    key: str
    """Of the request (request.py)."""
    target: Target
    read: int = 0
    """Candidates done with."""
    count: int = 0
    """Images written."""
    upscaled: int = 0
    listed_bytes: int = 0
    """Length of images.csv."""
    skipped_bytes: int = 0
    """Length of skipped.csv."""

    def save(self, folder: Path) -> None:
        """Write the note into the folder, whole."""
        content = dataclasses.asdict(self)
        write_whole(folder / UNFINISHED, json.dumps({"note": content, "check": _check(content)}).encode())

    @staticmethod
    def load(folder: Path, key: str) -> "Unfinished | None":
        """The note of an earlier call for the same request; None if there is none, or it is damaged."""
        try:
            content = json.loads((folder / UNFINISHED).read_bytes())
            if content["check"] != _check(content["note"]):
                return None
            note = parse_json(Unfinished, content["note"])
        except (FileNotFoundError, ValueError, LookupError, TypeError):
            return None
        return note if note.key == key else None


def _check(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


class Output:
    """Takes decoded chunks in order; at any time the folder can be gone on with."""

    def __init__(self, folder: Path, note: Unfinished, source: Source, file_limit: int) -> None:
        self.folder = folder
        self.note = note
        self.source = source

        def writer(name: str, row_shape: tuple[int, ...], dtype: npt.DTypeLike) -> ArrayWriter:
            return ArrayWriter(folder, name, row_shape, dtype, len(source.entries), file_limit)

        channels = note.target.channels
        self._levels = [writer(array_name(size), (size, size, channels), np.uint8) for size in note.target.resolutions]
        self._labels = [writer("labels", (len(source.labels.names),), np.float32)] if source.labels else []
        self._writers = self._levels + self._labels
        for each in self._writers:
            each.resume(note.count)
        self._images = Ledger(folder / IMAGES, IMAGE_COLUMNS, note.listed_bytes)
        self._skipped = Ledger(folder / SKIPPED, SKIPPED_COLUMNS, note.skipped_bytes)
        self._files: list[ArrayWriter | Ledger] = [*self._writers, self._images, self._skipped]
        self.save()

    def append(self, chunk: Chunk, size: int) -> None:
        """Write a chunk made of the next `size` candidates."""
        note = self.note
        entries = self.source.entries[note.read : note.read + size]
        for writer, level in zip(self._levels, chunk.levels, strict=True):
            writer.append(level)
        for writer in self._labels:
            assert self.source.labels is not None
            writer.append(self.source.labels.rows([note.read + position for position, *_ in chunk.kept]))
        listed = self._images.append((entries[position], *shape) for position, *shape in chunk.kept)
        skipped = self._skipped.append((entries[at], error.reason, error.detail) for at, error in chunk.skipped)
        self.note = dataclasses.replace(  # in one step: Ctrl-C may come anywhere
            note,
            read=note.read + size,
            count=note.count + len(chunk.kept),
            upscaled=note.upscaled + chunk.upscaled,
            listed_bytes=listed,
            skipped_bytes=skipped,
        )
        if time.monotonic() - self._saved > _SAVE_SECONDS:
            self.save()

    def save(self) -> None:
        """Bring the note up to date, behind data that is safely on the disk."""
        for file in self._files:
            file.sync()
        self.note.save(self.folder)
        self._saved = time.monotonic()

    def finish(self) -> dict[str, tuple[FileRecord, ...]]:
        """Complete the arrays and describe them by name."""
        with ThreadPoolExecutor(len(self._writers)) as threads:  # most of the time goes into hashes
            records = threads.map(ArrayWriter.finish, self._writers)
        return {writer.name: files for writer, files in zip(self._writers, records, strict=True)}

    def __enter__(self) -> "Output":
        return self

    def __exit__(self, *_: object) -> None:
        self.save()
        for file in self._files:
            file.close()
