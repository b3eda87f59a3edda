"""Paired bootstrap over parallel items and over seeds: intervals, p-values and their correction.

An item with the same id has the same content in every language. So the union of the ids is
resampled once, and every language, system and seed is scored on the same resamples: averages and
differences of scores, taken resample by resample, are paired. Seeds are resampled along with the
items, the same ones for everything that is compared.

Scores are arrays (seeds, 1 + times): each row has the score of one seed on the original items, then
its score on each resample of the items. So the same arithmetic gives an estimate and its
distribution. docs/statistics.md has the coverage of the intervals.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import cache

import numpy as np
from scipy.stats import norm, t

RESAMPLES = 10_000
"""Design choice: the smallest p-value is then 0.0001, and up to 500 comparisons can have a
significant one."""

LEVEL, ALPHA = 0.95, 0.05

Counted = tuple[np.ndarray, np.ndarray]
"""Ids (items,) and whole numbers (items, k) of the items of one evaluation."""

COLUMNS = 256
"""Counts of all evaluations that are added up at a time: 10 MB, whatever the number of both."""

EXACT = 2**24
"""Below it, float32 has every whole number, so sums of counts are exact in any order."""

AT_ONCE = 1_000
"""Resamples that are drawn at a time, because numpy draws them as int64."""

ROUNDING = 1e-12
"""Deviations that differ by less are equal: they depend on the order of summation."""


class Resamples:
    """The original items of a task, and resamples of them with replacement.

    Attributes:
        ids: (U,) the union of all item ids, sorted.
        weights: (1 + times, U) float32, how often each item counts; in the first row once.
    """

    def __init__(self, ids: Iterable[np.ndarray], times: int = RESAMPLES, seed: int = 0) -> None:
        self.ids = np.unique(np.concatenate(list(ids)))
        size = len(self.ids)
        draw = np.random.default_rng(seed)
        # float32 is exact for such counts, and its matrix products are fast.
        self.weights = np.ones((1 + times, size), dtype=np.float32)
        for first in range(1, 1 + times, AT_ONCE):
            rows = self.weights[first : first + AT_ONCE]
            rows[:] = draw.multinomial(size, np.full(size, 1 / size), size=len(rows))

    def scores(
        self,
        counted: Sequence[Counted],
        score: Callable[[np.ndarray], np.ndarray],
    ) -> np.ndarray:
        """Scores (evaluations, 1 + times) of the summed counts of each resample's items.

        Args:
            counted: of each evaluation; all have the same number of counts.
            score: sums (…, k) → scores (…).
        """
        width = counted[0][1].shape[1]
        at_once = max(1, COLUMNS // width)
        found = []
        for first in range(0, len(counted), at_once):
            batch = counted[first : first + at_once]
            cells = np.zeros((len(self.ids), len(batch), width), dtype=np.float32)
            for number, (ids, counts) in enumerate(batch):
                np.add.at(cells[:, number], np.searchsorted(self.ids, ids), counts)
            sums = self.weights @ cells.reshape(len(self.ids), -1)
            assert sums.max(initial=0) < EXACT, "float32 does not count that far"
            found.append(score(sums.reshape(-1, len(batch), width).swapaxes(0, 1)))
        return np.concatenate(found)


def over_seeds(scores: np.ndarray) -> np.ndarray:
    """The mean over seeds of `scores` (seeds, 1 + times): (1 + times,), first of all seeds, then of
    resampled seeds on each resample of the items. A single seed is not resampled.

    n − 1 of the n seeds are drawn with replacement. The variance of their mean is then s²/n, the
    unbiased estimate; with n it would be smaller by (n − 1)/n. Source: Rao & Wu 1988, "Resampling
    inference with complex survey data".
    """
    count, columns = scores.shape
    return scores[0] if count == 1 else (_seed_weights(count, columns - 1) * scores).sum(axis=0)


@cache
def _seed_weights(seeds: int, times: int) -> np.ndarray:
    """(seeds, 1 + times), each column summing to 1; in the first all are equal."""
    share = np.full(seeds, 1 / seeds)
    drawn = np.random.default_rng(seeds).multinomial(seeds - 1, share, size=times)
    return np.vstack([share, drawn / (seeds - 1)]).T


def degrees_of_freedom(scores: np.ndarray) -> float:
    """Degrees of freedom of the variance of the mean over seeds: (n − 1)·(V / V_seeds)², with V its
    variance over all resamples, and V_seeds = s²/n the part due to seeds; at least n − 1, and
    infinite for one seed or for equal ones.

    Source: Satterthwaite 1946, with infinitely many for the items, because there are hundreds.
    """
    count = len(scores)
    from_seeds = scores[:, 0].var(ddof=1) / count if count > 1 else 0.0
    if from_seeds == 0:
        return np.inf
    total = np.nanvar(over_seeds(scores)[1:])
    return float((count - 1) * max(1.0, total / from_seeds) ** 2)


def interval(scores: np.ndarray, level: float = LEVEL) -> tuple[float, float]:
    """Lower and upper end of the bootstrap interval of the mean over seeds of `scores`
    (seeds, 1 + times).

    For one seed the percentile interval over items. For several its two halves are widened by the
    ratio of Student's quantile to the normal one, with `degrees_of_freedom`: resampled seeds have
    lighter tails than their mean. Design choice, after the expanded percentile interval of
    Hesterberg 2015, "What teachers should know about the bootstrap".

    Resamples without any item of an evaluation are left out.
    """
    mean = over_seeds(scores)
    tail = (1 - level) / 2
    wider = t.isf(tail, degrees_of_freedom(scores)) / norm.isf(tail)
    low, high = mean[0] + wider * (np.nanquantile(mean[1:], [tail, 1 - tail]) - mean[0])
    return float(low), float(high)


def p_value(differences: np.ndarray) -> float:
    """Two-sided p-value of the mean over seeds of `differences` (seeds, 1 + times), under the
    hypothesis that it is 0: (1 + count)/(resamples + 1), where count is the number of resamples
    that deviate from the mean at least as much as the mean does from 0. Source:
    Davison & Hinkley 1997, section 4.4.

    With several seeds it is at least that of Student's t with the bootstrap's standard error and
    `degrees_of_freedom`: resampled seeds cannot deviate further than the outermost one, so the
    count alone has too many false positives (docs/statistics.md).
    """
    mean = over_seeds(differences)
    size = abs(mean[0])
    deviations = np.abs(mean[1:] - mean[0])
    deviations = deviations[~np.isnan(deviations)]
    counted = (1 + (deviations >= size - ROUNDING).sum()) / (1 + len(deviations))
    freedom = degrees_of_freedom(differences)
    if np.isinf(freedom):
        return float(counted)
    return float(max(counted, 2 * t.sf(size / np.nanstd(mean[1:]), freedom)))


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values of one family, corrected so that the probability of any false positive in it
    stays below the level. Source: Holm 1979."""
    order = np.argsort(p_values, kind="stable")
    steps = np.asarray(p_values)[order] * np.arange(len(order), 0, -1)
    corrected = np.empty(len(order))
    corrected[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return corrected.tolist()
