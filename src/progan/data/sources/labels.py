"""Labels of image files: from tables as people, other programs and StyleGAN write them, or from names of folders.

Everything here works on names and on the bytes of tables; folder.py finds the tables among the files.
"""

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from progan.data.sources.base import Labels, attribute_labels, class_labels
from progan.errors import DatasetError

SUFFIXES = (".csv", ".tsv", ".json", ".jsonl")
MAX_FOLDERS = 1000  # more folders than this are not classes
MAX_CLASS = 2**16  # of StyleGAN's class numbers
_CLASS_COLUMNS = ("label", "class", "category", "target")
_SPLITS = {"train", "training", "val", "valid", "validation", "test", "testing"}
_ADVICE = "Correct it, or use --labels none"
_Table = tuple[list[str], list[list[Any]]]  # names of the columns, and rows of as many cells, as they were written


def tables_beside(source: Path) -> list[Path]:
    """Tables that go by an archive's name: faces.csv for faces.zip."""
    return [path for suffix in SUFFIXES if (path := source.with_suffix(suffix)).is_file() and path != source]


def folder_labels(files: Sequence[str]) -> Labels | None:
    """A class per folder where every file lies in one and there are several; folders around all do not count."""
    folders = [PurePosixPath(file).parent.parts for file in files]
    for level in range(min(map(len, folders), default=0)):
        names = sorted({parts[level] for parts in folders})
        if len(names) > MAX_FOLDERS:
            return None
        if len(names) > 1 and not {name.lower() for name in names} <= _SPLITS:
            numbers = {name: number for number, name in enumerate(names)}
            return class_labels(tuple(names), np.array([numbers[parts[level]] for parts in folders]))
    return None


def table_labels(name: str, content: bytes, files: Sequence[str]) -> tuple[Labels, list[bool]]:
    """Labels of the files (named relative to the source), and which of them the table `name` knows.

    The column that names files is found by its content. A column called `label` (`class` …), or a single other column,
    holds classes; several hold attributes. Raises DatasetError for what is no table of labels.
    """
    columns, rows = _parse(name, content)
    if {_spellings(cell)[1] for cell in columns} & {_spellings(file)[1] for file in files}:  # there is no header
        columns, rows = [str(number) for number in range(len(columns))], [columns, *rows]
    # Which column names files, and which row names each of them.
    file_column, numbers = _match(rows, len(columns), files)
    known = [number is not None for number in numbers]
    if 2 * sum(known) < len(files):
        raise DatasetError(f"{name} does not name most of the images. Write lines of: file, label")
    others = [column for column in range(len(columns)) if column != file_column]
    if not others:
        raise DatasetError(f"{name} has no column of labels. Write lines of: file, label")
    # Classes: numbered by the order of their words, or of the numbers that they are.
    named = [column for column in others if columns[column].lower() in _CLASS_COLUMNS]
    if len(others) == 1 or named:
        column = (named or others)[0]
        words = [None if number is None else str(rows[number][column]).strip() for number in numbers]
        found = {word for word in words if word is not None}
        classes = sorted(found, key=int) if all(word.isdecimal() for word in found) else sorted(found)
        codes = {word: code for code, word in enumerate(classes)}
        return class_labels(tuple(classes), np.array([-1 if word is None else codes[word] for word in words])), known
    # Attributes: a number for every other column; NaN where a file is not known, which is refused and never written.
    unknown = [np.nan] * len(others)
    try:
        values = np.array(
            [unknown if number is None else [float(rows[number][column]) for column in others] for number in numbers]
        )
    except (TypeError, ValueError) as error:
        raise DatasetError(f"{name}: {error}. Attributes are numbers; call a column of words `label`") from None
    if set(np.unique(values[~np.isnan(values)])) <= {-1.0, 1.0}:
        values = (values + 1) / 2  # -1 and 1, as CelebA has them, become 0 and 1
    return attribute_labels(tuple(columns[column] for column in others), values.astype(np.float32)), known


def _parse(name: str, content: bytes) -> _Table:
    """The table in a file, by its suffix. Raises DatasetError where it is none."""
    try:
        text = content.decode("utf-8-sig")
        if name.lower().endswith(".jsonl"):
            header, rows = _from_json([json.loads(line) for line in text.splitlines() if line.strip()])
        elif name.lower().endswith(".json"):
            header, rows = _from_json(json.loads(text))
        else:
            delimiter = max("\t;,", key=text.partition("\n")[0].count)
            header, *rows = (row for row in csv.reader(io.StringIO(text), delimiter=delimiter) if row)
        if not rows or any(len(row) != len(header) for row in rows):
            raise ValueError("its lines differ in length" if rows else "it is empty")
        return [str(cell).strip() for cell in header], rows
    except (ValueError, TypeError, KeyError, RecursionError, csv.Error) as error:
        raise DatasetError(f"{name} is not a table of labels ({error}). Write lines of: file, label") from None


