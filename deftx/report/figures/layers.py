"""In which layers the chosen entries lie, in attention and outside of it. Source: Figures 1 and 2
of the SC-SFT paper."""

from collections.abc import Mapping
from math import ceil

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from deftx.report.figures.diagnosed import distinct, sharing
from deftx.report.figures.style import (
    FAINT,
    GREY,
    SMALL,
    balanced,
    footnote,
    grid,
    looks,
    stacked,
    styled,
)
from deftx.report.figures.vectors import depth, name_layers
from deftx.report.results import Comparison

PARTS = ("attention", "other")

FADED = 0.6
"""How far the colour of what is not attention is moved towards white."""


def layer_shares(diagnosed: pd.DataFrame, system: str, targets: str) -> pd.DataFrame:
    """Layer × (attention, other, low, high): the share of a vector's entries in percent, as mean
    over the vectors of a system, and the least and the largest share of the whole layer among them.

    Args:
        targets: `task-<task>`, or `lang-` for all languages.
    """
    mine = diagnosed[(diagnosed["system"] == system) & (diagnosed["measure"] == "entries")]
    mine = mine[mine["a"].str.startswith(targets) if targets == "lang-" else mine["a"] == targets]
    # A language of two tasks is in the files of both, with the same counts.
    counts = mine.pivot_table(
        index=["a", "layer"], columns="part", values="value", aggfunc="mean", fill_value=0.0
    ).reindex(columns=list(PARTS), fill_value=0.0)
    counts = 100 * counts.div(counts.sum(axis=1).groupby("a").sum(), axis=0, level="a")
    whole = counts.sum(axis=1).groupby("layer")
    shares = counts.groupby("layer").mean().assign(low=whole.min(), high=whole.max())
    return shares.loc[sorted(shares.index, key=depth)]


@styled
def layers_figure(comparison: Comparison, diagnosed: pd.DataFrame) -> Figure | None:
    """A part for the language vectors and one for each task's, in each a panel per system: which
    share of the chosen entries lies in which layer, attention in full colour and the rest faint;
    for languages the mean, with a line from the least to the largest share among them. Systems that
    would show the same are shown once. None if no system has a sparse vector.

    Args:
        diagnosed: by `deftx.report.figures.diagnosed.load_diagnostics`.
    """
    targets = {"language vectors": "lang-"}
    targets |= {f"vectors of the task {task}": f"task-{task}" for task in comparison.tasks}
    panels: dict[str, dict[str, pd.DataFrame]] = {}
    groups = []
    for title, target in targets.items():
        found = {name: layer_shares(diagnosed, name, target) for name in comparison.systems}
        if same := distinct(found):
            panels[title] = {name: found[name] for name in same}
            groups.append(same)
    if not panels:
        return None
    across = balanced(max(map(len, panels.values())), 4)
    heights = {title: ceil(len(drawn) / across) * 1.15 + 0.5 for title, drawn in panels.items()}
    handles = [Patch(color=GREY, label="attention"), Patch(color=faded(GREY), label="the rest")]
    figure, parts = stacked(heights, handles)
    look = looks(comparison.systems)
    for title, part in parts.items():
        every = grid(part, len(panels[title]), across)
        top = _top(panels[title])
        for axes, (name, shares) in zip(every, panels[title].items(), strict=True):
            _bars(axes, shares, look[name].colour, top)
            axes.set_title(name)
        for axes in every[::across]:
            axes.set_ylabel("entries (%)")
        part.supxlabel("layer", fontsize=7.5, color="#333333")
    several = diagnosed["a"][diagnosed["a"].str.startswith("lang-")].nunique() > 1
    footnote(
        figure,
        "Language vectors: mean over languages; lines: least to largest." if several else "",
        "Bars that are cut off have their value at the top."
        if any(map(_cut, panels.values()))
        else "",
        sharing("vectors", *groups),
    )
    return figure


def faded(colour: str) -> tuple[float, float, float]:
    """A colour, moved towards white."""
    red, green, blue = (FADED + (1 - FADED) * part for part in to_rgb(colour))
    return red, green, blue


def _top(panels: Mapping[str, pd.DataFrame]) -> float:
    """The end of the common scale: embeddings can hold most of the model, and would press all
    layers flat."""
    whole = max(shares["high"].max() for shares in panels.values())
    inside = [
        shares["high"][[depth(layer) >= 0 for layer in shares.index]] for shares in panels.values()
    ]
    layers = max((each.max() for each in inside if len(each)), default=whole)
    return float(min(1.08 * whole, 1.6 * layers))


def _cut(panels: Mapping[str, pd.DataFrame]) -> bool:
    return any((shares[list(PARTS)].sum(axis=1) > _top(panels)).any() for shares in panels.values())


def _bars(axes: Axes, shares: pd.DataFrame, colour: str, top: float) -> None:
    x = range(len(shares))
    attention, other = (shares[part].to_numpy() for part in PARTS)
    axes.bar(x, attention, width=0.8, color=colour)
    axes.bar(x, other, bottom=attention, width=0.8, color=faded(colour))
    spread = shares["high"] > shares["low"]
    axes.vlines(
        [n for n in x if spread.iloc[n]],
        shares["low"][spread],
        shares["high"][spread],
        color="#555555",
        lw=0.5,
    )
    axes.set_ylim(0, top)
    for n, whole in enumerate(attention + other):
        if whole > top:
            axes.annotate(
                f"{whole:.0f}",
                (n, top),
                (0, -1),
                textcoords="offset points",
                ha="center",
                va="top",
                fontsize=SMALL,
            )
    name_layers(axes, list(shares.index), room=7)
    axes.tick_params(axis="x", length=0)
    axes.grid(axis="y", color=FAINT, lw=0.5)
