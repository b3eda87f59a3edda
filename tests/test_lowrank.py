"""Laws of denoising, against a plain float64 SVD."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deftx.core.low_rank import DeltaFile, LowRank
from deftx.stages.denoise.math import decompose, denoise, low_rank, spectrum
from deftx.stages.denoise.settings import RankRule
from deftx.stages.sparse.method import Sparse
from deftx.store.tensors import TensorFile, save_tensors

pytestmark = pytest.mark.rounding

SHAPES = pytest.mark.parametrize("shape", [(40, 12), (12, 40), (20, 20), (30_000, 8), (1, 5)])
EPS = torch.finfo(torch.float32).eps
AUTOMATIC = pytest.mark.parametrize("auto", ["optimal-threshold", "noise-edge"])


def singular_values(matrix):
    return np.linalg.svd(matrix.double().numpy(), compute_uv=False)


def assert_spectrum(found, plain, shape):
    """To the rounding of the eigenvalues of the Gram matrix in float64, the squares: its entries
    are sums over the long side, and eigenvalues move by no more than n · ε of the largest."""
    bound = sum(shape) * np.finfo(np.float64).eps * plain[0] ** 2
    assert (np.abs(found**2 - plain**2) <= bound).all()


@SHAPES
@pytest.mark.parametrize("rank", [1, 2, 7, 99])
def test_what_is_kept_is_the_plain_svd_cut_off(shape, rank):
    """A rank of 99 is above the full rank, which gives the matrix itself."""
    matrix = torch.randn(shape)
    u, s, vt = np.linalg.svd(matrix.double().numpy(), full_matrices=False)
    left = u[:, :rank] * s[:rank]
    found = low_rank(matrix, RankRule(rank=rank, allow_full_rank=True)).product()
    # Both factors are rounded to float32, and then as many products are added up.
    terms = np.linalg.norm(left, axis=1)[:, None] * np.linalg.norm(vt[:rank], axis=0)
    bound = (left.shape[1] + 2) * EPS * terms
    assert (np.abs(found.double().numpy() - left @ vt[:rank]) <= bound).all()


@SHAPES
def test_spectrum_equals_plain_singular_values(shape):
    matrix = torch.randn(shape)
    assert_spectrum(spectrum(matrix)[0].numpy(), singular_values(matrix), shape)


def test_small_singular_values_are_not_noise():
    u, _ = torch.linalg.qr(torch.randn(50, 4, dtype=torch.float64))
    v, _ = torch.linalg.qr(torch.randn(10, 4, dtype=torch.float64))
    planted = torch.tensor([1.0, 1e-2, 1e-4, 1e-5], dtype=torch.float64)
    found = spectrum((u * planted) @ v.T)[0][:4]
    assert_spectrum(found.numpy(), planted.numpy(), (50, 10))  # in float32 that is 1e-3


@given(energy=st.floats(0.05, 1.0), seed=st.integers(0, 10))
@settings(deadline=None, max_examples=30)
def test_energy_rule_is_the_smallest_rank_that_reaches_it(energy, seed):
    matrix = torch.randn((15, 9), generator=torch.Generator().manual_seed(seed))
    rank = low_rank(matrix, RankRule(energy=energy, allow_full_rank=True)).rank
    power = singular_values(matrix) ** 2
    assert power[:rank].sum() >= energy * power.sum() * (1 - 1e-9)
    assert rank == 1 or power[: rank - 1].sum() < energy * power.sum() * (1 + 1e-9)


@pytest.mark.parametrize("rule", [{"energy": 0.9}, {"auto": "noise-edge"}])
def test_nothing_of_a_zero_matrix_is_kept(rule):
    kept = low_rank(torch.zeros(6, 4), RankRule(**rule))
    assert kept.rank == 0 and not kept.product().any()


def test_rank_share_follows_the_smaller_side():
    rule = RankRule(rank_share=0.13)
    assert rule.components([], 768, 3072) == 100
    assert rule.components([], 250_002, 768) == 100
    assert rule.components([], 2, 768) == 1


def signal_and_noise(rows, columns, rank, seed=0):
    generator = torch.Generator().manual_seed(seed)
    left, right = (torch.randn(side, rank, generator=generator) for side in (rows, columns))
    return left @ right.T + 0.1 * torch.randn(rows, columns, generator=generator)


@AUTOMATIC
@pytest.mark.parametrize("shape", [(200, 60), (60, 200), (90, 90)])
def test_an_automatic_rank_is_that_of_the_signal(auto, shape):
    kept, plain = (
        low_rank(signal_and_noise(*shape, 5), rule)
        for rule in (RankRule(auto=auto), RankRule(rank=5))
    )
    assert kept.rank == 5 and torch.equal(kept.product(), plain.product())


@AUTOMATIC
def test_rows_and_columns_that_never_changed_change_no_automatic_rank(auto):
    """As in word embeddings: 70 words of 40,000 occur in a text, more or fewer than columns."""
    for rows, columns in ((70, 40), (40, 70)):
        matrix = signal_and_noise(rows, columns, 4)
        wide = torch.zeros(40_000, 96)
        place = torch.randperm(len(wide))[:rows].sort().values
        wide[place.unsqueeze(1), torch.randperm(96)[:columns]] = matrix
        assert low_rank(wide, RankRule(auto=auto)).rank == 4
        assert low_rank(wide.T, RankRule(auto=auto)).rank == 4


@pytest.mark.parametrize("rule", [{"energy": 1.0}, {"auto": "noise-edge"}])
def test_a_rule_that_depends_on_trained_weights_is_not_judged_before_training(base, rule):
    Sparse(denoise=RankRule(**rule), budget=100).check_base(base)
    with pytest.raises(ValueError, match=r"rank-share-1\.0 truncates none"):
        Sparse(denoise=RankRule(rank_share=1.0), budget=100).check_base(base)


def test_residual_keeps_the_largest_of_what_is_discarded():
    matrix = torch.randn(10, 8)
    plain = low_rank(matrix, RankRule(rank=2)).product()
    kept = low_rank(matrix, RankRule(rank=2, residual_keep=0.25)).product()
    discarded = (matrix - plain).reshape(-1)
    threshold = discarded.abs().sort(descending=True).values[19]
    expected = torch.where(discarded.abs() >= threshold, discarded, torch.zeros(()))
    added, two_roundings = (kept - plain).reshape(-1), EPS * (matrix.abs() + plain.abs()).view(-1)
    assert ((added - expected).abs() <= two_roundings).all()


def test_factors_are_stored_only_where_they_are_smaller():
    few, many = (low_rank(torch.randn(20, 20), RankRule(rank=r)) for r in (3, 15))
    assert few.delta is None and few.left.shape == (20, 3)
    assert many.left is None and many.delta.shape == (20, 20)


@pytest.mark.parametrize("rank", [3, 15])
@pytest.mark.parametrize("residual", [0.0, 0.1])
def test_a_file_gives_back_what_was_denoised(tmp_path, rank, residual):
    """Factors or the product, with and without a residual, and tensors that stay as they are."""
    delta = {"a": torch.randn(20, 20), "b": torch.randn(6), "head.c": torch.randn(2)}
    rule = RankRule(rank=rank, residual_keep=residual)
    parts = dict(decompose({"a": delta["a"], "b": delta["b"]}, rule))
    tensors = {"head.c": delta["head.c"]}
    for name, part in parts.items():
        tensors |= part.tensors(name)
    path = tmp_path / "x.safetensors"
    save_tensors(path, tensors, ranks={"a": rank})
    file = TensorFile(path)
    found = DeltaFile(file)
    assert list(found) == ["a", "b"] and "head.c" not in found and found.rank("a") == rank
    assert found.spectrum("b") is None and len(found.spectrum("a")) == 20
    for name, part in parts.items():
        assert torch.equal(found[name], part.product())
        assert LowRank.read(file, name).rank == part.rank
    with pytest.raises(KeyError, match="no tensor 'c'"):
        found["c"]


def test_vectors_and_excluded_embeddings_stay_raw():
    delta = {
        "embeddings.word_embeddings.weight": torch.randn(30, 8),
        "encoder.layer.0.dense.weight": torch.randn(8, 8),
        "encoder.layer.0.dense.bias": torch.randn(8),
    }
    kept = dict(decompose(delta, RankRule(rank=2, embeddings=False)))
    assert kept["encoder.layer.0.dense.weight"].rank == 2
    for name in ("embeddings.word_embeddings.weight", "encoder.layer.0.dense.bias"):
        assert kept[name].rank is None and torch.equal(kept[name].product(), delta[name])


def test_a_rule_that_truncates_nothing_is_an_error_unless_meant():
    delta = {"a": torch.randn(5, 4), "b": torch.randn(3)}
    with pytest.raises(ValueError, match=r"rank-4.*truncates none of 1 matrices"):
        denoise(delta, rank=4)
    assert len(denoise(delta, rank=4, allow_full_rank=True)) == 2


@pytest.mark.parametrize("wrong", [["nan"], ["inf"], ["inf", "-inf"]])
def test_a_difference_that_is_not_finite_is_named(wrong):
    with pytest.raises(ValueError, match="b: the difference is not finite"):
        denoise({"b": torch.tensor([[1.0, *map(float, wrong)]])}, rank=1)
    assert denoise({"b": torch.full((3, 2), torch.finfo(torch.float32).max)}, rank=1)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({}, "give exactly one of rank"),
        ({"rank": 3, "energy": 0.9}, "give exactly one of rank"),
        ({"rank": 3, "auto": "noise-edge"}, "give exactly one of rank"),
        ({"rank": 0}, "Input should be"),
        ({"rank_share": 0}, "Input should be"),
        ({"energy": 1.5}, "Input should be"),
        ({"rank": 3, "residual_keep": 1.0}, "Input should be"),
        ({"auto": "median"}, "Input should be"),
    ],
)
def test_exactly_one_rule_is_given_and_in_range(wrong, message):
    with pytest.raises(ValueError, match=message):
        RankRule(**wrong)


def test_each_rule_has_a_slug_of_its_own():
    rules = [
        {"rank": 100},
        {"rank_share": 0.1},
        {"energy": 0.1},
        {"rank": 100, "residual_keep": 0.05},
        {"rank": 100, "embeddings": False},
        {"auto": "optimal-threshold"},
        {"auto": "noise-edge"},
    ]
    assert RankRule(**rules[-2]).slug() == "auto-optimal-threshold"
    assert len({RankRule(**rule).slug() for rule in rules}) == len(rules)
