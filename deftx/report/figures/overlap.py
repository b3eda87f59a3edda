"""How far vectors choose the same entries: a language's with a task's, and languages' with each
other's. Source: Figures 2 and 3 of the DeFT-X paper."""

from collections.abc import Iterable, Mapping
from math import ceil

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure, SubFigure

from deftx.report.figures.diagnosed import distinct, sharing
from deftx.report.figures.style import (
    FAINT,
    WIDTH,
    footnote,
    grid,
    looks,
    stacked,
    styled,
)
from deftx.report.figures.vectors import colour_bar, heat_map, shown
from deftx.report.results import Comparison

MAPS = 6
"""Heat maps shown of a task; the first systems' are."""

CELL = 0.16
"""Height of their cells in inches."""


def with_task(diagnosed: pd.DataFrame, system: str, task: str) -> pd.Series:
    """Language → overlap of a system's vector of it with that of the task, in percent."""
    mine = _overlaps(diagnosed, system, task)
    mine = mine[mine["b"] == f"task-{task}"]
    return 100 * pd.Series(mine["value"].to_numpy(float), index=_language(mine["a"]))


def between(diagnosed: pd.DataFrame, system: str, task: str) -> pd.DataFrame:
    """Languages × languages: overlap of a system's vectors of them in percent, NaN on the
    diagonal; empty if it has fewer than two."""
    mine = _overlaps(diagnosed, system, task)
    mine = mine[mine["b"].str.startswith("lang-")]
    names = list(dict.fromkeys([*_language(mine["a"]), *_language(mine["b"])]))
    values = pd.DataFrame(np.nan, index=names, columns=names)
    for a, b, value in zip(_language(mine["a"]), _language(mine["b"]), mine["value"], strict=True):
        if a != b:
            values.loc[a, b] = values.loc[b, a] = 100 * value
    return values


def _overlaps(diagnosed: pd.DataFrame, system: str, task: str) -> pd.DataFrame:
    right = (diagnosed["system"] == system) & (diagnosed["task"] == task)
    return diagnosed[right & (diagnosed["measure"] == "overlap")]


def _language(targets: pd.Series) -> list[str]:
    return [str(target).removeprefix("lang-") for target in targets]


@styled
def overlap_figure(comparison: Comparison, diagnosed: pd.DataFrame) -> Figure | None:
    """A part per task: the overlap |A ∩ B| / min(K_A, K_B) of each language's vector with the
    task's, a dot per system; below, heat maps of the overlap between the languages' vectors, in the
    order of the comparison. Systems that would show the same are shown once. None if no system has
    two sparse vectors.

    Args:
        diagnosed: by `deftx.report.figures.diagnosed.load_diagnostics`.
    """
    look = looks(comparison.systems)
    dots, maps, notes, heights = {}, {}, [], {}
    for task in comparison.tasks:
        series = {name: with_task(diagnosed, name, task) for name in comparison.systems}
        pairs = {name: between(diagnosed, name, task) for name in comparison.systems}
        once, alike = distinct(series), distinct(pairs)
        if once:
            dots[_dot_title(task)] = {name: series[name] for name in once}
            rows = len(_languages(series.values()))
            heights[_dot_title(task)] = 0.145 * rows + 0.75
        if alike:
            maps[_map_title(task)] = {name: pairs[name] for name in list(alike)[:MAPS]}
            rows = len(_languages(pairs.values())) - 1
            down = ceil(min(len(alike), MAPS) / 2)
            heights[_map_title(task)] = down * (CELL * rows + 0.3) + 1.5
            notes.append(shown(min(len(alike), MAPS), len(alike), f"heat maps of {task}"))
        notes.append(sharing(f"overlaps of {task}", once, alike))
    if not heights:
        return None
    drawn = {name for panels in dots.values() for name in panels}
    handles = [look[name].handle(name) for name in comparison.systems if name in drawn]
    figure, parts = stacked(heights, handles)
    for title, found in dots.items():
        _dots(parts[title].subplots(), comparison, found)
    largest = max((np.nanmax(m) for panels in maps.values() for m in panels.values()), default=1)
    for title, panels in maps.items():
        _maps(parts[title], comparison, panels, Normalize(0, max(largest, 1)))
    footnote(figure, *notes)
    return figure


def _dot_title(task: str) -> str:
    return f"{task}: language vectors with the task vector"


def _map_title(task: str) -> str:
    return f"{task}: language vectors with each other"


def _languages(panels: Iterable[pd.Series | pd.DataFrame]) -> list[str]:
    return list(dict.fromkeys(language for panel in panels for language in panel.index))


def _dots(axes: Axes, comparison: Comparison, series: Mapping[str, pd.Series]) -> None:
    look = looks(comparison.systems)
    rows = {language: y for y, language in enumerate(_languages(series.values()))}
    for name, each in series.items():
        look[name].points(axes, each.to_numpy(), [rows[language] for language in each.index])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_yticks(range(len(rows)), [comparison.name(language) for language in rows])
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.set_xlim(left=0)
    axes.grid(color=FAINT, lw=0.5)
    axes.set_xlabel("overlap (%)")


def _maps(
    part: SubFigure, comparison: Comparison, panels: Mapping[str, pd.DataFrame], norm: Normalize
) -> None:
    """The lower halves of symmetric matrices."""
    languages = _languages(panels.values())
    names = [comparison.name(language) for language in languages]
    across = min(2, len(panels))
    for axes, (system, panel) in zip(grid(part, len(panels), across), panels.items(), strict=True):
        values = panel.reindex(index=languages[1:], columns=languages[:-1]).to_numpy(float).copy()
        values[np.triu_indices_from(values, 1)] = np.nan
        heat_map(axes, values, norm, across)
        axes.set_title(system)
        axes.set_xticks(range(len(names) - 1), names[:-1], rotation=90)
        axes.set_yticks(range(len(names) - 1), names[1:])
        axes.set_box_aspect(CELL / min(0.4, (WIDTH - 1.6) / across / (len(names) - 1)))
        axes.set_anchor("W")
    colour_bar(part, norm, "overlap (%)")
