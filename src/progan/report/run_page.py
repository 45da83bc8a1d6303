"""The page of one run."""

import json
import math
import time
from pathlib import Path

import torch
from torch import Tensor

import progan
from progan.data.dataset import Dataset
from progan.files import write_whole
from progan.images import grid
from progan.metrics.evaluation import evaluate
from progan.metrics.nearest import beside, nearest_images
from progan.options import to_dict
from progan.per_resolution import RESOLUTIONS
from progan.report import html
from progan.report.charts import MARKS, Chart, Line, label_losses, spectrum
from progan.report.history import Stats, collapses, curve, growth, loss_names, measured
from progan.report.html import (
    cell,
    data_uri,
    facts,
    figure,
    folded,
    gallery,
    image_grid,
    paragraph,
    preformatted,
    section,
    text,
)
from progan.run_folder import RunFolder
from progan.sampling.interpolation import interpolations
from progan.sampling.pictures import samples
from progan.snapshot import Snapshot, load
from progan.training.observers.run_files import read_stats
from progan.training.state import StateFolder

_PAIRS, _FRAMES = 8, 9
_MOVING = 96  # pixels of the screen for a side of an image of an interpolation: as many as fit beside each other
_QUERIES = 8
_SPECTRUM = 256
_MEASURED = 2048  # images of each kind of the number at the end of a run
_KIMG = "thousands of real images"


def quality(snapshot: Snapshot, dataset: Dataset) -> str | None:
    """Words with a first number, where it takes only seconds: for small images, and enough of them."""
    if not 16 <= snapshot.resolution <= 64 or dataset.count < 2 * _MEASURED:
        return None
    swd = evaluate(snapshot, dataset, ("swd",), _MEASURED)["swd"]
    baseline = swd.floor.value if swd.floor else math.nan
    return f"sliced Wasserstein distance {swd.value:.1f} (real images against other real images: {baseline:.1f})"


def run_page(
    folder: RunFolder,
    dataset: Dataset | None = None,
    device: str | torch.device = "cpu",
    number: str | None = None,
) -> str:
    """A document that shows a run. Real images only if the dataset is given, of which `quality` gave the number.

    Raises RunError where there is no run and SnapshotError where it has no snapshot yet.
    """
    folder.snapshot()  # or SnapshotError
    sizes = [r for r in RESOLUTIONS if any(folder.snapshots.glob(f"generator-*-{r}x{r}.safetensors"))]
    snapshots = [load(folder.snapshot(resolution)).to(device) for resolution in sizes]
    stats, last = read_stats(folder.stats), snapshots[-1]
    if number is None and dataset is not None:
        number = quality(last, dataset)
    num = 64 if last.resolution <= 256 else 16
    fakes = samples(last, num)
    words = f"Seeds 0 … {num - 1} of snapshot {last.digest}: the first ones, none chosen."
    sections = [
        section("Samples", figure(image_grid(fakes, f"{num} samples"), words)),
        section("Growth", _growth(snapshots)),
        section("Interpolation", _interpolation(last)),
        section("Losses", _losses(stats)),
        section("Quality", paragraph(f"At the end: {number}.") if number else "", *_quality(stats)),
        section("Against the training images", _against(last, fakes, dataset) if dataset else ""),
        section("Configuration", *_configuration(folder, last)),
    ]
    config, data = folder.read()
    title = f"{folder.path.resolve().name}: {config.preset} on {data.name}"
    head = [f"<h1>{text(title)}</h1>", paragraph(_summary(stats, last), soft=True), html.contents(sections)]
    return html.page(title, [*head, *sections])


def write_run_page(
    folder: RunFolder,
    dataset: Dataset | None = None,
    device: str | torch.device = "cpu",
    path: Path | None = None,
    number: str | None = None,
) -> Path:
    """Write the page to `path`, default `report.html` in the run folder."""
    path = path or folder.path / "report.html"
    write_whole(path, run_page(folder, dataset, device, number).encode())
    return path


def _summary(stats: Stats, snapshot: Snapshot) -> str:
    if not stats:
        return f"{snapshot.info.cur_nimg / 1000:,.4g} thousand real images"
    line = stats[-1]
    return (
        f"{line['cur_nimg'] / 1000:,.4g} thousand real images in {line['elapsed'] / 60:,.1f} minutes of training, "
        f"{snapshot.resolution}x{snapshot.resolution} pixels"
    )


def _growth(snapshots: list[Snapshot]) -> str:
    if len(snapshots) < 2:
        return ""
    side = min(cell(snapshots[-1].resolution), 64)
    figures = []
    for snapshot in snapshots:
        r = snapshot.resolution
        words = f"{r}x{r}, after {snapshot.info.cur_nimg / 1000:,.4g} kimg"
        figures.append(figure(image_grid(samples(snapshot, 16), words, side=side), words))
    return gallery(figures, "small")


