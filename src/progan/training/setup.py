"""Setup of a run: what every part of training needs to know, made once and passed along."""

from dataclasses import dataclass
from functools import cached_property

import torch

from progan import losses
from progan.config import RunConfig
from progan.losses import LabelKind, Loss
from progan.models import ImageShape
from progan.progress import Log, silent
from progan.schedule import Schedule
from progan.training import augment
from progan.training.augment import Augmentation
from progan.training.numerics import Numerics
from progan.training.parallel.processes import ALONE, Processes


@dataclass(frozen=True)
class RunSetup:
    """Configuration, shape of the images, numerics and processes of a run, and where its messages go."""

    config: RunConfig
    shape: ImageShape
    numerics: Numerics
    processes: Processes = ALONE
    log: Log = silent
    label_kind: LabelKind = "class"

    @cached_property
    def schedule(self) -> Schedule:
        return Schedule(self.config.schedule)

    @cached_property
    def loss(self) -> Loss:
        return losses.build(self.config.loss, self.label_kind)

    @cached_property
    def augmentation(self) -> Augmentation | None:
        """What D's view of reals and fakes goes through (--augment); None for nothing."""
        return augment.build(self.config.dataset)

    @property
    def device(self) -> torch.device:
        return torch.device(self.numerics.device)

    def batch_size(self, resolution: int) -> int:
        """Batch size of all processes together at a resolution."""
        return int(self.config.schedule.batch_size.at(resolution))
