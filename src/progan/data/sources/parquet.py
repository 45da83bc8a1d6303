"""Parquet files with a column of images, as Hugging Face's `datasets` writes them.

An image is a struct of `bytes`, the encoded file, and `path`; the schema's metadata says which columns are images, and
the names of classes. A set is several files (shards), called `train-00000-of-00002.parquet` and so on.
"""

import json
import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate, groupby, pairwise
from pathlib import Path
from typing import Any

import numpy as np

from progan.config import PrepareConfig
from progan.data.sources.archives import MAX_FILE_BYTES, MAX_RATIO
from progan.data.sources.base import (
    MAX_CLASSES,
    Labels,
    NoLabelsError,
    Picture,
    Source,
    Unreadable,
    class_labels,
    import_extra,
)
from progan.data.sources.folder import walk
from progan.data.sources.labels import column_labels, partition_of
from progan.data.sources.pictures import is_picture, open_image
from progan.errors import DatasetError
from progan.files import printable

_SUFFIX = ".parquet"
_IMAGE_COLUMNS = ("image", "img", "images", "picture", "jpg", "png", "bytes")
_ROWS_AT_ONCE = 32
_HARMLESS_BYTES = 2**28  # of a group of rows
_NEEDED = "parquet", "parquet files need it"


@dataclass(frozen=True)
class ParquetReader:
    """Opens the images of rows, which are counted through all files."""

    paths: tuple[str, ...]
    column: str
    starts: tuple[tuple[int, ...], ...]
    """First row of every group of rows of each file, and the row after its last."""

    def read(self, entries: Sequence[int], resolution: int) -> Iterator[Picture | Unreadable]:
        """Image of each row, in turn, not decoded yet."""
        if any(after <= before for before, after in pairwise(entries)):  # groups are read from their beginnings
            for entry in entries:
                yield from self.read([entry], resolution)
            return
        parquet = import_extra("pyarrow.parquet", *_NEEDED)
        firsts = [starts[0] for starts in self.starts]
        for shard, some in groupby(entries, partial(_place, firsts)):
            with parquet.ParquetFile(self.paths[shard]) as file:
                starts = self.starts[shard]
                for group, rows in groupby(some, partial(_place, starts)):
                    yield from self._of_group(file, group, [row - starts[group] for row in rows])

    def _of_group(self, file: Any, group: int, rows: list[int]) -> Iterator[Picture | Unreadable]:
        """Images of rising rows of a group, which is read a few rows at a time."""
        start, done = 0, 0
        try:
            for batch in file.iter_batches(_ROWS_AT_ONCE, row_groups=[group], columns=[self.column]):
                while done < len(rows) and rows[done] < start + len(batch):
                    image = _image(batch.column(0)[rows[done] - start].as_py())
                    done += 1
                    yield image
                if done == len(rows):
                    return
                start += len(batch)
            reason = "the file is shorter than it says"
        except (OSError, ValueError) as error:  # pyarrow's errors are such
            reason = str(error)
        yield from [Unreadable("damaged", reason)] * (len(rows) - done)


def _place(starts: Sequence[int], row: int) -> int:
    """Number of the part that a row lies in; `starts` are the first rows of the parts."""
    return bisect_right(starts, row) - 1


def _image(value: Any) -> Picture | Unreadable:
    """Image of a cell: a struct, or bytes."""
    if isinstance(value, dict):
        if value.get("bytes") is None and value.get("path"):
            return Unreadable("not an image", f"the file has only its path, {value['path']}")
        value = value.get("bytes")
    if not isinstance(value, bytes) or not value:
        return Unreadable("empty file")
    if len(value) > MAX_FILE_BYTES:
        return Unreadable("refused", f"larger than {MAX_FILE_BYTES >> 20} MB")
    try:
        return open_image(value)
    except Unreadable as error:
        return error


