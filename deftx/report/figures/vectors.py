"""Figures of vectors: the entries that they share (Source: Figures 2 and 3 of the DeFT-X paper),
the layers and modules that their entries are in (Source: Figures 1 and 2 of the SC-SFT paper), and
the singular values that denoising removes."""

from collections.abc import Mapping, Sequence
from functools import partial
from math import ceil, prod

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Normalize, PowerNorm, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import LogFormatter

from deftx.core.mask import Mask
from deftx.report.comparison import Comparison
from deftx.report.figures.style import (
    GREY,
    SMALL,
    WIDTH,
    Block,
    legend,
    looks,
    name_rows,
    notice,
    sheet,
    styled,
    together,
)
from deftx.report.places import BIASES, NO_LAYER, NORMS, depth, place

MAPS = 6
"""Heat maps of shared entries shown of a task: those of the first systems."""

CELL = 0.165
"""Width in inches of a heat map's cell that has room for three digits."""

PARTS = ["attention", "other"]

FADED = 0.6
"""How far the colour of entries outside attention is moved towards white."""

MODULE_ORDER = ("word", "position", "embed", "query", "key", "value", "attention", "intermediate")

Spectrum = tuple[str, np.ndarray, int]
"""A matrix's module, its singular values in descending order, and how many are kept."""


def over_seeds(rows: pd.DataFrame) -> pd.DataFrame:
    """The means over seeds of what `deftx.report.csv_files.load_diagnostics` returns."""
    keys = [name for name in rows.columns if name not in ("seed", "value")]
    return rows.groupby(keys, sort=False)["value"].mean().reset_index()


def _distinct(panels: Mapping[str, pd.DataFrame]) -> dict[str, list[str]]:
    """The first system of each panel → the other systems with an equal panel. Empty panels are left
    out."""
    same: dict[str, list[str]] = {}
    for system, panel in panels.items():
        if len(panel):
            same.setdefault(panel.to_csv(), []).append(system)
    return {first: others for first, *others in same.values()}


def _sharing(what: str, *groups: Mapping[str, Sequence[str]]) -> str:
    """A note on the systems that are not shown because their panels equal another's."""
    pairs = [pair for same in groups for pair in same.items() if pair[1]]
    both = dict.fromkeys(f"{first} = {' = '.join(others)}" for first, others in pairs)
    return f"Equal {what}, shown once: {'; '.join(both)}." if both else ""


@styled
def overlap_figure(comparison: Comparison, diagnosed: pd.DataFrame) -> Figure:
    """Two blocks per task: the overlap |A ∩ B| / min(K_A, K_B) of each language's vector with the
    task's, a dot per system; and heat maps of the overlap between the languages' vectors, in the
    order of the comparison. Systems whose panels would be equal are shown once.

    Args:
        diagnosed: by `over_seeds`.
    """
    look, blocks, notes, drawn = looks(comparison.systems), {}, [], set[str]()
    every = diagnosed[diagnosed["measure"] == "overlap"]
    every = every.assign(**{key: every[key].str.removeprefix("lang-") for key in "ab"})
    every["value"] *= 100
    between = every[~every["b"].str.startswith("task-")]
    norm = Normalize(0, np.nanmax([1, between["value"].max()]))

    def dots(found: Mapping[str, pd.DataFrame], rows: Sequence[str], axes: Axes) -> None:
        for name, each in found.items():
            places = [rows.index(key) for key in each.index]
            axes.plot(each["value"], places, zorder=4, **look[name].style())
        name_rows(axes, [comparison.name(key) for key in rows])
        axes.set_xlim(left=0)

    def heat(panel: pd.DataFrame, names: list[str], axes: Axes) -> None:
        """The lower half of a symmetric matrix."""
        half = panel.where(np.tri(len(names), k=-1, dtype=bool)).iloc[1:, :-1]
        _heat_map(axes, half.set_axis(names[1:]), norm, 2)
        axes.set_xticks(range(len(names) - 1), names[:-1], rotation=90)
        axes.set_box_aspect(0.16 / min(0.4, (WIDTH - 1.6) / 2 / (len(names) - 1)))
        axes.set_anchor("W")

    for task in comparison.tasks:
        dotted, mapped = {}, {}
        for name in comparison.systems:
            mine, pairs = (
                frame[(frame["system"] == name) & (frame["task"] == task)]
                for frame in (every, between)
            )
            dotted[name] = mine[mine["b"] == f"task-{task}"].set_index("a")[["value"]]
            order = list(dict.fromkeys([*pairs["a"], *pairs["b"]]))
            half = pairs.pivot(index="a", columns="b", values="value")
            mapped[name] = half.combine_first(half.T).reindex(index=order, columns=order)
        once, alike = _distinct(dotted), _distinct(mapped)
        if once:
            found = {name: dotted[name] for name in once}
            rows = list(dict.fromkeys(key for each in found.values() for key in each.index))
            drawn |= found.keys()
            blocks[f"{task}: language vectors with the task vector"] = Block(
                [("", partial(dots, found, rows))], 0.145 * len(rows) + 0.1, 1, x="overlap (%)"
            )
        if alike:
            shown = [*alike][:MAPS]
            keys = list(dict.fromkeys(key for name in shown for key in mapped[name].index))
            names = [comparison.name(key) for key in keys]
            maps = {name: mapped[name].reindex(index=keys, columns=keys) for name in shown}
            blocks[f"{task}: language vectors with each other"] = Block(
                [(name, partial(heat, panel, names)) for name, panel in maps.items()],
                height=0.16 * (len(names) - 1),
                most=2,
                names=0.065 * max(map(len, names)),
                scale="overlap (%)",
            )
            notes.append(together(len(shown), len(alike), f"heat maps of {task}"))
        notes.append(_sharing(f"overlaps of {task}", once, alike))
    if not blocks:
        return notice("No overlap: no system of this run adds two sparse vectors.")
    return sheet(blocks, legend(look, [s for s in comparison.systems if s in drawn]), *notes)


