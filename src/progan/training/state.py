"""The training state: all that is needed to go on exactly. One .safetensors file, data only."""

import copy
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from progan import models
from progan.config import ModelConfig, OptimizerConfig
from progan.errors import RunError
from progan.files import write_whole
from progan.models import Discriminator, Generator, ImageShape
from progan.options import parse_json
from progan.schedule import Phase
from progan.tensorfile import from_bytes, to_bytes
from progan.training.adjustments import Adjustments
from progan.training.meter import Tally
from progan.training.numerics import Numerics
from progan.training.optimizer import FIRST_SCALE, MOMENTS, Adam
from progan.training.parallel.processes import Processes

FORMAT, VERSION = "progan training state", 1
KEPT = 2


@dataclass
class TrainingState:
    """Networks, optimisers and how far they are. Everything else follows from configuration and data."""

    G: Generator
    D: Discriminator
    G_ema: Generator
    g_optimizer: Adam
    d_optimizer: Adam
    numerics: Numerics
    cur_nimg: int = 0
    stage: tuple[int, Phase] | None = None
    """Of the last evaluation of the schedule, so that no reset of the optimisers comes twice."""
    elapsed: float = 0.0
    """Seconds of training, over all the times the run was continued."""
    skipped: dict[str, int] = field(default_factory=lambda: {"D": 0, "G": 0})
    """Updates left out because a gradient was not finite."""
    tally: Tally = field(default_factory=Tally)
    """Of what the next tick will report."""
    adjustments: Adjustments = field(default_factory=Adjustments)
    uncounted: list[tuple[str, Tensor]] = field(default_factory=list)
    """Of D or G, whether a step was an update, bool []: not looked at yet, since that waits for a GPU."""

    def buffers(self) -> list[Tensor]:
        """What the networks hold besides weights, such as running means: several processes average it."""
        return [buffer for net in self._parts.values() for buffer in net.buffers() if buffer.is_floating_point()]

    @property
    def _parts(self) -> dict[str, nn.Module]:
        return {"G": self.G, "D": self.D, "G_ema": self.G_ema}

    @property
    def _optimizers(self) -> dict[str, tuple[nn.Module, Adam]]:
        return {"G": (self.G, self.g_optimizer), "D": (self.D, self.d_optimizer)}

    def count(self, network: str, updated: Tensor) -> None:
        """Note whether a step of D or G was an update, bool []."""
        self.uncounted.append((network, updated))

    def settle(self) -> None:
        """Look at what was noted. Waits for a GPU."""
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
        """The file's content."""
        return b"".join(self.pieces())

    def pieces(self) -> tuple[bytes, memoryview]:
        """The file's content in pieces, so that it is not copied."""
        self.settle()
        tensors = {
            f"{part}.{name}": value for part, net in self._parts.items() for name, value in net.state_dict().items()
        }
        for part, (net, optimizer) in self._optimizers.items():
            for name, parameter in net.named_parameters():
                for moment in MOMENTS:
                    if parameter in optimizer.state:
                        tensors[f"{part}.adam.{moment}.{name}"] = optimizer.state[parameter][moment]
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
            "tally": self.tally.to_json(),
            "adjustments": self.adjustments.to_json(),
        }
        metadata = {"format": FORMAT, "version": str(VERSION), "progress": json.dumps(progress)}
        return to_bytes(tensors, metadata)

    def restore(self, content: bytes) -> None:
        """Take over a file's content. Raises ValueError if it is damaged or not of this configuration."""
        progress, tensors = parse(content)
        parse_json(_Progress, {name: progress[name] for name in _Progress.__dataclass_fields__ if name in progress})
        try:
            for part, net in self._parts.items():
                net.load_state_dict({name: tensors[f"{part}.{name}"] for name in net.state_dict()})
            for part, (net, optimizer) in self._optimizers.items():
                optimizer.reset()
                optimizer.updates = progress["updates"][part]
                optimizer.log_scale = progress.get("loss_scales", {}).get(part, FIRST_SCALE)
                for name, parameter in net.named_parameters():
                    if f"{part}.adam.exp_avg.{name}" in tensors:
                        optimizer.state[parameter] = _moments(parameter, tensors, f"{part}.adam", name)
        except (KeyError, RuntimeError, OverflowError) as error:
            raise ValueError(f"it does not fit the networks: {error}") from None
        self.uncounted.clear()
        self.cur_nimg, self.elapsed = progress["cur_nimg"], progress["elapsed"]
        self.skipped = progress["skipped"]
        self.tally = Tally.of_json(progress.get("tally", {}))
        self.adjustments = Adjustments.of_json(progress.get("adjustments", {}))
        self.stage = None if progress["stage"] is None else (progress["stage"][0], progress["stage"][1])


