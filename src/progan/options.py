"""What can be done with the options of `config.py`: document, parse, override, save, read back and compare them."""

import ast
import dataclasses
import difflib
import functools
import inspect
import math
import reprlib
import textwrap
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from progan.config import LOSS_CONFIGS, MODEL_CONFIGS, RunConfig, flag
from progan.errors import ConfigError
from progan.per_resolution import PerResolution

GROUPS = ("dataset", "schedule", "optimizer", "model", "loss", "runtime", "health")
KINDS: dict[str, dict[str, Any]] = {"model": {**MODEL_CONFIGS}, "loss": {**LOSS_CONFIGS}}
"""The groups of which a run chooses one kind."""


def _with(config: RunConfig, parts: Mapping[str, Any]) -> RunConfig:
    return dataclasses.replace(config, **parts)


@dataclass(frozen=True)
class Option:
    """A leaf of the configuration: flag name, type, default and documentation."""

    name: str
    type: Any
    default: Any
    doc: str


def options(cls: type) -> tuple[Option, ...]:
    """The fields of a config dataclass with their documentation, read from the class's source."""
    docs: dict[str, str] = {}
    for base in reversed(cls.__mro__[:-1]):
        docs.update(_field_docs(base))
    hints = typing.get_type_hints(cls)
    return tuple(Option(f.name, hints[f.name], f.default, docs.get(f.name, "")) for f in dataclasses.fields(cls))


@functools.cache
def _field_docs(cls: type) -> dict[str, str]:
    node = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
    assert isinstance(node, ast.ClassDef)
    docs = {}
    for statement, after in zip(node.body, node.body[1:], strict=False):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            match after:
                case ast.Expr(ast.Constant(str() as text)):
                    docs[statement.target.id] = " ".join(text.split())
    return docs


def coerce(name: str, value: Any, kind: Any) -> Any:
    """`value`, given as text, JSON or Python, as the field's type. Raises ConfigError with the flag's name."""
    members = [member for member in typing.get_args(kind) if member is not type(None)]
    if isinstance(kind, types.UnionType):
        return None if value is None or value == "none" else coerce(name, value, members[0])
    if typing.get_origin(kind) is Literal:
        if value not in members:
            raise ConfigError(
                f"--{flag(name)} must be one of {', '.join(map(str, members))}; got {reprlib.repr(value)}"
            )
        return value
    try:
        return _READERS[kind](value)
    except (TypeError, ValueError, KeyError, OverflowError):
        raise ConfigError(f"--{flag(name)} must be {_ARTICLES[kind]}; got {reprlib.repr(value)}") from None
    except ConfigError as error:
        raise ConfigError(f"--{flag(name)}: {error}") from None


def _text(value: Any) -> str:
    """Of one line: no control characters, which no name and no path has that is meant well."""
    if not isinstance(value, str) or any(ord(letter) < 32 or ord(letter) == 127 for letter in value):
        raise ValueError
    return value


def _truth(value: Any) -> bool:
    return value if isinstance(value, bool) else {"true": True, "false": False}[str(value).lower()]


def _whole(value: Any) -> int:
    result = int(value)
    if isinstance(value, bool | bytes) or (not isinstance(value, str) and result != value):
        raise ValueError
    return result


def _finite(value: Any) -> float:
    result = float(value)
    if isinstance(value, bool | bytes) or not math.isfinite(result):
        raise ValueError
    return result


_READERS: dict[Any, Callable[[Any], Any]] = {
    str: _text,
    bool: _truth,
    int: _whole,
    float: _finite,
    PerResolution: PerResolution.of,
}
_ARTICLES: dict[Any, str] = {str: "text of one line", bool: "true or false", int: "a whole number", float: "a number"}


def leaves(config: RunConfig) -> Iterator[tuple[str, Option, Any]]:
    """Every (group, option, value) of a run's configuration; names are unique over all groups."""
    for group in GROUPS:
        part = getattr(config, group)
        for option in options(type(part)):
            yield group, option, getattr(part, option.name)


