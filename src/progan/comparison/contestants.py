"""What is compared: from words (`smooth = progan --loss lsgan`) to configurations that fit the data and each other."""

import dataclasses
import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from progan.commands import CompareConfig, ProtocolConfig, SweepConfig
from progan.config import RunConfig, flag
from progan.data.dataset import Dataset
from progan.errors import ConfigError
from progan.options import from_flags, options, override
from progan.presets import PRESETS, preset
from progan.report.comparison_page import REALS
from progan.schedule import in_images

MOST = 20
"""Contestants of a comparison, of which pictures, charts and tables are shown side by side."""
_MOST_TEXT = 1 << 20
_LARGE = 128
"""Resolution from which ProGAN has the widths of `folder128`."""
_SHORT_NAMES = ("progan", "progan-fast", "dcgan", "lsgan")
_SAME = {
    *("data", "labels", "label_column", "init", "held_out", "total_kimg", "workers"),
    *("compile", "winograd", "cuda_graphs"),
    *("resolution", "seed", "device", "precision"),
    *("tick_kimg", "grid_kimg", "snapshot_kimg", "metrics_kimg", "metrics_num", "stop_when_flat", "copy_to"),
}
"""Options that cannot differ: they decide what is seen, how long, where it is computed and how it is measured."""
_OF_COMMANDS = {option.name for cls in (CompareConfig, SweepConfig) for option in options(cls)} | {"data", "out"}


@dataclass(frozen=True)
class Entrant:
    """A preset with options, as it was asked for."""

    name: str
    preset: str
    options: dict[str, str]

    @property
    def text(self) -> str:
        """`progan --loss lsgan`."""
        return " ".join([self.preset, *(f"--{flag(name)} {value}" for name, value in self.options.items())])


def read_models(models: str) -> str:
    """The text itself, or, if it is the path of a file, its lines without comments, with `; ` between them.

    Raises ConfigError for a file that cannot be read.
    """
    path = Path(models)
    try:
        if models in PRESETS or models in _SHORT_NAMES or not path.is_file():
            return models
        with path.open(encoding="utf-8") as file:
            lines = file.read(_MOST_TEXT).splitlines()
    except (OSError, ValueError) as error:  # a long list is no name of a file
        if any(mark in models for mark in ",; "):
            return models
        raise ConfigError(f"--models: {models} cannot be read: {error}") from None
    kept = [re.sub(r"(^|\s)#.*", "", line).strip() for line in lines]
    return "; ".join(line for line in kept if line)


def parse(models: str) -> list[Entrant]:
    """Contestants of `progan, dcgan`, or of `progan; smooth = progan --loss lsgan`. Raises ConfigError.

    A preset without options that is named twice is there twice, the second time as `progan-2`.
    """
    separator = r"[;\n]" if re.search(r"[;\n]|--", models) else ","
    found: list[Entrant] = []
    for entry in filter(None, map(str.strip, re.split(separator, models))):
        head, equals, rest = entry.partition("=")
        named = bool(equals) and "--" not in head
        name, text = (head.strip(), rest) if named else ("", entry)
        if named:
            check_name(name)
        try:
            words = shlex.split(text)
        except ValueError as error:
            raise ConfigError(f"--models: {entry!r} cannot be understood: {error}") from None
        if not words or words[0].startswith("--"):
            raise ConfigError(f"--models: {entry!r} does not begin with a preset, as `progan --loss lsgan` does")
        if words[0].endswith(","):
            raise ConfigError(f"--models: with options, put `;` between models: {entry!r}")
        try:
            each = Entrant(name, words[0], from_flags(words[1:]))
            refuse_same(each.options)
        except ConfigError as error:
            raise ConfigError(f"{name or words[0]}: {error}") from None
        if not named:
            each = dataclasses.replace(each, name=each.text)
        times = [other.preset for other in found if not other.options].count(each.preset)
        if not named and not each.options and times:
            each = dataclasses.replace(each, name=f"{each.preset}-{times + 1}")
        if each.name in {other.name for other in found}:
            raise ConfigError(f"--models: {each.name!r} is there twice. Leave one out, or give it another name")
        found.append(each)
    if not found:
        raise ConfigError("--models: name at least one, e.g. --models progan,dcgan")
    if len(found) > MOST:
        raise ConfigError(f"--models: {len(found)} are too many to be shown side by side; at most {MOST}")
    return found


