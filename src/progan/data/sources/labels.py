"""Labels of image files: from tables as people, other programs and StyleGAN write them, or from names of folders.

Everything here works on names and on the bytes of tables; folder.py finds the tables among the files.
"""

import codecs
import csv
import io
import json
import os
import shlex
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import product, takewhile
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt

from progan.data.sources.base import (
    MAX_CLASSES,
    Labels,
    NoLabelsError,
    attribute_labels,
    attribute_values,
    by_number,
    class_labels,
    why_no_classes,
)
from progan.errors import DatasetError, did_you_mean
from progan.files import printable

SUFFIXES = (".csv", ".tsv", ".json", ".jsonl", ".txt")
MAX_FOLDERS = 1000  # more folders than this are not classes
_FEW_OUTSIDE = 20  # one image in so many may lie beside the folders that are classes
MAX_CLASS = 2**16  # of StyleGAN's class numbers
_CLASS_COLUMNS = {
    "label", "labels", "class", "classes", "category", "categories", "target", "targets", "class_name", "label_name",
    "class_id", "label_id",
}  # fmt: skip
_PARTITION_COLUMNS = {"partition", "split", "subset", "fold", "set"}
_PARTITIONS = {
    "train": {"train", "training"},
    "valid": {"val", "valid", "validation", "dev"},
    "test": {"test", "testing"},
}
_CELEBA = (
    "list_attr_celeba.txt", "list_attr_celeba.csv", "list_eval_partition.txt", "list_eval_partition.csv",
    "CelebAMask-HQ-attribute-anno.txt", "list_landmarks_align_celeba.txt", "list_landmarks_align_celeba.csv",
    "list_landmarks_celeba.txt", "list_landmarks_celeba.csv",
)  # fmt: skip
_LANDMARKS = tuple(
    f"{part}_{axis}" for part in ("lefteye", "righteye", "nose", "leftmouth", "rightmouth") for axis in "xy"
)
"""Columns of CelebA's tables of landmarks."""
_LOOKED_AT = 1000  # rows
_MOST_LOOKED_FOR = 100  # names, in what may be a large text
_MOST_LISTED, _MOST_NAMED = 40, 5  # columns of a table in a message
_ADVICE = "Correct it, or use --labels none"
_Table = tuple[list[str], list[list[Any]]]  # names of the columns, and rows of as many cells, as they were written


def tables_beside(source: Path) -> list[Path]:
    """Tables that go by the name of an archive or folder (faces.csv for faces.zip), and those of CelebA around it."""
    source = Path(os.path.abspath(source))
    if not source.name:  # the root of the file system
        return []
    own = [source.with_name(source.stem + suffix) for suffix in SUFFIXES]
    if source.is_dir():  # a folder's name has no suffix
        own = [source.with_name(source.name + suffix) for suffix in SUFFIXES]
    above = [source.parent, *(source.parents[1:2] if source.name == source.parent.name else ())]  # unpacked twice
    folders = [folder / part for folder in (*above, source.parent.parent) for part in ("", "Anno", "Eval")]
    celeba = [folder / name for folder in folders for name in _CELEBA] if "celeba" in source.name.lower() else []
    return [path for path in dict.fromkeys([*own, *celeba]) if path.is_file() and path != source]


def is_table(name: str) -> bool:
    """True for a file whose name says that it may be a table of labels."""
    return name.lower().endswith(SUFFIXES)


def is_partition_table(name: str) -> bool:
    """True for CelebA's table of which image is for training, validation and testing."""
    return name.rpartition("/")[2].lower().startswith("list_eval_partition.")


def is_landmark_table(name: str, aligned: bool | None = None) -> bool:
    """True for CelebA's tables of where eyes and mouths are: of its `aligned` pictures, or of those in the wild."""
    file = name.rpartition("/")[2].lower()
    kinds = {True: ("align_",), False: ("",), None: ("", "align_")}[aligned]
    return is_table(file) and any(file.startswith(f"list_landmarks_{kind}celeba.") for kind in kinds)


def names_files(content: bytes, files: Sequence[str]) -> bool:
    """True for a file whose text has the names of most of the images in it, whatever else it may be."""
    text = unicodedata.normalize("NFC", _text(content))
    some = _bare(_whole(files[:_MOST_LOOKED_FOR]))
    return 2 * sum(name in text for name in some) > len(some)


