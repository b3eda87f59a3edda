"""Laws of merging, each with a plain oracle over flat arrays."""

import numpy as np
import pytest
import torch

from deftx.stages.compose.math import language_share, merged
from deftx.stages.compose.settings import Combine, LayerSwap
from deftx.store.lazy import Lazy

pytestmark = pytest.mark.rounding

EMBEDDINGS, TOP = "embeddings.word_embeddings.weight", "final_norm.weight"
LAYERS = [f"encoder.layer.{n}.output.dense.weight" for n in range(6)]
NAMES = [EMBEDDINGS, *LAYERS, TOP]


def vectors(seed=0):
    """A task's and a language's: random, with ties and zeros, and each with a tensor of its own."""
    generator = torch.Generator().manual_seed(seed)
    both = []
    for only in ("only.task", "only.language"):
        shapes = dict.fromkeys(NAMES, (7, 5)) | {only: (11,)}
        vector = {
            name: torch.randn(shape, generator=generator).mul(4).round().div(4)
            for name, shape in shapes.items()
        }
        both.append(vector)
    return both


def merge(task, language, seed=0, **way):
    found = merged(task, language, Combine(**way), seed)
    return {name: found[name] for name in found}


def flat(vector, names):
    return np.concatenate([vector[name].numpy().ravel() for name in names])


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name in found:
        assert torch.equal(found[name], expected[name]), name


def plain_sum(task, language):
    names = task.keys() | language.keys()
    return {n: sum(v[n] for v in (task, language) if n in v) for n in names}


@pytest.mark.parametrize("density", [0.1, 0.2, 0.5, 1])
def test_ties_is_trim_elect_and_mean(density):
    """As the paper writes it, with each vector as one array; values that cancel are among them."""
    vectors_of_two = [{name: vector[name] for name in sorted(NAMES)} for vector in vectors()]
    trimmed = []
    for vector in vectors_of_two:
        values = flat(vector, vector)
        smallest = np.argsort(-np.abs(values), kind="stable")[round(density * len(values)) :]
        values[smallest] = 0
        trimmed.append(values)
    sign = np.sign(np.sum(trimmed, axis=0))
    assert density < 1 or ((sign == 0) & (trimmed[0] != 0)).any()
    agree = (np.sign(trimmed) == sign) & (sign != 0)
    expected = (trimmed * agree).sum(axis=0) / np.maximum(1, agree.sum(axis=0))
    found = merge(*vectors_of_two, ties={"density": density})
    np.testing.assert_array_equal(flat(found, sorted(found)), expected)


@pytest.mark.parametrize("density", [0.02, 0.2, 0.37])
def test_exactly_the_density_of_each_vector_stays_ties_or_not(density):
    for vector in (vectors()[0], {"a": torch.ones(10, 10), "b": torch.ones(27)}):
        nowhere_zero = {name: tensor + 100 for name, tensor in vector.items()}
        for task, language in ((nowhere_zero, {}), ({}, nowhere_zero)):
            found = merge(task, language, ties={"density": density})
            kept = sum(int(tensor.count_nonzero()) for tensor in found.values())
            assert kept == round(density * sum(tensor.numel() for tensor in vector.values()))


def test_ties_keeps_what_scales_and_order_do_not_change():
    task, language = vectors()
    found = merge(task, language, ties={"density": 0.3})
    assert_same(merge(language, task, ties={"density": 0.3}), found)
    doubled = ({n: 2 * t for n, t in v.items()} for v in (task, language))
    twice = merge(*doubled, ties={"density": 0.3})
    assert_same(twice, {name: 2 * tensor for name, tensor in found.items()})


def test_dare_without_dropping_is_the_sum():
    assert_same(merge(*vectors(), dare={"density": 1}), plain_sum(*vectors()))


def test_what_dare_keeps_is_scaled_up_and_the_rest_is_zero():
    task, _ = vectors()
    found = merge(task, {}, dare={"density": 0.25})
    for name, tensor in found.items():
        assert ((tensor == 0) | (tensor == 4 * task[name])).all()


