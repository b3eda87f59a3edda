"""Where masks land, and what denoising cuts off."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, PowerNorm
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D

from deftx.core.mask import Mask
from deftx.report.figures.style import (
    FAINT,
    GREY,
    WIDTH,
    balanced,
    footnote,
    grid,
    legend,
    legend_height,
    styled,
)
from deftx.report.places import BIASES, NO_LAYER, NORMS, place

MODULE_ORDER = ("word", "position", "embed", "query", "key", "value", "attention", "intermediate")

CELL = 0.165
"""Inches that a cell needs for three digits."""

Shares = dict[tuple[str, str], float]
"""(module, layer) → share of its entries that are chosen, in [0, 1]."""


@dataclass(frozen=True)
class Spectrum:
    """The singular values of one matrix, descending, and how many are kept."""

    module: str
    values: np.ndarray
    rank: int


def mask_shares(mask: Mask, shapes: Mapping[str, tuple[int, ...]]) -> Shares:
    """Which share of each module's entries a mask has chosen, over the tensors of `shapes`."""
    sizes: dict[tuple[str, str], int] = {}
    chosen: dict[tuple[str, str], int] = {}
    for name, shape in shapes.items():
        where = place(name)
        sizes[where] = sizes.get(where, 0) + int(np.prod(shape))
        chosen[where] = chosen.get(where, 0) + len(mask.index.get(name, ()))
    return {where: chosen[where] / size for where, size in sizes.items()}


@styled
def mask_figure(panels: Mapping[str, Shares], of: int) -> Figure:
    """A heat map per mask: module × layer, the share of entries chosen, in percent.

    Args:
        panels: title → shares of the masks that are shown.
        of: how many masks there are, shown or not.
    """
    modules = sorted({module for shares in panels.values() for module, _ in shares}, key=_rank)
    layers = sorted({layer for shares in panels.values() for _, layer in shares}, key=depth)
    # By twos, so that task and language of a method stand side by side.
    across = min(2, len(panels))
    size = (WIDTH, ceil(len(panels) / across) * (0.15 * len(modules) + 0.45) + 0.75)
    figure = Figure(figsize=size, layout="constrained")
    # Modules chosen whole, as every bias by BitFit, would leave no colours for the rest.
    partly = [share for shares in panels.values() for share in shares.values() if 0 < share < 1]
    norm = PowerNorm(0.5, vmin=0, vmax=100 * max(partly, default=1))
    every = grid(figure, len(panels), across)
    for number, (axes, (title, shares)) in enumerate(zip(every, panels.items(), strict=True)):
        values = np.full((len(modules), len(layers)), np.nan)
        for (module, layer), share in shares.items():
            values[modules.index(module), layers.index(layer)] = 100 * share
        heat_map(axes, values, norm, across)
        axes.set_title(title)
        name_layers(axes, layers)
        axes.set_yticks(range(len(modules)), modules)
        if number + across >= len(panels):
            axes.set_xlabel("layer")
    full = any(share == 1 for shares in panels.values() for share in shares.values())
    colour_bar(figure, norm, "chosen entries (%)", full)
    footnote(figure, shown(len(panels), of, "masks"))
    return figure


def heat_map(axes: Axes, values: np.ndarray, norm: Normalize, across: int) -> None:
    """Values in percent as colours, and as numbers where `across` such panels leave room for them;
    cells of NaN stay blank."""
    axes.imshow(values, cmap="Blues", norm=norm, aspect="auto")
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
    """At most three signs that fit into a cell: 0, <.1, .3, 4.2, 37."""
    if percent == 0:
        return "0"
    if percent < 0.95:
        return f"{percent:.1f}"[1:] if percent >= 0.05 else "<.1"
    return f"{percent:.1f}" if percent < 9.95 else f"{percent:.0f}"


