"""TensorBoard observer. It writes event files itself: the usual writer has a thread that a full disk ends."""

import time
from io import BytesIO
from pathlib import Path
from typing import Any

from progan.files import AppendOnlyFile
from progan.schedule import Stage
from progan.training.observers.base import Observer, Tick
from progan.training.observers.run_files import record
from progan.training.state import TrainingState


class TensorBoard(Observer):
    """Observer that writes the values of stats.jsonl to `tensorboard/`, a file for each time the run is continued."""

    def __init__(self, folder: Path) -> None:
        self._log = AppendOnlyFile(folder / f"events.out.tfevents.{time.time():.6f}")

    def on_start(self, state: TrainingState, stage: Stage) -> None:
        from tensorboard.compat.proto.event_pb2 import SessionLog  # takes a second to import

        self._write(file_version="brain.Event:2")
        void = state.cur_nimg + 1  # what was written of later moments, before the run was continued or went back
        self._write(step=void, session_log=SessionLog(status=SessionLog.START))

    def on_tick(self, tick: Tick, state: TrainingState) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary
        from torch.utils.tensorboard.summary import text

        values = [
            Summary.Value(tag=name if "/" in name else f"run/{name}", simple_value=value)
            for name, value in record(tick).items()
            if isinstance(value, (int, float)) and name != "cur_nimg"
        ]
        self._write(step=tick.cur_nimg, summary=Summary(value=values))
        for notice in tick.notices:
            self._write(step=tick.cur_nimg, summary=text("notices", notice))  # type: ignore[no-untyped-call]

    def on_end(self, finished: bool, state: TrainingState) -> None:
        self._log.append(b"")

    def _write(self, **content: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.summary.writer.record_writer import RecordWriter

        file = BytesIO()
        RecordWriter(file).write(Event(wall_time=time.time(), **content).SerializeToString())
        self._log.append(file.getvalue())