def table_landmarks(name: str, content: bytes, files: Sequence[str]) -> npt.NDArray[np.float32]:
    """Landmarks of each file by CelebA's table: float32 [N, 5, 2], as `Source.points`; NaN where it has none.

    The table counts pixels from 0, whose centres are at halves here. Raises DatasetError.
    """
    columns, rows = _parse(name, content, files)
    _, numbers = _match(rows, len(columns), files)
    if missing := [column for column in _LANDMARKS if column not in columns]:
        raise DatasetError(f"{name} has no column {missing[0]}. Copy it again")
    chosen = [columns.index(column) for column in _LANDMARKS]
    points = np.full((len(files), len(chosen)), np.nan, np.float32)
    try:
        for position, number in enumerate(numbers):
            if number is not None:
                points[position] = [float(rows[number][column]) + 0.5 for column in chosen]
    except (TypeError, ValueError) as error:
        raise DatasetError(f"{name} has a landmark that is no number ({error}). Copy it again") from None
    if 2 * np.isfinite(points).all(1).sum() < len(files):
        raise DatasetError(f"{name} does not name most of the images. Copy it again")
    return points.reshape(-1, 5, 2)


def partition_of(word: str) -> str | None:
    """`train`, `valid` or `test`, as names of folders and files spell them; None for any other word."""
    return next((part for part, words in _PARTITIONS.items() if word.lower() in words), None)


def table_partitions(name: str, content: bytes, files: Sequence[str]) -> list[str | None]:
    """Partition of each file by CelebA's table, which has 0, 1 and 2 for them. Raises DatasetError."""
    columns, rows = _parse(name, content, files)
    file_column, numbers = _match(rows, len(columns), files)
    codes = dict(zip("012", _PARTITIONS, strict=True))
    column = next((column for column in range(len(columns)) if column != file_column), file_column)
    found = [None if number is None else codes.get(str(rows[number][column]).strip()) for number in numbers]
    if 2 * sum(part is not None for part in found) < len(files):
        raise DatasetError(f"{name} does not say of most images to which partition they belong. Copy it again")
    return found


def folder_labels(
    files: Sequence[str], are_named: Sequence[bool]
) -> tuple[tuple[Labels, list[bool]] | None, tuple[str, ...]]:
    """A class per folder where there are several, and which files lie in one; a note where these are no classes.

    The files that are named as pictures decide. Folders around all do not count; few of them may lie beside the others.
    """
    folders = [PurePosixPath(file).parts[:-1] for file in files]
    pictures = [folder for folder, is_named in zip(folders, are_named, strict=True) if is_named]
    for level in range(max(map(len, pictures), default=0)):
        inside = [folder[level] for folder in pictures if len(folder) > level]
        names, outside = sorted(set(inside), key=by_number), len(pictures) - len(inside)
        is_most = outside * _FEW_OUTSIDE <= len(pictures)
        if len(names) == 1 or all(map(partition_of, names)):
            if not is_most:
                break
            continue
        reason = why_no_classes(names, len(inside))
        if not is_most:
            reason = f"{outside:,} of {len(pictures):,} images lie in none of them"
        elif len(names) > MAX_FOLDERS:
            reason = f"there are more than {MAX_FOLDERS:,}"
        if reason:
            return None, (f"the {len(names):,} folders are not taken for classes ({reason})",)
        codes = {name: code for code, name in enumerate(names)}
        found = np.array([codes.get(folder[level], -1) if len(folder) > level else -1 for folder in folders])
        return (class_labels(tuple(names), found), (found >= 0).tolist()), ()
    return None, ()


