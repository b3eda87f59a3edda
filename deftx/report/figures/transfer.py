"""Scores of the systems, and their differences from the reference: a panel per language, a row per
system."""

import textwrap
from collections.abc import Mapping, Sequence
from functools import partial
from types import MappingProxyType

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from deftx.report.comparison import SUFFIX, Comparison
from deftx.report.figures.style import (
    GREY,
    WIDTH,
    Block,
    Estimate,
    letters,
    looks,
    name_rows,
    notice,
    percent,
    sheet,
    styled,
)
from deftx.report.prior import WithPrior
from deftx.report.scores import Difference, Draws, Transfer, differences, transfer

ROW = 0.145
"""Height in inches of the row of a system."""

BESIDE = 0.2
"""How far the two marks of a system are from the middle of its row, in rows."""

Rows = Mapping[tuple[str, str, str], tuple[Estimate, Sequence[float] | np.ndarray, bool]]
"""(task, column, system) → an estimate, the scores of single seeds, and whether the mark is
hollow."""

Scales = Mapping[str, tuple[str, float | None]]
"""Task → the label of its axis, and where a vertical line is drawn."""


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
    rows = {}
    for mean in means:
        seeds = 100 * draws[mean.task][mean.system, mean.language][:, 0] if mean.seeds > 1 else ()
        rows[mean.task, mean.language, mean.system] = (percent(mean), seeds, False)
    scales = _scales(comparison, classes)
    return _forest(
        comparison,
        rows,
        scales,
        "--",
        "Bars: 95 % intervals.",
        "Small dots: single seeds." if any(mean.seeds > 1 for mean in means) else "",
        "Dashed line: chance." if any(line for _, line in scales.values()) else "",
    )


def _scales(comparison: Comparison, classes: Mapping[str, int]) -> Scales:
    """The metric of each task, and its chance level if it has one."""
    found = {}
    for task, count in classes.items():
        metric = comparison.metric(task)
        found[task] = f"{metric.name} (%)", 100 / count if metric.has_chance else None
    return found


def against(comparison: Comparison, draws: Mapping[str, Draws]) -> list[Difference]:
    """The differences between each task's systems and its reference, see `differences`."""
    return [
        gap
        if gap.versus == reference
        else gap._replace(
            system=gap.versus,
            versus=reference,
            difference=-gap.difference,
            low=-gap.high,
            high=-gap.low,
        )
        for gap in differences(comparison, draws)
        if (reference := comparison.reference_of(gap.task)) in (gap.system, gap.versus)
    ]


@styled
def difference_figure(comparison: Comparison, gaps: Sequence[Difference]) -> Figure:
    """As `transfer_figure`: the difference between each system and the reference in points, with
    its paired 95 % interval. Marks of differences that are not significant are hollow.

    Args:
        gaps: by `against`.
    """
    if not gaps:
        return notice("No differences: a single system.")
    return _forest(
        comparison,
        {(g.task, g.language, g.system): (percent(g), (), not g.significant) for g in gaps},
        {
            task: (
                f"{comparison.metric(task).name} minus that of {comparison.reference_of(task)} "
                "(points)",
                0,
            )
            for task in comparison.tasks
        },
        "-",
        "Bars: paired 95 % intervals. Hollow: not significant after correction for the number of "
        "comparisons.",
    )


@styled
def prior_figure(found: WithPrior | None) -> Figure:
    """As `transfer_figure`, on the tasks and in the languages that have a prior: the score of each
    system without it as a hollow mark, and below it, joined by a line, the score with it."""
    if found is None:
        return notice("No prior: no task has unlabelled items for one.")
    before = {mean[:3]: mean for mean in transfer(found.before, found.draws)}
    rows, second = {}, {}
    for after in found.means:
        system = after.system.removesuffix(SUFFIX)
        key = (after.task, after.language, system)
        rows[key] = (percent(before[after.task, system, after.language]), (), True)
        second[key] = percent(after)
    classes = {e.task: e.classes for e in found.evaluations}
    return _forest(
        found.before,
        rows,
        _scales(found.before, classes),
        "--",
        "Hollow: without a bias on the classes. Filled: with it (+ prior), estimated from",
        f"unlabelled items: {'; '.join(_assumptions(found.after))}.",
        "Bars: 95 % intervals. Dashed line: chance.",
        second=second,
    )


def _assumptions(comparison: Comparison) -> list[str]:
    """Items and target of each prior, each once."""
    words = {"uniform": "all classes equally often", "source": "as in the source language"}
    priors = [table.prior for table in comparison.tasks.values() if table.prior]
    return list(dict.fromkeys(f"{prior.items}, {words[prior.target]}" for prior in priors))


def _forest(
    comparison: Comparison,
    rows: Rows,
    scales: Scales,
    style: str,
    *notes: str,
    second: Mapping[tuple[str, str, str], Estimate] = MappingProxyType({}),
) -> Figure:
    """A block per task. Its scale has a label, and a vertical line of a `style` at a place or none.
    A system that has a `second` estimate is shown with both, one below the other."""
    look = looks(comparison.systems)

    def panel(task: str, column: str, systems: Sequence[str], axes: Axes) -> None:
        is_mean = column in comparison.means(task)
        axes.set_title(axes.get_title(loc="left"), fontweight="bold" if is_mean else "normal")
        if (line := scales[task][1]) is not None:
            axes.axvline(line, color=GREY, ls=style, lw=0.8, zorder=1)
        for y, system in enumerate(systems):
            estimate, seeds, hollow = rows[task, column, system]
            own = y if (other := second.get((task, column, system))) is None else y - BESIDE
            if other is not None:
                ends, places = (estimate[0], other[0]), (own, y + BESIDE)
                axes.plot(ends, places, color=look[system].colour, lw=0.8, alpha=0.5)
                look[system].draw(axes, places[1:], [other], horizontal=True, size=3.7)
            look[system].draw(axes, [own], [estimate], horizontal=True, hollow=hollow, size=3.7)
            axes.scatter(seeds, [y + 0.32] * len(seeds), s=1.6, color=look[system].colour, lw=0)
        name_rows(axes, systems)
        axes.xaxis.set_major_locator(MaxNLocator(3, steps=[1, 2, 2.5, 5, 10]))

    blocks = {}
    for task in comparison.tasks:
        systems = [s for s in comparison.systems if any(key[::2] == (task, s) for key in rows)]
        if systems:
            columns, longest = comparison.columns(task), max(map(len, systems))
            most = 5 if longest <= 24 else 4
            room = letters((WIDTH - 0.065 * longest) / min(most, len(columns)) - 0.1)
            titles = [textwrap.fill(comparison.heading(task, each), room) for each in columns]
            draws = [partial(panel, task, column, systems) for column in columns]
            panels = list(zip(titles, draws, strict=True))
            height = ROW * (1.5 if second else 1) * len(systems) + 0.1
            blocks[task] = Block(panels, height, most, x=scales[task][0])
    textless = set(comparison.without_text)
    if any(textless & set(table.languages) for table in comparison.tasks.values()):
        notes = (*notes, "† no text: evaluated without a language vector.")
    return sheet(blocks, (), *notes)
