"""The style of all figures: type, colours and markers of systems, and writing of files.

Every figure is as wide as the text of a page (WIDTH) and is printed without scaling.
"""

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from deftx.report.figures.captions import NOTICE
from deftx.report.scores import Difference, Transfer
from deftx.store.artefact import atomic

WIDTH = 7.0
"""Width of every figure in inches."""

SMALL, NORMAL = 6.5, 8.0
"""Font sizes in points; NORMAL is that of figures.mplstyle."""

styled = matplotlib.rc_context(fname=Path(__file__).with_name("figures.mplstyle"))
"""Decorator of a function that draws."""

COLOURS = [
    *("#332288", "#cc6677", "#117733", "#88ccee", "#ddaa33"),
    *("#882255", "#44aa99", "#999933", "#aa4499", "#777777"),
]
"""Colours by order, distinct for colour-blind readers. Source: Paul Tol's scheme "muted"."""

MARKERS = {"o": 1.0, "s": 0.95, "D": 0.85, "^": 1.15, "v": 1.15, "<": 1.15, ">": 1.15}
"""Markers by order, with the factor that makes them look equally large. Seven markers and ten
colours make 70 distinct looks."""

GREY = "#666666"

LETTER = 0.62
"""Mean width of a letter relative to the font size, rounded up so that text fits."""


Estimate = tuple[float, float, float]
"""A score in percent, or a difference in points, and the ends of its 95 % interval."""


def percent(found: Transfer | Difference) -> Estimate:
    """The estimate of a mean or a difference, which are fractions."""
    value = found.mean if isinstance(found, Transfer) else found.difference
    return 100 * value, 100 * found.low, 100 * found.high


@dataclass(frozen=True)
class Look:
    """Colour and marker of a system in every figure."""

    colour: str
    marker: str

    def draw(
        self,
        axes: Axes,
        places: Sequence[float],
        estimates: Sequence[Estimate],
        *,
        horizontal: bool = False,
        hollow: bool = False,
        size: float = 4.2,
    ) -> None:
        """Draw a marker and an interval for each estimate, at its place on the other axis."""
        values, low, high = zip(*estimates, strict=True)
        lines = axes.hlines if horizontal else axes.vlines
        lines(places, low, high, color=self.colour, lw=1.1, alpha=0.35 if hollow else 0.7)
        x, y = (values, places) if horizontal else (places, values)
        axes.plot(x, y, zorder=4, **self.style(size, hollow))

    def style(self, size: float = 4.2, hollow: bool = False) -> dict[str, Any]:
        """What matplotlib needs to draw the marker without a line."""
        face, edge, width = ("white", self.colour, 0.9) if hollow else (self.colour, "white", 0.4)
        ink = {"color": self.colour, "mfc": face, "mec": edge, "mew": width}
        return {"ls": "", "marker": self.marker, "ms": size * MARKERS[self.marker], **ink}


def looks(systems: Sequence[str]) -> dict[str, Look]:
    """The look of each system by its position in the comparison. The first ten differ in colour;
    the first 70 all differ."""
    pairs = zip(systems, cycle(COLOURS), cycle(MARKERS), strict=False)
    return {system: Look(colour, marker) for system, colour, marker in pairs}


def legend(look: Mapping[str, Look], systems: Iterable[str]) -> list[Line2D]:
    """The entries of systems in a legend."""
    return [Line2D([], [], label=system, **look[system].style(4.6)) for system in systems]


def name_rows(axes: Axes, names: Sequence[str]) -> None:
    """Rows from top to bottom, with names instead of a vertical axis."""
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.grid()


def letters(inches: float, size: float = 7) -> int:
    """The number of letters of a font size that fit side by side."""
    return int(72 * inches / (LETTER * size))


def wrapped(text: str) -> list[str]:
    """Lines of small text that are as wide as a figure."""
    return textwrap.wrap(text, letters(WIDTH) + 8, break_on_hyphens=False)


@styled
def save(figure: Figure, path: Path) -> None:
    """Write a figure as SVG or PNG, by the suffix of `path`; equal figures give equal bytes."""
    if figure.get_layout_engine() is not None:
        figure.draw_without_rendering()
        figure.set_layout_engine("none")  # the layout is computed once for all formats
    undated = {".svg": {"Date": None, "Creator": None}, ".png": {"Software": None}}[path.suffix]
    with atomic(path) as temporary:
        figure.savefig(temporary, format=path.suffix[1:], metadata=undated)


@styled
def notice(text: str) -> Figure:
    """A figure that says why there is nothing to draw. The text in its SVG has the id NOTICE."""
    figure = Figure(figsize=(WIDTH, 0.7))
    lines = textwrap.fill(text, letters(0.95 * WIDTH, NORMAL))
    figure.text(0.5, 0.5, lines, ha="center", va="center", color=GREY, gid=NOTICE)
    return figure
