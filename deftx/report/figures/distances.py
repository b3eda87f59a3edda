"""Transfer against what makes a language hard: its distance from the source, and how many pieces
the tokeniser cuts its words into."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from deftx.report.figures.style import (
    FAINT,
    GREY,
    LEADER,
    SMALL,
    footnote,
    looks,
    spread,
    stacked,
    styled,
)
from deftx.report.results import METRIC_NAMES, Comparison, Difference, Transfer

TOGETHER = 7
"""Systems that a panel shows in colour: as many as there are markers."""


@dataclass(frozen=True)
class Ruler:
    """A property of languages that transfer is drawn against.

    Attributes:
        label: of the axis.
        values: task → language → value.
        joined: whether the points of a system are joined; otherwise a line is fitted to them, by
            least squares.
    """

    label: str
    values: Mapping[str, Mapping[str, float]]
    joined: bool


Curves = dict[str, np.ndarray]
"""System → (languages, 3): value, low and high in percent or points, by place on the ruler."""


@styled
def distance_figure(
    comparison: Comparison,
    means: Sequence[Transfer],
    gains: Sequence[Difference],
    rulers: Sequence[Ruler],
) -> Figure | None:
    """For each task and ruler: scores on the left, gains over zero-shot on the right, with their
    95 % intervals; seven systems to a row, the others behind them in grey. Languages without text
    are left out, but for the source. None if no ruler knows two languages of a task.

    Args:
        means: by `deftx.report.results.transfer`.
        gains: over the zero-shot system, by `deftx.report.figures.transfer.against`; may be empty.
    """
    scored = {(m.task, m.system, m.language): (m.mean, m.low, m.high) for m in means}
    gained = {(g.task, g.system, g.language): (g.difference, g.low, g.high) for g in gains}
    blocks = {
        _title(task, number, rulers): (task, ruler, known)
        for task in comparison.tasks
        for number, ruler in enumerate(rulers)
        if len(known := _known(comparison, task, ruler)) > 1
    }
    if not blocks:
        return None
    rows = _rows(comparison.systems)
    names = [comparison.name(language) for _, _, known in blocks.values() for language in known]
    height = 1.75 * len(rows) + 0.05 * max(map(len, names)) + 0.35
    figure, parts = stacked(dict.fromkeys(blocks, height))
    for title, (task, ruler, known) in blocks.items():
        columns = {
            f"{METRIC_NAMES[comparison.tasks[task].metric]} (%)": scored,
            "gain over zero-shot (points)": gained,
        }
        columns = {label: numbers for label, numbers in columns.items() if numbers}
        every = parts[title].subplots(
            len(rows), len(columns), squeeze=False, sharex=True, sharey="col"
        )
        for column, (label, numbers) in enumerate(columns.items()):
            curves = _curves(comparison, task, known, numbers)
            for axes, systems in zip(every[:, column], rows, strict=True):
                _panel(axes, comparison, curves, known, systems, ruler.joined)
                axes.set_ylabel(label)
            _name_languages(every[0, column], comparison, known)
            every[-1, column].set_xlabel(ruler.label)
        look = looks(comparison.systems)
        for axes, systems in zip(every[:, -1], rows, strict=True):
            handles = [look[system].handle(system) for system in systems]
            axes.legend(handles=handles, loc="center left", bbox_to_anchor=(1, 0.5))
    joined = {ruler.joined for _, ruler, _ in blocks.values()}
    footnote(
        figure,
        "Bars: 95 % intervals.",
        "Curves: through the mean of the languages at each place." if True in joined else "",
        "Straight lines: least squares." if False in joined else "",
        "Grey: the systems of the other rows." if len(rows) > 1 else "",
    )
    return figure


def _title(task: str, number: int, rulers: Sequence[Ruler]) -> str:
    return task if len(rulers) == 1 else f"{task}: {rulers[number].label}"


def _rows(systems: Sequence[str]) -> list[list[str]]:
    """The systems in equal rows of at most TOGETHER."""
    count = -(-len(systems) // TOGETHER)
    return [list(part) for part in np.array_split(np.array(systems, dtype=object), count)]


def _known(comparison: Comparison, task: str, ruler: Ruler) -> dict[str, float]:
    """The languages that are shown, by their places on the ruler. The source is where transfer
    starts from: a curve begins there, but no line is fitted to it."""
    values, table = ruler.values.get(task, {}), comparison.tasks[task]
    wanted = {*comparison.averaged(task), *(table.labelled if ruler.joined else ())}
    known = {k: values[k] for k in table.languages if k in wanted and k in values}
    return dict(sorted(known.items(), key=lambda item: item[1]))


def _curves(
    comparison: Comparison,
    task: str,
    known: Mapping[str, float],
    numbers: Mapping[tuple[str, str, str], tuple[float, float, float]],
) -> Curves:
    """Without systems that have no numbers, as zero-shot has no gain over itself."""
    return {
        system: 100 * np.array([numbers[task, system, language] for language in known])
        for system in comparison.systems
        if (task, system, next(iter(known))) in numbers
    }


def _panel(
    axes: Axes,
    comparison: Comparison,
    curves: Curves,
    known: Mapping[str, float],
    systems: Sequence[str],
    joined: bool,
) -> None:
    look = looks(comparison.systems)
    places = np.array(list(known.values()))
    for system, curve in curves.items():
        at, line = _line(places, curve[:, 0], joined)
        if system not in systems:
            axes.plot(at, line, color="#e2e2e2", lw=0.7, zorder=1)
            continue
        # Side by side, so that intervals at the same place can be told apart.
        aside = 0.012 * np.ptp(places) * (systems.index(system) - (len(systems) - 1) / 2)
        colour = look[system].colour
        axes.plot(at + aside, line, color=colour, lw=1.1, zorder=3)
        axes.vlines(places + aside, curve[:, 1], curve[:, 2], color=colour, lw=0.7, alpha=0.45)
        look[system].points(axes, places + aside, curve[:, 0])
    axes.grid(axis="y", color=FAINT, lw=0.5)


def _line(x: np.ndarray, y: np.ndarray, joined: bool) -> tuple[np.ndarray, np.ndarray]:
    """Through the mean of the languages at each place, or the straight one of least squares."""
    at, which = np.unique(x, return_inverse=True)
    if joined or len(at) < 2:
        return at, np.bincount(which, weights=y) / np.bincount(which)
    return at, np.polynomial.Polynomial.fit(x, y, 1)(at)


def _name_languages(axes: Axes, comparison: Comparison, known: Mapping[str, float]) -> None:
    """Each language above its place, moved aside where names would overlap."""
    low, high = axes.get_xlim()
    wanted = [(value - low) / (high - low) for value in known.values()]
    places = spread(wanted, 0.045, 0.01, 0.99)
    for language, x, at in zip(known, wanted, places, strict=True):
        axes.annotate(
            comparison.name(language),
            (x, 1),
            (at, 1.07),
            xycoords="axes fraction",
            textcoords="axes fraction",
            rotation=90,
            ha="center",
            va="bottom",
            fontsize=SMALL,
            color=GREY,
            arrowprops={**LEADER, "lw": 0.5, "color": "#bbbbbb"},
        )