def open_parquet(source: str, scratch: Path, config: PrepareConfig) -> Source | None:
    """A folder with parquet files, of which those for training are read unless another part is wanted, or a file."""
    path = Path(source)
    if path.is_dir():
        files = _files(path.iterdir())
        if not files or any(is_picture(name) for name, _ in walk(path)):  # then they are tables beside images
            return None
    else:
        files = _files([path])
    if not files:
        return None
    try:
        return _open(path, files, config)
    except OSError as error:  # pyarrow's for what is damaged, of several lines
        reason = str(error).strip().splitlines()
        raise DatasetError(f"{path} cannot be read ({reason[0] if reason else error!r}). Copy it again") from None


def _files(paths: Iterable[Path]) -> list[Path]:
    """The parquet files among the paths, sorted."""
    return sorted(path for path in paths if path.suffix.lower() == _SUFFIX and path.is_file())


def open_split(folder: Path, split: str, config: PrepareConfig) -> Source:
    """The part of a folder of parquet files, of any name, whose files are called `SPLIT-…`. Raises DatasetError."""
    every = _files(folder.rglob("*"))
    files = [file for file in every if re.split(r"[-.]", file.name)[0] == split]
    if not files:
        there = ", ".join(dict.fromkeys(re.split(r"[-.]", file.name)[0] for file in every)) or "no parquet files"
        raise DatasetError(f"{folder} has no split {split}. There are {there}")
    try:
        return _open(folder, files, replace(config, partition="all"))
    except Unreadable as error:
        raise DatasetError(f"{folder} cannot be read: {error}") from None
    except OSError as error:
        raise DatasetError(f"{folder} cannot be read ({str(error).partition(chr(10))[0]}). Copy it again") from None


def _open(path: Path, files: list[Path], config: PrepareConfig) -> Source:
    """The source of these files."""
    parquet = import_extra("pyarrow.parquet", *_NEEDED)
    files, notes = _of_partition(path, files, config.partition)
    # The schema of the first file must hold for all; the groups of rows say where each row lies.
    with parquet.ParquetFile(files[0]) as first:
        schema = first.schema_arrow
    features = _features(schema)
    column, more = _image_column(path, schema, features)
    simple = _simple_columns(schema) if config.labels == "auto" else []
    cells: dict[str, list[Any]] = {name: [] for name in simple}
    places, total = {}, 0
    for file in files:
        with parquet.ParquetFile(file) as opened:
            if missing := [name for name in (column, *simple) if name not in opened.schema_arrow.names]:
                raise DatasetError(
                    f"{file} has no column {missing[0]}, which {files[0].name} has: it belongs to another set. "
                    "Move it away, or name one file"
                )
            groups = [opened.metadata.row_group(number) for number in range(opened.metadata.num_row_groups)]
            limit = max(_HARMLESS_BYTES, MAX_RATIO * file.stat().st_size)
            if any(group.total_byte_size > limit for group in groups):
                raise DatasetError(f"{file} is refused: it unpacks to far more than its size")
            if groups:  # files may be empty
                places[str(file)] = tuple(accumulate((group.num_rows for group in groups), initial=total))
                total = places[str(file)][-1]
            for name in simple:
                cells[name] += opened.read(columns=[name]).column(0).to_pylist()
    # Images without a label are left out where others have one.
    entries: Sequence[int] = range(total)
    labels, known = _labels(path, cells, features, config.label_column) if simple else (None, [])
    if labels is not None and not all(known):
        entries = [row for row in range(total) if known[row]]
        more.append(
            f"{total - len(entries):,} images without a label are left out (`progan prepare --labels none` takes them)"
        )
        labels = labels.of(entries)
    return Source(
        name=printable(path.resolve().name.removesuffix(_SUFFIX)),
        reader=ParquetReader(tuple(places), column, tuple(places.values())),
        entries=entries,
        labels=labels,
        has_columns=True,
        has_partitions=path.is_dir(),
        notes=(*notes, *more),
    )


