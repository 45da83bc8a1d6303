"""Observers that write a run's files: sample grids, snapshots and stats.jsonl."""

import dataclasses
import json
import math
import re
import sys
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from progan import randomness
from progan.errors import SnapshotError
from progan.files import AppendOnlyFile, FileQueue, write_whole
from progan.images import at_once, grid, pil_image, to_pixels, upscale
from progan.options import json_text
from progan.run_folder import GRID_GAP, SMALLEST_CELL, RunFolder
from progan.schedule import Schedule, Stage
from progan.snapshot import SnapshotInfo, generate, load, of_generator
from progan.training.observers.base import Observer, Tick
from progan.training.state import TrainingState

SWD = "metrics/G_ema/swd"
"""Name in stats.jsonl of the measurement by which the averaged generator is judged."""
GRID_COLUMNS = {128: 6, 256: 4, 512: 3, 1024: 2}
"""Number of columns (and rows) of a sample grid; 8 below 128."""
MOST_GRIDS = 64
"""Sample grids kept of each resolution: where there are more, about half go, neither the first nor the last."""
CHART_SIDE = 512
"""Largest side in pixels of a sample grid among charts, which keep all of them."""
MOST_CLASSES = 10
"""Most rows of a grid of classes."""


def columns(resolution: int) -> int:
    """Number of columns of a sample grid at this resolution."""
    return GRID_COLUMNS.get(resolution, 8)


