"""What is exported: a run's snapshots by resolution, or one snapshot, and what was measured of them."""

import copy
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from progan import sampling
from progan.commands import ExportConfig
from progan.errors import ExportError
from progan.files import printable
from progan.per_resolution import RESOLUTIONS
from progan.run_folder import RunFolder
from progan.snapshot import Snapshot
from progan.training.observers.run_files import read_stats

_MEASURED = "metrics/G_ema/"


@dataclass(frozen=True)
class Source:
    """Snapshots to export, and facts about them."""

    snapshots: Mapping[int, Snapshot]
    """By resolution, the smallest first."""
    metrics: Mapping[int, Mapping[str, float]]
    """Resolution -> metric -> number, as measured last in training."""
    title: str
    licence: str
    """Licence of the weights; empty where it is not known."""

    @property
    def last(self) -> Snapshot:
        """The snapshot of the highest resolution."""
        return self.snapshots[max(self.snapshots)]


def open_source(path: str | os.PathLike[str], config: ExportConfig) -> Source:
    """The snapshots of a run folder, or a single one. Raises SnapshotError, RunError and ExportError."""
    path, metrics = Path(path), dict[int, dict[str, float]]()
    if path.is_dir():
        folder = RunFolder(path)
        newest = sampling.load(path)  # or SnapshotError where there is none
        there = [r for r in RESOLUTIONS if any(folder.snapshots.glob(f"generator-*-{r}x{r}.safetensors"))]
        chosen = _chosen(config.resolutions, there)
        snapshots = {r: newest if r == newest.resolution else sampling.load(path, r) for r in chosen}
        metrics = {r: _measured(folder, snapshot) for r, snapshot in snapshots.items()}
    else:
        only = sampling.load(path)
        snapshots = dict.fromkeys(_chosen(config.resolutions, [only.resolution]), only)
    last = snapshots[max(snapshots)]
    title = printable(config.title or f"Pictures like {last.info.dataset or 'nothing known'}")
    licence = printable(last.info.licence if config.licence is None else config.licence)
    snapshots = {r: _licensed(snapshot, licence) for r, snapshot in snapshots.items()}
    return Source(snapshots, metrics, title, licence)


def _chosen(text: str | None, there: list[int]) -> list[int]:
    """Resolutions of a list such as `16,32`, ascending. Raises ExportError for one without a snapshot."""
    if text is None:
        return there
    names = [name.strip() for name in text.split(",")]
    known = ", ".join(map(str, there))
    for name in names:
        if not name.isdecimal() or int(name) not in there:
            raise ExportError(f"--resolutions: there is no snapshot of {name or 'nothing'!r}, only of {known}")
    return sorted({int(name) for name in names})


def _licensed(snapshot: Snapshot, licence: str) -> Snapshot:
    """The snapshot with this licence; itself if that is its own."""
    if snapshot.info.licence == licence:
        return snapshot
    licensed = copy.copy(snapshot)
    licensed.info = replace(snapshot.info, licence=licence)
    return licensed


def _measured(folder: RunFolder, snapshot: Snapshot) -> dict[str, float]:
    """The newest measurement of a resolution that was made no later than its snapshot; empty if there is none."""
    found: dict[str, float] = {}
    for line in read_stats(folder.stats):
        if line["cur_nimg"] <= snapshot.info.cur_nimg and line.get("resolution") == snapshot.resolution:
            values = {name: value for name, value in line.items() if name.startswith(_MEASURED)}
            numbers = {name: value for name, value in values.items() if isinstance(value, float)}
            found = {n.removeprefix(_MEASURED): v for n, v in numbers.items() if math.isfinite(v)} or found
    return found
