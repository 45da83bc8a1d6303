"""The pictures of a comparison's page."""

import torch
from torch import Tensor

from progan.comparison.controls import Control
from progan.comparison.runs import Member
from progan.data.dataset import Dataset
from progan.metrics.nearest_images import nearest
from progan.report.charts import spectrum
from progan.report.comparison_page import Near, Pictures, Spectrum
from progan.sampling.drawing import samples
from progan.snapshot import load

_SPECTRUM = 512
_SHOWN = 64
_QUERIES, _NEIGHBOURS = 6, 4


def gather(
    members: list[Member], some: list[Control], train: Dataset, held_out: Dataset, resolution: int, reals: bool
) -> Pictures:
    """Images of every model's first seed and spectra of all; real ones, and controls made of them, only if `reals`."""
    grids: dict[str, Tensor] = {}
    spectra: dict[str, list[Spectrum]] = {}
    near: dict[str, Near] = {}
    for member in members:
        pixels = samples(load(member.folder.snapshot()), _SPECTRUM)
        if member.model not in grids:
            grids[member.model] = pixels[:_SHOWN]
            if reals:
                near[member.model] = _near(pixels[:_QUERIES], train)
        spectra.setdefault(member.model, []).append(spectrum(pixels))
    others = held_out.order(0, min(_SPECTRUM, held_out.count), seed=0)
    real = torch.from_numpy(held_out.pixels(resolution, others))
    spectra["real images"] = [spectrum(real)]
    if reals:
        grids.update({control.name: control.images(0).take(_SHOWN) for control in some})
    shown = real[:_SHOWN] if reals else None
    return Pictures(grids, shown, spectra, near)


def _near(queries: Tensor, train: Dataset) -> Near:
    found = nearest(queries, train, k=min(_NEIGHBOURS, train.count))
    rows = [torch.from_numpy(train.pixels(queries.shape[2], index.numpy())) for index in found.index]
    return Near(queries, torch.stack(rows))
