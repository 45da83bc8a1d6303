"""The tables of a comparison's page, and its findings in words."""

import math
from collections.abc import Sequence
from statistics import fmean

from progan.metrics import Value
from progan.report.html import paragraph, table, text
from progan.report.results import AVERAGE, MEMORISATION, Comparison, Contestant
from progan.report.statistics import Difference, mean


def findings(comparison: Comparison) -> str:
    """For each metric: who is better than whom, or that nothing can be said."""
    parts = []
    for metric in _whole(comparison.metrics):
        if metric == MEMORISATION:
            continue
        found = comparison.differences(metric)
        order = " · ".join(comparison.ranking(metric))
        words = "".join(f"<li>{text(sentence(each))}</li>" for each in found)
        parts.append(f"<h3>{text(_name(metric))}</h3>{paragraph(f'Nearest to real images first: {order}.')}")
        parts.append(f"<ul>{words}</ul>" if words else "")
    return "".join([*parts, _by_heart(comparison)])


def _by_heart(comparison: Comparison) -> str:
    """Who copies: its images are twice as near to training images as fresh real ones are."""
    if MEMORISATION not in comparison.floors:
        return ""
    floor = comparison.floors[MEMORISATION]
    copying = [each.name for each in comparison.models if fmean(each.numbers(MEMORISATION)) < floor / 2]
    words = f"{', '.join(copying)}: twice as near to training images as fresh real ones, or nearer."
    return f"<h3>{MEMORISATION}</h3>" + paragraph(words if copying else "No model repeats its training images.")


def sentence(each: Difference) -> str:
    """`a is better than b: a less b is 3 (1 … 5), p = 0.01.`, or that there is no significant difference."""
    interval = f"{_short(each.value)} ({_short(each.low)} … {_short(each.high)})"
    p = f"p {'< 0.001' if each.p < 0.001 else f'= {each.p:.3f}'}"
    if not each.significant:
        return f"No significant difference between {each.a} and {each.b}: {interval}, {p}."
    if each.better is None:
        return f"{each.a} and {each.b} differ by {interval}, {p}."
    worse = each.b if each.better == each.a else each.a
    return f"{each.better} is better than {worse}: {each.a} less {each.b} is {interval}, {p}."


def quality(comparison: Comparison) -> str:
    """Mean over seeds with its interval; G_ema and G a row each."""
    header = ["", "network", "seeds", *map(_name, comparison.metrics)]
    rows = []
    for each in comparison.contestants:
        for network in dict.fromkeys(network for run in each.runs for network in run.values):
            numbers = [_interval(mean(each.numbers(metric, network))) for metric in comparison.metrics]
            shown = "images" if each.control else network
            rows.append([_title(each), text(shown), text(len(each.runs)), *numbers])
    floors = [text(_short(comparison.floors[m])) if m in comparison.floors else "" for m in comparison.metrics]
    rows.append(["<b>other real images</b>", "", "", *floors])
    words = (
        "Mean over the seeds and its 95 % interval (Student's t). Better is nearer to what other real images get, the "
        f"last row. {AVERAGE} is the average of the generator's weights, by which models are judged."
    )
    return table([text(cell) for cell in header], rows) + paragraph(words, soft=True)


def differences(comparison: Comparison) -> str:
    """Every pair in every metric."""
    rows = []
    for metric in comparison.metrics:
        for each in comparison.differences(metric):
            verdict = f"<b>{text(each.better)}</b> is better" if each.better else "no significant difference"
            names = f"{text(each.a)} − {text(each.b)}"
            p = "< 0.001" if each.p < 0.001 else f"{each.p:.3f}"
            interval = _interval(Value(each.value, each.low, each.high))
            rows.append([text(_name(metric)), names, interval, text(p), verdict])
    if not rows:
        return ""
    words = (
        "Difference of the means with its 95 % interval; p of Welch's t-test over the seeds, corrected for the "
        "number of pairs in the metric (Holm). With few seeds only large differences are found: that none is "
        "significant does not say that the models are equal."
    )
    return table(["metric", "pair", "difference", "p", "at 5 %"], rows) + paragraph(words, soft=True)


def costs(comparison: Comparison) -> str:
    """What each model takes: weights, operations, seconds, memory."""
    rows = []
    for each in comparison.models:
        weights, flops = each.parameters or (0, 0), each.image_flops or (0, 0)
        seconds = [run.seconds for run in each.runs]
        rows.append(
            [
                _title(each),
                f"{weights[0]:,} / {weights[1]:,}",
                f"{flops[0] / 1e6:,.1f} / {flops[1] / 1e6:,.1f}",
                f"{(each.training_flops or math.nan) / 1e12:,.2f}",
                _range([run.kimg for run in each.runs]),
                _range(seconds),
                _range([1000 * run.kimg / run.seconds for run in each.runs]),
                _range([run.peak_memory / 2**20 for run in each.runs]),
            ]
        )
    header = ["", "weights G / D", "MFLOP an image G / D", "TFLOP a run", "kimg", "seconds", "images a second", "MiB"]
    words = (
        "Operations of a forward pass for one image of the final resolution, and of all training (counted in a block "
        "of each stage). Seconds of training without measuring, images a second and the most memory of the process: "
        "mean and range over the seeds."
    )
    return table(header, rows) + paragraph(words, soft=True)


def events(comparison: Comparison) -> str:
    """Collapses, if something was measured while training."""
    rows = []
    for each in comparison.models:
        for run in each.runs:
            for event in run.collapses:
                end = "not recovered" if event.end is None else f"recovered at {event.end / 1000:.4g} kimg"
                size = f"{event.resolution}x{event.resolution}"
                cells = [each.name, run.seed, event.kind, size, f"{event.begin / 1000:.4g} kimg", end]
                rows.append([text(cell) for cell in cells])
    words = (
        "Variety: MS-SSIM between its floor and 1, from below a quarter of the way to above the middle. Quality: SWD "
        "above three times the best so far and twice its floor. Of the generator in training, within one resolution."
    )
    listed = table(["model", "seed", "of", "at", "seen at", "then"], rows) if rows else paragraph("None was seen.")
    return listed + paragraph(words, soft=True)


def _whole(metrics: Sequence[str]) -> list[str]:
    """Without the parts of a metric, such as `swd_32`."""
    return [name for name in metrics if not name.rpartition("_")[2].isdecimal()]


def _name(metric: str) -> str:
    return metric.replace("_", "-")


def _title(each: Contestant) -> str:
    return f"<b>{text(each.name)}</b><br><small>{text(each.about)}</small>"


def _interval(value: Value) -> str:
    if math.isnan(value.low):
        return text(_short(value.value))
    return f"{text(_short(value.value))}<br><small>{text(f'{_short(value.low)} … {_short(value.high)}')}</small>"


def _range(numbers: Sequence[float]) -> str:
    middle = text(_short(sum(numbers) / len(numbers)))
    return f"{middle}<br><small>{text(f'{_short(min(numbers))} … {_short(max(numbers))}')}</small>"


def _short(number: float) -> str:
    return f"{number:,.0f}" if abs(number) >= 1000 else f"{number:.3g}"
