"""Scores of systems, their means over seeds and languages, and differences between systems."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations, product
from typing import NamedTuple

import numpy as np
import pandas as pd

from deftx.report.comparison import MEAN, Comparison
from deftx.report.evaluations import KEY, Evaluation
from deftx.report.metrics import ClassMetrics, Metrics
from deftx.report.statistics import ALPHA, Resamples, holm, interval, p_value
from deftx.store.errors import InputError
from deftx.tasks.measures import MEASURES

Draws = dict[tuple[str, str], np.ndarray]
"""(system, column of `Comparison.columns`) → scores (seeds, 1 + resamples), see
`deftx.report.statistics`; [:, 0] are the scores of the seeds on the original items. A system that
is evaluated once has one row, which is compared with each row of another system."""


class Transfer(NamedTuple):
    """The score in [0, 1] of a system in a language, in the mean (MEAN), or in a group.

    Attributes:
        mean: over seeds; low and high are the ends of its 95 % interval over items and, if there
            are several, seeds.
        sd: standard deviation over seeds; None for one seed.
        has_text: if false, every system was evaluated without a language vector.
    """

    task: str
    system: str
    language: str
    metric: str
    mean: float
    low: float
    high: float
    seeds: int
    sd: float | None
    has_text: bool


class Difference(NamedTuple):
    """The mean over seeds of `system` minus that of `versus`, in [-1, 1], with its paired 95 %
    interval.

    Attributes:
        p: two-sided, for a difference of 0; see `deftx.report.statistics.p_value`.
        p_corrected: by Holm's method for its family.
        comparisons: the size of that family.
        significant: whether p_corrected is below 0.05.
    """

    task: str
    language: str
    system: str
    versus: str
    difference: float
    low: float
    high: float
    p: float
    p_corrected: float
    comparisons: int
    significant: bool


def scores(evaluations: Iterable[Evaluation]) -> pd.DataFrame:
    """A row for each evaluation with its number of items and its metrics, see
    `deftx.report.metrics.Metrics`, and what its kind of task adds; missing for other kinds."""
    first = [*KEY, "items", *Metrics._fields[:-1]]
    rows = [
        {
            **dict(zip(first, [*e.key, len(e.ids), *e.metrics[:-1]], strict=True)),
            **MEASURES[e.kind].more(e.answers),
        }
        for e in evaluations
    ]
    counts = {name for row in rows for name, value in row.items() if isinstance(value, int)}
    columns = dict.fromkeys([*first, *(name for row in rows for name in row)])
    return pd.DataFrame(rows, columns=list(columns)).astype(dict.fromkeys(counts, "Int64"))


def class_scores(evaluations: Iterable[Evaluation]) -> pd.DataFrame:
    """A row for each class of each evaluation, see `deftx.report.metrics.ClassMetrics`; where tags
    mark entities, for each type of them, counted in entities."""
    rows = [
        (*e.key, name, *one)
        for e in evaluations
        for name, one in (
            MEASURES[e.kind].classes(e.answers)
            or dict(zip(e.class_names, e.metrics.classes, strict=True))
        ).items()
    ]
    return pd.DataFrame(rows, columns=[*KEY, "class_name", *ClassMetrics._fields])


def draw(comparison: Comparison, evaluations: Sequence[Evaluation]) -> dict[str, Draws]:
    """Task → the scores of each system in each of `comparison.columns(task)` on the original items
    and on every resample; all evaluations of a task share the resamples.

    Raises InputError if a task has no evaluation, or if one is missing, naming it.
    """
    return {task: _draw(comparison, task, evaluations) for task in comparison.tasks}


def _draw(comparison: Comparison, task: str, evaluations: Sequence[Evaluation]) -> Draws:
    table, systems = comparison.tasks[task], comparison.systems_of(task)
    known = {e.key: e for e in evaluations if e.task == task}
    if not known:
        raise InputError(f"no evaluation of task {task}")
    seeds = comparison.seeds or sorted({e.seed for e in known.values()})
    made = {system: comparison.seeds_of(system, seeds) for system in systems}
    pairs = [(system, seed) for system in systems for seed in made[system]]
    for language, (system, seed) in product(table.languages, pairs):
        if (task, system, language, seed) not in known:
            raise InputError(f"no evaluation of {system} on {task} in {language} with seed {seed}")
    wanted = {
        language: [known[task, system, language, seed] for system, seed in pairs]
        for language in table.languages
    }
    resamples = Resamples(e.ids for each in wanted.values() for e in each)
    draws, metric = {}, comparison.metric(task)
    for language, each in wanted.items():
        found = resamples.scores([(e.ids, metric.counts(e.answers)) for e in each], metric.score)
        ends = np.cumsum([len(of_one) for of_one in made.values()])[:-1]
        for system, rows in zip(systems, np.split(found, ends), strict=True):
            draws[system, language] = rows
    for (column, members), system in product(comparison.means(task).items(), systems):
        draws[system, column] = np.mean([draws[system, key] for key in members], axis=0)
    return draws


def transfer(comparison: Comparison, draws: Mapping[str, Draws]) -> list[Transfer]:
    """The scores of every task, system and column, in the order of the comparison."""
    found = []
    for task, table in comparison.tasks.items():
        for system, column in product(comparison.systems_of(task), comparison.columns(task)):
            each = draws[task][system, column]
            by_seed = each[:, 0]
            sd = float(by_seed.std(ddof=1)) if len(each) > 1 else None
            has_text = column not in comparison.without_text
            estimate = (float(by_seed.mean()), *interval(each))
            found.append(
                Transfer(task, system, column, table.metric, *estimate, len(each), sd, has_text)
            )
    return found


def differences(comparison: Comparison, draws: Mapping[str, Draws]) -> list[Difference]:
    """Two families for each task, each corrected for itself: in single languages and groups every
    system minus the reference; in the mean all pairs of systems, the later minus the earlier."""
    found = []
    for task in comparison.tasks:
        systems, reference = comparison.systems_of(task), comparison.reference_of(task)
        columns = comparison.columns(task)
        single = [
            (column, system, reference)
            for column, system in product(columns, systems)
            if column != MEAN and system != reference
        ]
        pairs = [(MEAN, b, a) for a, b in combinations(systems, 2) if MEAN in columns]
        for family in (single, pairs):
            gaps = [draws[task][system, c] - draws[task][versus, c] for c, system, versus in family]
            p_values = [p_value(gap) for gap in gaps]
            for names, gap, p, held in zip(family, gaps, p_values, holm(p_values), strict=True):
                estimate = (float(gap[:, 0].mean()), *interval(gap))
                found.append(
                    Difference(task, *names, *estimate, p, held, len(family), held < ALPHA)
                )
    return found
