"""The results of a run by which claims are judged, and estimates with their intervals."""

from collections.abc import Mapping, Sequence
from math import sqrt
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from deftx.report.comparison import Comparison
from deftx.report.evaluations import Evaluation
from deftx.report.scores import draw
from deftx.report.statistics import LEVEL, RESAMPLES, interval

FEWEST = 6
"""The smallest number of languages for which a rank correlation has an interval. Design choice: of
five languages, one order in 60 is perfect by chance, and a bootstrap has few distinct values."""


class Estimate(NamedTuple):
    """A number and its 95 % interval, None if there are too few units; the numbers of units in
    words; and whether the interval can decide a claim. One over the items of a single training
    cannot: a claim is about a method."""

    value: float
    low: float | None
    high: float | None
    n: str
    decides: bool = True


class Evidence:
    """Scores, diagnostics and corpus sizes of a run.

    Attributes:
        comparison: the systems and tasks of the run.
        draws: by `deftx.report.scores.draw`.
        items: task → number of test items.
        diagnostics: by `deftx.report.csv_files.load_diagnostics`.
        words: language → words of its unlabelled text; empty if the run did not count them.
    """

    def __init__(
        self,
        comparison: Comparison,
        evaluations: Sequence[Evaluation],
        diagnostics: pd.DataFrame,
        words: Mapping[str, int],
    ) -> None:
        self.comparison, self.diagnostics, self.words = comparison, diagnostics, words
        self.draws = draw(comparison, evaluations)
        self.items = {
            task: len(np.unique(np.concatenate([e.ids for e in evaluations if e.task == task])))
            for task in comparison.tasks
        }


class Case(NamedTuple):
    """What one claim is measured on: a task, the systems in the claim's order, the languages."""

    evidence: Evidence
    task: str
    systems: Sequence[str]
    languages: Sequence[str]

    def score(self, system: str, language: str) -> np.ndarray:
        """A system's score in percent (seeds, 1 + resamples): on the original items, then on
        resamples of them that all systems, languages and seeds share."""
        return 100 * self.evidence.draws[self.task][system, language]

    def over_items(self, scores: np.ndarray) -> Estimate:
        """The mean over seeds of such scores (seeds, 1 + resamples), with its interval."""
        seeds = len(next(iter(self.evidence.draws[self.task].values())))
        items = self.evidence.items[self.task]
        units = (len(self.languages), "language"), (items, "item"), (seeds, "seed")
        n = ", ".join(_plural(*unit) for unit in units)
        return Estimate(float(scores[:, 0].mean()), *interval(scores), n, decides=seeds > 1)

    def measured(self, system: str, measure: str) -> pd.DataFrame:
        """The rows of a measure in the diagnostics of a system; empty if there are none."""
        rows = self.evidence.diagnostics
        chosen = (rows.task == self.task) & (rows.system == system) & (rows.measure == measure)
        return rows[chosen]


def over_units(values: Sequence[float], unit: str) -> Estimate | None:
    """The mean of one value per unit, with Student's interval; no interval for a single unit, and
    None for no unit."""
    if not values:
        return None
    n, mean = len(values), float(np.mean(values))
    if n < 2:
        return Estimate(mean, None, None, _plural(n, unit))
    half = float(stats.t.ppf((1 + LEVEL) / 2, n - 1)) * float(np.std(values, ddof=1)) / sqrt(n)
    return Estimate(mean, mean - half, mean + half, _plural(n, unit))


def rank_correlation(x: Sequence[float], y: Sequence[float]) -> Estimate | None:
    """Spearman's ρ over languages with its bootstrap interval over them; no interval below FEWEST
    languages, None if x or y is constant or fewer than three languages are given."""
    if min(len(set(x)), len(set(y))) < 2 or len(x) < 3:
        return None
    n = _plural(len(x), "language")
    value = float(_correlations(np.array([x]), np.array([y]))[0])
    if len(x) < FEWEST:
        return Estimate(value, None, None, n)
    drawn = np.random.default_rng(0).integers(0, len(x), (RESAMPLES, len(x)))
    resampled = _correlations(np.array(x)[drawn], np.array(y)[drawn])
    # A constant resample is NaN and left out.
    low, high = np.nanquantile(resampled, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(value, float(low), float(high), n)


def _correlations(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Spearman's ρ of each row; NaN if x or y is constant in it."""
    ranks = [stats.rankdata(values, axis=1) for values in (x, y)]
    a, b = (rank - rank.mean(axis=1, keepdims=True) for rank in ranks)
    scale = np.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=1))
    return np.divide((a * b).sum(axis=1), scale, out=np.full(len(a), np.nan), where=scale > 0)


def _plural(n: int, unit: str) -> str:
    return f"{n} {unit}" + ("s" if n != 1 else "")
