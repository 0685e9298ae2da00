"""The one style of every picture: SVG on the page, which takes its ink from there, and PNG files.

A picture on the page has a wide and a narrow shape, of which the reader's screen shows one.
"""

from __future__ import annotations

import html
import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
from cycler import cycler
from markupsafe import Markup
from matplotlib import colormaps
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatterSciNotation

from reconverge.files import replacing

WIDTHS = {"wide": 9.0, "narrow": 4.3}  # inches
INK = "#010203"  # stands for the page's text colour
COLORS = ("#2f7fc1", "#c8701a", "#2e9a6a", "#b0569f", "#8a7a2e", "#5c6bc0", "#c2504a", "#3a9ca6")
MARKS = "osD^vPX"  # one fewer than colours: a ninth line has the first colour and another mark
HEAT = colormaps["viridis"]
SMALL = 8  # points: legends and notes
STYLE: Any = {
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.prop_cycle": cycler(color=COLORS),
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 9,
    "figure.labelsize": 9,
    "grid.alpha": 0.15,
    "grid.color": INK,
    "legend.fontsize": SMALL,
    "legend.frameon": False,
    "text.parse_math": False,  # a name may have dollars; see Powers
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "reconverge",
    **dict.fromkeys(
        ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK
    ),
}
TRANSITION: Any = {"color": INK, "alpha": 0.5, "linewidth": 0.8, "linestyle": "--"}
SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


class Powers(LogFormatterSciNotation):
    """Labels of a logarithmic axis as plain text, where matplotlib's are mathtext."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        found = re.search(r"(?:(\d+)\\times)?10\^\{(.+?)\}", super().__call__(x, pos))
        if not found:
            return ""
        power = f"10{found[2].translate(SUPERSCRIPTS)}"
        return f"{found[1]}·{power}" if found[1] else power


def label_powers(axis: Axis) -> None:
    """Label a logarithmic axis, once its scale is set, without mathtext."""
    axis.set_major_formatter(Powers())
    axis.set_minor_formatter(Powers(labelOnlyBase=False))


@dataclass(frozen=True)
class Chart:
    """A picture that is not drawn yet.

    `name` keeps the ids of the charts on one page apart, `alt` says in words what it shows.
    `draw` fills an empty figure whose width is set; its second argument is True for the narrow one.
    """

    name: str
    alt: str
    draw: Callable[[Figure, bool], None]


@dataclass(frozen=True)
class Svg:
    wide: Markup
    narrow: Markup


def svg(chart: Chart) -> Svg:
    return Svg(**{shape: _svg(chart, shape) for shape in WIDTHS})


def write_png(chart: Chart, path: Path) -> None:
    with matplotlib.rc_context(STYLE), replacing(path) as temporary:
        _drawn(chart, "wide").savefig(temporary, dpi=120, bbox_inches="tight", pad_inches=0.1)


def heat_colors(rate: float) -> tuple[tuple[float, float, float], str]:
    """Return the colour of a success rate, red, green and blue of 0 to 1, and an ink on it."""
    red, green, blue, _ = HEAT(rate)
    light = 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.42
    return (red, green, blue), "#000" if light else "#fff"


def heat_css(rate: float) -> str:
    color, ink = heat_colors(rate)
    return f"background: rgb({' '.join(f'{255 * part:.0f}' for part in color)}); color: {ink}"


def _drawn(chart: Chart, shape: str) -> Figure:
    figure = Figure(figsize=(WIDTHS[shape], 3.0), layout="constrained")
    chart.draw(figure, shape == "narrow")
    return figure


def _svg(chart: Chart, shape: str) -> Markup:
    buffer = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with matplotlib.rc_context(STYLE):
        figure = _drawn(chart, shape)
        figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    text = buffer.getvalue()
    text = text[text.index("<svg") :].replace(INK, "currentColor")
    text = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{chart.name}-{shape}-", text)
    label = html.escape(chart.alt)
    return Markup(text.replace("<svg", f'<svg role="img" aria-label="{label}"', 1))
