"""What can be done with options of config.py and commands.py: document, parse, override, save, read back, compare.

Two ways lead from a value to the type of a field: `coerce` takes what people write, also as text; `parse_json` takes
what files say, which is not to be trusted, and converts nothing.
"""

import ast
import dataclasses
import functools
import inspect
import json
import math
import sys
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from progan.config import LOSS_CONFIGS, MODEL_CONFIGS, BaseLossConfig, BaseModelConfig, RunConfig, coerce, flag
from progan.errors import ConfigError, UnknownKindError, did_you_mean
from progan.per_resolution import PerResolution, shortest
from progan.plugins import Registry

Record = TypeVar("Record")
GROUPS = ("dataset", "schedule", "optimizer", "model", "loss", "runtime", "health")


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
def _classes(module: str) -> dict[str, ast.ClassDef]:
    """The classes of a module, whose source is read once: `inspect` would parse it anew for each class."""
    tree = ast.parse(inspect.getsource(sys.modules[module]))
    return {node.name: node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}


@functools.cache
def _field_docs(cls: type) -> dict[str, str]:
    node = _classes(cls.__module__)[cls.__name__]
    docs = {}
    for statement, after in zip(node.body, node.body[1:], strict=False):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            match after:
                case ast.Expr(ast.Constant(str() as text)):
                    docs[statement.target.id] = " ".join(text.split())
    return docs


OF_TRAIN = (
    "preset",
    "out",
    "allow_change",
    "dry_run",
    "json",
    "quiet",
    "profile",
    "time_limit",
    "minutes",
    "download",
    "run",
)
"""Arguments of `progan train` that are no options of the run."""


def _mistake(name: str, cls: Any, group: str, base: type[BaseModelConfig] | type[BaseLossConfig]) -> str | None:
    """What is wrong with a config class from another package, if anything: all options share one list of flags."""
    if not (isinstance(cls, type) and issubclass(cls, base) and "__dataclass_fields__" in vars(cls) and cls.home):
        return f"it is no dataclass derived from config.{base.__name__} that has a home"
    if getattr(cls, "kind", None) != name:
        return f"its kind is {getattr(cls, 'kind', None)!r}, not {name!r}"
    mine = {option.name: option.type for option in options(cls)}
    for option in options(cls):
        if option.name in (*OF_TRAIN, "recipe", "help", "for"):
            return f"`progan train` has an argument {option.name} already"
        if option.default is dataclasses.MISSING:
            return f"its option {option.name} has no default"
        if not _is_given(option.type):
            return f"its option {option.name} is neither text, a number, true or false, nor one of several words"
    for other, hint in typing.get_type_hints(RunConfig).items():
        for option in (
            option for each in typing.get_args(hint) or [hint] if other in GROUPS for option in options(each)
        ):
            if option.name in mine and (other != group or option.type != mine[option.name]):
                return f"{other} has an option {option.name} already"
    for other in KINDS.keys() - {group}:
        if taken := next((option for option in mine for _ in owners(other, option)), None):
            return f"a {other} has an option {taken} already"
    return None


def _is_given(kind: Any) -> bool:
    """True for the type of an option that text can give: see `coerce`."""
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        members = [member for member in typing.get_args(kind) if member is not type(None)]
        return len(members) == 1 and _is_given(members[0])
    return typing.get_origin(kind) is Literal or kind in (str, bool, int, float, PerResolution)


KINDS: dict[str, Mapping[str, Any]] = {
    "model": Registry("models", MODEL_CONFIGS, functools.partial(_mistake, group="model", base=BaseModelConfig)),
    "loss": Registry("losses", LOSS_CONFIGS, functools.partial(_mistake, group="loss", base=BaseLossConfig)),
}
"""Groups of which a run chooses one kind -> name of the kind -> its config class."""


def owners(group: str, name: str) -> list[str]:
    """Models (group "model") or losses (group "loss") that have an option of this name."""
    return [kind for kind, cls in KINDS.get(group, {}).items() if any(option.name == name for option in options(cls))]


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
    changed: dict[str, Any] = {group: dataclasses.replace(part, **updates[group]) for group, part in parts.items()}
    return dataclasses.replace(config, **changed)


def to_dict(config: RunConfig) -> dict[str, Any]:
    """The configuration as JSON has it: one object per group, `model` and `loss` with their `kind`."""
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
        kinds = {group: coerce(group, data[group]["kind"], str) for group in KINDS}
        for group, kind in kinds.items():
            if kind not in KINDS[group]:
                raise UnknownKindError(
                    f"{group} {kind} is not installed. Install the package that has it, or a newer progan"
                )
        return _override(RunConfig(preset=coerce("preset", data["preset"], str)), {**kinds, **flat})
    except (KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"not a configuration of progan: {error!r}") from None


@functools.cache
def _all_types() -> Mapping[str, Any]:
    """Name of every option of a run, whatever its model and loss -> its type."""
    kinds = [kind for kinds in KINDS.values() for kind in kinds.values()]
    parts = [type(getattr(RunConfig(), group)) for group in GROUPS if group not in KINDS]
    return {**dict.fromkeys(KINDS, str), **{o.name: o.type for cls in (*kinds, *parts) for o in options(cls)}}


