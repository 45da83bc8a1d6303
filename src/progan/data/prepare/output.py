"""The folder that is being prepared: arrays and lists that only grow, and a note of the progress.

The note is written after the data that it describes. A killed preparation therefore leaves files at least as long as
its last note says, and continuing begins with cutting them to that length.
"""

import csv
import dataclasses
import hashlib
import io
import json
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from progan.data.dataset import HEADER_BYTES, FileRecord, row_types, sha256_of
from progan.data.prepare.decode import Chunk, Target
from progan.data.prepare.ranges import Tally
from progan.data.sources.base import Source
from progan.errors import DatasetError
from progan.files import write_whole
from progan.options import parse_json

FILE_LIMIT = 4 * 10**9
"""Bytes above which an array is put into several files."""
UNFINISHED = "unfinished.json"
IMAGES, IMAGE_COLUMNS = "images.csv", ("file", "width", "height")
"""A line per image, in order; its size before cropping."""
FACE_COLUMNS = ("face", "left", "top", "right", "bottom", "side", "confidence")
"""More of them where faces are cut out: number within the file (0 is the largest), box, pixels of a side of what was
cut out, and how sure the detector is (0 … 1)."""
SKIPPED, SKIPPED_COLUMNS = "skipped.csv", ("file", "reason", "detail")
"""A line per file that gave no image."""
_SAVE_SECONDS = 2.0


