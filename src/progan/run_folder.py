"""Run folder: paths of everything that a run leaves behind."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import progan
from progan.config import CHANGEABLE, INEXACT, RunConfig, is_inexact
from progan.data.dataset import Dataset, Manifest
from progan.data.sources import identity
from progan.errors import ConfigError, DatasetError, RunError, SnapshotError
from progan.files import Claim, HeldError, NoLocksError, folder_name, remove_unfinished, write_whole
from progan.options import difference, from_dict, leaves, override, parse_json, to_dict
from progan.progress import Log

FORMAT, VERSION = "progan run", 2
SMALLEST_CELL, GRID_GAP = 64, 2
"""Pixels of a cell of the grids in `samples/`: smaller images are enlarged, so that the pictures of all stages compare.
And pixels between the cells."""
READ_VERSIONS = (1, 2)
"""1 had neither the data's resolutions and files nor a history of changes."""


@dataclass(frozen=True)
class DataFacts:
    """Facts about a run's data that its folder remembers."""

    path: str
    name: str
    fingerprint: str
    count: int
    channels: int
    label_kind: str | None
    label_names: tuple[str, ...]
    resolutions: tuple[int, ...] = ()
    files: dict[str, str] = field(default_factory=dict)
    """Name of an array -> digest of what its files hold."""

    @classmethod
    def of(cls, dataset: Dataset) -> "DataFacts":
        """Facts about an opened dataset."""
        labels = dataset.label_kind, tuple(dataset.label_names)
        shape = dataset.fingerprint, dataset.count, dataset.channels
        return cls(str(dataset.path), dataset.name, *shape, *labels, dataset.resolutions, dataset.hashes)

    def difference(self, now: "DataFacts") -> list[str]:
        """Lines `name: old -> new` on what other data differs in; none if it is the same, wherever it lies."""
        if self.fingerprint == now.fingerprint:
            return []
        pairs = {
            "images": (self.count, now.count),
            "channels": (self.channels, now.channels),
            "resolutions": (_span(self.resolutions or now.resolutions), _span(now.resolutions)),
            "labels": (self.label_kind, now.label_kind),
            "label names": _only(self.label_names, now.label_names),
        }
        changed = [name for name in self.files if now.files.get(name, self.files[name]) != self.files[name]]
        lines = [f"{name}: {before} -> {after}" for name, (before, after) in pairs.items() if before != after]
        return [*lines, f"other content of {', '.join(changed)}"] if changed else lines or ["other content"]

    def takes(self, now: "DataFacts", labels: bool) -> bool:
        """True if a run can go on with other data because images may have been added to it: there are more, alike."""
        same = self.channels == now.channels and set(self.resolutions) <= set(now.resolutions)
        if labels:
            same = same and (self.label_kind, self.label_names) == (now.label_kind, now.label_names)
        return same and now.count > self.count


