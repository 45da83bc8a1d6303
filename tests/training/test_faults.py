"""Faults, injected one by one: what a run loses by them (the table in docs/faults.md)."""

import contextlib
import errno
import json
import os
import re
import shutil
import signal
import subprocess
import types
import typing
from collections.abc import Iterator
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import progan
from faults import At, StopAt, no_space, train_with
from progan import run as runs
from progan.config import CHANGEABLE, INEXACT, PrepareConfig, RunConfig, is_inexact
from progan.data.cache import cache_folder
from progan.data.dataset import Dataset
from progan.data.prepare import prepare
from progan.data.prepare.writers import prepare_as
from progan.errors import ConfigError, DatasetError, RunError, SnapshotError
from progan.files import UNFINISHED, Claim
from progan.options import Option, leaves, override
from progan.per_resolution import PerResolution, per_resolution
from progan.presets import preset
from progan.run_folder import DataFacts, RunFolder
from progan.training import signals, state
from progan.training.observers.base import Observer, Tick
from progan.training.observers.run_files import read_stats
from progan.training.state import StateFolder
from tiny import TINY, assert_equal_weights

pytestmark = pytest.mark.usefixtures("own_cache", "traced_once")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nothing happened to."""
    return progan.train(out=tmp_path_factory.mktemp("whole") / "run", **TINY)


def test_the_file_that_stops_a_run_does_so_as_ctrl_c_does(whole, tmp_path, monkeypatch):
    """One of before the run is no request; one that appears is obeyed, once; what follows are the same bits."""
    monkeypatch.setattr(signals, "LOOK_EVERY", 0.0)
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    folder.stop.touch()
    seen = []
    ask = At({80: lambda: (seen.append(folder.stop.exists()), folder.stop.touch())})
    run = train_with(monkeypatch, folder.path, ask)
    assert seen == [False]
    assert (run.finished, run.signal, run.cur_nimg) == (False, signal.SIGINT, 88)
    assert StateFolder(folder.state).positions()[-1] == 88  # the block after the tick
    assert not folder.stop.exists()
    again = progan.train(out=folder.path, **TINY)
    assert again.finished
    assert again.signal is None
    assert_equal_weights(whole.path, folder.path)


def test_a_request_to_stop_that_comes_while_a_run_starts_is_obeyed(tmp_path, monkeypatch):
    folder, original = RunFolder(tmp_path / "run"), runs.assemble

    def assemble(*args, **options):
        folder.stop.touch()
        return original(*args, **options)

    monkeypatch.setattr(runs, "assemble", assemble)
    assert progan.train(out=folder.path, **TINY).cur_nimg < 100


def test_the_length_of_a_run_that_looks_at_ticks_is_part_of_what_it_learns():
    for options, expected in (({}, False), ({"rescue": True}, True), ({"augment": "ada"}, True)):
        config = override(preset("quickstart"), options)
        assert is_inexact("total_kimg", config) is is_inexact("tick_kimg", config) is expected
        assert is_inexact("lr", config)


def test_a_run_that_is_made_to_end_early_is_warned_as_a_new_one_is(whole, tmp_path, capsys):
    shutil.copytree(whole.path, tmp_path / "run")
    progan.train(out=tmp_path / "run", total_kimg=0.1, allow_change=True)
    assert "8x8" in next(line for line in capsys.readouterr().err.splitlines() if line.startswith("warning"))


def test_a_folder_called_stop_is_no_request(tmp_path):
    (tmp_path / "stop").mkdir()
    with signals.stop_on_signals(file=tmp_path / "stop") as stopped:
        assert not stopped()


@contextlib.contextmanager
def tmpfs(folder: Path) -> Iterator[Path]:
    """A small file system of its own; skips the test where it cannot be mounted."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        pytest.skip("only root may mount a file system")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


class FullDisk:
    """A file system that is really full."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def fill(self) -> None:
        with contextlib.suppress(OSError), (self.folder / "ballast").open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))

    def free(self) -> None:
        (self.folder / "ballast").unlink()


class FailingDisk:
    """A file system that takes what is written and loses it."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.folder, self._patch, self._works = folder, patch, os.fsync

    def fill(self) -> None:
        self._patch.setattr("progan.files.os.fsync", no_space)

    def free(self) -> None:
        self._patch.setattr("progan.files.os.fsync", self._works)


@pytest.fixture(params=["full", "failing"])
def disk(request, tmp_path, monkeypatch):
    if request.param == "failing":
        yield FailingDisk(tmp_path, monkeypatch)
        return
    with tmpfs(tmp_path / "small") as folder:
        yield FullDisk(folder)