def test_dare_is_the_sum_in_the_mean():
    task = {"a": torch.ones(40, 50)}
    language = {"a": torch.full((40, 50), -3.0), "b": torch.ones(9)}
    found = [merge(task, language, seed, dare={"density": 0.4})["a"] for seed in range(50)]
    values = torch.stack(found)
    kept = [values == v for v in (2.5, -7.5, -5.0, 0.0)]  # task alone, language alone, both, none
    shares = [float(where.float().mean()) for where in kept]
    assert shares == pytest.approx([0.24, 0.24, 0.16, 0.36], abs=0.01)  # independent draws
    assert float(values.mean()) == pytest.approx(-2.0, abs=0.05)
    spread = float(values.mean(dim=0).std())  # another draw for each entry and seed
    assert spread == pytest.approx(float(values.std()) / np.sqrt(50), rel=0.1)


def test_the_draws_of_dare_are_keyed_by_seed_tensor_and_vector():
    ones = {"a": torch.ones(300), "b": torch.ones(300)}
    way = {"dare": {"density": 0.5}}
    found = merge(ones, {}, **way)
    assert_same(merge(ones, {}, **way), found)
    assert torch.equal(merge({"b": ones["b"]}, {}, **way)["b"], found["b"])
    others = [found["b"], merge(ones, {}, 1, **way)["a"], merge({}, ones, **way)["a"]]
    for other in others:
        assert 0.3 < float((other == found["a"]).float().mean()) < 0.7


def matrices(rows, columns, ranks=(None, None), seed=0):
    """Random matrices, of these ranks where given, in float32."""
    draw = np.random.default_rng(seed)
    made = []
    for rank in ranks:
        if rank is None:
            made.append(draw.standard_normal((rows, columns)))
        else:
            made.append(draw.standard_normal((rows, rank)) @ draw.standard_normal((rank, columns)))
    return [torch.tensor(matrix, dtype=torch.float32) for matrix in made]


def plain_tsv(task, language):
    """As the paper writes it: truncate each to rank k / 2, put the factors side by side, replace
    each by P Qᵀ of its own decomposition P D Qᵀ, multiply. By decompositions of whole matrices."""
    rank = min(task.shape) // 2
    parts = [np.linalg.svd(m.double().numpy(), full_matrices=False) for m in (task, language)]
    sides = np.hstack([p[0][:, :rank] for p in parts]), np.hstack([p[2][:rank].T for p in parts])
    (pu, _, qu), (pv, _, qv) = (np.linalg.svd(side, full_matrices=False) for side in sides)
    return pu @ qu @ np.diag(np.concatenate([p[1][:rank] for p in parts])) @ (pv @ qv).T


def tsv(task, language):
    return merge({"a": task}, {"a": language}, tsv={})["a"]


@pytest.mark.parametrize("shape", [(6, 6), (9, 4), (4, 9), (7, 5), (2, 2), (40, 3)])
def test_tsv_is_the_product_of_whitened_factors_in_either_order(shape):
    task, language = matrices(*shape)
    found = tsv(task, language)
    # Gram matrices lose the square of a condition number, here below 2e4, of 16 digits; the result
    # is rounded to float32.
    bound = 2e-6 * float(found.abs().max())
    np.testing.assert_allclose(found, plain_tsv(task, language), rtol=0, atol=bound)
    np.testing.assert_allclose(tsv(language, task), found, rtol=0, atol=bound)


def test_tsv_of_vectors_without_a_common_direction_is_the_sum():
    task, language = torch.zeros(8, 8), torch.zeros(8, 8)
    task[:4, :4], language[4:, 4:] = matrices(4, 4)
    torch.testing.assert_close(tsv(task, language), task + language)


def test_tsv_leaves_a_matrix_of_low_rank_that_one_vector_has():
    """Components of noise, of zero matrices too, take no part in the whitening."""
    low, zero = matrices(8, 6, (2, 2))[0], torch.zeros(8, 6)
    for found in (tsv(low, zero), tsv(zero, low), merge({"a": low}, {}, tsv={})["a"]):
        torch.testing.assert_close(found, low)
    assert torch.equal(tsv(zero, zero), zero)


@pytest.mark.parametrize("shape", [(8, 6), (5, 9)])
def test_tsv_of_a_vector_with_itself_is_its_leading_half(shape):
    (matrix,) = matrices(*shape, ranks=(None,))
    u, s, v = np.linalg.svd(matrix.double().numpy(), full_matrices=False)
    rank = min(shape) // 2
    half = u[:, :rank] @ np.diag(s[:rank]) @ v[:rank]
    np.testing.assert_allclose(tsv(matrix, matrix), half, rtol=0, atol=2e-6 * s[0])


