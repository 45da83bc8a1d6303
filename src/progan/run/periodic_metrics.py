"""The metrics of `progan evaluate` while a run is training."""

import torch
from torch import Tensor

from progan.images import at_once, to_pixels
from progan.metrics.evaluation import Yardstick
from progan.models import Generator
from progan.schedule import Stage
from progan.training.observers.base import Tick
from progan.training.observers.run_files import Silent
from progan.training.state import TrainingState

SMALLEST = 16
"""Resolution from which there is something to measure: the coarsest scale of the metrics."""


class PeriodicMetrics(Silent):
    """Adds numbers of G and of its average to the first tick after every `metrics_kimg`, for others to write down.

    `metrics/G_ema/swd`, `metrics/G/swd` and `metrics/floor/swd` … at the resolution of the stage. In a fade the reals
    are not faded: they show what is still to come.
    """

    def __init__(self, yardstick: Yardstick, metrics_kimg: float) -> None:
        self._yardstick, self._nimg = yardstick, 1000 * metrics_kimg
        self._last = 0

    def on_start(self, state: TrainingState, stage: Stage) -> None:
        self._last = state.cur_nimg

    def on_tick(self, tick: Tick, state: TrainingState) -> None:
        due = tick.cur_nimg // self._nimg > self._last // self._nimg  # the same in a run that was stopped in between
        self._last = tick.cur_nimg
        if due and tick.stage.resolution >= SMALLEST:
            for name, network in (("G_ema", state.G_ema), ("G", state.G)):
                tick.metrics.update(self._measure(name, network, tick.stage, state))

    def _measure(self, name: str, network: Generator, stage: Stage, state: TrainingState) -> dict[str, float]:
        device, dtype = torch.device(state.numerics.device), state.numerics.dtype

        def generate(z: Tensor, labels: Tensor | None) -> Tensor:
            parts = []
            size = at_once(stage.resolution, 16)
            for i in range(0, len(z), size):
                rows = None if labels is None else labels[i : i + size].to(device)
                images = network(z[i : i + size].to(device, dtype), rows, stage.resolution, stage.alpha)
                parts.append(to_pixels(images))
            return torch.cat(parts)

        was_training = network.training
        network.eval()  # so that statistics of batches, where a network has any, stay those of the training
        with torch.no_grad():
            values = self._yardstick.measure(generate, stage.resolution, network.z_dim, network.label_size > 0)
        network.train(was_training)
        numbers = {f"metrics/{name}/{key}": value.value for key, value in values.items()}
        floors = {f"metrics/floor/{key}": value.floor.value for key, value in values.items() if value.floor}
        return {**numbers, **floors}