OUTPUTS = ("the training state", "samples", "snapshots", "stats.jsonl", "tensorboard")


def written(run: Path) -> list[str]:
    """Names of all that a run leaves, but for states and TensorBoard's files."""
    paths = sorted(path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file())
    return [path for path in paths if not path.startswith(("state/", "good/", "tensorboard/"))]


def positions(run: Path) -> list[int]:
    return [line["cur_nimg"] for line in read_stats(run / "stats.jsonl")]


def scalars(run: Path) -> list[int]:
    return [event.step for event in EventAccumulator(str(run / "tensorboard")).Reload().Scalars("D/penalty")]


def test_a_disk_that_is_full_for_a_while_costs_nothing(disk, whole, monkeypatch, capsys):
    out, seen = disk.folder / "run", []
    monkeypatch.setattr(state, "WRITING_SHARE", 1e9)  # a state every tick

    def free() -> None:
        seen.extend(StateFolder(out / "state").positions())
        assert not list(out.rglob(f"*{UNFINISHED}"))
        disk.free()

    run = train_with(monkeypatch, out, At({120: disk.fill, 350: free}))
    assert seen
    assert max(seen) < 120  # the old states stay
    assert run.finished
    assert written(out) == written(whole.path)
    for path in (whole.path / "snapshots").iterdir():
        assert (out / "snapshots" / path.name).read_bytes() == path.read_bytes()
    assert positions(out) == positions(whole.path) == scalars(out)
    said = capsys.readouterr().err
    for name in OUTPUTS:
        warned = said.count(f"warning: {name} cannot be written: No space left on device.")
        assert said.count(f"{name} can be written again") == warned
        # On a disk that is full, what only grows may find room in the last block of its file.
        assert warned == 1 or (isinstance(disk, FullDisk) and name in ("stats.jsonl", "tensorboard") and not warned)


def test_a_disk_that_stays_full_ends_in_one_line_and_the_old_state_goes_on(disk, whole, monkeypatch):
    out = disk.folder / "run"
    with pytest.raises(RunError, match=r"\(No space left on device\)\. Fix the cause") as error:
        train_with(monkeypatch, out, At({120: disk.fill}))
    assert "\n" not in str(error.value)
    assert "stopped at 0.6 kimg, but not all could be written: " in str(error.value)
    assert all(name in str(error.value) for name in OUTPUTS)
    assert f"continue from what is saved: progan train --out {out}" in str(error.value)
    assert 0 < max(StateFolder(out / "state").positions()) < 120
    disk.free()
    assert progan.train(out=out, quiet=True).finished
    assert_equal_weights(whole.path, out)
    assert positions(out) == positions(whole.path)


def test_a_folder_that_vanishes_is_made_again(whole, tmp_path, monkeypatch, capsys):
    out = tmp_path / "run"
    run = train_with(monkeypatch, out, At({120: lambda: shutil.rmtree(out)}))
    assert run.finished
    assert f"warning: {out} was moved or deleted: made again" in capsys.readouterr().err
    assert_equal_weights(whole.path, out)
    assert positions(out) == [nimg for nimg in positions(whole.path) if nimg >= 120]
    assert RunFolder(out).read() == RunFolder(whole.path).read()
    assert progan.train(out=out, quiet=True).cur_nimg == whole.cur_nimg


def test_a_folder_that_vanishes_and_is_taken_by_another_process_ends_the_run(tmp_path, monkeypatch):
    out, claims = tmp_path / "run", []

    def take() -> None:
        shutil.rmtree(out)
        claims.append(Claim(out))

    with pytest.raises(RunError, match=rf"now process {os.getpid()} on .* trains there: stopped at 0.12 kimg"):
        train_with(monkeypatch, out, At({120: take}))
    assert [path.name for path in out.iterdir()] == [".lock"]
    claims[0].release()


