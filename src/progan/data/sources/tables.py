"""Tables of labels: csv, tsv, json or jsonl, as people and other programs write them."""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from progan.data.sources.base import Labels, attribute_labels, class_labels
from progan.errors import DatasetError

SUFFIXES = (".csv", ".tsv", ".json", ".jsonl")
_CLASS_COLUMNS = ("label", "class", "category", "target")
_Rows = list[list[Any]]


@dataclass(frozen=True)
class Table:
    """A header and rows of the same length; cells as they were written."""

    columns: tuple[str, ...]
    rows: _Rows


def parse_table(name: str, content: bytes) -> Table:
    """The table in a file; DatasetError where it is none."""
    try:
        text = content.decode("utf-8-sig")
        if name.lower().endswith(".jsonl"):
            return _from_json([json.loads(line) for line in text.splitlines() if line.strip()])
        if name.lower().endswith(".json"):
            return _from_json(json.loads(text))
        delimiter = max("\t;,", key=text.partition("\n")[0].count)
        header, *rows = (row for row in csv.reader(io.StringIO(text), delimiter=delimiter) if row)
        return _rectangular(header, rows)
    except (ValueError, TypeError, KeyError, RecursionError, csv.Error) as error:
        raise DatasetError(f"{name} is no table of labels ({error}). Write lines of: file, label") from None


def table_labels(table: Table, name: str, files: Sequence[str]) -> tuple[Labels, list[bool]]:
    """Labels of the files (named relative to the source), and which of them the table knows.

    The column that names files is found by its content. A column called `label` (`class` …), or a single other column,
    holds classes; several hold attributes.
    """
    if any(_base_name(cell) in map(_base_name, files) for cell in table.columns):  # no header
        table = Table(tuple(str(n) for n in range(len(table.columns))), [list(table.columns), *table.rows])
    file_column, rows = _match(table, files)
    known = [row is not None for row in rows]
    if 2 * sum(known) < len(files):
        raise DatasetError(f"{name} does not name most of the images. Write lines of: file, label")
    others = [column for column in range(len(table.columns)) if column != file_column]
    if not others:
        raise DatasetError(f"{name} has no column of labels. Write lines of: file, label")
    class_column = next((column for column in others if table.columns[column].lower() in _CLASS_COLUMNS), others[0])
    if len(others) == 1 or table.columns[class_column].lower() in _CLASS_COLUMNS:
        return _classes([None if row is None else str(table.rows[row][class_column]).strip() for row in rows]), known
    cells = [None if row is None else [table.rows[row][column] for column in others] for row in rows]
    return _attributes(cells, tuple(table.columns[column] for column in others), name), known


def _from_json(content: Any) -> Table:
    """Of {file: label}, {"labels": [[file, label], …]} (StyleGAN's) or [{"file": …, "label": …}, …].

    A label may be a word, a number, a list of numbers or {attribute: number}.
    """
    if isinstance(content, dict) and isinstance(content.get("labels"), list):
        content = {file: label for file, label in content["labels"] if label is not None}
    if isinstance(content, dict):
        content = [{"file": file, **_by_name(label)} for file, label in content.items()]
    if not isinstance(content, list) or not content or not all(isinstance(record, dict) for record in content):
        raise ValueError("it names no files")
    columns = list(content[0])
    return _rectangular(columns, [[record[column] for column in columns] for record in content])


def _by_name(label: Any) -> dict[str, Any]:
    if isinstance(label, list):
        return {str(number): value for number, value in enumerate(label)}
    return label if isinstance(label, dict) else {"label": label}


def _rectangular(header: Sequence[str], rows: _Rows) -> Table:
    if not rows or any(len(row) != len(header) for row in rows):
        raise ValueError("its lines differ in length" if rows else "it is empty")
    return Table(tuple(str(cell).strip() for cell in header), rows)


def _match(table: Table, files: Sequence[str]) -> tuple[int, list[int | None]]:
    """The column that names most of the files, and for each file the row that does.

    Names may be whole, without folders, or without folders and suffix, as long as they remain unambiguous.
    """
    best: tuple[int, list[int | None]] = 0, [None] * len(files)
    most = 0
    for column in range(len(table.columns)):
        for spelling in (_whole, _base_name, _stem):
            named = {spelling(row[column]): number for number, row in enumerate(table.rows)}
            rows = [named.get(spelling(file)) for file in files]
            used = [row for row in rows if row is not None]
            if len(used) > most and len(set(used)) == len(used) and len(named) == len(table.rows):
                best, most = (column, rows), len(used)
    return best


def _whole(file: Any) -> str:
    return str(file).strip().replace("\\", "/")


def _base_name(file: Any) -> str:
    return PurePosixPath(_whole(file)).name


def _stem(file: Any) -> str:
    return PurePosixPath(_whole(file)).stem


def _classes(words: list[str | None]) -> Labels:
    found = {word for word in words if word is not None}
    names = sorted(found, key=int) if all(word.isdecimal() for word in found) else sorted(found)
    numbers = {name: number for number, name in enumerate(names)}
    return class_labels(tuple(names), np.array([-1 if word is None else numbers[word] for word in words]))


def _attributes(cells: list[list[Any] | None], names: tuple[str, ...], table: str) -> Labels:
    """-1 and 1, as CelebA has them, become 0 and 1."""
    try:
        values = np.array([[np.nan] * len(names) if row is None else [float(cell) for cell in row] for row in cells])
    except (TypeError, ValueError) as error:
        raise DatasetError(f"{table}: {error}. Attributes are numbers; call a column of words `label`") from None
    if set(np.unique(values[~np.isnan(values)])) <= {-1.0, 1.0}:
        values = (values + 1) / 2
    return attribute_labels(names, values.astype(np.float32))
