"""The page of one run."""

import json
import re
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import progan
from progan.data.dataset import Dataset
from progan.files import write_whole
from progan.metrics.nearest_images import nearest
from progan.options import to_dict
from progan.report import charts, html
from progan.report.charts import Chart, Line
from progan.report.collapse import collapses
from progan.report.history import Stats, curve, growth, loss_names, measured
from progan.report.html import facts, figure, folded, gallery, paragraph, section, text
from progan.report.pictures import cell, data_uri, image, image_grid, sheet, strips
from progan.run_folder import RunFolder
from progan.sampling.drawing import interpolations, samples
from progan.snapshot import Snapshot, load
from progan.training.observers.run_files import read_stats
from progan.training.state import StateFolder

_PAIRS, _FRAMES = 8, 9
_QUERIES = 8
_SPECTRUM = 256


def run_page(folder: RunFolder, dataset: Dataset | None = None, device: str | torch.device = "cpu") -> str:
    """A document that shows a run. Real images only if the dataset is given.

    Raises RunError where there is no run and SnapshotError where it has no snapshot yet.
    """
    snapshots = [load(path).to(device) for path in _stages(folder)]
    stats = read_stats(folder.stats)
    last = snapshots[-1]
    num = 64 if last.resolution <= 256 else 16
    fakes = samples(last, num)
    sections = [
        section("Samples", _samples(fakes, last)),
        section("Growth", _growth(snapshots)),
        section("Between latents", _interpolation(last)),
        section("Losses", *loss_charts(stats)),
        section("Quality", *_quality(stats)),
        section("Against the training images", *_against(last, fakes, dataset)),
        section("Configuration", *_configuration(folder, last)),
    ]
    config, data = folder.read()
    title = f"{folder.path.resolve().name}: {config.preset} on {data.name}"
    head = [f"<h1>{text(title)}</h1>", paragraph(_summary(stats, last), soft=True), html.contents(sections)]
    return html.page(title, [*head, *sections], _ANIMATION)


def write_run_page(
    folder: RunFolder, dataset: Dataset | None = None, device: str | torch.device = "cpu", path: Path | None = None
) -> Path:
    """Write the page to `path`, default `report.html` in the run folder."""
    path = path or folder.path / "report.html"
    write_whole(path, run_page(folder, dataset, device).encode())
    return path


def loss_charts(stats: Stats) -> list[str]:
    """Losses of D and of G, and the speed, with the steps of growth marked."""
    marks = growth(stats)
    charts = []
    for title, prefix in (("D", "D/"), ("G", "G/")):
        names = [name for name in loss_names(stats) if name.startswith(prefix)]
        lines = [Line(name.removeprefix(prefix), *curve(stats, name), colour=i) for i, name in enumerate(names)]
        charts.append(Chart(lines, "thousands of real images", f"loss of {title}", marks).svg())
    speed = Chart(
        [Line("", *curve(stats, "img_per_sec"))], "thousands of real images", "images a second", marks, log_y=True
    )
    return [gallery((figure(chart) for chart in [*charts, speed.svg()] if chart), "wide")]


def _stages(folder: RunFolder) -> list[Path]:
    """The newest snapshot of every resolution, lowest first."""
    newest = folder.snapshot()  # or SnapshotError
    found = {}
    for path in sorted(newest.parent.glob("generator-*.safetensors")):
        if match := re.fullmatch(r"generator-\d+-(\d+)x\d+\.safetensors", path.name):
            found[int(match[1])] = path
    return [found[resolution] for resolution in sorted(found)]


def _summary(stats: Stats, snapshot: Snapshot) -> str:
    if not stats:
        return f"{snapshot.info.cur_nimg / 1000:,.4g} thousand real images"
    line = stats[-1]
    return (
        f"{line['cur_nimg'] / 1000:,.4g} thousand real images in {line['elapsed'] / 60:,.1f} minutes of training, "
        f"{snapshot.resolution}x{snapshot.resolution} pixels"
    )


def _samples(fakes: Tensor, snapshot: Snapshot) -> str:
    words = f"Seeds 0 … {len(fakes) - 1} of snapshot {snapshot.digest}: the first ones, none chosen."
    return figure(image_grid(fakes, f"{len(fakes)} samples"), words)


def _growth(snapshots: list[Snapshot]) -> str:
    if len(snapshots) < 2:
        return ""
    side = cell(snapshots[-1].resolution)
    figures = []
    for snapshot in snapshots:
        r = snapshot.resolution
        words = f"{r}x{r}, after {snapshot.info.cur_nimg / 1000:,.4g} kimg"
        figures.append(figure(image_grid(samples(snapshot, 16), words, side=min(side, 64)), words))
    return gallery(figures, "small")


def _interpolation(snapshot: Snapshot) -> str:
    frames = interpolations(snapshot, _PAIRS, _FRAMES)
    side = cell(snapshot.resolution)
    columns = frames.transpose(0, 1)  # one column a frame, its rows the pairs
    strip = torch.cat([sheet(column, columns=1, gap=0) for column in columns], 2)
    size = f"width:{side}px;height:{side * _PAIRS}px;background-size:{side * _FRAMES}px {side * _PAIRS}px"
    moving = f'<div class="moving" style="{size};background-image:url({data_uri(strip)})"></div>'
    still = image(strips(list(frames)), f"{_PAIRS} ways between latents", _FRAMES * side)
    words = "Each row goes along a great circle from one latent to another; to the left the same, moving."
    return figure(f'<div class="ways">{moving}<div class="scroll">{still}</div></div>', words)


