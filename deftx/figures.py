"""The figures of a run: numbers in, a matplotlib figure out. Only `save` touches a file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from deftx.artefact import atomic
from deftx.mask import Mask
from deftx.places import BIASES, NO_LAYER, NORMS, place
from deftx.results import MEAN, METRIC_NAMES, Comparison, Draws, Transfer

STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#888888",
    "axes.linewidth": 0.7,
    "xtick.color": "#444444",
    "ytick.color": "#444444",
    "legend.frameon": False,
    "figure.dpi": 100,
    "figure.constrained_layout.w_pad": 0.08,
    "figure.constrained_layout.h_pad": 0.06,
    "savefig.dpi": 200,
    "svg.hashsalt": "deftx",
}

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

MARKERS = "osD^v<>"
"""By order; seven of them and ten colours make 70 distinct looks."""

GREY = "#666666"

MODULE_ORDER = ("word", "position", "embed", "query", "key", "value", "attention", "intermediate")

Shares = dict[tuple[str, str], float]
"""(module, layer) → share of its entries that are chosen, in [0, 1]."""


@dataclass(frozen=True)
class Spectrum:
    """The singular values of one matrix, descending, and how many are kept."""

    module: str
    values: np.ndarray
    rank: int


def save(figure: Figure, path: Path) -> None:
    """Write a figure as `path` says (.svg or .png), with the same bytes each time."""
    undated = {".svg": {"Date": None, "Creator": None}, ".png": {"Software": None}}[path.suffix]
    with atomic(path) as temporary, matplotlib.rc_context(STYLE):
        figure.savefig(temporary, format=path.suffix[1:], metadata=undated)


@matplotlib.rc_context(STYLE)
def notice(text: str) -> Figure:
    """A figure that says in words why there is nothing to draw."""
    figure = Figure(figsize=(6, 1.2))
    figure.text(0.5, 0.5, text, ha="center", va="center", color=GREY)
    return figure


@matplotlib.rc_context(STYLE)
def transfer_figure(
    comparison: Comparison,
    means: Sequence[Transfer],
    draws: Mapping[str, Draws],
    classes: Mapping[str, int],
) -> Figure:
    """A panel per task: each system's score in each language in percent, with its 95 % interval;
    with several seeds each of them as a small dot.

    Args:
        means: what `draws` says, by `deftx.results.transfer`.
        classes: task → number of its classes, for the chance level.
    """
    systems = comparison.systems
    widest = max(len(comparison.columns(task)) for task in comparison.tasks)
    width = min(max(7.0, 0.09 * widest * (len(systems) + 1) + 1.5, 0.85 * widest + 1), 11.5)
    figure = Figure(figsize=(width, 2.9 * len(comparison.tasks) + 0.8), layout="constrained")
    panels = figure.subplots(len(comparison.tasks), 1, squeeze=False)[:, 0]
    for axes, task in zip(panels, comparison.tasks, strict=True):
        mine = [mean for mean in means if mean.task == task]
        _transfer_panel(axes, comparison, task, mine, draws[task])
        _chance(axes, 100 / classes[task])
    several = any(mean.seeds > 1 for mean in means)
    figure.legend(
        handles=_legend(systems, several), loc="outside upper center", ncols=int(width / 1.45)
    )
    notes = ["Bars: 95 % bootstrap intervals over items."]
    if not all(mean.has_text for mean in means):
        notes.append("† no text: evaluated without a language vector.")
    _footnote(figure, " ".join(notes))
    return figure


def _transfer_panel(
    axes: Axes, comparison: Comparison, task: str, means: Sequence[Transfer], draws: Draws
) -> None:
    column = {language: x for x, language in enumerate(comparison.columns(task))}
    offsets = _dodge(len(comparison.systems))
    for number, system in enumerate(comparison.systems):
        mine = [mean for mean in means if mean.system == system]
        x = np.array([column[mean.language] + offsets[number] for mean in mine])
        y = 100 * np.array([[mean.mean, mean.low, mean.high] for mean in mine])
        look = _look(number)
        axes.vlines(x, y[:, 1], y[:, 2], color=look["color"], lw=1.1, zorder=2)
        axes.plot(x, y[:, 0], ls="", ms=4.4, mec="white", mew=0.4, zorder=4, **look)
        if mine[0].seeds > 1:
            seeds = 100 * np.array([draws[system, mean.language][:, 0] for mean in mine])
            beside = x[:, None] + 0.3 * (offsets[1] - offsets[0] if len(offsets) > 1 else 0.1)
            spots = np.broadcast_to(beside, seeds.shape).ravel()
            axes.plot(
                spots, seeds.ravel(), ls="", marker=".", ms=3, mew=0, alpha=0.7, color=look["color"]
            )
    _name_columns(axes, comparison, task)
    axes.set_title(task)
    axes.set_ylabel(f"{METRIC_NAMES[comparison.tasks[task].metric]} (%)")


def _name_columns(axes: Axes, comparison: Comparison, task: str) -> None:
    columns = comparison.columns(task)
    for x in range(0, len(columns), 2):
        axes.axvspan(x - 0.5, x + 0.5, color="#f4f4f2", lw=0, zorder=0)
    if MEAN in columns:
        axes.axvline(len(columns) - 1.5, color="#888888", lw=0.8)
    names = [comparison.heading(task, column).replace(" (", "\n(") for column in columns]
    axes.set_xlim(-0.5, len(columns) - 0.5)
    axes.set_xticks(range(len(columns)), names)
    axes.tick_params(axis="x", length=0)
    figure = axes.get_figure(root=True)
    assert figure is not None
    room = 14 * figure.get_figwidth() / len(columns)  # in letters
    if max(len(line) for name in names for line in name.split("\n")) > room:
        axes.tick_params(axis="x", rotation=25)
    axes.grid(axis="y", color="#dddddd", lw=0.5, zorder=1)
    axes.set_axisbelow(True)


def _chance(axes: Axes, level: float) -> None:
    axes.axhline(level, color=GREY, ls=(0, (4, 3)), lw=0.9, zorder=1)
    axes.annotate(
        "chance",
        (1, level),
        xycoords=("axes fraction", "data"),
        xytext=(3, 0),
        textcoords="offset points",
        va="center",
        fontsize=8,
        color=GREY,
    )


def _dodge(systems: int) -> np.ndarray:
    """Offsets of systems side by side inside of a column of width 1."""
    return (np.arange(systems) - (systems - 1) / 2) * 0.84 / max(systems, 4)


def _look(number: int) -> dict[str, Any]:
    return {
        "color": COLOURS[number % len(COLOURS)],
        "marker": MARKERS[number % len(MARKERS)],
    }


def _legend(systems: Sequence[str], several_seeds: bool) -> list[Line2D]:
    handles = [
        Line2D([], [], ls="-", lw=1.1, ms=4.5, mec="white", mew=0.4, label=system, **_look(number))
        for number, system in enumerate(systems)
    ]
    if several_seeds:
        handles.append(Line2D([], [], ls="", marker=".", ms=3, color=GREY, label="single seeds"))
    return handles


def mask_shares(mask: Mask, shapes: Mapping[str, tuple[int, ...]]) -> Shares:
    """Which share of each module's entries a mask has chosen, over the tensors of `shapes`."""
    sizes: dict[tuple[str, str], int] = {}
    chosen: dict[tuple[str, str], int] = {}
    for name, shape in shapes.items():
        where = place(name)
        sizes[where] = sizes.get(where, 0) + int(np.prod(shape))
        chosen[where] = chosen.get(where, 0) + len(mask.index.get(name, ()))
    return {where: chosen[where] / size for where, size in sizes.items()}


