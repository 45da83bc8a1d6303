"""The building blocks of pages: text, tables, figures and pictures. What comes from outside is escaped by `text`."""

import base64
import html
import math
from collections.abc import Iterable, Sequence
from importlib import resources
from io import BytesIO
from typing import Literal

from torch import Tensor

from progan.files import printable
from progan.images import grid, pil_image

_LOSSLESS = 512 * 512  # pixels of a picture from which a little loss is worth its bytes


def text(value: object) -> str:
    """Anything as HTML text, also fit for an attribute in quotes."""
    return html.escape(str(value))


def asset(name: str) -> str:
    """Content of a file beside this one: the pages' CSS or JavaScript."""
    return resources.files("progan.report").joinpath(name).read_text(encoding="utf-8")


def page(title: str, body: Iterable[str]) -> str:
    """A whole document, which needs no other file."""
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{text(title)}</title><style>{asset('page.css')}</style>"
    )
    document = (
        f'<!doctype html>\n<html lang="en"><head>{head}</head><body><main>\n{"".join(body)}\n</main></body></html>\n'
    )
    return printable(document)  # folders need not have Unicode names


def section(title: str, *parts: str) -> str:
    """A headline with the parts under it; empty if there are none."""
    content = "\n".join(part for part in parts if part)
    return f'\n<section id="{_anchor(title)}"><h2>{text(title)}</h2>\n{content}</section>' if content else ""


def contents(sections: Sequence[str]) -> str:
    """Links to the sections that are not empty."""
    titles = [part.partition("<h2>")[2].partition("</h2>")[0] for part in sections if part]
    return "<nav>" + "".join(f'<a href="#{_anchor(html.unescape(t))}">{t}</a>' for t in titles) + "</nav>"


def _anchor(title: str) -> str:
    """Id of a section."""
    return "-".join("".join(c if c.isalnum() else " " for c in title.lower()).split())


def paragraph(words: str, soft: bool = False) -> str:
    """Plain words, grey if `soft`."""
    return f"<p{' class=soft' * soft}>{text(words)}</p>"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of cells that are HTML already (`text` made them); it scrolls sideways if it is too wide."""
    head = "".join(f"<th>{cell}</th>" if cell else "<td></td>" for cell in header)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>\n" for row in rows)
    top = f"<thead><tr>{head}</tr></thead>" if header else ""
    whole = f"<table{' class=nowrap' * bool(header)}>{top}<tbody>\n{body}</tbody></table>"
    return f'<div class="scroll" tabindex="0">{whole}</div>'


def preformatted(words: str) -> str:
    """Lines as they are, such as a command; they scroll sideways if they are too wide."""
    return f'<pre tabindex="0">{text(words)}</pre>'


def facts(rows: Iterable[tuple[str, object]]) -> str:
    """A table of names and their values."""
    return table((), ((f"<b>{text(name)}</b>", text(value)) for name, value in rows))


def figure(content: str, caption: str = "") -> str:
    """A picture or chart, HTML, over words; empty without content."""
    words = f"<figcaption>{text(caption)}</figcaption>" if caption else ""
    return f"<figure>{content}{words}</figure>" if content else ""


def gallery(figures: Iterable[str], size: Literal["small", "middle", "wide"] = "middle") -> str:
    """Figures side by side where there is room."""
    content = "".join(figures)
    return f'<div class="grid {size}">{content}</div>' if content else ""


def folded(summary: str, content: str) -> str:
    """Content that is shown after a click on the summary."""
    return f"<details><summary>{text(summary)}</summary>{content}</details>"


def data_uri(sheet: Tensor) -> str:
    """Pixels uint8 [C, H, W] as WebP inside a `data:` address: lossless, or of quality 90 where it is large."""
    file = BytesIO()
    pil_image(sheet).save(file, "webp", lossless=sheet[0].numel() <= _LOSSLESS, quality=90, method=4)
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode()


def picture(content: bytes, kind: str, alt: str) -> str:
    """An <img> of a file, for instance of kind `image/png`."""
    return f'<img alt="{text(alt)}" src="data:{kind};base64,{base64.b64encode(content).decode()}">'


def image(sheet: Tensor, alt: str, width: int | None = None) -> str:
    """An <img> of pixels uint8 [C, H, W], enlarged to `width` pixels without smoothing."""
    size = f' style="width:{width}px"' if width else ""
    return f'<img class="pixels" alt="{text(alt)}"{size} src="{data_uri(sheet)}">'


def image_grid(pixels: Tensor, alt: str, columns: int | None = None, side: int | None = None) -> str:
    """An <img> of pixels uint8 [N, C, R, R] in a grid, about square; `side`: pixels of the screen for an image."""
    columns = columns or math.ceil(math.sqrt(len(pixels)))
    return image(grid(pixels, columns, gap=1), alt, columns * (side or cell(pixels.shape[2])))


def cell(resolution: int) -> int:
    """Pixels of the screen for a side of an image: small ones are shown enlarged, large ones at 128."""
    return max(1, 128 // resolution) * min(resolution, 128)
