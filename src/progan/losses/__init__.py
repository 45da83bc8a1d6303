"""What D and G minimise: named scalars, summed to be minimised and logged by name."""

from progan.config import LossConfig, LossName
from progan.losses.base import Critic, LabelKind, Loss, Uniform, label_loss
from progan.losses.lsgan import Lsgan
from progan.losses.nonsaturating import Nonsaturating
from progan.losses.wgan_gp import WganGp

__all__ = ["LOSSES", "Critic", "LabelKind", "Loss", "Uniform", "build", "label_loss"]

LOSSES: dict[LossName, type[Loss]] = {"wgan-gp": WganGp, "lsgan": Lsgan, "nonsaturating": Nonsaturating}


def build(config: LossConfig, label_kind: LabelKind = "class") -> Loss:
    """The loss of a configuration; `label_kind` decides the auxiliary classifier's cross-entropy."""
    return LOSSES[config.kind](config, label_kind)
