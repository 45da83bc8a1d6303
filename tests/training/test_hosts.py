"""Two hosts: network namespaces with addresses and names of their own, a cable between them.

On each, a process that has imported all that is needed forks those that train, so that a test lasts seconds; they
neither compile nor trace.
"""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch

from progan.data.prepare import prepare
from progan.training.state import StateFolder

pytestmark = pytest.mark.service

OPTIONS = (
    "--data avatars:32 --resolution 8 --stable-kimg 0.16 --fade-kimg 0.16 --tick-kimg 0.04 --batch-size 8 --fmap-max 8 "
    "--fmap-base 64 --z-dim 8 --device cpu --precision fp32 --compile off"
).split()
PATIENCE = 6
"""Seconds after which a process that waits for another gives up, in place of ten minutes, where a test waits for it."""
LATE = 4
"""The same for shared storage, in place of three minutes."""
NAMES = ("first", "second")
QUICK = """
import sys
from progan.cli import main, train
from progan.training.accelerate import traced
from progan.training.preflight import fit

traced.Executors._make = lambda self, *_: None
train.write_report = lambda result: None
fit.ensure = lambda setup, *_: setup.config
"""
"""Begins what trains here: nothing is traced, no memory is estimated and no page written."""
HOST = f"""{QUICK}
import ctypes, datetime, json, os, subprocess, tempfile, threading, traceback
from progan.training.parallel import processes, rendezvous

with tempfile.TemporaryDirectory() as folder:
    main(["train", *sys.argv[1:], "--total-kimg", "0.008", "--quiet", "--out", folder])

def hide(folder, seconds):
    # Storage that this host alone does not have, or has later.
    assert ctypes.CDLL(None).unshare(0x20000) == 0  # CLONE_NEWNS
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "none", folder], check=True)
    if seconds:
        threading.Timer(seconds, subprocess.run, [["umount", folder]]).start()

print("ready", flush=True)
for line in sys.stdin:
    asked = json.loads(line)
    pid = os.fork()
    if pid:
        print(pid, flush=True)
        continue
    log = os.open(asked["log"], os.O_WRONLY | os.O_CREAT)
    for stream in (1, 2):
        os.dup2(log, stream)
    os.environ.update(asked["environment"])
    processes.TIMEOUT = rendezvous.TIMEOUT = datetime.timedelta(seconds=asked["patience"])
    rendezvous.LATE = asked["late"]
    if asked["hidden"]:
        hide(*asked["hidden"])
    try:
        code = main(asked["words"])
    except SystemExit as end:
        code = end.code
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os.close(os.open(asked["log"] + "." + str(code), os.O_CREAT))
    os._exit(code)
"""


def ip(*words: str) -> str:
    return subprocess.run(["ip", *words], check=True, capture_output=True, text=True).stdout


def until(condition: Callable[[], object], seconds: float = 400) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


class Running:
    """A process that trains on a host."""

    def __init__(self, pid: int, log: Path) -> None:
        self.pid, self._log = pid, log

    @property
    def said(self) -> str:
        return self._log.read_text()

    @property
    def lines(self) -> list[str]:
        return [line for line in self.said.splitlines() if line.startswith("progan: ")]

    @property
    def code(self) -> int | None:
        """Its exit code, once it has ended by itself."""
        codes = [int(path.suffix[1:]) for path in self._log.parent.glob(f"{self._log.name}.*")]
        return codes[0] if codes else None

    def wait(self) -> int | None:
        until(lambda: self.code is not None)
        return self.code


