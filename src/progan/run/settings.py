"""The configuration of a run: preset, run folder and options put together, batches that fit into the memory."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from progan.config import RunConfig
from progan.data.dataset import Dataset
from progan.errors import MemoryShortError
from progan.models import ImageShape
from progan.options import from_dict, override, to_dict
from progan.presets import preset as named_preset
from progan.progress import Say
from progan.run_folder import RunFolder
from progan.schedule import Stage
from progan.training import state as states
from progan.training.numerics import Numerics
from progan.training.parallel.processes import Processes
from progan.training.preflight import fit

AUTO = "auto"
"""As a batch size: that of the preset, or less where memory is short."""


def configure(
    preset: str | None, data: str | Path | None, folder: RunFolder | None, options: dict[str, Any]
) -> RunConfig:
    """Preset, or the configuration of the run in the folder, with data and options put in."""
    changes = options if data is None else {**options, "data": str(data)}
    begun = folder.read()[0] if folder is not None and folder.exists else None
    config = begun if preset is None and begun is not None else named_preset(preset or "quickstart")
    if options.get("batch_size") != AUTO:
        return override(config, changes)
    config = override(config, {name: value for name, value in changes.items() if name != "batch_size"})
    found = begun or config  # what `auto` found when the run was begun holds
    return dataclasses.replace(
        config, schedule=dataclasses.replace(config.schedule, batch_size=found.schedule.batch_size)
    )


def fitting_config(
    config: RunConfig,
    shape: ImageShape,
    dataset: Dataset,
    folder: RunFolder | None,
    numerics: Numerics,
    auto: bool,
    say: Say,
    processes: Processes,
) -> RunConfig:
    """The configuration with batches that fit into the memory. Raises MemoryShortError if they do not."""
    start = 0
    if processes.first and folder is not None and folder.exists:
        start, auto = max(states.StateFolder(folder.state).positions(), default=0), False
    start, auto = json.loads(processes.broadcast(json.dumps([start, auto]).encode()))
    return fit.ensure(config, shape, numerics, dataset.level_bytes, auto, start, say, processes)


def out_of_memory(
    config: RunConfig, shape: ImageShape, numerics: Numerics, stage: Stage, folder: RunFolder
) -> MemoryShortError:
    """What to say where memory ran out in training."""
    saved = max(states.StateFolder(folder.state).positions(), default=0) / 1000
    what = fit.after_all(config, shape, numerics, stage)
    goes_on = f"where more is free, progan train --out {folder.path} goes on"
    return MemoryShortError(f"{what}. All up to {saved:g} kimg is saved: {goes_on}")


def agree(config: RunConfig, processes: Processes) -> RunConfig:
    """The configuration of the first process, the only one that needs to see the run folder."""
    return from_dict(json.loads(processes.broadcast(json.dumps(to_dict(config)).encode())))