def table_labels(
    name: str, content: bytes, files: Sequence[str], wanted: str | None = None
) -> tuple[Labels, list[bool]]:
    """Labels of the files (named relative to the source), and which of them the table `name` knows.

    The column that names files is found by its content; `wanted` is PrepareConfig.label_column. Raises NoLabelsError
    for a table that names the files but has no labels, DatasetError for any other.
    """
    columns, rows = _parse(name, content, files)
    # Which column names files, and which row names each of them.
    file_column, numbers = _match(rows, len(columns), files)
    known = len(numbers) - numbers.count(None)
    if 2 * known < len(files):
        few = f"names {known:,} of {len(files):,} images, and labels are for most of them"
        error = NoLabelsError if known else DatasetError
        raise error(
            f"{name} {few if known else _why_unmatched(rows, len(columns), files)}. Write lines of: file, label"
        )
    others = [column for column in range(len(columns)) if column != file_column]
    if not others:
        raise DatasetError(f"{name} has no column of labels. Write lines of: file, label")
    cells = {
        columns[column]: [None if number is None else rows[number][column] for number in numbers] for column in others
    }
    return column_labels(name, cells, wanted)


def column_labels(
    table: str, columns: Mapping[str, Sequence[Any]], wanted: str | None = None
) -> tuple[Labels, list[bool]]:
    """Labels of images from columns with a cell for each, None or empty where it has none; and which have a label.

    `wanted` names the column of classes, or several of attributes. Otherwise a column called `label` (`class` …), or a
    single one, holds classes, and several with numbers from 0 to 1 hold attributes. Raises NoLabelsError, which says
    which column could be the label.
    """
    if wanted is not None:
        wanted = printable(wanted)
        names = [wanted] if wanted in columns else [name.strip() for name in wanted.split(",")]
        if missing := [name for name in names if name not in columns]:
            hint = did_you_mean(missing[0], columns) or f"; there are {_listed(columns)}"
            raise NoLabelsError(f"{table} has no column {missing[0]!r}{hint}")
        found, reason = _classes(columns[names[0]]) if len(names) == 1 else _attributes(columns, names)
        if found is None:
            raise NoLabelsError(f"column {wanted} of {table} has no labels ({reason})")
        return found
    # 1. The column whose name says so, or the only one.
    named = [name for name in columns if name.strip().lower() in _CLASS_COLUMNS]
    free = [name for name in columns if name.strip().lower() not in _PARTITION_COLUMNS]
    reasons = {}
    for name in named or (free if len(free) == 1 else []):
        found, reasons[name] = _classes(columns[name])
        if found is not None:
            return found
    # 2. Attributes: a number from 0 to 1 in every other column.
    if len(columns) > 1:
        found, attribute_reason = _attributes(columns, list(columns))
        if found is not None:
            return found
    # 3. None: which column could be?
    could = []
    for name in list(columns)[:_MOST_LISTED]:
        found, reason = _classes(columns[name])
        if found is None:
            reasons[name] = reason
        else:
            could.append(f"--label-column {shlex.quote(name)} takes its {len(found[0].names)} values as classes")
    why = "; ".join(f"{name}: {reason}" for name, reason in list(reasons.items())[:_MOST_NAMED])
    if len(columns) > _MOST_LISTED and not could:
        why = f"{attribute_reason}; {why}"
    advice = "; ".join(could[:_MOST_NAMED]) or "it has no column of classes or of attributes from 0 to 1"
    raise NoLabelsError(f"{table} names the images, but its labels are not used: {advice}{f' ({why})' if why else ''}")


def _classes(cells: Sequence[Any]) -> tuple[tuple[Labels, list[bool]] | None, str]:
    """Labels that are classes, and which images have one; or None and the reason why not."""
    words = ["" if _is_empty(cell) else printable(str(cell).strip()) for cell in cells]
    if any(isinstance(cell, list | dict) for cell in cells):
        return None, "no words or numbers"
    known = [bool(word) for word in words]
    names = sorted(set(words) - {""}, key=by_number)
    if 2 * sum(known) < len(words):
        return None, "empty for most images"
    if reason := why_no_classes(names, sum(known)):
        return None, reason
    codes = {"": -1, **{name: code for code, name in enumerate(names)}}
    return (class_labels(tuple(names), np.array([codes[word] for word in words])), known), ""


def _attributes(
    columns: Mapping[str, Sequence[Any]], names: Sequence[str]
) -> tuple[tuple[Labels, list[bool]] | None, str]:
    """Labels that are attributes, and which images have all of them; or None and the reason why not."""
    rows = zip(*(columns[name] for name in names), strict=True)
    known = [not any(map(_is_empty, row)) for row in rows]
    values = np.zeros((len(known), len(names)), np.float32)  # rows of images without labels are never written
    try:
        for column, name in enumerate(names):
            values[known, column] = [float(cell) for cell, has in zip(columns[name], known, strict=True) if has]
        values[known] = attribute_values(values[known])
    except (TypeError, ValueError, OverflowError) as error:
        return None, f"{name}: {error}" if "convert" in str(error) else str(error)
    if not any(known):
        return None, "empty for most images"
    return (attribute_labels(tuple(map(printable, names)), values), known), ""


