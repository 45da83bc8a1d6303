"""Choices by speed, from timings whose right answer is known, and the time that is left."""

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import progan
from progan.config import BaseModelConfig, ProGANConfig, RunConfig, RuntimeConfig, ScheduleConfig
from progan.devices import cores
from progan.errors import ConfigError
from progan.models import ImageShape
from progan.options import override, parse_json
from progan.per_resolution import PerResolution, per_resolution
from progan.presets import PRESETS, preset
from progan.run.assemble import set_up
from progan.run_folder import RunFolder
from progan.schedule import Schedule, in_images, unreached
from progan.training import numerics
from progan.training.numerics import Numerics, choose, wished_threads
from progan.training.parallel.processes import ALONE
from progan.training.preflight import autotune
from progan.training.preflight.autotune import climb
from progan.training.preflight.estimate import Pace, announcement, build_seconds, too_long
from progan.training.preflight.trials import LEAST, MOST, Evidence, Seconds, compare, judge, remembered
from progan.training.setup import RunSetup
from progan.training.state import StateFolder
from steps import CPU

SURE = Evidence(1.5, 1.4, 1.6, 6, sure=True)


class Machine:
    """Clocks of a machine on which work takes as long as it is told, and other programs wait now and then as well."""

    def __init__(self, seed: int, busy: float = 0.0, noise: float = 0.05) -> None:
        self._random, self._busy, self._noise = random.Random(seed), busy, noise
        self.elapsed = self.processor = 0.0

    def __call__(self) -> Seconds:
        return Seconds(self.elapsed, self.processor)

    def work(self, seconds: float) -> Callable[[], None]:
        def call() -> None:
            took = seconds * self._random.uniform(1 - self._noise, 1 + self._noise)
            self.processor += took
            # Turns of other processes: sometimes none, sometimes many.
            self.elapsed += took + self._random.choice((0, 0, 1, 5)) * self._busy

        return call


def times(*elapsed: float) -> list[Seconds]:
    return [Seconds(each, each) for each in elapsed]


@pytest.mark.parametrize("busy", [0.0, 1.0])
@pytest.mark.parametrize(("gain", "faster"), [(1.5, True), (1.2, True), (0.8, False), (0.5, False)])
def test_ten_trials_find_the_same_on_a_quiet_and_on_a_busy_machine(gain: float, faster: bool, busy: float) -> None:
    for seed in range(10):
        machine = Machine(seed, busy)
        evidence = compare(machine.work(0.1 * gain), machine.work(0.1), clock=machine)
        assert (evidence.sure, evidence.faster) == (True, faster)
        assert evidence.low <= evidence.gain <= evidence.high
        assert evidence.gain == pytest.approx(gain, rel=0.1)


def test_where_the_spread_is_larger_than_the_difference_the_safe_one_is_taken() -> None:
    found = [compare(machine.work(0.1), machine.work(0.1), clock=machine) for machine in map(Machine, range(20))]
    assert sum(not each.sure for each in found) >= 15
    unsure = next(each for each in found if not each.sure)
    assert unsure.rounds == MOST, "as many as there may be, to become sure"
    assert not unsure.faster
    assert "not sure" in str(unsure)


def test_a_trial_ends_when_its_time_is_up() -> None:
    machine = Machine(0)
    evidence = compare(machine.work(4.0), machine.work(4.0), clock=machine)
    assert evidence.rounds == LEAST


def test_the_interval_is_that_of_the_sign_test() -> None:
    """Six that agree are sure (2 of 64 by chance); of nine one may differ, of eight (18 of 256) none."""
    ones = times(*[1.0] * 9)
    assert judge(ones[:6], times(*[0.5] * 6)).sure
    assert not judge(ones[:6], times(*[0.5] * 5, 2.0)).sure
    assert not judge(ones[:8], times(*[0.5] * 7, 2.0)).sure
    assert judge(ones, times(*[0.5] * 8, 2.0)) == Evidence(2.0, 2.0, 2.0, 9, sure=True, waited=1.0)
    assert not judge(ones, times(*[0.5] * 7, 2.0, 2.0)).sure


