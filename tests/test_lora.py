"""Laws of the LoRA control, against a plain loop over W + (alpha / r) · BA without PEFT."""

import peft
import pytest
import torch
from conftest import without_dropout
from hypothesis import given
from hypothesis import strategies as st
from training import (
    CLASSES,
    NEVER,
    assert_close,
    batch_in_order,
    in_order,
    items,
    language,
    language_settings,
    plain_loop,
    task,
    task_settings,
    train_only,
    write_data,
)

from deftx.core.low_rank import DeltaFile
from deftx.core.parameters import head_of, head_parameters, matrices
from deftx.models.load import load_masked_lm
from deftx.models.vectors import dense_vector
from deftx.stages.compose.apply import add_dense
from deftx.stages.lora.run import Params, fit_factors, lora
from deftx.stages.lora.settings import Lora, largest_rank
from deftx.store.tensors import TensorFile


def products(factors):
    return {name: change.product() for name, change in factors.items()}


def some_logits(model):
    tokens = torch.arange(5, 29).view(2, 12)
    with torch.no_grad():
        return model.eval()(input_ids=tokens).logits


@pytest.mark.rounding
@pytest.mark.parametrize("kind", [language, task])
def test_the_product_is_the_change_that_the_trained_model_computes_with(base, kind, monkeypatch):
    seen, unload = [], peft.LoraModel.unload

    def look(tuner):
        seen.append(some_logits(model))
        return unload(tuner)

    monkeypatch.setattr(peft.LoraModel, "unload", look)
    model, objective, settings = kind(base)
    factors, _ = fit_factors(model.double(), objective, settings, rank=3, alpha=6.0)
    without = some_logits(model)
    add_dense(model, [products(factors)], {})
    assert_close({"logits": some_logits(model)}, {"logits": seen[0]})
    assert (without - seen[0]).abs().max() > 1e-3


@pytest.mark.rounding
def test_training_equals_a_plain_loop_over_the_sum(base, monkeypatch):
    """The product is put into the weights by hand in each step."""
    in_order(monkeypatch)
    changes = {"epochs": 1, "evaluate_every": NEVER}
    (model, objective, settings), (plain, *_), (still, *slow) = (
        task(base, learning_rate=rate, **changes) for rate in (1e-2, 1e-2, 1e-30)
    )
    models = [without_dropout(m).double() for m in (model, plain)]
    factors, _ = fit_factors(models[0], objective, settings, rank=2, alpha=3.0)
    start, _ = fit_factors(still.double(), *slow, rank=2, alpha=3.0)
    a = {name: change.right.clone() for name, change in start.items()}
    b = {name: torch.zeros_like(change.left) for name, change in start.items()}
    full = {id(p): name for name, p in plain.named_parameters()}
    matrix = {name: (full[id(p)], p.detach()) for name, p in matrices(plain).items()}

    def backward(step):
        moved = {full_name: w + 1.5 * b[n] @ a[n] for n, (full_name, w) in matrix.items()}
        batch = batch_in_order(objective, settings, step)
        torch.func.functional_call(plain.train(), moved, kwargs=batch).loss.backward()

    plain_loop(train_only(plain, [*a.values(), *b.values()]), settings, 8, backward)
    assert_close(products(factors), {name: 1.5 * b[name] @ a[name] for name in a})
    assert_close(head_parameters(model), head_parameters(plain))


def test_where_training_starts_follows_from_the_seed_alone(base):
    runs = []
    for seed, elsewhere in ((0, 1), (0, 2), (1, 1)):
        torch.manual_seed(elsewhere)
        factors, _ = fit_factors(*task(base, max_steps=1), rank=3, alpha=6.0, seed=seed)
        runs.append(factors)
    first, same, other = runs
    for name in first:
        assert torch.equal(first[name].right, same[name].right)
        assert not torch.equal(first[name].right, other[name].right)


@given(
    shapes=st.lists(st.tuples(st.integers(1, 50), st.integers(1, 50)), min_size=1, max_size=6),
    k=st.integers(1, 5000),
)
def test_the_largest_rank_is_the_last_that_fits(shapes, k):
    def parameters(rank):
        return sum(rows * rank + rank * columns for rows, columns in shapes)

    if k < parameters(1):
        with pytest.raises(ValueError, match=f"K is {k}, but LoRA of rank 1 has {parameters(1)}"):
            largest_rank(shapes, k)
    else:
        rank = largest_rank(shapes, k)
        assert parameters(rank) <= k < parameters(rank + 1)


