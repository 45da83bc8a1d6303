"""Writes an array row by row into .npy files, in constant memory and so that a killed process can go on."""

import os
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from progan.data.manifest import HEADER_BYTES, FileRecord, sha256_of
from progan.errors import DatasetError


class ArrayWriter:
    """Rows of one shape and dtype, at most `capacity` of them, appended to `<name>.npy`.

    If that could exceed `limit` bytes: to `<name>-000.npy`, `<name>-001.npy` …
    """

    def __init__(
        self, folder: Path, name: str, row_shape: tuple[int, ...], dtype: npt.DTypeLike, capacity: int, limit: int
    ) -> None:
        self.folder = folder
        self.name = name
        self.row_shape = row_shape
        self.dtype = np.dtype(dtype)
        self.row_bytes = int(np.prod(row_shape)) * self.dtype.itemsize
        self.rows_per_file = max(1, limit // self.row_bytes)
        self.numbered = capacity > self.rows_per_file
        self.rows = 0
        self._file: BinaryIO | None = None

    def resume(self, rows: int) -> None:
        """Go on behind the first `rows` rows of an earlier writer; whatever it wrote after them is dropped."""
        self.rows = rows
        if tail := rows % self.rows_per_file:
            size = HEADER_BYTES + tail * self.row_bytes
            path = self._path(rows // self.rows_per_file)
            if not path.exists() or path.stat().st_size < size:
                raise DatasetError(f"{path} is shorter than its progress says. Delete {self.folder} and start again")
            self._file = path.open("r+b", buffering=0)
            self._file.truncate(size)
            self._file.seek(size)

    def append(self, block: npt.NDArray[Any]) -> None:
        """Write rows [n, *row_shape]."""
        assert block.shape[1:] == self.row_shape
        assert block.dtype == self.dtype
        while len(block):
            number, position = divmod(self.rows, self.rows_per_file)
            if position == 0:
                self.close()
                self._file = self._path(number).open("wb", buffering=0)
                self._file.write(bytes(HEADER_BYTES))
            assert self._file is not None
            part = block[: self.rows_per_file - position]
            _write_all(self._file, np.ascontiguousarray(part).reshape(-1).view(np.uint8).data)
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
        """Write the headers and describe the files."""
        self.close()
        records = []
        for start in range(0, self.rows, self.rows_per_file):
            path = self._path(start // self.rows_per_file)
            rows = min(self.rows_per_file, self.rows - start)
            with path.open("r+b") as file:
                file.write(self._header(rows))
                file.flush()
                os.fsync(file.fileno())
            records.append(FileRecord(path.name, rows, path.stat().st_size, sha256_of(path)))
        return tuple(records)

    def _path(self, number: int) -> Path:
        return self.folder / (f"{self.name}-{number:03d}.npy" if self.numbered else f"{self.name}.npy")

    def _header(self, rows: int) -> bytes:
        """Of the .npy format, version 1.0."""
        start = b"\x93NUMPY\x01\x00" + (HEADER_BYTES - 10).to_bytes(2, "little")
        text = str({"descr": self.dtype.str, "fortran_order": False, "shape": (rows, *self.row_shape)})
        return start + text.encode().ljust(HEADER_BYTES - 11) + b"\n"


def _write_all(file: BinaryIO, content: memoryview) -> None:
    """Unbuffered files may take less than they are given."""
    while content:
        content = content[file.write(content) :]