def test_clocks_that_contradict_each_other_are_not_sure() -> None:
    slow, quick = [Seconds(1.0, 1.0)] * 6, [Seconds(2.0, 0.5)] * 6
    assert not judge(slow, quick).sure
    assert judge(slow, quick, processor=False) == Evidence(0.5, 0.5, 0.5, 6, sure=True, waited=1.0)


def test_who_is_first_changes_from_round_to_round() -> None:
    machine, called = Machine(0), ""

    def note(name: str) -> Callable[[], None]:
        def call() -> None:
            nonlocal called
            called += name
            machine.elapsed += 1
            machine.processor += 1

        return call

    compare(note("a"), note("b"), clock=machine)
    assert called.startswith("ab" + "abba" * 3)


# Threads


def told(**gains: float) -> Callable[[int, int], Evidence]:
    """A trial that finds `x2=1.5`: two threads are 1.5 times as fast as half of them."""

    def compare(few: int, many: int) -> Evidence:
        gain = gains[f"x{many}"]
        sure = not 0.9 < gain < 1.1
        return Evidence(gain, gain - 0.05, gain + 0.05, 6, sure, waited=gains.get("waited", 1.0))

    return compare


@pytest.mark.parametrize(
    ("most", "gains", "threads", "lasts"),
    [
        (2, {"x2": 1.6}, 2, True),
        (2, {"x2": 0.04}, 1, True),
        (2, {"x2": 1.05}, 1, False),
        (6, {"x2": 1.9, "x4": 1.5, "x6": 1.2}, 6, True),
        (8, {"x2": 1.9, "x4": 1.5, "x8": 0.7}, 4, True),
        (2, {"x2": 0.04, "waited": 3.0}, 1, False),
        (2, {"x2": 1.6, "waited": 3.0}, 2, False),
    ],
)
def test_threads_are_doubled_as_long_as_that_is_surely_faster(
    most: int, gains: dict[str, float], threads: int, lasts: bool
) -> None:
    """What a busy machine has shown is not remembered."""
    found = climb(most, told(**gains))
    assert (found.threads, found.lasts) == (threads, lasts)


