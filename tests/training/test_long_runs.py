"""What runs of days need: the best snapshot, an end when nothing improves, a time limit, few files."""

import itertools
import time

import pytest

import progan
from progan.errors import ConfigError
from progan.run.observers import LOW, PATIENCE, Flatness
from progan.training.observers.run_files import MOST_GRIDS, SWD, read_stats, thin
from progan.training.signals import seconds
from tiny import TINY

pytestmark = pytest.mark.usefixtures("own_cache", "traced_once")

RUN = {
    **TINY,
    "resolution": 16,
    "start_resolution": 16,
    "total_kimg": 1.0,
    "metrics_kimg": 0.04,
    "metrics_num": 16,
}


def history(values, phase="stable", resolution=64):
    """Lines of stats.jsonl with an SWD each, its interval one to either side."""
    return [
        {"cur_nimg": 1000 * i, "resolution": resolution, "phase": phase, SWD: value, LOW: value - 1}
        for i, value in enumerate(values)
    ]


@pytest.mark.parametrize(
    ("values", "flat"),
    [
        ([9.0] * PATIENCE, False),  # nothing before them
        ([9.0] * (PATIENCE + 1), True),
        ([9.0, *[8.1] * PATIENCE], True),  # better, but within the interval
        ([9.0, *[8.1] * (PATIENCE - 1), 7.9], False),
        ([9.0, 7.9, *[8.1] * (PATIENCE - 1)], False),
        ([9.0, 7.9, *[8.1] * PATIENCE], True),
        ([9.0, *[20.0] * PATIENCE], True),  # worse is no improvement
        ([20.0 - 2 * i for i in range(9)], False),
    ],
)
def test_a_run_is_flat_if_nothing_is_below_the_interval_of_the_best(values, flat, tmp_path):
    found = Flatness(tmp_path / "stats.jsonl", 64)
    found._lines = history(values)
    assert found() == flat
    # Other resolutions and fades say nothing.
    found._lines = [*history([1.0], resolution=32), *history([1.0], phase="fade"), *history(values)]
    assert found() == flat


@pytest.fixture(scope="module")
def flat(tmp_path_factory):
    """A run that learns next to nothing, which ends when that is seen."""
    return progan.train(out=tmp_path_factory.mktemp("flat") / "run", lr=1e-9, stop_when_flat=True, **RUN)


def test_a_flat_run_ends_with_everything_written(flat):
    lines = read_stats(flat.folder.stats)
    assert flat.finished
    assert flat.cur_nimg == lines[-1]["cur_nimg"] < 1000
    assert "the SWD no longer improves" in lines[-1]["notices"]
    assert sum(LOW in line for line in lines) == PATIENCE + 1
    assert flat.snapshot().info.cur_nimg == flat.cur_nimg
    assert f"{flat.cur_nimg:09d}" in flat.grid().name


@pytest.mark.slow
def test_a_flat_run_stays_ended_and_can_be_told_to_go_on(flat):
    again = progan.train(out=flat.path, quiet=True)
    assert (again.finished, again.cur_nimg) == (True, flat.cur_nimg)
    before = read_stats(flat.folder.stats)
    more = progan.train(out=flat.path, quiet=True, stop_when_flat=False, total_kimg=0.4, allow_change=True)
    assert (more.finished, more.cur_nimg) == (True, 400)
    assert read_stats(flat.folder.stats)[: len(before)] == before


def test_a_run_that_is_to_stop_when_flat_must_be_measured(tmp_path):
    with pytest.raises(ConfigError, match="--stop-when-flat needs measurements: give --metrics-kimg"):
        progan.train(out=tmp_path / "run", **{**RUN, "metrics_kimg": None}, stop_when_flat=True)


@pytest.mark.slow
def test_the_best_snapshot_is_kept_and_a_continued_run_knows_it(tmp_path):
    run = progan.train(out=tmp_path / "run", **{**RUN, "total_kimg": 0.4})

    def best():
        lines = [line for line in read_stats(run.folder.stats) if SWD in line]
        return min(lines, key=lambda line: line[SWD])["cur_nimg"], len(lines)

    kept = progan.load(run.folder.best(16))
    assert kept.info.cur_nimg == best()[0]
    # Going on, a worse measurement leaves it, a better one takes its place.
    run = progan.train(out=tmp_path / "run", total_kimg=0.6, allow_change=True, quiet=True)
    assert best()[1] == 15
    assert progan.load(run.folder.best(16)).info.cur_nimg == best()[0]
    # One of a training that is gone is not kept: here the statistics and the state are those of an earlier moment.
    later = run.folder.best(16)
    later.write_bytes(run.folder.snapshot().read_bytes())
    for path in sorted(run.folder.state.glob("state-*"))[1:]:
        path.unlink()
    again = progan.train(out=tmp_path / "run", quiet=True)
    assert again.cur_nimg == 600
    assert progan.load(run.folder.best(16)).info.cur_nimg == best()[0]


def test_a_time_limit_stops_and_saves(tmp_path, capsys):
    start = time.monotonic()
    settings = {**RUN, "metrics_kimg": None, "total_kimg": 1000, "quiet": False}
    run = progan.train(out=tmp_path / "run", time_limit="1s", **settings)
    assert time.monotonic() - start < 30
    assert not run.finished
    assert run.signal is None
    assert (
        f"stopped at {run.cur_nimg / 1000:g} kimg, all saved. To go on: progan train --out" in capsys.readouterr().err
    )
    again = progan.train(out=tmp_path / "run", time_limit=1e-6, quiet=True)
    assert run.cur_nimg < again.cur_nimg <= run.cur_nimg + 8


@pytest.mark.parametrize(
    ("duration", "expected"),
    [("90s", 90), ("50m", 3000), ("1h30m", 5400), ("2d", 172_800), ("1h 5s", 3605), (12.5, 12.5), (3, 3)],
)
def test_durations(duration, expected):
    assert seconds(duration) == expected


@pytest.mark.parametrize(
    "duration",
    ["", "50", "m", "1m1h", "-3m", "0s", "1.5h", "soon", 0, -1, float("nan"), None, 10**400, "9" * 400 + "d"],
)
def test_what_is_no_duration_is_said(duration):
    with pytest.raises(ConfigError, match=r"--for must be a duration such as 50m, 2h or 1h30m; got "):
        seconds(duration)


def test_grids_are_thinned_evenly_and_neither_the_first_nor_the_last_goes(tmp_path):
    written = []
    for nimg in range(0, 5000, 10):
        written.append(nimg)
        (tmp_path / f"fakes-{nimg:09d}-8x8.png").touch()
        thin(sorted(tmp_path.glob("fakes-*-8x8.png")))
        left = sorted(int(path.name.split("-")[1]) for path in tmp_path.iterdir())
        assert len(left) <= MOST_GRIDS
        assert (left[0], left[-1]) == (0, nimg)
    # Some of them span the time evenly, the rest are the latest.
    assert len(left) >= MOST_GRIDS // 3
    assert max(b - a for a, b in itertools.pairwise(left)) <= 4 * (left[-1] - left[0]) / MOST_GRIDS + 10
