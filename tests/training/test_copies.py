"""`--copy-to`: what is elsewhere is a whole run at any time, and nothing that happens there reaches the training."""

import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import progan
from faults import StopAt, command, train_with, wait_for
from progan.cli import main
from progan.errors import RunError
from progan.files import write_whole
from progan.run import copies
from progan.run_folder import RunFolder
from progan.training.observers.base import Observer
from progan.training.observers.run_files import read_stats
from progan.training.state import StateFolder
from tiny import TINY, assert_equal_weights, flags

pytestmark = pytest.mark.usefixtures("own_cache", "traced_once")
RUN = {**TINY, "start_resolution": 8, "total_kimg": 0.16}
"""Four ticks of one resolution."""
KINDS = ("samples/fakes", "png"), ("snapshots/generator", "safetensors")


@pytest.fixture(scope="module")
def whole(tmp_path_factory, own_cache, traced_once):
    """The same run without a copy."""
    return progan.train(out=tmp_path_factory.mktemp("whole") / "run", **RUN)


@pytest.fixture(autouse=True)
def _soon(monkeypatch):
    monkeypatch.setattr(copies, "DELAYS", (0.01, 0.05))


def content(folder: Path) -> dict[str, bytes]:
    """Files of a run, without those that stay on its machine."""
    names = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    return {name: (folder / name).read_bytes() for name in names if name not in (".copied", ".lock")}


def positions(folder: Path) -> list[int]:
    return StateFolder(folder / "state").positions()


def test_at_the_end_all_of_a_run_is_there_and_nothing_else(whole, tmp_path):
    run = progan.train(out=tmp_path / "run", copy_to=str(tmp_path / "copy"), **RUN)
    assert content(tmp_path / "copy") == content(run.path)
    assert positions(tmp_path / "copy")[-1] == 160
    assert_equal_weights(whole.path, tmp_path / "copy")


def test_a_folder_that_is_lost_is_fetched_and_goes_on(whole, tmp_path, monkeypatch, capsys):
    out, there = tmp_path / "run", str(tmp_path / "copy")
    stop = StopAt(80)
    train_with(monkeypatch, out, stop, stop, **RUN, copy_to=there)
    out.rename(tmp_path / "lost")
    run = progan.train(out=out, copy_to=there, **{**RUN, "quiet": False})
    said = capsys.readouterr().err
    assert f"of the run at {there}, which is at 0.08 kimg" in said
    assert f"going on with {out} at 0.08 kimg" in said
    assert run.finished
    assert_equal_weights(whole.path, out)
    ours, never_lost = ([line["cur_nimg"] for line in read_stats(each / "stats.jsonl")] for each in (out, whole.path))
    assert ours == never_lost
    assert content(tmp_path / "copy") == content(out)


def test_wherever_sending_ends_a_run_can_go_on_from_what_is_there(tmp_path, monkeypatch):
    """After each file: the newest state has its config.json and its lines of stats.jsonl beside it."""
    there, seen = tmp_path / "copy", []
    write, remove = copies._Folder.write, copies._Folder.remove

    def look() -> None:
        states = positions(there)
        lines = [line["cur_nimg"] for line in read_stats(there / "stats.jsonl")]
        seen.append((max(states, default=0), max(lines, default=0), (there / "config.json").exists()))

    monkeypatch.setattr(copies._Folder, "write", lambda self, *what: (write(self, *what), look()))
    monkeypatch.setattr(copies._Folder, "remove", lambda self, name: (remove(self, name), look()))
    progan.train(out=tmp_path / "run", copy_to=str(there), **RUN)
    assert len({state for state, _, _ in seen}) > 1
    assert all(config and lines >= state for state, lines, config in seen)
    assert [state for state, _, _ in seen] == sorted(state for state, _, _ in seen)


def test_what_has_not_changed_is_not_sent_again(tmp_path, monkeypatch):
    there, sent = str(tmp_path / "copy"), []
    write = copies._Folder.write
    monkeypatch.setattr(copies._Folder, "write", lambda self, *what: (sent.append(what[0]), write(self, *what)))
    progan.train(out=tmp_path / "run", copy_to=there, **RUN)
    assert len([name for name in sent if name.startswith("samples/")]) == len(
        list((tmp_path / "run/samples").iterdir())
    )
    sent.clear()
    progan.train(out=tmp_path / "run", copy_to=there, **RUN)  # which has ended: new are its charts, and reals.png
    assert not [name for name in sent if name.startswith(("state/", "snapshots/", "good/", "samples/fakes", "config"))]
    (tmp_path / "copy/state/state-000000160.safetensors").unlink()  # by somebody
    progan.train(out=tmp_path / "run", copy_to=there, **RUN)
    assert "state/state-000000160.safetensors" in sent


