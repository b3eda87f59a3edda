"""The laws of the bootstrap, against slow plain loops, theory, and simulated equal systems."""

from itertools import combinations

import numpy as np
import pytest
from scipy.stats import norm, t
from sklearn.metrics import accuracy_score, f1_score

from deftx.models.predict import accuracy_and_f1
from deftx.report import statistics
from deftx.report.metrics import ACCURACY, MACRO_F1, Answers, ratio
from deftx.report.statistics import (
    ALPHA,
    Resamples,
    degrees_of_freedom,
    holm,
    interval,
    over_seeds,
    p_value,
)

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


SCORES = {"accuracy": ACCURACY, "macro_f1": MACRO_F1}


def counts(name: str, labels: np.ndarray, predictions: np.ndarray, classes=CLASSES) -> np.ndarray:
    each = np.arange(1, 1 + len(labels))
    return SCORES[name].counts(Answers(labels, predictions, each, tuple("abcdefghij"[:classes])))


def scored(resamples: Resamples, *evaluations: tuple[np.ndarray, ...], name="accuracy", **of):
    """Scores (evaluations, 1 + times)."""
    counted = [(ids, counts(name, *answers, **of)) for ids, *answers in evaluations]
    return resamples.scores(counted, SCORES[name].score)


def by_confusions(
    name: str, resamples: Resamples, evaluations: list[tuple[np.ndarray, ...]], classes: int
) -> np.ndarray:
    """The oracle: a confusion matrix of each resample and evaluation, then its score."""
    cells = np.zeros((len(resamples.ids), len(evaluations), classes * classes), dtype=np.float32)
    for number, (ids, labels, predictions) in enumerate(evaluations):
        place = np.searchsorted(resamples.ids, ids)
        np.add.at(cells[:, number], (place, labels * classes + predictions), 1)
    sums = resamples.weights @ cells.reshape(len(resamples.ids), -1)
    matrices = sums.reshape(-1, len(evaluations), classes, classes).swapaxes(0, 1)
    if name == "accuracy":
        hits = np.trace(matrices, axis1=-2, axis2=-1)
        return ratio(hits, matrices.sum((-2, -1)), empty=np.nan)
    hits = np.diagonal(matrices, axis1=-2, axis2=-1)
    present, predicted = matrices.sum(-1), matrices.sum(-2)
    scores = ratio(2 * hits, present + predicted, empty=0.0).mean(-1)
    return np.where(present.sum(-1) > 0, scores, np.nan)


@pytest.mark.parametrize("classes", [2, 3, 10])
@pytest.mark.parametrize("name", SCORES)
def test_scores_are_those_of_confusion_matrices_to_the_bit(name, classes):
    draw = np.random.default_rng(classes)
    ids = np.array([f"item-{i}" for i in range(300)])
    mixed = [draw.permutation(300)[: draw.integers(1, 300)] for _ in range(40)]
    several = [(ids[each], *draw.integers(0, classes, (2, len(each)))) for each in mixed]
    resamples = Resamples([ids], times=200)
    expected = by_confusions(name, resamples, several, classes)
    found = scored(resamples, *several, name=name, classes=classes)
    assert np.array_equal(found, expected, equal_nan=True)
    assert found.flags.c_contiguous  # so that what is computed of it has equal bits, too


def test_counts_beyond_what_float32_has_are_refused():
    ids = np.array(["a", "b"])
    resamples = Resamples([ids], times=3)
    for most, fits in ((2**23 - 1, True), (2**23, False)):
        counted = [(ids, np.full((2, 2), most))]
        if fits:
            assert (resamples.scores(counted, ACCURACY.score) == 1).all()
        else:
            with pytest.raises(AssertionError, match="float32"):
                resamples.scores(counted, ACCURACY.score)


@pytest.mark.parametrize("name", SCORES)
def test_bootstrap_equals_plain_resampling_loop(name):
    ids, labels, predictions = evaluation(40, seed=1)
    resamples = Resamples([ids], times=50, seed=2)
    found = scored(resamples, (ids, labels, predictions), name=name)[0]
    place = np.searchsorted(resamples.ids, ids)
    for weights, score in zip(resamples.weights, found, strict=True):
        drawn = np.repeat(np.arange(len(ids)), weights[place].astype(int))
        assert score == pytest.approx(plain(name, labels[drawn], predictions[drawn]), abs=1e-12)


