"""What all figures share: type, colours and markers of systems, the layout of small multiples, and
writing of files.

Every figure is as wide as the text of a page (WIDTH) and is printed without scaling.
"""

import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from math import ceil
from pathlib import Path
from typing import Any, Literal

import matplotlib
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
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


LINE = 0.13
"""Height in inches of a line of small text."""

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


Panel = tuple[str, Callable[[Axes], None]]
"""The title of a panel and the function that draws it."""


@dataclass(frozen=True)
class Block:
    """Panels in rows under one title.

    Attributes:
        height: of a panel, in inches.
        most: how many panels are side by side at most; rows are made equally long.
        x, y: labels of the axes. A panel may have its own instead.
        names: space in inches below each row of panels for its own tick labels or axis label;
            without it only the lowest panels have tick labels.
        scale: label of the colours of heat maps, which are shown below the panels.
        open_end: whether some values are above the scale.
    """

    panels: Sequence[Panel]
    height: float
    most: int
    x: str = ""
    y: str = ""
    names: float = 0.0
    share_y: Literal["all", "col"] = "all"
    scale: str = ""
    open_end: bool = False

    @property
    def rows(self) -> int:
        """How many rows the panels are in."""
        return ceil(len(self.panels) / self.most)

    @property
    def inches(self) -> float:
        """The height of the block with its title and labels."""
        titles = 0.2 if any(title for title, _ in self.panels) else 0.05
        below = 0.25 + (LINE + 0.03) * (1 + self.x.count("\n") if self.x else 0)
        each = self.height + titles + self.names
        return 0.3 + self.rows * each + below + (0.5 if self.scale else 0)


def sheet(blocks: Mapping[str, Block], handles: Sequence[Artist] = (), *notes: str) -> Figure:
    """A figure of blocks one below the other, each under its name, with a legend above and notes
    below; empty notes are left out."""
    lines = wrapped(" ".join(filter(None, notes)))
    heights = [block.inches for block in blocks.values()]
    widest = max((len(str(handle.get_label())) for handle in handles), default=1)
    columns = max(1, min(len(handles), letters(WIDTH - 0.2) // (widest + 5)))
    above = 0.16 * ceil(len(handles) / columns) + 0.1 if handles else 0
    height = sum(heights) + above + LINE * len(lines) + 0.1
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    if handles:
        figure.legend(handles=handles, loc="outside upper left", ncols=columns, handletextpad=0.5)
    parts = figure.subfigures(len(blocks), 1, squeeze=False, height_ratios=heights)[:, 0]
    for part, (title, block) in zip(parts, blocks.items(), strict=True):
        if title:
            part.suptitle(title, x=0.012, ha="left")
        _draw(part, block)
    if lines:
        figure.supxlabel("\n".join(lines), fontsize=7, color=GREY, x=0.012, ha="left")
    return figure


def _draw(part: SubFigure, block: Block) -> None:
    count, across = len(block.panels), ceil(len(block.panels) / block.rows)
    grid = part.subplots(
        block.rows, across, squeeze=False, sharex=not block.names, sharey=block.share_y
    )
    for axes in grid.flat[count:]:
        axes.set_visible(False)
    for number, (axes, (title, draw)) in enumerate(zip(grid.flat, block.panels, strict=False)):
        axes.set_title(title)
        draw(axes)
        if number + across >= count:
            axes.tick_params(axis="x", labelbottom=True)
            if block.scale:  # the label of the whole block would be below the scale
                axes.set_xlabel(block.x)
        if number % across == 0 and block.y:
            axes.set_ylabel(block.y)
    if block.scale:
        bar = part.colorbar(
            grid[0, 0].images[0],
            ax=part.axes,
            location="bottom",
            shrink=0.45,
            aspect=32,
            pad=0.02,
            extend="max" if block.open_end else "neither",
        )
        bar.set_label(block.scale)
        bar.outline.set_visible(False)
    elif block.x:
        part.supxlabel(block.x, fontsize=7.5, color="#333333")


def together(number: int, of: int, what: str) -> str:
    """A note that says how many are shown, if not all are."""
    return f"{number} of {of} {what} are shown." if number < of else ""


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