def test_a_place_that_fails_for_a_while_gets_all_in_the_end(whole, tmp_path, monkeypatch, capsys):
    write, failures = copies._Folder.write, iter(range(5))

    def failing(self, name, content):
        if name != "config.json" and next(failures, None) is not None:
            raise OSError(5, "the server is down")
        write(self, name, content)

    monkeypatch.setattr(copies._Folder, "write", failing)
    run = progan.train(out=tmp_path / "run", copy_to=str(tmp_path / "copy"), **RUN)
    said = capsys.readouterr().err
    assert said.count("cannot be written ([Errno 5] the server is down). Training goes on") == 1
    assert said.count(f"{tmp_path / 'copy'} can be written again") == 1
    assert content(tmp_path / "copy") == content(run.path)
    assert_equal_weights(whole.path, run.path)


@pytest.mark.parametrize("how", ["hangs", "fails"])
def test_a_place_that_never_answers_neither_stops_a_run_nor_its_end(whole, tmp_path, monkeypatch, capsys, how):
    answer, write = threading.Event(), copies._Folder.write

    def never(self, name, content):
        if name == "config.json":
            write(self, name, content)
        elif how == "fails":
            raise OSError(5, "gone")
        else:
            answer.wait(120)

    monkeypatch.setattr(copies._Folder, "write", never)
    monkeypatch.setattr(copies, "PATIENCE", 0.3)
    run = progan.train(out=tmp_path / "run", copy_to=str(tmp_path / "copy"), **RUN)
    assert run.finished
    assert_equal_weights(whole.path, run.path)
    assert "warning: not all was sent to " in capsys.readouterr().err
    answer.set()
    until_gone = time.monotonic() + 60
    while any(thread.name == "copies" for thread in threading.enumerate()):  # it does not go on by itself
        assert time.monotonic() < until_gone
        time.sleep(0.01)


def test_a_run_that_ends_with_an_error_is_sent_as_well(tmp_path, monkeypatch):
    class Breaks(Observer):
        def on_tick(self, tick, state):
            if tick.cur_nimg == 120:
                raise RunError("no more")

    with pytest.raises(RunError, match="no more"):
        train_with(monkeypatch, tmp_path / "run", Breaks(), **RUN, copy_to=str(tmp_path / "copy"))
    assert positions(tmp_path / "copy") == positions(tmp_path / "run") != []


def test_a_copy_may_be_wished_for_later_and_is_no_part_of_what_a_run_is(tmp_path, monkeypatch):
    stop = StopAt(80)
    train_with(monkeypatch, tmp_path / "run", stop, stop, **RUN)
    there = str(tmp_path / "copy")
    progan.train(out=tmp_path / "run", copy_to=there, quiet=True)
    assert RunFolder(tmp_path / "copy").changes() == []
    assert RunFolder(tmp_path / "copy").read()[0].runtime.copy_to == there
    newest = RunFolder(tmp_path / "run").snapshot()
    assert b"copy_to" in newest.read_bytes()
    assert there.encode() not in newest.read_bytes()  # whoever gets it need not know