@pytest.fixture
def unset(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """A machine with four cores on which nobody has asked for a number of threads."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("PROGAN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(numerics, "cores", lambda: 4)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    monkeypatch.setattr(torch, "set_num_threads", lambda n: None)
    return monkeypatch


def decide(**options: Any) -> tuple[int, list[str]]:
    said: list[str] = []
    config = override(RunConfig(), {"device": "cpu", "precision": "fp32", **options})
    return autotune.decide_threads(
        RunSetup(config, ImageShape(64, 3), choose(config.runtime), log=said.append)
    ).threads, said


def test_threads_are_tried_once_on_a_quiet_machine_and_again_on_a_busy_one(unset: Any) -> None:
    tried: list[float] = []

    def trial(gain: float, busy: bool) -> Callable[..., Evidence]:
        def call(*_: Any) -> Evidence:
            tried.append(gain)
            return Evidence(gain, gain, gain, 6, True, waited=3.0 if busy else 1.0, threads=4 if gain > 1 else 1)

        return call

    unset.setattr(autotune, "try_threads", trial(0.1, busy=True))
    threads, said = decide()
    assert threads == 1
    assert "more would be 0.10 times as fast (0.10 to 0.10); other programs are busy here" in said[0]
    unset.setattr(autotune, "try_threads", trial(1.5, busy=False))
    assert decide()[0] == 4
    unset.setattr(autotune, "try_threads", trial(0.1, busy=False))
    threads, said = decide()
    assert (threads, tried) == (4, [0.1, 1.5])
    assert said == ["4 threads of 4: at 16x16, they are 1.50 times as fast (1.50 to 1.50) as fewer"]
    assert decide(threads=2) == (2, []), "as was asked for"
    assert decide(threads=64) == (4, []), "and a core for each"
    unset.setenv("OMP_NUM_THREADS", "4")
    assert decide() == (4, [])


def test_a_trial_leaves_the_number_of_threads_as_it_was() -> None:
    config = override(RunConfig(), {"fmap_max": 4, "z_dim": 4, "fmap_base": 16, "resolution": 4})
    before = torch.get_num_threads()
    setup = RunSetup(config, ImageShape(4, 3), replace(CPU, threads=2))
    found = autotune.try_threads(setup, autotune.trial_stage(setup))
    assert found.threads in (1, 2)
    assert found.rounds >= LEAST
    assert torch.get_num_threads() == before


def test_what_was_remembered_otherwise_or_is_damaged_is_tried_again(unset: Any, tmp_path: Path) -> None:
    assert remembered("bf16", [1], lambda: SURE) == SURE
    assert remembered("bf16", [1], lambda: replace(SURE, gain=9.0)) == SURE
    path = tmp_path / "cache" / "measured.json"
    (key,) = json.loads(path.read_text())
    for content in ({key: 3.5}, {key: {**vars(SURE), "gain": "fast"}}, [], 7):
        path.write_text(json.dumps(content))
        assert remembered("bf16", [1], lambda: replace(SURE, gain=9.0)).gain == 9.0


TINY: dict[str, Any] = {
    "data": "avatars:64", "resolution": 4, "batch_size": 8, "fmap_max": 4, "z_dim": 4, "device": "cpu",
    "loss": "wgan-gp", "compile": "off", "precision": "fp32",
}  # fmt: skip


@pytest.mark.slow
def test_a_run_goes_on_with_its_threads_and_says_once_where_it_cannot(
    unset: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, asked = tmp_path / "run", list[int]()
    unset.setattr(torch, "set_num_threads", asked.append)
    unset.setattr(autotune, "try_threads", lambda *_: replace(SURE, threads=3))

    def go_on(kimg: float, **options: Any) -> tuple[int, str]:
        asked.clear()
        progan.train(out=out, total_kimg=kimg, allow_change=True, **TINY, **options)
        recorded = StateFolder(out / "state").numerics()
        assert recorded is not None
        assert recorded.threads in asked
        return recorded.threads, capsys.readouterr().err

    assert go_on(0.02)[0] == 3
    unset.setattr(autotune, "try_threads", None)
    threads, said = go_on(0.04)
    assert threads == 3
    assert "bits may differ" not in said
    threads, said = go_on(0.06, threads=2)
    assert threads == 2
    assert "(threads 3 -> 2): the bits may differ" in said
    threads, said = go_on(0.08)
    assert threads == 2
    assert "bits may differ" not in said, "once"
    unset.setattr(numerics, "cores", lambda: 1)
    threads, said = go_on(0.1)
    assert threads == 1
    assert "(threads 2 -> 1): the bits may differ" in said


def test_other_threads_need_no_leave(unset: Any, tmp_path: Path) -> None:
    unset.setattr(autotune, "try_threads", lambda *_: replace(SURE, threads=3))
    progan.train(out=tmp_path / "run", total_kimg=0.02, quiet=True, **TINY)
    again = progan.train(out=tmp_path / "run", total_kimg=0.02, quiet=True, threads=2, **TINY)
    assert again.finished
    with pytest.raises(progan.ProganError, match="seed"):
        progan.train(out=tmp_path / "run", total_kimg=0.02, quiet=True, threads=2, seed=3, **TINY)


def test_cores_are_those_of_the_quota(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    assert cores(tmp_path) == 8
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("0::/job/step\n")
    (tmp_path / "sys/fs/cgroup/job/step").mkdir(parents=True)
    (tmp_path / "sys/fs/cgroup/job/step/cpu.max").write_text("max 100000\n")
    assert cores(tmp_path) == 8
    (tmp_path / "sys/fs/cgroup/job/cpu.max").write_text("250000 100000\n")
    assert cores(tmp_path) == 3
    (tmp_path / "proc/self/cgroup").write_text("3:cpu,cpuacct:/a\n2:memory:/a\n")
    (tmp_path / "sys/fs/cgroup/cpu/a").mkdir(parents=True)
    (tmp_path / "sys/fs/cgroup/cpu/a/cpu.cfs_period_us").write_text("100000\n")
    for quota, found in (("-1", 8), ("100000", 1)):
        (tmp_path / "sys/fs/cgroup/cpu/a/cpu.cfs_quota_us").write_text(quota)
        assert cores(tmp_path) == found


@pytest.mark.parametrize(
    ("given", "found"), [({}, "10000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "active"}, "None")]
)
def test_threads_do_not_spin_for_long_unless_that_was_asked_for(given: dict[str, str], found: str) -> None:
    names = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
    environment = {name: value for name, value in os.environ.items() if name not in names}
    code = "import progan, os; print(os.environ.get('GOMP_SPINCOUNT'))"
    done = subprocess.run([sys.executable, "-c", code], env={**environment, **given}, capture_output=True, text=True)
    assert done.stdout.strip() == found, done.stderr


# Winograd's algorithm


@pytest.mark.parametrize(
    ("options", "device", "expected"),
    [
        ({"precision": "fp32"}, "cpu", True),
        ({"precision": "fp32", "fmap_max": 127}, "cpu", None),
        ({"precision": "fp32", "resolution": 4}, "cpu", None),
        ({"precision": "fp32", "winograd": "off"}, "cpu", None),
        ({"precision": "bf16"}, "cpu", None),
        ({"precision": "fp32", "fmap_max": 8, "winograd": "on"}, "cpu", "on"),
        ({"precision": "bf16", "winograd": "on"}, "cpu", None),
        ({"precision": "fp32", "winograd": "on"}, "cuda", None),
        ({"precision": "fp32", "model": "dcgan", "start_resolution": 64}, "cpu", None),
    ],
)
def test_winograds_algorithm_is_tried_where_networks_are_wide_and_in_fp32(
    options: dict[str, str], device: str, expected: bool | str | None, unset: Any
) -> None:
    tried: list[Numerics] = []

    def measured(setup: RunSetup, other: Numerics, stage: Any) -> Evidence:
        tried.append(other)
        return evidence

    unset.setattr(autotune, "measure_gain", measured)
    unset.setattr(autotune, "remembered", lambda what, facts, measure: measure())
    unset.setattr(autotune, "free_bytes", lambda device: 2**40)
    config = override(preset("celeba64"), options)
    said: list[str] = []
    now = replace(CPU, device=device, precision=config.runtime.precision)
    setup = RunSetup(config, ImageShape(64, 3), now, log=said.append)
    for evidence in (SURE, Evidence(1.5, 0.9, 1.9, 24, sure=False), Evidence(0.8, 0.7, 0.9, 6, sure=True)):
        found = autotune.decide_winograd(setup)
        assert found == replace(now, winograd=expected == "on" or bool(expected and evidence is SURE))
    assert [each.winograd for each in tried] == [True] * 3 * (expected is True)
    if tried:
        assert said[0] == (
            "Winograd's algorithm: at 16x16, a step with it is 1.50 times as fast (1.40 to 1.60) as one without"
        )
        assert said[1].startswith(
            "Winograd's algorithm: not used: at 16x16, a step with it is 1.50 times as fast (0.90"
        )


def test_winograds_algorithm_is_left_out_where_it_may_not_find_its_memory(unset: Any) -> None:
    """As the largest stage would take 8.7 GiB with it and 7.2 without; nothing is tried then."""
    unset.setattr(autotune, "remembered", lambda what, facts, measure: SURE)
    setup = RunSetup(preset("celeba64"), ImageShape(64, 3), CPU)
    for gib, expected in ((9, False), (12, True)):
        unset.setattr(autotune, "free_bytes", lambda device, gib=gib: gib * 2**30)
        assert autotune.decide_winograd(setup).winograd == expected


def test_a_plan_has_winograds_algorithm_where_it_is_asked_for_or_was_found_faster(unset: Any) -> None:
    unset.setattr(autotune, "free_bytes", lambda device: 2**40)
    for recalled, wish, expected in (
        (None, "auto", False),
        (SURE, "auto", True),
        (SURE, "off", False),
        (None, "on", True),
    ):
        unset.setattr(autotune, "recalled", lambda what, facts, known=recalled: known if what == "winograd" else None)
        config = override(preset("celeba64"), {"precision": "fp32", "winograd": wish})
        assert autotune.foresee(RunSetup(config, ImageShape(64, 3), CPU))[0].winograd == expected


def test_a_run_that_moves_to_a_gpu_leaves_winograds_algorithm_behind(unset: Any, tmp_path: Path) -> None:
    recorded = Numerics("cpu", "fp32", 4, torch.__version__, winograd=True)
    unset.setattr(StateFolder, "numerics", lambda self: recorded)
    data = type("Data", (), {"channels": 3, "label_names": (), "label_kind": None})()
    kept: list[bool] = []
    for device, expected in (("cpu", True), ("cuda:0", False)):
        unset.setattr(numerics, "choose", lambda *_, device=device: replace(recorded, device=device, winograd=False))
        unset.setattr(sys.modules[set_up.__module__], "keep_pages", kept.append)
        said: list[str] = []
        found = set_up(RunConfig(), data, RunFolder(tmp_path), said.append, ALONE)
        assert found.numerics.winograd == expected
        assert [line for line in said if "winograd True -> False" in line] == said[: not expected]
    assert kept == [True], "memory of the CPU is kept for it alone"


@pytest.mark.parametrize("begun", [True, False])
@pytest.mark.slow
def test_a_run_goes_on_with_or_without_winograds_algorithm_as_it_was_begun(
    tmp_path: Path, begun: bool, unset: Any
) -> None:
    for kimg, now in ((0.02, begun), (0.04, not begun)):
        unset.setattr(autotune, "decide_winograd", lambda setup, now=now: replace(setup.numerics, winograd=now))
        progan.train(out=tmp_path, total_kimg=kimg, allow_change=True, quiet=True, **TINY)
        recorded = StateFolder(tmp_path / "state").numerics()
        assert recorded is not None
        assert recorded.winograd == begun


def test_states_of_before_there_was_a_choice_are_without() -> None:
    recorded = {"device": "cpu", "precision": "fp32", "threads": 1, "torch_version": "2.9", "processes": 1}
    assert not parse_json(Numerics, {**recorded, "compiled": []}).winograd


@pytest.mark.skipif(sys.platform != "linux", reason="mallopt is glibc's")
def test_memory_of_large_tensors_is_kept_for_the_next_ones() -> None:
    """The first seven may each find a new place: so many of the gaps that alignment leaves does glibc set aside."""
    code = """
import resource, torch
from progan.devices import keep_pages
keep_pages(True)
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(16):
    torch.ones(2**24)
before = faults()
for _ in range(4):
    torch.ones(2**24)
print(faults() - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert int(done.stdout) < 2**14, done.stderr  # each has 2**14 pages


# Compiling


@pytest.mark.slow
def test_what_is_compiled_is_decided_after_the_first_grid(unset: Any, tmp_path: Path) -> None:
    """Its trials may take a minute; what is found is in the states, and not asked again where the run goes on."""
    grids: list[int] = []

    def decided(setup: RunSetup, cost: dict[int, float]) -> tuple[Numerics, Pace]:
        grids.append(len(list(tmp_path.glob("run/samples/fakes-*.png"))))
        return replace(setup.numerics, compiled=(32,)), Pace(setup.schedule, cost, {})

    unset.setattr(autotune, "decide_compiled", decided)
    for kimg in (0.02, 0.04):
        progan.train(out=tmp_path / "run", total_kimg=kimg, allow_change=True, quiet=True, **TINY)
        recorded = StateFolder(tmp_path / "run" / "state").numerics()
        assert recorded is not None
        assert recorded.compiled == (32,)
    assert grids == [1]


def test_a_step_is_compiled_where_a_trial_has_shown_that_it_pays(unset: Any) -> None:
    """16: 24,000 images of 0.1 s. Built twice, as it fades: 52 s where the trial's build took as long as foreseen."""
    unset.setattr(autotune, "missing", lambda device: None)
    schedule = ScheduleConfig(16, 8, stable_kimg=per_resolution(12), fade_kimg=per_resolution(12))
    config, cost = override(RunConfig(schedule=schedule), {"precision": "fp32"}), {8: 0.001, 16: 0.1}

    def decided(evidence: Evidence) -> tuple[tuple[int, ...], Pace, str]:
        unset.setattr(autotune, "remembered", lambda *_: evidence)
        said: list[str] = []
        found, pace = autotune.decide_compiled(RunSetup(config, ImageShape(16, 3), CPU, log=said.append), cost)
        return found.compiled, pace, said[0]

    foreseen = build_seconds(16)
    compiled, pace, said = decided(replace(SURE, build=foreseen))
    assert compiled == (16,)
    assert pace.building(0) == pytest.approx(2 * foreseen)
    assert pace.left(0) == pytest.approx(12 + 2400 / 1.5 + 2 * foreseen)
    assert "a compiled step is 1.50 times as fast" in said
    # A build that took twenty times as long would cost more than the 0.3 of the time that it surely saves.
    compiled, _, said = decided(replace(SURE, build=20 * foreseen))
    assert (compiled, "too short" in said) == ((), True)
    compiled, pace, said = decided(Evidence(1.1, 0.9, 1.3, 24, sure=False, build=foreseen))
    assert (compiled, pace.building(0)) == ((), 0)
    assert said.startswith(
        "steps are not compiled: at 16x16, a compiled step is 1.10 times as fast (0.90 to 1.30, which"
    )


def test_what_cannot_be_built_is_not_faster(unset: Any) -> None:
    from progan.training.accelerate import traced

    unset.setattr(traced, "_compile", lambda function, example, kernels: 1 / 0 if kernels else function)
    config = override(RunConfig(), {"fmap_max": 4, "z_dim": 4, "fmap_base": 16, "resolution": 4})
    said: list[str] = []
    setup = RunSetup(config, ImageShape(4, 3), CPU, log=said.append)
    assert not autotune.try_compiled(setup, autotune.trial_stage(setup)).faster
    assert "warning: 4x4 stable goes on uncompiled (ZeroDivisionError: division by zero)" in said


# The time that is left


SCHEDULE = Schedule(ScheduleConfig(16, 4, stable_kimg=per_resolution(10), fade_kimg=per_resolution(10)))
"""10,000 images at 4x4, 20,000 at 8x8, 20,000 at 16x16."""
COST = {4: 0.001, 8: 0.002, 16: 0.01}


def test_the_time_left_is_that_of_each_stage() -> None:
    pace = Pace(SCHEDULE, COST, {16: 30.0})
    assert pace.left(0) == pytest.approx(10 + 40 + 200 + 2 * 30)
    assert pace.left(20_000) == pytest.approx(20 + 200 + 60)
    pace.built((16, "fade"), 30.0)
    assert pace.left(40_000) == pytest.approx(100 + 30)
    assert pace.left(50_000) == pytest.approx(0)


@pytest.mark.parametrize("wrong", [0.3, 0.7, 1.0, 1.5, 3.0])
def test_from_the_second_minute_on_it_is_right_within_a_factor_of_one_and_a_half(wrong: float) -> None:
    """Also where all estimates were wrong alike, and though single ticks take half or twice as long as others."""
    cost = {4: 0.005, 8: 0.01, 16: 0.05}
    pace, noise, elapsed = Pace(SCHEDULE, {r: wrong * each for r, each in cost.items()}, {}), random.Random(0), 0.0
    for cur_nimg in range(1000, 50_000, 1000):
        resolution = SCHEDULE.at(cur_nimg).resolution
        seconds = 1000 * cost[resolution] * noise.choice((0.7, 0.8, 1.0, 1.2, 1.3))
        pace.measure(resolution, 1000, seconds)
        elapsed += seconds
        if elapsed > 60:
            right = Pace(SCHEDULE, cost, {}).left(cur_nimg)
            assert 1 / 1.5 < pace.left(cur_nimg) / right < 1.5


def test_one_tick_does_not_change_it_much() -> None:
    pace = Pace(SCHEDULE, COST, {})
    for _ in range(10):
        pace.measure(8, 5000, 10.0)
    before = pace.left(20_000)
    pace.measure(8, 100, 4.0)  # twenty times as slow
    assert pace.left(20_000) < 1.1 * before


def test_builds_that_took_longer_are_foreseen_to_do_so_again() -> None:
    pace = Pace(SCHEDULE, COST, {8: 20.0, 16: 30.0})
    assert pace.build(16) == 30.0
    pace.built((8, "fade"), 90.0)
    assert pace.build(16) == pytest.approx(30 * (10 + 90) / (10 + 20))
    assert Pace(SCHEDULE, COST, {}).build(16) == build_seconds(16)


def test_more_than_a_day_is_said_with_what_takes_less() -> None:
    assert too_long(preset("paper1024"), 24 * 3600) is None
    said = too_long(preset("paper1024"), 24 * 3600 * 40) or ""
    assert "about 40 d 0 h here" in said
    assert all(word in said for word in ("--fmap-max 128", "quickstart", "--device cuda"))
    assert "--width" in (too_long(preset("dcgan64"), 1e6) or "")
    assert "(quickstart)" in (too_long(preset("celeba64-laptop"), 1e6) or "")
    assert "quickstart" not in (too_long(preset("quickstart"), 1e6) or "")


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (ProGANConfig(fmap_max=32), "narrower networks (--fmap-max 16), a"),
        (ProGANConfig(fmap_max=8), "Less takes: a smaller preset"),
        (ProGANConfig(fmaps=PerResolution.of(64)), "narrower networks (--fmaps), a"),
        (type("Other", (BaseModelConfig,), {"kind": "other", "least_resolution": 4})(), "Less takes: a smaller preset"),
    ],
)
def test_networks_that_cannot_be_narrower_are_not_said_to(model: Any, said: str) -> None:
    """A model of another package has options of its own."""
    assert said in (too_long(replace(preset("paper1024"), model=model), 1e6) or "")