def from_flags(words: Sequence[str]) -> dict[str, str]:
    """Flat options from words of a command line: `--lr 0.002 --no-tanh` is {"lr": "0.002", "tanh": "false"}.

    Raises ConfigError for what is no option of a run, for one without its value, and for one that is given twice.
    """
    types, found, waiting = _all_types(), dict[str, str](), list(words)
    while waiting:
        word = waiting.pop(0)
        spelled, has_value, value = word.removeprefix("--").partition("=")
        name, negated = spelled.replace("-", "_"), spelled.replace("-", "_").removeprefix("no_")
        if not word.startswith("--") or not spelled:
            raise ConfigError(f"{word!r} is no option: those begin with --")
        if name not in types and types.get(negated) is not bool:
            raise ConfigError(f"there is no option --{spelled}{did_you_mean(word, [f'--{flag(n)}' for n in types])}")
        if not has_value:
            if name not in types:
                name, value = negated, "false"
            elif waiting and not waiting[0].startswith("--"):
                value = waiting.pop(0)
            elif types[name] is bool:
                value = "true"
            else:
                raise ConfigError(f"{word} needs a value")
        if name in found:
            raise ConfigError(f"--{flag(name)} is given twice")
        found[name] = value
    return found


def to_flags(config: RunConfig, base: RunConfig) -> list[str]:
    """Words of a command line that make `config` of `base`: `override(base, from_flags(words))` is `config`."""
    words: list[str] = []
    parts = {group: getattr(base, group) for group in GROUPS}
    for group, kinds in KINDS.items():
        kind = getattr(config, group).kind
        if kind != parts[group].kind:
            words += [f"--{group}", kind]
            parts[group] = kinds[kind]()
    for group, option, value in leaves(config):
        if value != getattr(parts[group], option.name):
            if option.type is bool:
                words.append(f"--{'' if value else 'no-'}{flag(option.name)}")
            else:
                words += [f"--{flag(option.name)}", _spelled(value)]
    return words


def _spelled(value: Any) -> str:
    """Value of an option as text that `coerce` reads; no digit is lost."""
    if isinstance(value, PerResolution):
        pairs = [(key, shortest(number)) for key, number in value.values]
        return pairs[0][1] if len(pairs) == 1 and pairs[0][0] == 4 else ",".join(f"{key}:{n}" for key, n in pairs)
    if isinstance(value, float):
        return shortest(value)
    return "none" if value is None else str(value)


def difference(old: RunConfig, new: RunConfig) -> list[str]:
    """Lines `name: old -> new` for every option that differs; empty if the two are the same."""
    before, after = (
        {"model": config.model.kind, "loss": config.loss.kind}
        | {option.name: value for _, option, value in leaves(config)}
        for config in (old, new)
    )
    return [
        f"{flag(name)}: {before.get(name, 'absent')} -> {after.get(name, 'absent')}"
        for name in before | after
        if before.get(name) != after.get(name)
    ]


def _unknown(name: str, known: Mapping[str, Any], chosen: Mapping[str, str]) -> str:
    for group in KINDS:
        if having := owners(group, name):
            return f"--{flag(name)} belongs to {group} {' and '.join(having)}; this run has {chosen[group]}"
    return f"there is no option --{flag(name)}{did_you_mean(f'--{flag(name)}', [f'--{flag(each)}' for each in known])}"


def json_text(data: Any, indent: int | None = None) -> str:
    """The data as JSON. That has no NaN and no infinity: they become null. Dataclasses become objects."""

    def plain(value: Any) -> Any:
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            value = vars(value)
        if isinstance(value, Mapping):
            return {key: plain(each) for key, each in value.items()}
        if isinstance(value, list | tuple):
            return [plain(each) for each in value]
        return None if isinstance(value, float) and not math.isfinite(value) else value

    return json.dumps(plain(data), indent=indent, allow_nan=False)


def parse_json(cls: type[Record], data: Any) -> Record:
    """An instance of the dataclass from a JSON object that has its fields and no others.

    Knows str, int, float, bool, None, Literal, unions, tuple[X, ...], Mapping[str, X], Any and dataclasses. Raises
    ValueError for what does not fit.
    """
    try:
        inspect.signature(cls).bind(**data)
    except TypeError as error:
        raise ValueError(f"{cls.__name__}: {error}") from None
    hints = typing.get_type_hints(cls)
    return cls(**{name: _from_json(name, value, hints[name]) for name, value in data.items()})


def _from_json(name: str, value: Any, kind: Any) -> Any:
    origin, members = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any or (origin is Literal and isinstance(value, str | int) and value in members):
        return value
    if origin in (types.UnionType, typing.Union):
        if value is None and type(None) in members:
            return None
        return _from_json(name, value, next(member for member in members if member is not type(None)))
    if origin is tuple and isinstance(value, list | tuple) and (members[-1] is ... or len(value) == len(members)):
        wanted = [members[0]] * len(value) if members[-1] is ... else members
        return tuple(_from_json(name, each, member) for each, member in zip(value, wanted, strict=True))
    if isinstance(origin, type) and issubclass(origin, Mapping) and isinstance(value, Mapping):
        return {key: _from_json(name, each, members[1]) for key, each in value.items()}
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return value if isinstance(value, kind) else parse_json(kind, value)
    if kind is float and type(value) in (int, float) and abs(value) <= sys.float_info.max:  # NaN is not
        return float(value)
    if origin is None and type(value) is kind:
        return value
    raise ValueError(f"{name} is {str(value)[:40]!r}")
