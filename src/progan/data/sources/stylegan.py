"""Labels of the StyleGAN family's zips and folders, where `dataset.json` holds `{"labels": [[file, label], …]}`.

A label is a class number or a vector of numbers. Words as labels, which StyleGAN does not know, are left to tables.py;
a prepared dataset has a `dataset.json` of its own, with a `format`.
"""

import json
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from progan.data.sources.base import Labels, Unreadable, attribute_labels, class_labels
from progan.data.sources.folder import Entry, entry_bytes
from progan.errors import DatasetError

FILE_NAME = "dataset.json"
MAX_CLASS = 2**16
_ADVICE = "Mend it, or use --labels none"


def stylegan_labels(entries: list[Entry], wanted: str) -> tuple[list[Entry], Labels | None] | None:
    """The candidates without `dataset.json`, and their labels; an image that it does not name is refused.

    None where there is no such file, or `wanted` (PrepareConfig.labels) names another.
    """
    tables = [entry for entry in entries if PurePosixPath(entry.name).name == FILE_NAME]
    content = _content(tables[0]) if len(tables) == 1 and wanted in ("auto", "none") else None
    if content is None:
        return None
    images = [entry for entry in entries if entry is not tables[0]]
    if wanted == "none" or not content["labels"]:
        return images, None
    prefix = tables[0].name.removesuffix(FILE_NAME)
    found = {prefix + name.replace("\\", "/"): label for name, label in content["labels"]}
    if 2 * sum(entry.name in found for entry in images) < len(images):
        raise DatasetError(f"{tables[0].name} does not name most of the images. {_ADVICE}")
    labels = _labels([found.get(entry.name) for entry in images], content.get("label_names"), tables[0].name)
    reason = f"no label in {tables[0].name}"
    checked = [entry if entry.name in found else replace(entry, refused=reason) for entry in images]
    return checked, labels


def _content(table: Entry) -> dict[str, Any] | None:
    """What a StyleGAN's `dataset.json` says; None for any other file of that name."""
    try:
        content = json.loads(entry_bytes(table))
    except (ValueError, RecursionError, Unreadable):
        return None
    if not isinstance(content, dict) or "labels" not in content or "format" in content:
        return None
    pairs = content["labels"]
    if pairs is None:
        return content
    if not isinstance(pairs, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in pairs):
        return None
    if any(not isinstance(name, str) or isinstance(label, str | dict | None) for name, label in pairs):
        return None
    return content


def _labels(values: list[Any], names: Any, table: str) -> Labels:
    """Class numbers or vectors of one length, by candidate; None for one that has no label."""
    known = [value for value in values if value is not None]
    if all(type(value) is int and 0 <= value < MAX_CLASS for value in known):
        classes = _names(names, max(known) + 1)
        return class_labels(classes, np.array([-1 if value is None else value for value in values]))
    try:
        vectors = np.array(known, np.float32)
    except (TypeError, ValueError, OverflowError):
        vectors = np.empty(0, np.float32)
    if vectors.ndim != 2 or vectors.shape[1] == 0 or not np.isfinite(vectors).all():
        raise DatasetError(f"{table} has labels that are neither class numbers nor vectors of one length. {_ADVICE}")
    rows = np.zeros((len(values), vectors.shape[1]), np.float32)
    rows[[position for position, value in enumerate(values) if value is not None]] = vectors
    return attribute_labels(_names(names, vectors.shape[1]), rows)


def _names(names: Any, count: int) -> tuple[str, ...]:
    """Names of the columns: those that we write beside the labels, else their numbers."""
    if isinstance(names, list) and len(names) >= count and all(isinstance(name, str) for name in names):
        return tuple(names)
    return tuple(map(str, range(count)))