def _is_empty(cell: Any) -> bool:
    """True for a cell without a value, which in a column of numbers is NaN (it is not itself)."""
    return bool(cell is None or cell == "" or cell != cell)


def _listed(names: Collection[str]) -> str:
    return ", ".join(list(names)[:_MOST_LISTED]) + (" …" if len(names) > _MOST_LISTED else "")


def _parse(name: str, content: bytes, files: Sequence[str]) -> _Table:
    """The table in a file, by its suffix; columns are numbered where it has no header. Raises DatasetError."""
    try:
        text = _text(content)
        if name.lower().endswith(".jsonl"):
            header, rows = _from_json([json.loads(line) for line in text.splitlines() if line.strip()])
        elif name.lower().endswith(".json"):
            header, rows = _from_json(json.loads(text))
        elif name.lower().endswith(".txt"):
            header, rows = _from_text(text)
        else:
            lines = io.StringIO(text, newline=None)  # which also knows the line ends of old Macs
            delimiter = max("\t;,", key=lines.readline().count)
            lines.seek(0)
            header, *rows = (row for row in csv.reader(lines, delimiter=delimiter, skipinitialspace=True) if row)
        if not rows or any(len(row) != len(header) for row in rows):
            raise ValueError("its lines differ in length" if rows else "it is empty")
        columns = [str(cell).strip() for cell in header]
    except (ValueError, TypeError, KeyError, RecursionError, csv.Error) as error:
        raise DatasetError(f"{name} is not a table of labels ({error}). Write lines of: file, label") from None
    # The same line twice says nothing else; where a column has no value twice, no line is there twice.
    if all(len({str(row[column]) for row in rows}) < len(rows) for column in range(len(columns))):
        rows = list({repr(row): row for row in rows}.values())
    if _is_row(columns, rows, files):  # there is no header
        return [str(number) for number in range(len(columns))], [header, *rows]
    # A column without a name (pandas' index) or with another's name is called by its number.
    columns = [column if column and column not in columns[:at] else str(at) for at, column in enumerate(columns)]
    return columns, rows


def _is_row(columns: list[str], rows: list[list[Any]], files: Sequence[str]) -> bool:
    """True if the first line names an image, as the others do, and no columns."""
    words, named = _whole(columns), _whole(files)
    if set(_bare(words)) & set(_bare(named)):
        return True
    if not set(_folded(words)) & set(_folded(named)):
        return False
    # Without a suffix, a name may be a word or number of a header; then other lines name all images.
    column, numbers = _match(rows, len(columns), files)
    unnamed = [name for name, number in zip(named, numbers, strict=True) if number is None]
    return _folded(words)[column] in _folded(unnamed)