def picture(pixels: Tensor, across: int) -> bytes:
    """Pixels uint8 [N, C, R, R] -> a PNG of the grid, cells no smaller than 64 pixels."""
    factor = max(1, SMALLEST_CELL // pixels.shape[2])
    file = BytesIO()
    pil_image(grid(upscale(pixels.cpu().float(), factor).to(torch.uint8), across, gap=GRID_GAP)).save(file, "png")
    return file.getvalue()


def grid_name(cur_nimg: int, resolution: int) -> str:
    """File of the sample grid that is written after so many images."""
    return f"fakes-{cur_nimg:09d}-{resolution}x{resolution}.png"


class SampleGrids(Observer):
    """Folder `samples/`: grids of the averaged generator's images from latents that never change.

    With classes a row for each of the first ten, with the same latents; with attributes labels as the data has them.
    """

    def __init__(
        self, folder: Path, z_dim: int, label_kind: str | None, label_rows: Tensor | None, grid_kimg: float | None
    ) -> None:
        self._folder, self._kind, self._label_rows = folder, label_kind, label_rows
        self._grid_nimg = 1000 * (grid_kimg or 0)
        self._z = torch.from_numpy(randomness.latents(range(64), z_dim))
        self._last = -1
        self._queue = FileQueue()

    def on_start(self, state: TrainingState, stage: Stage) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._last = forget_later(state.cur_nimg, self._folder, "fakes")
        if state.cur_nimg == 0:  # what training begins with, as the authors have it
            self._write(stage, state)

    def on_tick(self, tick: Tick, state: TrainingState) -> None:
        if tick.cur_nimg - self._last >= self._grid_nimg:
            self._write(tick.stage, state)
        else:
            self._queue.flush()

    def on_stage_end(self, stage: Stage, following: Stage | None, state: TrainingState) -> None:
        if self._last != state.cur_nimg:
            self._write(stage, state)

    def on_end(self, finished: bool, state: TrainingState) -> None:
        self._queue.flush()

    def _write(self, stage: Stage, state: TrainingState) -> None:
        self._last = state.cur_nimg
        across = columns(stage.resolution)
        z, labels = self._z[: across**2], self._label_rows
        if labels is not None:
            labels = labels[torch.arange(len(z)) % len(labels)]  # the data may be small
        if self._label_rows is not None and self._kind == "class":
            classes = min(self._label_rows.shape[1], MOST_CLASSES)
            labels = torch.eye(self._label_rows.shape[1])[:classes].repeat_interleave(across, 0)
            z = self._z[:across].repeat(classes, 1)
        pixels = sample(state, stage, z, labels)
        self._queue.put(self._folder / grid_name(state.cur_nimg, stage.resolution), picture(pixels, across))
        thin(sorted(self._folder.glob(f"fakes-*-{stage.resolution}x{stage.resolution}.png")))


def forget_later(cur_nimg: int, folder: Path, kind: str) -> int:
    """Delete grids or generators (`fakes`, `generator`) that are later than the state: of a training that is gone.

    Returns `cur_nimg` of the newest left, 0 of none, so that a run that was stopped writes the next when one that was
    not does. Files of other names are the user's, and where all states are gone nothing is deleted.
    """
    left = [0]
    for path in folder.iterdir():
        if named := re.fullmatch(rf"{kind}-(\d{{9,}})-(\d+)x\2\.(?:png|safetensors)", path.name):
            if int(named[1]) <= cur_nimg:
                left.append(int(named[1]))
            elif cur_nimg > 0:
                path.unlink()
    return max(left)


def thin(paths: Sequence[Path]) -> None:
    """Delete grids of a resolution, in the order of time, if they are too many; even in time are those that stay."""
    if len(paths) <= MOST_GRIDS:
        return
    times = [int(path.name.split("-")[1]) for path in paths]
    gap, kept = 2 * (times[-1] - times[0]) / MOST_GRIDS, times[0]
    for path, moment in zip(paths[1:-1], times[1:-1], strict=True):
        if moment - kept < gap:
            path.unlink(missing_ok=True)
        else:
            kept = moment


@torch.no_grad()
def sample(
    state: TrainingState, stage: Stage, z: Tensor, labels: Tensor | None, batch_size: int | None = None
) -> Tensor:
    """Pixels uint8 [n, C, R, R] of latents [n, z_dim], by the averaged generator as it is at this stage; on the CPU."""
    z, size = z.to(state.numerics.dtype), batch_size or at_once(stage.resolution, 16)
    batches = generate(state.G_ema, z, labels, stage.resolution, stage.alpha, size)
    return torch.cat([to_pixels(images).cpu() for images in batches])


class Snapshots(Observer):
    """Folder `snapshots/`: the averaged generator after every resolution, every `snapshot_kimg`, and at the end.

    Of a run that is measured, also the best of each resolution: the one with the lowest SWD, `best-64x64.safetensors`.
    A continued run first makes up for one that is missing of the moment it goes on from.
    """

    def __init__(
        self, folder: RunFolder, info: SnapshotInfo, label_rows: Tensor | None, snapshot_kimg: float | None
    ) -> None:
        self._folder, self._info, self._label_rows = folder, info, label_rows
        self._schedule = Schedule(info.config.schedule)
        self._nimg = None if snapshot_kimg is None else 1000 * snapshot_kimg
        self._last = 0
        self._best: dict[int, float] = {}
        """Lowest SWD so far of each resolution."""
        self._queue = FileQueue()

    def on_start(self, state: TrainingState, stage: Stage) -> None:
        self._folder.snapshots.mkdir(parents=True, exist_ok=True)
        self._last = forget_later(state.cur_nimg, self._folder.snapshots, "generator")
        # The best of a moment after this one is that of a training that is gone.
        for path in self._folder.snapshots.glob("best-*.safetensors"):
            try:
                gone = load(path).info.cur_nimg > state.cur_nimg
            except SnapshotError:  # damaged
                gone = True
            if gone:
                path.unlink()
        self._best = {}
        for line in until(state.cur_nimg, self._folder.stats):
            self._is_best(line["phase"], line["resolution"], line.get(SWD, math.inf))
        if state.stage is not None:
            last = self._schedule.before(state.cur_nimg, state.stage[0])
            following = None if state.cur_nimg >= self._schedule.total_nimg else stage
            if _ends(last, following) and not self._path(last, state).exists():
                self._write(last, state)

    def on_tick(self, tick: Tick, state: TrainingState) -> None:
        stage = tick.stage
        if self._is_best(stage.phase, stage.resolution, tick.metrics.get(SWD, math.inf)):
            self._put(self._folder.best(stage.resolution), stage, state)
        if self._nimg is not None and tick.cur_nimg - self._last >= self._nimg:
            self._write(tick.stage, state)
        else:
            self._queue.flush()

    def on_stage_end(self, stage: Stage, following: Stage | None, state: TrainingState) -> None:
        if _ends(stage, following):
            self._write(stage, state)

    def on_end(self, finished: bool, state: TrainingState) -> None:
        self._queue.flush()

    def _is_best(self, phase: str, resolution: int, swd: float) -> bool:
        """True, and remembered, if no SWD of the resolution was lower. In a fade images are of two resolutions."""
        if phase != "stable" or not swd < self._best.get(resolution, math.inf):
            return False
        self._best[resolution] = swd
        return True

    def _write(self, stage: Stage, state: TrainingState) -> None:
        self._last = state.cur_nimg
        self._put(self._path(stage, state), stage, state)

    def _put(self, path: Path, stage: Stage, state: TrainingState) -> None:
        info = dataclasses.replace(self._info, resolution=stage.resolution, alpha=stage.alpha, cur_nimg=state.cur_nimg)
        snapshot = of_generator(state.G_ema, info, self._label_rows)
        self._queue.put(path, *snapshot.to_bytes())

    def _path(self, stage: Stage, state: TrainingState) -> Path:
        name = f"generator-{state.cur_nimg:09d}-{stage.resolution}x{stage.resolution}.safetensors"
        return self._folder.snapshots / name


def _ends(stage: Stage, following: Stage | None) -> bool:
    """True if the resolution ends with a stage."""
    return following is None or following.resolution != stage.resolution


def record(tick: Tick) -> dict[str, Any]:
    """A tick as a line of stats.jsonl."""
    return {
        "cur_nimg": tick.cur_nimg,
        "resolution": tick.stage.resolution,
        "phase": tick.stage.phase,
        "alpha": tick.stage.alpha,
        "batch_size": tick.stage.batch_size,
        "lr": tick.stage.g_lr,
        **tick.losses,
        **tick.metrics,
        "skipped_d": tick.skipped["D"],
        "skipped_g": tick.skipped["G"],
        "img_per_sec": tick.img_per_sec,
        "data_wait_frac": tick.data_wait / max(tick.seconds, 1e-9),
        "peak_memory": peak_memory(),
        "elapsed": tick.elapsed,
        **({"notices": " | ".join(tick.notices)} if tick.notices else {}),
    }


def chart_values(tick: Tick) -> dict[str, float]:
    """Numbers of a tick by the names that charts have: `D/real`, `metrics/G/swd`, `run/alpha` …"""
    return {
        name if "/" in name else f"run/{name}": value
        for name, value in record(tick).items()
        if isinstance(value, (int, float)) and name != "cur_nimg"
    }


def grid_thumbnail(
    samples: Path, cur_nimg: int, resolution: int, shown: Path | None
) -> tuple[Path | None, Image.Image | None]:
    """Path of the sample grid of a moment, and the grid with sides of at most 512 pixels: charts keep all of them.

    None twice where there is none, or where it was `shown`.
    """
    path = samples / f"fakes-{cur_nimg:09d}-{resolution}x{resolution}.png"
    if path == shown or not path.exists():
        return None, None
    with Image.open(path) as image:
        image.thumbnail((CHART_SIDE, CHART_SIDE))
        return path, image


def peak_memory() -> int:
    """Bytes: the most the process has used so far, on the GPU where there is one."""
    if torch.cuda.is_available() and torch.cuda.max_memory_reserved():
        return torch.cuda.max_memory_reserved()
    if sys.platform == "win32":  # which has no module `resource`
        return 0
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


class StatsFile(Observer):
    """`stats.jsonl`: a line a tick. A continued run first drops the lines after the state it goes on from."""

    def __init__(self, path: Path) -> None:
        self._path, self._log = path, AppendOnlyFile(path)

    def on_start(self, state: TrainingState, stage: Stage) -> None:
        kept = until(state.cur_nimg, self._path)
        write_whole(self._path, "".join(json_text(line) + "\n" for line in kept).encode())

    def on_tick(self, tick: Tick, state: TrainingState) -> None:
        self._log.append((json_text(record(tick)) + "\n").encode())

    def on_end(self, finished: bool, state: TrainingState) -> None:
        self._log.append(b"")


def until(cur_nimg: int, stats: Path) -> list[dict[str, Any]]:
    """The lines of a stats.jsonl that a run which goes on from `cur_nimg` has behind it."""
    return [line for line in read_stats(stats) if line["cur_nimg"] <= cur_nimg]


def read_stats(path: Path) -> list[dict[str, Any]]:
    """The lines of a stats.jsonl, null as NaN; what is none, such as a last line cut short by a crash, is left out."""
    lines = []
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []:
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if isinstance(line, dict) and isinstance(line.get("cur_nimg"), int):
            lines.append({name: math.nan if value is None else value for name, value in line.items()})
    return lines
