"""The laws of the metrics, against scikit-learn and against plain loops."""

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import (
    accuracy_score,
    brier_score_loss,
    f1_score,
    log_loss,
    precision_recall_fscore_support,
)

from deftx.models.predict import accuracy_and_f1
from deftx.report.metrics import BINS, calibration_error, measure

CLASSES = 3


@pytest.fixture
def evaluation() -> tuple[np.ndarray, np.ndarray]:
    """Logits that know something, and labels."""
    draw = np.random.default_rng(0)
    labels = draw.integers(0, CLASSES, 200)
    logits = draw.normal(size=(200, CLASSES)).astype(np.float32)
    logits[np.arange(200), labels] += 1
    return logits, labels


def plain_calibration_error(probabilities: np.ndarray, labels: np.ndarray) -> float:
    total = 0.0
    for b in range(1, BINS + 1):
        inside = [
            (row.max(), row.argmax() == label)
            for row, label in zip(probabilities, labels, strict=True)
            if (b - 1) / BINS < row.max() <= b / BINS
        ]
        if inside:
            confidence, right = np.mean(inside, axis=0)
            total += len(inside) / len(labels) * abs(right - confidence)
    return total


def test_likelihood_and_brier_are_those_of_scikit_learn(evaluation):
    logits, labels = evaluation
    found, probabilities = measure(logits, labels), softmax(logits.astype(float), axis=1)
    assert found.nll == pytest.approx(log_loss(labels, probabilities), abs=1e-12)
    brier = brier_score_loss(labels, probabilities, scale_by_half=False, labels=range(CLASSES))
    assert found.brier == pytest.approx(brier, abs=1e-12)


@pytest.mark.parametrize("present", [1, 2, CLASSES])
@pytest.mark.parametrize("predicted", [1, 2, CLASSES])
def test_accuracy_f1_and_each_class_are_those_of_scikit_learn_to_the_bit(
    evaluation, present, predicted
):
    """Also where a class is not present, or not predicted."""
    logits, labels = evaluation[0].copy(), evaluation[1] % present
    logits[:, predicted:] -= 100
    found, classes = logits.argmax(axis=1), range(CLASSES)
    settings = {"labels": classes, "zero_division": 0}
    assert accuracy_and_f1(logits, labels) == {
        "accuracy": accuracy_score(labels, found),
        "macro_f1": f1_score(labels, found, average="macro", **settings),
    }
    each = precision_recall_fscore_support(labels, found, **settings)
    shares = [np.count_nonzero(found == number) for number in classes]
    assert measure(logits, labels).classes == tuple(zip(*each, shares, strict=True))


def test_reported_accuracy_and_f1_are_those_that_training_saw(evaluation):
    found = measure(*evaluation)
    assert {"accuracy": found.accuracy, "macro_f1": found.macro_f1} == accuracy_and_f1(*evaluation)


def test_calibration_error_equals_plain_loop(evaluation):
    logits, labels = evaluation
    probabilities = softmax(logits.astype(float), axis=1)
    expected = plain_calibration_error(probabilities, labels)
    assert measure(logits, labels).ece == pytest.approx(expected, abs=1e-12)
    assert expected > 0.01


def test_certainty_that_is_right_half_of_the_time_is_off_by_half():
    probabilities = np.eye(2)[[0, 0, 1, 1]]
    assert calibration_error(probabilities, np.array([0, 1, 1, 0])) == 0.5
    assert calibration_error(probabilities, np.array([0, 0, 1, 1])) == 0


def test_confidence_equal_to_accuracy_in_each_bin_is_calibrated():
    probabilities = np.array([[0.75, 0.25]] * 4 + [[0.5, 0.5]] * 2)
    assert calibration_error(probabilities, np.array([0, 0, 0, 1, 0, 1])) == pytest.approx(0)


def test_confidence_at_the_edge_of_a_bin_belongs_to_the_lower_one():
    """0.5 and 0.6 fall into (0.4, 0.6] of five bins: together right as often as said."""
    probabilities = np.array([[0.5, 0.5, 0], [0.6, 0.4, 0]])
    error = calibration_error(probabilities, np.array([0, 1]), bins=5)
    assert error == pytest.approx(abs(0.5 - 0.55))


def test_extreme_logits_are_finite():
    found = measure(np.array([[1e4, -1e4], [1e4, -1e4]], dtype=np.float32), np.array([0, 1]))
    assert found.nll == pytest.approx(1e4)
    assert found.brier == pytest.approx(1)


def test_absent_class_has_no_support_and_counts_zero():
    found = measure(np.eye(3)[[0, 1]], np.array([0, 1]))
    assert found.classes[2] == (0, 0, 0, 0, 0)
    assert found.macro_f1 == pytest.approx(2 / 3)
