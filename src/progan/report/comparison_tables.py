"""The tables of a comparison's page, its findings in words, and a test for the eye."""

import json
import math
import random
from collections.abc import Mapping, Sequence
from statistics import fmean

from torch import Tensor

from progan.metrics import Value, limits
from progan.report.html import asset, data_uri, folded, paragraph, preformatted, table, text
from progan.report.results import AVERAGE, COPIES, MEMORISATION, Comparison, Contestant, Difference, Rung, mean

_TILES, _MOST_TILES = 12, 120
"""Images of every model in the test for the eye, and of all together."""
_FEW_COPIES = 0.02
"""Fraction of a model's images above which copies are told."""
FEW_PAIRS = 10
"""Pairs of models up to which every one has its sentence; of more, those that differ."""


def findings(comparison: Comparison) -> str:
    """For each metric: who is better than whom, or that nothing can be said."""
    parts = []
    for metric in comparison.metrics:
        # Parts of a metric, such as `swd_32`, are left to the table.
        if metric in (MEMORISATION, COPIES) or metric.rpartition("_")[2].isdecimal():
            continue
        order = " · ".join(comparison.ranking(metric))
        words = "".join(f"<li>{text(line)}</li>" for line in sentences(comparison.differences(metric)))
        parts.append(f"<h3>{text(_name(metric))}</h3>{paragraph(f'Nearest to real images first: {order}.')}")
        parts.append(f"<ul>{words}</ul>" if words else "")
    if MEMORISATION in comparison.floors:
        # A model memorises if its images are twice as near to training images as fresh real ones are, or if more of
        # them are copies than of fresh real ones, beyond what chance among so many would give.
        floor, parts_of = comparison.floors[MEMORISATION], []
        for each in comparison.models:
            copies = fmean(each.numbers(COPIES)) if COPIES in comparison.floors else 0.0
            if copies > comparison.floors.get(COPIES, 0.0) + _FEW_COPIES:
                parts_of.append(f"{each.name}: {100 * copies:.3g} % of its images are copies of training images.")
            elif fmean(each.numbers(MEMORISATION)) < floor / 2:
                parts_of.append(f"{each.name}: twice as near to training images as fresh real ones, or nearer.")
        parts.append(f"<h3>{MEMORISATION}</h3>")
        parts.append(paragraph(" ".join(parts_of) or "No model repeats its training images."))
    return "".join(parts)


def rung_lines(number: int, rung: Rung, metric: str) -> list[str]:
    """A rung of a sweep in plain text, a line for each candidate."""
    size = f"{rung.resolution}x{rung.resolution}"
    head = f"rung {number}, {100 * rung.fraction:.3g} % of the training time, {_name(metric)} at {size}"
    lines = []
    for each in rung.standings:
        numbers = f"{_short(each.mean.value)} ({_short(each.mean.low)} … {_short(each.mean.high)})"
        dropped = "dropped, not told apart from the last one kept" if each.overlaps else "dropped"
        lines.append(f"  {each.name}: {numbers}{'' if each.kept else f', {dropped}'}")
    return [f"{head} (other real images: {_short(rung.floor)})", *lines]


def sentences(differences: Sequence[Difference]) -> list[str]:
    """A line for every pair; of many pairs one for each that differs, and how many do not."""
    told = [each for each in differences if each.significant or len(differences) <= FEW_PAIRS]
    lines = [sentence(each) for each in told]
    if len(told) < len(differences):
        lines.append(f"No significant difference in {len(differences) - len(told)} of {len(differences)} pairs.")
    return lines


def sentence(each: Difference) -> str:
    """`a is better than b: a less b is 3 (1 … 5), p = 0.01.`, or that there is no significant difference."""
    numbers = f"{_short(each.value)} ({_short(each.low)} … {_short(each.high)})"
    numbers += f", p {'' if each.p < 0.001 else '= '}{_p(each)}."
    if not each.significant:
        return f"No significant difference between {each.a} and {each.b}: {numbers}"
    if each.better is None:
        return f"{each.a} and {each.b} differ by {numbers}"
    worse = each.b if each.better == each.a else each.a
    return f"{each.better} is better than {worse}: {each.a} less {each.b} is {numbers}"


