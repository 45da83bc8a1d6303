"""The folder a run leaves behind: where everything in it lies."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import progan
from progan.config import RunConfig
from progan.errors import ConfigError, RunError, SnapshotError
from progan.files import write_whole
from progan.options import from_dict, to_dict

FORMAT, VERSION = "progan run", 1


@dataclass(frozen=True)
class DataFacts:
    """What a run remembers of its data."""

    path: str
    name: str
    fingerprint: str
    count: int
    channels: int
    label_kind: str | None
    label_names: tuple[str, ...]


@dataclass(frozen=True)
class RunFolder:
    """Paths of a run."""

    path: Path

    @property
    def stats(self) -> Path:
        return self.path / "stats.jsonl"

    @property
    def samples(self) -> Path:
        return self.path / "samples"

    @property
    def snapshots(self) -> Path:
        return self.path / "snapshots"

    @property
    def state(self) -> Path:
        return self.path / "state"

    @property
    def exists(self) -> bool:
        """Whether a run was begun here."""
        return (self.path / "config.json").exists()

    def write(self, config: RunConfig, data: DataFacts) -> None:
        """Begin a run: `config.json`."""
        content = {"format": FORMAT, "version": VERSION, "progan": progan.__version__, "config": to_dict(config)}
        content["dataset"] = vars(data)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            write_whole(self.path / "config.json", (json.dumps(content, indent=1) + "\n").encode())
        except OSError as error:
            raise RunError(f"{self.path} cannot be written: {error.strerror}. Choose another --out") from None

    def read(self) -> tuple[RunConfig, DataFacts]:
        """The configuration and data of a run. Raises RunError if there is none."""
        path = self.path / "config.json"
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if content["format"] != FORMAT or content["version"] != VERSION:
                raise RunError(f"{path} is of another version of progan ({content['format']} {content['version']})")
            data: Mapping[str, Any] = content["dataset"]
            return from_dict(content["config"]), DataFacts(**{**data, "label_names": tuple(data["label_names"])})
        except OSError:
            raise RunError(f"{self.path} is not a run folder: it has no config.json") from None
        except (ValueError, KeyError, TypeError, ConfigError) as error:
            raise RunError(f"{path} cannot be read: {error}") from None

    def snapshot(self, resolution: int | None = None) -> Path:
        """The newest snapshot, or the newest of a resolution. Raises SnapshotError if there is none."""
        found = {}
        for path in sorted(self.snapshots.glob("generator-*.safetensors")):  # names sort by progress
            if match := re.fullmatch(r"generator-\d+-(\d+)x\d+\.safetensors", path.name):
                found[int(match[1])] = path
                found[0] = path
        if not found:
            raise SnapshotError(f"{self.path} has no snapshot yet: the first comes at the end of the first resolution")
        if (resolution or 0) not in found:
            there = ", ".join(str(key) for key in found if key)
            raise SnapshotError(f"{self.path} has no snapshot of {resolution}x{resolution}, only of {there}")
        return found[resolution or 0]


def numbered(parent: Path, name: str) -> Path:
    """Make and return the next free folder `00000-name` in `parent`."""
    taken = [int(match[1]) for path in _children(parent) if (match := re.match(r"(\d{5})-", path.name))]
    number = max(taken, default=-1) + 1
    while True:
        path = parent / f"{number:05d}-{name}"
        try:
            path.mkdir(parents=True)
            return path
        except FileExistsError:
            number += 1
        except OSError as error:
            raise RunError(f"{path} cannot be made: {error.strerror}. Name a folder with --out") from None


def _children(parent: Path) -> list[Path]:
    return list(parent.iterdir()) if parent.is_dir() else []
