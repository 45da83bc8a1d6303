"""Lists that grow with a dataset: which file became which image, and which files were skipped."""

import csv
import io
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from progan.errors import DatasetError

IMAGES = "images.csv"
"""A line per image, in order; its size before cropping."""
IMAGE_COLUMNS = ("file", "width", "height")
SKIPPED = "skipped.csv"
"""A line per file that gave no image."""
SKIPPED_COLUMNS = ("file", "reason", "detail")


class Ledger:
    """A csv file that is only ever appended to."""

    def __init__(self, path: Path, header: Sequence[str], length: int = 0) -> None:
        """Begin the file, or go on behind its first `length` bytes."""
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
    """The rows of a list; none where there is no such file. DatasetError for one that we did not write."""
    if path.exists():
        try:
            with path.open(newline="", encoding="utf-8") as file:
                rows = csv.DictReader(file)
                if tuple(rows.fieldnames or ()) not in (IMAGE_COLUMNS, SKIPPED_COLUMNS):
                    raise ValueError("its columns are others")
                for row in rows:
                    if None in row or None in row.values():
                        raise ValueError("its lines differ in length")
                    yield row
        except (ValueError, csv.Error) as error:
            raise DatasetError(f"{path} is damaged ({error}). Prepare the images again") from None