def quality(comparison: Comparison) -> str:
    """Mean over seeds with its interval; G_ema and G a row each."""
    rows = []
    for each in comparison.contestants:
        for network in dict.fromkeys(network for run in each.runs for network in run.values):
            numbers = [
                # Copies are no metric but a fraction that only comparisons have.
                _interval(mean(each.numbers(metric, network)).within(*((0, 1) if metric == COPIES else limits(metric))))
                for metric in comparison.metrics
            ]
            shown = "images" if each.control else network
            rows.append([_title(each), text(shown), text(len(each.runs)), *numbers])
    floors = [text(_short(comparison.floors[m])) if m in comparison.floors else "" for m in comparison.metrics]
    rows.append(["<b>other real images</b>", "", "", *floors])
    words = (
        "Mean over the seeds and its 95 % interval (Student's t). Better is nearer to what other real images get, the "
        f"last row. {AVERAGE} is the average of the generator's weights, by which models are judged."
    )
    header = ["", "network", "seeds", *(text(_name(metric)) for metric in comparison.metrics)]
    return table(header, rows) + paragraph(words, soft=True)


def differences(comparison: Comparison) -> str:
    """Every pair in every metric."""
    rows = []
    for metric in comparison.metrics:
        for each in comparison.differences(metric):
            verdict = f"<b>{text(each.better)}</b> is better" if each.better else "no significant difference"
            interval, test = _interval(Value(each.value, each.low, each.high)), "paired" if each.paired else "Welch"
            pair = f"{_whole_words(each.a)} − {_whole_words(each.b)}"
            rows.append([pair, text(_name(metric)), interval, f"{text(_p(each))}<br><small>{test}</small>", verdict])
    words = (
        "Difference of the means with its 95 % interval; p of a t-test over the seeds, corrected for the number of "
        "pairs in the metric (Holm). Models with the same networks begin with the same weights, images and latents "
        "for each seed: their test is of the differences of runs with the same seed (paired), others' is Welch's. With "
        "few seeds only large differences are found: that none is significant does not say that the models are equal."
    )
    header = ["pair", "metric", "difference", "p", "at 5 %"]
    shown = table(header, rows)
    if len(rows) > FEW_PAIRS * len(comparison.metrics):
        shown = folded(f"All {len(rows)} differences", shown)
    return shown + paragraph(words, soft=True) if rows else ""


def rungs(found: Sequence[Rung], metric: str, command: str) -> str:
    """What a sweep did: the winner's command, and who was dropped at which rung with which numbers."""
    parts = [paragraph("The winner's command:"), preformatted(command)]
    for number, rung in enumerate(found, 1):
        size = f"{rung.resolution}x{rung.resolution}"
        about = f"Rung {number} of {len(found)}: {100 * rung.fraction:.3g} % of the training time, measured at {size}"
        rows = []
        for place, each in enumerate(rung.standings, 1):
            dropped = "dropped, not told apart from the last one kept" if each.overlaps else "dropped"
            verdict = ("first" if place == 1 else "last rung") if number == len(found) else "goes on"
            seeds = " · ".join(_short(value) for value in each.values)
            numbers = [_interval(each.mean), text(seeds), f"{each.kimg:,.4g}", verdict if each.kept else dropped]
            rows.append([f"<b>{_whole_words(each.name)}</b>", *numbers])
        header = ["", text(_name(metric)), "seeds", "kimg", ""]
        parts += [f"<h3>{text(about)}</h3>", table(header, rows)]
        parts.append(paragraph(f"Other real images: {_short(rung.floor)}.", soft=True))
    return "".join(parts)