def test_first_score_is_that_of_the_items_as_they_are():
    ids, labels, predictions = evaluation(101, seed=3)
    resamples = Resamples([ids], times=5)
    expected = accuracy_and_f1(np.eye(CLASSES)[predictions], labels)
    for name in SCORES:
        found = scored(resamples, (ids, labels, predictions), name=name)[0, 0]
        assert found == pytest.approx(expected[name], abs=1e-12)


def test_each_resample_has_as_many_items_as_there_are_and_a_seed_repeats_it():
    ids = evaluation(60, seed=0)[0]
    weights = Resamples([ids], times=30).weights
    assert (weights.sum(axis=1) == 60).all()
    assert (weights[0] == 1).all()
    assert (weights[1:] != 1).any()
    assert np.array_equal(Resamples([ids], times=30).weights, weights)
    assert not np.array_equal(Resamples([ids], times=30, seed=1).weights, weights)


def test_same_ids_in_another_order_get_the_same_resamples():
    ids, labels, predictions = evaluation(50, seed=4)
    mixed = np.random.default_rng(0).permutation(50)
    resamples = Resamples([ids], times=20)
    here = scored(resamples, (ids, labels, predictions))
    there = scored(resamples, (ids[mixed], labels[mixed], predictions[mixed]))
    assert np.array_equal(here, there)


def test_missing_items_leave_the_others_paired():
    ids, labels, predictions = evaluation(50, seed=5)
    resamples = Resamples([ids, ids[:30]], times=20)
    part = scored(resamples, (ids[:30], labels[:30], predictions[:30]))[0]
    weights = resamples.weights[:, np.searchsorted(resamples.ids, ids[:30])]
    right = (labels == predictions)[:30]
    assert part == pytest.approx((weights * right).sum(1) / weights.sum(1))


def test_system_compared_with_itself_differs_by_nothing_in_every_resample():
    ids, labels, predictions = evaluation(50, seed=6)
    resamples = Resamples([ids])
    scores = scored(resamples, (ids, labels, predictions))
    assert interval(scores - scores) == (0, 0)
    assert p_value(scores - scores) == 1


def test_paired_interval_is_narrower_where_systems_err_on_the_same_items():
    ids, labels, first = evaluation(400, seed=7)
    second = first.copy()
    second[:20] = labels[:20]
    resamples = Resamples([ids])
    a, b = (scored(resamples, (ids, labels, p)) for p in (first, second))
    paired, alone = (np.subtract(*interval(scores)[::-1]) for scores in (b - a, b))
    assert paired < alone / 2


def test_interval_has_the_width_that_theory_says():
    ids, labels, predictions = evaluation(1_000, seed=8)
    scores = scored(Resamples([ids]), (ids, labels, predictions))
    low, high = interval(scores)
    score = scores[0, 0]
    error = np.sqrt(score * (1 - score) / 1_000)
    assert (high - low) / 2 == pytest.approx(1.96 * error, rel=0.05)
    assert low < score < high


def test_class_neither_present_nor_predicted_counts_zero():
    ids = np.array(["a", "b"])
    both = np.array([0, 1])
    found = scored(Resamples([ids], times=0), (ids, both, both), name="macro_f1")
    assert found == pytest.approx(2 / 3)


def test_resample_without_items_of_an_evaluation_is_left_out():
    ids, labels, predictions = evaluation(2, seed=9, right=1.0)
    resamples = Resamples([ids], times=200)
    for name in SCORES:
        scores = scored(resamples, (ids[:1], labels[:1], predictions[:1]), name=name)
        assert np.isnan(scores).any()
        assert not np.isnan(interval(scores)).any()
        assert 0 < p_value(scores) < 0.01


def test_many_evaluations_at_once_are_scored_as_each_by_itself(monkeypatch):
    first, second = evaluation(40, seed=10), evaluation(30, seed=11)
    resamples = Resamples([first[0], second[0]], times=20)
    both = scored(resamples, first, second, name="macro_f1")
    assert np.array_equal(both[:1], scored(resamples, first, name="macro_f1"))
    assert np.array_equal(both[1:], scored(resamples, second, name="macro_f1"))
    monkeypatch.setattr(statistics, "COLUMNS", 1)
    assert np.array_equal(both, scored(resamples, first, second, name="macro_f1"))


