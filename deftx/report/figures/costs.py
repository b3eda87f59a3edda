"""Score against what it costs."""

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from deftx.report.figures.style import FAINT, LEADER, footnote, looks, spread, stacked, styled
from deftx.report.results import MEAN, METRIC_NAMES, Comparison, Transfer

UNITS: dict[str, tuple[str, list[tuple[str, float]]]] = {
    "seconds": ("time", [("s", 1), ("min", 60), ("h", 3600), ("days", 86400)]),
    "peak_bytes": ("peak memory", [("kB", 1e3), ("MB", 1e6), ("GB", 1e9)]),
    "stored_bytes": ("stored", [("kB", 1e3), ("MB", 1e6), ("GB", 1e9)]),
    "trained": ("trained entries", [("thousands", 1e3), ("millions", 1e6)]),
}
"""Cost → what it is called, and its units from small to large."""

LABEL = 0.128
"""Inches from one label to the next."""


@styled
def cost_figure(
    comparison: Comparison,
    means: Sequence[Transfer],
    costs: Mapping[str, Mapping[str, float | None]],
) -> Figure | None:
    """A row per task, in it a panel per cost: the mean over languages in percent with its 95 %
    interval, against the cost; up and to the left is better. Systems are named on the right, at the
    height of their points. None if no cost is known, or there is no mean.

    Args:
        means: by `deftx.report.results.transfer`.
        costs: system → seconds, peak_bytes, stored_bytes, trained; what is not known is absent or
            None.
    """
    drawn = {
        task: {m.system: m for m in means if (m.task, m.language) == (task, MEAN)}
        for task in comparison.tasks
    }
    drawn = {task: mine for task, mine in drawn.items() if mine}
    measured = {cost: _known(comparison, costs, cost) for cost in UNITS}
    measured = {cost: values for cost, values in measured.items() if values}
    if not drawn or not measured:
        return None
    named = [s for s in comparison.systems if any(s in values for values in measured.values())]
    inside = max(1.15, LABEL * len(named))
    figure, parts = stacked(dict.fromkeys(drawn, inside + 0.75))
    for task, part in parts.items():
        every = part.subplots(1, len(measured), squeeze=False, sharey=True)[0]
        for axes, (cost, values) in zip(every, measured.items(), strict=True):
            _panel(axes, comparison, drawn[task], cost, values)
        every[0].set_ylabel(f"mean {METRIC_NAMES[comparison.tasks[task].metric]} (%)")
        _name(
            every[-1],
            comparison,
            {s: 100 * drawn[task][s].mean for s in named if s in drawn[task]},
            inside,
        )
    absent = [system for system in comparison.systems if system not in named]
    footnote(
        figure,
        "Bars: 95 % intervals of the mean over languages.",
        f"Without a known cost: {', '.join(absent)}." if absent else "",
    )
    return figure


def _known(
    comparison: Comparison, costs: Mapping[str, Mapping[str, float | None]], cost: str
) -> dict[str, float]:
    values = {system: costs.get(system, {}).get(cost) for system in comparison.systems}
    return {system: value for system, value in values.items() if value is not None}


def _panel(
    axes: Axes,
    comparison: Comparison,
    means: Mapping[str, Transfer],
    cost: str,
    values: Mapping[str, float],
) -> None:
    what, units = UNITS[cost]
    unit, size = next(
        ((name, size) for name, size in reversed(units) if max(values.values()) >= 2 * size),
        units[0],
    )
    look = looks(comparison.systems)
    values = {system: value for system, value in values.items() if system in means}
    for system, value in values.items():
        mean, colour = means[system], look[system].colour
        axes.vlines(value / size, 100 * mean.low, 100 * mean.high, color=colour, lw=0.8, alpha=0.5)
        look[system].points(axes, value / size, 100 * mean.mean)
    positive = [value for value in values.values() if value > 0]
    ratio = max(positive) / min(positive) if positive else 1
    if len(positive) == len(values) and ratio >= 8:
        axes.set_xscale("log")
        # Powers of ten alone would leave a panel of one decade with one number.
        subs = (1, 2, 5) if ratio < 30 else (1, 3) if ratio < 300 else (1,)
        axes.xaxis.set_major_locator(LogLocator(subs=subs, numticks=5))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    else:
        axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.margins(x=0.1)
    axes.set_xlabel(f"{what} ({unit})")
    axes.grid(color=FAINT, lw=0.5)


def _name(axes: Axes, comparison: Comparison, wanted: Mapping[str, float], inside: float) -> None:
    """The systems' names to the right of the axes, each at the height of its points if there is
    room; `inside` is the height of the axes in inches."""
    low, high = axes.get_ylim()
    heights = [(value - low) / (high - low) for value in wanted.values()]
    look = looks(comparison.systems)
    places = spread(heights, LABEL / inside, 0.02, 0.98)
    for system, height, place in zip(wanted, heights, places, strict=True):
        axes.annotate(
            system,
            (1, height),
            (1.16, place),
            xycoords="axes fraction",
            textcoords="axes fraction",
            va="center",
            fontsize=7,
            arrowprops={**LEADER, "lw": 0.6, "color": look[system].colour, "relpos": (0, 0.5)},
        )
        look[system].points(axes, [1.12], [place], transform=axes.transAxes, clip_on=False)