def test_more_than_an_hour_is_said_with_a_way_to_a_shorter_run() -> None:
    config = preset("quickstart")
    schedule = Schedule(config.schedule)

    def said(seconds: float, **others: bool) -> list[str]:
        each = seconds / schedule.total_nimg
        return announcement(config, Pace(schedule, dict.fromkeys((4, 8, 16, 32, 64), each), {}), 0, **others)

    assert said(7200, shorten=True) == ["this will take about 2 h 0 min; a new run with --minutes 30 is shorter"]
    assert said(7200) == ["this will take about 2 h 0 min"]  # of a run that was begun, or of so many minutes
    assert said(1800, shorten=True) == ["this will take about 30 min"]
    assert said(30, shorten=True) == []


# Lengths


def test_a_total_that_ends_before_the_last_resolution_is_said_and_no_preset_has_one() -> None:
    said = unreached(override(preset("mnist32-paper"), {"total_kimg": 50}).schedule) or ""
    assert said.startswith("--total-kimg 50 ends at 16x16: 32x32 begins after 60 kimg")
    assert unreached(override(preset("mnist32-paper"), {"total_kimg": 60.1}).schedule) is None
    for name in PRESETS:
        assert unreached(in_images(preset(name).schedule, 50_000)) is None, name
    none = unreached(override(preset("mnist32-paper"), {"stable_kimg": "4:8,16:0", "fade_kimg": "8:8,16:0"}).schedule)
    assert none == "32x32 gets no images: raise --stable-kimg or --fade-kimg there, or ask for --resolution 8"