@pytest.mark.parametrize("shape", [(3,), (1, 4), (4, 1), (2, 2, 2)])
def test_tsv_averages_what_is_no_matrix(shape):
    found = tsv(torch.ones(shape), torch.zeros(shape))
    assert torch.equal(found, torch.full(shape, 0.5))


@pytest.mark.parametrize(
    ("swap", "expected"),
    [
        ({"bottom": 2, "top": 1}, "LLLTTTLL"),
        ({"bottom": 2, "top": 1, "transition": 1}, "LLLATALL"),
        ({"bottom": 1, "top": 1, "transition": 2}, "LLAAAALL"),
        ({"bottom": 0, "top": 2, "transition": 1}, "TTTTALLL"),
        ({"bottom": 3, "top": 0, "transition": 1}, "LLLLATTT"),
        ({"bottom": 0, "top": 0}, "TTTTTTTT"),
        ({"bottom": 6, "top": 0}, "LLLLLLLT"),
        ({"bottom": 3, "top": 3}, "LLLLLLLL"),
    ],
)
def test_layers_are_swapped_as_written(swap, expected):
    """Embeddings, six layers from the lowest, what stands above them: L, T, or their average A."""
    task, language = vectors()
    found = merge(task, language, layer_swap=swap)
    for name, letter in zip(NAMES, expected, strict=True):
        average = (task[name] + language[name]) / 2
        plain = {"T": task[name], "L": language[name], "A": average}[letter]
        assert torch.equal(found[name], plain), name


def test_a_tensor_of_one_vector_is_zero_in_the_other():
    task, language = {LAYERS[0]: torch.ones(3)}, {LAYERS[1]: torch.ones(2)}
    found = merge(task, language, layer_swap={"bottom": 1, "top": 0})
    assert found[LAYERS[0]].tolist() == [0, 0, 0] and found[LAYERS[1]].tolist() == [0, 0]


@pytest.mark.parametrize(
    "swap", [{"bottom": 4, "top": 3}, {"bottom": 2, "top": 1, "transition": 2}]
)
def test_more_layers_than_there_are_is_an_error(swap):
    with pytest.raises(ValueError, match="take 7 layers, but there are 6"):
        merge(*vectors(), layer_swap=swap)


def test_layers_are_inferred_from_the_names_of_any_architecture():
    share = language_share(LayerSwap(bottom=1, top=1), ["layers.11.mlp.Wi.weight"])
    assert [share(f"layers.{n}.attn.Wqkv.weight") for n in (0, 1, 10, 11)] == [1, 0, 0, 1]


def test_a_tensor_of_two_shapes_is_named():
    vectors_of_two = {"a": torch.ones(2)}, {"a": torch.ones(3)}
    with pytest.raises(ValueError, match=r"a: shape \(2,\) in the task's vector, \(3,\) in the"):
        merge(*vectors_of_two, dare={"density": 0.5})


@pytest.mark.parametrize(
    "way", [{"dare": {"density": 0.5}}, {"layer_swap": {"bottom": 1, "top": 1}}]
)
def test_a_tensor_is_read_when_it_is_asked_for(way):
    read = []

    def counted(vector):
        return Lazy(vector, lambda name: read.append(name) or vector[name])

    task, language = map(counted, vectors())
    found = merged(task, language, Combine(**way), seed=0)
    assert len(found) == len(NAMES) + 2 and EMBEDDINGS in found and "nothing" not in found
    assert read == []
    assert found[EMBEDDINGS].shape == (7, 5)
    assert read == [EMBEDDINGS] * 2
    with pytest.raises(KeyError):
        found["nothing"]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({}, "give exactly one of ties, dare, layer_swap, tsv; given: none"),
        ({"ties": {}, "dare": {"density": 0.5}}, "given: ties, dare"),
        ({"dare": {"density": 0}}, "greater than 0"),
        ({"ties": {"density": 1.1}}, "less than or equal to 1"),
        ({"layer_swap": {"bottom": -1, "top": 1}}, "greater than or equal to 0"),
        ({"layer_swap": {"bottom": 0, "top": 0, "transition": 1}}, "transition has no effect"),
    ],
)
def test_settings_without_a_meaning_are_refused(bad, message):
    with pytest.raises(ValueError, match=message):
        Combine(**bad)
