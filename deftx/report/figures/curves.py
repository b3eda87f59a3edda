"""Scores against a number: the value of a setting, a property of the language, or a cost."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Annotated

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator
from pydantic import Field

from deftx.report.comparison import MEAN, Comparison
from deftx.report.figures.style import (
    Block,
    Estimate,
    legend,
    looks,
    notice,
    percent,
    sheet,
    styled,
    wrapped,
)
from deftx.report.scores import Difference, Transfer
from deftx.store.strict import Strict

TOGETHER = 7
"""Systems that a panel of `distance_figure` shows in colour."""

UNITS: dict[str, tuple[str, list[tuple[str, float]]]] = {
    "seconds": ("time", [("s", 1), ("min", 60), ("h", 3600), ("days", 86400)]),
    "peak_bytes": ("peak memory", [("kB", 1e3), ("MB", 1e6), ("GB", 1e9)]),
    "stored_bytes": ("stored", [("kB", 1e3), ("MB", 1e6), ("GB", 1e9)]),
    "trained": ("trained entries", [("thousands", 1e3), ("millions", 1e6)]),
}
"""Cost → its name, and its units from small to large."""

Numbers = Mapping[tuple[str, str, str], Estimate]
"""(task, system, language) → estimate."""


def _means(comparison: Comparison, means: Sequence[Transfer]) -> dict[str, dict[str, Estimate]]:
    """Task → system → the mean over languages; without tasks that have none."""
    found: dict[str, dict[str, Estimate]] = {}
    for mean in means:
        if mean.language == MEAN and mean.task in comparison.tasks:
            found.setdefault(mean.task, {})[mean.system] = percent(mean)
    return found


def _mean_label(comparison: Comparison, task: str) -> str:
    return f"mean {comparison.metric(task).name} (%)"


class Sweep(Strict):
    """Systems that differ in the value of one setting."""

    name: str = Field(description="the setting, such as rank")
    label: str = Field(description="the setting with its unit, as an axis is labelled")
    points: Annotated[list[tuple[float, str]], Field(min_length=1)] = Field(
        description="value and the system that has it"
    )


@styled
def sweep_figure(
    comparison: Comparison, means: Sequence[Transfer], sweeps: Sequence[Sweep]
) -> Figure:
    """A block per task with a panel per sweep: the mean over languages of each system in percent,
    with its 95 % interval, by the order of the values; the reference as a horizontal band.

    Args:
        means: by `deftx.report.scores.transfer`.
    """
    swept = {system for sweep in sweeps for _, system in sweep.points}
    found = {task: m for task, m in _means(comparison, means).items() if swept & m.keys()}
    if not found:
        return notice("No sweep: fewer than three systems of this run differ in one setting only.")
    look, reference = looks(comparison.systems), comparison.reference_system
    colour, label = look[reference].colour, f"{reference} (band)"

    def panel(task: str, sweep: Sweep, axes: Axes) -> None:
        estimates = found[task]
        if reference in estimates:
            mean, low, high = estimates[reference]
            axes.axhspan(low, high, color=colour, alpha=0.15, lw=0)
            axes.axhline(mean, color=colour, lw=0.9, alpha=0.6)
        points = sorted(point for point in sweep.points if point[1] in estimates)
        means = [estimates[system][0] for _, system in points]
        axes.plot(means, color="#999999", lw=0.8, zorder=2)
        for place, (_, system) in enumerate(points):
            look[system].draw(axes, [place], [estimates[system]])
        axes.set_xticks(range(len(points)), [f"{value:g}" for value, _ in points])
        axes.set_xlim(-0.5, len(points) - 0.5)
        axes.set_xlabel(sweep.label)
        axes.grid(axis="y")

    # A panel that is as wide as the page shows no more than a narrow one.
    blocks = {
        task: Block(
            [(sweep.name, partial(panel, task, sweep)) for sweep in sweeps],
            height=1.2,
            most=3,
            y=_mean_label(comparison, task),
            names=0.4,
        )
        for task in found
    }
    band = Line2D([], [], color=colour, lw=5, alpha=0.3, label=label)
    return sheet(
        blocks,
        [band, *legend(look, [system for system in comparison.systems if system in swept])],
        "Bars and band: 95 % intervals of the mean over languages. Values in order, not to scale.",
    )


@dataclass(frozen=True)
class Ruler:
    """A property of languages that scores are drawn against.

    Attributes:
        label: of the axis.
        values: task → language → value.
        joined: whether the points of a system are joined. Otherwise a line is fitted to them by
            least squares.
    """

    label: str
    values: Mapping[str, Mapping[str, float]]
    joined: bool

    def places(self, comparison: Comparison, task: str) -> dict[str, float]:
        """The languages that are shown, by their places. A curve begins at the source, where
        transfer starts; no line is fitted to it."""
        values, table = self.values.get(task, {}), comparison.tasks[task]
        wanted = {*comparison.averaged(task), *(table.labelled if self.joined else ())}
        known = {k: values[k] for k in table.languages if k in wanted and k in values}
        return dict(sorted(known.items(), key=lambda item: item[1]))

    def line(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The curve through the mean of the languages at each place, or the fitted line."""
        at, which = np.unique(x, return_inverse=True)
        if self.joined or len(at) < 2:
            return at, np.bincount(which, weights=y) / np.bincount(which)
        return at, np.polynomial.Polynomial.fit(x, y, 1)(at)


