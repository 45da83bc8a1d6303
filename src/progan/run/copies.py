"""Copy of a run folder elsewhere (`--copy-to`): object storage, or a folder of another disk.

A thread of its own sends what changed whenever training has written a state. Nothing that happens there reaches the
training: what cannot be sent is tried again. The newest state is sent last, so that a run can always go on from what
is there, and a folder without a run begins with what is fetched.
"""

import json
import re
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from threading import Event, Thread
from typing import Any

from progan.data.sources import remote
from progan.errors import DatasetError, RunError
from progan.files import UNFINISHED, word, write_whole
from progan.progress import Log
from progan.run_folder import RunFolder
from progan.schedule import Stage
from progan.training.observers.base import Observer, Tick
from progan.training.state import KEPT, StateFolder, TrainingState

PATIENCE = 120.0
"""Seconds that the end of a run waits for what is still to be sent."""
DELAYS = 1.0, 60.0
"""Seconds until what could not be sent is tried again: at first, and at most."""
GROWTH = 1.1
"""Factor by which a file of charts grows until it is sent again: all of it is sent each time."""
_FILES = ("stats.jsonl", "report.html", "profile.json", "profile.txt", "wandb/id")
_FOLDERS = ("samples", "snapshots", "tensorboard", "good", "state")
"""What a run has, in the order in which it is sent, after `config.json`. Locks, half-written files and what else lies
in the folder stay here."""
_RECORD = ".copied"
"""File of the run folder that says which files are there, so that a continued run does not send them again."""

_Mark = tuple[int, int]
"""Nanoseconds of its last change, and bytes: of a file as it was sent."""


class _Folder:
    """Copy in a folder of this machine, as far as it sees: another disk, a mounted share."""

    def __init__(self, address: str) -> None:
        self._path = Path(address)

    def sizes(self) -> dict[str, int]:
        """Bytes of every file."""
        files = (path for path in self._path.rglob("*") if path.is_file() and not path.name.endswith(UNFINISHED))
        return {path.relative_to(self._path).as_posix(): path.stat().st_size for path in files}

    def read(self, name: str) -> bytes:
        return (self._path / name).read_bytes()

    def write(self, name: str, content: bytes) -> None:
        path = self._path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, content)

    def remove(self, name: str) -> None:
        (self._path / name).unlink(missing_ok=True)


class _Bucket:
    """Copy on object storage, where a file is there as a whole or not at all."""

    def __init__(self, address: str) -> None:
        self._system, self._root = remote.file_system(address)

    def sizes(self) -> dict[str, int]:
        """Bytes of every file. FileNotFoundError where there is no bucket."""
        self._system.invalidate_cache()
        files: dict[str, Any] = self._system.find(self._root, detail=True)
        if not files and not self._system.exists(remote.bucket(self._root)):
            raise FileNotFoundError(f"there is no bucket {remote.bucket(self._root)}")
        below = {PurePosixPath(path).relative_to(self._root).as_posix(): about for path, about in files.items()}
        return {name: about["size"] for name, about in below.items() if name != "." or about["size"]}

    def read(self, name: str) -> bytes:
        return bytes(self._system.cat_file(f"{self._root}/{name}"))

    def write(self, name: str, content: bytes) -> None:
        self._system.pipe_file(f"{self._root}/{name}", content)

    def remove(self, name: str) -> None:
        with suppress(FileNotFoundError):  # somebody else was faster
            self._system.rm_file(f"{self._root}/{name}")


_Place = _Folder | _Bucket


def _open(address: str, folder: RunFolder | None) -> _Place:
    """The place at an address. Raises RunError for one that cannot hold a copy of the folder."""
    if remote.is_remote(address):
        try:
            return _Bucket(address)
        except DatasetError as error:
            raise RunError(f"--copy-to: {error}") from None
    if "://" in address:
        raise RunError(f"--copy-to {address}: it takes s3://…, gs://…, az://… or a folder")
    around = folder is None and Path("runs").resolve().is_relative_to(Path(address).resolve())
    if around or (folder is not None and _inside(Path(address), folder.path)):
        raise RunError(f"--copy-to {address} and the run folder lie in each other. Name another place")
    return _Folder(address)


@contextmanager
def _explained(address: str, doing: str) -> Iterator[None]:
    """Context whose errors, but for our own, are a RunError of one line."""
    try:
        yield
    except RunError:
        raise
    except Exception as error:  # of the libraries of the providers
        advice = remote.advice(address, error) if remote.is_remote(address) else "Look at the address"
        raise RunError(f"--copy-to: {address} cannot be {doing} ({remote.reason(error)}). {advice}") from None


