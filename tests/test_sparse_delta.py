"""Laws of sparse vectors: sums, applying, undoing, saving."""

import pytest
import torch
from training import classifier, differing, snapshot
from training import dense as dense_over

from deftx.core.delta import Delta
from deftx.core.mask import Mask, mask_layout, mask_tensors
from deftx.core.parameters import backbone_parameters, head_parameters
from deftx.core.sparse_delta import SparseDelta
from deftx.models.vectors import dense_vector, kind_of, read_vector
from deftx.stages.mask.math import uniform
from deftx.store.errors import ArtefactError
from deftx.store.tensors import TensorFile, save_tensors

SHAPES = {"a": (6, 5), "b": (7,)}


def vector(seed, head=None, k=12, shapes=SHAPES):
    mask = uniform(shapes, k, seed)
    generator = torch.Generator().manual_seed(seed)
    values = {n: torch.randn(len(i), generator=generator) for n, i in mask.index.items()}
    return SparseDelta(mask, values, head or {})


def dense(phi):
    return dense_over(phi, SHAPES)


def test_a_vector_is_the_difference_at_its_mask():
    start = {name: torch.randn(shape) for name, shape in SHAPES.items()}
    after = {name: weight + 1 for name, weight in start.items()}
    mask = uniform(SHAPES, 9, 0)
    delta = Delta.between(start, after)
    phi = SparseDelta.from_dense(delta, mask)
    for name in SHAPES:
        expected = torch.where(mask.dense(name), delta[name], torch.zeros(()))
        assert torch.equal(dense(phi)[name], expected)


def test_the_sum_is_the_sum_of_the_dense_vectors_in_either_order():
    left, right = vector(1), vector(2)
    for total in (left + right, right + left):
        for name in SHAPES:
            assert torch.equal(dense(total)[name], dense(left)[name] + dense(right)[name])


def test_sum_added_once_equals_one_after_the_other_to_one_ulp():
    base = {name: torch.randn(shape) for name, shape in SHAPES.items()}
    left, right = vector(1), vector(2)
    once = {name: weight.clone() for name, weight in base.items()}
    (left + right).add_to(once)
    twice = {name: weight.clone() for name, weight in base.items()}
    left.add_to(twice)
    right.add_to(twice)
    for name in SHAPES:
        largest = torch.stack([once[name], twice[name], base[name], dense(left)[name]]).abs().max(0)
        ulp = torch.nextafter(largest.values, torch.tensor(torch.inf)) - largest.values
        assert ((once[name] - twice[name]).abs() <= ulp).all()


def test_scale_multiplies_values_and_not_the_head():
    phi = 0.5 * vector(1, {"h": torch.ones(2)})
    assert torch.equal(dense(phi)["a"], 0.5 * dense(vector(1))["a"])
    assert torch.equal(phi.head["h"], torch.ones(2))


def test_two_heads_two_bases_and_two_shapes_do_not_add():
    with pytest.raises(ValueError, match="both vectors carry a head"):
        vector(1, {"h": torch.ones(2)}) + vector(2, {"h": torch.ones(2)})
    bases = [SparseDelta(Mask({}, {}), {}, {}, {"base": {"hash": h}}) for h in ("x", "y")]
    with pytest.raises(ArtefactError, match="vectors of different bases: x and y"):
        bases[0] + bases[1]
    other = vector(2, shapes={"a": (5, 6), "b": (7,)})
    with pytest.raises(ArtefactError, match=r"a has shape \(6, 5\), in the model \(5, 6\)"):
        vector(1) + other


def test_save_load_round_trip_is_bitwise(tmp_path):
    phi = vector(3, {"classifier.bias": torch.randn(4)})
    phi.save(tmp_path / "sft_model.safetensors", stage="sparse", seed=3)
    for path in (tmp_path, tmp_path / "sft_model.safetensors"):
        loaded = SparseDelta.load(path)
        assert loaded.provenance["k"] == len(loaded) == 12
        assert torch.equal(loaded.head["classifier.bias"], phi.head["classifier.bias"])
        for name in phi.mask.index:
            assert torch.equal(loaded.mask.index[name], phi.mask.index[name])
            assert torch.equal(loaded.values[name], phi.values[name])


