"""Laws of separating signal from noise by singular values, against sums and simulated noise."""

from math import sqrt

import numpy as np
import pytest

from deftx.stages.denoise.math import (
    median_factor,
    noise_edge,
    noise_median,
    optimal_threshold,
    signal_rank,
)

pytestmark = pytest.mark.rounding

RULES = ["optimal-threshold", "noise-edge"]
BY_EACH_RULE = pytest.mark.parametrize("rule", RULES)
BETAS = [1.0, 0.5, 0.1, 0.003]
SHAPES = [(120, 120), (60, 240), (240, 60), (1500, 40)]


def noise(rows, columns, seed=0):
    return np.random.default_rng(seed).standard_normal((rows, columns))


def planted(rows, columns, strengths, seed=0):
    """A matrix with these singular values and random singular vectors."""
    rank = len(strengths)
    left, right = (np.linalg.qr(noise(side, rank, seed + side))[0] for side in (rows, columns + 1))
    return (left * np.asarray(strengths)) @ right[:columns].T if rank else np.zeros((rows, columns))


def rank_of(matrix, rule):
    values = np.linalg.svd(matrix, compute_uv=False)
    return signal_rank(values.tolist(), *matrix.shape, rule)


def plain_median(beta, cells=1_000_000):
    """The density of Marchenko and Pastur summed up cell by cell."""
    low, high = (1 - sqrt(beta)) ** 2, (1 + sqrt(beta)) ** 2
    edges = np.linspace(low, high, cells + 1)
    t = (edges[1:] + edges[:-1]) / 2
    share = np.cumsum(np.sqrt((high - t) * (t - low)) / (2 * np.pi * beta * t)) * (edges[1] - low)
    assert share[-1] == pytest.approx(1, abs=1e-3)
    return t[np.searchsorted(share, 0.5 * share[-1])]


@pytest.mark.parametrize("beta", BETAS)
def test_the_median_of_noise_is_that_of_the_density_summed_up(beta):
    assert noise_median(beta) == pytest.approx(plain_median(beta), abs=2e-3)


def test_known_values():
    assert optimal_threshold(1) == pytest.approx(4 / sqrt(3))
    assert optimal_threshold(0) == pytest.approx(sqrt(2))
    assert median_factor(1, "optimal-threshold") == pytest.approx(2.858, abs=5e-4)
    assert noise_edge(1) == 2


@pytest.mark.parametrize("beta", np.linspace(0.02, 1, 15))
def test_the_factor_is_the_published_polynomial_to_its_stated_error(beta):
    polynomial = 0.56 * beta**3 - 0.95 * beta**2 + 1.82 * beta + 1.43
    assert median_factor(beta, "optimal-threshold") == pytest.approx(polynomial, abs=0.02)


@pytest.mark.parametrize("beta", BETAS)
def test_the_optimal_threshold_is_where_a_component_is_as_good_as_none(beta):
    """In units of noise, long = 1: a component x is seen as y(x), with vectors that have cosines
    c and d to its own. Keeping it costs x² + y² − 2xycd, leaving it out x²: equal at y = 2xcd."""
    x = np.linspace(beta**0.25 + 1e-9, 4, 1_000_000)
    seen = np.sqrt((x + 1 / x) * (x + beta / x))
    cosines = np.sqrt((x**4 - beta) / (x**4 + beta * x**2) * (x**4 - beta) / (x**4 + x**2))
    worth_keeping = seen < 2 * x * cosines
    assert seen[np.argmax(worth_keeping)] == pytest.approx(optimal_threshold(beta), abs=1e-4)
    assert worth_keeping[np.argmax(worth_keeping) :].all()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("rank", [0, 1, 3, 10])
@pytest.mark.parametrize("sigma", [1e-4, 1.0])
def test_the_planted_rank_is_found(shape, rank, sigma):
    """Exactly by the threshold where the signal is strong. The largest singular value of noise is
    above the edge in about one matrix of six (Tracy-Widom), so the edge may take one too many."""
    strengths = np.linspace(4, 8, rank) * sigma * (sqrt(shape[0]) + sqrt(shape[1]))
    for seed in range(3):
        matrix = planted(*shape, strengths, seed) + sigma * noise(*shape, seed)
        assert rank_of(matrix, "optimal-threshold") == rank
        assert rank <= rank_of(matrix, "noise-edge") <= rank + 1


@pytest.mark.parametrize("shape", SHAPES)
def test_the_edge_sees_what_the_threshold_leaves_out(shape):
    """A component is seen beyond the edge from σ·(rows·columns)^¼ on, in the limit; the threshold
    asks for more, since so weak a component is seen in wrong directions."""
    visible = (shape[0] * shape[1]) ** 0.25
    found = {
        (rule, strength): np.mean(
            [
                rank_of(planted(*shape, [strength * visible], seed) + noise(*shape, seed), rule)
                for seed in range(20)
            ]
        )
        for rule in RULES
        for strength in (0.5, 1.4)
    }
    assert found["noise-edge", 0.5] < 0.5 and found["noise-edge", 1.4] > 0.9
    assert found["optimal-threshold", 0.5] == 0 and found["optimal-threshold", 1.4] < 0.5


def test_noise_alone_has_few_components():
    found = {rule: [rank_of(noise(80, 50, seed), rule) for seed in range(200)] for rule in RULES}
    assert max(found["optimal-threshold"]) == 0
    assert max(found["noise-edge"]) <= 2 and np.mean(found["noise-edge"]) < 0.3


@BY_EACH_RULE
def test_the_unit_does_not_matter(rule):
    matrix = planted(90, 70, [60, 50]) + noise(90, 70)
    assert {rank_of(scale * matrix, rule) for scale in (1e-12, 1, 1e12)} == {2}


@BY_EACH_RULE
def test_zeros_beyond_the_shorter_side_are_no_noise(rule):
    """The values of a 60 × 30 matrix, however many rows and columns of zeros are around it."""
    values = np.linalg.svd(planted(60, 30, [70, 60]) + noise(60, 30), compute_uv=False)
    padded = [*values, *[0.0] * 500]
    assert signal_rank(padded, 60, 30, rule) == signal_rank(list(values), 60, 30, rule) == 2
    assert signal_rank(padded, 530, 530, rule) == 30  # as if no noise were there


@BY_EACH_RULE
def test_without_noise_the_rank_itself_is_found(rule):
    assert rank_of(planted(50, 40, [3, 2, 1]), rule) == 3
    assert rank_of(np.zeros((5, 4)), rule) == 0
    assert signal_rank([0.0, 0.0], 0, 0, rule) == 0


@BY_EACH_RULE
def test_a_single_row_or_column_is_kept(rule):
    assert rank_of(noise(1, 30), rule) == rank_of(noise(30, 1), rule) == 1
