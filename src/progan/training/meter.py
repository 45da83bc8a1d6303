"""Means and times that a tick reports; part of the training state until then, so that a stop moves no tick."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from progan.training.parallel.processes import Processes


@dataclass
class Tally:
    """Numbers since the last tick."""

    images: int = 0
    seconds: float = 0.0
    data_wait: float = 0.0
    """Seconds spent waiting for images."""
    means: dict[str, dict[str, float]] = field(default_factory=dict)
    """Mean of every term of each kind of step: `D`, `G`, and `D penalty` where that has steps of its own."""
    steps: dict[str, int] = field(default_factory=lambda: {"D": 0, "G": 0})
    """Number of steps of each kind."""

    @property
    def losses(self) -> dict[str, float]:
        """Means by the names that people see: `D/real`, `D/penalty`, `G/fake` …"""
        return {
            f"{kind.split()[0]}/{name}": value for kind, terms in self.means.items() for name, value in terms.items()
        }


class Meter:
    """Continues a tally. Means stay on the device of the terms: nothing waits for a GPU before `tally`."""

    def __init__(self, before: Tally, device: torch.device) -> None:
        self._restart()
        self.images, self._wait = before.images, before.data_wait
        self._steps.update(before.steps)
        self._since -= before.seconds
        for kind, terms in before.means.items():
            self._names[kind] = tuple(terms)
            self._means[kind] = torch.tensor(list(terms.values()), dtype=torch.float32, device=device)

    def add(self, kind: str, terms: Mapping[str, Tensor], images: int = 0) -> None:
        """Add a step of a kind. The running mean is float32, in two operations however many terms there are."""
        self.images += images
        self._steps[kind] = self._steps.get(kind, 0) + 1
        values = torch.stack([value.detach().float() for value in terms.values()])
        if kind in self._means:
            self._means[kind].lerp_(values, 1 / self._steps[kind])
        else:
            self._names[kind], self._means[kind] = tuple(terms), values

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Count the time inside as spent waiting for images."""
        start = time.perf_counter()
        yield
        self._wait += time.perf_counter() - start

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Do not count the time inside."""
        start = time.perf_counter()
        yield
        self._since += time.perf_counter() - start

    def tally(self) -> Tally:
        """Numbers so far. Waits for a GPU."""
        means = {
            kind: dict(zip(self._names[kind], values.tolist(), strict=True)) for kind, values in self._means.items()
        }
        seconds = time.perf_counter() - self._since
        return Tally(self.images, seconds, self._wait, means, dict(self._steps))

    def take(self) -> Tally:
        """Numbers so far; the next tally begins."""
        taken = self.tally()
        self._restart()
        return taken

    def leave_out(self) -> float:
        """Seconds since `take`, which are not counted: what observers do is not training."""
        seconds = time.perf_counter() - self._since
        self._since += seconds
        return seconds

    def _restart(self) -> None:
        self.images = 0
        self._wait = 0.0
        self._since = time.perf_counter()
        self._names: dict[str, tuple[str, ...]] = {}
        self._means: dict[str, Tensor] = {}
        self._steps: dict[str, int] = {"D": 0, "G": 0}


def together(tally: Tally, processes: Processes) -> Tally:
    """Tally with the means over all processes, each of which has taken the same steps."""
    means = iter(processes.means([value for terms in tally.means.values() for value in terms.values()]))
    return replace(tally, means={kind: {name: next(means) for name in terms} for kind, terms in tally.means.items()})