def costs(comparison: Comparison) -> str:
    """What each model takes: parameters, operations, seconds, memory."""
    rows = []
    for each in comparison.models:
        parameters, flops = each.parameters or (0, 0), each.image_flops or (0, 0)
        rows.append(
            [
                _title(each),
                f"{parameters[0]:,} / {parameters[1]:,}",
                f"{flops[0] / 1e6:,.1f} / {flops[1] / 1e6:,.1f}",
                f"{(each.training_flops or math.nan) / 1e12:,.2f}",
                _range([run.kimg for run in each.runs]),
                _range([run.seconds for run in each.runs]),
                _range([1000 * run.kimg / run.seconds for run in each.runs]),
                _range([run.peak_memory / 2**20 for run in each.runs]),
            ]
        )
    header = [
        "",
        "parameters G / D",
        "MFLOP an image G / D",
        "TFLOP a run",
        "kimg",
        "seconds",
        "images a second",
        "MiB",
    ]
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
        "Variety: MS-SSIM between its real-vs-real baseline and 1, from below a quarter of the way to above the middle."
        " Quality: SWD above three times the best so far and twice its baseline. Of the generator in training, within "
        "one resolution."
    )
    listed = table(["model", "seed", "of", "at", "seen at", "then"], rows) if rows else paragraph("None was seen.")
    return listed + paragraph(words, soft=True)


def _name(metric: str) -> str:
    return metric.replace("_", "-")


def _title(each: Contestant) -> str:
    return f"<b>{_whole_words(each.name)}</b><br><small>{_whole_words(each.about)}</small>"


def _whole_words(words: str) -> str:
    """Text that breaks at spaces only, where words are short: `--lr` stays together."""
    return " ".join(f'<span class="whole">{text(w)}</span>' if len(w) <= 16 else text(w) for w in words.split(" "))


def _p(each: Difference) -> str:
    return "< 0.001" if each.p < 0.001 else f"{each.p:.3f}"


def _interval(value: Value) -> str:
    """A cell with the number, and its interval where it has one."""
    ends = "" if math.isnan(value.low) else f"<br><small>{text(f'{_short(value.low)} … {_short(value.high)}')}</small>"
    return text(_short(value.value)) + ends


def _range(numbers: Sequence[float]) -> str:
    """A cell with mean and range of numbers."""
    return _interval(Value(sum(numbers) / len(numbers), min(numbers), max(numbers)))


def _short(number: float) -> str:
    return f"{number:,.0f}" if abs(number) >= 1000 else f"{number:.3g}"


def panel(images: Mapping[str, Tensor]) -> str:
    """Up to 12 of the images uint8 [N, C, R, R] of each name, shuffled and nameless until the reader asks for the key.

    A click on an image says "looks real". Votes stay in the page; nothing is sent anywhere.
    """
    if len(images) < 2:
        return ""
    names = list(images)
    tiles_each = min(_TILES, max(2, _MOST_TILES // len(names)))
    cards = [(number, image) for number, name in enumerate(names) for image in images[name][:tiles_each]]
    random.Random(0).shuffle(cards)
    tiles = "".join(
        f'<button class="tile" aria-pressed="false" aria-label="image {i + 1}"><img class="pixels" alt="" '
        f'src="{data_uri(image)}"></button>'
        for i, (_, image) in enumerate(cards)
    )
    key = json.dumps({"names": [text(name) for name in names], "key": [number for number, _ in cards]})
    words = (
        f"{len(cards)} images of {len(names)} origins, shuffled. Click on those that look real to you; only then ask "
        "for the key. The votes stay in this page."
    )
    safe = key.replace("<", "\\u003c")
    return (
        f'{paragraph(words)}<div class="panel">{tiles}</div>'
        f'<p><button class="reveal">Show the key and count</button></p>'
        f'<div class="scroll key" tabindex="0" hidden></div><script>{asset("panel.js")}({safe})</script>'
    )
