"""What a run changed of its own settings on its way. Part of the training state: a continued run obeys it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from progan.models import Discriminator
from progan.schedule import Stage


@dataclass
class Adjustments:
    """Changes, and what was seen of the signs that lead to the next ones."""

    lr_factor: float = 1.0
    """Of both learning rates."""
    dropout: float = 0.0
    """Added to D's."""
    rewinds: tuple[int, ...] = ()
    """`cur_nimg` of the states that the run went back to."""
    left_out: dict[str, int] = field(default_factory=lambda: {"D": 0, "G": 0})
    """Updates left out one after another, up to now."""
    wild_ticks: int = 0
    """One after another, with losses beyond all bounds."""
    won_ticks: int = 0
    """One after another, in which D won."""
    ticks: int = 0
    """Since the run began, those gone back over not counted."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of_json(cls, data: Mapping[str, Any]) -> "Adjustments":
        return cls(**{**data, "rewinds": tuple(data.get("rewinds", ()))})

    def apply(self, stage: Stage) -> Stage:
        """The stage with the learning rates that hold now."""
        if self.lr_factor == 1:
            return stage
        return replace(stage, g_lr=stage.g_lr * self.lr_factor, d_lr=stage.d_lr * self.lr_factor)

    def apply_to(self, D: Discriminator, dropout: float | None) -> None:
        """Give D the dropout that holds now; `dropout` is that of the configuration, None for a D that has none."""
        if dropout is not None:
            D.dropout = dropout + self.dropout  # type: ignore[assignment]

    def count(self, network: str, updated: bool) -> None:
        """Note whether a step of D or G was an update."""
        self.left_out[network] = 0 if updated else self.left_out[network] + 1

    def describe(self) -> str:
        """What differs from the configuration, for people; empty if nothing does."""
        parts = [] if self.lr_factor == 1 else [f"learning rates x {self.lr_factor:g}"]
        parts += [f"D's dropout + {self.dropout:g}"] if self.dropout else []
        return ", ".join(parts)
