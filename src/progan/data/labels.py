"""Labels of image files: from the names of their folders, or from a table beside them."""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from progan.data.candidates import Labels, class_labels
from progan.data.imagefiles import Entry

MAX_CLASSES = 1000  # more folders than this are not classes
_SPLITS = {"train", "training", "val", "valid", "validation", "test", "testing"}


def file_labels(entries: list[Entry], source: Path, wanted: str) -> tuple[list[Entry], Labels | None]:
    """The entries without tables of labels, and the labels that `wanted` (PrepareConfig.labels) asks for."""
    return entries, folder_labels(entries) if wanted == "auto" else None


def folder_labels(entries: Sequence[Entry]) -> Labels | None:
    """A class per folder where every image lies in one and there are several; folders around all do not count."""
    folders = [PurePosixPath(entry.name).parent.parts for entry in entries]
    if not folders:
        return None
    level = 0
    while True:
        classes = {parts[level] if len(parts) > level else None for parts in folders}
        if None in classes:
            return None
        if len(classes) > 1 and not {str(name).lower() for name in classes} <= _SPLITS:
            break
        level += 1
    if len(classes) > MAX_CLASSES:
        return None
    names = tuple(sorted(str(name) for name in classes))
    numbers = {name: number for number, name in enumerate(names)}
    return class_labels(names, np.array([numbers[parts[level]] for parts in folders]))
