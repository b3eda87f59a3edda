"""Small multiples: the layout that all figures share."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Literal

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from deftx.report.figures.style import GREY, WIDTH, letters, wrapped

LINE = 0.13
"""Height in inches of a line of small text."""

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
