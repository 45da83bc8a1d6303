"""From images shown to resolution, alpha, batch size and learning rate: the official schedule and our own rules."""

import csv
import itertools
import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from progan.config import ScheduleConfig
from progan.per_resolution import RESOLUTIONS, per_resolution
from progan.presets import preset
from progan.schedule import Schedule, Stage
from reference_networks import FOLDER

WALKS = json.loads((FOLDER / "schedule_walk.json").read_text())
RUNS = list(WALKS["info"])
with (FOLDER / "schedule.csv").open() as file:
    ROWS = list(csv.DictReader(file))


def official(run: str) -> ScheduleConfig:
    """Our configuration of a published preset at a final resolution, e.g. `v2-8gpus/res1024`."""
    info = WALKS["info"][run]
    sched, final = info["sched"], int(run.rsplit("res", 1)[1])

    def table(name: str, base: float) -> dict[int, float]:
        return {r: sched.get(name, {}).get(str(r), base) for r in RESOLUTIONS}

    return ScheduleConfig(
        resolution=final,
        stable_kimg=per_resolution(sched.get("lod_training_kimg", 600)),
        fade_kimg=per_resolution(sched.get("lod_transition_kimg", 600)),
        total_kimg=info["total_kimg"],
        batch_size=per_resolution(table("minibatch_dict", sched["minibatch_base"])),
        lr=per_resolution(table("G_lrate_dict", 0.001)),
        d_lr=per_resolution(table("D_lrate_dict", 0.001)),
        schedule_every=4,
    )


@pytest.mark.parametrize("run", RUNS)
def test_every_evaluation_of_the_official_schedule(run: str) -> None:
    schedule = Schedule(official(run))
    name, final = run.split("/res")
    rows = [row for row in ROWS if (row["preset"], row["final_resolution"]) == (name, final)]
    assert len(rows) > 100
    for row in rows:
        stage = schedule.at(int(row["cur_nimg"]))
        assert lod_of(schedule, stage) == pytest.approx(float(row["lod"]), abs=1e-9), row
        assert (stage.resolution, stage.batch_size) == (int(row["resolution"]), int(row["minibatch"])), row
        assert (stage.g_lr, stage.d_lr) == (float(row["G_lrate"]), float(row["D_lrate"])), row


def lod_of(schedule: Schedule, stage: Stage) -> float:
    """The authors' "level of detail": 0 at the final resolution, one more for each halving."""
    return math.log2(schedule.config.resolution / stage.resolution) + (1 - stage.alpha)


def test_every_row_of_the_official_schedule_belongs_to_a_run() -> None:
    assert {f"{row['preset']}/res{row['final_resolution']}" for row in ROWS} == set(RUNS) == set(WALKS["walks"])


@pytest.mark.parametrize(
    "run", [pytest.param(run, marks=[pytest.mark.slow] * (run != "v1-1gpu/res1024")) for run in RUNS]
)
def test_where_the_official_loop_resets_its_optimizers(run: str) -> None:
    """The whole run, evaluation by evaluation."""
    expected, schedule = WALKS["walks"][run], Schedule(official(run))
    resets, key, evaluations = [], None, 0
    for stage, iterations in schedule.walk(0):
        if stage.key != key:
            key, lod = stage.key, lod_of(schedule, stage)
            resets.append((iterations.start, evaluations, stage.resolution, stage.batch_size, stage.g_lr, lod))
        evaluations += 1
    assert resets == [
        (r["cur_nimg"], r["sched_evals"], r["resolution"], r["minibatch"], r["G_lrate"], pytest.approx(float(r["lod"])))
        for r in expected["resets"]
    ]
    assert 4 * evaluations == expected["G_iterations"]


@pytest.mark.parametrize(
    ("name", "run"),
    [
        ("authors1024-8gpu", "v2-8gpus/res1024"),
        ("authors1024-1gpu", "v2-1gpu/res1024"),
        ("paper1024", "v1-1gpu/res1024"),
        ("authors1024-2gpu", "v2-2gpus/res1024"),
        ("authors1024-4gpu", "v2-4gpus/res1024"),
    ],
)
def test_presets_are_the_published_schedules(name: str, run: str) -> None:
    ours, theirs = Schedule(preset(name).schedule), Schedule(official(run))
    assert (ours.spans, ours.total_nimg) == (theirs.spans, theirs.total_nimg)
    assert ours.config.schedule_every == theirs.config.schedule_every
    assert preset(name).dataset.mirror
    assert [ours.at(span.end) for span in ours.spans] == [theirs.at(span.end) for span in theirs.spans]


