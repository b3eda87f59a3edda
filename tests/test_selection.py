"""Laws of choosing entries, against a plain sort."""

import re
from fractions import Fraction
from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deftx.core import ranking
from deftx.core.delta import Delta, only
from deftx.core.ranking import largest
from deftx.core.shares import largest_remainder
from deftx.core.sparse_delta import SparseDelta
from deftx.stages.denoise.math import decompose, denoise
from deftx.stages.denoise.settings import RankRule
from deftx.stages.mask.math import NOTHING, everything, top_k, top_k_in_groups, uniform


def plain_top_k(delta, k):
    """The k largest by magnitude, then name, then position: one sort in plain Python."""
    rows = [
        (-abs(value), name, position)
        for name in delta
        for position, value in enumerate(delta[name].reshape(-1).tolist())
    ]
    chosen = {}
    for _, name, position in sorted(rows)[:k]:
        chosen.setdefault(name, []).append(position)
    return {name: sorted(positions) for name, positions in chosen.items()}


def as_lists(mask):
    return {name: index.tolist() for name, index in mask.index.items()}


def random_delta(seed=0, ties=False):
    generator = torch.Generator().manual_seed(seed)
    shapes = {"b.weight": (7, 5), "a.weight": (4, 6), "a.bias": (6,)}
    delta = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    return {name: (value * 2).round() for name, value in delta.items()} if ties else delta


def moved(delta):
    return sum(int((value != 0).sum()) for value in delta.values())


DELTAS = given(
    k=st.integers(1, 40), seed=st.integers(0, 20), ties=st.booleans(), chunk=st.integers(1, 9)
)


@DELTAS
@settings(deadline=None)
def test_top_k_equals_plain_sort_however_it_is_cut_into_chunks(k, seed, ties, chunk):
    """Small enough that the bound rises often, and chunks begin and end inside of tensors."""
    delta = random_delta(seed, ties)
    if k <= moved(delta):
        expected = plain_top_k(delta, k)
        assert as_lists(top_k(delta, k)) == expected
        assert as_lists(top_k(dict(reversed(delta.items())), k)) == expected
        with mock.patch.object(ranking, "CPU_CHUNK", chunk):
            assert as_lists(top_k(delta, k)) == expected


@DELTAS
@settings(deadline=None)
def test_what_a_gpu_runs_is_what_the_cpu_runs(k, seed, ties, chunk):
    """The same steps, on tensors of PyTorch instead of arrays of NumPy."""
    delta = random_delta(seed, ties)
    if k <= moved(delta):
        stream = [delta[name].abs().reshape(-1) for name in sorted(delta)]
        candidates = ranking._Candidates(k, 0.0)
        for values in torch.cat(stream).split(chunk):
            candidates.add(values)
        position = candidates.best()
        assert isinstance(position, torch.Tensor)
        plain = [i for i, part in enumerate(stream) for _ in part]
        found = {}
        for p in position.tolist():
            name = sorted(delta)[plain[p]]
            found.setdefault(name, []).append(p - plain.index(plain[p]))
        assert found == plain_top_k(delta, k)


def test_every_tensor_is_read_once_and_asking_for_a_name_reads_none():
    """A difference of two files computes a tensor whenever it is read."""
    read = []

    class Counted(dict):
        def __getitem__(self, name):
            read.append(name)
            return super().__getitem__(name)

    after = random_delta()
    start = Counted({name: torch.zeros_like(value) for name, value in after.items()})
    delta = only(Delta.between(start, after), after)
    assert "a.bias" in delta and "c" not in delta and not read
    mask = top_k(delta, 20)
    for use in (
        lambda: top_k(delta, 20),
        lambda: top_k_in_groups(delta, 20, {r"a\.": 0.3, "b": 0.7}),
        lambda: SparseDelta.from_dense(delta, mask),
        lambda: list(decompose(delta, RankRule(rank=1))),
    ):
        read.clear()
        use()
        assert sorted(read) == sorted(after)


FOUR = {"a": torch.tensor([1.0, 0.0, -2.0, 0.0])}


@pytest.mark.parametrize(
    ("delta", "k", "message"),
    [
        (FOUR, 0, "k must be at least 1, got 0"),
        (FOUR, 3, "k is 3, but only 2 of 4 entries differ from zero"),
        (FOUR, 9, "k is 9, but there are only 4 entries"),
        ({}, 1, "only 0 entries"),
        (
            {"b": torch.ones(3), "a": torch.tensor([1.0, torch.inf])},
            1,
            "a: not all entries are fin",
        ),
        (
            {"b": torch.ones(3), "a": torch.tensor([1.0, torch.nan])},
            1,
            "a: not all entries are fin",
        ),
    ],
)
def test_what_cannot_be_chosen_is_refused(delta, k, message):
    with pytest.raises(ValueError, match=message):
        top_k(delta, k)