def check_name(name: str) -> None:
    """Raise ConfigError for what cannot be the name of a contestant."""
    if not re.fullmatch(r"\w[^\x00-\x1f\x7f]{0,59}", name) or name == REALS:
        raise ConfigError(f"--models: {name!r} cannot be a name: up to 60 characters, the first a letter or a digit")


def refuse_same(names: Iterable[str]) -> None:
    """Raise ConfigError for an option that cannot differ between contestants."""
    for name in names:
        if name in _SAME:
            if name == "total_kimg":
                raise ConfigError("--total-kimg cannot differ between models: the budget says how long runs are")
            whole = ". Give it to the command itself" if name in _OF_COMMANDS else ""
            raise ConfigError(f"--{flag(name)} cannot differ between models{whole}")


def configurations(
    entries: Sequence[Entrant], config: ProtocolConfig, dataset: Dataset, resolution: int
) -> dict[str, RunConfig]:
    """What is to be trained, by the name it has in the comparison; lengths are still the presets' own.

    Raises ConfigError for what cannot be, and for two that are the same but for their names.
    """
    found: dict[str, RunConfig] = {}
    for each in entries:
        made = fit(each, config, dataset, resolution)
        for name, other in found.items():
            again = re.fullmatch(rf"{re.escape(name)}-\d+", each.name) and not each.options
            if dataclasses.replace(other, preset=made.preset) == made and not again:
                raise ConfigError(f"{name!r} and {each.name!r} are the same. Leave one out, or change an option")
        found[each.name] = made
    return found


def fit(entry: Entrant, config: ProtocolConfig, dataset: Dataset, resolution: int) -> RunConfig:
    """One model, at the data's resolution, with the comparison's settings and its own options; epochs as images."""
    fitted = in_epochs(entry, config, dataset, resolution)
    return dataclasses.replace(fitted, schedule=in_images(fitted.schedule, dataset.count))


def chosen_options(entry: Entrant, resolution: int, channels: int) -> RunConfig:
    """The preset with the options that were asked for. Raises ConfigError."""
    chosen = preset(_preset_for(entry.preset, resolution, channels), loss=entry.options.get("loss"))
    return override(chosen, entry.options)


def in_epochs(entry: Entrant, config: ProtocolConfig, dataset: Dataset, resolution: int) -> RunConfig:
    """The same, with epochs where its preset has them."""
    try:
        chosen = chosen_options(entry, resolution, dataset.channels)
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
        if config.width is not None and hasattr(chosen.model, "width"):
            changes["width"] = config.width
        elif config.width is not None:  # the widest layers up to 16x16, half as wide at each doubling
            changes |= {"fmap_max": config.width, "fmap_base": 8 * config.width}
        return override(chosen, {name: value for name, value in changes.items() if name not in entry.options})
    except ConfigError as error:
        raise ConfigError(f"{entry.name}: {error}" if entry.options else str(error)) from None


def _preset_for(name: str, resolution: int, channels: int) -> str:
    """The preset that a short name stands for; another name is a preset's own."""
    if name in ("progan", "progan-fast"):
        fitting = "folder128" if resolution >= _LARGE else "mnist32" if channels == 1 else "quickstart"
        return fitting if name == "progan-fast" or PRESETS[fitting].paper is None else f"{fitting}-paper"
    rests = [other.removeprefix(name) for other in PRESETS if other.startswith(name)]
    sizes = sorted(int(rest) for rest in rests if rest.isdecimal())
    if name in PRESETS or not sizes:
        if "/" in name or name.endswith(".txt"):
            raise ConfigError(f"there is no file {name}")
        return name  # of an unknown name `preset` tells the nearest one
    return f"{name}{max((size for size in sizes if size <= resolution), default=sizes[0])}"


def folders(names: Iterable[str]) -> dict[str, str]:
    """Name of each contestant -> a name of its own for files, which any file system takes."""
    found: dict[str, str] = {}
    for name in names:
        plain = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")[:60] or "model"
        plain = f"model-{plain}" if plain.startswith("control-") else plain  # as files of controls are called
        taken, tried, number = {each.casefold() for each in found.values()}, plain, 1
        while tried.casefold() in taken:
            number += 1
            tried = f"{plain}-{number}"
        found[name] = tried
    return found
