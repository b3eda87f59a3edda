"""Paired bootstrap over parallel items: intervals of scores, of their means and differences.

An item with the same id has the same content in every language. So the union of the ids is
resampled once, and every language, system and seed is scored on the same resamples: what is
averaged or subtracted resample by resample has its pairing inside.

Every array of scores here begins with the score on the items as they are, followed by one score
per resample. So the same arithmetic gives an estimate and its interval.
"""

from collections.abc import Callable, Iterable

import numpy as np

RESAMPLES = 2_000
"""Design choice: the ends of a 95 % interval then wobble by about 5 % of its half-width."""

LEVEL = 0.95

Score = Callable[[np.ndarray], np.ndarray]


class Resamples:
    """The items of a task as they are, and resamples of them with replacement.

    Attributes:
        ids: (U,) the union of all item ids, sorted.
        weights: (1 + times, U) float32, how often each item counts; first row: once.
    """

    def __init__(self, ids: Iterable[np.ndarray], times: int = RESAMPLES, seed: int = 0) -> None:
        self.ids = np.unique(np.concatenate(list(ids)))
        size = len(self.ids)
        drawn = np.random.default_rng(seed).multinomial(size, np.full(size, 1 / size), size=times)
        # float32 counts exactly, and its matrix products are the fast ones.
        self.weights = np.vstack([np.ones((1, size)), drawn]).astype(np.float32)

    def confusions(
        self, ids: np.ndarray, labels: np.ndarray, predictions: np.ndarray, classes: int
    ) -> np.ndarray:
        """Confusion matrices (1 + times, classes, classes), rows: labels, columns: predictions,
        of one evaluation with `ids`, `labels` and `predictions` (n,)."""
        cells = np.zeros((len(self.ids), classes * classes), dtype=np.float32)
        np.add.at(cells, (np.searchsorted(self.ids, ids), labels * classes + predictions), 1)
        return (self.weights @ cells).reshape(-1, classes, classes)


def accuracy(confusions: np.ndarray) -> np.ndarray:
    """Accuracy in [0, 1] of each confusion matrix (…, C, C); NaN where it counts no item."""
    hits = np.trace(confusions, axis1=-2, axis2=-1)
    return _ratio(hits, confusions.sum((-2, -1)), empty=np.nan)


def macro_f1(confusions: np.ndarray) -> np.ndarray:
    """Macro-F1 in [0, 1] of each confusion matrix (…, C, C); NaN where it counts no item.

    A class that is neither present nor predicted counts with F1 = 0, as in `deftx.metrics`.
    """
    hits = np.diagonal(confusions, axis1=-2, axis2=-1)
    present, predicted = confusions.sum(-1), confusions.sum(-2)
    scores = _ratio(2 * hits, present + predicted, empty=0.0).mean(-1)
    return np.where(present.sum(-1) > 0, scores, np.nan)


SCORES: dict[str, Score] = {"accuracy": accuracy, "macro_f1": macro_f1}


def interval(scores: np.ndarray, level: float = LEVEL) -> tuple[float, float]:
    """Lower and upper end of the percentile interval over the resamples of `scores` (1 + times,).

    A resample that holds none of an evaluation's items says nothing of it, and is left out.
    """
    low, high = np.nanquantile(scores[1:], [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _ratio(part: np.ndarray, whole: np.ndarray, empty: float) -> np.ndarray:
    """part / whole in float64, `empty` where whole is 0."""
    out = np.full(whole.shape, empty)
    np.divide(part, whole, out=out, where=whole > 0, dtype=np.float64)
    return out
