"""Fifty clients at once, with a training beside them: for some seconds, and as it is measured, for a minute.

PROGAN_LOAD_JSON names a file for the numbers of the last one.
"""

import json
import os
import platform
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from serving import Server

import progan
from faults import command
from tiny import TINY, assert_equal_weights

httpx = pytest.importorskip("httpx")
pytest.importorskip("uvicorn")
pytestmark = [pytest.mark.service, pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")]
CLIENTS, FOLLOWERS = 50, 10
KIMG = 4
"""Thousands of images of the training that takes about as long as the clients' minute."""
MOST_GROWTH = 80 * 2**20
"""Bytes that memory may grow by after all has been used once."""


@pytest.mark.parametrize(
    ("seconds", "kimg"),
    [
        pytest.param(5, 0.6, id="short", marks=pytest.mark.long),
        pytest.param(60, KIMG, id="minute", marks=pytest.mark.long),
    ],
)
def test_fifty_clients_get_all_they_ask_for_and_training_loses_no_bit(seconds, kimg, tmp_path, monkeypatch):
    monkeypatch.setenv("PROGAN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    begun = time.perf_counter()
    alone = progan.train(out=tmp_path / "runs" / "alone", **TINY, total_kimg=kimg)
    took = time.perf_counter() - begun
    assert alone.finished
    server = Server(tmp_path / "runs")
    facts = httpx.get(f"{server.home}/progan.json?run=alone").json()
    model, grid = facts["models"][-1]["file"], sorted(alone.folder.samples.glob("fakes-*"))[-1].name
    addresses = ["/", "/main.js", "/progan.json?run=alone", f"/api/grid?run=alone&name={grid}"]
    picture = f"/api/picture?run=alone&model={model}&seed="
    first = {seed: httpx.get(f"{server.home}{picture}{seed}", timeout=120).content for seed in range(20)}
    goes_on, times, failed = threading.Event(), [], []

    def client(number: int) -> None:
        """Mostly pictures, each the same as when it was asked for alone."""
        rng = np.random.default_rng(number)
        with httpx.Client(base_url=server.home, timeout=60) as session:
            while not goes_on.is_set():
                seed, begun = int(rng.integers(20)), time.perf_counter()
                wanted = rng.random() < 0.7
                address = f"{picture}{seed}" if wanted else addresses[rng.integers(len(addresses))]
                answer = session.get(address)
                times.append(time.perf_counter() - begun)
                if answer.status_code != 200 or (wanted and answer.content != first[seed]):
                    failed.append((address, answer.status_code))

    def follower() -> int:
        """Ticks of the training that it was told of."""
        seen = 0
        with httpx.stream("GET", f"{server.home}/api/training?run=beside", timeout=60) as answer:
            for line in answer.iter_lines():
                if line.startswith("data: ["):
                    seen += len(json.loads(line[6:]))
                if goes_on.is_set():
                    return seen
        return seen

    with subprocess.Popen(
        command(tmp_path / "runs" / "beside", total_kimg=kimg), stderr=subprocess.PIPE, text=True
    ) as training:
        deadline = time.monotonic() + 400
        while not (tmp_path / "runs" / "beside" / "stats.jsonl").exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        time.sleep(2.5)
        with ThreadPoolExecutor(CLIENTS + FOLLOWERS) as pool:
            following = [pool.submit(follower) for _ in range(FOLLOWERS)]
            asked = time.perf_counter()
            asking = [pool.submit(client, number) for number in range(CLIENTS)]
            time.sleep(seconds / 3)
            before = server.memory()
            trained = training.poll() is None
            time.sleep(seconds * 2 / 3)
            growth = server.memory() - before
            training.communicate(timeout=300)
            time.sleep(2.5)
            goes_on.set()
            assert all(future.result(60) >= 3 for future in following)
            for future in asking:
                future.result(60)
    assert training.returncode == 0
    assert_equal_weights(alone.path, tmp_path / "runs" / "beside")
    assert failed == []
    ordered = sorted(times)
    measured = {
        "machine": machine(),
        "clients": CLIENTS,
        "followers": FOLLOWERS,
        "seconds": time.perf_counter() - asked,
        "requests": len(times),
        "failed": len(failed),
        "median_seconds": ordered[len(times) // 2],
        "p95_seconds": ordered[int(0.95 * len(times))],
        "most_seconds": ordered[-1],
        "memory_mib": before / 2**20,
        "growth_mib": growth / 2**20,
        "training_alone_seconds": took,
        "training_beside": "the same bits",
    }
    print(json.dumps(measured))
    if seconds >= 60 and (out := os.environ.get("PROGAN_LOAD_JSON")):
        Path(out).write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
    assert trained  # beside the clients for a third of the time at least
    assert growth < MOST_GROWTH
    server.stop()


def machine() -> str:
    """Processor of this machine and how many cores of it, as Linux says it."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()}, {os.cpu_count()} cores"
