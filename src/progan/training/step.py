"""One D step and one G step: the mathematics of training (Karras et al. 2018, appendix A.1).

`d_loss` and `g_loss` say what is computed, once. Executors differentiate them: `Eager` here by autograd,
`accelerate/traced.py` by a graph traced from the same two functions, and `preflight/memory.py` runs `Eager` on tensors
without values. `Step` puts loss, gradients, update and average into their order.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from progan.images import fade, mirror, to_images
from progan.losses import Critic, Loss
from progan.models import Discriminator, Draws, Generator
from progan.randomness import Rng, Stream
from progan.schedule import Stage
from progan.scores import Scores
from progan.training.augment import Augmentation, real_sign
from progan.training.optimizer import Adam
from progan.training.parallel.processes import ALONE, Processes
from progan.training.setup import RunSetup
from progan.training.state import TrainingState

Terms = dict[str, Tensor]
Part = Literal["whole", "scores", "penalty"]
"""Part of D's loss: all of it, or, with --penalty-every, what scores cost and the penalty apart."""


class Batch(NamedTuple):
    """What a step of D or G is computed from, besides networks and random numbers."""

    size: int
    reals: Tensor | None
    """Processed reals [N, C, R, R] in -1…1; None in a G step whose loss does not want them."""
    labels: Tensor | None
    """Labels [N, L] of the fakes, and in a D step of the reals."""
    resolution: int
    alpha: float | Tensor
    """Weight of the newest block; a tensor where it is an input of a traced step."""
    dtype: torch.dtype
    """Type that networks compute in."""
    p: Tensor | None = None
    """Probability of an augmentation's transformations, float32 []; None where there is no augmentation."""


class GeneratorLike(Protocol):
    """What the losses ask of G: its call, its latents and its final resolution."""

    z_dim: int
    resolution: int

    def __call__(self, z: Tensor, labels: Tensor | None, resolution: int, alpha: float | Tensor, /) -> Tensor: ...


def process_reals(pixels: Tensor, alpha: float, mirrored: Tensor | None = None) -> Tensor:
    """Pixels uint8 [N, C, R, R] as D sees reals: float -1…1, flipped where `mirrored` [N] ≥ ½, faded as fakes are."""
    images = to_images(pixels)
    if mirrored is not None:
        images = mirror(images, mirrored)
    return fade(images, alpha)


def critic(
    D: Callable[..., Scores], alpha: float | Tensor, dtype: torch.dtype, slope: float = 1.0, noise: Draws | None = None
) -> Critic:
    """D with alpha and noise bound, computing in `dtype` on images of any; its gradient by them is `slope` times D's.

    The authors' D takes images of the final resolution and averages them down itself: the gradient that a penalty sees
    is shared out over (final/R)² pixels, its norm is R/final of ours, and does not jump when the resolution doubles.
    """
    if slope == 1:
        return lambda images: D(images.to(dtype), alpha, noise)
    return lambda images: D((images + (images - images.detach()) * (slope - 1)).to(dtype), alpha, noise)


def d_loss(
    G: GeneratorLike,
    D: Callable[..., Scores],
    loss: Loss,
    batch: Batch,
    draws: Draws,
    part: Part = "whole",
    augmentation: Augmentation | None = None,
) -> Terms:
    """Terms of D's loss on a batch of reals and as many fakes, which carry no gradient.

    Where they are augmented, `real_sign` is among them: how often D is right about reals, without a gradient.
    """
    assert batch.reals is not None
    reals = batch.reals
    # Fakes first: the latents are the first numbers drawn (after those that mirror reals).
    with torch.no_grad():
        z = draws.normal(batch.size, G.z_dim).to(batch.dtype)
        fakes = G(z, batch.labels, batch.resolution, batch.alpha)
        # D's world are augmented images: penalties take its gradient with respect to those, and mix those.
        if augmentation is not None:
            reals, fakes = (augment(augmentation, images, batch, draws) for images in (reals, fakes))
    judge = critic(D, batch.alpha, batch.dtype, batch.resolution / G.resolution, draws)
    if part == "penalty":
        return loss.penalty(judge, reals, fakes, draws)
    if augmentation is None:
        return loss.d_terms(judge, reals, fakes, batch.labels, draws, with_penalty=part == "whole")

    # A loss shows D the reals first, then the fakes.
    seen: list[Tensor] = []

    def heard(images: Tensor) -> Scores:
        scores = judge(images)
        seen.append(scores.value.detach())
        return scores

    terms = loss.d_terms(heard, reals, fakes, batch.labels, draws, with_penalty=part == "whole")
    return terms | {"real_sign": real_sign(seen[0], seen[1], loss.config.boundary)}


