"""Fifty clients at once, with a training beside them. PROGAN_LOAD_SECONDS=60 is how it is measured."""

import json
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from serving import Server

import progan
from faults import TINY, assert_equal_weights, command

httpx = pytest.importorskip("httpx")
pytest.importorskip("uvicorn")
pytestmark = [pytest.mark.service, pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")]
SECONDS = float(os.environ.get("PROGAN_LOAD_SECONDS", "5"))
CLIENTS, FOLLOWERS = 50, 10
MOST_GROWTH = 80 * 2**20
"""Bytes that memory may grow by after all has been used once."""


def test_fifty_clients_get_all_they_ask_for_and_training_loses_no_bit(tmp_path, monkeypatch):
    monkeypatch.setenv("PROGAN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    alone = progan.train(out=tmp_path / "runs" / "alone", **TINY)
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

    with subprocess.Popen(command(tmp_path / "runs" / "beside"), stderr=subprocess.PIPE, text=True) as training:
        deadline = time.monotonic() + 400
        while not (tmp_path / "runs" / "beside" / "stats.jsonl").exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        time.sleep(2.5)
        with ThreadPoolExecutor(CLIENTS + FOLLOWERS) as pool:
            following = [pool.submit(follower) for _ in range(FOLLOWERS)]
            asking = [pool.submit(client, number) for number in range(CLIENTS)]
            time.sleep(SECONDS / 3)
            before = server.memory()
            time.sleep(SECONDS * 2 / 3)
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
    print(
        f"{len(times)} requests of {CLIENTS} clients, {FOLLOWERS} followers: median {ordered[len(times) // 2]:.3f} s, "
        f"p95 {ordered[int(0.95 * len(times))]:.3f} s; memory {before / 2**20:.0f} MiB, then {growth / 2**20:+.0f}"
    )
    assert growth < MOST_GROWTH
    server.stop()
