"""`dataset.json`: what a prepared dataset holds. It is written last, so a half-made folder is no dataset."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from progan.errors import DatasetError
from progan.files import write_whole
from progan.options import parse_json
from progan.per_resolution import RESOLUTIONS

FILE_NAME = "dataset.json"
FORMAT = "progan dataset"
VERSION = 1
HEADER_BYTES = 128
"""Of every array file, before its rows: fixed, so that it can be rewritten when the number of rows is known."""

LabelKind = Literal["class", "attributes"]


@dataclass(frozen=True)
class FileRecord:
    """One .npy file: consecutive rows of an array."""

    file: str
    rows: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """The content of `dataset.json`."""

    name: str
    count: int
    channels: int
    resolutions: tuple[int, ...]
    label_kind: LabelKind | None
    label_names: tuple[str, ...]
    source: str
    arrays: Mapping[str, tuple[FileRecord, ...]]
    """Array name (`images-0004` …, `labels`) -> its files in order, more than one where the array is large."""
    preparation: Mapping[str, Any]
    """How it was made, for people: settings and counts."""

    @property
    def fingerprint(self) -> str:
        """Digest of what training sees: equal for equal data, whatever its name, source or place."""
        content = [self.count, self.channels, self.resolutions, self.label_kind, self.label_names]
        hashes = {name: [record.sha256 for record in records] for name, records in self.arrays.items()}
        return hashlib.sha256(json.dumps([content, hashes], sort_keys=True).encode()).hexdigest()[:32]

    def write(self, folder: Path) -> None:
        """Write `dataset.json` into the folder, whole."""
        content = {"format": FORMAT, "version": VERSION, **dataclasses.asdict(self)}
        write_whole(folder / FILE_NAME, (json.dumps(content, indent=1) + "\n").encode())

    @staticmethod
    def is_in(folder: Path) -> bool:
        """Whether the folder is a prepared dataset of ours; other programs have a `dataset.json` too."""
        try:
            with (folder / FILE_NAME).open("rb") as file:
                return FORMAT.encode() in file.read(100)
        except OSError:
            return False

    @staticmethod
    def read(folder: Path) -> "Manifest":
        """The manifest of a prepared dataset; DatasetError where there is none or it is not ours."""
        path = folder / FILE_NAME
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            raise DatasetError(f"{folder} has no {FILE_NAME}. Run: progan prepare SOURCE {folder}") from None
        except (OSError, ValueError) as error:
            raise DatasetError(f"{path} cannot be read ({error}). Prepare the images again") from None
        if not isinstance(content, dict) or content.pop("format", None) != FORMAT:
            raise DatasetError(f"{path} is not a prepared dataset of progan. Run: progan prepare SOURCE OUT")
        if (version := content.pop("version", None)) != VERSION:
            raise DatasetError(f"{path} has format version {version}, this progan reads {VERSION}. Prepare it again")
        try:
            return _parse(content)
        except (TypeError, KeyError, ValueError, AttributeError) as error:
            raise DatasetError(f"{path} is damaged ({error}). Prepare the images again") from None


def _parse(content: dict[str, Any]) -> Manifest:
    manifest = parse_json(Manifest, content)
    for file in (record.file for records in manifest.arrays.values() for record in records):
        if Path(file).name != file or "\0" in file:
            raise ValueError(f"{file!r} leaves the folder")
    if manifest.count < 1 or manifest.channels not in (1, 3) or bool(manifest.label_names) != bool(manifest.label_kind):
        raise ValueError("its numbers do not fit")
    if not manifest.resolutions or manifest.resolutions != RESOLUTIONS[: len(manifest.resolutions)]:
        raise ValueError(f"its resolutions are {list(manifest.resolutions)}")
    row_bytes = {array_name(size): size * size * manifest.channels for size in manifest.resolutions}
    if manifest.label_kind:
        row_bytes["labels"] = 4 * len(manifest.label_names)
    if manifest.arrays.keys() != row_bytes.keys():
        raise ValueError("its list of arrays does not fit")
    for name, records in manifest.arrays.items():
        if sum(record.rows for record in records) != manifest.count or any(record.rows < 1 for record in records):
            raise ValueError(f"its files of {name} do not hold all images")
        for record in records:
            if record.bytes != HEADER_BYTES + record.rows * row_bytes[name]:
                raise ValueError(f"{record.file} cannot have {record.bytes} bytes")
    return manifest


def array_name(resolution: int) -> str:
    """`images-0064` for 64."""
    return f"images-{resolution:04d}"


def sha256_of(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes, read in constant memory."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
