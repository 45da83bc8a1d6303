"""Cross-entropy with the saturating G loss (Goodfellow et al. 2014, equation 1)."""

import torch.nn.functional as F
from torch import Tensor

from progan.losses.nonsaturating import Nonsaturating


class Minimax(Nonsaturating):
    """D as with the non-saturating loss; G: E[log(1 - σ(D(fake)))], which is flat where D is sure of fakes."""

    def g_scores(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        return -F.softplus(fake).mean()