def test_alpha_is_twice_the_rank_unless_given():
    assert Lora().alpha_of(8) == 16 and Lora(alpha=3).alpha_of(8) == 3


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data"), items(40))


def params(**changes):
    settings = task_settings(epochs=1)
    given_params = {"method": "lora", "target": "task-x", "classes": CLASSES, "task": settings}
    return Params(**{**given_params, **changes})


def made(base, data, out, **changes):
    file = "text" if "language" in changes else "labelled"
    valid = None if "language" in changes else data / "labelled.parquet"
    path = data / f"{file}.parquet"
    lora(params(**changes), base=base.folder, train=path, valid=valid, out=out)
    return TensorFile(out)


def test_the_stage_writes_a_difference_whose_parameters_fit_the_budget(base, data, tmp_path):
    file = made(base, data, tmp_path / "a.safetensors", budget=2500)
    outcome, model = file.provenance["outcome"], task(base)[0]
    factors = [name for name in file if not name.startswith("head.")]
    parameters = sum(file[name].numel() for name in factors)
    each = sum(sum(p.shape) for p in matrices(model).values())
    assert outcome["trained"] == parameters == outcome["rank"] * each
    assert parameters <= 2500 < parameters + each
    assert outcome["alpha"] == 2 * outcome["rank"]
    assert file.provenance["stage"] == "lora" and file.provenance["base"] == base.identity
    assert set(head_of(file)) == set(head_parameters(model))

    vector = dense_vector(file, base, None)
    assert isinstance(vector, DeltaFile) and set(vector) == set(matrices(model))
    for name in vector:
        assert torch.equal(vector[name], file[f"{name}.left"] @ file[f"{name}.right"])
        assert vector.rank(name) == outcome["rank"] and vector.spectrum(name) is None
        assert vector[name].any()


def test_the_stage_makes_the_same_bytes_again_and_others_for_another_target(base, data, tmp_path):
    paths = [tmp_path / f"{n}.safetensors" for n in range(3)]
    for path, target in zip(paths, ("task-x", "task-x", "task-y"), strict=True):
        made(base, data, path, lora=Lora(rank=1), target=target)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    name = "encoder.layer.0.output.dense.weight.right"
    assert not torch.equal(TensorFile(paths[0])[name], TensorFile(paths[2])[name])
    assert not (tmp_path / ".checkpoints").exists()


@pytest.mark.rounding
def test_a_language_has_factors_and_no_head(base, data, tmp_path):
    settings = language_settings(epochs=1)
    changes = {"classes": None, "task": None, "language": settings, "target": "lang-qaa"}
    file = made(base, data, tmp_path / "l.safetensors", lora=Lora(rank=2), **changes)
    assert head_of(file) == {}
    vector = dense_vector(file, base, None)
    assert set(vector) == set(matrices(load_masked_lm(base)))
    assert all(torch.linalg.matrix_rank(vector[name]) == 2 for name in vector)


def test_a_learning_rate_of_its_own_replaces_that_of_the_target(base, data, tmp_path):
    slow = task_settings(learning_rate=1e-5, epochs=1)
    expected = made(base, data, tmp_path / "a.safetensors", lora=Lora(rank=1))
    changes = {"task": slow, "learning_rate": 1e-2}
    found = made(base, data, tmp_path / "b.safetensors", lora=Lora(rank=1), **changes)
    assert found.content == expected.content


def test_a_budget_without_room_for_rank_1_is_an_error(base, data, tmp_path):
    with pytest.raises(ValueError, match="budget: K is 10, but LoRA of rank 1 has"):
        made(base, data, tmp_path / "a.safetensors", budget=10)


@pytest.mark.parametrize("given_params", [{}, {"budget": 900, "lora": Lora(rank=3)}])
def test_the_rank_has_one_source(given_params):
    with pytest.raises(ValueError, match=r"one of lora\.rank and budget"):
        params(**given_params)