# Seeds


def without_items(*by_seed: float, times: int = 20_000) -> np.ndarray:
    """Scores of seeds that are the same on every resample of the items."""
    return np.repeat(np.array(by_seed)[:, None], 1 + times, axis=1)


@pytest.mark.parametrize("seeds", [2, 3, 5, 10])
def test_resampled_seeds_have_the_unbiased_variance_of_their_mean(seeds):
    values = np.random.default_rng(seeds).normal(size=seeds)
    drawn = over_seeds(without_items(*values))
    assert drawn[0] == pytest.approx(values.mean())
    assert drawn[1:].mean() == pytest.approx(values.mean(), abs=0.02)
    assert drawn[1:].var() == pytest.approx(values.var(ddof=1) / seeds, rel=0.05)


def test_mean_over_seeds_equals_plain_loop_over_the_drawn_seeds():
    scores = np.random.default_rng(0).random((4, 31))
    drawn = np.random.default_rng(4).multinomial(3, [0.25] * 4, size=30)
    found = over_seeds(scores)
    assert found[0] == pytest.approx(scores[:, 0].mean())
    for column, counts in enumerate(drawn, 1):
        chosen = np.repeat(np.arange(4), counts)
        assert len(chosen) == 3
        assert found[column] == pytest.approx(scores[chosen, column].mean())


def test_one_seed_is_not_resampled():
    scores = np.random.default_rng(0).random((1, 101))
    assert np.array_equal(over_seeds(scores), scores[0])
    assert degrees_of_freedom(scores) == np.inf
    assert interval(scores) == pytest.approx(np.quantile(scores[0, 1:], [0.025, 0.975]))


def test_variance_over_items_and_seeds_is_the_analytic_one():
    """y = item + seed + both: the bootstrap's variance is σ_i²/m + σ_s²/n + 3σ_b²/(mn); the true
    one has σ_b²/(mn). Compare Owen 2007, the pigeonhole bootstrap."""
    items, seeds, sizes = 60, 4, (1.0, 0.3, 1.5)
    resamples = Resamples([np.arange(items)], times=400)
    draw = np.random.default_rng(0)
    found, means = [], []
    for _ in range(600):
        item, seed, both = (
            size * draw.normal(size=shape)
            for size, shape in zip(sizes, [(1, items), (seeds, 1), (seeds, items)], strict=True)
        )
        scores = (item + seed + both) @ resamples.weights.T / items
        found.append(over_seeds(scores)[1:].var())
        means.append(scores[:, 0].mean())
    parts = np.square(sizes) / (items, seeds, items * seeds)
    assert np.mean(found) == pytest.approx(parts @ [1, 1, 3], rel=0.05)
    assert np.var(means) == pytest.approx(parts.sum(), rel=0.15)


def test_degrees_of_freedom_are_those_of_the_seeds_where_only_seeds_vary():
    assert degrees_of_freedom(without_items(0.1, 0.2, 0.4)) == pytest.approx(2, rel=0.05)
    assert degrees_of_freedom(without_items(0.3, 0.3, 0.3)) == np.inf


def test_degrees_of_freedom_are_satterthwaites():
    """Equal parts from items and seeds: (n − 1)·2²."""
    draw = np.random.default_rng(0)
    by_seed = np.array([-1.0, 0.0, 1.0])  # the variance of their mean: 1/3
    items = np.concatenate([[0], draw.normal(size=50_000) * np.sqrt(1 / 3)])
    assert degrees_of_freedom(by_seed[:, None] + items) == pytest.approx(8, rel=0.05)


def test_interval_of_few_seeds_is_widened_to_students():
    scores = without_items(*np.linspace(0.4, 0.6, 10))
    low, high = interval(scores)
    error = scores[:, 0].std(ddof=1) / np.sqrt(10)
    assert (high - low) / 2 == pytest.approx(t.isf(0.025, 9) * error, rel=0.05)


# p-values


