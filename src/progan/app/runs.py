"""What a folder of runs has to show, without torch: runs, comparisons, statistics as they come, and facts for the page.

A name that a request brings is looked up among those found by walking the folder; it is never made into a path. Links
are not followed, and a file is read only if it lies in the folder of its run.
"""

import contextlib
import functools
import hashlib
import importlib.util
import json
import math
import os
import re
import socket
import stat
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import progan
from progan.errors import ProganError, RunError, SnapshotError
from progan.files import LOCK_NAME, printable
from progan.options import from_dict
from progan.run_folder import FORMAT, RunFolder
from progan.schedule import Schedule

DEPTH = 3
"""Folders below the given one in which runs are looked for: those of a comparison lie in FOLDER/NAME/runs/RUN."""
MOST_FOLDERS, MOST_RUNS = 20_000, 1_000
"""Folders that are looked at, and runs that are shown."""
MOST_UNREAD = 20
"""Runs that cannot be read of which the page says why."""
MOST_LINES = 20_000
"""Lines of stats.jsonl that are kept: the last ones."""
LARGEST_HEADER = 2**24
"""Bytes of the beginning of a snapshot, and of a config.json, above which it is not read."""
_WALK = 2.0  # seconds for which the list of runs holds
_LOOK = 0.5  # seconds for which what was read of a run holds for all who watch it
_MODEL = re.compile(r"generator-(\d{1,18})-(\d{1,4})x\2")
_GRID = re.compile(r"fakes-\d{1,18}-\d{1,4}x\d{1,4}\.png")


class Missing(ProganError):
    """What a request named and is not there."""


@dataclass(frozen=True)
class Contents:
    """What was found in a folder."""

    runs: dict[str, Path] = field(default_factory=dict)
    """Name of each run, the newest first, and its folder; that of the root itself is the folder's own name."""
    comparisons: dict[str, Path] = field(default_factory=dict)
    """Name of each comparison that is finished, and its folder."""
    unread: list[str] = field(default_factory=list)
    """Sentences on runs that cannot be read."""


class Shelf:
    """A run folder, a folder with runs and comparisons, or a snapshot. `root` is its path without links.

    Raises SnapshotError for a file that is no snapshot, RunError for a run folder that cannot be read.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.snapshot = root if root.is_file() else None
        """The snapshot, if that is all there is: then there are no runs."""
        if self.snapshot:
            _header(self.snapshot)
        else:
            _is_run(root)  # or RunError
        self._contents, self._walked = Contents(), -math.inf
        self._walking = threading.Lock()

    def contents(self) -> Contents:
        """What is in the folder now. Those who ask at the same time wait for one walk."""
        with self._walking:
            deleted = not all(_is_plain(path / "config.json") for path in self._contents.runs.values())
            if deleted or time.monotonic() - self._walked > _WALK:
                self._contents, self._walked = self._walk(), time.monotonic()
            return self._contents

    def _walk(self) -> Contents:
        runs, found = dict[str, Path](), Contents()
        for name, path in self._found():
            if all(_is_plain(path / each) for each in ("comparison.json", "report.html")):
                found.comparisons[name] = path
            try:
                if _is_run(path):
                    runs[name] = path
            except RunError as error:
                found.unread.append(f"{error}.")
        newest = sorted(runs, key=lambda name: _changed(runs[name]), reverse=True)
        found.runs.update((name, runs[name]) for name in newest[:MOST_RUNS])
        del found.unread[MOST_UNREAD:]
        return found

    def run(self, name: str) -> tuple[str, RunFolder]:
        """Name and folder of a run, of the newest if the name is empty. Raises Missing."""
        runs = self.contents().runs
        name = name or next(iter(runs), "")
        if name not in runs:
            raise Missing("there is no such run here: reload the page")
        return name, RunFolder(runs[name])

    def model(self, run: str, name: str) -> Path:
        """The file of a snapshot: of a run, or the only one. Raises Missing."""
        if self.snapshot is None:
            return model(self.run(run)[1], name)
        if name != printable(self.snapshot.stem):
            raise Missing("there is no such snapshot here: reload the page")
        return self.snapshot

    def _found(self) -> Iterator[tuple[str, Path]]:
        """Folders down to some depth with their names; what is in a run is looked at no further, nor are links."""
        queue, looked = [] if self.snapshot else [(self.root, 0)], 0
        while queue and looked < MOST_FOLDERS:
            path, depth = queue.pop(0)
            looked += 1
            relative = path.relative_to(self.root).as_posix()
            yield printable(self.root.name if relative == "." else relative), path
            if depth == DEPTH or _is_plain(path / "config.json"):
                continue
            try:
                children = sorted(os.scandir(path), key=lambda entry: entry.name)
            except OSError:
                continue
            queue += [(Path(child), depth + 1) for child in children if child.is_dir(follow_symlinks=False)]


def _is_plain(path: Path) -> bool:
    """True for a file that is no link."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except (OSError, ValueError):
        return False