@dataclass(frozen=True)
class RunFolder:
    """Paths of a run."""

    path: Path

    @property
    def config(self) -> Path:
        return self.path / "config.json"

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
    def stop(self) -> Path:
        """File that asks the training to save and stop, as Ctrl-C does; training deletes it when it obeys."""
        return self.path / "stop"

    @property
    def exists(self) -> bool:
        """True if a run was begun here."""
        return self.config.exists()

    @contextmanager
    def held(self, log: Log) -> Iterator[Claim | None]:
        """Lock the folder inside, and clean up after processes that were killed. RunError if another process holds it.

        None, after a warning, where the file system has no locks.
        """
        claim = self._claim(log)
        try:
            remove_unfinished(self.path)
            yield claim
        finally:
            if claim is not None:
                claim.release()

    def _claim(self, log: Log) -> Claim | None:
        try:
            return Claim(self.path)
        except NoLocksError:
            log(f"warning: {self.path} cannot be locked here: see to it that no other process trains there")
            return None
        except HeldError as error:
            raise RunError(f"{self.path} is in use: {error} trains there. Choose another --out, or stop it") from None
        except OSError as error:
            raise self.unwritable(error) from None

    def write(
        self,
        config: RunConfig,
        data: DataFacts,
        changes: Sequence[Mapping[str, Any]] = (),
        initial: Mapping[str, Any] | None = None,
    ) -> None:
        """Write `config.json`; `changes` is the history of its settings, oldest first, `initial` is what it began with
        (--init).
        """
        content = {"format": FORMAT, "version": VERSION, "progan": progan.__version__, "config": to_dict(config)}
        content |= {"dataset": asdict(data), "changes": list(changes)} | ({"initial": initial} if initial else {})
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            write_whole(self.config, (json.dumps(content, indent=1) + "\n").encode())
        except OSError as error:
            raise self.unwritable(error) from None

    def unwritable(self, error: OSError) -> RunError:
        """Error for what the file system refused."""
        return RunError(f"{self.path} cannot be written: {error.strerror}. Fix the cause, or choose another --out")

    def read(self) -> tuple[RunConfig, DataFacts]:
        """Configuration and data of a run. Raises RunError if there is none."""
        content = self._content()
        try:
            data = dict(content["dataset"])
            for name in ("label_names", "resolutions"):
                data[name] = tuple(data.get(name, ()))
            return from_dict(content["config"]), parse_json(DataFacts, data)
        except (ValueError, KeyError, TypeError, ConfigError) as error:
            raise RunError(f"{self.config} cannot be read: {error}") from None

    def changes(self) -> list[dict[str, Any]]:
        """History of its settings: `cur_nimg` and `changes`, lines `name: old -> new`, and `inexact` where they change
        what is learned. Raises RunError.
        """
        return list(self._content().get("changes", []))

    def initial(self) -> dict[str, Any]:
        """Facts on the networks that the run began with (--init); empty if they were new. Raises RunError."""
        return dict(self._content().get("initial", {}))

    def _content(self) -> dict[str, Any]:
        try:
            content = json.loads(self.config.read_text(encoding="utf-8"))
            if content["format"] != FORMAT:
                raise RunError(f"{self.config} is not that of a run of progan")
            if content["version"] not in READ_VERSIONS:
                raise RunError(
                    f"{self.config} has format version {content['version']}, this progan reads up to {VERSION}. "
                    "Use a newer one"
                )
            return dict(content)
        except OSError:
            raise RunError(f"{self.path} is not a run folder: {self._instead()}") from None
        except (ValueError, KeyError, TypeError) as error:
            raise RunError(f"{self.config} cannot be read: {error}") from None

    def _instead(self) -> str:
        """What a folder is that is no run: the runs in it, the newest first."""
        inside = [path.parent for path in self.path.glob(f"*/{self.config.name}")]
        newest = sorted(inside, key=lambda path: (path / self.config.name).stat().st_mtime, reverse=True)
        if not newest:
            return f"it has no {self.config.name}"
        more = f" and {len(newest) - 5} more" if len(newest) > 5 else ""
        return f"it holds {len(newest)}. Name one of {', '.join(map(str, newest[:5]))}{more}"

    def begin(self, config: RunConfig, data: DataFacts, allow_change: bool) -> list[str]:
        """Make the run folder, or compare with what the run was begun with; the settings that change, a line each.

        Raises RunError, with the differences, for other images, for settings that cannot change, and without
        `allow_change` for those that can.
        """
        if not self.exists:
            self.write(config, data)
            return []
        old, old_data = self.read()
        lines = old_data.difference(data)
        added = bool(lines) and old_data.takes(data, config.dataset.labels)
        if lines and not (added and allow_change):
            goes_on = "--allow-change goes on with images that were added; else give" if added else "Give"
            raise RunError(
                f"{self.path} was begun with other images: {'; '.join(lines)} ({old_data.path} -> {data.path}). "
                f"{goes_on} it those, or start a new run with another --out"
            )
        changes = difference(old, _same_place(config, old))
        fixed = difference(_with_changeable(old, config), _same_place(config, old))
        allowed = [line for line in changes if line not in fixed]
        if fixed:
            also = f"; --allow-change would take {_first(allowed)}" if allowed else ""
            raise RunError(
                f"{self.path} was begun with other settings, which cannot change: {_first(fixed)}{also}. "
                "Give it the same ones, or start a new run with another --out"
            )
        if allowed and not allow_change:
            raise RunError(
                f"{self.path} was begun with other settings: {_first(allowed)}. Add --allow-change to go on with "
                "these, give it the same ones, or start a new run with another --out"
            )
        return [*allowed, f"data: {'; '.join(lines)}"] if lines else allowed

    def record(self, config: RunConfig, data: DataFacts, changes: list[str], cur_nimg: int) -> bool:
        """Put changed settings into `config.json`, and into its history that they hold from `cur_nimg` on.

        Where the images lie now is put there as well, and is no change. True if the changes change what is learned.
        """
        old, old_data = self.read()
        changed = {line.partition(":")[0] for line in changes}
        inexact = "data" in changed or any(is_inexact(name.replace("-", "_"), config) for name in changed)
        config = override(config, {"held_out": config.health.held_out or old.health.held_out})
        if changes or (config, data) != (old, old_data):
            entry = {"cur_nimg": cur_nimg, "changes": changes} | ({"inexact": True} if inexact else {})
            self.write(config, data, [*self.changes(), *([entry] if changes else [])], self.initial())
        return inexact

    def record_initial(self, facts: Mapping[str, Any]) -> None:
        """Put facts on the networks that the run begins with into `config.json`."""
        self.write(*self.read(), self.changes(), facts)

    def images(self) -> str:
        """Where the images of the run are: prepared, as it was trained on them, or else what --data named.

        Raises RunError if neither is there.
        """
        config, data = self.read()
        place = data.path if Manifest.is_in(Path(data.path)) else config.dataset.data or data.path
        try:
            next(identity(place))
        except DatasetError:
            raise RunError(f"the images of {self.path} are no longer in {place}. Name them with --data") from None
        return place

    def best(self, resolution: int) -> Path:
        """Path of the snapshot with the lowest SWD of a resolution; there is one if the run was measured there."""
        return self.snapshots / f"best-{resolution}x{resolution}.safetensors"

    def snapshot(self, resolution: int | None = None) -> Path:
        """Path of the newest snapshot, or of the newest of a resolution. Raises SnapshotError if there is none."""
        found = {}
        for path in sorted(self.snapshots.glob("generator-*.safetensors")):  # names sort by progress
            if match := re.fullmatch(r"generator-\d+-(\d+)x\d+\.safetensors", path.name):
                found[int(match[1])] = path
                found[0] = path
        if not found and not self.exists:
            raise SnapshotError(f"{self.path} is not a run folder: {self._instead()}")
        if not found:
            raise SnapshotError(f"{self.path} has no snapshot yet: the first comes at the end of the first resolution")
        if (resolution or 0) not in found:
            there = ", ".join(str(key) for key in found if key)
            raise SnapshotError(f"{self.path} has no snapshot of {resolution}x{resolution}, only of {there}")
        return found[resolution or 0]


