"""Named, complete configurations. Every option not named in one has the default of `config.py`."""

import dataclasses
from collections.abc import Callable

from progan.config import RunConfig
from progan.errors import ConfigError, did_you_mean
from progan.presets import ablation, baselines, paper

PRESETS: dict[str, Callable[[], RunConfig]] = paper.PRESETS | ablation.PRESETS | baselines.PRESETS


def about(name: str) -> str:
    """A preset in a line."""
    return (PRESETS[name].__doc__ or "1024x1024 with the authors' later schedule for so many GPUs.").splitlines()[0]


def preset(name: str) -> RunConfig:
    """The configuration of that name. Raises ConfigError, with the nearest name, if there is none."""
    if name not in PRESETS:
        hint = did_you_mean(name, PRESETS) or f"; there are {', '.join(PRESETS)}"
        raise ConfigError(f"there is no preset {name!r}{hint}")
    return dataclasses.replace(PRESETS[name](), preset=name)
