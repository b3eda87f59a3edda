"""Small multiples: the layout that all figures share."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Literal

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure, SubFigure

from deftx.report.figures.style import GREY, WIDTH, letters, wrapped

LINE = 0.13
"""Height in inches of a line of small text."""


@dataclass(frozen=True)
class Block:
    """Panels in rows under one title.

    Attributes:
        panels: the title of each panel and the function that draws it.
        height: of a panel, in inches.
        most: how many panels stand side by side at most; rows are made equally long.
        x, y: labels of the axes. A panel may have its own instead.
        names: space in inches below each row of panels for its own tick labels or axis label;
            without it only the lowest panels have tick labels.
        colours: the scale of heat maps, shown below the panels; its label is `scale`.
    """

    panels: Sequence[tuple[str, Callable[[Axes], None]]]
    height: float
    most: int
    x: str = ""
    y: str = ""
    names: float = 0.0
    share_x: bool = True
    share_y: Literal["all", "col"] = "all"
    colours: ScalarMappable | None = None
    scale: str = ""

    @property
    def across(self) -> int:
        """How many panels stand side by side."""
        return ceil(len(self.panels) / ceil(len(self.panels) / self.most))

    @property
    def inches(self) -> float:
        """The height of the block with its title and labels."""
        rows = ceil(len(self.panels) / self.across)
        titles = 0.2 if any(title for title, _ in self.panels) else 0.05
        below = 0.25 + (LINE + 0.03) * (1 + self.x.count("\n") if self.x else 0)
        each = self.height + titles + self.names
        return 0.3 + rows * each + below + (0.5 if self.colours else 0)


def sheet(blocks: Mapping[str, Block], handles: Sequence[Artist] = (), *notes: str) -> Figure:
    """A figure of blocks one below the other, each under its name, with a legend above and notes
    below; empty notes are left out."""
    lines = wrapped(" ".join(note for note in notes if note))
    heights = [block.inches for block in blocks.values()]
    columns = _columns(handles)
    legend = 0.16 * ceil(len(handles) / columns) + 0.1 if handles else 0
    height = sum(heights) + legend + LINE * len(lines) + 0.1
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
    across, rows = block.across, ceil(len(block.panels) / block.across)
    axes_of = part.subplots(rows, across, squeeze=False, sharex=block.share_x, sharey=block.share_y)
    every = list(axes_of.flat)
    for number, axes in enumerate(every):
        axes.set_visible(number < len(block.panels))
    for number, (axes, (title, draw)) in enumerate(zip(every, block.panels, strict=False)):
        axes.set_title(title)
        draw(axes)
        if number + across >= len(block.panels):
            axes.tick_params(axis="x", labelbottom=True)
            if block.colours:  # the label of the whole block would stand below the scale
                axes.set_xlabel(block.x)
        if number % across == 0 and block.y:
            axes.set_ylabel(block.y)
    if block.x and not block.colours:
        part.supxlabel(block.x, fontsize=7.5, color="#333333")
    if block.colours:
        bar = part.colorbar(
            block.colours,
            ax=part.axes,
            location="bottom",
            shrink=0.45,
            aspect=32,
            pad=0.02,
        )
        bar.set_label(block.scale)
        bar.outline.set_visible(False)


def _columns(handles: Sequence[Artist]) -> int:
    widest = max((len(str(handle.get_label())) for handle in handles), default=1)
    return max(1, min(len(handles), letters(WIDTH - 0.2) // (widest + 5)))


def together(number: int, of: int, what: str) -> str:
    """A note that says how many are shown, if not all are."""
    return f"{number} of {of} {what} are shown." if number < of else ""
