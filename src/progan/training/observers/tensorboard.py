"""TensorBoard observer. It writes event files itself: the usual writer has a thread that a full disk ends."""

import time
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

from progan.files import AppendOnlyFile, printable
from progan.schedule import Stage
from progan.training.observers.base import Observer, Tick
from progan.training.observers.run_files import chart_values, grid_thumbnail
from progan.training.state import TrainingState

MEASURED = ("metrics/G_ema/swd", "metrics/G_ema/ms_ssim", "D/real_sign")
"""Values by which runs are compared in the table of hyperparameters."""


class TensorBoard(Observer):
    """Observer that writes the values of stats.jsonl, and the sample grids, to `tensorboard/`.

    There is a file for each time the run is continued. Grids are those in `samples`, shrunk to 512 pixels a side. The
    options of the run, in `settings`, are hyperparameters there, beside the metrics that were measured.
    """

    def __init__(self, folder: Path, samples: Path, settings: Mapping[str, Any]) -> None:
        self._log = AppendOnlyFile(folder / f"events.out.tfevents.{time.time():.6f}")
        self._samples, self._settings = samples, settings
        self._shown: Path | None = None

    def on_start(self, state: TrainingState, stage: Stage) -> None:
        from tensorboard.compat.proto.event_pb2 import SessionLog  # takes a second to import
        from torch.utils.tensorboard.summary import hparams

        self._write(file_version="brain.Event:2")
        void = state.cur_nimg + 1  # what was written of later moments, before the run was continued or went back
        self._write(step=void, session_log=SessionLog(status=SessionLog.START))
        plain = (bool, int, float)
        settings = {
            name: value if isinstance(value, plain) else printable(str(value)) for name, value in self._settings.items()
        }
        for summary in hparams(settings, dict.fromkeys(MEASURED, 0)):  # type: ignore[no-untyped-call]
            self._write(summary=summary)
        if state.cur_nimg == 0:
            self._show_grid(0, stage.resolution)

    def on_tick(self, tick: Tick, state: TrainingState) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary
        from torch.utils.tensorboard.summary import text

        values = [Summary.Value(tag=name, simple_value=value) for name, value in chart_values(tick).items()]
        self._write(step=tick.cur_nimg, summary=Summary(value=values))
        for notice in tick.notices:
            self._write(step=tick.cur_nimg, summary=text("notices", notice))  # type: ignore[no-untyped-call]

        self._show_grid(tick.cur_nimg, tick.stage.resolution)

    def on_stage_end(self, stage: Stage, following: Stage | None, state: TrainingState) -> None:
        self._show_grid(state.cur_nimg, stage.resolution)

    def _show_grid(self, cur_nimg: int, resolution: int) -> None:
        """Add the grid of this moment, if there is one that was not added yet."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        path, image = grid_thumbnail(self._samples, cur_nimg, resolution, self._shown)
        if image is None:
            return
        self._shown, file = path, BytesIO()
        image.save(file, "png")
        picture = Summary.Image(height=image.height, width=image.width, encoded_image_string=file.getvalue())
        self._write(step=cur_nimg, summary=Summary(value=[Summary.Value(tag="samples", image=picture)]))

    def on_end(self, finished: bool, state: TrainingState) -> None:
        self._log.append(b"")

    def _write(self, **content: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.summary.writer.record_writer import RecordWriter

        file = BytesIO()
        RecordWriter(file).write(Event(wall_time=time.time(), **content).SerializeToString())
        self._log.append(file.getvalue())
