"""The metrics of one evaluation, from its logits, and the counts that the bootstrap adds up."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from scipy.special import log_softmax

BINS = 15
"""Bins of equal width for the confidence in (0, 1]. Source: Guo et al. 2017, section 2."""


class Answers(NamedTuple):
    """The labels and predictions of an evaluation: one for each item, or for each of its words.

    Attributes:
        labels, predictions: (n,) numbers of classes.
        ends: (items,), how many of the n there are up to the end of each item.
        classes: their names, in the order of the numbers.
    """

    labels: np.ndarray
    predictions: np.ndarray
    ends: np.ndarray
    classes: tuple[str, ...]

    def per_item(self, marks: np.ndarray) -> np.ndarray:
        """The sums (items, k) of whole numbers (n, k) over each item, int64."""
        sums = np.zeros((1 + len(marks), marks.shape[1]), dtype=np.int64)
        np.cumsum(marks, axis=0, out=sums[1:])
        return np.diff(sums[np.concatenate([[0], self.ends])], axis=0)


@dataclass(frozen=True)
class Metric:
    """A score in [0, 1] by which systems are compared: a function of counts that are added up over
    items, so that resampled items need no second look at the answers.

    Attributes:
        name: in headings and on axes.
        in_full: in captions.
        hub: its name on the Hugging Face Hub.
        counts: answers → whole numbers of each item, (items, k).
        score: sums of these over items, (…, k) → scores (…), NaN where there is no item.
        has_chance: whether guesses score about one over the number of classes.
    """

    name: str
    in_full: str
    hub: str
    counts: Callable[[Answers], np.ndarray]
    score: Callable[[np.ndarray], np.ndarray]
    has_chance: bool = True


def _hits(answers: Answers) -> np.ndarray:
    """(items, 2): right answers, all answers."""
    right = answers.labels == answers.predictions
    return answers.per_item(np.stack([right, np.ones_like(right)], axis=1))


def accuracy(sums: np.ndarray) -> np.ndarray:
    """Accuracy of numbers of right answers and of all, (…, 2)."""
    return ratio(sums[..., 0], sums[..., 1], empty=np.nan)


def _hits_by_class(answers: Answers) -> np.ndarray:
    """(items, 3·classes): of each class the right answers, the labels, the predictions."""
    each = np.eye(len(answers.classes), dtype=np.int64)
    present, predicted = each[answers.labels], each[answers.predictions]
    return answers.per_item(np.hstack([present * predicted, present, predicted]))


def macro_f1(sums: np.ndarray) -> np.ndarray:
    """Macro-F1 of numbers of right answers, labels and predictions by class, (…, 3·classes). A
    class that is neither present nor predicted counts with F1 = 0, as in `deftx.models.predict`."""
    hits, present, predicted = np.split(sums, 3, axis=-1)
    scores = ratio(2 * hits, present + predicted, empty=0.0).mean(-1)
    return np.where(present.sum(-1) > 0, scores, np.nan)


def ratio(part: np.ndarray, whole: np.ndarray, empty: float) -> np.ndarray:
    """part / whole in float64, or `empty` if whole is 0."""
    out = np.full(whole.shape, empty)
    np.divide(part, whole, out=out, where=whole > 0, dtype=np.float64)
    return out


ACCURACY = Metric("accuracy", "accuracy", "accuracy", _hits, accuracy)
MACRO_F1 = Metric("macro-F1", "macro-F1", "f1", _hits_by_class, macro_f1)


class ClassMetrics(NamedTuple):
    """Precision, recall and F1 of one class in [0, 1], 0 if they are 0/0; `support`, the number of
    its items; and `predicted`, the number of items that are predicted to be of it."""

    precision: float
    recall: float
    f1: float
    support: int
    predicted: int


@dataclass(frozen=True)
class Measures:
    """How a kind of task is measured and shown.

    Attributes:
        items: what is resampled, in the plural.
        unit: what has a label, in the plural.
        metrics: by their names in a config.
        more: further columns of scores.csv.
        classes: the rows of classes.csv by name, where these are not the classes.
        groups: names of the classes → the names under which their shares are shown.
        examples: answers and the items with their content → examples of errors for the page, as
            JSON, see `deftx.report.confusions.examples`; None for a kind that shows none.
    """

    items: str
    unit: str
    metrics: Mapping[str, Metric]
    more: Callable[[Answers], dict[str, float]] = lambda _: {}
    classes: Callable[[Answers], dict[str, ClassMetrics] | None] = lambda _: None
    groups: Callable[[Sequence[str]], Sequence[str]] = tuple
    examples: Callable[[Answers, Sequence[Mapping[str, Any]]], list[Any]] | None = None


class Metrics(NamedTuple):
    """The metrics of an evaluation.

    Attributes:
        accuracy, macro_f1: in [0, 1], see `deftx.models.predict`.
        nll: mean negative log-likelihood of the labels, in nats.
        brier: mean squared distance of the probabilities to the label, summed over classes, in
            [0, 2]. Source: Brier 1950.
        ece: expected calibration error in [0, 1], see `calibration_error`.
        classes: one entry per class, in the order of the logits.
    """

    accuracy: float
    macro_f1: float
    nll: float
    brier: float
    ece: float
    classes: tuple[ClassMetrics, ...]


def measure(logits: np.ndarray, labels: np.ndarray) -> Metrics:
    """All metrics of logits (n, classes) against labels (n,), n ≥ 1."""
    log_probabilities = log_softmax(logits.astype(np.float64), axis=1)
    probabilities = np.exp(log_probabilities)
    truth = np.eye(logits.shape[1])[labels]
    predictions = logits.argmax(axis=1)
    classes = by_class(
        *(
            np.bincount(of, minlength=logits.shape[1])
            for of in (labels[predictions == labels], labels, predictions)
        )
    )
    return Metrics(
        accuracy=float((predictions == labels).mean()),
        macro_f1=float(np.mean([each.f1 for each in classes])),
        nll=float(-(truth * log_probabilities).sum(axis=1).mean()),
        brier=float(((probabilities - truth) ** 2).sum(axis=1).mean()),
        ece=calibration_error(probabilities, labels),
        classes=classes,
    )


def by_class(
    right: np.ndarray, support: np.ndarray, predicted: np.ndarray
) -> tuple[ClassMetrics, ...]:
    """The metrics of each class from its numbers of right predictions, labels and predictions."""
    f1 = 2 * right / np.maximum(support + predicted, 1)
    precision, recall = right / np.maximum(predicted, 1), right / np.maximum(support, 1)
    values = (each.tolist() for each in (precision, recall, f1, support, predicted))
    return tuple(map(ClassMetrics, *values))


def calibration_error(probabilities: np.ndarray, labels: np.ndarray, bins: int = BINS) -> float:
    """Expected calibration error in [0, 1] of probabilities (n, classes): |accuracy − mean
    confidence| of each bin, weighted by its items. The confidence is the largest probability of an
    item; bin b of B contains ((b − 1)/B, b/B]. Source: Guo et al. 2017, equation 3."""
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    bin_of = np.ceil(confidence * bins).astype(int)
    gaps = np.bincount(bin_of, weights=right - confidence, minlength=bins + 1)
    return float(np.abs(gaps).sum() / len(labels))