def _inside(path: Path, folder: Path) -> bool:
    """True if a path is in a folder, or the folder in it."""
    path, folder = path.resolve(), folder.resolve()
    return path.is_relative_to(folder) or folder.is_relative_to(path)


def fetch(address: str, folder: RunFolder, log: Log) -> None:
    """Make the run folder of the copy at an address, if there is one and the folder has no run. Raises RunError.

    `config.json` comes last: a folder that was fetched in part has no run, and the next call fetches all.
    """
    if folder.exists:
        return
    place = _open(address, folder)
    with _explained(address, "read"):
        sizes = place.sizes()
        if folder.config.name not in sizes:
            return
        names = sorted((name for name in sizes if _is_ours(name)), key=lambda name: name == folder.config.name)
        with folder.held(log):
            marks = {}
            for name in names:
                path = folder.path / name
                path.parent.mkdir(parents=True, exist_ok=True)
                write_whole(path, place.read(name))
                marks[name] = _mark(path)
            _keep_record(folder, address, marks)
    reached = max(map(_position, _states(names)), default=0)
    log(f"fetched {len(names)} files of the run at {address}, which is at {reached / 1000:g} kimg")


def check(address: str, folder: RunFolder | None) -> None:
    """Raise RunError, before anything is trained, for an address that cannot be read, or where something else is than
    a copy of the run in the folder that is no further than the folder.
    """
    place = _open(address, folder)
    with _explained(address, "read"):
        sizes = place.sizes()
        if not sizes:
            return
        if "config.json" not in sizes:
            raise RunError(f"--copy-to: in {address} are files that no run has. Name an empty place")
        if folder is None or not folder.exists:
            raise RunError(
                f"--copy-to: in {address} is a run. To go on with it name its folder, new or not, with --out"
            )
        with tempfile.TemporaryDirectory() as scratch:
            there = RunFolder(Path(scratch))
            write_whole(there.config, place.read("config.json"))
            try:
                there.begin(*folder.read(), allow_change=True)
            except RunError as error:
                reason = str(error).replace(scratch, address).partition(". ")[0]
                raise RunError(f"--copy-to: {reason}. Name another place") from None
    # What was sent from this very folder is no run's that went on elsewhere: this one went back since.
    sent = _record(folder, address)
    others = [name for name in _states(sizes) if name not in sent or sent[name][1] != sizes[name]]
    reached = max(map(_position, others), default=0)
    here = max(StateFolder(folder.state).positions(), default=0)
    if reached > here:
        raise RunError(
            f"--copy-to: the run in {address} is at {reached / 1000:g} kimg, that in {folder.path} only at "
            f"{here / 1000:g}. Name an empty --out to go on with the former, or another place for the copy"
        )


@contextmanager
def copying(address: str | None, folder: RunFolder, log: Log) -> Iterator["Copier | None"]:
    """Send a run folder while training is inside, and what is left at the end, for at most PATIENCE seconds.

    `config.json` is sent before anything else: RunError where that fails. None without an address.
    """
    if address is None:
        yield None
        return
    copier = Copier(address, _open(address, folder), folder, log)
    copier.begin()
    try:
        yield copier
    except Exception:
        copier.finish(PATIENCE)
        raise
    except BaseException:  # Ctrl-C again: at once
        copier.finish(0)
        raise
    copier.finish(PATIENCE)


