"""Distribution of a vector's entries over layers, inside and outside attention. Source: Figures 1
and 2 of the SC-SFT paper."""

from collections.abc import Callable, Mapping

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from deftx.report.comparison import Comparison
from deftx.report.figures.diagnosed import distinct, sharing
from deftx.report.figures.sheet import Block, sheet
from deftx.report.figures.style import GREY, SMALL, looks, styled
from deftx.report.figures.vectors import depth, name_layers

PARTS = ("attention", "other")

FADED = 0.6
"""How far the colour of entries outside attention is moved towards white."""


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
    ).reindex(columns=list(PARTS), fill_value=0.0)
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
        diagnosed: by `deftx.report.figures.diagnosed.load_diagnostics`.
    """
    targets = {"language vectors": "lang-"}
    targets |= {f"vectors of the task {task}": f"task-{task}" for task in comparison.tasks}
    look, blocks, groups, cut = looks(comparison.systems), {}, [], False
    for title, target in targets.items():
        found = {name: layer_shares(diagnosed, name, target) for name in comparison.systems}
        if same := distinct(found):
            panels = {name: found[name] for name in same}
            top = _top(panels)
            cut |= any((s[list(PARTS)].sum(axis=1) > top).any() for s in panels.values())
            drawn = [(name, _bars(s, look[name].colour, top)) for name, s in panels.items()]
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
        sharing("vectors", *groups),
    )


def faded(colour: str) -> tuple[float, float, float]:
    """A colour, moved towards white."""
    red, green, blue = (FADED + (1 - FADED) * part for part in to_rgb(colour))
    return red, green, blue


def _top(panels: Mapping[str, pd.DataFrame]) -> float:
    """The end of the common scale. Embeddings may hold most entries, and would leave no room for
    the layers."""
    whole = max(shares["high"].max() for shares in panels.values())
    inside = [
        shares["high"][[depth(layer) >= 0 for layer in shares.index]] for shares in panels.values()
    ]
    layers = max((each.max() for each in inside if len(each)), default=whole)
    return float(min(1.08 * whole, 1.6 * layers))


def _bars(shares: pd.DataFrame, colour: str, top: float) -> Callable[[Axes], None]:
    def draw(axes: Axes) -> None:
        x = range(len(shares))
        attention, other = (shares[part].to_numpy() for part in PARTS)
        axes.bar(x, attention, width=0.8, color=colour)
        axes.bar(x, other, bottom=attention, width=0.8, color=faded(colour))
        varied = shares["high"] > shares["low"]
        places = [n for n in x if varied.iloc[n]]
        axes.vlines(places, shares["low"][varied], shares["high"][varied], color="#555555", lw=0.5)
        axes.set_ylim(0, top)
        for n, whole in enumerate(attention + other):
            if whole > top:
                axes.text(n, 0.98 * top, f"{whole:.0f}", ha="center", va="top", fontsize=SMALL)
        name_layers(axes, list(shares.index), room=7)
        axes.tick_params(axis="x", length=0)
        axes.grid(axis="y")

    return draw
