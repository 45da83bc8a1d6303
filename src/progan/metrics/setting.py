"""What metrics are made with."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from progan.errors import ConfigError

if TYPE_CHECKING:
    from progan.data.dataset import Dataset
    from progan.metrics.features import Features


@dataclass(frozen=True)
class Setting:
    """What a metric may ask for; networks that several of them use are held here once."""

    seed: int = 0
    """Of whatever a metric draws."""
    resolution: int = 0
    """Of the images to be measured."""
    dataset: "Dataset | None" = None
    """What the generator learned from."""
    held_out: "Dataset | None" = None
    """Images of the same kind that it did not learn from."""
    inception_weights: Path | None = None
    """File of an Inception-v3 network."""
    device: str = "cpu"
    notes: list[str] = field(default_factory=list)
    """What people must know beside the numbers."""
    tell: Callable[[str], None] = lambda text: None
    """Told what takes time."""

    _inception: "list[Features]" = field(default_factory=list, init=False, repr=False)

    @cached_property
    def features(self) -> "Features":
        """The convolutions that density, coverage, precision, recall and neighbours look through."""
        self.need_resolution("comparing features", 8)
        from progan.metrics.features import Features, RandomConvolutions

        return Features(RandomConvolutions(self.device))

    def inception(self, metric: str) -> "Features":
        """Features and logits of Inception-v3. Raises ConfigError if there are no weights."""
        if not self._inception:
            from progan.metrics.features import Features
            from progan.metrics.inception import open_inception

            self._inception.append(Features(open_inception(metric, self)))
        return self._inception[0]

    def note(self, text: str) -> None:
        """Leave a line for people, once."""
        if text not in self.notes:
            self.notes.append(text)

    def need_resolution(self, name: str, least: int) -> None:
        """Raise ConfigError where the images are too small."""
        if 0 < self.resolution < least:
            raise ConfigError(f"{name} needs images of at least {least}x{least}; these have {self.resolution}")

    def need_dataset(self, name: str) -> "Dataset":
        """The dataset. Raises ConfigError where there is none."""
        if self.dataset is None:
            raise ConfigError(f"{name} needs the dataset that the images come from")
        return self.dataset
