"""The laws of the bootstrap, against a slow loop that resamples plainly."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score

from deftx.metrics import accuracy_and_f1
from deftx.statistics import Resamples, accuracy, interval, macro_f1

CLASSES = 3


def evaluation(items: int, seed: int, right: float = 0.6) -> tuple[np.ndarray, ...]:
    """Item ids, labels and predictions of a classifier that knows a share of the answers."""
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, CLASSES, items)
    guesses = draw.integers(0, CLASSES, items)
    predictions = np.where(draw.random(items) < right, labels, guesses)
    return np.array([f"item-{i}" for i in range(items)]), labels, predictions


def plain(name: str, labels: np.ndarray, predictions: np.ndarray) -> float:
    if name == "accuracy":
        return accuracy_score(labels, predictions)
    classes = range(CLASSES)
    return f1_score(labels, predictions, labels=classes, average="macro", zero_division=0)


SCORES = {"accuracy": accuracy, "macro_f1": macro_f1}


@pytest.mark.parametrize("name", SCORES)
def test_bootstrap_equals_plain_resampling_loop(name):
    ids, labels, predictions = evaluation(40, seed=1)
    resamples = Resamples([ids], times=50, seed=2)
    found = SCORES[name](resamples.confusions(ids, labels, predictions, CLASSES))
    place = np.searchsorted(resamples.ids, ids)
    for weights, score in zip(resamples.weights, found, strict=True):
        drawn = np.repeat(np.arange(len(ids)), weights[place].astype(int))
        assert score == pytest.approx(plain(name, labels[drawn], predictions[drawn]), abs=1e-12)


def test_first_score_is_that_of_the_items_as_they_are():
    ids, labels, predictions = evaluation(101, seed=3)
    confusions = Resamples([ids], times=5).confusions(ids, labels, predictions, CLASSES)
    expected = accuracy_and_f1(np.eye(CLASSES)[predictions], labels)
    assert accuracy(confusions)[0] == pytest.approx(expected["accuracy"], abs=1e-12)
    assert macro_f1(confusions)[0] == pytest.approx(expected["macro_f1"], abs=1e-12)


def test_each_resample_has_as_many_items_as_there_are():
    weights = Resamples([evaluation(60, seed=0)[0]], times=30).weights
    assert (weights.sum(axis=1) == 60).all()
    assert (weights[0] == 1).all()
    assert (weights[1:] != 1).any()


def test_same_ids_in_another_order_get_the_same_resamples():
    ids, labels, predictions = evaluation(50, seed=4)
    mixed = np.random.default_rng(0).permutation(50)
    resamples = Resamples([ids], times=20)
    here = resamples.confusions(ids, labels, predictions, CLASSES)
    there = resamples.confusions(ids[mixed], labels[mixed], predictions[mixed], CLASSES)
    assert np.array_equal(here, there)


def test_missing_items_leave_the_others_paired():
    ids, labels, predictions = evaluation(50, seed=5)
    resamples = Resamples([ids, ids[:30]], times=20)
    part = resamples.confusions(ids[:30], labels[:30], predictions[:30], CLASSES)
    place = np.searchsorted(resamples.ids, ids[:30])
    assert np.array_equal(part.sum((1, 2)), resamples.weights[:, place].sum(1))


def test_system_compared_with_itself_differs_by_nothing_in_every_resample():
    ids, labels, predictions = evaluation(50, seed=6)
    resamples = Resamples([ids])
    scores = accuracy(resamples.confusions(ids, labels, predictions, CLASSES))
    assert interval(scores - scores) == (0, 0)


def test_paired_interval_is_narrower_where_systems_err_on_the_same_items():
    ids, labels, first = evaluation(400, seed=7)
    second = first.copy()
    second[:20] = labels[:20]
    resamples = Resamples([ids])
    a, b = (accuracy(resamples.confusions(ids, labels, p, CLASSES)) for p in (first, second))
    paired, alone = (np.subtract(*interval(scores)[::-1]) for scores in (b - a, b))
    assert paired < alone / 2


def test_interval_has_the_width_that_theory_says():
    ids, labels, predictions = evaluation(1_000, seed=8)
    scores = accuracy(Resamples([ids]).confusions(ids, labels, predictions, CLASSES))
    low, high = interval(scores)
    error = np.sqrt(scores[0] * (1 - scores[0]) / 1_000)
    assert (high - low) / 2 == pytest.approx(1.96 * error, rel=0.1)
    assert low < scores[0] < high


def test_class_neither_present_nor_predicted_counts_zero():
    ids = np.array(["a", "b"])
    both = np.array([0, 1])
    confusions = Resamples([ids], times=0).confusions(ids, both, both, CLASSES)
    assert macro_f1(confusions)[0] == pytest.approx(2 / 3)


def test_resample_without_items_of_an_evaluation_is_left_out():
    ids, labels, predictions = evaluation(2, seed=9, right=1.0)
    resamples = Resamples([ids], times=200)
    for score in SCORES.values():
        scores = score(resamples.confusions(ids[:1], labels[:1], predictions[:1], 1 + labels[0]))
        assert np.isnan(scores).any()
        assert not np.isnan(interval(scores)).any()


def test_same_seed_same_resamples():
    ids = evaluation(20, seed=0)[0]
    assert np.array_equal(Resamples([ids], seed=1).weights, Resamples([ids], seed=1).weights)
    assert not np.array_equal(Resamples([ids], seed=1).weights, Resamples([ids], seed=2).weights)