@dataclass(frozen=True)
class _Progress:
    """What must hold of a state's progress before anything of it is taken over."""

    cur_nimg: int
    stage: tuple[int, Phase] | None
    elapsed: float
    skipped: Mapping[str, int]
    updates: Mapping[str, int]
    numerics: Numerics
    loss_scales: Mapping[str, float] = field(default_factory=dict)
    tally: Mapping[str, Any] = field(default_factory=dict)
    adjustments: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.cur_nimg < 0 or self.skipped.keys() != {"D", "G"} or self.updates.keys() != {"D", "G"}:
            raise ValueError("its progress is no progress of a run")


def parse(content: bytes) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Progress and tensors of a state. Raises ValueError if it is damaged, RunError if a newer progan wrote it."""
    metadata, tensors = from_bytes(content)
    if metadata.get("format") != FORMAT:
        raise ValueError(f"not a {FORMAT}")
    if (version := metadata.get("version")) != str(VERSION):
        raise RunError(f"a training state of format version {version}; this progan reads {VERSION}. Use a newer one")
    return dict(json.loads(metadata["progress"])), tensors


def _moments(parameter: Tensor, tensors: dict[str, Tensor], prefix: str, name: str) -> dict[str, Tensor]:
    return {m: torch.empty_like(parameter.detach()).copy_(tensors[f"{prefix}.{m}.{name}"]) for m in MOMENTS}


def new(
    model: ModelConfig, optimizer: OptimizerConfig, shape: ImageShape, seed: int, numerics: Numerics
) -> TrainingState:
    """The state before the first image."""
    G, D = models.build(model, shape, seed)
    for net in (G, D):
        net.to(numerics.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    G_ema = copy.deepcopy(G).eval().requires_grad_(False)
    g_adam, d_adam = (Adam(net.parameters(), optimizer, numerics.scaled) for net in (G, D))
    return TrainingState(G, D, G_ema, g_adam, d_adam, numerics)


def agree(state: TrainingState, processes: Processes) -> None:
    """Give all processes the state of the first, whenever that is ready."""
    processes.wait()
    if processes.size > 1:
        content = processes.broadcast(state.serialize() if processes.first else b"")
        if not processes.first:
            state.restore(content)


class StateFolder:
    """`RUN/state`: the last states written, newest last."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._damaged: set[Path] = set()  # as far as this process knows

    def write(self, state: TrainingState) -> Path:
        """Write a state, then drop damaged ones and those older than it and the one before. Raises OSError."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"state-{state.cur_nimg:09d}.safetensors"
        write_whole(path, *state.pieces())
        self._damaged.discard(path)
        older = [path for path in self._paths() if _position(path) <= state.cur_nimg and path not in self._damaged]
        for old in (*older[:-KEPT], *self._damaged):
            old.unlink(missing_ok=True)
        return path

    @property
    def empty(self) -> bool:
        """Whether nothing was ever written here."""
        return not self._paths()

    def numerics(self) -> Numerics | None:
        """How the newest readable state was computed; None if there is none. RunError if it is of a newer progan."""
        for path in reversed(self._paths()):
            try:
                return Numerics.of_json(parse(path.read_bytes())[0]["numerics"])
            except (OSError, ValueError, KeyError, TypeError):
                continue
        return None

    def restore(self, state: TrainingState, before: int | None = None) -> list[str]:
        """Take over the newest valid state, or the newest with fewer than `before` images; what was wrong with newer

        ones, a line each. RunError if none is valid.
        """
        problems: list[str] = []
        for path in reversed([path for path in self._paths() if before is None or _position(path) < before]):
            try:
                state.restore(path.read_bytes())
                return problems
            except (OSError, ValueError, KeyError, TypeError) as error:
                self._damaged.add(path)
                problems.append(f"{path.name} cannot be used ({str(error).splitlines()[0]})")
        raise RunError(f"{self.folder}: {'; '.join(problems) or 'empty'}. Start a new run with another --out")

    def positions(self) -> list[int]:
        """`cur_nimg` of every state, rising."""
        return [_position(path) for path in self._paths()]

    def drop_after(self, cur_nimg: int) -> None:
        """Delete the states with more images."""
        for path in self._paths():
            if _position(path) > cur_nimg:
                path.unlink(missing_ok=True)

    def _paths(self) -> list[Path]:
        return sorted(self.folder.glob("state-*.safetensors"))


def _position(path: Path) -> int:
    return int(path.stem.removeprefix("state-"))