class ArrayWriter:
    """Appends rows of one shape and dtype, at most `capacity` of them, to `<name>.npy`, in constant memory.

    If that could exceed `limit` bytes: to `<name>-000.npy`, `<name>-001.npy` …
    """

    def __init__(self, folder: Path, name: str, row: np.dtype[Any], capacity: int, limit: int) -> None:
        """`row`: dtype and shape of a row, as `dataset.row_types` gives them."""
        self.folder, self.name, self.row = folder, name, row
        self.rows_per_file = max(1, limit // row.itemsize)
        self.numbered = capacity > self.rows_per_file
        self.rows = 0
        self._file: BinaryIO | None = None

    def resume(self, rows: int) -> None:
        """Continue after the first `rows` rows of an earlier writer; whatever it wrote after them is dropped."""
        self.rows = rows
        if tail := rows % self.rows_per_file:
            size = HEADER_BYTES + tail * self.row.itemsize
            path = self._path(rows // self.rows_per_file)
            if not path.exists() or path.stat().st_size < size:
                raise DatasetError(f"{path} is shorter than {UNFINISHED} says. Delete {self.folder} and start again")
            self._file = path.open("r+b", buffering=0)
            self._file.truncate(size)
            self._file.seek(size)

    def append(self, block: npt.NDArray[Any]) -> None:
        """Write rows [n, *shape of a row]."""
        assert (block.shape[1:], block.dtype) == (self.row.shape, self.row.base)
        while len(block):
            number, position = divmod(self.rows, self.rows_per_file)
            if position == 0:
                self.close()
                self._file = self._path(number).open("wb", buffering=0)
                self._file.write(bytes(HEADER_BYTES))
            assert self._file is not None
            part = block[: self.rows_per_file - position]
            content = np.ascontiguousarray(part).reshape(-1).view(np.uint8).data
            while content:  # unbuffered files may take less than they are given
                content = content[self._file.write(content) :]
            self.rows += len(part)
            block = block[len(part) :]

    def sync(self) -> None:
        """Make what was written survive a loss of power."""
        if self._file is not None:
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file; a finished one is complete on disk."""
        if self._file is not None:
            self.sync()
            self._file.close()
            self._file = None

    def finish(self) -> tuple[FileRecord, ...]:
        """Write the headers (.npy format, version 1.0) and describe the files."""
        self.close()
        records = []
        for start in range(0, self.rows, self.rows_per_file):
            # The header was left empty until the number of rows is known; padded with spaces to its fixed length.
            path = self._path(start // self.rows_per_file)
            rows = min(self.rows_per_file, self.rows - start)
            text = str({"descr": self.row.base.str, "fortran_order": False, "shape": (rows, *self.row.shape)})
            with path.open("r+b") as file:
                file.write(b"\x93NUMPY\x01\x00" + (HEADER_BYTES - 10).to_bytes(2, "little"))
                file.write(text.encode().ljust(HEADER_BYTES - 11) + b"\n")
                file.flush()
                os.fsync(file.fileno())
            records.append(FileRecord(path.name, rows, path.stat().st_size, sha256_of(path)))
        return tuple(records)

    def _path(self, number: int) -> Path:
        return self.folder / (f"{self.name}-{number:03d}.npy" if self.numbered else f"{self.name}.npy")


class Ledger:
    """A csv file that is only ever appended to."""

    def __init__(self, path: Path, header: Sequence[str], length: int = 0) -> None:
        """Begin the file, or continue after its first `length` bytes."""
        self._file = path.open("r+b" if length else "wb")
        self._file.truncate(length)
        self._file.seek(length)
        if length == 0:
            self.append([header])

    def append(self, rows: Iterable[Sequence[Any]]) -> int:
        """Write rows; the length of the file in bytes."""
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows)
        lines = text.getvalue().replace("\r", "\\r")  # which the csv module would leave unquoted before Python 3.13
        self._file.write(lines.encode("utf-8", "backslashreplace"))  # names need not be proper Unicode
        return self._file.tell()

    def sync(self) -> None:
        """Make what was written survive a loss of power."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_ledger(path: Path) -> Iterator[dict[str, str]]:
    """The rows of a list; none where there is no such file. Raises DatasetError for one that progan did not write."""
    if path.exists():
        try:
            with path.open(newline="", encoding="utf-8") as file:
                rows = csv.DictReader(file)
                if tuple(rows.fieldnames or ()) not in (IMAGE_COLUMNS, IMAGE_COLUMNS + FACE_COLUMNS, SKIPPED_COLUMNS):
                    raise ValueError("its columns are others")
                for row in rows:
                    if None in row or None in row.values():
                        raise ValueError("its lines differ in length")
                    yield row
        except (ValueError, csv.Error) as error:
            raise DatasetError(f"{path} is damaged ({error}). Prepare the images again") from None


@dataclass(frozen=True)
class Unfinished:
    """Progress of a preparation, saved with a checksum: a damaged file means starting again."""

    key: str
    """Digest of the request: `prepare.request_key`."""
    target: Target
    read: int = 0
    """Candidates done with."""
    count: int = 0
    """Images written."""
    upscaled: int = 0
    tally: Tally = dataclasses.field(default_factory=Tally)
    listed_bytes: int = 0
    """Length of images.csv."""
    skipped_bytes: int = 0
    """Length of skipped.csv."""

    def save(self, folder: Path) -> None:
        """Write the note into the folder, whole."""
        content = dataclasses.asdict(self)
        write_whole(folder / UNFINISHED, json.dumps({"note": content, "check": _checksum(content)}).encode())

    @staticmethod
    def load(folder: Path, key: str) -> "Unfinished | None":
        """Progress of an earlier call for the same request; None if there is none, or it is damaged."""
        try:
            content = json.loads((folder / UNFINISHED).read_bytes())
            if content["check"] != _checksum(content["note"]):
                return None
            note = parse_json(Unfinished, content["note"])
        except (FileNotFoundError, ValueError, LookupError, TypeError):
            return None
        return note if note.key == key else None


def _checksum(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


class Output:
    """Writes decoded chunks in order; an interrupted preparation can continue from the folder at any time."""

    def __init__(self, folder: Path, note: Unfinished, source: Source, file_limit: int) -> None:
        self.folder, self.note, self.source = folder, note, source
        target, label_names = note.target, source.labels.names if source.labels else ()
        rows = row_types(target.resolutions, target.channels, label_names)
        # No one knows how many faces there are.
        most = len(source.entries) if target.faces is None or target.faces.faces == "largest" else sys.maxsize
        self._writers = [ArrayWriter(folder, name, rows[name], most, file_limit) for name in rows]
        for writer in self._writers:
            writer.resume(note.count)
        columns = IMAGE_COLUMNS if target.faces is None else IMAGE_COLUMNS + FACE_COLUMNS
        self._images = Ledger(folder / IMAGES, columns, note.listed_bytes)
        self._skipped = Ledger(folder / SKIPPED, SKIPPED_COLUMNS, note.skipped_bytes)
        self._files: list[ArrayWriter | Ledger] = [*self._writers, self._images, self._skipped]
        self.save()

    def append(self, chunk: Chunk, size: int) -> None:
        """Write a chunk made of the next `size` candidates."""
        note, labels = self.note, self.source.labels
        entries = self.source.entries[note.read : note.read + size]
        # One block of rows per array, in the order of row_types: images from 4x4 upwards, then labels.
        arrays: list[npt.NDArray[Any]] = [*chunk.levels]
        if labels:
            arrays.append(labels.rows([note.read + position for position, *_ in chunk.kept]))
        for writer, array in zip(self._writers, arrays, strict=True):
            writer.append(array)
        # The lists are flushed by save(), before the note that gives their length.
        listed = self._images.append((entries[position], *columns) for position, *columns in chunk.kept)
        skipped = self._skipped.append((entries[at], error.reason, error.detail) for at, error in chunk.skipped)
        self.note = dataclasses.replace(  # in one step: Ctrl-C may come anywhere
            note,
            read=note.read + size,
            count=note.count + len(chunk.kept),
            upscaled=note.upscaled + chunk.upscaled,
            tally=note.tally.add(chunk.tally),
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

    def close(self) -> None:
        """Save, and close all files."""
        self.save()
        for file in self._files:
            file.close()
