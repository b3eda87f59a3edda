"""The one style of all figures: widths, type, the look of each system, and how a file is written.

Every figure is as wide as the text of a page (WIDTH), so that it is printed without scaling and no
letter is smaller than SMALL.
"""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure, FigureBase, SubFigure
from matplotlib.lines import Line2D
from sklearn.isotonic import isotonic_regression

from deftx.report.figures.captions import NOTICE
from deftx.store.artefact import atomic

WIDTH = 7.0
"""Of every figure, in inches."""

SMALL, NORMAL = 6.5, 8.0
"""Sizes of type, in points."""

STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": NORMAL,
    "axes.titlesize": 7.5,
    "axes.titlelocation": "left",
    "axes.titlepad": 4,
    "axes.labelsize": 7.5,
    "axes.labelcolor": "#333333",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#888888",
    "axes.linewidth": 0.7,
    "axes.axisbelow": True,
    "xtick.color": "#444444",
    "ytick.color": "#444444",
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "legend.frameon": False,
    "legend.fontsize": 7,
    "figure.titlesize": 9,
    "figure.titleweight": "bold",
    "figure.dpi": 100,
    "figure.constrained_layout.w_pad": 0.05,
    "figure.constrained_layout.h_pad": 0.05,
    "savefig.dpi": 200,
    "svg.hashsalt": "deftx",
}

styled = matplotlib.rc_context(STYLE)
"""Decorator of a function that draws."""

COLOURS = (
    "#332288",
    "#cc6677",
    "#117733",
    "#88ccee",
    "#ddaa33",
    "#882255",
    "#44aa99",
    "#999933",
    "#aa4499",
    "#777777",
)
"""By order; distinct for colour-blind readers. Source: Paul Tol's scheme "muted"."""

MARKERS = {"o": 1.0, "s": 0.95, "D": 0.85, "^": 1.15, "v": 1.15, "<": 1.15, ">": 1.15}
"""By order, with the factor by which a marker of each is to look as large as the others; seven of
them and ten colours make 70 distinct looks."""

GREY, FAINT = "#666666", "#eaeaea"

LEADER: dict[str, Any] = {"arrowstyle": "-", "shrinkA": 0, "shrinkB": 0}
"""A line from a label to what it names."""

INK = 0.62
"""Mean width of a letter, as a share of the size of its type; generous, so that text fits."""


@dataclass(frozen=True)
class Look:
    """How a system is drawn, in every figure."""

    colour: str
    marker: str

    def points(
        self,
        axes: Axes,
        x: Any,
        y: Any,
        *,
        hollow: bool = False,
        size: float = 4.6,
        **options: Any,
    ) -> None:
        """Draw the system's marker at each (x, y); hollow ones say: inside the noise."""
        ink = {"mfc": "white", "mec": self.colour, "mew": 0.9} if hollow else {}
        axes.plot(x, y, zorder=4, **{**self._marker(size), **ink, **options})

    def handle(self, label: str) -> Line2D:
        """The system's entry in a legend."""
        return Line2D([], [], label=label, **self._marker(4.6))

    def _marker(self, size: float) -> dict[str, Any]:
        ink = {"color": self.colour, "mec": "white", "mew": 0.4}
        return {"ls": "", "marker": self.marker, "ms": size * MARKERS[self.marker], **ink}


def looks(systems: Sequence[str]) -> dict[str, Look]:
    """The look of each system, by its place in the comparison. Up to ten differ in colour; all of
    up to 70 differ."""
    return {
        system: Look(COLOURS[number % len(COLOURS)], list(MARKERS)[number % len(MARKERS)])
        for number, system in enumerate(systems)
    }


def letters(inches: float, size: float = 7) -> int:
    """How many letters of a size fit side by side."""
    return int(72 * inches / (INK * size))


@styled
def save(figure: Figure, path: Path) -> None:
    """Write a figure as `path` says (.svg or .png), with the same bytes each time."""
    if figure.get_layout_engine() is not None:
        figure.draw_without_rendering()
        figure.set_layout_engine("none")  # laid out once, for all its files
    undated = {".svg": {"Date": None, "Creator": None}, ".png": {"Software": None}}[path.suffix]
    with atomic(path) as temporary:
        figure.savefig(temporary, format=path.suffix[1:], metadata=undated)


@styled
def notice(text: str) -> Figure:
    """A figure that says in words why there is nothing to draw; its SVG has the id NOTICE."""
    figure = Figure(figsize=(WIDTH, 0.7))
    lines = textwrap.fill(text, letters(0.95 * WIDTH, NORMAL))
    figure.text(0.5, 0.5, lines, ha="center", va="center", color=GREY, gid=NOTICE)
    return figure


