"""What other installed packages add: entry points of the groups `progan.losses`, `progan.models`, `progan.metrics`,
`progan.sources` and `progan.exporters` (docs/extending.md).
"""

import importlib
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar

from progan.progress import log_line

T = TypeVar("T")


class Registry(Mapping[str, T], Generic[T]):
    """Entries by name: those of progan, then those of installed packages.

    Packages are looked for when the registry is first asked, not when it is made, since what they add imports its base
    classes from here. An entry whose name is taken, that cannot be loaded or that `check` refuses is left out, with a
    line that says so: what is wrong with a package must not stop who does not use it.
    """

    def __init__(
        self, group: str, own: Mapping[str, T], check: Callable[[str, Any], str | None], end: str = ""
    ) -> None:
        """`check` says what is wrong with a name and its entry, if anything; `end` is put to names of entry points."""
        self._group, self._own, self._check, self._end = group, own, check, end
        self._all: dict[str, T] | None = None

    def __getitem__(self, name: str) -> T:
        if name in self._own:  # packages need not be looked for
            return self._own[name]
        return self._entries()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries())

    def __len__(self) -> int:
        return len(self._entries())

    def _entries(self) -> dict[str, T]:
        if self._all is None:
            self._all = {**self._own}
            for point in entry_points(group=f"progan.{self._group}"):
                name = point.name + self._end
                try:
                    entry = point.load()
                    wrong = "its name is taken" if name in self._all else self._check(name, entry)
                except (Exception, SystemExit) as error:  # a module may be a script
                    wrong = f"{type(error).__name__}: {error}"
                if wrong:
                    log_line(f"{point.name} of {_package(point)} ({point.group}) is left out: {wrong}")
                else:
                    self._all[name] = entry
        return self._all


def is_a(kind: type) -> Callable[[str, Any], str | None]:
    """Check that an entry is an instance of a class."""
    return lambda name, entry: None if isinstance(entry, kind) else f"it is no {kind.__module__}.{kind.__qualname__}"


def load(home: str) -> Any:
    """What `package.module:Name` names."""
    module, _, name = home.partition(":")
    return getattr(importlib.import_module(module), name)


def _package(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist is not None else "a package"
