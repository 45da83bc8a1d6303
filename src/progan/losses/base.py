"""What every loss shares: its interface, and the auxiliary classifier's term."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Literal, Protocol

import torch.nn.functional as F
from torch import Tensor

from progan.config import LossConfig
from progan.scores import Scores

Critic = Callable[[Tensor], Scores]
LabelKind = Literal["class", "attributes"]


class Uniform(Protocol):
    """Where a loss takes its random numbers from."""

    def uniform(self, n: int) -> Tensor:
        """Uniform in [0, 1), float32 [n]."""


class Loss(ABC):
    """One GAN objective: what its scores cost, a penalty where it has one, and the cost of wrong labels."""

    undecided: float | None = None
    """The score with which D takes no side; None where scores have no scale of their own."""

    def __init__(self, config: LossConfig, label_kind: LabelKind) -> None:
        self.config, self.label_kind = config, label_kind

    def d_terms(
        self, critic: Critic, reals: Tensor, fakes: Tensor, labels: Tensor | None, rng: Uniform
    ) -> dict[str, Tensor]:
        """Scalars whose sum D minimises. Fakes carry no gradient; labels [N, L] belong to reals and fakes alike.

        Reals, fakes and what a penalty looks at pass D separately and in this order, each with its own minibatch
        statistics.
        """
        real, fake = critic(reals), critic(fakes)
        terms = self.d_scores(real.value, fake.value) | self.penalty(critic, reals, fakes, rng)
        if labels is not None:
            wrong = label_loss(real, labels, self.label_kind) + label_loss(fake, labels, self.label_kind)
            terms["labels"] = self.config.label_weight * wrong
        return terms

    def g_terms(self, critic: Critic, fakes: Tensor, labels: Tensor | None) -> dict[str, Tensor]:
        """Scalars whose sum G minimises; labels [N, L] are those G was given."""
        scores = critic(fakes)
        terms = {"fake": self.g_scores(scores.value)}
        if labels is not None:
            terms["labels"] = self.config.label_weight * label_loss(scores, labels, self.label_kind)
        return terms

    @abstractmethod
    def d_scores(self, real: Tensor, fake: Tensor) -> dict[str, Tensor]:
        """What D's values of reals [N] and fakes [N] cost D."""

    @abstractmethod
    def g_scores(self, fake: Tensor) -> Tensor:
        """What D's values of fakes [N] cost G."""

    def penalty(self, critic: Critic, reals: Tensor, fakes: Tensor, rng: Uniform) -> dict[str, Tensor]:
        """What D's slope costs it."""
        return {}


def label_loss(scores: Scores, labels: Tensor, kind: LabelKind) -> Tensor:
    """Mean cross-entropy of the auxiliary classifier (Odena et al. 2017): softmax over one-hot classes [N, L]

    or, for attributes, a sigmoid for each, summed over the attributes (our extension).
    """
    assert scores.logits is not None, "labels go with a discriminator that was built for them"
    if kind == "class":
        return F.cross_entropy(scores.logits, labels)
    labels = labels.to(scores.logits.dtype)  # else float64 logits would give a float32 loss
    return F.binary_cross_entropy_with_logits(scores.logits, labels, reduction="none").sum(1).mean()
