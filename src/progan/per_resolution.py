"""Numbers that depend on the resolution."""

import math
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from progan.errors import ConfigError

MOST = 10**12
"""Larger values are mistakes; thousands of images beyond it could not be counted."""
RESOLUTIONS = tuple(2**k for k in range(2, 11))  # 4 … 1024


@dataclass(frozen=True)
class PerResolution:
    """A number for each resolution: every entry holds from its resolution upwards (`4:512,8:256` is 256 at 64)."""

    values: tuple[tuple[int, float], ...]

    def __post_init__(self) -> None:
        keys = [key for key, _ in self.values]
        if not keys or keys != sorted(set(keys)) or not set(keys) <= set(RESOLUTIONS):
            raise ConfigError(f"resolutions must be powers of two from 4 to 1024, each once, lowest first; got {keys}")
        if not all(math.isfinite(value) and value >= 0 for _, value in self.values):
            raise ConfigError(f"values must be finite and not negative; got {self}")
        if max(value for _, value in self.values) > MOST:
            raise ConfigError(f"values must be at most {MOST:,}; got {self}")

    @classmethod
    def of(cls, value: "PerResolution | Mapping[Any, Any] | str | float") -> "PerResolution":
        """From a number, `{4: 512, 8: 256}`, or the text `512` or `4:512,8:256`."""
        if isinstance(value, PerResolution):
            return value
        try:
            if isinstance(value, str):
                pairs = [part.split(":") for part in value.split(",")] if ":" in value else [["4", value]]
                return cls(tuple(sorted((int(key), float(number)) for key, number in pairs)))
            if isinstance(value, Mapping):
                return cls(tuple(sorted((_whole(key), _number(number)) for key, number in value.items())))
            return cls(((4, _number(value)),))
        except (TypeError, ValueError, OverflowError):
            raise ConfigError(f"{reprlib.repr(value)} is neither a number nor a list such as 4:512,8:256") from None

    def at(self, resolution: int) -> float:
        """The value of the highest listed resolution that is not above `resolution` (else of the lowest listed)."""
        return next((value for key, value in reversed(self.values) if key <= resolution), self.values[0][1])

    def __str__(self) -> str:
        if len(self.values) == 1:
            return shortest(self.values[0][1])
        return ",".join(f"{key}:{shortest(value)}" for key, value in self.values)


def shortest(value: float) -> str:
    """A number in the fewest digits that lose nothing."""
    return f"{value:g}" if float(f"{value:g}") == value else repr(value)


def _whole(key: Any) -> int:
    """A resolution, where 4.5 is not 4."""
    if isinstance(key, bool | bytes) or (not isinstance(key, str) and int(key) != key):
        raise ValueError
    return int(key)


def _number(value: Any) -> float:
    if isinstance(value, bool | bytes):
        raise TypeError
    return float(value)


def per_resolution(value: Mapping[int, float] | float) -> PerResolution:
    """A default for a field of type PerResolution."""
    return PerResolution.of(value)
