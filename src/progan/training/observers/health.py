"""Health of a run: a look at G and D once a tick, and warnings of signs that it goes wrong slowly.

A look measures how fakes vary, and what D thinks of reals, fakes and images it never saw; it changes no number of the
training: no random numbers are drawn, and networks see copies of their buffers. A sign is a function of the lines of
stats.jsonl, so that a continued run knows what it knew before it was stopped (thresholds: docs/health.md).
"""

import itertools
import math
import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from progan import randomness
from progan.data.dataset import Dataset
from progan.images import downscale
from progan.losses import Loss
from progan.schedule import Stage
from progan.training.observers.base import Observer, Tick
from progan.training.observers.run_files import record, until
from progan.training.optimizer import Adam
from progan.training.recovery import d_wins
from progan.training.state import TrainingState
from progan.training.step import process_reals

Lines = Sequence[dict[str, Any]]

MOST, FEWEST = 128, 16
"""Number of images of each kind that are looked at."""
SHARE = 16
"""Images trained with since the last look for each image of a kind that is looked at."""
COMPARED_AT = 16
"""Resolution at which images are compared: of what they show, not of their grain."""
PATIENCE = 3
"""Consecutive ticks before a sign is believed, and before it is believed to be gone."""
LEARNING = 5
"""Ticks at the start of a run in which fakes may be alike."""
WINDOW = 20
"""Ticks that a sign is a function of, oldest first."""
LEAST_NEAREST = 0.3
"""Distance of a fake to the most similar fake, relative to that of reals."""
LEAST_VARIETY = 0.3
"""Root mean square distance of two fakes, relative to that of reals."""
MOST_MEMORISED = 0.25
"""Fraction of the way from the scores of reals to those of fakes, of D's scores of images it never saw."""
LEAST_SEPARATION = 0.5
"""Fraction of the pairs of a real and a fake in which D prefers the real: chance."""
GRADIENT_FACTOR = 100
"""Ratio of G's gradient to its median over the ticks before, either way."""


@dataclass(frozen=True)
class Sign:
    """Sign of trouble in the last line, in view of those before it."""

    name: str
    seen: Callable[[Lines], bool]
    advice: str


def _repeats(lines: Lines) -> bool:
    last = lines[-1]
    nearest, variety = last.get("health/nearest", 1), last.get("health/variety", 1)
    return bool(nearest < LEAST_NEAREST or variety < LEAST_VARIETY)


def _memorises(lines: Lines) -> bool:
    last = lines[-1]
    if "health/score_held_out" not in last:
        return False
    real, fake = last["health/score_real"], last["health/score_fake"]
    return bool(real > fake and (real - last["health/score_held_out"]) / (real - fake) > MOST_MEMORISED)


def _is_blind(lines: Lines) -> bool:
    return bool(lines[-1].get("health/separation", 1) <= LEAST_SEPARATION)


def _gradient_jumps(lines: Lines) -> bool:
    *before, now = [line.get("health/g_gradient", 0) for line in lines]
    if len(before) < PATIENCE or not all(value > 0 for value in (*before, now)):
        return False
    return not 1 / GRADIENT_FACTOR < now / statistics.median(before) < GRADIENT_FACTOR


SIGNS = (
    Sign(
        "variety",
        _repeats,
        "fakes are much more alike than the images: G may be collapsing onto few pictures. Look at samples/; begin "
        "again, or from an earlier snapshot, with a lower --lr or a larger --batch-size",
    ),
    Sign(
        "memorising",
        _memorises,
        "D's scores of held-out images are nearer to those of fakes than to those of images it was trained on: it "
        "memorises them. Use more images or --mirror, or stop here",
    ),
    Sign(
        "blind",
        _is_blind,
        "D prefers fakes to reals as often as not: G learns nothing from it. Use a higher --d-lr or more --d-steps",
    ),
    Sign(
        "gradient",
        _gradient_jumps,
        f"G's gradient changed by a factor of {GRADIENT_FACTOR}: training may diverge. Use a lower --lr",
    ),
)


def d_won(loss: Loss) -> Sign:
    """Sign that D has won, for losses with a score at which D is undecided."""

    def seen(lines: Lines) -> bool:
        return "G/fake" in lines[-1] and d_wins(lines[-1], loss)

    advice = "D's loss is close to zero and G's is high: G learns little. Use --rescue, or a lower --d-lr"
    return Sign("d-wins", seen, advice)


@dataclass
class Watch:
    """Signs, each believed or not, updated line by line."""

    signs: tuple[Sign, ...] = SIGNS
    believed: set[str] = field(default_factory=set)
    _lines: list[dict[str, Any]] = field(default_factory=list)
    _against: dict[str, int] = field(default_factory=dict)
    """Consecutive lines against what is believed."""
    _count: int = 0

    def see(self, line: dict[str, Any]) -> list[str]:
        """Add a line of stats.jsonl; advice on signs that have just appeared."""
        self._lines = [*self._lines, line][-WINDOW:]
        self._count += 1
        come = []
        for sign in self.signs:
            seen = sign.seen(self._lines) and not (sign.name == "variety" and self._count <= LEARNING)
            against = self._against.get(sign.name, 0) + 1 if seen != (sign.name in self.believed) else 0
            if against == PATIENCE:
                self.believed ^= {sign.name}
                against = 0
                if seen:
                    come.append(f"{sign.name}: {sign.advice}")
            self._against[sign.name] = against
        return come


