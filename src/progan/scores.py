"""Scores: output of a discriminator."""

from typing import NamedTuple

from torch import Tensor


class Scores(NamedTuple):
    """Scores of N images: the critic's value and, for networks with labels, the auxiliary classifier's logits."""

    value: Tensor
    """Float [N], any range."""
    logits: Tensor | None = None
    """Float [N, L]."""