@pytest.mark.parametrize("wrong", [torch.ones(11), torch.ones(12, dtype=torch.float16)])
def test_values_of_another_number_or_type_are_refused(tmp_path, wrong):
    phi = vector(3, k=12, shapes={"a": (6, 5)})
    path = tmp_path / "sft_model.safetensors"
    tensors = {**mask_tensors(phi.mask), "a.values": wrong}
    save_tensors(path, tensors, layout=mask_layout(phi.mask))
    with pytest.raises(ArtefactError, match=r"a\.values is torch\.float.*expected torch\.float32"):
        SparseDelta.load(path)


@pytest.fixture
def model(base):
    return classifier(base)


def model_vector(model, seed=0):
    shapes = {n: tuple(p.shape) for n, p in backbone_parameters(model).items()}
    head = {n: torch.randn_like(p) for n, p in head_parameters(model).items()}
    return vector(seed, head, 500, shapes)


def test_applied_restores_bits_even_after_an_error(model):
    before, phi = snapshot(model), model_vector(model)

    with phi.applied(model):
        changed = sum(int((before[n] != p).sum()) for n, p in model.named_parameters())
        assert changed >= 500
    with pytest.raises(ZeroDivisionError), phi.applied(model):
        1 / 0  # noqa: B018
    assert differing(snapshot(model), before) == set()


def test_a_vector_that_does_not_fit_changes_nothing(model):
    before = snapshot(model)
    strange = SparseDelta(
        Mask({"encoder.none": torch.tensor([0])}, {"encoder.none": (1,)}),
        {"encoder.none": torch.ones(1)},
    )
    wrong_head = SparseDelta(Mask({}, {}), {}, {"classifier.out_proj.bias": torch.ones(9)})
    for wrong, message in (
        (strange, r"the model has no tensor encoder\.none"),
        (wrong_head, r"classifier\.out_proj\.bias has shape \(9,\)"),
    ):
        with pytest.raises(ArtefactError, match=message), wrong.applied(model):
            pass
    assert differing(snapshot(model), before) == set()


def test_a_file_is_read_by_what_it_holds_and_a_new_family_needs_no_edit(base, tmp_path):
    name, shape = next(iter(base.maskable.items()))
    delta = torch.randn(shape)
    mask = uniform({name: shape}, 5, 0)
    facts = {"base": base.identity, "target": "lang-qaa"}
    sparse, other, adapter, gate = (
        tmp_path / f"{kind}.safetensors" for kind in ("sparse", "other", "adapter", "gate")
    )
    vector = SparseDelta.from_dense({name: delta}, mask)
    vector.save(sparse, stage="sparse", **facts)
    save_tensors(other, {name: delta, "head.x": torch.ones(1)}, stage="a-new-family", **facts)
    for path, stage in ((adapter, "adapter"), (gate, "gate")):
        save_tensors(path, {"layers.0.up.bias": torch.ones(2)}, stage=stage, **facts)
    assert kind_of(TensorFile(sparse)) == "sparse" and kind_of(TensorFile(adapter)) == "modules"
    found = read_vector(TensorFile(sparse), base)
    assert isinstance(found, SparseDelta) and len(found) == 5
    dense = dense_vector(TensorFile(sparse), base)
    assert list(dense) == [name] and torch.equal(dense[name], delta * mask.dense(name))
    assert dict(read_vector(TensorFile(other), base)).keys() == {name}
    assert torch.equal(read_vector(TensorFile(other), base)[name], delta)
    for path in (adapter, gate):
        with pytest.raises(ArtefactError, match=f"this file of stage {path.stem} holds no diff"):
            read_vector(TensorFile(path), base)
    save_tensors(other, {name: delta}, stage="a-new-family", base={"id": "x", "hash": "0" * 64})
    with pytest.raises(ArtefactError, match="made for base x"):
        read_vector(TensorFile(other), base)