def _is_run(path: Path) -> bool:
    """True for the folder of a run. Raises RunError for one that cannot be read."""
    config = path / "config.json"
    try:
        found = _is_plain(config) and _is_config(config, version(config))
    except OSError:  # deleted just now
        return False
    if isinstance(found, str):
        raise RunError(found)
    return found


@functools.lru_cache(MOST_FOLDERS)
def _is_config(path: Path, version: tuple[int, int]) -> bool | str:
    """True for the configuration of a run, False for another program's; why it cannot be read, if it may be a run's.

    Of a version of the file: reading those of a thousand runs takes a second.
    """
    if version[1] > LARGEST_HEADER:
        return False
    try:
        RunFolder(path.parent).read()
        return True
    except (ProganError, RecursionError) as error:
        why = printable(str(error))
    try:
        return why if json.loads(path.read_bytes())["format"] == FORMAT else False
    except (KeyError, TypeError, RecursionError, OSError):
        return False
    except ValueError:  # no JSON, as a file is that was cut
        return why


def _changed(path: Path) -> float:
    """When a run was last heard of."""
    times = [0.0]
    for name in ("stats.jsonl", "config.json"):
        with contextlib.suppress(OSError):  # not there yet, or no longer
            times.append((path / name).stat().st_mtime)
    return max(times)


def inside(folder: RunFolder, path: Path) -> Path:
    """The path, if it is a file within the run folder and no link leads to it. Raises Missing."""
    try:
        whole = path.resolve(strict=True)
    except (OSError, ValueError, RuntimeError):
        whole = None
    if whole is None or not whole.is_relative_to(folder.path.resolve()) or not _is_plain(path):
        raise Missing(f"{printable(path.name)} is not in the folder of this run")
    return path


def grid(folder: RunFolder, name: str) -> Path:
    """A sample grid of a run. Raises Missing."""
    if not _GRID.fullmatch(name):
        raise Missing("that is not the name of a sample grid")
    return inside(folder, folder.samples / name)


def model(folder: RunFolder, name: str) -> Path:
    """A snapshot of a run. Raises Missing."""
    if not _MODEL.fullmatch(name):
        raise Missing("that is not the name of a snapshot")
    return inside(folder, folder.snapshots / f"{name}.safetensors")


# Facts for the page