def layer_shares(diagnosed: pd.DataFrame, system: str, targets: str) -> pd.DataFrame:
    """Layer × (attention, other, low, high): the percentage of a vector's entries, as mean over the
    vectors of a system, and the smallest and largest percentage of the whole layer among them.

    Args:
        targets: `task-<task>`, or `lang-` for all languages.
    """
    mine = diagnosed[(diagnosed["system"] == system) & (diagnosed["measure"] == "entries")]
    mine = mine[mine["a"].str.startswith(targets) if targets == "lang-" else mine["a"] == targets]
    # The files of two tasks contain the same counts of a language that both use.
    counts = mine.pivot_table(
        index=["a", "layer"], columns="part", values="value", aggfunc="mean", fill_value=0.0
    ).reindex(columns=PARTS, fill_value=0.0)
    counts = 100 * counts.div(counts.sum(axis=1).groupby("a").sum(), axis=0, level="a")
    whole = counts.sum(axis=1).groupby("layer")
    shares = counts.groupby("layer").mean().assign(low=whole.min(), high=whole.max())
    return shares.loc[sorted(shares.index, key=depth)]


@styled
def layers_figure(comparison: Comparison, diagnosed: pd.DataFrame) -> Figure:
    """A block for the language vectors and one per task vector, each with a panel per system: the
    percentage of the entries in each layer, attention in full colour and the rest faint. For
    languages it is the mean, with a line from the smallest to the largest. Systems whose panels
    would be equal are shown once.

    Args:
        diagnosed: as for `overlap_figure`.
    """
    targets = {"language vectors": "lang-"}
    targets |= {f"vectors of the task {task}": f"task-{task}" for task in comparison.tasks}
    look, blocks, groups, cut = looks(comparison.systems), {}, [], False

    def bars(shares: pd.DataFrame, colour: str, top: float, axes: Axes) -> None:
        x = np.arange(len(shares))
        attention, other, low, high = shares.to_numpy().T
        axes.bar(x, attention, width=0.8, color=colour)
        axes.bar(x, other, bottom=attention, width=0.8, color=faded(colour))
        varied = high > low
        axes.vlines(x[varied], low[varied], high[varied], color="#555555", lw=0.5)
        axes.set_ylim(0, top)
        for n, whole in enumerate(attention + other):
            if whole > top:
                axes.text(n, 0.98 * top, f"{whole:.0f}", ha="center", va="top", fontsize=SMALL)
        _name_layers(axes, list(shares.index), room=7)
        axes.tick_params(axis="x", length=0)
        axes.grid(axis="y")

    for title, target in targets.items():
        found = {name: layer_shares(diagnosed, name, target) for name in comparison.systems}
        if same := _distinct(found):
            panels = pd.concat({name: found[name] for name in same})
            # Embeddings may hold most entries, and would leave no room for the layers.
            inside = panels["high"].drop(NO_LAYER, level="layer", errors="ignore").max()
            top = np.nanmin([1.08 * panels["high"].max(), 1.6 * inside])
            cut |= bool((panels[PARTS].sum(axis=1) > top).any())
            drawn = [(name, partial(bars, found[name], look[name].colour, top)) for name in same]
            blocks[title] = Block(drawn, 0.85, 4, x="layer", y="entries (%)")
            groups.append(same)
    if not blocks:
        return notice("No layers: no system of this run has a sparse vector.")
    several = diagnosed["a"][diagnosed["a"].str.startswith("lang-")].nunique() > 1
    return sheet(
        blocks,
        [Patch(color=GREY, label="attention"), Patch(color=faded(GREY), label="other")],
        "Language vectors: mean over languages; lines: smallest to largest." if several else "",
        "A number gives the value of a bar that is cut off." if cut else "",
        _sharing("vectors", *groups),
    )


def faded(colour: str) -> tuple[float, float, float]:
    """A colour, moved towards white."""
    red, green, blue = (FADED + (1 - FADED) * part for part in to_rgb(colour))
    return red, green, blue


