"""Two hosts: network namespaces with addresses of their own, a cable between them, torchrun's rendezvous over it."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import safetensors.torch

import progan
from faults import wait_for
from progan.training.state import StateFolder

pytestmark = pytest.mark.service

OPTIONS = (
    "--data avatars:32 --resolution 8 --stable-kimg 0.08 --fade-kimg 0.08 --tick-kimg 0.04 --batch-size 8 --fmap-max 8 "
    "--fmap-base 64 --z-dim 8 --device cpu --precision fp32 --compile off"
).split()
PATIENCE = 8
"""Seconds after which a process that waits for another gives up, in place of ten minutes."""
SCRIPT = f"""
import datetime, sys
from progan.cli import main
from progan.training.parallel import processes, rendezvous

processes.TIMEOUT = rendezvous.TIMEOUT = datetime.timedelta(seconds={PATIENCE})
sys.exit(main())
"""


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@pytest.fixture
def hosts():
    """Names of two namespaces; of each, its address and its end of the cable."""
    if shutil.which("ip") is None:
        pytest.skip("there is no `ip` (Debian's iproute2)")
    names = [f"progan-{os.getpid()}-{n}" for n in (1, 2)]
    cables = [f"pg{os.getpid()}-{n}" for n in (1, 2)]
    found = [(name, f"10.77.0.{n}", cable) for n, (name, cable) in enumerate(zip(names, cables, strict=True), 1)]
    try:
        try:
            for name in names:
                ip("netns", "add", name)
            ip("link", "add", cables[0], "type", "veth", "peer", "name", cables[1])
        except subprocess.CalledProcessError as error:
            pytest.skip(f"network namespaces cannot be made here: {error.stderr.decode().strip()}")
        for name, address, cable in found:
            ip("link", "set", cable, "netns", name)
            ip("-n", name, "addr", "add", f"{address}/24", "dev", cable)
            ip("-n", name, "link", "set", cable, "up")
            ip("-n", name, "link", "set", "lo", "up")
        yield found
    finally:
        for name in names:
            pids = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True).stdout.split()
            for pid in pids:
                os.kill(int(pid), signal.SIGKILL)
            subprocess.run(["ip", "netns", "del", name], capture_output=True)


def start(hosts, folder: Path, *more: str) -> "list[subprocess.Popen[str]]":
    """The same command on both, with output in files."""
    (folder / "script.py").write_text(SCRIPT)
    started = []
    for n, (name, address, cable) in enumerate(hosts):
        launch = f"--nnodes 2 --nproc-per-node 1 --rdzv-backend c10d --rdzv-endpoint {hosts[0][1]}:29400 --rdzv-id x"
        launch += f" --rdzv-conf is_host={n == 0} --local-addr {address}"  # both have the same host name
        command = ["ip", "netns", "exec", name, sys.executable, "-m", "torch.distributed.run", *launch.split()]
        command += [str(folder / "script.py"), "train", *OPTIONS, "--out", str(folder / "run"), *more]
        environment = {
            **os.environ,
            "GLOO_SOCKET_IFNAME": cable,
            "OMP_NUM_THREADS": "1",
            "PROGAN_CACHE": f"{folder}/cache",
        }
        with (folder / f"log-{n}").open("w") as log:
            started.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log, text=True))
    return started


def same(a: Path, b: Path) -> None:
    """Equal snapshots, to rounding."""
    for path in (a / "snapshots").iterdir():
        one, two = (safetensors.torch.load_file(folder / "snapshots" / path.name) for folder in (a, b))
        for name, value in one.items():
            assert (value - two[name]).abs().max() <= 1e-5 * max(value.abs().max(), 1e-9), (path.name, name)


def test_two_hosts_give_the_numbers_of_one(hosts, tmp_path, monkeypatch):
    assert [process.wait(300) for process in start(hosts, tmp_path)] == [0, 0]
    monkeypatch.setenv("PROGAN_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    assert (
        subprocess.run([sys.executable, "-m", "progan", "train", *OPTIONS, "--out", "one", "--quiet"]).returncode == 0
    )
    same(tmp_path / "one", tmp_path / "run")


@pytest.mark.long
@pytest.mark.parametrize("fault", ["the link is cut", "a host is killed"])
def test_the_host_that_is_left_says_so_and_goes_on_alone(hosts, tmp_path, monkeypatch, fault):
    first, second = start(hosts, tmp_path, "--total-kimg", "400", "--stable-kimg", "200")
    wait_for(lambda: bool(StateFolder(tmp_path / "run" / "state").positions()), first)
    began = time.monotonic()
    if fault == "the link is cut":
        ip("-n", hosts[1][0], "link", "set", hosts[1][2], "down")
    else:
        for pid in subprocess.run(["ip", "netns", "pids", hosts[1][0]], capture_output=True, text=True).stdout.split():
            os.kill(int(pid), signal.SIGKILL)
    assert first.wait(120) != 0
    # Its own patience, and torchrun's 30 seconds for processes that do not end.
    assert time.monotonic() - began < PATIENCE + 60
    said = [line for line in (tmp_path / "log-0").read_text().splitlines() if line.startswith("progan: ")]
    assert len(said) == 1
    assert "process" in said[0]
    state = StateFolder(tmp_path / "run" / "state")
    reached = max(state.positions())
    assert reached > 0
    assert not list((tmp_path / "run").rglob("*.progan-tmp"))
    monkeypatch.setenv("PROGAN_CACHE", str(tmp_path / "cache"))
    alone = progan.train(out=tmp_path / "run", total_kimg=reached / 1000 + 0.08, allow_change=True, quiet=True)
    assert alone.finished
    assert alone.cur_nimg > reached
    second.kill()
