"""Figures of measured vectors: the entries that they share (Source: Figures 2 and 3 of the DeFT-X
paper), and the distribution of their entries over layers (Source: Figures 1 and 2 of the SC-SFT
paper)."""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Normalize, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from deftx.report import csv_files
from deftx.report.comparison import Comparison
from deftx.report.figures.sheet import Block, sheet, together
from deftx.report.figures.style import GREY, SMALL, WIDTH, Look, looks, name_rows, styled
from deftx.report.figures.vectors import colours, heat_map, name_layers
from deftx.report.places import depth

MAPS = 6
"""Heat maps shown of a task: those of the first systems."""

CELL = 0.16
"""Height of their cells in inches."""

PARTS = ["attention", "other"]

FADED = 0.6
"""How far the colour of entries outside attention is moved towards white."""

Panel = TypeVar("Panel", bound=pd.Series | pd.DataFrame)
Draw = Callable[[Axes], None]


def load_diagnostics(paths: Sequence[Path]) -> pd.DataFrame:
    """The measurements of {system}/{task}.csv as means over seeds, with the columns system, task,
    measure, a, b, layer, part and value.

    Raises ArtefactError as `deftx.report.csv_files.read_csv`.
    """
    keys = ["system", "task", "measure", "a", "b", "layer", "part"]
    rows = csv_files.load_diagnostics(paths)
    return rows.groupby(keys, sort=False)["value"].mean().reset_index()


def _distinct(panels: Mapping[str, Panel]) -> dict[str, list[str]]:
    """The first system of each panel → the other systems with an equal panel. Empty panels are left
    out."""
    first: dict[Hashable, str] = {}
    same: dict[str, list[str]] = {}
    for system, panel in panels.items():
        if len(panel):
            labels = tuple(map(tuple, (panel.index, getattr(panel, "columns", ()))))
            known = first.setdefault((labels, panel.to_numpy().tobytes()), system)
            same.setdefault(known, []).extend([system] if known != system else [])
    return same


def _sharing(what: str, *groups: Mapping[str, Sequence[str]]) -> str:
    """A note on the systems that are not shown because their panels equal another's."""
    pairs = [pair for same in groups for pair in same.items() if pair[1]]
    both = dict.fromkeys(f"{first} = {' = '.join(others)}" for first, others in pairs)
    return f"Equal {what}, shown once: {'; '.join(both)}." if both else ""


def with_task(overlaps: pd.DataFrame, task: str) -> pd.Series:
    """Language → overlap of a system's vector of it with that of the task, in percent."""
    return 100 * overlaps[overlaps["b"] == f"task-{task}"].set_index("a")["value"]


def between(overlaps: pd.DataFrame) -> pd.DataFrame:
    """Languages × languages: overlap of a system's vectors of them in percent, NaN on the
    diagonal. Empty for fewer than two languages."""
    mine = overlaps[~overlaps["b"].str.startswith("task-")]
    names = list(dict.fromkeys([*mine["a"], *mine["b"]]))
    half = mine.pivot(index="a", columns="b", values="value")
    return 100 * half.combine_first(half.T).reindex(index=names, columns=names)