def test_one_group_is_lt_sft():
    delta = random_delta(3)
    assert as_lists(top_k_in_groups(delta, 20, {"": 1.0})) == as_lists(top_k(delta, 20))


@pytest.mark.parametrize("seed", range(5))
def test_observed_shares_of_lt_sft_give_lt_sft(seed):
    delta = random_delta(seed)
    reference = top_k(delta, 23)
    shares = {name: Fraction(len(reference.index.get(name, ())), 23) for name in sorted(delta)}
    assert as_lists(top_k_in_groups(delta, 23, shares)) == as_lists(reference)


def test_each_group_gets_its_share_pooled_inside():
    delta = random_delta(1)
    mask = top_k_in_groups(delta, 20, {r"a\.": 0.3, "b": 0.7})
    inside = {name: delta[name] for name in ("a.weight", "a.bias")}
    assert {n: v for n, v in as_lists(mask).items() if n != "b.weight"} == plain_top_k(inside, 6)
    assert len(mask.index["b.weight"]) == 14


@given(k=st.integers(1, 10**7), parts=st.lists(st.integers(1, 100), min_size=1, max_size=8))
def test_parts_sum_to_exactly_k_and_are_within_one(k, parts):
    shares = {str(i): Fraction(part, sum(parts)) for i, part in enumerate(parts)}
    found = largest_remainder(k, shares)
    assert sum(found.values()) == k
    assert all(abs(found[group] - k * share) < 1 for group, share in shares.items())


def test_the_papers_shares_give_whole_numbers():
    shares = {"embeddings": 0.02, "10": 0.02, "11": 0.02, "0-9": 0.94}
    parts = [283_116, 283_116, 283_115, 13_306_429]
    assert list(largest_remainder(14_155_776, shares).values()) == parts