def _of_partition(folder: Path, files: list[Path], wanted: str) -> tuple[list[Path], list[str]]:
    """The files of a partition, which their names begin with, and a note if there are others. Raises DatasetError."""
    if folder.is_file():
        whole = folder.name.rpartition("-of-")[2].removesuffix(_SUFFIX).partition("-")[0]
        several = whole.isdecimal() and int(whole) > 1
        return files, [f"{folder.name} is one of {int(whole)} files. Name the folder for all"] if several else []
    words = {file: [*re.split(r"[-_.]", file.stem), folder.name] for file in files}
    parts = {file: next(filter(None, map(partition_of, found)), None) for file, found in words.items()}
    counts = Counter(part for part in parts.values() if part)
    if wanted == "all" or (wanted == "auto" and "train" not in counts):
        return files, []
    chosen = "train" if wanted == "auto" else wanted
    found = [file for file, part in parts.items() if part == chosen]
    if not found:
        raise DatasetError(f"--partition {wanted}: {folder} has no such part. There are {', '.join(counts) or 'none'}")
    others = [part for part in counts if part != chosen]
    note = f"the images are those of {chosen}; `progan prepare --partition` takes {', '.join(others)}"
    return found, [note] if others and wanted == "auto" else []


def _features(schema: Any) -> dict[str, Any]:
    """What the schema's metadata says of each column, if Hugging Face's `datasets` wrote it."""
    try:
        found = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
        return {name: about for name, about in found.items() if isinstance(about, dict)}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


def _image_column(path: Path, schema: Any, features: dict[str, Any]) -> tuple[str, list[str]]:
    """The column of images, and a note where there are several. Raises DatasetError if there is none."""
    types = import_extra("pyarrow.types", *_NEEDED)
    structs, plain = [], []
    for field in schema:
        if types.is_struct(field.type) and field.type.get_field_index("bytes") >= 0:
            structs.append(field.name)
        elif types.is_binary(field.type) or types.is_large_binary(field.type):
            plain.append(field.name)
    found = [name for name, about in features.items() if about.get("_type") == "Image" and name in structs + plain]
    found = found or structs or plain
    if not found:
        raise DatasetError(f"{path} has no column of images, only {', '.join(schema.names[:10])}")
    column = next((name for name in _IMAGE_COLUMNS if name in found), found[0])
    others = ", ".join(name for name in found if name != column)
    return column, [f"the images are those of column {column}; not used: {others}"] if others else []


def _simple_columns(schema: Any) -> list[str]:
    """Columns of numbers and words."""
    types = import_extra("pyarrow.types", *_NEEDED)
    kinds = [
        types.is_integer, types.is_floating, types.is_boolean, types.is_string, types.is_large_string,
        types.is_dictionary,
    ]  # fmt: skip
    return [field.name for field in schema if any(is_kind(field.type) for is_kind in kinds)]


def _labels(
    path: Path, cells: dict[str, list[Any]], features: dict[str, Any], wanted: str | None
) -> tuple[Labels, list[bool]]:
    """Labels from the columns, and which rows have one; those of `datasets`' ClassLabel have names in the metadata.

    Raises NoLabelsError.
    """
    names = {name: features[name].get("names") for name in cells if features.get(name, {}).get("_type") == "ClassLabel"}
    names = {name: words for name, words in names.items() if isinstance(words, list)}
    column = wanted if wanted is not None else next(iter(names), None) if len(names) == 1 else None
    if column in names and 1 < len(names[column]) <= MAX_CLASSES:
        # Numbers of classes in the order of their names, also of those that no image has; -1 is none.
        words = names[column]
        codes = [-1 if code is None or not 0 <= code < len(words) else int(code) for code in cells[column]]
        known = [code >= 0 for code in codes]
        if any(known):
            return class_labels(tuple(printable(str(word)) for word in words), np.array(codes)), known
        raise NoLabelsError(f"{path.name} has no label in column {column}")
    for name, words in names.items():
        cells[name] = [words[code] if code is not None and 0 <= code < len(words) else None for code in cells[name]]
    return column_labels(path.name, cells, wanted)