def test_a_run_keeps_its_copy_when_the_command_is_repeated_without_it_and_from_elsewhere(tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    progan.train("quickstart", out="run", copy_to="copy", until=80, **RUN)
    monkeypatch.chdir(tmp_path / "elsewhere")
    progan.train("quickstart", out="../run", **RUN)
    assert not list(Path().iterdir())
    assert content(tmp_path / "copy") == content(tmp_path / "run")
    assert RunFolder(tmp_path / "run").read()[0].runtime.copy_to == str(tmp_path / "copy")


def test_a_copy_around_the_runs_is_refused_before_there_is_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for around in ("runs", "."):
        with pytest.raises(RunError, match="lie in each other"):
            progan.train(copy_to=around, **RUN)
    assert not Path("runs").exists()


def test_states_that_are_out_of_date_go_and_what_others_put_there_stays(tmp_path):
    """A folder whose content is changed as training changes it."""
    folder, there = RunFolder(tmp_path / "run"), tmp_path / "copy"

    def lay(*names: str) -> None:
        for name in names:
            (folder.path / name).parent.mkdir(parents=True, exist_ok=True)
            (folder.path / name).write_bytes(name.encode())

    def state(nimg: int) -> str:
        return f"state/state-{nimg:09d}.safetensors"

    def sent() -> list[str]:
        copier._send_changes(everything=False)
        return sorted(name for name in content(there) if name.startswith(("state/", "good/", "samples/")))

    copier = copies.Copier(str(there), copies._Folder(str(there)), folder, print)
    lay("config.json", state(1), state(2), "good/state-000000001.safetensors", "samples/a.png", "stop", "x.progan-tmp")
    lay("state/half.safetensors.progan-tmp", "training.mp4", "job.sbatch")
    assert sent() == ["good/state-000000001.safetensors", "samples/a.png", state(1), state(2)]
    assert sorted(path.name for path in there.iterdir()) == ["config.json", "good", "samples", "state"]
    (there / "notes.txt").write_text("mine")
    for name in (state(1), "good/state-000000001.safetensors", "samples/a.png"):
        (folder.path / name).unlink()
    lay(state(3), "good/state-000000003.safetensors")
    assert sent() == ["good/state-000000003.safetensors", "samples/a.png", state(2), state(3)]
    # It went back to an earlier state: what is later goes; what somebody deleted here of before stays there.
    made = [f"{kind}-{nimg:09d}-8x8.{end}" for kind, end in KINDS for nimg in (1, 3)]
    lay(*made)
    sent()
    for name in (state(2), state(3), *made):
        (folder.path / name).unlink()
    lay(state(1))
    assert sent()[3:] == [state(1)]
    kept = [name for name in content(there) if name in made]
    assert sorted(kept) == ["samples/fakes-000000001-8x8.png", "snapshots/generator-000000001-8x8.safetensors"]
    # Somebody deleted the run: what is there stays.
    (folder.path / state(1)).unlink()
    (folder.path / "good/state-000000003.safetensors").unlink()
    assert sent()[0] == "good/state-000000003.safetensors"
    assert sent()[3:] == [state(1)]
    assert (there / "notes.txt").exists()


def test_what_somebody_deletes_here_or_there_is_no_fault(tmp_path):
    fsspec = pytest.importorskip("fsspec")
    system, folder = fsspec.filesystem("memory"), RunFolder(tmp_path / "run")
    states = [folder.state / f"state-{nimg:09d}.safetensors" for nimg in (1, 2, 3)]
    folder.state.mkdir(parents=True)
    copier = copies.Copier("memory://bucket/x", copies._Bucket("memory://bucket/x"), folder, print)
    try:
        for state in states:
            state.touch()
            copier._send_changes(everything=False)
            if state == states[1]:
                system.rm_file(f"/bucket/x/state/{states[0].name}")
        assert sorted(system.find("/bucket")) == [f"/bucket/x/state/{state.name}" for state in states[1:]]
        shutil.rmtree(folder.path)
        copier._send_changes(everything=True)
        assert len(system.find("/bucket")) == 2
    finally:
        system.rm("/bucket", recursive=True)


def test_the_newest_state_is_that_of_most_images_whatever_the_length_of_its_name(tmp_path):
    folder, there = RunFolder(tmp_path / "run"), tmp_path / "copy"
    folder.state.mkdir(parents=True)
    copier = copies.Copier(str(there), copies._Folder(str(there)), folder, print)
    states = [folder.state / f"state-{nimg:09d}.safetensors" for nimg in (999_999_998, 999_999_999, 1_000_000_000)]
    for number, state in enumerate(states):
        state.touch()
        copier._send_changes(everything=False)
        kept = sorted(path.name for path in (there / "state").iterdir())
        assert kept == sorted(path.name for path in states[max(0, number - 1) : number + 1])


def test_charts_are_sent_when_they_have_grown_and_at_the_end(tmp_path):
    folder, there = RunFolder(tmp_path / "run"), tmp_path / "copy"
    chart = folder.path / "tensorboard/events.out.tfevents.1.2"
    chart.parent.mkdir(parents=True)
    copier = copies.Copier(str(there), copies._Folder(str(there)), folder, print)
    sizes = []
    for size in (100, 105, 109, 111, 115):
        chart.write_bytes(b"x" * size)
        copier._send_changes(everything=size == 115)
        sizes.append((there / "tensorboard" / chart.name).stat().st_size)
    assert sizes == [100, 100, 100, 111, 115]


@pytest.fixture(scope="module")
def begun(tmp_path_factory, own_cache, traced_once):
    """A run that was stopped, and its copy."""
    folder = tmp_path_factory.mktemp("begun")
    stop = StopAt(80)
    with pytest.MonkeyPatch.context() as patch:
        train_with(patch, folder / "run", stop, stop, **RUN, copy_to=str(folder / "copy"))
    return folder


def refused(message: str, out: Path, **options) -> None:
    with pytest.raises(RunError) as error:
        progan.train(out=out, **{**RUN, **options})
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_what_cannot_be_a_copy_of_the_run_is_refused_before_the_first_step(begun, tmp_path):
    there = str(begun / "copy")
    before = content(begun / "copy")
    other = {**RUN, "seed": 3}
    progan.train(out=tmp_path / "other", time_limit=0.001, **other)
    message = f"{there} was begun with other settings, which cannot change: seed: 0 -> 3. Name another place"
    refused(message, tmp_path / "other", **other, copy_to=there)
    progan.train(out=tmp_path / "behind", time_limit=0.001, **RUN)
    message = f"the run in {there} is at 0.08 kimg, that in {tmp_path / 'behind'} only at"
    (state, *_) = (tmp_path / "behind" / "state").iterdir()
    shutil.copy(state, state.with_name(f"{state.stem} copy.safetensors"))
    refused(message, tmp_path / "behind", copy_to=there)
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "thesis.pdf").touch()
    refused("are files that no run has. Name an empty place", tmp_path / "new", copy_to=str(tmp_path / "files"))
    refused("lie in each other", tmp_path / "new", copy_to=str(tmp_path / "new" / "copy"))
    refused("it takes s3://…, gs://…, az://… or a folder", tmp_path / "new", copy_to="ftp://host/x")
    with pytest.raises(RunError, match="To go on with it name its folder, new or not, with --out"):
        progan.train(**{**RUN, "copy_to": there})
    assert content(begun / "copy") == before
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("address", "package", "extra"), [("s3", "s3fs", "s3"), ("gs", "gcsfs", "gs"), ("az", "adlfs", "az")]
)
def test_each_provider_names_its_package(tmp_path, monkeypatch, address, package, extra):
    monkeypatch.setitem(sys.modules, package, None)
    message = f"{package} is missing ({address}:// needs it: pip install '.[{extra}]'"
    refused(message, tmp_path / "run", copy_to=f"{address}://b/x")


