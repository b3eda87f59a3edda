"""What a run has to judge claims by, and estimates with the interval that their units allow."""

from collections.abc import Mapping, Sequence
from math import sqrt
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from deftx.report.results import Comparison, Evaluation, draw
from deftx.report.statistics import LEVEL, RESAMPLES, interval

FEWEST = 6
"""Languages from which on a rank correlation has an interval. Design choice: of five, one order in
60 is perfect by chance, and a bootstrap over so few repeats a handful of values."""


class Estimate(NamedTuple):
    """A number with its 95 % interval, which is None where the units are too few to tell; words for
    what `n` units it is over; and whether the interval holds what a claim is about, which one over
    items of a single training does not."""

    value: float
    low: float | None
    high: float | None
    n: str
    decides: bool = True


class Evidence:
    """Scores, diagnostics and corpus sizes of a run.

    Attributes:
        comparison: the systems and tasks that there are.
        words: language → words of its unlabelled text; empty if the run did not count them.
    """

    def __init__(
        self,
        comparison: Comparison,
        evaluations: Sequence[Evaluation],
        diagnostics: pd.DataFrame,
        words: Mapping[str, int],
    ) -> None:
        self.comparison, self.words = comparison, words
        self._diagnostics = diagnostics
        self._draws = draw(comparison, evaluations)
        self._items = {
            task: len(np.unique(np.concatenate([e.ids for e in evaluations if e.task == task])))
            for task in comparison.tasks
        }

    def score(self, task: str, system: str, language: str) -> np.ndarray:
        """A system's score in percent (seeds, 1 + resamples): on the items as they are, then on
        resamples of them that all systems, languages and seeds share."""
        return 100 * self._draws[task][system, language]

    def mean(self, task: str, system: str, languages: Sequence[str]) -> np.ndarray:
        """The mean of `score` over languages."""
        return np.mean([self.score(task, system, key) for key in languages], axis=0)

    def over_items(self, task: str, scores: np.ndarray, languages: Sequence[str]) -> Estimate:
        """The mean over seeds of such scores (seeds, 1 + resamples) and its interval. One seed
        decides nothing: a claim is about a method, and not about one training of it."""
        seeds = len(next(iter(self._draws[task].values())))
        units = (len(languages), "language"), (self._items[task], "item"), (seeds, "seed")
        n = ", ".join(_plural(*unit) for unit in units)
        return Estimate(float(scores[:, 0].mean()), *interval(scores), n, decides=seeds > 1)

    def diagnostics(self, task: str, system: str, measure: str) -> pd.DataFrame:
        """The rows of a measure in a system's diagnostics; empty if there are none."""
        rows = self._diagnostics
        chosen = (rows.task == task) & (rows.system == system) & (rows.measure == measure)
        return rows[chosen]


def over_units(values: Sequence[float], unit: str) -> Estimate:
    """The mean of one value per unit, with Student's interval; none for a single unit."""
    n, mean = len(values), float(np.mean(values))
    if n < 2:
        return Estimate(mean, None, None, _plural(n, unit))
    half = float(stats.t.ppf((1 + LEVEL) / 2, n - 1)) * float(np.std(values, ddof=1)) / sqrt(n)
    return Estimate(mean, mean - half, mean + half, _plural(n, unit))


def rank_correlation(x: Sequence[float], y: Sequence[float]) -> Estimate | None:
    """Spearman's ρ over languages with its bootstrap interval over them; without an interval below
    FEWEST languages, None where one of the two does not vary or fewer than three are given."""
    if min(len(set(x)), len(set(y))) < 2 or len(x) < 3:
        return None
    n = _plural(len(x), "language")
    value = float(_correlations(np.array([x]), np.array([y]))[0])
    if len(x) < FEWEST:
        return Estimate(value, None, None, n)
    drawn = np.random.default_rng(0).integers(0, len(x), (RESAMPLES, len(x)))
    resampled = _correlations(np.array(x)[drawn], np.array(y)[drawn])
    return Estimate(value, *_ends(resampled), n)


def _correlations(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Spearman's ρ of each row; NaN where one of the two does not vary."""
    ranks = [stats.rankdata(values, axis=1) for values in (x, y)]
    a, b = (rank - rank.mean(axis=1, keepdims=True) for rank in ranks)
    scale = np.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=1))
    return np.divide((a * b).sum(axis=1), scale, out=np.full(len(a), np.nan), where=scale > 0)


def _ends(resampled: np.ndarray) -> tuple[float, float]:
    """The ends of the percentile interval. A resample that says nothing is NaN and left out."""
    low, high = np.nanquantile(resampled, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def _plural(n: int, unit: str) -> str:
    return f"{n} {unit}" + ("s" if n != 1 else "")