def _text(content: bytes) -> str:
    """Text of a table; what is not UTF-8 looks as such names of files are shown."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content.decode("utf-16", "backslashreplace")
    return content.decode("utf-8-sig", "backslashreplace")


def _from_text(text: str) -> tuple[list[Any], list[list[Any]]]:
    """Lines of words, as in ImageNet's lists, or as CelebA's: a number of lines and names of columns before them."""
    lines = [line.split("," if "," in line else None) for line in text.splitlines() if line.strip()]
    if len(lines) > 1 and len(lines[0]) == 1 and lines[0][0].isdecimal():
        del lines[0]
    header, *rows = lines
    if rows and all(len(row) == len(header) + 1 for row in rows):  # nothing stands above the names of files
        header = ["file", *header]
    return header, rows


def _from_json(content: Any) -> tuple[list[Any], list[list[Any]]]:
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
    columns = list(dict.fromkeys(column for record in content for column in record))
    return columns, [[record.get(column) for column in columns] for record in content]


def _match(rows: list[list[Any]], columns: int, files: Sequence[str]) -> tuple[int, list[int | None]]:
    """The column that names most of the files, and for each file the row that does, as long as it is unambiguous.

    What a file is called without its suffix counts only where nothing else does: it may be a number, as rows have.
    """
    best: tuple[int, list[int | None]] = 0, [None] * len(files)
    most = 0
    whole = _whole(files)
    # Not one row an image: most columns are known by their first rows.
    firsts = {column: [str(row[column]) for row in rows[:_LOOKED_AT]] for column in range(columns)}
    cells = {
        column: _whole([row[column] for row in rows]) for column, some in firsts.items() if len(set(some)) == len(some)
    }
    named_whole: tuple[Callable[[list[str]], list[str]], ...] = (list, _within, _bare)
    for tried in (named_whole, (_stems,), (_folded,)):
        for column, way in product(cells, tried):
            named = {cell: number for number, cell in enumerate(way(cells[column]))}
            numbers = [named.get(file) for file in way(whole)]
            used = [number for number in numbers if number is not None]
            if len(used) > most and len(set(used)) == len(used) and len(named) == len(rows):
                best, most = (column, numbers), len(used)
            if most == len(files):
                return best
        if 2 * most >= len(files):
            break
    return best


def _why_unmatched(rows: list[list[Any]], columns: int, files: Sequence[str]) -> str:
    """Reason why no column of a table names the files."""
    wanted = set(_bare(_whole(files)))
    for column in range(columns):
        times = Counter(_bare(_whole([row[column] for row in rows])))
        if 2 * len(wanted & times.keys()) > len(wanted):
            return f"has several lines for {times.most_common(1)[0][0]}"
    return "does not name most of the images"


def _whole(files: Sequence[Any]) -> list[str]:
    """Files as a table names them, spelled alike: slashes, and accents that are part of their letter."""
    names = (str(file).strip().replace("\\", "/").removeprefix("./") for file in files)
    return [name if name.isascii() else unicodedata.normalize("NFC", name) for name in names]


def _within(whole: list[str]) -> list[str]:
    """Without the folders around all."""
    levels = zip(*(name.split("/")[:-1] for name in whole), strict=False)
    around = len(list(takewhile(lambda parts: len(set(parts)) == 1, levels)))
    return [name.split("/", around)[around] for name in whole]


def _bare(whole: list[str]) -> list[str]:
    """Without folders."""
    return [name.rpartition("/")[2] for name in whole]


def _stems(whole: list[str]) -> list[str]:
    """Without folders and suffix."""
    return [name.rpartition(".")[0] or name for name in _bare(whole)]


def _folded(whole: list[str]) -> list[str]:
    """Without folders, suffix and capitals, which not every system tells apart."""
    return [name.casefold() for name in _stems(whole)]


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
        different = max(len(set(known)), 2)  # the numbers of one class may come from a part of a set
        if reason := why_no_classes(list(map(str, range(different))), len(known)):
            raise NoLabelsError(f"{name} has labels that are no classes ({reason})")
        if max(known) >= MAX_CLASSES:
            raise NoLabelsError(f"{name} has a class {max(known)}, and there may be {MAX_CLASSES:,}")
        codes = np.array([-1 if value is None else value for value in values])
        return class_labels(_column_names(content, max(known) + 1), codes), named
    try:
        vectors = np.array(known, np.float32)
    except (TypeError, ValueError, OverflowError):
        vectors = np.empty(0, np.float32)
    if vectors.ndim != 2 or vectors.shape[1] == 0 or not np.isfinite(vectors).all():
        raise DatasetError(f"{name} has labels that are neither class numbers nor vectors of one length. {_ADVICE}")
    rows = np.zeros((len(values), vectors.shape[1]), np.float32)
    try:
        rows[named] = attribute_values(vectors)
    except ValueError as error:
        raise NoLabelsError(f"{name} has labels that are no attributes ({error})") from None
    return attribute_labels(_column_names(content, vectors.shape[1]), rows), named


def _column_names(content: dict[str, Any], count: int) -> tuple[str, ...]:
    """Names of the columns: those that `writers` writes beside the labels, else their numbers."""
    names = content.get("label_names")
    if isinstance(names, list) and len(names) >= count and all(isinstance(name, str) for name in names):
        return tuple(names)
    return tuple(map(str, range(count)))
