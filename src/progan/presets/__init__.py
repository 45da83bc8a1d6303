"""Named, complete configurations. Every option not named in one has the default of `config.py`."""

import dataclasses
from collections.abc import Callable
from difflib import get_close_matches

from progan.config import RunConfig
from progan.errors import ConfigError
from progan.presets import ablation, baselines, paper

PRESETS: dict[str, Callable[[], RunConfig]] = paper.PRESETS | ablation.PRESETS | baselines.PRESETS


def about(name: str) -> str:
    """A preset in a line."""
    return (PRESETS[name].__doc__ or "1024x1024 with the authors' later schedule for so many GPUs.").splitlines()[0]


def preset(name: str) -> RunConfig:
    """The configuration of that name. Raises ConfigError, with the nearest name, if there is none."""
    if name not in PRESETS:
        close = get_close_matches(name, PRESETS, n=1)
        hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(PRESETS)}"
        raise ConfigError(f"there is no preset {name!r}; {hint}")
    return dataclasses.replace(PRESETS[name](), preset=name)
