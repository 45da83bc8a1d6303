"""What a process leaves behind that dies while it writes, or whose disk is full."""

import errno
import os
import shutil
import signal
import sys
from pathlib import Path

import pytest

from progan import files
from progan.config import OptimizerConfig, ProGANConfig
from progan.files import UNFINISHED, AppendOnlyFile, FileQueue, remove_unfinished, write_whole
from progan.models import ImageShape
from progan.training import state as states
from progan.training.numerics import Numerics
from steps import new_state

resource = pytest.importorskip("resource")
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="fork and SIGKILL")


def dies(action) -> bool:
    """Whether the action, run in a process of its own, ends by a signal instead of coming to its end."""
    child = os.fork()
    if child == 0:
        try:
            action()
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def killed_at_line(number: int, action):
    """The action, killed by SIGKILL before its `number`th line in files.py or state.py."""
    count = iter(range(10**9))
    watched = {files.__file__, states.__file__}

    def trace(frame, event, argument):
        if frame.f_code.co_filename not in watched:
            return None
        if event == "line" and next(count) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return trace

    def run():
        sys.settrace(trace)
        action()

    return run


def killed_in_write(size: int, action):
    """The action, killed by the kernel within the write that would make a file longer than `size` bytes."""

    def run():
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
        action()

    return run


def tiny_state(cur_nimg: int) -> states.TrainingState:
    model = ProGANConfig(z_dim=2, fmap_base=16, fmap_max=2)
    state = new_state(model, OptimizerConfig(), ImageShape(8, 1), 0, Numerics("cpu", "fp32", 1, ""))
    state.cur_nimg = cur_nimg
    return state


def test_a_file_is_the_old_or_the_new_one_at_whatever_line_its_writer_dies(tmp_path):
    path, deaths, seen = tmp_path / "file", 0, set()
    while True:
        path.write_bytes(b"old")
        if not dies(killed_at_line(deaths, lambda: write_whole(path, b"new ", b"content"))):
            break
        seen.add(path.read_bytes())
        remove_unfinished(tmp_path)
        assert [each.name for each in tmp_path.iterdir()] == ["file"]
        deaths += 1
    assert deaths > 8
    assert seen == {b"old", b"new content"}
    assert path.read_bytes() == b"new content"


@pytest.mark.slow
def test_a_state_folder_is_good_at_whatever_line_its_writer_dies(tmp_path):
    before, folder, deaths, newest = tmp_path / "before", tmp_path / "state", 0, set()
    for cur_nimg in (100, 200):
        states.StateFolder(before).write(tiny_state(cur_nimg))
    third, state = tiny_state(300), tiny_state(0)
    while True:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(before, folder)
        kept = states.StateFolder(folder)
        if not dies(killed_at_line(deaths, lambda k=kept: k.write(third))):
            break
        state.cur_nimg = 0
        assert states.StateFolder(folder).restore(state) == []  # leftovers are not taken for states
        newest.add(state.cur_nimg)
        deaths += 1
    assert deaths > 30
    assert newest == {200, 300}
    assert sorted(each.name for each in folder.iterdir()) == [f"state-000000{n}.safetensors" for n in (200, 300)]


def test_a_state_half_written_is_not_taken_for_one(tmp_path):
    kept = states.StateFolder(tmp_path)
    size = kept.write(tiny_state(100)).stat().st_size
    for part in (0, 1, 8, size // 2, size - 1):
        assert dies(killed_in_write(part, lambda: kept.write(tiny_state(200))))
        left = tmp_path / f"state-000000200.safetensors{UNFINISHED}"
        assert left.stat().st_size == part
        state = tiny_state(0)
        assert states.StateFolder(tmp_path).restore(state) == []
        assert state.cur_nimg == 100
        remove_unfinished(tmp_path)
        assert [each.name for each in tmp_path.iterdir()] == ["state-000000100.safetensors"]
    assert not dies(killed_in_write(size, lambda: kept.write(tiny_state(200))))


def test_a_folder_is_no_file():
    with pytest.raises(IsADirectoryError):
        write_whole(Path(), b"page")


def test_leftovers_go_and_nothing_else(tmp_path):
    (tmp_path / "state").mkdir()
    kept = [tmp_path / "notes.tmp", tmp_path / "state" / "state-000000001.safetensors"]
    for path in (*kept, tmp_path / f"config.json{UNFINISHED}", tmp_path / "state" / f"a.safetensors{UNFINISHED}"):
        path.write_bytes(b"")
    remove_unfinished(tmp_path)
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == sorted(kept)


def test_no_space_leaves_the_old_file_and_no_part_of_the_new_one(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    monkeypatch.setattr("progan.files.os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_whole(path, b"new")
    assert [(each.name, each.read_bytes()) for each in tmp_path.iterdir()] == [("file", b"old")]


def full(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_log_keeps_what_does_not_fit_and_never_half_a_line(tmp_path):
    path = tmp_path / "folder" / "log"
    log = AppendOnlyFile(path)
    log.append(b"one\n")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (6, limits[1]))  # room for two more bytes
        for line in (b"two\n", b"three\n"):
            with pytest.raises(OSError, match="File too large"):
                log.append(line)
            assert path.read_bytes() == b"one\n"
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    shutil.rmtree(path.parent)
    log.append(b"four\n")
    assert path.read_bytes() == b"two\nthree\nfour\n"


def test_a_shelf_keeps_the_newest_files_that_do_not_fit(tmp_path, monkeypatch):
    shelf, folder = FileQueue(), tmp_path / "folder"
    with monkeypatch.context() as patch:
        patch.setattr("progan.files.os.fsync", full)
        for i in range(10):
            with pytest.raises(OSError, match="No space"):
                shelf.put(folder / f"{i}", b"%d" % i)
        with pytest.raises(OSError, match="No space"):
            shelf.flush()
    shelf.flush()
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {f"{i}": b"%d" % i for i in range(2, 10)}
    shutil.rmtree(folder)
    shelf.flush()
    assert not folder.exists()
