"""One D step and one G step: the mathematics of training, nothing else (Karras et al. 2018, appendix A.1)."""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from progan.images import fade, mirror, to_images
from progan.losses import Critic, Loss
from progan.models import Discriminator, Generator, Noise
from progan.randomness import Rng
from progan.schedule import Stage
from progan.scores import Scores
from progan.training.optimizer import Adam
from progan.training.parallel.processes import ALONE, Processes

Terms = dict[str, Tensor]


class Traced(Protocol):
    """Gradients by other means than autograd (training/accelerate/traced.py), left in the parameters' `grad`."""

    def d_terms(
        self, reals: Tensor, labels: Tensor | None, stage: Stage, rng: Rng, scale: Tensor | None = None
    ) -> Terms:
        """Of a D step on processed reals [N, C, R, R]; gradients are those of `scale` times the loss."""

    def g_terms(self, size: int, labels: Tensor | None, stage: Stage, rng: Rng, scale: Tensor | None = None) -> Terms:
        """Of a G step on fresh latents, likewise."""


def process_reals(pixels: Tensor, alpha: float, mirrored: Tensor | None = None) -> Tensor:
    """Pixels uint8 [N, C, R, R] as D sees reals: float -1…1, flipped where `mirrored` [N] ≥ ½, faded as fakes are."""
    images = to_images(pixels)
    if mirrored is not None:
        images = mirror(images, mirrored)
    return fade(images, alpha)


def train_d(
    G: Generator,
    D: Discriminator,
    optimizer: Adam,
    loss: Loss,
    reals: Tensor,
    labels: Tensor | None,
    stage: Stage,
    rng: Rng,
    dtype: torch.dtype,
    processes: Processes = ALONE,
    traced: Traced | None = None,
) -> tuple[Terms, Tensor]:
    """One step of D on processed reals [N, C, R, R], which leaves G alone.

    The terms of the loss; whether D was updated, bool [].
    """
    if traced is not None:
        terms = traced.d_terms(reals, labels, stage, rng, optimizer.scale)
        return terms, descend(optimizer, stage.d_lr, processes)
    with torch.no_grad():
        fakes = G(rng.normal(len(reals), G.z_dim).to(dtype), labels, stage.resolution, stage.alpha)
    slope = stage.resolution / G.resolution
    judge, heard = critic(D, stage.alpha, dtype, slope, rng), list[Tensor]()
    terms = loss.d_terms(_overheard(judge, heard) if D.watches else judge, reals, fakes, labels, rng)
    differentiate(terms, optimizer)
    updated = descend(optimizer, stage.d_lr, processes)
    if D.watches:
        d = heard[0].mean()  # of the reals, which come first
        processes.average([d])
        D.watch(d)
    return terms, updated


def train_g(
    G: Generator,
    D: Discriminator,
    optimizer: Adam,
    loss: Loss,
    batch_size: int,
    labels: Tensor | None,
    stage: Stage,
    rng: Rng,
    dtype: torch.dtype,
    processes: Processes = ALONE,
    traced: Traced | None = None,
) -> tuple[Terms, Tensor]:
    """One step of G on fresh latents, which leaves D alone."""
    if traced is not None:
        terms = traced.g_terms(batch_size, labels, stage, rng, optimizer.scale)
        return terms, descend(optimizer, stage.g_lr, processes)
    fakes = G(rng.normal(batch_size, G.z_dim).to(dtype), labels, stage.resolution, stage.alpha)
    D.requires_grad_(False)  # saves the weight gradients that nobody wants
    try:
        terms = loss.g_terms(critic(D, stage.alpha, dtype, noise=rng), fakes, labels)
        differentiate(terms, optimizer)
    finally:
        D.requires_grad_(True)
    return terms, descend(optimizer, stage.g_lr, processes)


def critic(
    D: Callable[..., Scores], alpha: float | Tensor, dtype: torch.dtype, slope: float = 1.0, noise: Noise | None = None
) -> Critic:
    """D with alpha and noise bound, computing in `dtype` on images of any; its gradient by them is `slope` times D's.

    The authors' D takes images of the final resolution and averages them down itself: the gradient that a penalty sees
    is shared out over (final/R)² pixels, its norm is R/final of ours, and does not jump when the resolution doubles.
    """
    if slope == 1:
        return lambda images: D(images.to(dtype), alpha, noise)
    return lambda images: D((images + (images - images.detach()) * (slope - 1)).to(dtype), alpha, noise)


def _overheard(judge: Critic, heard: list[Tensor]) -> Critic:
    """The same critic, whose values [N] are kept in `heard`."""

    def listening(images: Tensor) -> Scores:
        scores = judge(images)
        heard.append(scores.value.detach())
        return scores

    return listening


def differentiate(terms: Terms, optimizer: Adam) -> None:
    """Put the gradients of the sum of the terms, times the optimiser's scale, into its parameters."""
    optimizer.zero_grad()
    torch.autograd.backward(total(terms, optimizer.scale), inputs=optimizer.parameters)


def total(terms: Terms, scale: Tensor | None = None) -> Tensor:
    """The sum of the terms, times a scale."""
    loss = torch.stack(list(terms.values())).sum()
    return loss if scale is None else loss * scale


def descend(optimizer: Adam, lr: float, processes: Processes = ALONE) -> Tensor:
    """One update of the optimiser's parameters along their gradients; bool [], False if one of them was not finite.

    Gradients are averaged over the processes first, so that all of them update, or none.
    """
    processes.average([parameter.grad for parameter in optimizer.parameters if parameter.grad is not None])
    return optimizer.update(lr)


@torch.no_grad()
def average(G_ema: nn.Module, G: nn.Module, decay: float) -> None:
    """G_ema = decay·G_ema + (1 - decay)·G; the authors do it after every D step, before the G step."""
    blend = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
    blend(list(G_ema.parameters()), list(G.parameters()), None)
    for mine, theirs in zip(G_ema.buffers(), G.buffers(), strict=True):
        mine.copy_(theirs)
