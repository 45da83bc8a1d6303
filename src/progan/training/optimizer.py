"""Adam in the form of TensorFlow, in which the authors trained."""

import math
from collections.abc import Iterable
from dataclasses import replace

import torch
from torch import Tensor, nn

from progan.config import OptimizerConfig

MOMENTS = ("exp_avg", "exp_avg_sq")
_FAR = 2.0**25
"""A number of updates after which PyTorch's kernel corrects no bias any more (and to which float32 cannot add 1)."""
FIRST_SCALE = 10.0
"""log2 of the loss's scale at the start, with room on both sides for the gradients of fresh networks in fp16. The
authors' 64 costs the first fifty updates."""
RISE, FALL = 0.0005, 1.0
"""By which that logarithm rises with an update, and falls where there was none (the authors' tfutil.Optimizer)."""
LEAST_SCALE = -24.0
"""Least value of that logarithm: a scale of 0 would make infinite gradients look finite."""


class Adam(torch.optim.Adam):
    """w -= lr·√(1-β2^t)/(1-β1^t) · m/(√v + ε).

    PyTorch's fused kernel puts ε elsewhere, which no longer matters once t is large: it is always told so, and the
    correction is part of the learning rate it gets. An update with a gradient that is not finite, or so large that its
    square is not, is left out whole, as if it had not been asked for. That is decided on the device, and t counted
    there: nothing waits for a GPU.

    With `scaled` it expects gradients of `scale` times the loss, and finds out how large that can be. In fp16, small
    gradients would be rounded to 0, and too large ones are infinite.

    With a `penalty_every` of k > 1 it makes k + 1 updates where others make k. To compensate, learning rate, β1 and β2
    become c·lr, β1^c and β2^c with c = k/(k+1) (Karras et al. 2020, appendix B).
    """

    def __init__(
        self, parameters: Iterable[nn.Parameter], config: OptimizerConfig, scaled: bool = False, penalty_every: int = 1
    ) -> None:
        self._lr_factor = penalty_every / (penalty_every + 1) if penalty_every > 1 else 1.0
        if penalty_every > 1:
            betas = config.beta1**self._lr_factor, config.beta2**self._lr_factor
            config = replace(config, beta1=betas[0], beta2=betas[1])
        super().__init__(parameters, lr=0.0, betas=(config.beta1, config.beta2), eps=config.adam_eps, fused=True)
        self.config = config
        (group,) = self.param_groups
        self._device = group["params"][0].device
        self._t, self._far = torch.zeros((), device=self._device), torch.full((), _FAR, device=self._device)
        self._log_scale = torch.full((), FIRST_SCALE, device=self._device) if scaled else None
        self._log_betas = [math.log(beta) if beta else -math.inf for beta in group["betas"]]

    @property
    def parameters(self) -> list[nn.Parameter]:
        """Parameters of the network, in its order."""
        parameters: list[nn.Parameter] = self.param_groups[0]["params"]
        return parameters

    @property
    def updates(self) -> int:
        """Number of updates since the last reset, t. Waits for a GPU."""
        return int(self._t)

    @updates.setter
    def updates(self, t: int) -> None:
        self._t.fill_(t)

    @property
    def clock(self) -> Tensor:
        """Number of updates since the last reset, t, float32 [] on the device."""
        return self._t

    @property
    def scale(self) -> Tensor | None:
        """Factor of the loss before it is differentiated, float32 []; None where there is none."""
        return None if self._log_scale is None else 2.0**self._log_scale

    @property
    def log_scale(self) -> float | None:
        """Logarithm of the scale to the base of 2. Waits for a GPU."""
        return None if self._log_scale is None else float(self._log_scale)

    @log_scale.setter
    def log_scale(self, value: float) -> None:
        if self._log_scale is not None:
            self._log_scale.fill_(value)

    @torch.no_grad()
    def update(self, lr: float) -> Tensor:
        """One update along the gradients; bool [], False if it was left out because one was not finite."""
        (group,) = self.param_groups
        parameters = [p for p in group["params"] if p.grad is not None]
        norm = nn.utils.get_total_norm([p.grad for p in parameters])  # the largest entry takes ten times as long
        finite = torch.isfinite(norm).to(self._device)
        # TensorFlow's bias correction goes into the learning rate; t counts updates that were made.
        self._t += finite
        corrections = [-torch.expm1(self._t * log) for log in self._log_betas]
        group["lr"] = lr * self._lr_factor * corrections[1].sqrt() / corrections[0]
        self.found_inf = (~finite).float()  # where torch's kernel looks for it, as for the next
        self.grad_scale = self.scale
        for parameter in parameters:
            if not self.state[parameter]:
                self.state[parameter].update({moment: torch.zeros_like(parameter) for moment in MOMENTS})
            self.state[parameter]["step"] = self._far
        self.step()
        if self._log_scale is not None:
            self._log_scale.add_(torch.where(finite, RISE, -FALL)).clamp_(LEAST_SCALE)
        return finite

    def reset(self) -> None:
        """Forget moments and number of updates, as the authors do when a stage begins; the scale is kept."""
        self.state.clear()
        self.updates = 0
