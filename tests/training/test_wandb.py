"""Weights & Biases: the run is there with all its numbers, and whatever goes wrong there does not harm the training."""

import importlib.util
import json
import struct
import time
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import progan
from faults import StopAt, train_with
from progan.errors import ConfigError
from progan.training.observers import wandb as observer
from progan.training.observers.run_files import read_stats
from tiny import TINY, assert_equal_weights

pytestmark = pytest.mark.usefixtures("traced_once")
RUN = {**TINY, "start_resolution": 8, "total_kimg": 0.12, "wandb": "faces"}


@pytest.fixture(scope="module", autouse=True)
def _places(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PROGAN_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("WANDB_MODE", "offline")
        yield


@pytest.fixture(scope="module")
def without(tmp_path_factory, _places, traced_once):
    """The same run without it."""
    return progan.train(out=tmp_path_factory.mktemp("without") / "run", **{**RUN, "wandb": None})


def pieces(content: bytes) -> Iterator[bytes]:
    """Records of a .wandb file: seven bytes, then LevelDB's log format (blocks of 32 KiB, records in parts)."""
    assert content[:4] == b":W&B"
    place, record = 7, b""
    while place + 7 <= len(content):
        if 32768 - place % 32768 < 7:  # no head fits into what is left of the block
            place += 32768 - place % 32768
            continue
        size, kind = struct.unpack("<HB", content[place + 4 : place + 7])
        record += content[place + 7 : place + 7 + size]
        place += 7 + size
        if kind in (1, 4):  # whole, or the last part
            yield record
            record = b""


def records(run: Path) -> list[list[Any]]:
    """What lies there to be sent, of each time the run was continued, in order."""
    from wandb.proto.wandb_internal_pb2 import Record

    paths = sorted(run.glob("wandb/offline-run-*/*.wandb"))
    return [[Record.FromString(piece) for piece in pieces(path.read_bytes())] for path in paths]


def values(record) -> dict:
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}


@pytest.mark.slow
def test_a_run_that_is_stopped_and_continued_is_one_run_there(without, tmp_path, monkeypatch):
    out, stop = tmp_path / "portraits", StopAt(60)
    train_with(monkeypatch, out, stop, stop, **RUN)
    time.sleep(1)  # folders there are named by the second
    progan.train(out=out, **RUN)
    first, second = records(out)
    runs = [next(record.run for record in each if record.HasField("run")) for each in (first, second)]
    assert {(run.project, run.display_name, run.run_id) for run in runs} == {
        ("faces", "portraits", (out / "wandb" / "id").read_text())
    }
    config = {item.key: json.loads(item.value_json) for item in runs[0].config.update}
    assert (config["batch_size"], config["z_dim"], config["loss"]) == ("8", 8, "wgan-gp")
    # Every number of stats.jsonl, by images, and every grid.
    lines = [values(record) for each in (first, second) for record in each if record.HasField("history")]
    there = {line["kimg"]: line for line in lines if "D/real" in line}
    stats = {line["cur_nimg"] / 1000: line for line in read_stats(out / "stats.jsonl")}
    assert set(there) == set(stats)
    for kimg, line in there.items():
        assert line["D/penalty"] == stats[kimg]["D/penalty"]
        assert line["run/img_per_sec"] == stats[kimg]["img_per_sec"]
    grids = [line for line in lines if "samples" in line or any(name.startswith("samples/") for name in line)]
    assert len(grids) == len(list(out.glob("samples/fakes-*.png")))
    assert len(list(out.glob("wandb/offline-run-*/files/media/images/samples*.png"))) == len(grids)
    assert_equal_weights(without.path, out)


class Hangs:
    """A network that never answers."""

    def __getattr__(self, name):
        time.sleep(60)