@pytest.mark.parametrize(
    ("k", "shares", "message"),
    [
        (5, {"a": 0.5, "b": 0.4}, "shares sum to 0.9"),
        (5, {"a": 1.0}, "tensor b.weight belongs to no group"),
        (5, {"a": 0.5, "b": 0.3, "c": 0.2}, "group 'c' matches no tensor"),
        (22, {r"a\.bias": 20 / 22, "": 2 / 22}, r"group 'a\.bias': k is 20, but there are"),
    ],
)
def test_groups_that_do_not_fit_are_refused(k, shares, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        top_k_in_groups(random_delta(), k, shares)


SHAPES = {"b": (40, 30), "a": (100,)}


def test_uniform_draws_exactly_k_by_the_seed_whatever_the_order_of_tensors():
    reordered = dict(reversed(SHAPES.items()))
    first, again, other = (uniform(s, 65, n) for s, n in ((SHAPES, 1), (reordered, 1), (SHAPES, 2)))
    assert len(first) == 65
    assert as_lists(first) == as_lists(again) != as_lists(other)


def test_uniform_is_uniform():
    counts = torch.zeros(60)
    for seed in range(1, 2000):
        counts += uniform({"a": (60,)}, 6, seed).dense("a")
    # 1,999 draws at 1/10 each: mean 199.9, standard deviation 13.4; five of them are allowed.
    assert ((counts - 199.9).abs() < 67).all()


def removed(delta, mask):
    """The entries of a mask and their like as a plain sort without them: they have no value."""
    left = {name: value.clone() for name, value in delta.items()}
    for name, index in mask.index.items():
        left[name].view(-1)[index] = 0
    return left


@DELTAS
@settings(deadline=None)
def test_besides_a_mask_the_largest_of_all_others_are_chosen(k, seed, ties, chunk):
    """Chosen by another difference, so that what is left out are not just the largest."""
    first = 1 + seed % 30
    delta, chosen = random_delta(seed, ties), top_k(random_delta(seed + 100), first)
    left = removed(delta, chosen)
    if k <= moved(left):
        before = {name: value.clone() for name, value in delta.items()}
        with mock.patch.object(ranking, "CPU_CHUNK", chunk):
            mask = top_k(delta, k, besides=chosen)
        assert as_lists(mask) == plain_top_k(left, k)
        assert len(chosen | mask) == first + k
        assert all(torch.equal(delta[name], before[name]) for name in delta)


@given(cuts=st.lists(st.integers(1, 39), max_size=4, unique=True), ties=st.booleans())
@settings(deadline=None)
def test_rounds_over_one_difference_choose_what_one_round_does(cuts, ties):
    """Of magnitude, and drawn."""
    delta = random_delta(2, ties)
    shapes = {name: tuple(value.shape) for name, value in delta.items()}
    ends = [*sorted(cuts), 40]
    if moved(delta) >= 40:
        largest_ones = drawn = NOTHING
        for k in map(int.__sub__, ends, [0, *ends]):
            largest_ones |= top_k(delta, k, besides=largest_ones)
            drawn |= uniform(shapes, k, 5, besides=drawn)
        assert as_lists(largest_ones) == as_lists(top_k(delta, 40))
        assert as_lists(drawn) == as_lists(uniform(shapes, 40, 5))


GROUPS = {r"a\.w": 0.41, r"a\.b": 0.13, "b": 0.46}


@given(
    total=st.integers(3, 40),
    rounds=st.integers(1, 8),
    parts=st.lists(st.integers(1, 40), min_size=3, max_size=3),
)
@settings(deadline=None)
def test_rounds_in_groups_only_add_and_end_with_the_parts_of_one_round(total, rounds, parts):
    delta = {name: value.abs() + 1 for name, value in random_delta(4).items()}
    shares = {group: Fraction(part, sum(parts)) for group, part in zip(GROUPS, parts, strict=True)}
    final = largest_remainder(total, shares)
    if final[r"a\.b"] > 6 or final[r"a\.w"] > 24 or final["b"] > 35 or rounds > total:
        return
    mask = NOTHING
    for number in range(rounds):
        k = total * (number + 1) // rounds - len(mask)
        mask |= top_k_in_groups(delta, k, shares, besides=mask, total=total)
        assert len(mask) == total * (number + 1) // rounds
    assert as_lists(mask) == as_lists(top_k_in_groups(delta, total, shares))


def test_sharing_each_sum_out_anew_could_take_an_entry_away():
    """The Alabama paradox, which is why what is lacking is shared out instead."""
    shares = {"a": Fraction(6, 14), "b": Fraction(6, 14), "c": Fraction(2, 14)}
    assert largest_remainder(10, shares)["c"] == 2 and largest_remainder(11, shares)["c"] == 1
    delta = {name: torch.ones(20) for name in "abc"}
    ten = top_k_in_groups(delta, 10, shares)
    more = top_k_in_groups(delta, 1, shares, besides=ten, total=14)
    assert {n: len(i) for n, i in (ten | more).index.items()} == {"a": 5, "b": 4, "c": 2}


def test_what_is_chosen_already_is_not_there_to_be_chosen():
    delta = {"a": torch.ones(4), "b": torch.tensor([1.0, 0.0, 1.0])}
    chosen = top_k(delta, 2)
    with pytest.raises(ValueError, match="k is 5, but only 4 of 5 entries differ from zero"):
        top_k(delta, 5, besides=chosen)
    with pytest.raises(ValueError, match="k is 6, but there are only 5 entries"):
        uniform({"a": (4,), "b": (3,)}, 6, 0, besides=chosen)
    with pytest.raises(ValueError, match="group 'a': 2 entries are chosen already, its part is 1"):
        top_k_in_groups(delta, 2, {"a": 0.25, "b": 0.75}, besides=chosen)
    with pytest.raises(ValueError, match="at least 1 and at most 1, what is left of 3; got 2"):
        top_k_in_groups(delta, 2, {"a": 0.5, "b": 0.5}, besides=chosen, total=3)


def test_everything_is_everything():
    mask = everything({"a": (2, 3), "b": ()})
    assert as_lists(mask) == {"a": [0, 1, 2, 3, 4, 5], "b": [0]}


def test_largest_takes_zeros_if_it_must():
    assert largest(torch.tensor([0.0, 3.0, 0.0, -4.0]), 3).tolist() == [0, 1, 3]
    assert largest(torch.ones(3), 0).tolist() == []


@pytest.mark.rounding
def test_deft_x_at_full_rank_chooses_what_lt_sft_chooses():
    """Up to entries within rounding of the threshold; computed, not short-cut. Sums of 40 products
    of two rounded factors, whose norms are at most that of a row and 1."""
    start = {"w": torch.randn(60, 40), "b": torch.randn(40)}
    delta = Delta.between(start, {n: v + 0.01 * torch.randn_like(v) for n, v in start.items()})
    denoised = denoise(delta, rank=40, allow_full_rank=True)
    lt_sft, deft_x = top_k(delta, 300), top_k(denoised, 300)
    threshold = min(delta[n].reshape(-1)[i].abs().min() for n, i in lt_sft.index.items())
    rounding = 42 * torch.finfo(torch.float32).eps * delta["w"].norm(dim=1).max()
    for name in delta:
        differ = lt_sft.dense(name) ^ deft_x.dense(name)
        assert ((delta[name][differ].abs() - threshold).abs() <= 2 * rounding).all()