_ANIMATION = f"""
.ways {{ display: flex; gap: 1rem; align-items: flex-start }} .ways .scroll {{ margin: 0 }}
.ways img {{ max-width: none }}
.moving {{ flex: none; image-rendering: pixelated; --end: calc({_FRAMES} / {_FRAMES - 1} * 100%);
  animation: ways 2.4s steps({_FRAMES}) infinite alternate }}
@keyframes ways {{ from {{ background-position-x: 0 }} to {{ background-position-x: var(--end) }} }}
@media (prefers-reduced-motion: reduce) {{ .moving {{ animation: none }} }}
"""


def _quality(stats: Stats) -> list[str]:
    """What was measured while training; each resolution is a curve of its own."""
    figures = []
    for name in measured(stats):
        lines = []
        for colour, (key, label) in enumerate((("G_ema", "average of G"), ("G", "G"), ("floor", "real images"))):
            x, y = _broken(stats, f"metrics/{key}/{name}")
            lines.append(Line(label, x, y, colour, dashed=key == "floor"))
        chart = Chart(lines, "thousands of real images", name.replace("_", "-"), growth(stats)).svg()
        figures.append(figure(chart) if chart else "")
    events = [
        f"Collapse of {event.kind} at {event.resolution}x{event.resolution}, seen at {event.begin / 1000:g} kimg, "
        + (f"recovered at {event.end / 1000:g} kimg." if event.end is not None else "not recovered.")
        for event in collapses(stats)
    ]
    return [gallery(figures, "wide"), *(paragraph(event) for event in events)]


def _broken(stats: Stats, name: str) -> tuple[list[float], list[float]]:
    """A curve with gaps where the resolution changes."""
    x: list[float] = []
    y: list[float] = []
    before = None
    for line in stats:
        if name not in line:
            continue
        if before not in (None, line["resolution"]):
            x.append(line["cur_nimg"] / 1000)
            y.append(float("nan"))
        before = line["resolution"]
        x.append(line["cur_nimg"] / 1000)
        y.append(line[name])
    return x, y


def _against(snapshot: Snapshot, fakes: Tensor, dataset: Dataset | None) -> list[str]:
    """Real images, spectra and nearest neighbours."""
    if dataset is None:
        return []
    resolution = snapshot.resolution
    numbers = dataset.order(0, min(_SPECTRUM, dataset.count), seed=0)
    reals = torch.from_numpy(dataset.pixels(resolution, numbers))
    more = fakes if len(reals) <= len(fakes) else samples(snapshot, len(reals))
    spectra = [Line("generated", *charts.spectrum(more), 0), Line("real", *charts.spectrum(reals), 1, dashed=True)]
    chart = Chart(spectra, "cycles per pixel", "log10 of power").svg()
    words = f"Mean power of each spatial frequency, {len(more)} generated and {len(reals)} real images."
    figures = [
        figure(image_grid(reals[:64], "real images"), "Real images."),
        figure(chart, words),
        _near(fakes, dataset),
    ]
    return [gallery(figures, "wide")]


def _near(fakes: Tensor, dataset: Dataset) -> str:
    queries = fakes[:_QUERIES]
    found = nearest(queries, dataset, k=min(5, dataset.count))
    rows = [
        torch.cat([query[None], torch.from_numpy(dataset.pixels(query.shape[1], index.numpy()))])
        for query, index in zip(queries, found.index, strict=True)
    ]
    words = "To the left a sample, beside it the training images nearest to it by the distance of their pixels."
    return figure(image(strips(rows), words, len(rows[0]) * cell(fakes.shape[2])), words)


def _configuration(folder: RunFolder, snapshot: Snapshot) -> list[str]:
    config, data = folder.read()
    numerics = StateFolder(folder.state).numerics()
    weights = sum(p.numel() for p in snapshot.G.parameters())
    rows: list[tuple[str, object]] = [
        ("preset", config.preset),
        ("data", f"{data.name}: {data.count:,} images, {'grey' if data.channels == 1 else 'RGB'}"),
        ("fingerprint of the data", data.fingerprint),
        ("labels", ", ".join(data.label_names) if config.dataset.labels else "not used"),
        ("model, loss", f"{config.model.kind}, {config.loss.kind}"),
        ("weights of G", f"{weights:,}"),
        ("progan", snapshot.info.progan or progan.__version__),
    ]
    if numerics is not None:
        rows.append(("torch", numerics.torch_version))
        rows.append(("computed on", str(numerics)))
    rows.append(("page made", f"{time.strftime('%Y-%m-%d')} with progan {progan.__version__}"))
    full: dict[str, Any] = to_dict(config)
    return [facts(rows), folded("every option", f"<pre>{text(json.dumps(full, indent=1))}</pre>")]
