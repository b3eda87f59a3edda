"""Scores against a number: the value of a setting, a property of the language, or a cost."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from deftx.report.comparison import MEAN, METRIC_NAMES, Comparison
from deftx.report.figures.sheet import Block, sheet
from deftx.report.figures.style import Estimate, Look, looks, styled, wrapped
from deftx.report.scores import Difference, Transfer
from deftx.stages.figures.settings import Sweep

TOGETHER = 7
"""Systems that a panel of `distance_figure` shows in colour."""

UNITS: dict[str, tuple[str, list[tuple[str, float]]]] = {
    "seconds": ("time", [("s", 1), ("min", 60), ("h", 3600), ("days", 86400)]),
    "peak_bytes": ("peak memory", [("kB", 1e3), ("MB", 1e6), ("GB", 1e9)]),
    "stored_bytes": ("stored", [("kB", 1e3), ("MB", 1e6), ("GB", 1e9)]),
    "trained": ("trained entries", [("thousands", 1e3), ("millions", 1e6)]),
}
"""Cost → its name, and its units from small to large."""

Panel = tuple[str, Callable[[Axes], None]]


def _means(comparison: Comparison, means: Sequence[Transfer]) -> dict[str, dict[str, Estimate]]:
    """Task → system → the mean over languages; without tasks that have none."""
    found: dict[str, dict[str, Estimate]] = {}
    for mean in means:
        if mean.language == MEAN and mean.task in comparison.tasks:
            found.setdefault(mean.task, {})[mean.system] = Estimate.of(mean)
    return found


def _mean_label(comparison: Comparison, task: str) -> str:
    return f"mean {METRIC_NAMES[comparison.tasks[task].metric]} (%)"


@styled
def sweep_figure(
    comparison: Comparison, means: Sequence[Transfer], sweeps: Sequence[Sweep]
) -> Figure | None:
    """A block per task with a panel per sweep: the mean over languages of each system in percent,
    with its 95 % interval, by the order of the values; the reference as a horizontal band. None if
    nothing is swept or there is no mean.

    Args:
        means: by `deftx.report.scores.transfer`.
    """
    swept = {system for sweep in sweeps for _, system in sweep.points}
    found = {task: m for task, m in _means(comparison, means).items() if swept & m.keys()}
    if not sweeps or not found:
        return None
    look, reference = looks(comparison.systems), comparison.reference_system

    def panel(task: str, sweep: Sweep) -> Callable[[Axes], None]:
        def draw(axes: Axes) -> None:
            if reference in found[task]:
                mean, colour = found[task][reference], look[reference].colour
                axes.axhspan(mean.low, mean.high, color=colour, alpha=0.15, lw=0)
                axes.axhline(mean.value, color=colour, lw=0.9, alpha=0.6)
            points = sorted(point for point in sweep.points if point[1] in found[task])
            values = [found[task][system].value for _, system in points]
            axes.plot(values, color="#999999", lw=0.8, zorder=2)
            for place, (_, system) in enumerate(points):
                look[system].draw(axes, [place], [found[task][system]])
            axes.set_xticks(range(len(points)), [f"{value:g}" for value, _ in points])
            axes.set_xlim(-0.5, len(points) - 0.5)
            axes.set_xlabel(sweep.label)
            axes.grid(axis="y")

        return draw

    colour, label = look[reference].colour, f"{reference} (band)"
    handles = [Line2D([], [], color=colour, lw=5, alpha=0.3, label=label)]
    handles += [look[system].handle(system) for system in comparison.systems if system in swept]
    # A panel that is as wide as the page shows no more than a narrow one.
    blocks = {
        task: Block(
            [(sweep.name, panel(task, sweep)) for sweep in sweeps],
            height=1.2,
            most=3,
            y=_mean_label(comparison, task),
            names=0.4,
            share_x=False,
        )
        for task in found
    }
    note = (
        "Bars and band: 95 % intervals of the mean over languages. Values in order, not to scale."
    )
    return sheet(blocks, handles, note)


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


@styled
def distance_figure(
    comparison: Comparison,
    means: Sequence[Transfer],
    gains: Sequence[Difference],
    rulers: Sequence[Ruler],
) -> Figure | None:
    """A block per task and ruler: scores on the left, gains over zero-shot on the right, with their
    95 % intervals. A row shows seven systems in colour and the others in grey. Languages without
    text are left out, except the source. None if no ruler knows two languages of a task.

    Args:
        means: by `deftx.report.scores.transfer`.
        gains: over the zero-shot system, by `deftx.report.figures.transfer.against`; may be empty.
    """
    scored = {(m.task, m.system, m.language): Estimate.of(m) for m in means}
    gained = {(g.task, g.system, g.language): Estimate.of(g) for g in gains}
    look = looks(comparison.systems)
    count = -(-len(comparison.systems) // TOGETHER)
    rows = [list(part) for part in np.array_split(np.array(comparison.systems, object), count)]
    blocks, joined = {}, set()
    for task, ruler in product(comparison.tasks, rulers):
        known = _known(comparison, task, ruler)
        if len(known) < 2:
            continue
        columns = {f"{METRIC_NAMES[comparison.tasks[task].metric]} (%)": scored}
        columns |= {"gain over zero-shot (points)": gained} if gained else {}
        panels: list[Panel] = []
        for row, (label, numbers) in product(rows, columns.items()):
            curves = {
                system: [numbers[task, system, language] for language in known]
                for system in comparison.systems
                if (task, system, next(iter(known))) in numbers
            }
            places, legend = np.array(list(known.values())), label == [*columns][-1]
            draw = partial(_curves, look, curves, places, row, ruler.joined, legend)
            panels.append((label, draw))
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
        return None
    return sheet(
        blocks,
        (),
        "Bars: 95 % intervals.",
        "Curves: through the mean of the languages at each place." if True in joined else "",
        "Straight lines: least squares." if False in joined else "",
        "Grey: the systems of the other rows." if len(rows) > 1 else "",
    )


def _curves(
    look: Mapping[str, Look],
    curves: Mapping[str, Sequence[Estimate]],
    places: np.ndarray,
    systems: Sequence[str],
    joined: bool,
    legend: bool,
    axes: Axes,
) -> None:
    for system, curve in curves.items():
        at, line = _line(places, np.array([e.value for e in curve]), joined)
        if system not in systems:
            axes.plot(at, line, color="#e2e2e2", lw=0.7, zorder=1)
            continue
        # Systems are shifted so that intervals of the same language do not overlap.
        aside = 0.012 * np.ptp(places) * (systems.index(system) - (len(systems) - 1) / 2)
        axes.plot(at + aside, line, color=look[system].colour, lw=1.1, zorder=3)
        look[system].draw(axes, list(places + aside), curve)
    if legend:
        handles = [look[system].handle(system) for system in systems]
        axes.legend(handles=handles, loc="center left", bbox_to_anchor=(1, 0.5))
    axes.grid(axis="y")


def _known(comparison: Comparison, task: str, ruler: Ruler) -> dict[str, float]:
    """The languages that are shown, by their places on the ruler. A curve begins at the source,
    where transfer starts; no line is fitted to it."""
    values, table = ruler.values.get(task, {}), comparison.tasks[task]
    wanted = {*comparison.averaged(task), *(table.labelled if ruler.joined else ())}
    known = {k: values[k] for k in table.languages if k in wanted and k in values}
    return dict(sorted(known.items(), key=lambda item: item[1]))


def _line(x: np.ndarray, y: np.ndarray, joined: bool) -> tuple[np.ndarray, np.ndarray]:
    """The curve through the mean of the languages at each place, or the least-squares line."""
    at, which = np.unique(x, return_inverse=True)
    if joined or len(at) < 2:
        return at, np.bincount(which, weights=y) / np.bincount(which)
    return at, np.polynomial.Polynomial.fit(x, y, 1)(at)


@styled
def cost_figure(
    comparison: Comparison,
    means: Sequence[Transfer],
    costs: Mapping[str, Mapping[str, float | None]],
) -> Figure | None:
    """A block per task with a panel per cost: the mean over languages in percent with its 95 %
    interval, against the cost. None if no cost is known or there is no mean.

    Args:
        means: by `deftx.report.scores.transfer`.
        costs: system → seconds, peak_bytes, stored_bytes, trained; an unknown cost is absent or
            None.
    """
    found, look = _means(comparison, means), looks(comparison.systems)
    known = [(system, costs.get(system, {})) for system in comparison.systems]
    measured = {
        cost: values
        for cost in UNITS
        if (values := {s: value for s, of in known if (value := of.get(cost)) is not None})
    }
    if not found or not measured:
        return None
    named = [s for s in comparison.systems if any(s in values for values in measured.values())]

    def panel(task: str, cost: str) -> Callable[[Axes], None]:
        def draw(axes: Axes) -> None:
            what, units = UNITS[cost]
            largest = max(measured[cost].values())
            unit, size = next((u for u in reversed(units) if largest >= 2 * u[1]), units[0])
            values = {s: v / size for s, v in measured[cost].items() if s in found[task]}
            for system, value in values.items():
                look[system].draw(axes, [value], [found[task][system]])
            _scale(axes, list(values.values()))
            axes.set_xlabel(f"{what} ({unit})")
            axes.grid()

        return draw

    blocks = {
        task: Block(
            [("", panel(task, cost)) for cost in measured],
            height=1.6,
            most=len(measured),
            y=_mean_label(comparison, task),
            share_x=False,
            names=0.15,
        )
        for task in found
    }
    absent = [system for system in comparison.systems if system not in named]
    return sheet(
        blocks,
        [look[system].handle(system) for system in named],
        "Bars: 95 % intervals of the mean over languages.",
        f"Without a known cost: {', '.join(absent)}." if absent else "",
    )


def _scale(axes: Axes, values: Sequence[float]) -> None:
    """A logarithmic x axis where positive values span more than a factor of eight."""
    if values and min(values) > 0 and max(values) >= 8 * min(values):
        axes.set_xscale("log")
        # A single decade needs more ticks than the powers of ten.
        ratio = max(values) / min(values)
        subs = (1, 2, 5) if ratio < 30 else (1, 3) if ratio < 300 else (1,)
        axes.xaxis.set_major_locator(LogLocator(subs=subs, numticks=5))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    else:
        axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.margins(x=0.1)