def stacked(
    heights: Mapping[str, float], handles: Sequence[Artist] = ()
) -> tuple[Figure, dict[str, SubFigure]]:
    """A figure of parts one below the other, each with its name as a title; `heights` are in
    inches. With `handles` there is a legend above."""
    height = sum(heights.values()) + legend_height(handles) + 0.2
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    if handles:
        legend(figure, handles)
    parts = figure.subfigures(len(heights), 1, squeeze=False, height_ratios=list(heights.values()))
    named = dict(zip(heights, parts[:, 0], strict=True))
    for name, part in named.items():
        part.suptitle(name, x=0.012, ha="left")
    return figure, named


def grid(figure: FigureBase, panels: int, across: int, **options: Any) -> list[Axes]:
    """Panels with common axes, row by row; the lowest of each column has tick labels."""
    given = {"squeeze": False, "sharex": True, "sharey": True, **options}
    every = figure.subplots(ceil(panels / across), across, **given)
    for number, axes in enumerate(every.flat):
        axes.set_visible(number < panels)
        if number + across >= panels:
            axes.tick_params(axis="x", labelbottom=True)
    return list(every.flat[:panels])


def balanced(panels: int, most: int) -> int:
    """How many panels to put side by side, at most `most`, so that rows are equally long."""
    return ceil(panels / ceil(panels / most))


def legend(figure: FigureBase, handles: Sequence[Artist]) -> None:
    """A legend above a figure."""
    columns = _columns(handles)
    figure.legend(
        handles=_by_row(handles, columns),
        loc="outside upper left",
        ncols=columns,
        columnspacing=1.2,
        handletextpad=0.5,
    )


def legend_height(handles: Sequence[Artist]) -> float:
    """The inches that a legend takes."""
    return 0.15 * ceil(len(handles) / _columns(handles)) + 0.1 if handles else 0.0


def _columns(handles: Sequence[Artist]) -> int:
    widest = max(len(str(handle.get_label())) for handle in handles)
    return max(1, min(len(handles), letters(WIDTH - 0.2) // (widest + 5)))


def _by_row(handles: Sequence[Artist], columns: int) -> list[Artist]:
    """In the order in which matplotlib, which fills columns, shows them row by row."""
    rows = ceil(len(handles) / columns)
    blank = [Line2D([], [], ls="", label=" ")] * (rows * columns - len(handles))
    full = [*handles, *blank]
    return [full[row * columns + column] for column in range(columns) for row in range(rows)]


def footnote(figure: Figure, *sentences: str) -> None:
    """A note below a figure."""
    text = textwrap.fill(
        " ".join(filter(None, sentences)), letters(WIDTH) + 8, break_on_hyphens=False
    )
    if text:
        figure.supxlabel(text, fontsize=7, color=GREY, x=0.012, ha="left")


def spread(wanted: Sequence[float], gap: float, low: float, high: float) -> np.ndarray:
    """Places for labels, in the order of `wanted`, at least `gap` apart and from `low` to `high`,
    with the least sum of squared distances to where they were wanted.

    If there are too many for that, they are as far apart as there is room.
    """
    order = np.argsort(wanted, kind="stable")
    gap = min(gap, (high - low) / max(1, len(order) - 1))
    steps = gap * np.arange(len(order))
    # What is at least `gap` apart is monotone once the gaps are taken away.
    room = isotonic_regression(
        np.asarray(wanted, dtype=float)[order] - steps, y_min=low, y_max=high - steps[-1]
    )
    places = np.empty(len(order))
    places[order] = room + steps
    return places


def scale(axes: Axes, values: Sequence[float]) -> None:
    """A logarithmic x axis where values span more than a factor of eight, with ticks at those
    values that stand apart."""
    positive = [value for value in values if value > 0]
    if positive and max(positive) >= 8 * min(positive):
        if min(values) > 0:
            axes.set_xscale("log")
        else:
            axes.set_xscale("symlog", linthresh=min(positive), linscale=0.5)
    axes.margins(x=0.08)
    axes.autoscale_view()
    shown: list[float] = []
    last = -1.0
    for value, at in zip(sorted(set(values)), _shares(axes, sorted(set(values))), strict=True):
        if at - last >= 0.13:
            shown, last = [*shown, value], at
    axes.set_xticks(shown, [f"{value:g}" for value in shown])
    axes.set_xticks([], minor=True)


def _shares(axes: Axes, values: Sequence[float]) -> np.ndarray:
    """Where values of x lie, from 0 at the left end of the axes to 1 at the right one."""
    points = np.column_stack([values, np.full(len(values), axes.get_ylim()[0])])
    return axes.transAxes.inverted().transform(axes.transData.transform(points))[:, 0]
