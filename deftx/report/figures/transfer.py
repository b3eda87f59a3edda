"""Scores of the systems, and their differences from the reference: a panel per language, a row per
system."""

import textwrap
from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from deftx.report.comparison import METRIC_NAMES, Comparison
from deftx.report.figures.sheet import Block, sheet
from deftx.report.figures.style import GREY, WIDTH, Estimate, letters, looks, name_rows, styled
from deftx.report.scores import Difference, Draws, Transfer

ROW = 0.145
"""Height in inches of the row of a system."""


Row = tuple[Estimate, Sequence[float] | np.ndarray, bool]
"""An estimate, the scores of single seeds, and whether the mark is hollow."""

Panels = dict[tuple[str, str, str], Row]
"""(task, column, system) → its row."""


@styled
def transfer_figure(
    comparison: Comparison,
    means: Sequence[Transfer],
    draws: Mapping[str, Draws],
    classes: Mapping[str, int],
) -> Figure:
    """A block per task with a panel per language and per mean: the score of each system in percent
    with its 95 % interval, and with several seeds a small dot for each.

    Args:
        means: by `deftx.report.scores.transfer`.
        draws: by `deftx.report.scores.draw`, read for the scores of single seeds.
        classes: task → number of its classes, for the chance level.
    """
    panels: Panels = {}
    for mean in means:
        key = mean.system, mean.language
        seeds = 100 * draws[mean.task][key][:, 0] if mean.seeds > 1 else ()
        panels[mean.task, mean.language, mean.system] = (Estimate.of(mean), seeds, False)
    labels = {task: f"{METRIC_NAMES[table.metric]} (%)" for task, table in comparison.tasks.items()}
    several = any(mean.seeds > 1 for mean in means)
    return _forest(
        comparison,
        panels,
        labels,
        {task: (100 / classes[task], "--") for task in comparison.tasks},
        "Bars: 95 % intervals.",
        "Small dots: single seeds." if several else "",
        "Dashed line: chance.",
    )


def against(gaps: Sequence[Difference], reference: str) -> list[Difference]:
    """The differences between each other system and `reference`, out of those of all pairs."""
    return [
        gap
        if gap.versus == reference
        else gap._replace(
            system=gap.versus,
            versus=gap.system,
            difference=-gap.difference,
            low=-gap.high,
            high=-gap.low,
        )
        for gap in gaps
        if reference in (gap.system, gap.versus)
    ]


@styled
def difference_figure(comparison: Comparison, gaps: Sequence[Difference]) -> Figure | None:
    """As `transfer_figure`: the difference between each system and the reference in points, with
    its paired 95 % interval. Marks of differences that are not significant are hollow.
    None if there is no difference.

    Args:
        gaps: between each task's systems and its reference, by `against`.
    """
    if not gaps:
        return None
    panels: Panels = {
        (gap.task, gap.language, gap.system): (Estimate.of(gap), (), not gap.significant)
        for gap in gaps
    }
    labels = {
        task: f"{METRIC_NAMES[table.metric]} minus that of {comparison.reference_of(task)} (points)"
        for task, table in comparison.tasks.items()
    }
    return _forest(
        comparison,
        panels,
        labels,
        dict.fromkeys(comparison.tasks, (0, "-")),
        "Bars: paired 95 % intervals. Hollow: not significant after correction for the number of "
        "comparisons.",
    )


def _forest(
    comparison: Comparison,
    panels: Panels,
    labels: Mapping[str, str],
    lines: Mapping[str, tuple[float, str]],
    *notes: str,
) -> Figure:
    """A block per task with a vertical line, given as (place, style), in each panel."""
    blocks = {}
    for task in comparison.tasks:
        systems = [s for s in comparison.systems if any(key[::2] == (task, s) for key in panels)]
        if systems:
            columns, means = comparison.columns(task), comparison.means(task)
            longest = max(map(len, systems))
            most = 5 if longest <= 24 else 4
            room = letters((WIDTH - 0.065 * longest) / min(most, len(columns)) - 0.1)
            drawn = []
            for column in columns:
                rows = {system: panels[task, column, system] for system in systems}
                draw = partial(_rows, comparison, rows, lines[task], column in means)
                drawn.append((textwrap.fill(comparison.heading(task, column), room), draw))
            blocks[task] = Block(drawn, ROW * len(systems) + 0.1, most, x=labels[task])
    textless = set(comparison.without_text)
    if any(textless & set(table.languages) for table in comparison.tasks.values()):
        notes = (*notes, "† no text: evaluated without a language vector.")
    return sheet(blocks, (), *notes)


def _rows(
    comparison: Comparison, rows: Mapping[str, Row], line: tuple[float, str], bold: bool, axes: Axes
) -> None:
    axes.set_title(axes.get_title(loc="left"), fontweight="bold" if bold else "normal")
    axes.axvline(line[0], color=GREY, ls=line[1], lw=0.8, zorder=1)
    for y, (system, (estimate, seeds, hollow)) in enumerate(rows.items()):
        look = looks(comparison.systems)[system]
        look.draw(axes, [y], [estimate], horizontal=True, hollow=hollow, size=3.7)
        axes.scatter(seeds, [y + 0.32] * len(seeds), s=1.6, color=look.colour, lw=0)
    name_rows(axes, list(rows))
    axes.xaxis.set_major_locator(MaxNLocator(3, steps=[1, 2, 2.5, 5, 10]))