def override(config: RunConfig, changes: Mapping[str, Any]) -> RunConfig:
    """The configuration with flat options changed: `override(config, {"lr": 0.002, "loss": "lsgan"})`.

    A length given in thousands of images takes the place of one in epochs. Raises ConfigError for both at once, and for
    an option that nothing has, or that the chosen model or loss does not have.
    """
    if changes.get("stable_kimg") is not None:
        if changes.get("stable_epochs") is not None:
            raise ConfigError("--stable-kimg and --stable-epochs say the same; give one of them")
        changes = {**changes, "stable_epochs": None}
    return _override(config, changes)


def _override(config: RunConfig, changes: Mapping[str, Any]) -> RunConfig:
    parts = {group: getattr(config, group) for group in GROUPS}
    for group, kinds in KINDS.items():
        name = changes.get(group)
        if name is not None and name != parts[group].kind:
            if name not in list(kinds):  # which also takes what cannot be a key
                raise ConfigError(f"--{group} must be one of {', '.join(kinds)}; got {name!r}")
            parts[group] = kinds[name]()
    known = {option.name: (group, option) for group, part in parts.items() for option in options(type(part))}
    updates: dict[str, dict[str, Any]] = {group: {} for group in GROUPS}
    for name, value in changes.items():
        if name in ("model", "loss"):
            continue
        if name not in known:
            raise ConfigError(_unknown(name, known, {group: parts[group].kind for group in KINDS}))
        group, option = known[name]
        updates[group][name] = coerce(name, value, option.type)
    return _with(config, {group: dataclasses.replace(part, **updates[group]) for group, part in parts.items()})


def to_dict(config: RunConfig) -> dict[str, Any]:
    """As JSON holds it: one object per group, `model` and `loss` with their `kind`."""
    result: dict[str, Any] = {"preset": config.preset, **{group: {} for group in GROUPS}}
    result["model"]["kind"], result["loss"]["kind"] = config.model.kind, config.loss.kind
    for group, option, value in leaves(config):
        result[group][option.name] = dict(value.values) if isinstance(value, PerResolution) else value
    return result


def from_dict(data: Mapping[str, Any]) -> RunConfig:
    """The inverse of `to_dict`. Raises ConfigError for what this version does not know."""
    try:
        groups = {"health": {}, **data}  # which the first version did not save
        flat = {name: value for group in GROUPS for name, value in groups[group].items() if name != "kind"}
        kinds = {"model": data["model"]["kind"], "loss": data["loss"]["kind"]}
        return _override(RunConfig(preset=coerce("preset", data["preset"], str)), {**kinds, **flat})
    except (KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"not a configuration of progan: {error!r}") from None


def difference(old: RunConfig, new: RunConfig) -> list[str]:
    """Lines `name: old -> new` for every option that differs; empty if the two are the same."""
    before, after = (dict(_named(config)) for config in (old, new))
    names = dict.fromkeys([*before, *after])
    return [
        f"{flag(name)}: {before.get(name, 'absent')} -> {after.get(name, 'absent')}"
        for name in names
        if before.get(name) != after.get(name)
    ]


def _named(config: RunConfig) -> Iterator[tuple[str, Any]]:
    yield from (("model", config.model.kind), ("loss", config.loss.kind))
    yield from ((option.name, value) for _, option, value in leaves(config))


def _unknown(name: str, known: Mapping[str, Any], chosen: Mapping[str, str]) -> str:
    for group, kinds in KINDS.items():
        owners = [kind for kind, cls in kinds.items() if any(option.name == name for option in options(cls))]
        if owners:
            return f"--{flag(name)} belongs to {group} {' and '.join(owners)}; this run has {chosen[group]}"
    close = difflib.get_close_matches(name, known, n=1)
    return f"there is no option --{flag(name)}" + (f"; did you mean --{flag(close[0])}?" if close else "")
