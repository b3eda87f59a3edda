"""The metrics of one evaluation, computed from its logits."""

from typing import NamedTuple

import numpy as np
from scipy.special import log_softmax

BINS = 15
"""Bins of equal width for the confidence in (0, 1]. Source: Guo et al. 2017, section 2."""


class ClassMetrics(NamedTuple):
    """Precision, recall and F1 of one class in [0, 1], 0 if they are 0/0; `support`, the number of
    its items; and `predicted`, the number of items that are predicted to be of it."""

    precision: float
    recall: float
    f1: float
    support: int
    predicted: int


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
    right, support, predicted = (
        np.bincount(of, minlength=logits.shape[1])
        for of in (labels[predictions == labels], labels, predictions)
    )
    f1 = 2 * right / np.maximum(support + predicted, 1)
    precision, recall = right / np.maximum(predicted, 1), right / np.maximum(support, 1)
    return Metrics(
        accuracy=float((predictions == labels).mean()),
        macro_f1=float(f1.mean()),
        nll=float(-(truth * log_probabilities).sum(axis=1).mean()),
        brier=float(((probabilities - truth) ** 2).sum(axis=1).mean()),
        ece=calibration_error(probabilities, labels),
        classes=tuple(
            map(
                ClassMetrics,
                *(values.tolist() for values in (precision, recall, f1, support, predicted)),
            )
        ),
    )


def calibration_error(probabilities: np.ndarray, labels: np.ndarray, bins: int = BINS) -> float:
    """Expected calibration error in [0, 1] of probabilities (n, classes): |accuracy − mean
    confidence| of each bin, weighted by its items. The confidence is the largest probability of an
    item; bin b of B contains ((b − 1)/B, b/B]. Source: Guo et al. 2017, equation 3."""
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    bin_of = np.ceil(confidence * bins).astype(int)
    gaps = np.bincount(bin_of, weights=right - confidence, minlength=bins + 1)
    return float(np.abs(gaps).sum() / len(labels))