class Host:
    """A network namespace with a host name."""

    def __init__(self, number: int) -> None:
        self.number, self.name, self.address = number, NAMES[number], f"10.77.0.{number + 1}"
        self.space, self.cable = f"progan-{os.getpid()}-{number}", f"pg{os.getpid()}-{number}"

    def command(self, *words: str) -> list[str]:
        """Words that run there."""
        named = ["unshare", "--uts", "sh", "-c", 'echo "$0" > /proc/sys/kernel/hostname; exec "$@"', self.name]
        return ["ip", "netns", "exec", self.space, *named, *words]

    def boot(self) -> None:
        self._process = subprocess.Popen(
            self.command(sys.executable, "-c", HOST, *OPTIONS), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def fork(self, **asked: object) -> int:
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        while line == "ready\n":
            line = self._process.stdout.readline()
        return int(line)


class Hosts:
    """Both, and a folder for what their processes say."""

    def __init__(self, logs: Path) -> None:
        self.both, self._logs = [Host(0), Host(1)], logs
        self._started = 0

    def start(
        self,
        out: Path,
        *more: str,
        of: "list[Host] | None" = None,
        patience: float = 100,
        hidden: "tuple[Path, float] | None" = None,
        options: "list[str] | None" = None,
    ) -> list[Running]:
        """The same command on those; of `hidden`, a folder and seconds, the second sees nothing so long, or ever."""
        hosts, self._started = of or self.both, self._started + 1
        running = []
        for rank, host in enumerate(hosts):
            meeting = {"RANK": rank, "WORLD_SIZE": len(hosts), "LOCAL_RANK": 0, "MASTER_ADDR": hosts[0].address}
            environment = {**meeting, "MASTER_PORT": 20000 + self._started, "GLOO_SOCKET_IFNAME": host.cable}
            log = self._logs / f"{self._started}-{host.name}.log"
            log.touch()
            pid = host.fork(
                words=["train", *(OPTIONS if options is None else options), "--out", str(out), *more],
                environment={name: str(value) for name, value in environment.items()},
                log=str(log),
                patience=patience,
                late=LATE,
                hidden=[str(hidden[0]), hidden[1]] if hidden is not None and rank == 1 else None,
            )
            running.append(Running(pid, log))
        return running


@pytest.fixture(scope="module")
def hosts(tmp_path_factory):
    """Two hosts with a cable between them."""
    if shutil.which("ip") is None:
        pytest.skip("there is no `ip` (Debian's iproute2)")
    found = Hosts(tmp_path_factory.mktemp("logs"))
    first, second = found.both
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PROGAN_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("OMP_NUM_THREADS", "1")
        try:
            try:
                for host in found.both:
                    ip("netns", "add", host.space)
                ip("link", "add", first.cable, "type", "veth", "peer", "name", second.cable)
            except subprocess.CalledProcessError as error:
                pytest.skip(f"network namespaces cannot be made here: {error.stderr.strip()}")
            for host in found.both:
                ip("link", "set", host.cable, "netns", host.space)
                ip("-n", host.space, "addr", "add", f"{host.address}/24", "dev", host.cable)
                ip("-n", host.space, "link", "set", host.cable, "up")
                ip("-n", host.space, "link", "set", "lo", "up")
                host.boot()
            yield found
        finally:
            for host in found.both:
                pids = subprocess.run(["ip", "netns", "pids", host.space], capture_output=True, text=True)
                for pid in pids.stdout.split():
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(int(pid), signal.SIGKILL)
                subprocess.run(["ip", "netns", "del", host.space], capture_output=True)


@pytest.fixture(scope="module")
def one(hosts, tmp_path_factory):
    """Folder of the run of one process."""
    out = tmp_path_factory.mktemp("one") / "run"
    [alone] = hosts.start(out, of=hosts.both[:1])
    assert alone.wait() == 0, alone.said
    return out


@pytest.fixture(scope="module")
def two(hosts, tmp_path_factory, one):
    """Folder of the run of both hosts that nothing happened to."""
    out = tmp_path_factory.mktemp("two") / "run"
    running = hosts.start(out)
    assert [process.wait() for process in running] == [0, 0], running[0].said
    return out


def differences(a: Path, b: Path) -> list[float]:
    """Of every tensor of every snapshot of a, from that of b, relative to its largest entry."""
    found = []
    for path in sorted((a / "snapshots").iterdir()):
        ours, theirs = (safetensors.torch.load_file(folder / "snapshots" / path.name) for folder in (a, b))
        found += [
            float((ours[name] - value).abs().max() / value.abs().max().clamp(1e-9)) for name, value in theirs.items()
        ]
    assert len(found) > 10
    return found


def positions(out: Path) -> list[int]:
    return StateFolder(out / "state").positions()


def test_two_hosts_give_the_numbers_of_one(one, two):
    assert max(differences(two, one)) <= 1e-5


def test_what_the_first_host_measured_holds_on_both(hosts, tmp_path):
    """It alone fits a run into its minutes, and what it needs not decide at the first step nor does the other."""
    running = hosts.start(tmp_path / "run", "--minutes", "0.05", patience=PATIENCE)
    assert [process.wait() for process in running] == [0, 0], running[1].said


def test_torchrun_meets_over_the_cable(hosts, two, tmp_path):
    started, script = [], tmp_path / "script.py"
    script.write_text(f"{QUICK}\nsys.exit(main())\n")
    for host in hosts.both:
        launch = "--nnodes 2 --nproc-per-node 1 --rdzv-backend c10d --rdzv-endpoint 10.77.0.1:29400 --rdzv-id x"
        launch += f" --rdzv-conf is_host={host.number == 0} --local-addr {host.address}"
        words = [sys.executable, "-m", "torch.distributed.run", *launch.split(), str(script), "train", *OPTIONS]
        environment = {**os.environ, "GLOO_SOCKET_IFNAME": host.cable}
        with (tmp_path / f"log-{host.name}").open("w") as log:
            command = host.command(*words, "--out", str(tmp_path / "run"))
            started.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))
    assert [process.wait(300) for process in started] == [0, 0], (tmp_path / "log-first").read_text()
    assert set(differences(two, tmp_path / "run")) == {0}