def test_object_storage_is_written_read_and_named_as_a_folder_is(whole, tmp_path, monkeypatch):
    """fsspec's memory:// stands for s3://, gs:// and az://."""
    fsspec = pytest.importorskip("fsspec")
    system, there = fsspec.filesystem("memory"), "memory://bucket/runs/mine/"
    refused("(there is no bucket /bucket). Correct the address", tmp_path / "run", copy_to=there)
    assert not (tmp_path / "run").exists()
    system.mkdir("/bucket")
    try:
        stop = StopAt(80)
        train_with(monkeypatch, tmp_path / "run", stop, stop, **RUN, copy_to=there)
        ours = content(tmp_path / "run")
        assert {path.removeprefix("/bucket/runs/mine/"): system.cat(path) for path in system.find("/bucket")} == ours
        assert progan.train(out=tmp_path / "fresh", copy_to=there, quiet=True).finished
        assert_equal_weights(whole.path, tmp_path / "fresh")
    finally:
        system.rm("/bucket", recursive=True)


def test_a_fetch_that_is_cut_off_begins_again(begun, tmp_path, monkeypatch):
    folder, there = RunFolder(tmp_path / "run"), str(begun / "copy")
    read, left = copies._Folder.read, iter(range(6))

    def cut(self, name):
        if next(left, None) is None:
            raise OSError(5, "cut off")
        return read(self, name)

    with monkeypatch.context() as patch:
        patch.setattr(copies._Folder, "read", cut)
        with pytest.raises(RunError, match=r"cannot be read \(\[Errno 5\] cut off\). Look at the address"):
            copies.fetch(there, folder, print)
    assert not folder.exists
    assert content(folder.path)
    write_whole(folder.stats, b"of another day")
    copies.fetch(there, folder, print)
    assert content(folder.path) == content(begun / "copy")


