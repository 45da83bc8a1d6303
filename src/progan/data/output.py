"""The folder that is being prepared: files that only grow, and a note of how far they are.

The note is written after what it speaks of. A killed preparation therefore leaves files at least as long as its last
note says, and going on means to cut them to that length.
"""

import csv
import dataclasses
import io
import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from progan.data.arrayfile import ArrayWriter
from progan.data.candidates import Source
from progan.data.decode import Chunk, Target
from progan.data.manifest import FileRecord, array_name
from progan.files import write_whole

UNFINISHED = "unfinished.json"
SKIPPED = "skipped.csv"
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
    skipped_bytes: int = 0
    """Length of skipped.csv."""

    def save(self, folder: Path) -> None:
        """Write the note into the folder, whole."""
        write_whole(folder / UNFINISHED, json.dumps(dataclasses.asdict(self)).encode())

    @staticmethod
    def load(folder: Path, key: str) -> "Unfinished | None":
        """The note of an earlier call for the same request."""
        try:
            content = json.loads((folder / UNFINISHED).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        if content["key"] != key:
            return None
        target = content.pop("target")
        target["background"] = tuple(target["background"])
        return Unfinished(**content, target=Target(**target))


class Output:
    """Takes decoded chunks in order; at any time the folder can be gone on with."""

    def __init__(self, folder: Path, note: Unfinished, source: Source, file_limit: int) -> None:
        self.folder = folder
        self.note = note
        self.source = source

        def writer(name: str, row_shape: tuple[int, ...], dtype: type[np.generic]) -> ArrayWriter:
            return ArrayWriter(folder, name, row_shape, dtype, len(source.entries), file_limit)

        channels = note.target.channels
        self._levels = [writer(array_name(size), (size, size, channels), np.uint8) for size in note.target.resolutions]
        self._labels = [writer("labels", (len(source.labels.names),), np.float32)] if source.labels else []
        self._writers = self._levels + self._labels
        for each in self._writers:
            each.resume(note.count)
        self._skipped = (folder / SKIPPED).open("r+b" if note.skipped_bytes else "wb")
        self._skipped.truncate(note.skipped_bytes)
        self._skipped.seek(note.skipped_bytes)
        if note.skipped_bytes == 0:
            self._skip("file", "reason", "detail")
            self.note = dataclasses.replace(note, skipped_bytes=self._skipped.tell())
        self.save()

    def append(self, chunk: Chunk, size: int) -> None:
        """Write a chunk made of the next `size` candidates."""
        start = self.note.read
        for writer, level in zip(self._levels, chunk.levels, strict=True):
            writer.append(level)
        for writer in self._labels:
            assert self.source.labels is not None
            writer.append(self.source.labels.rows([start + position for position in chunk.kept]))
        for position, error in chunk.skipped:
            self._skip(str(self.source.entries[start + position]), error.reason, error.detail)
        note = self.note
        self.note = dataclasses.replace(  # in one step: Ctrl-C may come anywhere
            note,
            read=note.read + size,
            count=note.count + len(chunk.kept),
            upscaled=note.upscaled + chunk.upscaled,
            skipped_bytes=self._skipped.tell(),
        )
        if time.monotonic() - self._saved > _SAVE_SECONDS:
            self.save()

    def save(self) -> None:
        """Bring the note up to date, behind data that is safely on the disk."""
        for writer in self._writers:
            writer.sync()
        self._skipped.flush()
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
        for writer in self._writers:
            writer.close()
        self._skipped.close()

    def _skip(self, *row: Any) -> None:
        line = io.StringIO()
        csv.writer(line, lineterminator="\n").writerow(row)
        self._skipped.write(line.getvalue().encode("utf-8", "backslashreplace"))