@pytest.mark.parametrize("how", ["the cable is slow", "the host does nothing for a while"])
def test_a_slow_host_is_waited_for(hosts, two, tmp_path, how):
    second = hosts.both[1]
    if how == "the cable is slow":
        netem = ["tc", "-n", second.space, "qdisc", "add", "dev", second.cable, "root", "netem", "delay", "4ms", "2ms"]
        done = subprocess.run(netem, capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"this kernel slows no cables: {done.stderr.strip()}")
    try:
        running = hosts.start(tmp_path / "run")
        until(lambda: positions(tmp_path / "run"))
        if how != "the cable is slow":
            os.kill(running[1].pid, signal.SIGSTOP)
            time.sleep(2)
            reached = positions(tmp_path / "run")
            time.sleep(1)
            assert positions(tmp_path / "run") == reached != [480]  # nobody goes on without it
            os.kill(running[1].pid, signal.SIGCONT)
        assert [process.wait() for process in running] == [0, 0]
    finally:
        subprocess.run(["tc", "-n", second.space, "qdisc", "del", "dev", second.cable, "root"], capture_output=True)
    assert set(differences(two, tmp_path / "run")) == {0}


@pytest.mark.parametrize("fault", ["the link is cut", "a host is killed", "a host does nothing for long"])
def test_the_host_that_is_left_says_so_and_both_or_one_go_on(hosts, one, two, tmp_path, fault):
    out = tmp_path / "run"
    first, second = hosts.start(out, patience=PATIENCE)
    until(lambda: positions(out))
    began = time.monotonic()
    if fault == "the link is cut":
        ip("-n", hosts.both[1].space, "link", "set", hosts.both[1].cable, "down")
    else:
        os.kill(second.pid, signal.SIGKILL if fault == "a host is killed" else signal.SIGSTOP)
    assert first.wait() not in (0, None)
    took = time.monotonic() - began
    assert took < PATIENCE + 20
    assert fault == "a host is killed" or took > PATIENCE / 2
    (line,) = first.lines
    assert "process 1 of 2 stops, as another one has ended or cannot be reached" in line
    assert not list(out.rglob("*.progan-tmp"))
    reached = max(positions(out))
    assert 0 < reached < 480

    # The host comes back: what was stopped there ends, too, and has written nothing.
    if fault == "the link is cut":
        ip("-n", hosts.both[1].space, "link", "set", hosts.both[1].cable, "up")
    if fault == "a host does nothing for long":
        os.kill(second.pid, signal.SIGCONT)
    if fault != "a host is killed":
        assert second.wait() not in (0, None)
    assert max(positions(out)) == reached
    shutil.copytree(out, tmp_path / "alone")
    assert [process.wait() for process in hosts.start(out)] == [0, 0]
    assert set(differences(two, out)) == {0}

    # Until then the one that is left goes on alone, here for a while, and both end it.
    if fault == "a host is killed":
        some = ["--total-kimg", str(reached / 1000 + 0.04), "--allow-change"]
        assert [process.wait() for process in hosts.start(tmp_path / "alone", *some, of=hosts.both[:1])] == [0]
        assert positions(tmp_path / "alone")[-1] == reached + 40
        rest = ["--total-kimg", "0.48", "--allow-change"]
        assert [process.wait() for process in hosts.start(tmp_path / "alone", *rest)] == [0, 0]
        newest = [folder / f"snapshots/generator-{480:09d}-8x8.safetensors" for folder in (one, tmp_path / "alone")]
        ours, theirs = map(safetensors.torch.load_file, newest)
        assert all(torch.allclose(ours[name], value, rtol=1e-3, atol=1e-4) for name, value in theirs.items())


@pytest.mark.parametrize("what", ["the run folder", "the images"])
def test_storage_that_a_host_does_not_see_is_refused_before_the_first_step(hosts, tmp_path, what):
    shared, out = tmp_path / "shared", tmp_path / "shared" / "run"
    shared.mkdir()
    options = list(OPTIONS)
    if what == "the images":
        out = tmp_path / "run"
        prepare("avatars:32", shared / "data")
        options[1] = str(shared / "data")
    running = hosts.start(out, options=options, patience=30, hidden=(shared, 0))
    assert [process.wait() for process in running] == [2, 2]
    (line,) = [line for process in running for line in process.lines]
    if what == "the images":
        assert line.startswith(f"progan: on second: {shared / 'data'}")
    else:
        assert f"second does not see the run folder {out} that first has begun. Put it where all hosts see it" in line
    assert positions(out) == []
    assert socket.gethostname() not in line


def test_storage_that_comes_late_is_waited_for(hosts, two, tmp_path):
    shared = tmp_path / "shared"
    shared.mkdir()
    running = hosts.start(shared / "run", hidden=(shared, 1.5))
    assert [process.wait() for process in running] == [0, 0], running[1].said
    assert set(differences(two, shared / "run")) == {0}
