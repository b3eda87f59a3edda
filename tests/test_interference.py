"""How vectors meet: each measure beside a count with plain sets and loops."""

from math import sqrt

import numpy as np
import pytest
import torch

from deftx.core.mask import Mask
from deftx.core.sparse_delta import SparseDelta
from deftx.report import interference
from deftx.report.interference import jaccard, meet, overlap, positions

SHAPES = {"a.weight": (6, 5), "b.bias": (7,), "c.weight": (400, 3)}


def draw_sparse(seed: int, names=tuple(SHAPES), share: float = 0.4) -> SparseDelta:
    """A vector with some values that are exactly 0."""
    generator = torch.Generator().manual_seed(seed)
    index, values = {}, {}
    for name in names:
        size = int(np.prod(SHAPES[name]))
        index[name] = torch.nonzero(torch.rand(size, generator=generator) < share).flatten()
        values[name] = torch.randn(len(index[name]), generator=generator)
        values[name][::5] = 0
    return SparseDelta(Mask(index, {name: SHAPES[name] for name in names}), values)


def draw_dense(seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    dense = {name: torch.randn(shape, generator=generator) for name, shape in SHAPES.items()}
    dense["c.weight"][7:] = 0
    return dense


def entries(vector) -> dict[tuple[str, int], float]:
    """(tensor, position) → value, of all entries that a vector has."""
    if isinstance(vector, SparseDelta):
        return {
            (name, int(place)): float(value)
            for name, index in vector.mask.index.items()
            for place, value in zip(index, vector.values[name], strict=True)
        }
    return {
        (name, place): float(value)
        for name, tensor in vector.items()
        for place, value in enumerate(tensor.flatten())
    }


def norm(values) -> float:
    return sqrt(sum(value * value for value in values))


VECTORS = {
    "sparse": (draw_sparse(0), draw_sparse(1)),
    "some tensors": (draw_sparse(2, ("a.weight",)), draw_sparse(3, ("a.weight", "b.bias"))),
    "nothing in common": (draw_sparse(4, ("a.weight",)), draw_sparse(5, ("b.bias",))),
    "unequal sizes": (draw_sparse(6, share=0.02), draw_sparse(7, share=0.9)),
    "dense": (draw_dense(0), draw_dense(1)),
    "sparse and dense": (draw_sparse(8), draw_dense(2)),
    "dense and sparse": (draw_dense(3), draw_sparse(9)),
}


@pytest.mark.rounding
@pytest.mark.parametrize("at_once", [7, 1 << 24])
@pytest.mark.parametrize("kind", VECTORS)
def test_every_measure_is_what_plain_loops_count(kind, at_once, monkeypatch):
    monkeypatch.setattr(interference, "AT_ONCE", at_once)
    language, task = VECTORS[kind]
    found, phi, psi = meet(language, task), entries(language), entries(task)
    shared = phi.keys() & psi.keys()
    both = [key for key in shared if phi[key] and psi[key]]
    assert found.shared == len(shared)
    assert found.overlap == pytest.approx(len(shared) / min(len(phi), len(psi)))
    opposite = sum(phi[key] * psi[key] < 0 for key in both)
    assert found.sign_conflict == (opposite / len(both) if both else None)
    assert found.interference == pytest.approx(
        norm(phi[key] for key in shared if psi[key]) / norm(psi.values())
    )
    assert found.norm_ratio == pytest.approx(norm(psi.values()) / norm(phi.values()))
    dot = sum(phi[key] * psi[key] for key in shared)
    assert found.cosine == pytest.approx(dot / norm(phi.values()) / norm(psi.values()))


def test_a_vector_of_zeros_has_no_ratio():
    zero = {name: torch.zeros(shape) for name, shape in SHAPES.items()}
    found = meet(zero, draw_dense(0))
    assert (found.norm_ratio, found.cosine, found.sign_conflict) == (None, None, None)
    assert found.interference == 0


@pytest.mark.parametrize("kind", [k for k in VECTORS if "dense" not in k])
def test_overlap_and_jaccard_are_those_of_sets(kind):
    masks = [vector.mask for vector in VECTORS[kind]]
    a, b = (set(entries(vector)) for vector in VECTORS[kind])
    first, second = (positions(mask, SHAPES) for mask in masks)
    assert overlap(first, second) == len(a & b) / min(len(a), len(b))
    assert overlap(second, first) == overlap(first, second)
    assert jaccard(first, second) == len(a & b) / len(a | b)
    assert jaccard(first, first) == 1


def test_positions_are_those_in_all_tensors_in_the_smallest_integers():
    shapes = {"a": (256,), "b": (257,), "c": (70_001,)}
    index = {"a": torch.tensor([0, 255]), "c": torch.tensor([0, 70_000])}
    found = positions(Mask(index, {name: shapes[name] for name in index}), shapes)
    assert found.tolist() == [0, 255, 513, 70_513]
    assert found.dtype == np.uint32
    assert positions(Mask({"a": index["a"]}, {"a": (256,)}), {"a": (256,)}).dtype == np.uint16


def test_an_empty_mask_overlaps_with_nothing():
    empty = positions(Mask({}, {}), SHAPES)
    assert overlap(empty, empty) is None
    assert jaccard(empty, empty) is None
