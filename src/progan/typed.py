"""Plain JSON as a dataclass, with the types its fields declare: what files say of themselves is not to be trusted."""

import dataclasses
import sys
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, TypeVar

Record = TypeVar("Record")


def parse(cls: type[Record], data: Any) -> Record:
    """An instance of the dataclass from a JSON object that has its fields and no others.

    Knows str, int, float, bool, None, Literal, unions, tuple[X, ...], Mapping[str, X], Any and dataclasses. Raises
    ValueError for what does not fit.
    """
    hints = typing.get_type_hints(cls)
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    if not isinstance(data, Mapping) or not data.keys() <= fields.keys():
        raise ValueError(f"no {cls.__name__}")
    missing = [
        name
        for name, field in fields.items()
        if name not in data and field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise ValueError(f"{cls.__name__} without {', '.join(missing)}")
    return cls(**{name: _value(name, value, hints[name]) for name, value in data.items()})


def names(cls: type) -> list[str]:
    """Of the fields."""
    return [field.name for field in dataclasses.fields(cls)]


def _value(name: str, value: Any, kind: Any) -> Any:
    origin, members = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any or (origin is Literal and isinstance(value, str | int) and value in members):
        return value
    if origin in (types.UnionType, typing.Union):
        if value is None and type(None) in members:
            return None
        return _value(name, value, next(member for member in members if member is not type(None)))
    if origin is tuple and isinstance(value, list | tuple) and (members[-1] is ... or len(value) == len(members)):
        wanted = [members[0]] * len(value) if members[-1] is ... else members
        return tuple(_value(name, each, member) for each, member in zip(value, wanted, strict=True))
    if isinstance(origin, type) and issubclass(origin, Mapping) and isinstance(value, Mapping):
        return {key: _value(name, each, members[1]) for key, each in value.items()}
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return value if isinstance(value, kind) else parse(kind, value)
    if kind is float and type(value) in (int, float) and abs(value) <= sys.float_info.max:  # NaN is not
        return float(value)
    if origin is None and type(value) is kind:
        return value
    raise ValueError(f"{name} is {str(value)[:40]!r}")
