"""Adam in the form of TensorFlow, in which the authors trained."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from progan.config import OptimizerConfig


class Adam(torch.optim.Adam):
    """w -= lr·√(1-β2^t)/(1-β1^t) · m/(√v + ε): PyTorch's Adam with ε/√(1-β2^t) for its ε.

    An update with a gradient that is not finite is left out whole, as if it had not been asked for.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], config: OptimizerConfig) -> None:
        super().__init__(parameters, lr=0.0, betas=(config.beta1, config.beta2), eps=config.adam_eps, fused=True)
        self.config = config
        self.updates = 0
        """Since the last reset: t."""

    def update(self, lr: float) -> bool:
        """One step along the gradients; False if it was left out."""
        (group,) = self.param_groups
        gradients = [p.grad for p in group["params"] if p.grad is not None]
        if not math.isfinite(largest(gradients)):
            return False
        self.updates += 1
        group["lr"] = lr
        group["eps"] = self.config.adam_eps / math.sqrt(1 - self.config.beta2**self.updates)
        self.step()
        return True

    def reset(self) -> None:
        """Forget moments and number of updates, as the authors do whenever a stage begins."""
        self.state.clear()
        self.updates = 0


def largest(tensors: list[Tensor]) -> float:
    """The largest magnitude of any entry; NaN if there is one."""
    return float(nn.utils.get_total_norm(tensors, norm_type=math.inf)) if tensors else 0.0
