"""A full disk or a vanished folder does not end a run: what cannot be written is said and tried again."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Outputs:
    """Which of a run's outputs wait for better times."""

    def __init__(self, warn: Callable[[str], None]) -> None:
        self.warn = warn
        self.unwritten: dict[str, str] = {}
        """What cannot be written and why."""

    @contextmanager
    def attempt(self, name: str, settles: bool = True) -> Iterator[None]:
        """Write it inside. An OSError is swallowed, and told once for each cause.

        `settles`: without an error, nothing of it waits any longer.
        """
        try:
            yield
        except OSError as error:
            reason = error.strerror or str(error)
            if self.unwritten.get(name) != reason:
                self.warn(f"warning: {name} cannot be written: {reason}. Training goes on; the next tick tries again")
            self.unwritten[name] = reason
        else:
            if settles and self.unwritten.pop(name, ""):
                self.warn(f"{name} can be written again")

    def __str__(self) -> str:
        by_reason: dict[str, list[str]] = {}
        for name, reason in self.unwritten.items():
            by_reason.setdefault(reason, []).append(name)
        return "; ".join(f"{', '.join(names)} ({reason})" for reason, names in by_reason.items())