def colour_bar(
    figure: Figure | SubFigure, norm: Normalize, label: str, open_end: bool = False
) -> None:
    """The scale of all heat maps of a figure, below them."""
    bar = figure.colorbar(
        ScalarMappable(norm, "Blues"),
        ax=figure.axes,
        location="bottom",
        shrink=0.45,
        aspect=32,
        pad=0.02,
        extend="max" if open_end else "neither",
    )
    bar.set_label(label)
    bar.outline.set_visible(False)


def name_layers(axes: Axes, layers: Sequence[str], room: int = 16) -> None:
    """Ticks at layers, as many as have room side by side; NO_LAYER is always among them."""
    step = ceil(len(layers) / room)
    first = 1 if NO_LAYER in layers else 0
    chosen = [*range(first), *range(first + step - 1, len(layers), step)]
    axes.set_xticks(chosen, [layers[number] for number in chosen])


def _rank(module: str) -> tuple[int, str]:
    """Embeddings first, then along the data, then biases and normalisation."""
    if module in (BIASES, NORMS):
        return len(MODULE_ORDER) + 1, module
    found = (number for number, word in enumerate(MODULE_ORDER) if word in module)
    return next(found, len(MODULE_ORDER)), module


def depth(layer: str) -> int:
    """Sorts layers: what is outside of them first."""
    return -1 if layer == NO_LAYER else int(layer)


def shown(number: int, of: int, what: str) -> str:
    """A sentence, if not all are shown."""
    return f"{number} of {of} {what} are shown." if number < of else ""


@styled
def spectrum_figure(panels: Mapping[str, Sequence[Spectrum]], of: int) -> Figure:
    """A panel per denoised difference: each matrix's singular values, relative to the largest; what
    is kept in full colour, what is cut off faint, the cut marked. Zero matrices are left out.

    Args:
        panels: title → spectra of the differences that are shown.
        of: how many there are, shown or not.
    """
    modules = sorted({s.module for spectra in panels.values() for s in spectra}, key=_rank)
    # Colours of an order, for the modules have one; and none that stands for a system.
    shades = matplotlib.colormaps["viridis"](np.linspace(0, 0.9, len(modules)))
    colours = {module: tuple(shade) for module, shade in zip(modules, shades, strict=True)}
    across = balanced(len(panels), 3)
    handles = [Line2D([], [], color=colours[m], lw=1.8, label=m) for m in modules]
    handles.append(Line2D([], [], ls="", marker="|", ms=8, mew=1.2, color=GREY, label="cut"))
    height = 1.8 * ceil(len(panels) / across) + legend_height(handles) + 0.3
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    legend(figure, handles)
    every = grid(figure, len(panels), across)
    for number, (axes, (title, spectra)) in enumerate(zip(every, panels.items(), strict=True)):
        for spectrum in spectra:
            _spectrum_line(axes, spectrum, colours[spectrum.module])
        axes.set_title(title)
        axes.set_yscale("log")
        axes.grid(color=FAINT, lw=0.5)
        if number + across >= len(panels):
            axes.set_xlabel("component")
    for axes in every[::across]:
        axes.set_ylabel("singular value / largest")
    footnote(figure, shown(len(panels), of, "denoised differences"))
    return figure


def _spectrum_line(axes: Axes, spectrum: Spectrum, colour: tuple[float, ...]) -> None:
    # Below that the numbers are rounding errors of the float32 difference.
    values = spectrum.values[spectrum.values > 1e-6 * spectrum.values[0]]
    if not len(values):
        return
    cut = min(spectrum.rank, len(values))
    # Dense where the curve is steep; all 768 values of 75 matrices would make a file of megabytes.
    dense = (1 + (len(values) - 1) * np.linspace(0, 1, 60) ** 2).round().astype(int)
    x = np.union1d(dense, [cut] if cut else [])
    y = values[x - 1] / values[0]
    axes.plot(x[x <= cut], y[x <= cut], color=colour, lw=0.8, alpha=0.8)
    axes.plot(x[x >= cut], y[x >= cut], color=colour, lw=0.6, alpha=0.3)
    if cut:
        axes.plot(cut, y[x == cut], ls="", marker="|", ms=6, mew=0.9, color=colour)
