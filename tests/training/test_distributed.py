"""Several processes: together they are one."""

import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Timer

import numpy as np
import pytest
import safetensors.torch
import torch
import torch.multiprocessing as mp
from torch.distributed import HashStore

import several
from progan.config import ProGANConfig, RunConfig, ScheduleConfig
from progan.data.cache import open_data
from progan.errors import ConfigError, DeviceError, ProcessError, RunError
from progan.models import ImageShape
from progan.models.layers import minibatch_stddev
from progan.options import override
from progan.per_resolution import per_resolution
from progan.randomness import Rng
from progan.run_folder import RunFolder
from progan.sampling import load
from progan.training.feed import Feed, Request
from progan.training.observers.run_files import read_stats
from progan.training.parallel import rendezvous
from progan.training.parallel.processes import ALONE, Processes, Several, buckets
from progan.training.parallel.rendezvous import join, meet
from progan.training.parallel.sharding import check_sharding
from progan.training.setup import RunSetup
from progan.training.state import StateFolder
from steps import CPU

TOLERANCE = 1e-11
"""Of numbers in float64, relative to the largest of their tensor; 1e-16 is what one rounding makes."""
OF_LOSSES = 1e-6
"""They are added up in float32."""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A prepared dataset with labels."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PROGAN_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield open_data("avatars:40").path


@pytest.fixture(scope="module")
def runs(data, tmp_path_factory):
    """Numbers of the same run: by one, two and four processes, and begun by two, continued by one, ended by four."""
    folder = tmp_path_factory.mktemp("runs")
    one = several.train(several.make(data, folder / "one"))
    mp.spawn(several.process, (2, folder, data), nprocs=2)
    middle = several.make(data, folder / "resumed")
    assert middle.state.cur_nimg == 48
    several.train(middle, several.after(3))
    assert middle.state.cur_nimg == 96
    mp.spawn(several.process, (4, folder, data), nprocs=4)
    files = {path.relative_to(folder).as_posix(): path for path in folder.glob("*/*.safetensors")}
    return {"one": one, **{name: safetensors.torch.load_file(path) for name, path in files.items()}}


def assert_close(ours, expected):
    assert ours.keys() == expected.keys()
    errors = {
        name: float((ours[name] - value).abs().max()) / max(float(value.abs().max()), 1e-300)
        for name, value in expected.items()
    }
    assert {name: error for name, error in errors.items() if error > (OF_LOSSES if "/" in name else TOLERANCE)} == {}


@pytest.mark.slow
@pytest.mark.parametrize("size", [2, 4])
def test_several_processes_compute_what_one_would(runs, size):
    """Every gradient of eight iterations, the losses, and weights, averages and moments at their end."""
    expected = runs["one"]
    assert sum(name.startswith("128.G.") for name in expected) == 10
    assert {"48.D/penalty", "48.D/labels", "128.G/fake"} <= expected.keys()
    assert any(name.startswith("D.adam.exp_avg.") for name in expected)
    for rank in range(size):
        assert_close(runs[f"{size}-{rank}/whole.safetensors"], expected)


@pytest.mark.slow
@pytest.mark.parametrize("name", several.OTHERS)
def test_two_processes_compute_what_one_would_with_other_losses(runs, data, name, tmp_path):
    """Pairs of a relativistic loss among them, and clipped weights, and steps of the penalty alone."""
    expected = several.train(several.make(data, tmp_path / name, config=several.OTHERS[name]))
    for rank in range(2):
        assert_close(runs[f"2-{rank}/{name}.safetensors"], expected)


@pytest.mark.slow
@pytest.mark.parametrize("size", [2, 4])
def test_all_processes_have_the_same_bits(runs, size):
    first = runs[f"{size}-0/whole.safetensors"]
    for rank in range(1, size):
        other = runs[f"{size}-{rank}/whole.safetensors"]
        assert all(torch.equal(first[name], other[name]) for name in first)


