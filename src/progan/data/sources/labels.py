"""Labels of image files: from a table beside them, or from the names of their folders."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np

from progan.data.sources.base import Labels, Unreadable, class_labels
from progan.data.sources.folder import Entry, entry_bytes
from progan.data.sources.tables import SUFFIXES, parse_table, table_labels
from progan.errors import DatasetError

MAX_CLASSES = 1000  # more folders than this are not classes
_MAX_TABLE_BYTES = 2**26  # of one that was not named
_SPLITS = {"train", "training", "val", "valid", "validation", "test", "testing"}


def file_labels(entries: list[Entry], source: Path, wanted: str) -> tuple[list[Entry], Labels | None]:
    """The candidates and their labels, as `wanted` (PrepareConfig.labels) says.

    A table that gives labels is no candidate; a file that it does not name is refused.
    """
    if wanted == "none":
        return entries, None
    if wanted != "auto":
        path = Path(wanted)
        if not path.is_file():
            raise DatasetError(f"labels {wanted} is no file. Name a csv or json file, or `auto` or `none`")
        others = [entry for entry in entries if Path(entry.container) != path]
        return _from_table(others, path.name, path.read_bytes())
    tables = [entry for entry in entries if entry.name.lower().endswith(SUFFIXES) and entry.size <= _MAX_TABLE_BYTES]
    tables += [Entry(path.name, str(path), path.stat().st_size) for path in tables_beside(source)]
    for table in tables:
        if labelled := _try_table([entry for entry in entries if entry is not table], table):
            return labelled
    return entries, folder_labels(entries)


def tables_beside(source: Path) -> list[Path]:
    """Tables that go by an archive's name: faces.csv for faces.zip."""
    return [path for suffix in SUFFIXES if (path := source.with_suffix(suffix)).is_file() and path != source]


def folder_labels(entries: Sequence[Entry]) -> Labels | None:
    """A class per folder where every image lies in one and there are several; folders around all do not count."""
    folders = [PurePosixPath(entry.name).parent.parts for entry in entries]
    for level in range(min(map(len, folders), default=0)):
        names = sorted({parts[level] for parts in folders})
        if len(names) > MAX_CLASSES:
            return None
        if len(names) > 1 and not {name.lower() for name in names} <= _SPLITS:
            numbers = {name: number for number, name in enumerate(names)}
            return class_labels(tuple(names), np.array([numbers[parts[level]] for parts in folders]))
    return None


def _try_table(entries: list[Entry], table: Entry) -> tuple[list[Entry], Labels] | None:
    """None where the file is some other csv or json."""
    try:
        return _from_table(entries, table.name, entry_bytes(table))
    except (DatasetError, Unreadable):
        return None


def _from_table(entries: list[Entry], name: str, content: bytes) -> tuple[list[Entry], Labels]:
    labels, known = table_labels(parse_table(name, content), name, [entry.name for entry in entries])
    reason = f"no label in {name}"
    checked = [
        entry if is_known else replace(entry, refused=reason) for entry, is_known in zip(entries, known, strict=True)
    ]
    return checked, labels