def _same_place(config: RunConfig, old: RunConfig) -> RunConfig:
    """Where equal images and copies lie does not matter, nor what is only looked at, nor how many threads compute."""
    same = {"data": old.dataset.data, "held_out": old.health.held_out, "threads": old.runtime.threads}
    return override(config, {**same, "copy_to": old.runtime.copy_to})


def _with_changeable(old: RunConfig, config: RunConfig) -> RunConfig:
    """The old settings with the new values of those that may change."""
    values = {option.name: value for _, option, value in leaves(config)}
    return override(old, {name: values[name] for name in (*CHANGEABLE, *INEXACT)})


def numbered(parent: Path, name: str) -> Path:
    """Make and return the next free folder `00000-name` in `parent`."""
    name = folder_name(name)
    children = parent.iterdir() if parent.is_dir() else ()
    taken = [int(match[1]) for path in children if (match := re.match(r"(\d{5})-", path.name))]
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


def _first(lines: Sequence[str], most: int = 5) -> str:
    """The first lines as one, and how many more there are."""
    return "; ".join([*lines[:most], *([f"and {len(lines) - most} more"] if len(lines) > most else [])])


def _only(a: Sequence[str], b: Sequence[str]) -> tuple[str, str]:
    """Names that each has and the other has not; their orders if they differ in nothing else."""
    if set(a) == set(b):
        return ", ".join(a), ", ".join(b)
    return ", ".join(sorted(set(a) - set(b))) or "none", ", ".join(sorted(set(b) - set(a))) or "none"


def _span(resolutions: Sequence[int]) -> str:
    return f"{resolutions[0]} … {resolutions[-1]}" if resolutions else "none"