def g_loss(
    G: GeneratorLike,
    D: Callable[..., Scores],
    loss: Loss,
    batch: Batch,
    draws: Draws,
    augmentation: Augmentation | None = None,
) -> Terms:
    """Terms of G's loss on as many fresh latents as a batch has. Gradients of fakes go through their augmentation."""
    z = draws.normal(batch.size, G.z_dim).to(batch.dtype)
    fakes, reals = G(z, batch.labels, batch.resolution, batch.alpha), batch.reals
    if augmentation is not None:
        fakes = augment(augmentation, fakes, batch, draws)
        reals = None if reals is None else augment(augmentation, reals, batch, draws)
    return loss.g_terms(critic(D, batch.alpha, batch.dtype, noise=draws), reals, fakes, batch.labels, draws)


def augment(augmentation: Augmentation, images: Tensor, batch: Batch, draws: Draws) -> Tensor:
    """Images [N, C, R, R] as an augmentation changes them, each by random numbers of its own."""
    assert batch.p is not None
    return augmentation(images, draws.uniform(batch.size, augmentation.numbers), batch.p)


def total(terms: Terms, scale: Tensor | float | None = None) -> Tensor:
    """Sum of the terms, times a scale."""
    loss = torch.stack(list(terms.values())).sum()
    return loss if scale is None else loss * scale


class Executor(Protocol):
    """Differentiates the two losses: their gradients, times `scale`, are in the parameters' `grad` afterwards."""

    def d(self, batch: Batch, draws: Draws, scale: Tensor | None = None, part: Part = "whole") -> Terms:
        """Terms of D's loss; gradients of D's parameters."""

    def g(self, batch: Batch, draws: Draws, scale: Tensor | None = None) -> Terms:
        """Terms of G's loss; gradients of G's parameters."""


class Eager:
    """Executor by autograd, for any networks."""

    def __init__(self, G: Generator, D: Discriminator, loss: Loss, augmentation: Augmentation | None = None) -> None:
        self._G, self._D, self._loss, self._augmentation = G, D, loss, augmentation

    def d(self, batch: Batch, draws: Draws, scale: Tensor | None = None, part: Part = "whole") -> Terms:
        terms = d_loss(self._G, self._D, self._loss, batch, draws, part, self._augmentation)
        return _backward(terms, self._D, scale)

    def g(self, batch: Batch, draws: Draws, scale: Tensor | None = None) -> Terms:
        self._D.requires_grad_(False)  # saves D's weight gradients, which nobody wants
        try:
            terms = g_loss(self._G, self._D, self._loss, batch, draws, self._augmentation)
            return _backward(terms, self._G, scale)
        finally:
            self._D.requires_grad_(True)


def _backward(terms: Terms, network: nn.Module, scale: Tensor | None) -> Terms:
    network.zero_grad()
    torch.autograd.backward(total(terms, scale), inputs=list(network.parameters()))
    return terms


def descend(optimizer: Adam, lr: float, processes: Processes = ALONE) -> Tensor:
    """One update of the optimiser's parameters along their gradients; bool [], False if one of them was not finite.

    Gradients are averaged over the processes first, so that all of them update, or none.
    """
    processes.average([parameter.grad for parameter in optimizer.parameters if parameter.grad is not None])
    return optimizer.update(lr)


@torch.no_grad()
def average(G_ema: nn.Module, G: nn.Module, decay: float) -> None:
    """G_ema = decay·G_ema + (1 - decay)·G; buffers are copied."""
    blend = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
    blend(list(G_ema.parameters()), list(G.parameters()), None)
    for mine, theirs in zip(G_ema.buffers(), G.buffers(), strict=True):
        mine.copy_(theirs)


