"""How well each system transfers, and how far it is from the reference: a panel per language, a row
per system."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil

from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from deftx.report.figures.style import (
    FAINT,
    GREY,
    WIDTH,
    balanced,
    footnote,
    grid,
    letters,
    looks,
    stacked,
    styled,
)
from deftx.report.results import METRIC_NAMES, Comparison, Difference, Score, Transfer

ROW = 0.145
"""Inches for a system."""


@dataclass(frozen=True)
class Estimate:
    """A number with its interval, in percent or points, and what it is over seeds."""

    value: float
    low: float
    high: float
    seeds: tuple[float, ...] = ()
    doubtful: bool = False


Rows = dict[str, Estimate]
"""System → what its row shows."""


@styled
def transfer_figure(
    comparison: Comparison,
    means: Sequence[Transfer],
    scores: Sequence[Score],
    classes: Mapping[str, int],
) -> Figure:
    """A part per task, in it a panel per language and for the mean: the score of each system in
    percent with its 95 % interval; with several seeds each of them as a small dot.

    Args:
        means: by `deftx.report.results.transfer`.
        scores: of the single evaluations, by `deftx.report.results.scores`.
        classes: task → number of its classes, for the chance level.
    """
    panels = _empty(comparison)
    for mean in means:
        panels[mean.task][mean.language][mean.system] = Estimate(
            100 * mean.mean,
            100 * mean.low,
            100 * mean.high,
            seeds=_seeds(comparison, mean, scores) if mean.seeds > 1 else (),
        )
    labels = {task: f"{METRIC_NAMES[table.metric]} (%)" for task, table in comparison.tasks.items()}
    chance = {task: 100 / classes[task] for task in comparison.tasks}
    several = any(mean.seeds > 1 for mean in means)
    return _forest(
        comparison,
        panels,
        labels,
        {task: (level, (0, (4, 3))) for task, level in chance.items()},
        "Bars: 95 % intervals.",
        "Small dots: single seeds." if several else "",
        "Dashed: chance.",
    )


def _seeds(comparison: Comparison, mean: Transfer, scores: Sequence[Score]) -> tuple[float, ...]:
    """The score of each seed in percent, of a language or of the mean over languages."""
    averaged = comparison.members(mean.task, mean.language)
    found: dict[int, list[float]] = {}
    for score in scores:
        if (score.task, score.system) == mean[:2] and score.language in averaged:
            found.setdefault(score.seed, []).append(100 * getattr(score, mean.metric))
    return tuple(sum(each) / len(each) for _, each in sorted(found.items()))


def against(gaps: Sequence[Difference], reference: str) -> list[Difference]:
    """Of the differences between all pairs, those to one system: each other one minus it."""
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
def difference_figure(comparison: Comparison, gaps: Sequence[Difference]) -> Figure:
    """As `transfer_figure`: the difference of each system to the reference in points, with its
    paired 95 % interval; hollow and faint what is inside the noise.

    Args:
        gaps: of each task to its reference, by `against`.
    """
    panels = _empty(comparison)
    for gap in gaps:
        panels[gap.task][gap.language][gap.system] = Estimate(
            100 * gap.difference,
            100 * gap.low,
            100 * gap.high,
            doubtful=not gap.significant,
        )
    labels = {
        task: f"points of {METRIC_NAMES[table.metric]} more than {comparison.reference_of(task)}"
        for task, table in comparison.tasks.items()
    }
    return _forest(
        comparison,
        panels,
        labels,
        dict.fromkeys(comparison.tasks, (0, "-")),
        "Bars: paired 95 % intervals. Hollow: inside the noise, after correction for the number of "
        "comparisons.",
    )


def _empty(comparison: Comparison) -> dict[str, dict[str, Rows]]:
    """Task → column → rows, none yet."""
    return {task: {column: {} for column in comparison.columns(task)} for task in comparison.tasks}


def _forest(
    comparison: Comparison,
    panels: Mapping[str, Mapping[str, Rows]],
    labels: Mapping[str, str],
    lines: Mapping[str, tuple[float, object]],
    *notes: str,
) -> Figure:
    """Task → column → rows; a vertical line in each panel, as (place, style)."""
    systems = {
        task: [s for s in comparison.systems if any(s in rows for rows in columns.values())]
        for task, columns in panels.items()
    }
    panels = {task: columns for task, columns in panels.items() if systems[task]}
    longest = max(len(system) for shown in systems.values() for system in shown)
    across = {
        task: balanced(len(columns), 5 if longest <= 24 else 4) for task, columns in panels.items()
    }
    heights = {
        task: ceil(len(columns) / across[task]) * (ROW * len(systems[task]) + 0.32) + 0.55
        for task, columns in panels.items()
    }
    figure, parts = stacked(heights)
    for task, part in parts.items():
        every = grid(part, len(panels[task]), across[task])
        means = comparison.means(task)
        room = letters((WIDTH - 0.065 * longest) / across[task] - 0.1, 7)
        for axes, (column, rows) in zip(every, panels[task].items(), strict=True):
            place, style = lines[task]
            axes.axvline(place, color=GREY, ls=style, lw=0.8, zorder=1)
            _rows(axes, comparison, systems[task], rows)
            heading = textwrap.fill(comparison.heading(task, column), room)
            axes.set_title(heading, fontweight="bold" if column in means else "normal")
        part.supxlabel(labels[task], fontsize=7.5, color="#333333")
    textless = set(comparison.without_text)
    if any(textless & set(table.languages) for table in comparison.tasks.values()):
        notes = (*notes, "† no text: evaluated without a language vector.")
    footnote(figure, *notes)
    return figure


def _rows(axes: Axes, comparison: Comparison, systems: Sequence[str], rows: Rows) -> None:
    look = looks(comparison.systems)
    drawn = [rows[system] for system in systems]
    axes.hlines(
        range(len(systems)),
        [e.low for e in drawn],
        [e.high for e in drawn],
        colors=[
            to_rgba(look[system].colour, 0.5 if e.doubtful else 1)
            for system, e in zip(systems, drawn, strict=True)
        ],
        lw=1.2,
    )
    for y, (system, e) in enumerate(zip(systems, drawn, strict=True)):
        look[system].points(axes, e.value, y, hollow=e.doubtful, size=3.7)
    seeds = [
        (value, y + 0.32, look[system].colour)
        for y, system in enumerate(systems)
        for value in rows[system].seeds
    ]
    if seeds:
        x, below, colours = zip(*seeds, strict=True)
        axes.scatter(x, below, s=1.6, c=colours, lw=0)
    axes.set_ylim(len(systems) - 0.4, -0.6)
    axes.set_yticks(range(len(systems)), systems)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(3, steps=[1, 2, 2.5, 5, 10]))
    axes.grid(color=FAINT, lw=0.5)