def test_p_value_equals_plain_counting():
    scores = np.random.default_rng(0).normal(0.5, 1, size=(1, 300))
    count = sum(abs(score - scores[0, 0]) >= abs(scores[0, 0]) for score in scores[0, 1:])
    assert p_value(scores) == (1 + count) / 300


def test_p_value_is_that_of_the_paired_z_test():
    ids, labels, first = evaluation(1_000, seed=12)
    second = first.copy()
    wrong = np.flatnonzero(first != labels)[:45]
    right = np.flatnonzero(first == labels)[:25]
    second[wrong], second[right] = labels[wrong], (labels[right] + 1) % CLASSES
    a, b = scored(Resamples([ids]), (ids, labels, first), (ids, labels, second))
    gap = (second == labels).astype(float) - (first == labels)
    expected = 2 * norm.sf(gap.mean() / (gap.std() / np.sqrt(1_000)))
    assert 0.01 < expected < 0.03
    assert p_value((b - a)[None]) == pytest.approx(expected, abs=0.005)


def test_p_value_of_seeds_alone_is_that_of_students_t():
    values = (0.02, 0.05, 0.03, 0.07, -0.01)
    error = np.std(values, ddof=1) / np.sqrt(5)
    expected = 2 * t.sf(np.mean(values) / error, 4)
    assert p_value(without_items(*values)) == pytest.approx(expected, rel=0.1)


def null_differences(seeds: int, trials: int, spread: float) -> np.ndarray:
    """Differences (trials, seeds, 1 + times) of accuracy between two systems that are equally good:
    items differ in difficulty, and the skill of a training run varies by `spread`."""
    items = 300
    resamples = Resamples([np.arange(items)], times=1_000)
    draw = np.random.default_rng(0)
    difficulty = draw.normal(0.5, 1.5, (trials, 1, 1, items))
    skill = difficulty + draw.normal(0, spread, (trials, 2, seeds, 1))
    right = draw.random(skill.shape) < 1 / (1 + np.exp(-skill))
    gaps = right[:, 0].astype(np.float32) - right[:, 1]
    return gaps @ resamples.weights.T / items


@pytest.mark.parametrize(("seeds", "spread"), [(1, 0.0), (3, 0.8), (5, 0.5), (5, 0.8), (10, 0.5)])
def test_equal_systems_differ_significantly_one_time_in_twenty(seeds, spread):
    gaps = null_differences(seeds, 600, spread)
    found = np.mean([p_value(gap) < ALPHA for gap in gaps])
    outside = np.mean([not low <= 0 <= high for low, high in map(interval, gaps)])
    assert 0.02 <= found <= 0.075
    assert 0.02 <= outside <= 0.075


def test_family_errs_no_more_often_than_said_even_where_only_seeds_vary():
    draw = np.random.default_rng(1)
    errors, by_count = [], []
    for _ in range(150):
        systems = draw.normal(size=(6, 5))
        gaps = [without_items(*(a - b), times=1_000) for a, b in combinations(systems, 2)]
        errors.append(min(holm([p_value(gap) for gap in gaps])) < ALPHA)
        by_count.append(min(holm([plain_count(gap) for gap in gaps])) < ALPHA)
    assert np.mean(errors) <= 0.1
    assert np.mean(by_count) > 0.3  # what the floor of Student's t is for


def plain_count(gap: np.ndarray) -> float:
    mean = over_seeds(gap)
    deviations = np.abs(mean[1:] - mean[0])
    return (1 + (deviations >= abs(mean[0])).sum()) / len(mean)


# Holm


def test_holm_by_hand():
    """0.005·4, 0.01·3, 0.03·2, and 0.04·1 raised to the one before."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1, 1]
    assert holm([0.02]) == [0.02]
    assert holm([]) == []


def test_holm_rejects_what_the_step_down_procedure_rejects():
    draw = np.random.default_rng(0)
    for _ in range(50):
        values = draw.choice([0.001, 0.01, 0.02, 0.04, 0.3], 8) * draw.random(8)
        rejected = set()
        for step, which in enumerate(np.argsort(values)):
            if values[which] > ALPHA / (8 - step):
                break
            rejected.add(which)
        assert {i for i, p in enumerate(holm(list(values))) if p <= ALPHA} == rejected