class Step:
    """Steps of one stage: D, the average of G, G. The authors average after every D step, before the G step.

    Each process computes its share of a batch: `size` images of the stage's batch size.
    """

    def __init__(self, setup: RunSetup, state: TrainingState, stage: Stage, executor: Executor | None = None) -> None:
        self.setup, self.state, self.stage = setup, state, stage
        self.size = stage.batch_size // setup.processes.size
        self._executor = executor or Eager(state.G, state.D, setup.loss, setup.augmentation)
        self._dtype, self._device = state.numerics.dtype, torch.device(state.numerics.device)
        self._penalty_every = setup.config.optimizer.penalty_every

    def rng(self, cur_nimg: int, stream: Stream) -> Rng:
        """Random numbers of a step that begins at `cur_nimg`: nothing of a generator is ever stored."""
        processes = self.setup.processes
        return Rng(self.setup.config.runtime.seed, cur_nimg, stream, self._device, processes.rank, processes.size)

    def process(self, pixels: Tensor, draws: Draws) -> Tensor:
        """Pixels uint8 [N, C, R, R] as D sees reals in this stage; half of them mirrored if the run asks for it."""
        mirrored = draws.uniform(self.size) if self.setup.config.dataset.mirror else None
        return process_reals(pixels, self.stage.alpha, mirrored)

    def d(self, reals: Tensor, labels: Tensor | None, draws: Draws) -> Terms:
        """One step of D on processed reals [N, C, R, R] with labels [N, L]; terms of its loss."""
        state, optimizer = self.state, self.state.d_optimizer
        # D's own statistic of the scores of reals (appendix B) changes after the step that it was seen in.
        with _listening(state.D) as scores:
            part: Part = "whole" if self._penalty_every == 1 else "scores"
            terms = self._executor.d(self._batch(reals, labels), draws, optimizer.scale, part)
        self._update("D", optimizer, self.stage.d_lr)
        if scores:
            d = scores[0].mean()
            self.setup.processes.average([d])
            state.D.watch(d)
        self.setup.loss.constrain(state.D)
        return terms

    def lazy_penalty(self, reals: Tensor, labels: Tensor | None, cur_nimg: int) -> Terms:
        """Step of D on the penalty alone after every k-th D step (Karras et al. 2020, appendix B); else no terms.

        Which D step is the k-th follows from `cur_nimg`, where that step began: nothing is counted.
        """
        every, optimizer = self._penalty_every, self.state.d_optimizer
        if every == 1 or cur_nimg // self.stage.batch_size % every != every - 1:
            return {}
        scale = torch.full((), float(every), device=self._device) * (1 if optimizer.scale is None else optimizer.scale)
        draws = self.rng(cur_nimg, "penalty")
        terms = self._executor.d(self._batch(reals, labels), draws, scale, "penalty")
        self._update("D", optimizer, self.stage.d_lr)
        return terms

    def average(self) -> None:
        """Move the averaged generator towards G."""
        average(self.state.G_ema, self.state.G, self.setup.config.optimizer.ema_decay)

    def g(self, labels: Tensor | None, draws: Draws, reals: Tensor | None = None) -> Terms:
        """One step of G on fresh latents with labels [N, L]; terms of its loss. `reals`: those of the last D step."""
        batch = self._batch(reals if self.setup.loss.config.wants_reals else None, labels)
        terms = self._executor.g(batch, draws, self.state.g_optimizer.scale)
        self._update("G", self.state.g_optimizer, self.stage.g_lr)
        return terms

    def _batch(self, reals: Tensor | None, labels: Tensor | None) -> Batch:
        p = None
        if self.setup.augmentation is not None:
            p = torch.full((), self.state.adjustments.augment_p, device=self._device)
        return Batch(self.size, reals, labels, self.stage.resolution, self.stage.alpha, self._dtype, p)

    def _update(self, network: str, optimizer: Adam, lr: float) -> None:
        self.state.count(network, descend(optimizer, lr, self.setup.processes))


@contextmanager
def _listening(D: Discriminator) -> Iterator[list[Tensor]]:
    """List of D's values [N] of what it is shown inside, reals first; empty for a D that does not `watch`."""
    heard: list[Tensor] = []
    if not D.watches:
        yield heard
        return
    hook = D.register_forward_hook(lambda module, inputs, scores: heard.append(scores.value.detach()))
    try:
        yield heard
    finally:
        hook.remove()