@dataclass(frozen=True)
class Sample:
    """Images that are the same at every look: pixels of each resolution, and labels where the run uses them."""

    dataset: Dataset
    use_labels: bool

    def take(self, resolution: int, num: int) -> tuple[Tensor, Tensor | None]:
        """Pixels uint8 [n, C, R, R] and labels float32 [n, L], n ≤ num."""
        indices = self.dataset.order(0, min(num, self.dataset.count), seed=0)
        labels = self.dataset.labels(indices) if self.use_labels else None
        pixels = torch.from_numpy(self.dataset.pixels(resolution, indices))
        return pixels, None if labels is None else torch.from_numpy(labels)


@torch.no_grad()
def look(state: TrainingState, stage: Stage, reals: Sample, held_out: Sample | None, images: int) -> dict[str, float]:
    """Values of a tick in which `images` images were trained with, by name."""
    num = max(FEWEST, min(MOST, images // SHARE))
    device, dtype, size = torch.device(state.numerics.device), state.numerics.dtype, stage.batch_size
    num -= num % size if num > size else 0  # whole batches, whose statistics are those of training

    def shown(pixels: Tensor) -> Iterator[Tensor]:
        return (process_reals(part.to(device), stage.alpha) for part in torch.split(pixels, size))

    def made(num: int, labels: Tensor | None) -> Iterator[Tensor]:
        z = torch.from_numpy(randomness.latents(range(num), state.G.z_dim)).to(device, dtype)
        rows = itertools.repeat(None) if labels is None else torch.split(labels.to(device), size)
        for part, some in zip(torch.split(z, size), rows, strict=False):
            yield _apart(state.G, part, some, stage.resolution, stage.alpha)

    def judged(batches: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
        """D's scores and small copies; large images are made a batch at a time, as in training."""
        found = [(_apart(state.D, each.to(dtype), stage.alpha).value, shrunk(each)) for each in batches]
        scores, small = (torch.cat(parts) for parts in zip(*found, strict=True))
        return scores, small

    pixels, labels = reals.take(stage.resolution, num)
    (real, real_images), (fake, fakes) = judged(shown(pixels)), judged(made(len(pixels), labels))
    found = {
        "score_real": float(real.mean()),
        "score_fake": float(fake.mean()),
        "separation": float((torch.sign(real[:, None] - fake).mean() + 1) / 2),
        "g_gradient": gradient_norm(state.g_optimizer),
        "d_gradient": gradient_norm(state.d_optimizer),
    }
    if len(pixels) > 1:  # of one image nothing varies
        names, values = ("variety", "nearest"), zip(distances(fakes), distances(real_images), strict=True)
        found |= {name: of_fakes / of_reals for name, (of_fakes, of_reals) in zip(names, values, strict=True)}
    if held_out is not None:
        unseen, _ = judged(shown(held_out.take(stage.resolution, num)[0]))
        found["score_held_out"] = float(unseen.mean())
        found["held_out_gap"] = found["score_real"] - found["score_held_out"]
    return {f"health/{name}": value for name, value in found.items()}


def shrunk(images: Tensor) -> Tensor:
    """Images [N, C, R, R] at the resolution at which they are compared."""
    while images.shape[2] > COMPARED_AT:
        images = downscale(images)
    return images


def distances(images: Tensor) -> tuple[float, float]:
    """Root mean square distance of two images [N, C, R, R], and mean distance of one to the most similar other.

    Copies make the second 0, however different the originals are.
    """
    flat = shrunk(images).flatten(1).float()
    spread = math.sqrt(2 * float(flat.var(0).sum()))
    apart = torch.cdist(flat, flat, compute_mode="donot_use_mm_for_euclid_dist").fill_diagonal_(math.inf)
    return max(spread, 1e-12), max(float(apart.amin(1).mean()), 1e-12)


def gradient_norm(optimizer: Adam) -> float:
    """Root mean square norm of the gradient over about the last 1/(1-β2) updates, read off Adam's second moment."""
    squares = [torch.sum(moments["exp_avg_sq"]) for moments in optimizer.state.values()]
    if not optimizer.updates:
        return 0.0
    return math.sqrt(float(torch.stack(squares).sum()) / (1 - optimizer.config.beta2**optimizer.updates))


def _apart(network: nn.Module, *arguments: Any) -> Any:
    """Output of a network in the mode it trains in, with copies of its buffers: running statistics stay."""
    return functional_call(network, {name: buffer.clone() for name, buffer in network.named_buffers()}, arguments)


class Health(Observer):
    """Observer that looks at G and D at every tick, adds the values to it, and warns."""

    def __init__(self, reals: Sample, held_out: Sample | None, signs: tuple[Sign, ...], stats: Path) -> None:
        self._reals, self._held_out, self._signs, self._stats = reals, held_out, signs, stats

    def on_start(self, state: TrainingState, stage: Stage) -> None:
        self._watch = Watch(self._signs)
        for line in until(state.cur_nimg, self._stats):
            self._watch.see(line)

    def on_tick(self, tick: Tick, state: TrainingState) -> None:
        tick.metrics.update(look(state, tick.stage, self._reals, self._held_out, tick.images))
        tick.notices.extend(f"warning: {text}" for text in self._watch.see(record(tick)))