@pytest.mark.slow
def test_a_run_goes_on_with_another_number_of_processes(runs):
    """Two processes stop when the second is asked to, one goes on alone, and four end it."""
    ended = runs["4-0/resumed.safetensors"]
    assert {name.split(".")[0] for name in ended} >= {"112", "128", "G_ema"}
    assert_close(ended, {name: runs["one"][name] for name in ended})


@pytest.mark.slow
def test_only_the_first_process_writes_states(runs, tmp_path_factory):
    written = tmp_path_factory.getbasetemp().glob("runs*/*-*/*/*/state-*")
    assert {path.relative_to(path.parents[3]).parts[0] for path in written} == {"2-0", "4-0"}


class Part(Processes):
    """The place of one of several processes, without the others."""

    def __init__(self, rank, size):
        self.rank, self.size = rank, size


@pytest.mark.parametrize("size", [1, 2, 4])
def test_processes_read_each_image_of_an_epoch_once(data, size):
    """40 images in batches of 16: five batches are two epochs."""
    requests = [Request(4, start, 16) for start in range(0, 80, 16)]
    config = override(RunConfig(), {"labels": True, "workers": 0})
    setups = [RunSetup(config, ImageShape(4, 3), CPU, Part(rank, size)) for rank in range(size)]
    feeds = [Feed(setup, open_data(data)) for setup in setups]
    whole = list(Feed(RunSetup(config, ImageShape(4, 3), CPU), open_data(data)).stream(requests))
    shares = [list(feed.stream(requests)) for feed in feeds]
    for i, batch in enumerate(whole):
        for rank, share in enumerate(shares):
            assert torch.equal(share[i].pixels, batch.pixels[rank::size])
            assert torch.equal(share[i].labels, batch.labels[rank::size])
    everything = np.concatenate([open_data(data).order(0, 80, 0)[rank::size] for rank in range(size)])
    assert np.bincount(everything).tolist() == [2] * 40


@pytest.mark.parametrize(("batch", "group", "size"), [(16, 4, 4), (16, 4, 2), (24, 4, 3), (12, 5, 3), (8, 1, 8)])
def test_a_share_has_whole_groups_of_the_minibatch_statistics(batch, group, size):
    x = torch.randn(batch, 3, 4, 4, dtype=torch.float64)
    whole = minibatch_stddev(x, group)
    for rank in range(size):
        assert torch.equal(minibatch_stddev(x[rank::size], group), whole[rank::size])