def _from_json(content: Any) -> _Table:
    """The table in {file: label}, {"labels": [[file, label], …]} (StyleGAN's) or [{"file": …, "label": …}, …].

    A label may be a word, a number, a list of numbers or {attribute: number}.
    """
    if isinstance(content, dict) and isinstance(content.get("labels"), list):
        content = {file: label for file, label in content["labels"] if label is not None}
    if isinstance(content, dict):
        records = []
        for file, label in content.items():
            if isinstance(label, list):
                label = {str(number): value for number, value in enumerate(label)}
            records.append({"file": file, **(label if isinstance(label, dict) else {"label": label})})
        content = records
    if not isinstance(content, list) or not content or not all(isinstance(record, dict) for record in content):
        raise ValueError("it names no files")
    columns = list(content[0])
    return columns, [[record[column] for column in columns] for record in content]


def _match(rows: list[list[Any]], columns: int, files: Sequence[str]) -> tuple[int, list[int | None]]:
    """The column that names most of the files, and for each file the row that does, as long as it is unambiguous."""
    best: tuple[int, list[int | None]] = 0, [None] * len(files)
    most = 0
    wanted = [_spellings(file) for file in files]
    for column in range(columns):
        cells = [_spellings(row[column]) for row in rows]
        for way in range(3):
            named = {cell[way]: number for number, cell in enumerate(cells)}
            numbers = [named.get(file[way]) for file in wanted]
            used = [number for number in numbers if number is not None]
            if len(used) > most and len(set(used)) == len(used) and len(named) == len(rows):
                best, most = (column, numbers), len(used)
    return best


def _spellings(file: Any) -> tuple[str, str, str]:
    """A file as tables may name it: whole, without folders, or without folders and suffix."""
    whole = str(file).strip().replace("\\", "/")
    return whole, PurePosixPath(whole).name, PurePosixPath(whole).stem


def stylegan_content(content: bytes) -> dict[str, Any] | None:
    """Content of a StyleGAN `dataset.json`, {"labels": [[file, label], …] or null}; None for any other file.

    A label is a class number or a vector of numbers. Words as labels, which StyleGAN does not know, are left to
    `table_labels`; a prepared dataset has a `dataset.json` of its own, with a `format`.
    """
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or "labels" not in found or "format" in found:
        return None
    pairs = [] if found["labels"] is None else found["labels"]
    if not isinstance(pairs, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in pairs):
        return None
    if any(not isinstance(file, str) or isinstance(label, str | dict | None) for file, label in pairs):
        return None
    return found


def stylegan_labels(name: str, content: dict[str, Any], files: Sequence[str]) -> tuple[Labels, list[bool]]:
    """Labels of the files, and which of them `name`, a `dataset.json` of StyleGAN, knows. Raises DatasetError."""
    folder = name[: -len(PurePosixPath(name).name)]
    found = {folder + file.replace("\\", "/"): label for file, label in content["labels"]}
    values = [found.get(file) for file in files]
    known = [value for value in values if value is not None]
    if 2 * len(known) < len(files):
        raise DatasetError(f"{name} does not name most of the images. {_ADVICE}")
    named = [value is not None for value in values]
    if all(type(value) is int and 0 <= value < MAX_CLASS for value in known):
        codes = np.array([-1 if value is None else value for value in values])
        return class_labels(_column_names(content, max(known) + 1), codes), named
    try:
        vectors = np.array(known, np.float32)
    except (TypeError, ValueError, OverflowError):
        vectors = np.empty(0, np.float32)
    if vectors.ndim != 2 or vectors.shape[1] == 0 or not np.isfinite(vectors).all():
        raise DatasetError(f"{name} has labels that are neither class numbers nor vectors of one length. {_ADVICE}")
    rows = np.zeros((len(values), vectors.shape[1]), np.float32)
    rows[named] = vectors
    return attribute_labels(_column_names(content, vectors.shape[1]), rows), named


def _column_names(content: dict[str, Any], count: int) -> tuple[str, ...]:
    """Names of the columns: those that `stylegan_zip` writes beside the labels, else their numbers."""
    names = content.get("label_names")
    if isinstance(names, list) and len(names) >= count and all(isinstance(name, str) for name in names):
        return tuple(names)
    return tuple(map(str, range(count)))
