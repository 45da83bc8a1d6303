"""The page of a comparison, with its charts and pictures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from torch import Tensor

from progan.report import html
from progan.report.charts import MARKS, REAL, Chart, Line, label_losses
from progan.report.comparison_tables import costs, differences, events, findings, panel, quality
from progan.report.history import at_resolution, curve, growth, loss_names, measured
from progan.report.html import cell, facts, figure, gallery, image_grid, paragraph, section, text
from progan.report.results import Comparison, Contestant

REALS = "real images"
_MOST_THIN = 6
"""Models up to which charts show every seed."""
Spectrum = tuple[list[float], list[float]]


@dataclass(frozen=True)
class Pictures:
    """What the page shows besides numbers; the same seeds of every model."""

    grids: Mapping[str, Tensor]
    """Pixels uint8 [64, C, R, R] of each model's first run."""
    reals: Tensor | None
    spectra: Mapping[str, Sequence[Spectrum]]
    """Spectra of every run of a model; of `real images` one."""
    near: Mapping[str, Tensor]
    """Generated images, each followed by the training images nearest to it, uint8 [N, 1 + k, C, R, R]."""


def comparison_page(comparison: Comparison, pictures: Pictures, sweep: str = "") -> str:
    """A document that shows the comparison. Real images only if the pictures have some.

    `sweep`: HTML of what went before, where these are the last models of a sweep.
    """
    models = comparison.models
    # The panel shows models and real images without the controls, and not those first that were seen above.
    shown = {each.name: pictures.grids[each.name].flip(0) for each in models}
    if pictures.reals is not None:
        shown[REALS] = pictures.reals.flip(0)
    sections = [
        section("Sweep", sweep),
        section("Findings", findings(comparison), *(paragraph(f"Beware: {note}") for note in comparison.notes)),
        section("Quality", quality(comparison)),
        section("Differences", differences(comparison)),
        section("Cost", costs(comparison)),
        section("Samples", _grids(pictures)),
        section("Judge by eye", panel(shown)),
        section("Quality over time", _over_time(models)),
        section("Losses", _losses(models)),
        section("Collapses", events(comparison)),
        section("Spectra", _spectra(pictures.spectra)),
        section("Nearest training images", _neighbours(pictures)),
        section("Protocol", facts(comparison.facts)),
    ]
    seeds = len(models[0].runs)
    words = f"{len(models)} models, {seeds} seed{'s' if seeds > 1 else ''} each"
    head = [f"<h1>{text(comparison.title)}</h1>", paragraph(words, soft=True), html.contents(sections)]
    return html.page(comparison.title, [*head, *sections])


def _grids(pictures: Pictures) -> str:
    figures = [
        figure(image_grid(grid, name), f"{name}, seeds 0 … {len(grid) - 1}") for name, grid in pictures.grids.items()
    ]
    if pictures.reals is not None:
        figures.append(figure(image_grid(pictures.reals, REALS), "real images, held out"))
    return gallery(figures)


def _neighbours(pictures: Pictures) -> str:
    figures = []
    for name, near in pictures.near.items():
        side = min(cell(near.shape[-1]), 64)
        grid = image_grid(near.flatten(0, 1), name, near.shape[1], side)
        figures.append(figure(grid, f"{name}: a sample and those nearest to it"))
    return gallery(figures)


def _over_time(models: Sequence[Contestant]) -> str:
    """What was measured of the average of G while training, against images and time; thin the seeds, thick the mean."""
    names = list(dict.fromkeys(name for each in models for run in each.runs for name in measured(run.stats)))
    figures = []
    for name in names:
        for key, scale, label in (
            ("cur_nimg", 1000, "thousands of real images"),
            ("trained", 60, "minutes of training"),
        ):
            lines = [line for i, each in enumerate(models) for line in _seeds(each, i, name, key, scale)]
            if len(models) > _MOST_THIN:  # the lines of all seeds would hide the means
                lines = [line for line in lines if not line.thin]
            if baseline := _baseline(models, name):
                ends = [min(x for line in lines for x in line.x), max(x for line in lines for x in line.x)]
                lines.append(Line(REALS, ends, [baseline, baseline], REAL, dashed=True))
            chart = Chart(lines, label, name.replace("_", "-"), log_y=name.startswith("swd"))
            figures.append(figure(chart.svg()))
    words = (
        "Measured at the final resolution while training, with the training images: a model that grows gets there "
        "late. These numbers show the course; the tables are measured anew, with held-out images."
    )
    return gallery(figures, "wide") + paragraph(words, soft=True) if any(figures) else ""


def _seeds(each: Contestant, colour: int, name: str, key: str, scale: float) -> list[Line]:
    """A thin line for every seed, and their mean as far as all of them go."""
    curves = [
        curve(at_resolution(run.stats, each.resolution), f"metrics/G_ema/{name}", key, scale) for run in each.runs
    ]
    curves = [(x, y) for x, y in curves if x]
    if not curves:
        return []
    thin = [Line("", x, y, colour, thin=True) for x, y in curves] if len(curves) > 1 else []
    least = min(len(x) for x, _ in curves)
    x, y = ([fmean(some) for some in zip(*(each[i][:least] for each in curves), strict=True)] for i in (0, 1))
    return [*thin, Line(each.name, x, y, colour)]


def _baseline(models: Sequence[Contestant], name: str) -> float | None:
    """What other training images get, the same for all."""
    for each in models:
        if values := curve(at_resolution(each.runs[0].stats, each.resolution), f"metrics/floor/{name}")[1]:
            return values[-1]
    return None


def _losses(models: Sequence[Contestant]) -> str:
    """Losses of each model's first seed; those of different models do not compare."""
    figures = []
    for each in models:
        stats = each.runs[0].stats
        lines = [Line(name, *curve(stats, name), i) for i, name in enumerate(loss_names(stats))]
        for shown, label in ((lines, "loss"), (label_losses(stats), "loss of the labels")):
            chart = Chart(shown, "thousands of real images", label, growth(stats))
            figures.append(figure(chart.svg(), f"{each.name}, seed {each.runs[0].seed}"))
    grown = any(growth(each.runs[0].stats) for each in models)
    return gallery(figures, "wide") + (paragraph(MARKS, soft=True) if grown else "")


def _spectra(found: Mapping[str, Sequence[Spectrum]]) -> str:
    """Mean over the seeds of the logarithm of power."""
    lines = []
    for i, (name, curves) in enumerate(found.items()):
        power = [fmean(values) for values in zip(*(power for _, power in curves), strict=True)]
        lines.append(Line(name, curves[0][0], power, REAL if name == REALS else i, dashed=name == REALS))
    chart = Chart(lines, "cycles per pixel", "log10 of power").svg()
    return gallery([figure(chart, "Mean power of each spatial frequency.")], "wide")