def _interpolation(snapshot: Snapshot) -> str:
    """The frames of all pairs side by side, and the same as an animation that shows one column after another."""
    frames = interpolations(snapshot, _PAIRS, _FRAMES).flatten(0, 1)
    side = min(cell(snapshot.resolution), _MOVING)
    width, height = side * _FRAMES, side * _PAIRS
    size = f"--frames:{_FRAMES};width:{side}px;height:{height}px;background-size:{width}px {height}px"
    moving = f'<div class="moving" style="{size};background-image:url({data_uri(grid(frames, _FRAMES))})"></div>'
    still = image_grid(frames, f"{_PAIRS} interpolations", _FRAMES, side)
    words = "Each row goes along a great circle from one latent to another; to the left the same, moving."
    return figure(f'<div class="ways">{moving}<div class="scroll" tabindex="0">{still}</div></div>', words)


def _losses(stats: Stats) -> str:
    """Losses of D, of G and of the labels, and the speed, with the steps of growth marked."""
    marks = growth(stats)
    charts = []
    for network in ("D", "G"):
        names = loss_names(stats, f"{network}/")
        lines = [Line(name[2:], *curve(stats, name), colour=i) for i, name in enumerate(names)]
        charts.append(Chart(lines, _KIMG, f"loss of {network}", marks))
    charts.append(Chart(label_losses(stats), _KIMG, "loss of the labels", marks))
    charts.append(Chart([Line("", *curve(stats, "img_per_sec"))], _KIMG, "images a second", marks, log_y=True))
    return gallery((figure(chart.svg(), MARKS if marks else "") for chart in charts), "wide")


def _quality(stats: Stats) -> list[str]:
    """What was measured while training; each resolution is a curve of its own."""
    figures, marks = [], growth(stats)
    for name in measured(stats):
        lines = [
            Line(label, *curve(stats, f"metrics/{key}/{name}", broken=True), colour, dashed=key == "floor")
            for colour, (key, label) in enumerate((("G_ema", "average of G"), ("G", "G"), ("floor", "real images")))
        ]
        figures.append(figure(Chart(lines, _KIMG, name.replace("_", "-"), marks).svg(), MARKS if marks else ""))
    events = [
        f"Collapse of {event.kind} at {event.resolution}x{event.resolution}, seen at {event.begin / 1000:g} kimg, "
        + (f"recovered at {event.end / 1000:g} kimg." if event.end is not None else "not recovered.")
        for event in collapses(stats)
    ]
    return [gallery(figures, "wide"), *(paragraph(event) for event in events)]


def _against(snapshot: Snapshot, fakes: Tensor, dataset: Dataset) -> str:
    """Real images, spectra and nearest neighbours."""
    numbers = dataset.order(0, min(_SPECTRUM, dataset.count), seed=0)
    reals = torch.from_numpy(dataset.pixels(snapshot.resolution, numbers))
    more = fakes if len(reals) <= len(fakes) else samples(snapshot, len(reals))
    spectra = [Line("generated", *spectrum(more), 0), Line("real", *spectrum(reals), 1, dashed=True)]
    chart = Chart(spectra, "cycles per pixel", "log10 of power").svg()
    near = beside(fakes[:_QUERIES], dataset, nearest_images(fakes[:_QUERIES], dataset, k=5)[1])
    words = "To the left a sample, beside it the training images nearest to it by the distance of their pixels."
    figures = [
        figure(image_grid(reals[:64], "real images"), "Real images."),
        figure(chart, f"Mean power of each spatial frequency, {len(more)} generated and {len(reals)} real images."),
        figure(image_grid(near.flatten(0, 1), words, near.shape[1]), words),
    ]
    return gallery(figures, "wide")


def _configuration(folder: RunFolder, snapshot: Snapshot) -> list[str]:
    config, data = folder.read()
    numerics = StateFolder(folder.state).numerics()
    rows: list[tuple[str, object]] = [
        ("preset", config.preset),
        ("data", f"{data.name}: {data.count:,} images, {'grey' if data.channels == 1 else 'RGB'}"),
        ("fingerprint of the data", data.fingerprint),
        ("labels", ", ".join(data.label_names) if config.dataset.labels else "not used"),
        ("model, loss", f"{config.model.kind}, {config.loss.kind}"),
        ("parameters of G", f"{sum(p.numel() for p in snapshot.G.parameters()):,}"),
        ("progan", snapshot.info.progan or progan.__version__),
    ]
    if numerics is not None:
        rows += [("torch", numerics.torch_version), ("computed on", str(numerics))]
    rows.append(("page made", f"{time.strftime('%Y-%m-%d')} with progan {progan.__version__}"))
    return [facts(rows), folded("every option", preformatted(json.dumps(to_dict(config), indent=1)))]