@styled
def distance_figure(
    comparison: Comparison,
    means: Sequence[Transfer],
    gains: Sequence[Difference],
    rulers: Sequence[Ruler],
) -> Figure:
    """A block per task and ruler: scores on the left, gains over zero-shot on the right, with their
    95 % intervals. A row shows seven systems in colour and the others in grey. Languages without
    text are left out, except the source. A ruler needs two languages of a task.

    Args:
        means: by `deftx.report.scores.transfer`.
        gains: over the zero-shot system, by `deftx.report.figures.transfer.against`; may be empty.
    """
    scored = {(m.task, m.system, m.language): percent(m) for m in means}
    gained = {(g.task, g.system, g.language): percent(g) for g in gains}
    columns = [scored, gained] if gained else [scored]
    look = looks(comparison.systems)
    count = -(-len(comparison.systems) // TOGETHER)
    rows = [list(part) for part in np.array_split(np.array(comparison.systems, object), count)]

    def panel(task: str, ruler: Ruler, numbers: Numbers, systems: list[str], axes: Axes) -> None:
        known = ruler.places(comparison, task)
        places = np.array(list(known.values()))
        for system in comparison.systems:
            curve = [numbers[key] for k in known if (key := (task, system, k)) in numbers]
            if not curve:
                continue
            at, line = ruler.line(places, np.array([value for value, _, _ in curve]))
            if system not in systems:
                axes.plot(at, line, color="#e2e2e2", lw=0.7, zorder=1)
                continue
            # Systems are shifted so that intervals of the same language do not overlap.
            aside = 0.012 * np.ptp(places) * (systems.index(system) - (len(systems) - 1) / 2)
            axes.plot(at + aside, line, color=look[system].colour, lw=1.1, zorder=3)
            look[system].draw(axes, list(places + aside), curve)
        if numbers is columns[-1]:
            handles = legend(look, systems)
            axes.legend(handles=handles, loc="center left", bbox_to_anchor=(1, 0.5))
        axes.grid(axis="y")

    blocks, joined = {}, set()
    for task, ruler in product(comparison.tasks, rulers):
        known = ruler.places(comparison, task)
        if len(known) < 2:
            continue
        labels = (
            f"{comparison.metric(task).name} (%)",
            "gain over zero-shot (points)",
        )
        panels = [
            (label, partial(panel, task, ruler, numbers, row))
            for row, (label, numbers) in product(rows, zip(labels, columns, strict=False))
        ]
        names = ", ".join(f"{comparison.name(key)} {value:.3g}" for key, value in known.items())
        blocks[task if len(rulers) == 1 else f"{task}: {ruler.label}"] = Block(
            panels,
            height=1.5,
            most=len(columns),
            x="\n".join([ruler.label, *wrapped(names)]),
            share_y="col",
        )
        joined.add(ruler.joined)
    if not blocks:
        return notice("No distances: this run has no measured property of its languages.")
    return sheet(
        blocks,
        (),
        "Bars: 95 % intervals.",
        "Curves: through the mean of the languages at each place." if True in joined else "",
        "Straight lines: least squares." if False in joined else "",
        "Grey: the systems of the other rows." if len(rows) > 1 else "",
    )


@styled
def cost_figure(
    comparison: Comparison,
    means: Sequence[Transfer],
    costs: Mapping[str, Mapping[str, float | None]],
) -> Figure:
    """A block per task with a panel per cost: the mean over languages in percent with its 95 %
    interval, against the cost.

    Args:
        means: by `deftx.report.scores.transfer`.
        costs: system → seconds, peak_bytes, stored_bytes, trained; an unknown cost is absent or
            None.
    """
    found, look = _means(comparison, means), looks(comparison.systems)
    # System × cost; an unknown cost is NaN.
    table = pd.DataFrame(costs, dtype=float).T.reindex(comparison.systems, columns=list(UNITS))
    table = table.dropna(axis="columns", how="all")
    if not found or table.empty:
        return notice(
            "No costs: some costs of each system are unknown, or there is no mean over languages."
        )

    def panel(task: str, cost: str, axes: Axes) -> None:
        what, units = UNITS[cost]
        largest = table[cost].max()
        unit, size = next((u for u in reversed(units) if largest >= 2 * u[1]), units[0])
        values = table[cost].reindex(list(found[task])).dropna() / size
        for system in values.index:
            look[system].draw(axes, [values[system]], [found[task][system]])
        low, high = values.min(), values.max()
        if 0 < 8 * low <= high:
            axes.set_xscale("log")
            # A single decade needs more ticks than the powers of ten.
            subs = (1, 2, 5) if high < 30 * low else (1, 3) if high < 300 * low else (1,)
            axes.xaxis.set_major_locator(LogLocator(subs=subs, numticks=5))
            axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        else:
            axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.margins(x=0.1)
        axes.set_xlabel(f"{what} ({unit})")
        axes.grid()

    blocks = {
        task: Block(
            [("", partial(panel, task, cost)) for cost in table.columns],
            height=1.6,
            most=table.shape[1],
            y=_mean_label(comparison, task),
            names=0.15,
        )
        for task in found
    }
    unknown = table.isna().all(axis="columns")
    absent = ", ".join(table.index[unknown])
    return sheet(
        blocks,
        legend(look, table.index[~unknown]),
        "Bars: 95 % intervals of the mean over languages.",
        f"Without a known cost: {absent}." if absent else "",
    )
