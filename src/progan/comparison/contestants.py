"""From the names of models to configurations that fit the data."""

import dataclasses
from typing import Any

from progan.config import CompareConfig, RunConfig
from progan.data.dataset import Dataset
from progan.errors import ConfigError
from progan.options import override
from progan.presets import PRESETS, preset
from progan.schedule import in_images

_LARGE = 128
"""Resolution from which ProGAN has the widths of `folder128`."""


def contestants(config: CompareConfig, dataset: Dataset, resolution: int) -> dict[str, RunConfig]:
    """What is to be trained, by the name it has in the comparison; lengths are still the presets' own.

    A model that is named twice is there twice, the second time as `progan-2`. Raises ConfigError for what cannot be.
    """
    found: dict[str, RunConfig] = {}
    names = [name.strip() for name in config.models.split(",") if name.strip()]
    if not names:
        raise ConfigError("--models: name at least one, e.g. --models progan,dcgan")
    for i, name in enumerate(names):
        times = names[: i + 1].count(name)
        found[name if times == 1 else f"{name}-{times}"] = fit(name, config, dataset, resolution)
    return found


def fit(name: str, config: CompareConfig, dataset: Dataset, resolution: int) -> RunConfig:
    """One model, at the data's resolution, with the comparison's width and settings."""
    chosen = preset(_preset_for(name, resolution, dataset.channels))
    fixed = chosen.schedule.start_resolution == chosen.schedule.resolution
    changes: dict[str, Any] = {
        "data": str(dataset.path),
        "mirror": config.mirror,
        "labels": False,
        "resolution": resolution,
        "start_resolution": resolution if fixed else chosen.schedule.start_resolution,
        "device": config.device,
        "precision": config.precision,
    }
    fitted = override(chosen, {**changes, **_width(chosen, config.width)})
    return dataclasses.replace(fitted, schedule=in_images(fitted.schedule, dataset.count))


def _preset_for(name: str, resolution: int, channels: int) -> str:
    """The preset that a short name stands for; another name is a preset's own."""
    if name == "progan":
        if resolution >= _LARGE:
            return "folder128"
        return "mnist32" if channels == 1 else "quickstart"
    if name in PRESETS:
        return name
    sizes = sorted(
        int(other[len(name) :]) for other in PRESETS if other[: len(name)] == name and other[len(name) :].isdecimal()
    )
    if not sizes:
        return name  # which `preset` answers with the nearest name
    return f"{name}{max((size for size in sizes if size <= resolution), default=sizes[0])}"


def _width(config: RunConfig, width: int | None) -> dict[str, int]:
    """The option of this model that is its width."""
    names = {field.name for field in dataclasses.fields(config.model)}
    if width is None:
        return {}
    if "width" in names:
        return {"width": width}
    return {"fmap_max": width, "fmap_base": 8 * width}  # the widest layers up to 16x16, half as wide at each doubling