@pytest.mark.slow
def test_the_page_of_a_run_that_has_ended_is_there_too(tmp_path, capsys):
    where = ["--out", str(tmp_path / "run"), "--copy-to", str(tmp_path / "copy"), "--start-resolution", "8"]
    assert main(["train", *flags(total_kimg=0.08), "--quiet", *where]) == 0
    assert (tmp_path / "run/report.html").exists()
    assert content(tmp_path / "copy") == content(tmp_path / "run")


def test_names_that_no_run_has_are_not_fetched():
    ours = ["config.json", "samples/fakes-1.png", "wandb/id", "state/state-000000001.safetensors"]
    assert all(map(copies._is_ours, ours))
    others = [
        "../config.json",
        "samples/../../x",
        "/etc/passwd",
        "samples/a/b",
        "x.py",
        "state/a.progan-tmp",
        "samples/",
    ]
    assert not any(map(copies._is_ours, others))


@pytest.mark.slow
def test_of_several_processes_only_the_first_copies(tmp_path):
    out, there = tmp_path / "run", tmp_path / "copy"
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "progan"]
    words = [*flags(total_kimg=0.16), "--out", str(out), "--copy-to", str(there)]
    done = subprocess.run([*launch, "train", *words], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert content(there) == content(out)
    out.rename(tmp_path / "lost")
    words = ["--out", str(out), "--copy-to", str(there), "--total-kimg", "0.2", "--allow-change"]
    done = subprocess.run([*launch, "train", *words], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("fetched ") == 1
    assert positions(there)[-1] == 200


@pytest.mark.service
def test_a_machine_that_dies_loses_at_most_a_tick(bucket, tmp_path):
    """Killed, its disk gone: on another machine the run goes on from S3 and ends with the same bits."""
    there, options = "s3://bucket/runs/mine", {"start_resolution": 8, "total_kimg": 2, "tick_kimg": 0.4}
    expected = progan.train(out=tmp_path / "whole", **{**TINY, **options})
    out = tmp_path / "run"
    process = subprocess.Popen([*command(out, **options), "--copy-to", there], stderr=subprocess.PIPE, text=True)
    wait_for(lambda: len(positions(out)) == 2, process)
    reached = positions(out)[-1]
    process.kill()
    process.communicate()
    out.rename(tmp_path / "lost")
    done = subprocess.run([*command(out, **options), "--copy-to", there], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if "fetched " in line]
    kimg = float(line.split("which is at ")[1].split()[0])
    assert 1000 * kimg >= reached - 400
    assert_equal_weights(expected.path, out)
    assert len(bucket.ls("bucket/runs/mine/state")) == 2


@pytest.mark.service
def test_a_server_that_is_down_for_a_while_gets_all_in_the_end(s3, bucket, tmp_path, monkeypatch, capsys):
    class Down(Observer):
        def on_tick(self, tick, state):
            if tick.cur_nimg == 40:
                s3.stop()
            if tick.cur_nimg == 120:
                until = time.monotonic() + 120
                while "Training goes on" not in seen():
                    assert time.monotonic() < until
                    time.sleep(0.05)
                s3.start()

    said: list[str] = []

    def seen() -> str:
        said.append(capsys.readouterr().err)
        return "".join(said)

    run = train_with(monkeypatch, tmp_path / "run", Down(), **RUN, copy_to="s3://bucket/run")
    assert "s3://bucket/run can be written again" in seen()
    bucket.invalidate_cache()
    names = [path.removeprefix("bucket/run/") for path in bucket.find("bucket/run")]
    assert {name: bucket.cat(f"bucket/run/{name}") for name in names} == content(run.path)


@pytest.mark.service
def test_what_is_wrong_with_s3_is_one_line_before_the_first_step(bucket, tmp_path, monkeypatch, capsys):
    fsspec = pytest.importorskip("fsspec")

    def line(there: str) -> str:
        fsspec.get_filesystem_class("s3").clear_instance_cache()
        assert main(["train", *flags(), "--out", str(tmp_path / "run"), "--copy-to", there]) == 2
        (said,) = capsys.readouterr().err.splitlines()
        assert not (tmp_path / "run").exists()
        return said

    assert "s3://nowhere/x cannot be read (The specified bucket does not exist). Correct the address" in line(
        "s3://nowhere/x"
    )
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    assert "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE" in line("s3://bucket/x")
