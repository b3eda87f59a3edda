"""What a setting does: the score against its value."""

from collections.abc import Mapping, Sequence
from math import ceil

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from deftx.report.figures.style import (
    FAINT,
    balanced,
    footnote,
    grid,
    looks,
    scale,
    stacked,
    styled,
)
from deftx.report.results import MEAN, METRIC_NAMES, Comparison, Transfer
from deftx.stages.figures.settings import Sweep


@styled
def sweep_figure(
    comparison: Comparison, means: Sequence[Transfer], sweeps: Sequence[Sweep]
) -> Figure | None:
    """A part per task, in it a panel per sweep: the mean over languages of each of its systems in
    percent, with its 95 % interval, against the value; the reference as a horizontal band. None if
    nothing is swept, or there is no mean.

    Args:
        means: by `deftx.report.results.transfer`.
    """
    found = {
        task: {mean.system: mean for mean in means if (mean.task, mean.language) == (task, MEAN)}
        for task in comparison.tasks
    }
    swept = {system for sweep in sweeps for _, system in sweep.points}
    found = {task: mine for task, mine in found.items() if swept & mine.keys()}
    if not sweeps or not found:
        return None
    # A panel as wide as the page says no more.
    across = max(2, balanced(len(sweeps), 3))
    look = looks(comparison.systems)
    handles = [look[s].handle(s) for s in comparison.systems if s in swept]
    reference = comparison.reference_system
    band = Line2D(
        [], [], color=look[reference].colour, lw=5, alpha=0.3, label=f"{reference} (band)"
    )
    handles.insert(0, band)
    heights = dict.fromkeys(found, ceil(len(sweeps) / across) * 1.75 + 0.3)
    figure, parts = stacked(heights, handles)
    for task, part in parts.items():
        every = grid(part, len(sweeps), across, sharex=False)
        for axes, sweep in zip(every, sweeps, strict=True):
            _panel(axes, comparison, found[task], sweep)
            axes.set_title(sweep.name)
            axes.set_xlabel(sweep.label)
        for axes in every[::across]:
            metric = METRIC_NAMES[comparison.tasks[task].metric]
            axes.set_ylabel(f"mean {metric} (%)")
    footnote(figure, "Bars and band: 95 % intervals of the mean over languages.")
    return figure


def _panel(axes: Axes, comparison: Comparison, means: Mapping[str, Transfer], sweep: Sweep) -> None:
    look = looks(comparison.systems)
    if (reference := means.get(comparison.reference_system)) is not None:
        colour = look[comparison.reference_system].colour
        axes.axhspan(100 * reference.low, 100 * reference.high, color=colour, alpha=0.15, lw=0)
        axes.axhline(100 * reference.mean, color=colour, lw=0.9, alpha=0.6)
    points = sorted((value, system) for value, system in sweep.points if system in means)
    x = [value for value, _ in points]
    y = [100 * means[system].mean for _, system in points]
    axes.plot(x, y, color="#999999", lw=0.8, zorder=2)
    for value, system in points:
        mean, colour = means[system], look[system].colour
        axes.vlines(value, 100 * mean.low, 100 * mean.high, color=colour, lw=1.2, zorder=3)
        look[system].points(axes, value, 100 * mean.mean)
    axes.grid(axis="y", color=FAINT, lw=0.5)
    scale(axes, x)