def mask_shares(
    mask: Mask, shapes: Mapping[str, tuple[int, ...]], known_as: Mapping[str, str] | None = None
) -> pd.Series:
    """(module, layer) → the fraction of its entries that a mask selects, over the tensors of
    `shapes`; modules are named by what the tensors are known as."""
    rows = [
        (*place((known_as or {}).get(name, name)), prod(shape), len(mask.index.get(name, ())))
        for name, shape in shapes.items()
    ]
    frame = pd.DataFrame(rows, columns=["module", "layer", "size", "chosen"])
    found = frame.groupby(["module", "layer"]).sum()
    return found["chosen"] / found["size"]


@styled
def mask_figure(panels: Mapping[str, pd.Series], of: int) -> Figure:
    """A heat map per mask, modules × layers: the percentage of entries that the mask selects.

    Args:
        panels: title → shares of the masks that are shown.
        of: how many masks there are, shown or not.
    """
    if not panels:
        return notice("No mask: every system of this run uses dense vectors.")
    # Two side by side, so that the task and the language of a method are in one row.
    every, across = 100 * pd.concat(panels), min(2, len(panels))
    modules = sorted(every.index.unique("module"), key=_rank)
    layers = sorted(every.index.unique("layer"), key=depth)
    # Modules that are selected whole, such as all biases, would leave no colours for the rest.
    largest = every[every.between(0, 100, inclusive="neither")].max()
    norm = PowerNorm(0.5, vmin=0, vmax=np.nan_to_num(largest, nan=100))

    def draw(percent: pd.DataFrame, axes: Axes) -> None:
        _heat_map(axes, percent.reindex(index=modules, columns=layers), norm, across)
        _name_layers(axes, layers, room=16)

    block = Block(
        [(title, partial(draw, every[title].unstack())) for title in panels],
        height=0.15 * len(modules) + 0.1,
        most=2,
        x="layer",
        scale="selected entries (%)",
        open_end=bool((every == 100).any()),
    )
    return sheet({"": block}, (), together(len(panels), of, "masks"))


def _heat_map(axes: Axes, percent: pd.DataFrame, norm: Normalize, across: int) -> None:
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
            text = f"{value:.1f}" if 0 < value < 9.95 else f"{value:.0f}"
            axes.text(column, row, text, ha="center", va="center", fontsize=5.8, color=colour)


def _name_layers(axes: Axes, layers: Sequence[str], room: int) -> None:
    step = ceil(len(layers) / room)
    axes.set_xticks(range(0, len(layers), step), layers[::step])


def _rank(module: str) -> tuple[bool, int, str]:
    """Sorts modules: embeddings, then in the order of computation, biases and normalisation."""
    found = (number for number, word in enumerate(MODULE_ORDER) if word in module)
    return module in (BIASES, NORMS), next(found, len(MODULE_ORDER)), module


@styled
def spectrum_figure(panels: Mapping[str, Sequence[Spectrum]], of: int) -> Figure:
    """A panel per denoised difference: the singular values of each matrix relative to the largest,
    the kept ones in full colour, the removed ones faint, with a mark at the cut. Zero matrices are
    left out.

    Args:
        panels: title → spectra of the differences that are shown.
        of: how many there are, shown or not.
    """
    if not panels:
        return notice("No spectrum: no method of this run denoises.")
    modules = sorted({module for each in panels.values() for module, _, _ in each}, key=_rank)
    # A sequential colour map, since modules have an order; its colours stand for no system.
    shades = matplotlib.colormaps["viridis"](np.linspace(0, 0.9, len(modules)))
    colour = {module: tuple(shade) for module, shade in zip(modules, shades, strict=True)}

    def draw(spectra: Sequence[Spectrum], axes: Axes) -> None:
        for module, full, rank in spectra:
            # Smaller values are rounding errors of the float32 difference.
            values = full[full > 1e-6 * full[0]]
            if not len(values):
                continue
            cut, ink = min(rank, len(values)), colour[module]
            # Points are dense where the curve is steep. All 768 values of 75 matrices would take
            # megabytes.
            dense = (1 + (len(values) - 1) * np.linspace(0, 1, 60) ** 2).round().astype(int)
            x = np.union1d(dense, [cut] if cut else [])
            y = values[x - 1] / values[0]
            axes.plot(x[x <= cut], y[x <= cut], color=ink, lw=0.8, alpha=0.8)
            axes.plot(x[x >= cut], y[x >= cut], color=ink, lw=0.6, alpha=0.3)
            if cut:
                axes.plot(cut, y[x == cut], ls="", marker="|", ms=6, mew=0.9, color=ink)
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(LogFormatter())  # the default one writes TeX
        axes.yaxis.set_minor_formatter(LogFormatter())
        axes.grid()

    handles = [Line2D([], [], color=colour[m], lw=1.8, label=m) for m in modules]
    handles.append(Line2D([], [], ls="", marker="|", ms=8, mew=1.2, color=GREY, label="cut"))
    block = Block(
        [(title, partial(draw, spectra)) for title, spectra in panels.items()],
        height=1.5,
        most=3,
        x="component",
        y="singular value / largest",
    )
    return sheet({"": block}, handles, together(len(panels), of, "denoised differences"))
