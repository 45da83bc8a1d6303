"""A web page, complete in one file, that shows what is in a dataset."""

import base64
import html
import io
from collections.abc import Iterable

import numpy as np
from PIL import Image

from progan.data.dataset import Dataset
from progan.data.inspection import Inspection
from progan.report.dataset_sheets import sheet, sheets

_GROUPS_SHOWN = 50
_SUSPECTS_SHOWN = 200
_SIDE = 64
_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 1060px; margin: 2rem auto; padding: 0 1rem; color: #222 }
table { border-collapse: collapse } td { padding: .1rem 1rem .1rem 0; vertical-align: top }
img { max-width: 100%; image-rendering: pixelated } figure { margin: 1rem 0 } figcaption { color: #666 }
meter { width: 16rem } h2 { margin-top: 2.5rem }
"""


def page(dataset: Dataset, inspection: Inspection, facts: Iterable[tuple[str, str]]) -> str:
    """HTML with the facts, the class balance, contact sheets, and pictures of what deserves a second look."""
    title = html.escape(dataset.name)
    parts = [f"<h1>{title}</h1>", _table(facts), _balance(inspection)]
    pictures = dict(sheets(dataset))
    parts += ["<h2>Resolutions</h2>", *_figures(pictures, "resolution-"), *_section("Labels", pictures, "label-")]
    parts += [_suspects(dataset, inspection), _duplicates(dataset, inspection)]
    head = f'<meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(parts)}</body></html>\n'


def _table(rows: Iterable[tuple[str, str]]) -> str:
    cells = "".join(f"<tr><td>{html.escape(name)}</td><td>{html.escape(text)}</td></tr>" for name, text in rows)
    return f"<table>{cells}</table>"


def _balance(inspection: Inspection) -> str:
    if not inspection.label_counts:
        return ""
    most = max(inspection.label_counts.values()) or 1
    rows = "".join(
        f"<tr><td>{html.escape(name)}</td><td>{count:,}</td><td>{count / inspection.count:.1%}</td>"
        f'<td><meter max="{most}" value="{count}"></meter></td></tr>'
        for name, count in inspection.label_counts.items()
    )
    return f"<h2>Balance</h2><table>{rows}</table>"


def _section(title: str, pictures: dict[str, Image.Image], prefix: str) -> list[str]:
    figures = _figures(pictures, prefix)
    return [f"<h2>{title}</h2>", *figures] if figures else []


def _figures(pictures: dict[str, Image.Image], prefix: str) -> list[str]:
    return [_figure(image, name.removeprefix(prefix)) for name, image in pictures.items() if name.startswith(prefix)]


def _suspects(dataset: Dataset, inspection: Inspection) -> str:
    shown = inspection.suspects[:_SUSPECTS_SHOWN]
    if not shown:
        return ""
    side = min(_SIDE, dataset.resolutions[-1])
    image = sheet(dataset, side, np.array([suspect.index for suspect in shown]), 12)
    caption = f"{len(shown)} of {len(inspection.suspects)}"
    rows = [(suspect.file, suspect.reason) for suspect in shown]
    return f"<h2>Worth a second look</h2>{_figure(image, caption)}{_table(rows)}"


def _duplicates(dataset: Dataset, inspection: Inspection) -> str:
    groups = list(zip(inspection.duplicates, inspection.duplicate_files, strict=True))
    side = min(_SIDE, dataset.resolutions[-1])
    figures = [
        _figure(sheet(dataset, side, np.array(group[:12]), 12), ", ".join(files[:12]))
        for group, files in groups[:_GROUPS_SHOWN]
    ]
    title = f"<h2>Duplicates: {len(groups):,} groups</h2>"
    return title + "".join(figures) if figures else ""


def _figure(image: Image.Image, caption: str) -> str:
    stream = io.BytesIO()
    image.save(stream, "PNG")
    data = base64.b64encode(stream.getvalue()).decode()
    text = html.escape(caption)
    return f'<figure><img alt="{text}" src="data:image/png;base64,{data}"><figcaption>{text}</figcaption></figure>'