@pytest.mark.parametrize("fault", ["init", "log", "never", "no key"])
def test_what_goes_wrong_there_is_one_warning(fault, without, tmp_path, monkeypatch, capsys):
    import wandb

    if fault == "no key":
        monkeypatch.setenv("WANDB_MODE", "online")
        monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
        monkeypatch.delenv("WANDB_API_KEY", raising=False)
        stub = types.SimpleNamespace(settings=types.SimpleNamespace(mode="online"))
        monkeypatch.setattr(wandb, "setup", lambda: stub)
        monkeypatch.setattr(wandb, "api", types.SimpleNamespace(api_key=None))
    if fault == "never":
        monkeypatch.setattr(observer, "PATIENCE", 0.2)
        monkeypatch.setattr(observer.Wandb, "_begin", lambda self, wandb: Hangs().init)

    def fail(*arguments, **options):
        raise RuntimeError("the network is down\nand much more")

    if fault == "init":
        monkeypatch.setattr(wandb, "init", fail)
    if fault == "log":
        began = types.SimpleNamespace(log=fail, define_metric=lambda *names, **options: None, url=None)
        monkeypatch.setattr(wandb, "init", lambda **options: began)
    run = progan.train(out=tmp_path / "run", **RUN)
    assert run.finished
    assert_equal_weights(without.path, run.path)
    said = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    expected = {
        "never": "warning: --wandb: not all was sent within 0.2 seconds; wandb sync",
        "no key": "warning: --wandb: not logged in: run `wandb login`, or set WANDB_MODE=offline. The run goes on",
    }.get(fault, "warning: --wandb: the network is down. The run goes on, and nothing more is sent")
    assert len(said) == 1
    assert said[0].startswith(expected)


def test_training_does_not_wait_for_it(without, tmp_path, monkeypatch):
    """Each of its calls takes a second: what comes meanwhile is queued."""
    slow = types.SimpleNamespace(log=lambda values: time.sleep(1), finish=lambda: None)
    monkeypatch.setattr(observer, "PATIENCE", 0.1)
    monkeypatch.setattr(observer.Wandb, "_begin", lambda self, wandb: slow)
    sending = observer.Wandb("p", tmp_path, tmp_path, {}, print)
    sending.on_start(types.SimpleNamespace(cur_nimg=1), None)
    for nimg in range(50):
        sending._put(nimg, {"D/real": 0.0}, 8)
    assert sending._queue.qsize() >= 45


def test_a_run_that_goes_back_is_sent_on_unless_that_failed(tmp_path, monkeypatch):
    """After a divergence the observers end, and start again at an earlier moment."""
    sent, said = [], []
    there = types.SimpleNamespace(log=sent.append, finish=lambda: None)
    sending = observer.Wandb("p", tmp_path, tmp_path, {}, said.append)
    monkeypatch.setattr(sending, "_begin", lambda wandb: there)  # of this one: others may still try to reach theirs
    for nimg in (2000, 1000, 3000):
        sending.on_start(types.SimpleNamespace(cur_nimg=nimg), None)
        sending._put(nimg, {"D/real": 0.0}, 8)
        sending.on_end(False, types.SimpleNamespace(cur_nimg=nimg))
        if nimg == 1000:
            assert (len(sent), said) == (2, [])
            del there.finish, there.log  # from here on it fails
    sending.on_start(types.SimpleNamespace(cur_nimg=3000), None)
    sending._put(3000, {"D/real": 0.0}, 8)
    sending.on_end(True, types.SimpleNamespace(cur_nimg=3000))
    assert [line["kimg"] for line in sent] == [2.0, 1.0]
    assert len(said) == 1


def test_where_it_is_missing_one_line_says_how_to_install_it(tmp_path, monkeypatch):
    """Also where a run's own folder `wandb` lies in the way, which Python would take for a package."""
    (tmp_path / "wandb").mkdir()
    for found in (None, types.SimpleNamespace(origin=None)):
        monkeypatch.setattr(importlib.util, "find_spec", lambda name, found=found: found)
        with pytest.raises(ConfigError, match=r"^--wandb needs wandb: pip install '\.\[wandb\]' in the checkout"):
            progan.train(out=tmp_path / "run", **RUN)
    assert not (tmp_path / "run").exists()