def test_a_folder_that_is_read_only_for_a_while_costs_nothing(whole, tmp_path, monkeypatch, capsys):
    """As where a disk is unplugged: in its place lies an empty folder that nobody may write."""
    with tmpfs(tmp_path / "small") as folder:
        out = folder / "run"
        cover = ["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(out)]
        uncover = ["umount", str(out)]
        calls = {120: lambda: subprocess.run(cover, check=True), 350: lambda: subprocess.run(uncover, check=True)}
        assert train_with(monkeypatch, out, At(calls)).finished
        said = capsys.readouterr().err
        for name in ("config.json", *OUTPUTS):
            assert f"warning: {name} cannot be written: Read-only file system" in said
        assert written(out) == written(whole.path)
        assert positions(out) == positions(whole.path)
        assert_equal_weights(whole.path, out)


@pytest.mark.parametrize("name", ["run", "other"])
def test_a_read_only_folder_is_one_line_at_the_start(name, whole, tmp_path):
    with tmpfs(tmp_path / "small") as folder:
        shutil.copytree(whole.path, folder / "run")
        subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
        with pytest.raises(RunError, match=rf"{name} cannot be written: Read-only file system") as error:
            progan.train(out=folder / name, **TINY)
        assert "\n" not in str(error.value)


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(
        RunError, match=r"file/run cannot be written: Not a directory. Fix the cause, or choose another --out"
    ):
        progan.train(out=tmp_path / "file" / "run", **TINY)


@pytest.mark.parametrize("place", ["samples", "stats.jsonl", "tensorboard", "snapshots"])
def test_what_cannot_be_written_at_the_start_is_one_line(place, whole, tmp_path, monkeypatch):
    shutil.copytree(whole.path, tmp_path / "run")
    original = Path.mkdir if place != "stats.jsonl" else os.replace

    def fails(path, *rest, **named):
        if Path(rest[0] if rest else path).name == place or Path(path).name == place:
            no_space()
        return original(path, *rest, **named)

    monkeypatch.setattr("progan.files.os.replace" if place == "stats.jsonl" else "pathlib.Path.mkdir", fails)
    with pytest.raises(RunError, match=r"cannot be written: No space left on device.") as error:
        progan.train(out=tmp_path / "run", quiet=True)
    assert "\n" not in str(error.value)


def test_a_file_system_without_locks_is_told(whole, tmp_path, monkeypatch, capsys):
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", no_locks)
    assert progan.train(out=tmp_path / "run", **{**TINY, "total_kimg": 0.05}).finished
    assert "cannot be locked here: see to it that no other process trains there" in capsys.readouterr().err


def test_a_lock_that_nobody_holds_is_taken(tmp_path):
    (tmp_path / ".lock").write_text("process 1 on another machine, long gone")
    claim = Claim(tmp_path)
    assert (tmp_path / ".lock").read_text().startswith(f"process {os.getpid()} on ")
    assert claim.holds
    claim.release()
    assert not list(tmp_path.iterdir())


def flip_a_bit(path: Path, at: float) -> None:
    content = bytearray(path.read_bytes())
    content[int(at * len(content))] ^= 4
    path.write_bytes(content)


@pytest.mark.parametrize(
    "harm",
    [
        "flipped in a weight",
        *(pytest.param(harm, marks=pytest.mark.slow) for harm in ("flipped in the header", "cut short", "empty")),
    ],
)
def test_a_damaged_newest_state_costs_the_way_from_the_one_before(harm, whole, tmp_path, monkeypatch, capsys):
    out = tmp_path / "run"
    monkeypatch.setattr(state, "WRITING_SHARE", 1e9)  # a state every tick
    train_with(monkeypatch, out, Observer(), StopAt(300))
    before, newest = sorted((out / "state").iterdir())
    if "flipped" in harm:
        flip_a_bit(newest, 0.01 if "header" in harm else 0.7)
    else:
        newest.write_bytes(newest.read_bytes()[: -8 if harm == "cut short" else 0])
    began = []
    run = train_with(monkeypatch, out, Began(began))
    said = capsys.readouterr().err
    assert f"warning: {newest.name} cannot be used (" in said
    assert "going on from the one before" in said
    assert f"state-{began[0]:09d}.safetensors" == before.name
    assert run.finished
    assert_equal_weights(whole.path, out)
    assert positions(out) == positions(whole.path)
    assert len(list((out / "state").iterdir())) == 2


class Began(Observer):
    """Notes where a run begins."""

    def __init__(self, places: list[int]) -> None:
        self._places = places

    def on_start(self, state, stage):
        self._places.append(state.cur_nimg)


def test_a_damaged_state_is_not_kept_in_the_place_of_a_good_one(tmp_path, monkeypatch):
    out = tmp_path / "run"
    monkeypatch.setattr(state, "WRITING_SHARE", 1e9)
    train_with(monkeypatch, out, Observer(), StopAt(300))
    before, newest = sorted((out / "state").iterdir())
    flip_a_bit(newest, 0.7)
    train_with(monkeypatch, out, Observer(), StopAt(int(before.stem[-9:]) + 8))
    good = [path.name for path in (out / "state").iterdir()]
    assert before.name in good
    assert newest.name not in good
    assert len(good) == 2


def test_a_copy_of_a_state_under_another_name_is_none_of_the_run(whole, tmp_path):
    """As file managers make them. And the newest is the one with most images, however many digits they have."""
    out = tmp_path / "run"
    shutil.copytree(whole.path, out)
    for folder in (out / "state", out / "good"):
        newest = max(folder.iterdir())
        shutil.copy(newest, newest.with_name(f"{newest.stem} copy{newest.suffix}"))
    again = progan.train(out=out, quiet=True)
    assert (again.finished, again.cur_nimg) == (True, whole.cur_nimg)
    places = [8, 999_999_999, 1_000_000_000]
    for place in places:
        (tmp_path / f"state-{place:09d}.safetensors").touch()
    assert StateFolder(tmp_path).positions() == places


def test_a_flipped_bit_of_a_snapshot_is_one_line(whole, tmp_path):
    path = shutil.copy(whole.folder.snapshot(), tmp_path)
    flip_a_bit(Path(path), 0.9)
    with pytest.raises(SnapshotError, match=r"is damaged: its bytes do not fit its checksum. Copy it again") as error:
        progan.load(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("total_kimg", [0.3, 0.6])
def test_a_final_snapshot_that_is_missing_is_made_up_for(total_kimg, tmp_path):
    run = progan.train(out=tmp_path / "run", **{**TINY, "total_kimg": total_kimg})
    path = run.folder.snapshot()
    content = path.read_bytes()
    path.unlink()
    assert progan.train(out=tmp_path / "run", quiet=True).folder.snapshot() == path
    assert path.read_bytes() == content


def test_lines_of_the_statistics_that_cannot_be_read_are_left_out(tmp_path):
    lines = [b'{"cur_nimg": 1}', b'{"cur_\xff": 2}', b'{"cur_nimg": "3"}', b"[4]", b'{"cur_nimg": 5}', b'{"cur_ni']
    (tmp_path / "stats.jsonl").write_bytes(b"\n".join(lines))
    assert read_stats(tmp_path / "stats.jsonl") == [{"cur_nimg": 1}, {"cur_nimg": 5}]


def facts(source: str, out: Path, **options) -> DataFacts:
    prepare(source, out, PrepareConfig(resolution=8, **options))
    return DataFacts.of(Dataset.open(out))


def test_other_images_are_refused_with_the_difference(whole, tmp_path):
    old = facts("avatars:8", tmp_path / "old")
    assert old.difference(facts("avatars:8", tmp_path / "same")) == []
    assert old.difference(facts("avatars:6", tmp_path / "fewer"))[0] == "images: 8 -> 6"
    assert "channels: 3 -> 1" in old.difference(facts("avatars:8", tmp_path / "grey", channels="grey"))
    other = old.difference(facts("avatars:8", tmp_path / "drawn", seed=1))
    assert other == ["other content of images-0004, images-0008, labels"]
    bare = old.difference(facts("avatars:8", tmp_path / "bare", labels="none"))
    assert bare[0] == "labels: attributes -> None"
    with pytest.raises(RunError, match=r"other images: images: 64 -> 6; other content of images-0004") as error:
        progan.train(out=whole.path, data=tmp_path / "fewer", quiet=True)
    assert "\n" not in str(error.value)
    copied = shutil.copytree(RunFolder(whole.path).read()[1].path, tmp_path / "copied")
    assert progan.train(out=whole.path, data=copied, quiet=True).finished


@pytest.mark.parametrize("named", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_a_run_whose_images_are_gone_goes_on_with_those_prepared(named, tmp_path, monkeypatch, capsys):
    photos, emptied = tmp_path / "photos", tmp_path / "photos" / "of" / "nothing"
    prepare_as("imagefolder", "avatars:48", photos, PrepareConfig(resolution=8))
    options = {**TINY, "data": photos, "start_resolution": 8, "total_kimg": 0.12}
    whole = progan.train(out=tmp_path / "whole", **options)
    out = tmp_path / "run"
    stop = StopAt(60)
    train_with(monkeypatch, out, stop, stop, **options)
    shutil.rmtree(photos)
    capsys.readouterr()
    if named:
        run = progan.train(out=out, **{**options, "quiet": False})
    else:  # the place is there, as where a disk is not mounted, but no image
        emptied.mkdir(parents=True)
        run = progan.train(out=out)
    prepared = run.folder.read()[1].path
    assert Path(prepared).parent == cache_folder()
    if named:
        note = f"note: {photos} does not exist. The run goes on with the copy that was prepared of it, {prepared}"
        assert note in capsys.readouterr().err.splitlines()
    # Not one bit is another, nor is the run said to have other images.
    files = [{path.name: path.read_bytes() for path in (each / "snapshots").iterdir()} for each in (out, whole.path)]
    assert files[0] == files[1]
    assert run.folder.read()[0] == whole.folder.read()[0]
    assert not run.folder.changes()
    # Other images are still looked for where they are named, and where nothing is prepared there is nothing.
    with pytest.raises(DatasetError, match="other does not exist"):
        progan.train(out=out, data=tmp_path / "other")
    shutil.rmtree(prepared)
    with pytest.raises((DatasetError, RunError), match="photos"):
        progan.train(out=out, **({"data": photos} if named else {}))


def test_differences_of_labels_and_resolutions_have_names():
    one = DataFacts("p", "n", "a", 3, 3, "class", ("cat", "dog"), (4, 8), {"images-0004": "x"})
    two = DataFacts("p", "n", "b", 3, 3, "class", ("dog", "eel"), (4, 8, 16), {"images-0004": "x"})
    assert one.difference(two) == ["resolutions: 4 … 8 -> 4 … 16", "label names: cat -> eel"]
    turned = DataFacts("p", "n", "c", 3, 3, "class", ("dog", "cat"), (4, 8), {"images-0004": "x"})
    assert one.difference(turned) == ["label names: cat, dog -> dog, cat"]


def another(option: Option, value: object) -> object:
    """A value that differs."""
    members = typing.get_args(option.type) if typing.get_origin(option.type) is typing.Literal else ()
    if members:
        return next(member for member in members if member != value)
    if isinstance(value, PerResolution):
        return per_resolution(value.at(4) * 2)
    if isinstance(value, bool):
        return not value
    if isinstance(value, (int, float)):
        return value / 2 if 0 < value < 1 else value * 2 or 1
    return "elsewhere" if option.type in (str, str | None) else 1


CONFIG = override(RunConfig(), {"resolution": 32, "loss": "nonsaturating"})
SPECIAL = {"device": "cpu", "beta1": 0.5}


@pytest.mark.parametrize("name", [option.name for _, option, _ in leaves(CONFIG)])
def test_every_option_can_change_or_cannot(name, tmp_path):
    """Those that can are declared in one place, `config.CHANGEABLE` and, if they change what is learned, `INEXACT`."""
    folder, data = RunFolder(tmp_path), DataFacts("p", "n", "a", 3, 3, None, ())
    folder.begin(CONFIG, data, allow_change=False)
    old = {option.name: value for _, option, value in leaves(CONFIG)}
    kinds = {option.name: option for _, option, _ in leaves(CONFIG)}
    try:
        changed = override(CONFIG, {name: SPECIAL.get(name, another(kinds[name], old[name]))})
    except ConfigError as error:
        pytest.skip(f"goes with other options only: {error}")
    assert changed != CONFIG
    flag = name.replace("_", "-")
    if name in ("data", "held_out", "copy_to", "threads"):  # where they lie does not matter, nor on how many threads
        assert folder.begin(changed, data, allow_change=False) == []
    elif name in (*CHANGEABLE, *INEXACT):
        with pytest.raises(RunError, match=rf"other settings: {flag}: .* Add --allow-change"):
            folder.begin(changed, data, allow_change=False)
        (line,) = folder.begin(changed, data, allow_change=True)
        assert line.startswith(f"{flag}: ")
        assert folder.record(changed, data, [line], 77) == (name in INEXACT)
        assert folder.read() == (changed, data)
        inexact = {"inexact": True} if name in INEXACT else {}
        assert folder.changes() == [{"cur_nimg": 77, "changes": [line], **inexact}]
    else:
        for allow_change in (False, True):
            with pytest.raises(RunError, match=rf"which cannot change: {flag}: "):
                folder.begin(changed, data, allow_change)
        assert folder.read()[0] == CONFIG


def test_what_ada_looks_at_is_said_to_change_a_run(tmp_path: Path) -> None:
    """It looks at each tick whether D overfits: other ticks, or another end, are another way."""
    for augment, expected in (("ada", True), ("diffaugment", False)):
        config = override(CONFIG, {"augment": augment})
        folder, data = RunFolder(tmp_path / augment), DataFacts("p", "n", "a", 3, 3, None, ())
        folder.begin(config, data, allow_change=False)
        changed = override(config, {"tick_kimg": 0.5})
        lines = folder.begin(changed, data, allow_change=True)
        assert folder.record(changed, data, lines, 77) == expected


def test_what_can_change_decides_nothing_that_is_learned():
    groups = {option.name: group for group, option, _ in leaves(CONFIG)}
    assert {name for name in CHANGEABLE if groups[name] != "runtime"} == {"total_kimg"}
    assert not {"seed", "precision"} & set(CHANGEABLE)


def test_the_difference_says_what_can_change_and_what_cannot(tmp_path):
    folder, data = RunFolder(tmp_path), DataFacts("p", "n", "a", 3, 3, None, ())
    folder.begin(CONFIG, data, allow_change=False)
    changed = override(CONFIG, {"beta1": 0.5, "total_kimg": 7, "workers": 9})
    with pytest.raises(RunError, match=r"which cannot change: beta1: 0.0 -> 0.5; --allow-change would take ") as error:
        folder.begin(changed, data, allow_change=True)
    assert "total-kimg: None -> 7.0; workers: 2 -> 9" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_run_made_longer_equals_one_that_was_as_long_from_the_start(whole, tmp_path):
    short = progan.train(out=tmp_path / "run", **{**TINY, "total_kimg": 0.3})
    with pytest.raises(RunError, match=r"total-kimg: 0.3 -> 0.6. Add --allow-change"):
        progan.train(out=tmp_path / "run", total_kimg=0.6, quiet=True)
    run = progan.train(out=tmp_path / "run", total_kimg=0.6, tick_kimg=0.1, workers=0, quiet=True, allow_change=True)
    assert run.finished
    assert_equal_weights(whole.path, run.path)
    history = json.loads((run.path / "config.json").read_text())["changes"]
    changes = ["total-kimg: 0.3 -> 0.6", "workers: 2 -> 0", "tick-kimg: 0.04 -> 0.1"]
    assert history == [{"cur_nimg": short.cur_nimg, "changes": changes}]
    assert RunFolder(run.path).read()[0].schedule.total_kimg == 0.6


@pytest.mark.slow
def test_when_states_are_written_changes_no_number(whole, tmp_path, monkeypatch):
    original, counts = StateFolder.write, []
    monkeypatch.setattr(StateFolder, "write", lambda self, state: counts.append(1) or original(self, state))
    for share, name in ((1e9, "often"), (-1.0, "seldom")):
        counts.append(0)
        monkeypatch.setattr(state, "WRITING_SHARE", share)
        progan.train(out=tmp_path / name, **TINY)
        assert_equal_weights(whole.path, tmp_path / name)
        assert positions(tmp_path / name) == positions(whole.path)
    often, seldom = (sum(part) for part in (counts[: counts.index(0, 1)], counts[counts.index(0, 1) :]))
    assert often > seldom + 5


class SlowObserver(Observer):
    """Takes 1,000 seconds at each tick, by a clock that it can set."""

    def __init__(self) -> None:
        self.now = 0.0
        self.ticks: list[Tick] = []

    def clock(self) -> float:
        self.now += 0.001
        return self.now

    def on_tick(self, tick, state):
        self.ticks.append(tick)
        self.now += 1000


def test_the_time_of_observers_is_not_that_of_training(tmp_path, monkeypatch):
    slow = SlowObserver()
    monkeypatch.setattr("progan.training.meter.time", types.SimpleNamespace(perf_counter=slow.clock))
    run = train_with(monkeypatch, tmp_path / "run", slow)
    assert max(tick.seconds for tick in slow.ticks) < 1
    assert min(tick.img_per_sec for tick in slow.ticks) > 10
    assert run.seconds > 1000 * len(slow.ticks)  # but it is part of how long the run took


def test_every_row_of_the_table_names_tests_that_there_are():
    folder = Path(__file__).parents[1]
    known = set(re.findall(r"^def test_(\w+)", "".join(path.read_text() for path in folder.rglob("test_*.py")), re.M))
    rows = [line for line in (folder.parent / "docs" / "faults.md").read_text().splitlines() if line.count("|") >= 5]
    rows = [row for row in rows if not row.startswith(("|---", "| fault"))]
    assert len(rows) > 20
    for row in rows:
        named = set(re.findall(r"`(\w{20,})`", row.rsplit("|", 2)[1]))
        assert named, row
        assert named <= known, named - known
