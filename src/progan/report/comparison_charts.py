"""The charts of a comparison's page."""

from collections.abc import Mapping, Sequence
from statistics import fmean

from progan.report.charts import Chart, Line
from progan.report.history import Stats, at_resolution, curve, growth, loss_names, measured
from progan.report.html import figure, gallery, paragraph
from progan.report.results import Comparison, Contestant


def over_time(comparison: Comparison) -> str:
    """What was measured of the average of G while training, against images and time; thin the seeds, thick the mean."""
    models = comparison.models
    names = list(dict.fromkeys(name for each in models for run in each.runs for name in measured(run.stats)))
    figures = []
    for name in names:
        for key, scale, label in (
            ("cur_nimg", 1000, "thousands of real images"),
            ("trained", 60, "minutes of training"),
        ):
            lines = [line for i, each in enumerate(models) for line in _seeds(each, i, name, key, scale)]
            if floors := _floor(models, name):
                ends = [min(x for line in lines for x in line.x), max(x for line in lines for x in line.x)]
                lines.append(Line("real images", ends, [floors, floors], 7, dashed=True))
            chart = Chart(lines, label, name.replace("_", "-"), log_y=name.startswith("swd")).svg()
            figures.append(figure(chart) if chart else "")
    words = (
        "Measured at the final resolution while training, with the training images: a model that grows gets there "
        "late. These numbers show the course; the tables are measured anew, with held-out images."
    )
    return gallery(figures, "wide") + paragraph(words, soft=True) if any(figures) else ""


def losses(comparison: Comparison) -> str:
    """Of each model's first seed; losses of different models do not compare."""
    figures = []
    for each in comparison.models:
        stats = each.runs[0].stats
        lines = [Line(name, *curve(stats, name), i) for i, name in enumerate(loss_names(stats))]
        chart = Chart(lines, "thousands of real images", "loss", growth(stats)).svg()
        figures.append(figure(chart, f"{each.name}, seed {each.runs[0].seed}") if chart else "")
    return gallery(figures, "wide")


def spectra(found: Mapping[str, Sequence[tuple[list[float], list[float]]]]) -> str:
    """Mean over the seeds of the logarithm of power."""
    lines = []
    for i, (name, curves) in enumerate(found.items()):
        power = [fmean(values) for values in zip(*(power for _, power in curves), strict=True)]
        real = name == "real images"
        lines.append(Line(name, curves[0][0], power, 7 if real else i, dashed=real))
    chart = Chart(lines, "cycles per pixel", "log10 of power").svg()
    return gallery([figure(chart, "Mean power of each spatial frequency.")], "wide")


def _seeds(each: Contestant, colour: int, name: str, key: str, scale: float) -> list[Line]:
    curves = [_curve(run.stats, each.resolution, name, key, scale) for run in each.runs]
    curves = [(x, y) for x, y in curves if x]
    if not curves:
        return []
    thin = [Line("", x, y, colour, thin=True) for x, y in curves] if len(curves) > 1 else []
    least = min(len(x) for x, _ in curves)
    x = [fmean(some) for some in zip(*(x[:least] for x, _ in curves), strict=True)]
    y = [fmean(some) for some in zip(*(y[:least] for _, y in curves), strict=True)]
    return [*thin, Line(each.name, x, y, colour)]


def _curve(stats: Stats, resolution: int, name: str, key: str, scale: float) -> tuple[list[float], list[float]]:
    return curve(at_resolution(stats, resolution), f"metrics/G_ema/{name}", key, scale)


def _floor(models: Sequence[Contestant], name: str) -> float | None:
    """What other training images get, the same for all."""
    for each in models:
        if values := curve(at_resolution(each.runs[0].stats, each.resolution), f"metrics/floor/{name}")[1]:
            return values[-1]
    return None
