"""What every loss shares: its interface, gradient penalties, and the auxiliary classifier's term."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from progan.config import LossConfig
from progan.scores import Scores

Critic = Callable[[Tensor], Scores]
LabelKind = Literal["class", "attributes"]


class Uniform(Protocol):
    """Source of a loss's random numbers."""

    def uniform(self, n: int) -> Tensor:
        """Uniform in [0, 1), float32 [n]."""


class Loss(ABC):
    """One GAN objective: what scores cost D and G, a penalty where it has one, and the cost of wrong labels."""

    def __init__(self, config: LossConfig, label_kind: LabelKind) -> None:
        self.config, self.label_kind = config, label_kind

    def d_terms(
        self,
        critic: Critic,
        reals: Tensor,
        fakes: Tensor,
        labels: Tensor | None,
        rng: Uniform,
        with_penalty: bool = True,
    ) -> dict[str, Tensor]:
        """Scalars whose sum D minimises. Fakes carry no gradient; labels [N, L] belong to reals and fakes alike.

        Reals, fakes and what a penalty looks at pass D separately and in this order, each with its own minibatch
        statistics. Without `with_penalty`, D's penalty is left to a step of its own (--penalty-every).
        """
        real, fake = critic(reals), critic(fakes)
        terms = self.d_scores(real.value, fake.value)
        if with_penalty:
            terms |= self.penalty(critic, reals, fakes, rng)
        if labels is not None:
            wrong = label_loss(real, labels, self.label_kind) + label_loss(fake, labels, self.label_kind)
            terms["labels"] = self.config.label_weight * wrong
        return terms

    def g_terms(
        self, critic: Critic, reals: Tensor | None, fakes: Tensor, labels: Tensor | None, rng: Uniform
    ) -> dict[str, Tensor]:
        """Scalars whose sum G minimises; labels [N, L] are those G was given.

        `reals` are those of the last D step where the configuration `wants_reals`, else None.
        """
        scores = critic(fakes)
        real = critic(reals).value if reals is not None else None
        terms = {"fake": self.g_scores(scores.value, real)}
        if labels is not None:
            terms["labels"] = self.config.label_weight * label_loss(scores, labels, self.label_kind)
        return terms

    @abstractmethod
    def d_scores(self, real: Tensor, fake: Tensor) -> dict[str, Tensor]:
        """Terms of D's loss from its values of reals [N] and fakes [N]."""

    @abstractmethod
    def g_scores(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        """G's loss from D's values of fakes [N], and of reals [N] where the configuration `wants_reals`."""

    def penalty(self, critic: Critic, reals: Tensor, fakes: Tensor, rng: Uniform) -> dict[str, Tensor]:
        """Terms of D's loss that depend on its gradients by images; none where the configuration is not `penalised`."""
        return {}

    def constrain(self, D: nn.Module) -> None:
        """Change D's weights in place after its optimiser did, such as clip them; nothing by default."""
        return


def gradient_norms(critic: Critic, images: Tensor) -> Tensor:
    """|∂ value / ∂ image| of each image, [N], itself differentiable. No epsilon under the root, as in the paper."""
    return squared_gradient_norms(critic, images).sqrt()


def squared_gradient_norms(critic: Critic, images: Tensor) -> Tensor:
    """Their squares, which are differentiable where a gradient is 0 as well."""
    images = images.detach().requires_grad_(True)
    (gradients,) = torch.autograd.grad(critic(images).value.sum(), images, create_graph=True)
    return gradients.square().sum((1, 2, 3))


def zero_centred_penalty(weight: float, critic: Critic, images: Tensor) -> Tensor:
    """γ/2·E[|∇D(x)|²]: R1 where the images are reals, R2 where they are fakes (Mescheder et al. 2018)."""
    return weight / 2 * squared_gradient_norms(critic, images).mean()


def label_loss(scores: Scores, labels: Tensor, kind: LabelKind) -> Tensor:
    """Mean cross-entropy of the auxiliary classifier (Odena et al. 2017): softmax over one-hot classes [N, L]

    or, for attributes, a sigmoid for each, summed over the attributes (our extension).
    """
    assert scores.logits is not None, "labels go with a discriminator that was built for them"
    if kind == "class":
        return F.cross_entropy(scores.logits, labels)
    labels = labels.to(scores.logits.dtype)  # else float64 logits would give a float32 loss
    return F.binary_cross_entropy_with_logits(scores.logits, labels, reduction="none").sum(1).mean()
