"""Line charts as SVG inside a page. matplotlib is imported when the first one is drawn: that takes a second."""

import hashlib
import html
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from io import StringIO
from typing import Any

from torch import Tensor

from progan.metrics.spectrum import radial_power
from progan.report.history import LABEL_LOSSES, Stats, curve

_INK = "#123456"  # stands for the page's own colour of text, dark or light
_COLOURS = ("#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#8c8c00", "#999999")
"""Told apart by the colour-blind (Okabe and Ito 2008), and seen on white and on black."""
REAL = -1
"""Colour of lines of real images, which no other line has."""
_STYLES: tuple[Any, ...] = ("-", ":", "-.", (0, (6, 1, 1, 1, 1, 1)))
"""Styles of the first lines, of those that have the same colours again, and so on."""
_INSIDE, _WIDEST = 24, 44
"""Letters of all names up to which they stand inside a chart, and of a name as shown below it."""


MARKS = "Dotted lines: from there on the networks are trained at the resolution that stands above the line."
"""Caption of charts with the marks of `history.growth`."""


@dataclass(frozen=True)
class Line:
    """One curve; NaN in `y` breaks it."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    colour: int = 0
    thin: bool = False
    dashed: bool = False


@dataclass(frozen=True)
class Chart:
    """Curves over one axis."""

    lines: Sequence[Line]
    xlabel: str
    ylabel: str
    marks: Sequence[tuple[float, str]] = ()
    """Upright lines with a word, e.g. where the networks grew."""
    log_y: bool = False

    def svg(self) -> str:
        """The drawing as an <svg> element, in the page's colours and as wide as there is room.

        Empty if no line has two points.
        """
        if not any(len(line.x) > 1 for line in self.lines):
            return ""
        import matplotlib

        settings: Any = {
            **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), _INK),
            "svg.fonttype": "none",  # text stays text
            "svg.hashsalt": hashlib.sha256(repr(self).encode()).hexdigest(),  # no two charts of a page share an id
            "font.family": "sans-serif",
            "font.sans-serif": ["system-ui", "DejaVu Sans"],
            "font.size": 9,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "text.parse_math": False,  # names may hold dollars
        }
        with matplotlib.rc_context(settings):
            document = self._draw()
        # The element alone, without a size of its own.
        element = document[document.index("<svg") :].replace(_INK, "currentColor")
        element = re.sub(r"<metadata>.*?</metadata>", "", element, count=1, flags=re.DOTALL)
        tag, rest = element.split(">", 1)
        names = ", ".join(line.name for line in self.lines if line.name)
        label = html.escape(f"{self.ylabel} over {self.xlabel}{f': {names}' if names else ''}")
        return re.sub(r' (width|height)="[^"]*"', "", tag) + f' role="img" aria-label="{label}">{rest}'

    def _draw(self) -> str:
        from matplotlib.figure import Figure
        from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

        figure = Figure(figsize=(4.6, 2.7), layout="constrained")
        axes = figure.add_subplot()
        for line in self.lines:
            turn, colour = divmod(line.colour, len(_COLOURS) - 1) if line.colour != REAL else (0, -1)
            axes.plot(
                line.x,
                line.y,
                label=line.name or None,
                color=_COLOURS[colour],
                linewidth=0.7 if line.thin else 1.6,
                alpha=0.55 if line.thin else 1.0,
                linestyle="--" if line.dashed else _STYLES[turn % len(_STYLES)],
                marker="." if len(line.x) <= 12 and not line.thin else None,
            )
        axes.set_xlabel(self.xlabel)
        axes.set_ylabel(self.ylabel)
        if self.log_y and all(y > 0 for line in self.lines for y in line.y if not math.isnan(y)):
            axes.set_yscale("log")
            # Several numbers, also where the axis spans less than a decade.
            low, high = axes.get_ylim()
            axes.yaxis.set_major_locator(MaxNLocator(5) if high < 10 * low else LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_major_formatter("{x:g}")
            axes.yaxis.set_minor_locator(NullLocator())
        for x, word in self.marks:
            axes.axvline(x, color=_INK, linewidth=0.6, linestyle=":")
            place: dict[str, Any] = {
                "xycoords": ("data", "axes fraction"),
                "textcoords": "offset points",
                "ha": "center",
            }
            axes.annotate(word, (x, 1), (0, 2), size=8, **place)  # above, where no curve is
        self._legend(figure, axes)
        file = StringIO()
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
        return file.getvalue()

    def _legend(self, figure: Any, axes: Any) -> None:
        """Names of the lines: inside the chart where there is room, else below it, for which it becomes taller."""
        handles = [line for line in axes.get_lines() if not line.get_label().startswith("_")]
        names = [line.get_label() for line in handles]
        if len(names) <= 8 and max(map(len, names), default=0) <= _INSIDE:
            if names:
                axes.legend(frameon=False, fontsize=8, ncols=1 + len(names) // 5)
            return
        short = [name if len(name) <= _WIDEST else f"{name[: _WIDEST - 12]}…{name[-11:]}" for name in names]
        columns = 1 if max(map(len, short)) > _INSIDE else 2
        width, height = figure.get_size_inches()
        figure.set_size_inches(width, height + 0.17 * math.ceil(len(short) / columns))
        figure.legend(handles, short, loc="outside lower left", frameon=False, fontsize=8, ncols=columns)


def label_losses(stats: Stats) -> list[Line]:
    """Losses of the labels: they are many times the others, which would be one flat line beside them."""
    names = [name for name in LABEL_LOSSES if any(name in line for line in stats)]
    return [Line(name[0], *curve(stats, name), colour=i) for i, name in enumerate(names)]


def spectrum(pixels: Tensor) -> tuple[list[float], list[float]]:
    """Pixels uint8 [N, C, R, R] -> frequencies in cycles per pixel and log10 of the mean power at each."""
    size = pixels.shape[2]
    power = radial_power(pixels.double()).mean(0).clamp_min(1e-3)
    return [radius / size for radius in range(1, size // 2 + 1)], power.log10().tolist()
