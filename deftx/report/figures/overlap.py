"""Entries that vectors share: a language's with the task's, and languages' with each other's.
Source: Figures 2 and 3 of the DeFT-X paper."""

from collections.abc import Callable, Iterable, Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from deftx.report.comparison import Comparison
from deftx.report.figures.diagnosed import distinct, sharing
from deftx.report.figures.sheet import Block, sheet, together
from deftx.report.figures.style import WIDTH, looks, styled
from deftx.report.figures.vectors import colours, heat_map

MAPS = 6
"""Heat maps shown of a task: those of the first systems."""

CELL = 0.16
"""Height of their cells in inches."""


def with_task(diagnosed: pd.DataFrame, system: str, task: str) -> pd.Series:
    """Language → overlap of a system's vector of it with that of the task, in percent."""
    mine = _overlaps(diagnosed, system, task)
    mine = mine[mine["b"] == f"task-{task}"]
    return 100 * pd.Series(mine["value"].to_numpy(float), index=_language(mine["a"]))


def between(diagnosed: pd.DataFrame, system: str, task: str) -> pd.DataFrame:
    """Languages × languages: overlap of a system's vectors of them in percent, NaN on the
    diagonal. Empty for fewer than two languages."""
    mine = _overlaps(diagnosed, system, task)
    mine = mine[mine["b"].str.startswith("lang-")]
    mine = mine.assign(a=_language(mine["a"]), b=_language(mine["b"]))
    names = list(dict.fromkeys([*mine["a"], *mine["b"]]))
    half = mine.pivot(index="a", columns="b", values="value")
    return 100 * half.combine_first(half.T).reindex(index=names, columns=names)


def _overlaps(diagnosed: pd.DataFrame, system: str, task: str) -> pd.DataFrame:
    right = (diagnosed["system"] == system) & (diagnosed["task"] == task)
    return diagnosed[right & (diagnosed["measure"] == "overlap")]


def _language(targets: pd.Series) -> list[str]:
    return [str(target).removeprefix("lang-") for target in targets]


@styled
def overlap_figure(comparison: Comparison, diagnosed: pd.DataFrame) -> Figure | None:
    """Two blocks per task: the overlap |A ∩ B| / min(K_A, K_B) of each language's vector with the
    task's, a dot per system; and heat maps of the overlap between the languages' vectors, in the
    order of the comparison. Systems whose panels would be equal are shown once. None if no system
    has two sparse vectors.

    Args:
        diagnosed: by `deftx.report.figures.diagnosed.load_diagnostics`.
    """
    look, blocks, notes = looks(comparison.systems), {}, []
    drawn: set[str] = set()
    maps = {
        task: {name: between(diagnosed, name, task) for name in comparison.systems}
        for task in comparison.tasks
    }
    largest = max((m.max().max() for of in maps.values() for m in of.values() if len(m)), default=1)
    norm = Normalize(0, max(largest, 1))
    for task, pairs in maps.items():
        series = {name: with_task(diagnosed, name, task) for name in comparison.systems}
        once, alike = distinct(series), distinct(pairs)
        if once:
            found = {name: series[name] for name in once}
            drawn |= found.keys()
            rows = _languages(found.values())
            height = 0.145 * len(rows) + 0.1
            dots = Block([("", _dots(comparison, found, rows))], height, 1, x="overlap (%)")
            blocks[f"{task}: language vectors with the task vector"] = dots
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
        notes.append(sharing(f"overlaps of {task}", once, alike))
    if not blocks:
        return None
    handles = [look[name].handle(name) for name in comparison.systems if name in drawn]
    return sheet(blocks, handles, *notes)


def _languages(panels: Iterable[pd.Series | pd.DataFrame]) -> list[str]:
    return list(dict.fromkeys(language for panel in panels for language in panel.index))


def _dots(
    comparison: Comparison, series: Mapping[str, pd.Series], languages: list[str]
) -> Callable[[Axes], None]:
    def draw(axes: Axes) -> None:
        look = looks(comparison.systems)
        for name, each in series.items():
            look[name].points(axes, each.to_numpy(), [languages.index(k) for k in each.index])
        axes.set_ylim(len(languages) - 0.4, -0.6)
        axes.set_yticks(range(len(languages)), [comparison.name(k) for k in languages])
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.set_xlim(left=0)
        axes.grid()

    return draw


def _map(
    panel: pd.DataFrame, languages: list[str], names: list[str], norm: Normalize
) -> Callable[[Axes], None]:
    """The lower half of a symmetric matrix."""

    def draw(axes: Axes) -> None:
        values = panel.reindex(index=languages, columns=languages)
        half = values.where(np.tri(len(names), k=-1, dtype=bool)).iloc[1:, :-1]
        heat_map(axes, half.set_axis(names[1:]), norm, 2)
        axes.set_xticks(range(len(names) - 1), names[:-1], rotation=90)
        axes.set_box_aspect(CELL / min(0.4, (WIDTH - 1.6) / 2 / (len(names) - 1)))
        axes.set_anchor("W")

    return draw
