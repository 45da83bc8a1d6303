"""Networks to begin with (`--init`): those of a run, a snapshot or another implementation's file, as far as they fit.

Layers have names that say their resolution, so that what two networks share is what has equal names and shapes. All
else is that of a new run: optimisers, random numbers, progress.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from progan import models, pretrained, snapshot
from progan.config import ModelConfig, RunConfig, flag
from progan.errors import ConfigError
from progan.importers import import_network
from progan.models import ImageShape
from progan.progress import Log, silent
from progan.run_folder import RunFolder
from progan.schedule import Schedule
from progan.snapshot import Snapshot
from progan.training.state import StateFolder, TrainingState, parse

Weights = Mapping[str, Tensor]
MOST_NAMED = 6
"""Most layers that a line names."""


@dataclass(frozen=True)
class Initial:
    """Networks of a file: what they are, at which resolution and alpha they were trained last, and their weights."""

    source: str
    model: ModelConfig
    shape: ImageShape
    resolution: int
    alpha: float
    weights: Mapping[str, Weights]
    """Weights of `G`, of its average `G_ema`, and of `D` where there is one."""
    facts: Mapping[str, Any]
    """Where they come from, for config.json."""

    def start(self, final: int) -> int:
        """Resolution of the first stage of a run that goes on from here: the last one that was wholly faded in."""
        if not self.model.grows:
            return final
        known = self.resolution if self.alpha == 1 else self.resolution // 2
        return min(max(known, self.model.least_resolution), final)


def read(source: str, log: Log = silent) -> Initial:
    """Networks of a run folder (its newest state, else its newest snapshot), a snapshot, a state, a file that
    `progan import` takes, or a generator of the package. Raises ConfigError, or what says why a file cannot be read.
    """
    path = pretrained.locate(source, log)
    if not path.exists():
        raise ConfigError(f"--init {source} does not exist. Give a run folder, a snapshot, or a network's file (.pkl)")
    if path.is_dir():
        run = RunFolder(path)
        run.read()
        newest = StateFolder(run.state).newest()
        return _of_snapshot(source, run.snapshot()) if newest is None else _of_state(source, run, newest[0])
    run = RunFolder(path.absolute().parent.parent)
    if path.name.startswith("state-") and run.exists:
        return _of_state(source, run, path)
    try:
        with path.open("rb") as file:
            ours = file.read(9)[8:] == b"{"  # as .safetensors files begin
    except OSError as error:
        raise ConfigError(f"--init {source} cannot be read: {error.strerror}") from None
    return _of_snapshot(source, path) if ours else _of_networks(source, path, import_network(path, log=log))


def _of_state(source: str, run: RunFolder, path: Path) -> Initial:
    config, data = run.read()
    try:
        content = path.read_bytes()
        progress, tensors = parse(content)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"--init {source} cannot be used ({str(error).splitlines()[0]})") from None
    labels = len(data.label_names) if config.dataset.labels else 0
    shape = ImageShape(config.schedule.resolution, data.channels, labels)
    stage = Schedule(config.schedule).at(progress.cur_nimg)
    # Names of Adam's moments begin with that of a network, too; no layer is called `adam`.
    weights = {
        part: {name.removeprefix(f"{part}."): value for name, value in tensors.items() if name.startswith(f"{part}.")}
        for part in ("G", "D", "G_ema")
    }
    facts = _facts(path, content, progress.cur_nimg, data.name, run.initial().get("licence", ""))
    return Initial(source, config.model, shape, stage.resolution, stage.alpha, weights, facts)


def _of_snapshot(source: str, path: Path) -> Initial:
    return _of_networks(source, path, snapshot.load(path))


def _of_networks(source: str, path: Path, made: Snapshot) -> Initial:
    """Those of a snapshot. Without the trained generator its average takes the place."""
    average = made.G.state_dict()
    weights = {"G": average if made.raw is None else made.raw.state_dict(), "G_ema": average}
    if made.D is not None:
        weights["D"] = made.D.state_dict()
    info = made.info
    facts = _facts(path, path.read_bytes(), info.cur_nimg, info.dataset, info.licence)
    return Initial(source, info.config.model, info.shape, info.resolution, info.alpha, weights, facts)


def _facts(path: Path, content: bytes, cur_nimg: int, dataset: str, licence: str) -> dict[str, Any]:
    digest = hashlib.sha256(content).hexdigest()
    return {"path": str(path.absolute()), "sha256": digest, "cur_nimg": cur_nimg, "dataset": dataset} | (
        {"licence": licence} if licence else {}
    )


@dataclass(frozen=True)
class Fit:
    """What two networks share: weights of each part that are taken, and its layers that begin anew."""

    taken: Mapping[str, Weights]
    anew: Mapping[str, tuple[str, ...]]


def fit(initial: Initial, config: RunConfig, parts: Mapping[str, nn.Module]) -> Fit:
    """What networks of a configuration (`G`, `G_ema`, `D`) take over. Raises ConfigError if that is nothing."""
    source, theirs, ours = initial.source, initial.model, config.model
    final = config.schedule.resolution
    if theirs.kind != ours.kind:
        raise ConfigError(f"--init {source} has networks of --model {theirs.kind}, this run of {ours.kind}")
    if not ours.grows and initial.shape.resolution != final:
        size = initial.shape.resolution
        raise ConfigError(f"--init {source} makes {size}x{size} and does not grow: give it --resolution {size}")
    # The same weights would mean something else.
    if getattr(theirs, "use_wscale", None) != getattr(ours, "use_wscale", None):
        raise ConfigError(f"--init {source} has weights of another scale: leave out --use-wscale")
    taken, anew = {}, {}
    for part, network in parts.items():
        own, given = network.state_dict(), initial.weights.get(part, {})
        layers: dict[str, list[str]] = {}
        for name in own:
            layers.setdefault(name.rpartition(".")[0], []).append(name)
        fits = {
            layer: all(name in given and given[name].shape == own[name].shape for name in names)
            for layer, names in layers.items()
        }
        taken[part] = {name: given[name] for layer, names in layers.items() if fits[layer] for name in names}
        anew[part] = tuple(layer for layer in layers if not fits[layer])
    if not taken["G"]:
        raise ConfigError(
            f"--init {source}: no layer of its G fits ({_differences(theirs, ours) or 'other images'}). Leave out the "
            "options of the model, and it is built as there"
        )
    return Fit(taken, anew)


def check(initial: Initial, config: RunConfig, shape: ImageShape) -> str:
    """The line of `begin`, without networks that have values. Raises ConfigError."""
    with torch.device("meta"):
        G, D = models.build(config.model, shape, seed=0)
    return _line(initial, config, fit(initial, config, {"G": G, "D": D}))


def begin(initial: Initial, config: RunConfig, state: TrainingState) -> tuple[str, dict[str, Any]]:
    """Put the weights into a new state; a line on what they are, and facts for config.json."""
    found = fit(initial, config, {"G": state.G, "D": state.D, "G_ema": state.G_ema})
    for part, network in {"G": state.G, "D": state.D, "G_ema": state.G_ema}.items():
        network.load_state_dict({**network.state_dict(), **found.taken[part]})
    anew = {part: list(layers) for part, layers in found.anew.items() if layers and part != "G_ema"}
    return _line(initial, config, found), {**initial.facts, "anew": anew}


def _line(initial: Initial, config: RunConfig, found: Fit) -> str:
    """What a run begins with, and what of it begins anew."""
    size, facts = f"{initial.resolution}x{initial.resolution}", initial.facts
    where = f"{size}, {facts['cur_nimg'] / 1000:g} kimg" + (f" of {facts['dataset']}" if facts["dataset"] else "")
    parts = "G and D" if found.taken["D"] else "G"
    line = f"begins with {parts} of {initial.source} ({where})"
    for part in ("G", "D"):
        layers = found.anew[part]
        if not found.taken[part]:
            line += f"; {part} is new, {'none of it fits' if part in initial.weights else 'it has none'}"
        elif layers:
            more = f" and {len(layers) - MOST_NAMED} more" if len(layers) > MOST_NAMED else ""
            line += f"; new in {part}: {', '.join(layers[:MOST_NAMED])}{more}"
    differing = _differences(initial.model, config.model)
    return line + (f"; options of the model that differ: {differing}" if differing else "")


def _differences(theirs: ModelConfig, ours: ModelConfig) -> str:
    names = [field.name for field in fields(theirs) if getattr(theirs, field.name) != getattr(ours, field.name)]
    return ", ".join(f"{flag(name)} {getattr(theirs, name)} -> {getattr(ours, name)}" for name in names)
