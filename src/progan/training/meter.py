"""Adds up what a tick reports. What is not reported yet is part of the training state, so a stop moves no tick."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from progan.training.parallel.processes import Processes
from progan.training.step import Terms

Updates = dict[str, int]
"""Of D and of G."""


@dataclass
class Tally:
    """What was counted since the last tick."""

    images: int = 0
    seconds: float = 0.0
    data_wait: float = 0.0
    """Seconds spent waiting for images."""
    means: dict[str, dict[str, float]] = field(default_factory=dict)
    """Of each network, the mean of every term."""
    steps: Updates = field(default_factory=lambda: {"D": 0, "G": 0})
    """What the means are made of."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of_json(cls, data: Mapping[str, Any]) -> "Tally":
        return cls(**data)


class Meter:
    """Goes on from a tally. Means stay where the terms are: nothing waits for a GPU before `tally`."""

    def __init__(self, before: Tally, device: torch.device) -> None:
        self._restart()
        self.images, self._wait = before.images, before.data_wait
        self._steps.update(before.steps)
        self._since -= before.seconds
        for network, terms in before.means.items():
            self._names[network] = tuple(terms)
            self._means[network] = torch.tensor(list(terms.values()), dtype=torch.float32, device=device)

    def add(self, network: str, terms: Terms, images: int = 0) -> None:
        """A step of D or G. The running mean is kept in float32, in two operations however many terms there are."""
        self.images += images
        self._steps[network] += 1
        values = torch.stack([value.detach().float() for value in terms.values()])
        if network in self._means:
            self._means[network].lerp_(values, 1 / self._steps[network])
        else:
            self._names[network], self._means[network] = tuple(terms), values

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """While inside, time counts as spent waiting for images."""
        start = time.perf_counter()
        yield
        self._wait += time.perf_counter() - start

    @contextmanager
    def aside(self) -> Iterator[None]:
        """While inside, time does not count."""
        start = time.perf_counter()
        yield
        self._since += time.perf_counter() - start

    def tally(self) -> Tally:
        """All so far. Waits for a GPU."""
        means = {
            network: dict(zip(self._names[network], values.tolist(), strict=True))
            for network, values in self._means.items()
        }
        seconds = time.perf_counter() - self._since
        return Tally(self.images, seconds, self._wait, means, dict(self._steps))

    def take(self) -> Tally:
        """All so far; the next tally begins."""
        taken = self.tally()
        self._restart()
        return taken

    def leave_out(self) -> float:
        """Count the time from now on, and return the seconds since `take`: what observers do is not training."""
        seconds = time.perf_counter() - self._since
        self._since += seconds
        return seconds

    def _restart(self) -> None:
        self.images = 0
        self._wait = 0.0
        self._since = time.perf_counter()
        self._names: dict[str, tuple[str, ...]] = {}
        self._means: dict[str, Tensor] = {}
        self._steps: Updates = {"D": 0, "G": 0}


def together(tally: Tally, processes: Processes) -> Tally:
    """The tally with the means over all processes, each of which has taken the same steps."""
    means = iter(processes.means([value for terms in tally.means.values() for value in terms.values()]))
    return replace(
        tally, means={network: {name: next(means) for name in terms} for network, terms in tally.means.items()}
    )