@styled
def overlap_figure(comparison: Comparison, diagnosed: pd.DataFrame) -> Figure | None:
    """Two blocks per task: the overlap |A ∩ B| / min(K_A, K_B) of each language's vector with the
    task's, a dot per system; and heat maps of the overlap between the languages' vectors, in the
    order of the comparison. Systems whose panels would be equal are shown once. None if no system
    has two sparse vectors.

    Args:
        diagnosed: by `load_diagnostics`.
    """
    look, blocks, notes, drawn = looks(comparison.systems), {}, [], set[str]()
    every = diagnosed[diagnosed["measure"] == "overlap"]
    every = every.assign(**{key: every[key].str.removeprefix("lang-") for key in "ab"})
    largest = 100 * every["value"][~every["b"].str.startswith("task-")].max()
    norm = Normalize(0, max(1, largest) if len(every) else 1)
    for task in comparison.tasks:
        mine = {
            name: every[(every["system"] == name) & (every["task"] == task)]
            for name in comparison.systems
        }
        series = {name: with_task(overlaps, task) for name, overlaps in mine.items()}
        pairs = {name: between(overlaps) for name, overlaps in mine.items()}
        once, alike = _distinct(series), _distinct(pairs)
        if once:
            found = {name: series[name] for name in once}
            drawn |= found.keys()
            rows = _languages(found.values())
            dots = _dots(look, found, rows, [comparison.name(key) for key in rows])
            block = Block([("", dots)], 0.145 * len(rows) + 0.1, 1, x="overlap (%)")
            blocks[f"{task}: language vectors with the task vector"] = block
        if alike:
            shown = {name: pairs[name] for name in list(alike)[:MAPS]}
            languages = _languages(shown.values())
            names = [comparison.name(language) for language in languages]
            blocks[f"{task}: language vectors with each other"] = Block(
                [(name, _map(panel, languages, names, norm)) for name, panel in shown.items()],
                height=CELL * (len(names) - 1),
                most=2,
                names=0.065 * max(map(len, names)),
                colours=colours(norm),
                scale="overlap (%)",
            )
            notes.append(together(len(shown), len(alike), f"heat maps of {task}"))
        notes.append(_sharing(f"overlaps of {task}", once, alike))
    if not blocks:
        return None
    handles = [look[name].handle(name) for name in comparison.systems if name in drawn]
    return sheet(blocks, handles, *notes)


def _languages(panels: Iterable[pd.Series | pd.DataFrame]) -> list[str]:
    return list(dict.fromkeys(language for panel in panels for language in panel.index))


def _dots(
    look: Mapping[str, Look], series: Mapping[str, pd.Series], rows: list[str], names: list[str]
) -> Draw:
    def draw(axes: Axes) -> None:
        for name, each in series.items():
            look[name].points(axes, each.to_numpy(), [rows.index(key) for key in each.index])
        name_rows(axes, names)
        axes.set_xlim(left=0)

    return draw


def _map(panel: pd.DataFrame, languages: list[str], names: list[str], norm: Normalize) -> Draw:
    """The lower half of a symmetric matrix."""

    def draw(axes: Axes) -> None:
        values = panel.reindex(index=languages, columns=languages)
        half = values.where(np.tri(len(names), k=-1, dtype=bool)).iloc[1:, :-1]
        heat_map(axes, half.set_axis(names[1:]), norm, 2)
        axes.set_xticks(range(len(names) - 1), names[:-1], rotation=90)
        axes.set_box_aspect(CELL / min(0.4, (WIDTH - 1.6) / 2 / (len(names) - 1)))
        axes.set_anchor("W")

    return draw


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
def layers_figure(comparison: Comparison, diagnosed: pd.DataFrame) -> Figure | None:
    """A block for the language vectors and one per task vector, each with a panel per system: the
    percentage of the entries in each layer, attention in full colour and the rest faint. For
    languages it is the mean, with a line from the smallest to the largest. Systems whose panels
    would be equal are shown once. None if no system has a sparse vector.

    Args:
        diagnosed: by `load_diagnostics`.
    """
    targets = {"language vectors": "lang-"}
    targets |= {f"vectors of the task {task}": f"task-{task}" for task in comparison.tasks}
    look, blocks, groups, cut = looks(comparison.systems), {}, [], False
    for title, target in targets.items():
        found = {name: layer_shares(diagnosed, name, target) for name in comparison.systems}
        if same := _distinct(found):
            panels = pd.concat({name: found[name] for name in same})
            # Embeddings may hold most entries, and would leave no room for the layers.
            inside = panels["high"][[depth(layer) >= 0 for _, layer in panels.index]]
            whole = panels["high"].max()
            top = min(1.08 * whole, 1.6 * (inside.max() if len(inside) else whole))
            cut |= bool((panels[PARTS].sum(axis=1) > top).any())
            drawn = [(name, _bars(found[name], look[name].colour, top)) for name in same]
            blocks[title] = Block(drawn, 0.85, 4, x="layer", y="entries (%)")
            groups.append(same)
    if not blocks:
        return None
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


def _bars(shares: pd.DataFrame, colour: str, top: float) -> Draw:
    def draw(axes: Axes) -> None:
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
        name_layers(axes, list(shares.index), room=7)
        axes.tick_params(axis="x", length=0)
        axes.grid(axis="y")

    return draw
