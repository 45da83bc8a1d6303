"""A web page, complete in one file, that shows what is in a dataset; and its contact sheets as files."""

import math
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from progan.data.dataset import Dataset, Indices
from progan.data.inspection import Inspection, label_members
from progan.images import grid, pil_image, upscale
from progan.report import html
from progan.report.html import facts, figure, image, section, table, text

_WIDTH, _GAP = 1024, 2  # pixels of a sheet, and between its images
_LEAST_SIDE = 32  # smaller images are shown enlarged, pixel by pixel
_SIDE = 64  # resolution of images that are shown for a label or for a second look
_MOST_LABELS, _PER_LABEL = 200, 24
_GROUPS_SHOWN, _SUSPECTS_SHOWN = 50, 200


def page(dataset: Dataset, inspection: Inspection, rows: Iterable[tuple[str, str]]) -> str:
    """HTML with the facts in `rows`, the class balance, contact sheets, and images that deserve a second look."""
    figures = {name: figure(image(pixels, name), name.split("-", 1)[1]) for name, pixels in sheets(dataset)}
    side = min(_SIDE, dataset.resolutions[-1])
    groups = list(zip(inspection.duplicates, inspection.duplicate_files, strict=True))
    duplicates = [
        figure(image(sheet(dataset, side, np.array(group[:12]), 12), "duplicates"), ", ".join(files[:12]))
        for group, files in groups[:_GROUPS_SHOWN]
    ]
    body = [
        f"<h1>{text(dataset.name)}</h1>{facts(rows)}",
        _balance(inspection),
        section("Resolutions", *(figures[name] for name in figures if name.startswith("resolution-"))),
        section("Labels", *(figures[name] for name in figures if name.startswith("label-"))),
        _suspects(dataset, inspection, side),
        section(f"Duplicates: {len(groups):,} groups", *duplicates),
    ]
    return html.page(dataset.name, body)


def _balance(inspection: Inspection) -> str:
    counts = inspection.label_counts
    most = max([1, *counts.values()])
    rows = [
        (text(name), f"{n:,}", f"{n / inspection.count:.1%}", f'<meter max="{most}" value="{n}"></meter>')
        for name, n in counts.items()
    ]
    return section("Balance", table((), rows)) if rows else ""


def _suspects(dataset: Dataset, inspection: Inspection, side: int) -> str:
    shown = inspection.suspects[:_SUSPECTS_SHOWN]
    if not shown:
        return ""
    pixels = sheet(dataset, side, np.array([suspect.index for suspect in shown]), 12)
    sheet_of_all = figure(image(pixels, "suspicious images"), f"{len(shown)} of {len(inspection.suspects)}")
    return section("Worth a second look", sheet_of_all, facts((suspect.file, suspect.reason) for suspect in shown))


def write_sheets(dataset: Dataset, folder: Path) -> None:
    """Write every contact sheet as a PNG into the folder, which is made if need be."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, pixels in sheets(dataset):
        pil_image(pixels).save(folder / f"{name}.png")


def sheets(dataset: Dataset, seed: int = 0) -> Iterator[tuple[str, Tensor]]:
    """Name and pixels uint8 [C, H, W] of a sheet per resolution, each of other images while there are any, and of one
    per label (at most 200).
    """
    start = 0
    for resolution in dataset.resolutions:
        columns = max(2, _WIDTH // (max(_LEAST_SIDE, resolution) + _GAP))
        num = min(dataset.count, columns * math.ceil(columns / 2))
        shown = dataset.order(start, num, seed)
        start += num
        yield f"resolution-{resolution:04d}", sheet(dataset, resolution, shown, columns)
    side = min(_SIDE, dataset.resolutions[-1])
    random = np.random.default_rng(seed)
    for number, (name, indices) in enumerate(label_members(dataset).items()):
        if len(indices) and number < _MOST_LABELS:
            shown = random.permutation(indices)[:_PER_LABEL]
            file_name = re.sub(r"[^\w.-]+", "-", name)[:40]
            yield f"label-{number:03d}-{file_name}", sheet(dataset, side, shown, _PER_LABEL // 2)


def sheet(dataset: Dataset, resolution: int, indices: Indices, columns: int) -> Tensor:
    """The images row by row on white, small ones enlarged: uint8 [C, H, W]."""
    pixels = torch.from_numpy(dataset.pixels(resolution, indices))
    return grid(upscale(pixels, max(1, _LEAST_SIDE // resolution)), min(columns, len(indices)), _GAP)
