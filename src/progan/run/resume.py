"""Continuing a run: which settings may change, and the record of those that did."""

from progan.config import CHANGEABLE, RunConfig
from progan.errors import RunError
from progan.options import difference, leaves, override
from progan.run_folder import DataFacts, RunFolder


def begin(folder: RunFolder, config: RunConfig, data: DataFacts, allow_change: bool) -> list[str]:
    """Make the run folder, or compare with what the run was begun with; the settings that change, a line each.

    Raises RunError, with the differences, for other images, for settings that cannot change, and without
    `allow_change` for those that can.
    """
    if not folder.exists:
        folder.write(config, data)
        return []
    old, old_data = folder.read()
    if lines := old_data.difference(data):
        raise RunError(
            f"{folder.path} was begun with other images: {'; '.join(lines)} ({old_data.path} -> {data.path}). "
            "Give it those, or start a new run with another --out"
        )
    changes = difference(old, _same_place(config, old))
    fixed = difference(_with_changeable(old, config), _same_place(config, old))
    allowed = [line for line in changes if line not in fixed]
    if fixed:
        also = f"; --allow-change would take {'; '.join(allowed)}" if allowed else ""
        raise RunError(
            f"{folder.path} was begun with other settings, which cannot change: {'; '.join(fixed)}{also}. "
            "Give it the same ones, or start a new run with another --out"
        )
    if allowed and not allow_change:
        raise RunError(
            f"{folder.path} was begun with other settings: {'; '.join(allowed)}. Add --allow-change to go on with "
            "these, give it the same ones, or start a new run with another --out"
        )
    return allowed


def record(folder: RunFolder, config: RunConfig, changes: list[str], cur_nimg: int) -> None:
    """Put changed settings into `config.json`, and into its history that they hold from `cur_nimg` on."""
    if changes:
        old, data = folder.read()
        history = [*folder.changes(), {"cur_nimg": cur_nimg, "changes": changes}]
        folder.write(_same_place(config, old), data, history)


def _same_place(config: RunConfig, old: RunConfig) -> RunConfig:
    """Where equal images lie does not matter, nor what is only looked at."""
    return override(config, {"data": old.dataset.data, "held_out": old.health.held_out})


def _with_changeable(old: RunConfig, config: RunConfig) -> RunConfig:
    """The old settings with the new values of those that may change."""
    values = {option.name: value for _, option, value in leaves(config)}
    return override(old, {name: values[name] for name in CHANGEABLE})