@matplotlib.rc_context(STYLE)
def mask_figure(panels: Mapping[str, Shares], of: int) -> Figure:
    """A heat map per mask: module × layer, the share of entries chosen, in percent.

    Args:
        panels: title → shares of the masks that are shown.
        of: how many masks there are, shown or not.
    """
    modules = sorted({module for shares in panels.values() for module, _ in shares}, key=_rank)
    layers = sorted({layer for shares in panels.values() for _, layer in shares}, key=_depth)
    width = 0.37 * len(layers) + 0.3
    # By twos, so that task and language of a method stand side by side.
    across = min(int(11 / width) // 2 * 2 or 1, len(panels))
    down = ceil(len(panels) / across)
    size = (max(across * width + 2.6, 6.0), down * (0.2 * len(modules) + 0.5) + 0.6)
    figure = Figure(figsize=size, layout="constrained")
    # Modules chosen whole, as every bias by BitFit, would leave no colours for the rest.
    partly = [share for shares in panels.values() for share in shares.values() if 0 < share < 1]
    norm = PowerNorm(0.5, vmin=0, vmax=100 * max(partly, default=1))
    grid = _grid(figure, len(panels), across, "layer")
    for axes, (title, shares) in zip(grid, panels.items(), strict=True):
        values = np.full((len(modules), len(layers)), np.nan)
        for (module, layer), share in shares.items():
            values[modules.index(module), layers.index(layer)] = 100 * share
        image = axes.imshow(values, cmap="Blues", norm=norm, aspect="auto")
        _write_values(axes, values, norm)
        axes.set_title(title.replace(", ", "\n", 1))
        axes.set_xticks(range(len(layers)), layers)
        axes.set_yticks(range(len(modules)), modules)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
    full = any(share == 1 for shares in panels.values() for share in shares.values())
    bar = figure.colorbar(
        image,
        ax=figure.axes,
        shrink=min(1.0, 1.4 / down),
        aspect=15,
        extend="max" if full else "neither",
    )
    bar.set_label("chosen entries (%)")
    bar.outline.set_visible(False)
    _count(figure, len(panels), of, "masks")
    return figure


def _write_values(axes: Axes, values: np.ndarray, norm: PowerNorm) -> None:
    for (row, column), value in np.ndenumerate(values):
        if not np.isnan(value):
            colour = "white" if norm(value) > 0.6 else "#222222"
            text = _short(value)
            axes.text(column, row, text, ha="center", va="center", fontsize=6.5, color=colour)


def _short(percent: float) -> str:
    """Two digits that fit into a cell: 0, 0.03, 4.2, 37."""
    if percent == 0:
        return "0"
    if percent < 0.095:
        return f"{percent:.2f}" if percent >= 0.005 else "<.01"
    return f"{percent:.1f}" if percent < 9.95 else f"{percent:.0f}"


def _rank(module: str) -> tuple[int, str]:
    """Embeddings first, then along the data, then biases and normalisation."""
    if module in (BIASES, NORMS):
        return len(MODULE_ORDER) + 1, module
    found = (number for number, word in enumerate(MODULE_ORDER) if word in module)
    return next(found, len(MODULE_ORDER)), module


def _depth(layer: str) -> int:
    return -1 if layer == NO_LAYER else int(layer)


@matplotlib.rc_context(STYLE)
def spectrum_figure(panels: Mapping[str, Sequence[Spectrum]], of: int) -> Figure:
    """A panel per denoised difference: each matrix's singular values, relative to the largest; what
    is kept in full colour, what is cut off faint, the cut marked. Zero matrices are left out.

    Args:
        panels: title → spectra of the differences that are shown.
        of: how many there are, shown or not.
    """
    modules = sorted({s.module for spectra in panels.values() for s in spectra}, key=_rank)
    colours = {module: COLOURS[i % len(COLOURS)] for i, module in enumerate(modules)}
    across = 2 if len(panels) == 4 else min(3, len(panels))
    size = (max(3.3 * across + 1.6, 6), 2.8 * ceil(len(panels) / across))
    figure = Figure(figsize=size, layout="constrained")
    grid = _grid(figure, len(panels), across, "component")
    for axes, (title, spectra) in zip(grid, panels.items(), strict=True):
        for spectrum in spectra:
            _spectrum_line(axes, spectrum, colours[spectrum.module])
        axes.set_title(title)
        axes.set_yscale("log")
        axes.grid(color="#e5e5e5", lw=0.5)
    for axes in grid[::across]:
        axes.set_ylabel("singular value / largest")
    handles = [Line2D([], [], color=colours[m], lw=1.5, label=m) for m in modules]
    handles.append(Line2D([], [], ls="", marker="|", ms=8, mew=1.2, color=GREY, label="cut"))
    figure.legend(handles=handles, loc="outside right upper")
    _count(figure, len(panels), of, "denoised differences")
    return figure


def _grid(figure: Figure, panels: int, across: int, xlabel: str) -> list[Axes]:
    """Panels with common axes, row by row; the lowest of each column has tick labels."""
    grid = figure.subplots(ceil(panels / across), across, squeeze=False, sharex=True, sharey=True)
    for number, axes in enumerate(grid.flat):
        axes.set_visible(number < panels)
        if number + across >= panels:
            axes.set_xlabel(xlabel)
            axes.tick_params(axis="x", labelbottom=True)
    return list(grid.flat[:panels])


def _count(figure: Figure, shown: int, of: int, what: str) -> None:
    if shown < of:
        _footnote(figure, f"{shown} of {of} {what} are shown.")


def _footnote(figure: Figure, text: str) -> None:
    figure.supxlabel(text, fontsize=8, color=GREY, x=0.01, ha="left")


def _spectrum_line(axes: Axes, spectrum: Spectrum, colour: str) -> None:
    # Below that the numbers are rounding errors of the float32 difference.
    values = spectrum.values[spectrum.values > 1e-6 * spectrum.values[0]]
    if not len(values):
        return
    cut = min(spectrum.rank, len(values))
    # Dense where the curve is steep; all 768 values of 75 matrices would make a file of megabytes.
    shown = (1 + (len(values) - 1) * np.linspace(0, 1, 60) ** 2).round().astype(int)
    x = np.union1d(shown, [cut] if cut else [])
    y = values[x - 1] / values[0]
    axes.plot(x[x <= cut], y[x <= cut], color=colour, lw=0.8, alpha=0.8)
    axes.plot(x[x >= cut], y[x >= cut], color=colour, lw=0.6, alpha=0.3)
    if cut:
        axes.plot(cut, y[x == cut], ls="", marker="|", ms=6, mew=0.9, color=colour)