@pytest.mark.parametrize("size", [2, 4])
def test_random_numbers_are_drawn_for_all_and_shared_out(size):
    def draw(rng, n):
        return [rng.normal(n, 3), rng.uniform(n), rng.integers(n, 100)]

    whole = draw(Rng(1, 2, "D"), 16)
    for rank in range(size):
        for mine, all_rows in zip(draw(Rng(1, 2, "D", rank=rank, size=size), 16 // size), whole, strict=True):
            assert torch.equal(mine, all_rows[rank::size])


def test_buckets_keep_order_size_and_dtype():
    tensors = [torch.zeros(n) for n in (4, 4, 4, 100, 1)] + [torch.zeros(1, dtype=torch.float64)]
    found = buckets(tensors, most=32)
    assert [[t.numel() for t in bucket] for bucket in found] == [[4, 4], [4], [100], [1], [1]]
    assert [t for bucket in found for t in bucket] == tensors
    assert buckets([]) == []


def config(batch_size, **model):
    schedule = ScheduleConfig(resolution=16, batch_size=per_resolution(batch_size))
    return RunConfig(schedule=schedule, model=ProGANConfig(**model))


def test_batches_that_cannot_be_shared_out_are_refused_with_what_works():
    with pytest.raises(
        ConfigError, match=r"16 at 4x4 .* 3 processes. Start one of 1, 2, 4, 8, .* multiples of 3"
    ) as error:
        check_sharding(config({4: 16, 16: 8}), 3)
    assert "\n" not in str(error.value)
    with pytest.raises(ConfigError, match=r"8 at 16x16 .* 16 processes"):
        check_sharding(config({4: 16, 16: 8}), 16)


def test_a_split_group_is_noted():
    assert check_sharding(config({4: 16, 16: 8}), 2) == []
    (note,) = check_sharding(config({4: 16, 16: 8}), 4)
    assert note.startswith("at 16x16 ")
    (note,) = check_sharding(config({4: 16}, mbstd_group=0), 2)
    assert note.startswith("at 4x4, 8x8, 16x16 ")
    assert len(check_sharding(config({4: 16}, mbstd_group=1, batch_norm=0.1), 2)) == 1
    assert check_sharding(config({4: 16}, mbstd_group=1), 16) == []
    assert check_sharding(config({4: 16}, mbstd_group=0), 1) == []


def test_one_process_alone_shares_nothing():
    tensor = torch.tensor([1.0, 3.0])
    ALONE.average([tensor])
    ALONE.wait()
    assert tensor.tolist() == [1, 3]
    assert ALONE.means([2.0]) == [2]
    assert ALONE.any(True)
    assert not ALONE.any(False)
    assert ALONE.broadcast(b"x") == b"x"
    assert ALONE.device("cuda:1") == "cuda:1"


def test_each_process_has_a_device_of_its_own(monkeypatch):
    processes = Several.__new__(Several)
    processes.rank, processes.size = 5, 8
    assert processes.device("cpu") == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert processes.device("auto") == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setenv("LOCAL_RANK", "1")  # of the second machine
    assert processes.device("auto") == processes.device("cuda") == "cuda:1"
    with pytest.raises(DeviceError, match="cuda:1: several processes"):
        processes.device("cuda:1")
    monkeypatch.setenv("LOCAL_RANK", "4")
    with pytest.raises(DeviceError, match=r"--nproc-per-node 4"):
        processes.device("cuda")


class Told(Part):
    """The second of two processes, after the first one, on `head`, has begun a run with this config.json."""

    def __init__(self, begun):
        super().__init__(1, 2)
        self._content = json.dumps(["head", hashlib.sha256(begun).hexdigest()]).encode()

    def broadcast(self, content):
        return self._content


def test_a_host_that_does_not_see_the_run_folder_is_refused_by_name(tmp_path, monkeypatch):
    monkeypatch.setattr(rendezvous, "LATE", 0.2)
    folder = RunFolder(tmp_path / "run")
    message = f"{socket.gethostname()} does not see the run folder {folder.path} that head has begun. Put it"
    with pytest.raises(RunError) as error:
        rendezvous.require_shared(folder.config, Told(b"new"))
    assert str(error.value).startswith(message)
    folder.path.mkdir()
    folder.config.write_bytes(b"of another run here")
    with pytest.raises(RunError):
        rendezvous.require_shared(folder.config, Told(b"new"))
    monkeypatch.setattr(rendezvous, "LATE", 60)
    Timer(0.2, folder.config.write_bytes, [b"new"]).start()  # shared storage that is late
    rendezvous.require_shared(folder.config, Told(b"new"))
    assert folder.config.read_bytes() == b"new"


def test_a_process_that_cannot_meet_the_others_says_why(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(ProcessError, match=r"the 2 processes of this run could not meet: .* RANK expected"), join():
        pass


def test_another_number_of_processes_is_another_way_to_compute():
    two, one = (several.Double("cpu", "fp32", 1, "2.13", size) for size in (2, 1))
    assert two.differences(one) == ["processes 2 -> 1"]


def test_processes_started_again_meet_under_a_new_name():
    """In the store of those before them, of whom one died before it could answer."""
    store = HashStore()
    store.set("question/2", "asked by one that is dead")
    with ThreadPoolExecutor(3) as pool:
        names = [set(pool.map(lambda rank: meet(store, rank, 3), range(3))) for _ in range(2)]
    assert [len(of_all) for of_all in names] == [1, 1]
    assert names[0] != names[1]


FLAGS = (
    "--data avatars:64 --resolution 8 --stable-kimg 0.2 --fade-kimg 0.2 --fmap-max 8 --z-dim 8 --batch-size 16 "
    "--tick-kimg 0.08 --device cpu --precision fp32 --compile off"
).split()


class Torchrun:
    """`progan train` in several processes; what it said is in `err` after `wait`."""

    def __init__(self, size, out, *flags, restarts=0):
        self.stats, self.states = Path(out, "stats.jsonl"), Path(out, "state")
        launch = [
            "-m",
            "torch.distributed.run",
            "--standalone",
            f"--nproc-per-node={size}",
            f"--max-restarts={restarts}",
        ]
        command = [sys.executable, *launch, "-m", "progan", "train", *FLAGS, *flags, "--out", str(out)]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)

    def workers(self):
        """Process numbers, by rank."""
        listed = subprocess.run(["pgrep", "-P", str(self.process.pid)], capture_output=True, text=True, check=True)
        return [int(line) for line in listed.stdout.split()]

    def once_it_trains(self):
        """The same, when there is something to go on from."""
        deadline = time.monotonic() + 300
        while not list(self.states.glob("state-*.safetensors")) and time.monotonic() < deadline:
            time.sleep(0.02)
        return self.workers()

    def wait(self):
        """The exit code."""
        _, self.err = self.process.communicate(timeout=600)
        return self.process.returncode

    @property
    def lines(self):
        return [line for line in self.err.splitlines() if line.startswith("progan: ")]


posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")


@posix
@pytest.mark.long
def test_a_run_of_four_with_one_killed_and_all_started_again_comes_to_its_end(tmp_path):
    run = Torchrun(4, tmp_path / "run", restarts=1)
    os.kill(run.once_it_trains()[2], signal.SIGKILL)
    assert run.wait() == 0, run.err
    (line,) = run.lines
    assert "another one has ended" in line
    assert "going on with" in run.err
    assert load(tmp_path / "run").info.cur_nimg == 608


@posix
@pytest.mark.slow
def test_a_dead_process_ends_the_others_with_one_line_and_nothing_half_written(tmp_path):
    run = Torchrun(2, tmp_path / "run", "--total-kimg", "500")
    os.kill(run.once_it_trains()[0], signal.SIGKILL)
    assert run.wait() != 0
    assert run.lines == [
        "progan: process 2 of 2 stops, as another one has ended or cannot be reached. "
        "The same command goes on from the newest state"
    ], run.err
    assert "progan/cli" not in run.err  # no traceback of ours
    for path in StateFolder(tmp_path / "run" / "state")._paths():
        safetensors.torch.load_file(path)


@pytest.mark.slow
@posix
def test_a_signal_to_one_process_stops_all_and_the_first_alone_writes_and_speaks(tmp_path):
    run = Torchrun(2, tmp_path / "run", "--total-kimg", "500")
    os.kill(run.once_it_trains()[1], signal.SIGTERM)
    assert run.wait() == 0, run.err
    assert run.err.count("To go on: progan train --out") == 1
    seen = [line["cur_nimg"] for line in read_stats(run.stats)]
    assert seen == sorted(set(seen))
    assert len(list((tmp_path / "run" / "tensorboard").iterdir())) == 1
    assert run.err.count(" kimg  ") == len(seen)


@pytest.mark.slow
@posix
def test_the_file_that_stops_a_run_stops_all_processes(tmp_path):
    run = Torchrun(2, tmp_path / "run", "--total-kimg", "500")
    run.once_it_trains()
    (tmp_path / "run" / "stop").touch()
    assert run.wait() == 0, run.err
    assert run.err.count("To go on: progan train --out") == 1
    assert not (tmp_path / "run" / "stop").exists()


@pytest.mark.slow
def test_torchrun_needs_out_and_one_process_says_so(tmp_path):
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "progan"]
    done = subprocess.run([*launch, "train", *FLAGS], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode != 0
    assert done.stderr.count("progan: with torchrun, name the run folder with --out") == 1
    assert list(tmp_path.iterdir()) == []