def facts(shelf: Shelf, name: str, may_change: bool, reals: bool) -> dict[str, Any]:
    """What the page knows of a run and its neighbours, or of a snapshot: `Facts` of page/engine.js.

    Raises Missing for another name.
    """
    here = shelf.contents()
    chosen, folder = shelf.run(name) if (name and not shelf.snapshot) or here.runs else ("", None)
    if shelf.snapshot:
        chosen = printable(shelf.snapshot.stem)
    server: dict[str, Any] = {
        "run": chosen,
        "runs": [{"name": key, "live": live(RunFolder(path))} for key, path in here.runs.items()],
        "comparisons": list(here.comparisons) if reals else None,  # their pages and the report have training images
        "folder": printable(str(shelf.root)),
        "training": folder is not None,
        "data": reals and folder is not None,
        "mp4": importlib.util.find_spec("av") is not None,
        "change": may_change,
        "unread": [*here.unread],
    }
    empty = {"title": "progan", "data": "", "licence": "", "snapshot": "", "z_dim": 0, "channels": 3, "labels": None}
    found: dict[str, Any] = {
        "format": "progan web",
        "version": 1,
        "progan": progan.__version__,
        "weights": "fp32",
        "runtime": None,
    }
    found |= {**empty, "models": [], "server": server}
    if folder is not None:
        found |= {"title": chosen, "data": folder.read()[1].name}
        # One that is damaged must not hide the others, nor the other runs.
        for resolution in sorted(_resolutions(folder)):
            try:
                found |= _generator(inside(folder, folder.snapshot(resolution)), found["models"])
            except (SnapshotError, Missing) as error:
                server["unread"].append(f"{error}.")
            except FileNotFoundError:  # deleted just now, as training does with old ones
                continue
    elif shelf.snapshot:
        found |= {"title": chosen, "data": _header(shelf.snapshot)[0]["dataset"], **_generator(shelf.snapshot, [])}
    return found


def _generator(path: Path, before: list[dict[str, Any]]) -> dict[str, Any]:
    """What `Facts` say of a snapshot, as the last one of the models. Raises SnapshotError."""
    info, rows = _header(path)
    size, digest = path.stat().st_size, _digest(path, version(path))
    about = {"resolution": info["resolution"], "file": printable(path.stem), "kimg": info["cur_nimg"] / 1000}
    labels = {"kind": info["label_kind"], "names": info["label_names"], "rows": [[]] * rows}
    return {
        "models": [*before, {**about, "bytes": size, "sha256": "", "snapshot": digest}],
        "licence": str(info.get("licence", "")),
        "snapshot": digest,
        "z_dim": from_dict(info["config"]).model.z_dim,
        "channels": info["shape"]["channels"],
        "labels": labels if info["label_kind"] else None,
    }


def _resolutions(folder: RunFolder) -> set[int]:
    names = (_MODEL.fullmatch(path.stem) for path in folder.snapshots.glob("generator-*.safetensors"))
    return {int(match[2]) for match in names if match}


def _header(path: Path) -> tuple[dict[str, Any], int]:
    """What a snapshot says of itself, and the number of its label rows, without its weights. Raises SnapshotError."""
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            content = json.loads(file.read(size) if size <= LARGEST_HEADER else b"")
        info = json.loads(content["__metadata__"]["info"])
        ends = [tensor["data_offsets"][1] for name, tensor in content.items() if name != "__metadata__"]
        whole = path.stat().st_size == 8 + size + max(ends)
        needed = ("label_kind", "label_names", "resolution", "cur_nimg", "dataset", "config")
        if not whole or "channels" not in info["shape"] or not all(name in info for name in needed):
            raise ValueError
        return info, content.get("labels.rows", {"shape": [0]})["shape"][0]
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError):
        raise SnapshotError(f"{printable(path.name)} is not a snapshot, or is damaged") from None
    except OSError as error:
        raise SnapshotError(f"{printable(path.name)} cannot be read: {error.strerror}") from None


def version(path: Path) -> tuple[int, int]:
    """What tells one file of a name from another. Raises OSError."""
    found = path.stat()
    return found.st_mtime_ns, found.st_size


@functools.lru_cache(64)
def _digest(path: Path, version: tuple[int, int]) -> str:
    """What `Snapshot.digest` is, of a version of the file."""
    with path.open("rb") as file:
        found = hashlib.sha256()
        while part := file.read(2**20):
            found.update(part)
    return found.hexdigest()[:16]


# A training, as it comes


