"""A look at G and D once a tick: how the fakes vary, what D thinks of reals, fakes and images it never saw.

Nothing here changes a number of the training: no random numbers are drawn, and networks see copies of their buffers.
"""

import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from progan import randomness
from progan.data.dataset import Dataset
from progan.images import downscale
from progan.schedule import Stage
from progan.training.optimizer import Adam
from progan.training.state import TrainingState
from progan.training.step import process_reals

MOST = 128
"""Images of each kind."""
SHARE = 16
"""One image of a kind for so many that were trained with since the last look, but not fewer than `FEWEST`."""
FEWEST = 16
COMPARED_AT = 16
"""Resolution at which images are compared: that of what they show, not of their grain."""


@dataclass(frozen=True)
class Sample:
    """The same images at every look: pixels of each resolution, and labels where the run uses them."""

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
    """Numbers of a tick in which `images` were trained with."""
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
        """D's scores and small copies: of large images no more than a batch is there at a time, as in training."""
        found = [(_apart(state.D, each.to(dtype), stage.alpha).value, shrunk(each)) for each in batches]
        scores, small = (torch.cat(parts) for parts in zip(*found, strict=True))
        return scores, small

    pixels, labels = reals.take(stage.resolution, num)
    (real, real_images), (fake, fakes) = judged(shown(pixels)), judged(made(len(pixels), labels))
    spread, nearest = (a / b for a, b in zip(distances(fakes), distances(real_images), strict=True))
    found = {
        "variety": spread,
        "nearest": nearest,
        "score_real": float(real.mean()),
        "score_fake": float(fake.mean()),
        "separation": float((torch.sign(real[:, None] - fake).mean() + 1) / 2),
        "g_gradient": gradient_norm(state.g_optimizer),
        "d_gradient": gradient_norm(state.d_optimizer),
    }
    if held_out is not None:
        unseen, _ = judged(shown(held_out.take(stage.resolution, num)[0]))
        found["score_held_out"] = float(unseen.mean())
    return {f"health/{name}": value for name, value in found.items()}


def shrunk(images: Tensor) -> Tensor:
    """Images [N, C, R, R] as they are compared."""
    while images.shape[2] > COMPARED_AT:
        images = downscale(images)
    return images


def distances(images: Tensor) -> tuple[float, float]:
    """Of images [N, C, R, R]: the root mean square distance of two, and the mean distance of one to the next like it.

    Clones make the second 0, however different the originals are.
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
    """The network's answer in the mode it trains in, with copies of its buffers: running statistics stay."""
    return functional_call(network, {name: buffer.clone() for name, buffer in network.named_buffers()}, arguments)
