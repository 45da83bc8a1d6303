"""Losses of D and G: named scalars, summed to be minimised and logged by name."""

from progan import plugins
from progan.config import (
    HingeConfig,
    LossConfig,
    LsganConfig,
    MinimaxConfig,
    NonsaturatingConfig,
    RelativisticConfig,
    WganConfig,
    WganGpConfig,
)
from progan.losses.base import Critic, LabelKind, Loss, Uniform, label_loss
from progan.losses.hinge import Hinge
from progan.losses.lsgan import Lsgan
from progan.losses.minimax import Minimax
from progan.losses.nonsaturating import Nonsaturating
from progan.losses.relativistic import Relativistic
from progan.losses.wgan import Wgan
from progan.losses.wgan_gp import WganGp

__all__ = ["LOSSES", "Critic", "LabelKind", "Loss", "Uniform", "build", "label_loss"]

LOSSES: dict[type[LossConfig], type[Loss]] = {
    WganGpConfig: WganGp,
    WganConfig: Wgan,
    LsganConfig: Lsgan,
    NonsaturatingConfig: Nonsaturating,
    MinimaxConfig: Minimax,
    HingeConfig: Hinge,
    RelativisticConfig: Relativistic,
}
"""Registry: a loss is a config class in the union `config.LossConfig`, a file of this folder, and a line here."""


def build(config: LossConfig, label_kind: LabelKind = "class") -> Loss:
    """Loss of a configuration; `label_kind` decides the auxiliary classifier's cross-entropy."""
    loss = LOSSES.get(type(config)) or plugins.load(config.home)
    return loss(config, label_kind)
