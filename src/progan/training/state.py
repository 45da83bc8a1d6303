"""Training state: all that is needed to continue bit for bit, in one .safetensors file that holds data only.

Everything else follows from configuration and data. States are written to `RUN/state` between blocks of iterations.
"""

import contextlib
import copy
import json
import re
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from progan import models
from progan.devices import is_out_of_memory
from progan.errors import RunError
from progan.files import PendingWrites, write_whole
from progan.models import Discriminator, Generator
from progan.models.layers import let_winograd
from progan.options import parse_json
from progan.schedule import Phase, Stage
from progan.tensorfile import from_bytes, to_bytes
from progan.training.meter import Meter, Tally
from progan.training.numerics import Numerics
from progan.training.optimizer import FIRST_SCALE, MOMENTS, Adam
from progan.training.parallel.processes import Processes
from progan.training.setup import RunSetup

FORMAT, VERSION = "progan training state", 1
_NAME = re.compile(r"state-\d{9,}\.safetensors")
KEPT = 2
"""Number of states kept in a folder."""
GOOD = "good"
"""Folder beside that of the states, with earlier ones to go back to after a divergence."""
WRITING_SHARE = 0.02
"""Largest fraction of the time that is spent on writing states."""


@dataclass
class Adjustments:
    """Changes that a run made to its own settings, and counts of the signs that lead to the next change."""

    lr_factor: float = 1.0
    """Factor of both learning rates."""
    dropout: float = 0.0
    """Amount added to D's dropout."""
    rewinds: tuple[int, ...] = ()
    """`cur_nimg` of the states that the run went back to."""
    left_out: dict[str, int] = field(default_factory=lambda: {"D": 0, "G": 0})
    """Consecutive updates left out until now."""
    wild_ticks: int = 0
    """Consecutive ticks with losses beyond all bounds."""
    won_ticks: int = 0
    """Consecutive ticks in which D won."""
    ticks: int = 0
    """Ticks since the run began, without those that were gone back over."""
    augment_p: float = 0.0
    """Probability of each transformation of `--augment ada`."""

    def apply(self, stage: Stage) -> Stage:
        """Stage with the learning rates that hold now."""
        if self.lr_factor == 1:
            return stage
        return replace(stage, g_lr=stage.g_lr * self.lr_factor, d_lr=stage.d_lr * self.lr_factor)

    def apply_to(self, D: Discriminator, dropout: float | None) -> None:
        """Give D the dropout that holds now; `dropout` is that of the configuration, None for a D that has none."""
        if dropout is not None:
            D.dropout = dropout + self.dropout  # type: ignore[assignment]

    def count(self, network: str, updated: bool) -> None:
        """Count whether a step of D or G was an update."""
        self.left_out[network] = 0 if updated else self.left_out[network] + 1

    def describe(self) -> str:
        """Differences from the configuration in words; empty if there are none."""
        parts = [] if self.lr_factor == 1 else [f"learning rates x {self.lr_factor:g}"]
        parts += [f"D's dropout + {self.dropout:g}"] if self.dropout else []
        return ", ".join(parts)


