"""Entries that masks select, and singular values that denoising removes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, PowerNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogFormatter

from deftx.core.mask import Mask
from deftx.report.figures.sheet import Block, sheet, together
from deftx.report.figures.style import GREY, WIDTH, styled
from deftx.report.places import BIASES, NO_LAYER, NORMS, depth, place

MODULE_ORDER = ("word", "position", "embed", "query", "key", "value", "attention", "intermediate")

CELL = 0.165
"""Width in inches of a heat map's cell that has room for three digits."""

Shares = dict[tuple[str, str], float]
"""(module, layer) → the fraction of its entries that a mask selects, in [0, 1]."""


@dataclass(frozen=True)
class Spectrum:
    """The singular values of one matrix in descending order, and how many are kept."""

    module: str
    values: np.ndarray
    rank: int


def mask_shares(mask: Mask, shapes: Mapping[str, tuple[int, ...]]) -> Shares:
    """The fraction of each module's entries that a mask selects, over the tensors of `shapes`."""
    rows = [
        (*place(name), int(np.prod(shape)), len(mask.index.get(name, ())))
        for name, shape in shapes.items()
    ]
    frame = pd.DataFrame(rows, columns=["module", "layer", "size", "chosen"])
    found = frame.groupby(["module", "layer"]).sum()
    return dict(found["chosen"] / found["size"])


@styled
def mask_figure(panels: Mapping[str, Shares], of: int) -> Figure:
    """A heat map per mask, modules × layers: the percentage of entries that the mask selects.

    Args:
        panels: title → shares of the masks that are shown.
        of: how many masks there are, shown or not.
    """
    modules = sorted({module for shares in panels.values() for module, _ in shares}, key=_rank)
    layers = sorted({layer for shares in panels.values() for _, layer in shares}, key=depth)
    # Modules that are selected whole, such as all biases, would leave no colours for the rest.
    partly = [share for shares in panels.values() for share in shares.values() if 0 < share < 1]
    full = any(share == 1 for shares in panels.values() for share in shares.values())
    norm = PowerNorm(0.5, vmin=0, vmax=100 * max(partly, default=1))
    # Two side by side, so that the task and the language of a method are in one row.
    across = min(2, len(panels))

    def panel(shares: Shares) -> Callable[[Axes], None]:
        def draw(axes: Axes) -> None:
            percent = (100 * pd.Series(shares)).unstack()
            heat_map(axes, percent.reindex(index=modules, columns=layers), norm, across)
            name_layers(axes, layers)

        return draw

    block = Block(
        [(title, panel(shares)) for title, shares in panels.items()],
        height=0.15 * len(modules) + 0.1,
        most=2,
        x="layer",
        colours=colours(norm, open_end=full),
        scale="selected entries (%)",
    )
    return sheet({"": block}, (), together(len(panels), of, "masks"))


def heat_map(axes: Axes, percent: pd.DataFrame, norm: Normalize, across: int) -> None:
    """Values as colours, and as numbers if `across` such panels have room for them. Rows have tick
    labels. Cells of NaN are blank."""
    values = percent.to_numpy(float)
    axes.imshow(values, cmap="Blues", norm=norm, aspect="auto")
    axes.set_yticks(range(len(percent)), percent.index)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    if (WIDTH - 1.6) / across / values.shape[1] < CELL:
        return
    for (row, column), value in np.ndenumerate(values):
        if not np.isnan(value):
            colour = "white" if norm(value) > 0.6 else "#222222"
            text = _short(value)
            axes.text(column, row, text, ha="center", va="center", fontsize=5.8, color=colour)


def _short(percent: float) -> str:
    """Three characters at most: 0, <.1, .3, 4.2, 37."""
    if percent == 0:
        return "0"
    if percent < 0.95:
        return f"{percent:.1f}"[1:] if percent >= 0.05 else "<.1"
    return f"{percent:.1f}" if percent < 9.95 else f"{percent:.0f}"


def colours(norm: Normalize, open_end: bool = False) -> ScalarMappable:
    """The scale of heat maps; with an open end, some values are above it."""
    shades = matplotlib.colormaps["Blues"].copy()
    if open_end:
        shades.colorbar_extend = "max"  # type: ignore[assignment]
    return ScalarMappable(norm, shades)


def name_layers(axes: Axes, layers: Sequence[str], room: int = 16) -> None:
    """Tick labels for at most `room` layers, NO_LAYER always among them."""
    step = ceil(len(layers) / room)
    first = 1 if NO_LAYER in layers else 0
    chosen = [*range(first), *range(first + step - 1, len(layers), step)]
    axes.set_xticks(chosen, [layers[number] for number in chosen])


def _rank(module: str) -> tuple[int, str]:
    """Sorts modules: embeddings, then in the order of computation, biases and normalisation."""
    if module in (BIASES, NORMS):
        return len(MODULE_ORDER) + 1, module
    found = (number for number, word in enumerate(MODULE_ORDER) if word in module)
    return next(found, len(MODULE_ORDER)), module


@styled
def spectrum_figure(panels: Mapping[str, Sequence[Spectrum]], of: int) -> Figure:
    """A panel per denoised difference: the singular values of each matrix relative to the largest,
    the kept ones in full colour, the removed ones faint, with a mark at the cut. Zero matrices are
    left out.

    Args:
        panels: title → spectra of the differences that are shown.
        of: how many there are, shown or not.
    """
    modules = sorted({s.module for spectra in panels.values() for s in spectra}, key=_rank)
    # A sequential colour map, since modules have an order; its colours stand for no system.
    shades = matplotlib.colormaps["viridis"](np.linspace(0, 0.9, len(modules)))
    colour = {module: tuple(shade) for module, shade in zip(modules, shades, strict=True)}

    def panel(spectra: Sequence[Spectrum]) -> Callable[[Axes], None]:
        def draw(axes: Axes) -> None:
            for spectrum in spectra:
                _spectrum_line(axes, spectrum, colour[spectrum.module])
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter(LogFormatter())  # the default one writes TeX
            axes.yaxis.set_minor_formatter(LogFormatter())
            axes.grid()

        return draw

    handles = [Line2D([], [], color=colour[m], lw=1.8, label=m) for m in modules]
    handles.append(Line2D([], [], ls="", marker="|", ms=8, mew=1.2, color=GREY, label="cut"))
    block = Block(
        [(title, panel(spectra)) for title, spectra in panels.items()],
        height=1.5,
        most=3,
        x="component",
        y="singular value / largest",
    )
    return sheet({"": block}, handles, together(len(panels), of, "denoised differences"))


def _spectrum_line(axes: Axes, spectrum: Spectrum, colour: tuple[float, ...]) -> None:
    # Smaller values are rounding errors of the float32 difference.
    values = spectrum.values[spectrum.values > 1e-6 * spectrum.values[0]]
    if not len(values):
        return
    cut = min(spectrum.rank, len(values))
    # Points are dense where the curve is steep. All 768 values of 75 matrices would take megabytes.
    dense = (1 + (len(values) - 1) * np.linspace(0, 1, 60) ** 2).round().astype(int)
    x = np.union1d(dense, [cut] if cut else [])
    y = values[x - 1] / values[0]
    axes.plot(x[x <= cut], y[x <= cut], color=colour, lw=0.8, alpha=0.8)
    axes.plot(x[x >= cut], y[x >= cut], color=colour, lw=0.6, alpha=0.3)
    if cut:
        axes.plot(cut, y[x == cut], ls="", marker="|", ms=6, mew=0.9, color=colour)
