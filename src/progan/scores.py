"""What a discriminator says of images."""

from typing import NamedTuple

from torch import Tensor


class Scores(NamedTuple):
    """Of N images: the critic's value and, where the networks know labels, the auxiliary classifier's logits."""

    value: Tensor
    """Float [N], any range."""
    logits: Tensor | None = None
    """Float [N, L]."""
