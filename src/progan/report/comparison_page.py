"""The page of a comparison."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from progan.report import comparison_charts as charts
from progan.report import html
from progan.report.comparison_tables import costs, differences, events, findings, quality
from progan.report.html import facts, figure, gallery, paragraph, section, text
from progan.report.panel import STYLE, panel
from progan.report.pictures import cell, image, image_grid, strips
from progan.report.results import Comparison

Spectrum = tuple[list[float], list[float]]


@dataclass(frozen=True)
class Near:
    """Generated images uint8 [N, C, R, R] and the training images nearest to each, [N, k, C, R, R]."""

    queries: Tensor
    neighbours: Tensor


@dataclass(frozen=True)
class Pictures:
    """What the page shows besides numbers; the same seeds of every model."""

    grids: Mapping[str, Tensor]
    """Pixels uint8 [64, C, R, R] of each model's first run."""
    reals: Tensor | None
    spectra: Mapping[str, Sequence[Spectrum]]
    """Of every run of a model; of `real images` one."""
    near: Mapping[str, Near]


def comparison_page(comparison: Comparison, pictures: Pictures) -> str:
    """A document that shows the comparison. Real images only if the pictures have some."""
    sections = [
        section("Findings", findings(comparison), *(paragraph(f"Beware: {note}") for note in comparison.notes)),
        section("Quality", quality(comparison)),
        section("Differences", differences(comparison)),
        section("Cost", costs(comparison)),
        section("Samples", _grids(pictures)),
        section("Judge by eye", panel(_blind(comparison, pictures))),
        section("Quality over time", charts.over_time(comparison)),
        section("Losses", charts.losses(comparison)),
        section("Collapses", events(comparison)),
        section("Spectra", charts.spectra(pictures.spectra)),
        section("Nearest training images", _neighbours(pictures)),
        section("Protocol", facts(comparison.facts)),
    ]
    models = comparison.models
    words = f"{len(models)} models, {len(models[0].runs)} seeds each"
    head = [f"<h1>{text(comparison.title)}</h1>", paragraph(words, soft=True), html.contents(sections)]
    return html.page(comparison.title, [*head, *sections], STYLE)


def _grids(pictures: Pictures) -> str:
    figures = [
        figure(image_grid(grid, name), f"{name}, seeds 0 … {len(grid) - 1}") for name, grid in pictures.grids.items()
    ]
    if pictures.reals is not None:
        figures.append(figure(image_grid(pictures.reals, "real images"), "real images, held out"))
    return gallery(figures)


def _blind(comparison: Comparison, pictures: Pictures) -> dict[str, Tensor]:
    """Models and real images, without the controls."""
    shown = {each.name: pictures.grids[each.name].flip(0) for each in comparison.models}  # not those seen above first
    return shown if pictures.reals is None else {**shown, "real images": pictures.reals.flip(0)}


def _neighbours(pictures: Pictures) -> str:
    figures = []
    for name, near in pictures.near.items():
        rows = [torch.cat([query[None], found]) for query, found in zip(near.queries, near.neighbours, strict=True)]
        side = min(cell(near.queries.shape[2]), 64)
        figures.append(
            figure(image(strips(rows), name, len(rows[0]) * side), f"{name}: a sample and those nearest to it")
        )
    return gallery(figures)