@dataclass
class TrainingState:
    """Networks, optimisers and progress."""

    G: Generator
    D: Discriminator
    G_ema: Generator
    g_optimizer: Adam
    d_optimizer: Adam
    numerics: Numerics
    cur_nimg: int = 0
    stage: tuple[int, Phase] | None = None
    """Stage at the last evaluation of the schedule, so that no reset of the optimisers comes twice."""
    elapsed: float = 0.0
    """Seconds of training since the run began, pauses left out."""
    skipped: dict[str, int] = field(default_factory=lambda: {"D": 0, "G": 0})
    """Updates left out because a gradient was not finite."""
    tally: Tally = field(default_factory=Tally)
    """Numbers that the next tick will report."""
    adjustments: Adjustments = field(default_factory=Adjustments)
    uncounted: list[tuple[str, Tensor]] = field(default_factory=list)
    """Steps of D or G and whether each was an update, bool []: not looked at yet, since that waits for a GPU."""

    @classmethod
    def new(cls, setup: RunSetup) -> "TrainingState":
        """State before the first image. Weights are channels_last, in which convolutions are fastest."""
        config = setup.config
        G, D = models.build(config.model, setup.shape, config.runtime.seed)
        for net in (G, D):
            net.to(setup.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        G_ema = copy.deepcopy(G).eval().requires_grad_(False)
        for net in (G, D) if setup.numerics.winograd else ():
            let_winograd(net)
        scaled = setup.numerics.scaled
        g_adam = Adam(G.parameters(), config.optimizer, scaled)
        d_adam = Adam(D.parameters(), config.optimizer, scaled, config.optimizer.penalty_every)
        return cls(G, D, G_ema, g_adam, d_adam, setup.numerics)

    def buffers(self) -> list[Tensor]:
        """Buffers of the networks, such as running means, which several processes average."""
        return [buffer for net in self._parts.values() for buffer in net.buffers() if buffer.is_floating_point()]

    @property
    def _parts(self) -> dict[str, nn.Module]:
        return {"G": self.G, "D": self.D, "G_ema": self.G_ema}

    @property
    def _optimizers(self) -> dict[str, tuple[nn.Module, Adam]]:
        return {"G": (self.G, self.g_optimizer), "D": (self.D, self.d_optimizer)}

    def count(self, network: str, updated: Tensor) -> None:
        """Note whether a step of D or G was an update, bool [], without waiting for a GPU."""
        self.uncounted.append((network, updated))

    def settle(self) -> None:
        """Count the steps that were noted. Waits for a GPU."""
        if self.uncounted:
            updates = torch.stack([updated for _, updated in self.uncounted]).tolist()
            for (network, _), updated in zip(self.uncounted, updates, strict=True):
                self.skipped[network] += not updated
                self.adjustments.count(network, updated)
            self.uncounted.clear()

    def clocks(self) -> Tensor:
        """Updates of D and of G since the last reset, float32 [2]. Waits for nothing."""
        return torch.stack([self.d_optimizer.clock, self.g_optimizer.clock])

    def serialize(self) -> bytes:
        """Content of a state's file."""
        return b"".join(self.pieces())

    def pieces(self) -> tuple[bytes, memoryview]:
        """Content of a state's file in two pieces, so that it is not copied."""
        self.settle()
        # Weights and buffers of the networks, and Adam's moments of those that were updated.
        tensors = {
            f"{part}.{name}": value for part, net in self._parts.items() for name, value in net.state_dict().items()
        }
        for part, (net, optimizer) in self._optimizers.items():
            for name, parameter in net.named_parameters():
                for moment in MOMENTS:
                    if parameter in optimizer.state:
                        tensors[f"{part}.adam.{moment}.{name}"] = optimizer.state[parameter][moment]
        # Everything else is small and travels as JSON in the metadata.
        progress = {
            "cur_nimg": self.cur_nimg,
            "stage": self.stage,
            "elapsed": self.elapsed,
            "skipped": self.skipped,
            "updates": {part: optimizer.updates for part, (_, optimizer) in self._optimizers.items()},
            "loss_scales": {
                part: optimizer.log_scale
                for part, (_, optimizer) in self._optimizers.items()
                if optimizer.log_scale is not None
            },
            "numerics": asdict(self.numerics),
            "tally": asdict(self.tally),
            "adjustments": asdict(self.adjustments),
        }
        metadata = {"format": FORMAT, "version": str(VERSION), "progress": json.dumps(progress)}
        return to_bytes(tensors, metadata)

    def restore(self, content: bytes) -> None:
        """Load a file's content. Raises ValueError if it is damaged or does not fit this configuration."""
        progress, tensors = parse(content)
        try:
            for part, net in self._parts.items():
                net.load_state_dict({name: tensors[f"{part}.{name}"] for name in net.state_dict()})
            for part, (net, optimizer) in self._optimizers.items():
                optimizer.reset()
                optimizer.updates = progress.updates[part]
                optimizer.log_scale = progress.loss_scales.get(part, FIRST_SCALE)
                for name, parameter in net.named_parameters():
                    if f"{part}.adam.exp_avg.{name}" in tensors:
                        optimizer.state[parameter] = _moments(parameter, tensors, f"{part}.adam", name)
        except (KeyError, RuntimeError, OverflowError) as error:
            raise ValueError(f"it does not fit the networks: {error}") from None
        self.uncounted.clear()
        self.cur_nimg, self.stage, self.elapsed = progress.cur_nimg, progress.stage, progress.elapsed
        self.skipped, self.tally, self.adjustments = progress.skipped, progress.tally, progress.adjustments


@dataclass(frozen=True)
class _Progress:
    """Progress of a state, checked before anything of it is loaded."""

    cur_nimg: int
    stage: tuple[int, Phase] | None
    elapsed: float
    skipped: dict[str, int]
    updates: dict[str, int]
    numerics: Numerics
    loss_scales: dict[str, float] = field(default_factory=dict)
    tally: Tally = field(default_factory=Tally)
    adjustments: Adjustments = field(default_factory=Adjustments)

    def __post_init__(self) -> None:
        if self.cur_nimg < 0 or self.skipped.keys() != {"D", "G"} or self.updates.keys() != {"D", "G"}:
            raise ValueError("its progress is not that of a run")


_FIELDS = {each.name for each in fields(_Progress)}


def parse(content: bytes) -> tuple[_Progress, dict[str, Tensor]]:
    """Progress and tensors of a file. Raises ValueError if it is damaged, RunError if a newer progan wrote it."""
    metadata, tensors = from_bytes(content)
    if metadata.get("format") != FORMAT:
        raise ValueError(f"not a {FORMAT}")
    if (version := metadata.get("version")) != str(VERSION):
        raise RunError(f"a training state of format version {version}; this progan reads {VERSION}. Use a newer one")
    progress = json.loads(metadata["progress"])
    if isinstance(progress, dict):  # a later progan of the same format may have added fields
        progress = {name: value for name, value in progress.items() if name in _FIELDS}
    return parse_json(_Progress, progress), tensors


def _moments(parameter: Tensor, tensors: dict[str, Tensor], prefix: str, name: str) -> dict[str, Tensor]:
    return {m: torch.empty_like(parameter.detach()).copy_(tensors[f"{prefix}.{m}.{name}"]) for m in MOMENTS}


def share(state: TrainingState, processes: Processes) -> None:
    """Give all processes the state of the first, once that is ready."""
    processes.wait()
    if processes.size > 1:
        content = processes.broadcast(state.serialize() if processes.first else b"")
        if not processes.first:
            state.restore(content)


class StateFolder:
    """Folder `RUN/state`: the last states written, newest last."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._damaged: set[Path] = set()  # as far as this process knows

    def write(self, state: TrainingState) -> Path:
        """Write a state, then delete damaged ones and those older than it and the one before. Raises OSError."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"state-{state.cur_nimg:09d}.safetensors"
        write_whole(path, *state.pieces())
        self._damaged.discard(path)
        older = [path for path in self._paths() if _position(path) <= state.cur_nimg and path not in self._damaged]
        for old in (*older[:-KEPT], *self._damaged):
            with contextlib.suppress(PermissionError):  # Windows keeps what somebody reads, as a copy does: until later
                old.unlink(missing_ok=True)
        return path

    @property
    def empty(self) -> bool:
        """True if no state was written here."""
        return not self._paths()

    def newest(self) -> tuple[Path, Numerics] | None:
        """Path of the newest readable state and its numerics; None if there is none.

        Raises RunError if a newer progan wrote it.
        """
        for path in reversed(self._paths()):
            try:
                return path, parse(path.read_bytes())[0].numerics
            except (OSError, ValueError, KeyError, TypeError):
                continue
        return None

    def numerics(self) -> Numerics | None:
        """Numerics of the newest readable state; None if there is none. RunError if a newer progan wrote it."""
        newest = self.newest()
        return None if newest is None else newest[1]

    def restore(self, state: TrainingState, before: int | None = None) -> list[str]:
        """Load the newest valid state (with fewer than `before` images). Returns a line for each newer one that was
        damaged. Raises RunError if none is valid.
        """
        problems: list[str] = []
        for path in reversed([path for path in self._paths() if before is None or _position(path) < before]):
            try:
                state.restore(path.read_bytes())
                return problems
            except (OSError, ValueError, KeyError, TypeError) as error:
                self._damaged.add(path)
                problems.append(f"{path.name} cannot be used ({str(error).splitlines()[0]})")
        raise self.lost("; ".join(problems) or "empty")

    def lost(self, why: str) -> RunError:
        """Error of a run whose states are gone, with what can be done."""
        good = StateFolder(self.folder.with_name(GOOD))
        start = "Start"
        if not good.empty and good.folder != self.folder:
            kimg = max(good.positions()) / 1000
            start = f"Move the files of {good.folder} there to go on from {kimg:g} kimg, or start"
        return RunError(f"{self.folder}: {why}. {start} a new run with another --out")

    def positions(self) -> list[int]:
        """`cur_nimg` of every state, ascending."""
        return [_position(path) for path in self._paths()]

    def drop_after(self, cur_nimg: int) -> None:
        """Delete the states with more images."""
        for path in self._paths():
            if _position(path) > cur_nimg:
                path.unlink(missing_ok=True)

    def _paths(self) -> list[Path]:
        """Files of states, in the order of images. A copy under another name, `state-…008 copy`, is none of the run."""
        found = (path for path in self.folder.glob("state-*.safetensors") if _NAME.fullmatch(path.name))
        return sorted(found, key=_position)


def _position(path: Path) -> int:
    return int(path.stem.removeprefix("state-"))


class CheckpointWriter:
    """Writes states as often as WRITING_SHARE of the time allows. One that cannot be written is tried again later."""

    def __init__(self, states: StateFolder, pending: PendingWrites) -> None:
        self._states, self._pending = states, pending
        self._cost = 0.0
        self._written = time.perf_counter()

    def write(self, state: TrainingState, force: bool) -> None:
        start = time.perf_counter()
        if force or self._cost <= WRITING_SHARE * (start - self._written):
            with self._pending.attempt("the training state"):
                self._states.write(state)
                self._written = time.perf_counter()
                self._cost = self._written - start


@contextmanager
def checkpoint_on_oom(state: TrainingState, meter: Meter, writer: CheckpointWriter) -> Iterator[None]:
    """Write the state if memory runs out inside before anything changed, as where a larger stage begins."""
    clocks, counted = state.clocks(), len(state.uncounted)
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        untouched = len(state.uncounted) == counted and torch.equal(state.clocks(), clocks)
        if is_out_of_memory(error) and untouched:
            traceback.clear_frames(error.__traceback__)  # which hold the tensors of the failed step
            state.tally = meter.tally()
            writer.write(state, force=True)
        raise