@pytest.fixture
def paced(unset: Any) -> Any:
    """A machine on which an image takes 5 ms at 4x4 and 10 at 8x8, and nothing is tried."""
    unset.setenv("OMP_NUM_THREADS", "1")
    unset.setattr(autotune, "speeds", lambda *_: {4: 0.005, 8: 0.01})
    return unset


SHARES: dict[str, Any] = {**TINY, "resolution": 8, "stable_kimg": "4:10,8:30", "fade_kimg": 20, "quiet": True}


@pytest.mark.slow
def test_minutes_become_kimg_of_which_every_stage_keeps_its_share(paced: Any, tmp_path: Path, capsys: Any) -> None:
    """50 s + 500 s become 0.55 s: 10, 20 and 30 images of each 10,000."""
    run = progan.train(out=tmp_path / "run", minutes=0.55 / 60, **SHARES)
    config, _ = RunFolder(tmp_path / "run").read()
    assert [images for _, images in Schedule(config.schedule).extents()] == [10, 20, 30]
    assert (run.finished, run.cur_nimg) == (True, 64)
    paced.setattr(autotune, "speeds", None)
    again = progan.train(out=tmp_path / "run", minutes=0.55 / 60, **{**SHARES, "quiet": False})
    assert (again.finished, again.cur_nimg) == (True, 64), "the same command goes on with what was recorded"
    assert RunFolder(tmp_path / "run").read()[0] == config
    assert "note: --minutes is for a new run, and this one keeps its 0.06 kimg" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("minutes", "more", "said"),
    [
        (0, {}, "--minutes must be above 0 and at most 10,000,000; got 0"),
        (1e14, {}, "--minutes must be above 0 and at most 10,000,000; got 1e\\+14"),
        (float("nan"), {}, "--minutes must be a number"),
        (1, {"total_kimg": 5}, "Give either --minutes or --total-kimg"),
        (1e-5, {}, "less than a batch"),
    ],
)
def test_minutes_that_cannot_be(paced: Any, tmp_path: Path, minutes: float, more: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        progan.train(out=tmp_path / "run", minutes=minutes, **SHARES, **more)
    assert not (tmp_path / "run").exists()


def test_compiling_is_part_of_the_minutes(unset: Any) -> None:
    """At 4x4 10 s build, then 16 s of the 26 are left for images of 2.5 ms."""
    unset.setattr(autotune, "speeds", lambda *_: {4: 0.005})
    unset.setattr(autotune, "_compiled", lambda *_: ((4,), 2.0, 1.0))
    config = override(RunConfig(), {"resolution": 4, "stable_kimg": 100})
    setup, pace = autotune.fit_into(RunSetup(config, ImageShape(4, 3), CPU), 26 / 60)
    assert setup.schedule.total_nimg == 6400
    assert setup.numerics.compiled == (4,)
    assert pace.left(0) == pytest.approx(26)


def test_recorded_threads_of_before_are_taken(unset: Any, tmp_path: Path) -> None:
    """Every state has ever recorded its threads; what is more than there are cores here becomes fewer."""
    assert wished_threads(RuntimeConfig()) is None
    unset.setattr(StateFolder, "numerics", lambda self: Numerics("cpu", "fp32", 9, torch.__version__))
    said: list[str] = []
    config = override(RunConfig(), {"resolution": 4, "device": "cpu"})
    data = type("Data", (), {"channels": 3, "label_names": (), "label_kind": None})()
    found = set_up(config, data, RunFolder(tmp_path), said.append, ALONE)
    assert found.numerics.threads == 4
    assert "threads 9 -> 4" in said[0]