class Copier(Observer):
    """Observer that wakes the thread that sends."""

    def __init__(self, address: str, place: _Place, folder: RunFolder, log: Log) -> None:
        self._address, self._place, self._folder, self._log = address, place, folder, log
        self._ticked = False
        self._wanted, self._ending, self._given_up = Event(), Event(), Event()
        self._thread = Thread(target=self._work, name="copies", daemon=True)
        self._sent: dict[str, _Mark] = {}
        """Files that are there, as they were."""

    def begin(self) -> None:
        """Start the thread, after `config.json`. Raises RunError."""
        with _explained(self._address, "written"):
            sizes = self._place.sizes()
            recorded = _record(self._folder, self._address)
            self._sent = {name: mark for name, mark in recorded.items() if sizes.get(name) == mark[1]}
            self._send(self._folder.config.name)
        self._thread.start()
        self._wanted.set()

    def on_start(self, state: TrainingState, stage: Stage) -> None:
        self._wanted.set()  # it may have gone back

    def on_tick(self, tick: Tick, state: TrainingState) -> None:
        self._ticked = True  # its state is written after all observers have seen it

    def on_progress(self, cur_nimg: int, stage: Stage) -> None:
        if self._ticked:
            self._ticked = False
            self._wanted.set()

    def finish(self, patience: float) -> None:
        """Wait until all is sent, and end the thread."""
        self._ending.set()
        self._wanted.set()
        self._thread.join(patience)
        if self._thread.is_alive():
            self._given_up.set()
            self._log(
                f"warning: not all was sent to {self._address} within {patience:g} seconds. "
                f"To send the rest: progan train --out {word(self._folder.path)}"
            )

    def _work(self) -> None:
        """Send what changed whenever it is wanted; after a failure again and again, ever more seldom."""
        first, longest = DELAYS
        delay = 0.0
        while not self._given_up.is_set():
            self._wanted.wait()
            self._wanted.clear()
            ending = self._ending.is_set()
            try:
                self._send_changes(everything=ending)
            except Exception as error:  # of any kind: the network, the account, a full disk
                if not delay:
                    self._log(
                        f"warning: {self._address} cannot be written ({remote.reason(error)}). "
                        "Training goes on, and it is tried again"
                    )
                delay = min(2 * delay, longest) or first
                if self._ending.is_set():
                    time.sleep(min(delay, first))
                else:
                    self._ending.wait(delay)
                self._wanted.set()
                continue
            if delay:
                self._log(f"{self._address} can be written again")
                delay = 0.0
            if ending:
                return

    def _send_changes(self, everything: bool) -> None:
        """One pass over the folder; the newest state comes last, then states that are out of date go."""
        names = _listed(self._folder)
        states = _states(names)
        for name in names:
            self._send(name, everything)
        newest = states[-1] if states else ""
        sent = _states(self._sent)
        late = [name for name in sent if _position(name) > _position(newest)] if newest else []  # a run that went back
        there = [name for name in sent if name not in late]
        # Of what is deleted here the good states go there, too, and what is of a training that is gone.
        gone = [name for name in self._sent if name not in names and _goes(name, newest)]
        for name in (*late, *there[:-KEPT], *(gone if newest else ())):
            self._place.remove(name)
            del self._sent[name]
        _keep_record(self._folder, self._address, self._sent)

    def _send(self, name: str, everything: bool = True) -> None:
        """Send a file unless it is there as it is here."""
        path = self._folder.path / name
        try:
            mark, before = _mark(path), self._sent.get(name)
            if mark == before:
                return
            if name.startswith("tensorboard/") and before and mark[1] < GROWTH * before[1] and not everything:
                return
            content = path.read_bytes()
        except FileNotFoundError:  # deleted since it was listed, as a state is when there are newer ones
            return
        self._place.write(name, content)
        self._sent[name] = mark


def _listed(folder: RunFolder) -> list[str]:
    """Names of a run's files in the order in which they are sent."""
    names = [name for name in (folder.config.name, *_FILES) if (folder.path / name).exists()]
    for each in _FOLDERS:
        names += sorted(name for path in (folder.path / each).glob("*") if _is_ours(name := f"{each}/{path.name}"))
    return names


def _is_ours(name: str) -> bool:
    """True for a file of a run, by its path in the folder."""
    known = name in ("config.json", *_FILES) or re.fullmatch(rf"({'|'.join(_FOLDERS)})/[\w.+-]+", name)
    return bool(known) and not name.endswith(UNFINISHED)


def _states(names: Iterable[str]) -> list[str]:
    """The training states among files, oldest first."""
    return sorted((name for name in names if re.fullmatch(r"state/state-\d+\.safetensors", name)), key=_position)


def _goes(name: str, newest: str) -> bool:
    """True for a good state, and for a picture or a generator that is later than the newest state."""
    named = re.fullmatch(r"(?:samples/fakes|snapshots/generator)-(\d+)-.*", name)
    return name.startswith("good/") or bool(named and newest and int(named[1]) > _position(newest))


def _position(name: str) -> int:
    """`cur_nimg` of a training state."""
    return int(PurePosixPath(name).stem.removeprefix("state-"))


def _mark(path: Path) -> _Mark:
    about = path.stat()
    return about.st_mtime_ns, about.st_size


def _record(folder: RunFolder, address: str) -> dict[str, _Mark]:
    """What a call before this one sent to the same address."""
    try:
        content = json.loads((folder.path / _RECORD).read_text(encoding="utf-8"))
        return {name: (time, size) for name, (time, size) in content["files"].items() if content["to"] == address}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _keep_record(folder: RunFolder, address: str, sent: Mapping[str, _Mark]) -> None:
    content = {"to": address, "files": sent}
    with suppress(OSError):  # then it is sent again
        write_whole(folder.path / _RECORD, json.dumps(content).encode(), sync=False)