SMALL = ScheduleConfig(
    resolution=16,
    stable_kimg=per_resolution({4: 1, 8: 2, 16: 3}),
    fade_kimg=per_resolution({8: 0.5, 16: 1}),
    batch_size=per_resolution({4: 50, 16: 25}),
    lr=per_resolution({4: 0.001, 8: 0.002}),
)


@pytest.mark.parametrize(
    ("cur_nimg", "stage"),
    [
        (0, Stage(4, "stable", 1.0, 50, 0.001, 0.001)),
        (1000, Stage(4, "stable", 1.0, 50, 0.001, 0.001)),  # the fade begins with the old resolution …
        (1001, Stage(8, "fade", 0.002, 50, 0.002, 0.002)),  # … and uses the values of the new one
        (1499, Stage(8, "fade", 0.998, 50, 0.002, 0.002)),
        (1500, Stage(8, "stable", 1.0, 50, 0.002, 0.002)),
        (3500, Stage(8, "stable", 1.0, 50, 0.002, 0.002)),
        (4000, Stage(16, "fade", 0.5, 25, 0.002, 0.002)),
        (4500, Stage(16, "stable", 1.0, 25, 0.002, 0.002)),
        (99999, Stage(16, "stable", 1.0, 25, 0.002, 0.002)),
    ],
)
def test_stages_of_a_small_run(cur_nimg: int, stage: Stage) -> None:
    assert Schedule(SMALL).at(cur_nimg) == stage


def test_a_run_without_growing_is_one_stage() -> None:
    config = ScheduleConfig(resolution=32, start_resolution=32, stable_kimg=per_resolution(7))
    schedule = Schedule(config)
    assert [tuple(span) for span in schedule.spans] == [(32, "stable", 0, 7000)]
    assert schedule.total_nimg == 7000
    assert schedule.at(0) == schedule.at(10**9)


def test_stages_without_images_are_left_out() -> None:
    config = ScheduleConfig(resolution=16, fade_kimg=per_resolution(0), stable_kimg=per_resolution({4: 0, 8: 1}))
    assert [tuple(span) for span in Schedule(config).spans] == [(8, "stable", 0, 1000), (16, "stable", 1000, 2000)]


@given(
    kimg=st.lists(st.sampled_from([0, 0.1, 0.37, 1.0]), min_size=6, max_size=6).filter(any),
    batch=st.integers(1, 70),
    every=st.integers(1, 4),
    d_steps=st.integers(1, 3),
)
def test_walking_on_from_any_evaluation_is_the_same_walk(kimg: list[Any], batch: int, every: int, d_steps: int) -> None:
    """What makes a continued run equal an uninterrupted one; and progress, alpha and resolution never go back."""
    config = ScheduleConfig(
        resolution=16,
        stable_kimg=per_resolution(dict(zip((4, 8, 16), kimg[:3], strict=True))),
        fade_kimg=per_resolution(dict(zip((4, 8, 16), kimg[3:], strict=True))),
        batch_size=per_resolution(batch),
        schedule_every=every,
        d_steps=d_steps,
    )
    schedule = Schedule(config)
    walk = list(schedule.walk(0))
    for i in range(0, len(walk), max(1, len(walk) // 5)):
        assert list(schedule.walk(walk[i].iterations.start)) == walk[i:]
    assert all(len(block.iterations) == every and block.iterations.step == batch * d_steps for block in walk)
    assert all(block.end == following.iterations.start for block, following in itertools.pairwise(walk))
    assert all(block.stage == schedule.at(block.iterations.start) for block in walk)
    assert all(0 <= block.stage.alpha <= 1 for block in walk)
    lods = [lod_of(schedule, block.stage) for block in walk]
    assert lods == sorted(lods, reverse=True)
    if walk:
        assert walk[-1].iterations.start < schedule.total_nimg <= walk[-1].end


def test_alpha_is_the_authors_lod() -> None:
    schedule = Schedule(SMALL)
    for cur_nimg in range(0, 7000, 50):
        stage = schedule.at(cur_nimg)
        assert stage.resolution == 16 >> math.floor(lod_of(schedule, stage))