def live(folder: RunFolder) -> bool:
    """True if a process seems to train in the folder, by its lock."""
    lock = folder.path / LOCK_NAME
    try:
        holder = re.fullmatch(r"process (\d+) on (.+)", lock.read_text(errors="replace")[:1000])
    except OSError:
        return False
    # Windows has no signal that does nothing.
    if holder is None or holder[2] != socket.gethostname() or sys.platform == "win32":
        return holder is not None and time.time() - _changed(folder.path) < 3600
    try:
        os.kill(int(holder[1]), 0)
    except PermissionError:
        pass
    except (OSError, OverflowError):
        return False
    # The number of a training that was killed may be another process's by now: then nobody holds the lock. It is asked
    # only here, since asking takes it for a moment, in which a training could not begin.
    import fcntl

    try:
        with lock.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return lock.exists()
    return False


@dataclass
class Watch:
    """What is known of a training, read again when somebody asks and it is old."""

    folder: RunFolder
    lines: list[dict[str, Any]] = field(default_factory=list)
    """Lines of stats.jsonl; those already read are the same objects in the next list, unless it was written anew."""
    grids: list[str] = field(default_factory=list)
    pictures: bool = False
    """True if there is a snapshot to make pictures with."""
    report: bool = False
    """True if the run has a page of its own."""
    live: bool = False
    asked: bool = False
    """True if it has been asked to stop and goes on."""
    left: float | None = None
    """Seconds that it still takes; None as long as nobody knows."""
    total: int = 0
    spans: list[tuple[int, str, int, int]] = field(default_factory=list)
    """Resolution, phase, first and last image of each stage."""
    _read: float = -math.inf
    _file: tuple[int, int] = (0, 0)  # number of the file on its disk, and bytes read of it

    def look(self) -> bool:
        """Read what is new; False if that was done just now."""
        if time.monotonic() - self._read < _LOOK:
            return False
        self.live, self.asked = live(self.folder), self.folder.stop.is_file()
        schedule = Schedule(self.folder.read()[0].schedule)
        self.total = schedule.total_nimg
        self.spans = [(span.resolution, span.phase, span.start, span.start + n) for span, n in schedule.extents()]
        names = (path.name for path in self.folder.samples.glob("fakes-*.png") if _GRID.fullmatch(path.name))
        self.grids = sorted(names, key=lambda name: (int(name.split("-")[1]), name))
        self.pictures, self.report = bool(_resolutions(self.folder)), _is_plain(self.folder.path / "report.html")
        self._look_at_stats()
        self._read = time.monotonic()
        return True

    def _look_at_stats(self) -> None:
        if not _is_plain(self.folder.stats):
            self.lines, self._file = [], (0, 0)
            return
        with self.folder.stats.open("rb") as file:
            about = os.fstat(file.fileno())
            number, done = self._file
            if about.st_ino != number or about.st_size < done:  # a continued run writes it anew
                self.lines, done = [], 0
            file.seek(done)
            new, _, _ = file.read(2**26).rpartition(b"\n")  # a line may not be whole yet
        self._file = (about.st_ino, done + len(new) + bool(new))
        found = list(filter(None, map(_line, new.split(b"\n"))))
        self.lines = [*self.lines, *found][-MOST_LINES:] if found else self.lines


def _line(text: bytes) -> dict[str, Any] | None:
    """A line of stats.jsonl; None for what is none."""
    try:
        line = json.loads(text, parse_constant=lambda name: None)
    except (ValueError, RecursionError):
        return None
    fits = isinstance(line, dict) and all(isinstance(line.get(name), int) for name in ("cur_nimg", "resolution"))
    return line if fits else None


def ask_to_stop(folder: RunFolder) -> None:
    """Make the file that stops a training. Raises RunError where nothing is trained."""
    if not live(folder):
        raise RunError("nothing is trained there now")
    try:
        # Not through a link, and what is there already will do.
        os.close(os.open(folder.stop, os.O_WRONLY | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666))
    except OSError as error:
        raise folder.unwritable(error) from None
