"""Training on several sources, each with its vector in the weights, against torch's own
functional calls of a model with other weights."""

import json
from collections import Counter

import pytest
import torch
from conftest import without_dropout
from safetensors.torch import load_file
from torch.nn.functional import cross_entropy
from training import (
    NEVER,
    assert_close,
    classifier,
    dense,
    differing,
    items,
    killed_and_resumed,
    plain_loop,
    save_mask,
    snapshot,
    task_settings,
    train_only,
    without_key_bias,
    write_data,
)

from deftx.cli.main import main
from deftx.core.parameters import backbone_parameters
from deftx.core.sparse_delta import SparseDelta
from deftx.engine.checkpoint import Checkpoint
from deftx.engine.fit import fit
from deftx.engine.job import prepare, session_of
from deftx.engine.session import Session
from deftx.engine.settings import Engine
from deftx.engine.steps import Steps
from deftx.engine.task import Classifying, classification_of_sources
from deftx.models.load import load_tokenizer
from deftx.models.predict import evaluate
from deftx.models.vectors import start_weights
from deftx.stages.mask.math import everything, uniform
from deftx.stages.sparse.run import Params

SIZES = (37, 20, 9)
SEEDS = {"order_seed": 1, "draw_seed": 2}
SPARSE = pytest.mark.parametrize("sparse", [False, True])


def task(base, sizes=SIZES, **changes):
    settings = task_settings(**{"evaluate_every": NEVER, **changes})
    train = [items(size, number) for number, size in enumerate(sizes)]
    return classification_of_sources(train, items(16, 9), load_tokenizer(base), settings), settings


def vector(base, seed):
    """A language's; normalisation layers, which never train, have entries too."""
    mask = uniform(base.shapes, 2000, seed)
    generator = torch.Generator().manual_seed(seed)
    index = mask.index
    values = {n: 0.05 * torch.randn(len(index[n]), generator=generator) for n in index}
    return SparseDelta(mask, values)


@pytest.fixture
def vectors(base):
    """Three sources, the second without a vector; the other two overlap."""
    first, third = vector(base, 1), vector(base, 2)
    both = first.mask.index.keys() & third.mask.index.keys()
    assert any((first.mask.dense(n) & third.mask.dense(n)).any() for n in both)
    return [first, None, third]


def model_for(base):
    return without_dropout(classifier(base))


def chosen(base, sparse):
    return uniform(base.maskable, 900, 0) if sparse else None


def source_of(example):
    return sum(example >= end for end in (37, 57))


# The order


@pytest.mark.parametrize("accumulation", [1, 3])
def test_an_epoch_has_every_example_once_in_portions_of_one_source(base, accumulation):
    """Each source comes up as often as it has portions, in an order that each epoch shuffles."""
    objective, settings = task(base, epochs=3, accumulation=accumulation)
    portions = [5, 3, 2]
    assert settings.steps_per_epoch(*SIZES) == -(-sum(portions) // accumulation)
    steps = Steps(objective, settings, **SEEDS)
    length = settings.steps_per_epoch(*SIZES)
    assert settings.steps(*SIZES) == 3 * length
    orders = []
    for epoch in range(3):
        seen, order = [], []
        for step in range(length):
            indices = steps._indices(epoch * length + step)
            sources = [source_of(i) for i in indices]
            if accumulation == 1:
                assert len(set(sources)) == 1
                order.append(sources[0])
            seen += indices
            assert len(indices) <= 8 * accumulation
        assert sorted(seen) == list(range(66))
        orders.append(order)
    if accumulation == 1:
        assert all(Counter(order) == {0: 5, 1: 3, 2: 2} for order in orders)
        assert len({tuple(order) for order in orders}) == 3


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("parts", [1, 4])
def test_batches_hold_one_source_each_and_together_the_examples_of_the_step(base, processes, parts):
    objective, settings = task(base, accumulation=3)
    for number in range(4):
        indices = Steps(objective, settings, **SEEDS)._indices(number)
        shares = [
            Steps(objective, settings, **SEEDS, share=(rank, processes)).step(number, parts)
            for rank in range(processes)
        ]
        assert all(share.labels == len(indices) for share in shares)
        limit = max(1, 8 // (processes * parts))
        found = []
        for share in shares:
            assert share.sources == sorted(share.sources)
            for source, batch in zip(share.sources, share.batches, strict=True):
                assert len(batch["input_ids"]) <= limit
                found += [(source, tuple(row[row != 1].tolist())) for row in batch["input_ids"]]
        expected = [
            (source_of(i), tuple(e["input_ids"].tolist()))
            for i, e in zip(indices, objective.examples(indices, 0), strict=True)
        ]
        assert sorted(found) == sorted(expected)


def test_a_step_does_not_depend_on_the_steps_before(base):
    objective, settings = task(base, epochs=3, accumulation=2)
    whole = Steps(objective, settings, **SEEDS)
    for number in range(settings.steps(*SIZES)):
        one, other = Steps(objective, settings, **SEEDS).step(number), whole.step(number)
        assert (one.sources, one.labels) == (other.sources, other.labels)
        for ours, theirs in zip(one.batches, other.batches, strict=True):
            assert not differing(ours, theirs)


def test_one_source_is_batched_as_without_sources(base):
    """Whether or not its language has a vector."""
    one, settings = task(base, sizes=(40,))
    assert one.sources == (40,) and settings.steps(*one.sources) == settings.steps(40) == 10
    steps = Steps(one, settings, order_seed=1, draw_seed=2)
    assert steps.step(0).sources == [0] * len(steps.step(0).batches)
    assert sorted(i for s in range(5) for i in steps._indices(s)) == list(range(40))


# The weights


def plain_training(base, objective, settings, vectors, mask=None):
    """Gradients through p + φ of the source by a functional call, dense and times the mask: only
    AdamW moves a weight."""
    model = model_for(base).double()
    backbone = {n: p for n, p in backbone_parameters(model).items() if n in base.maskable}
    differences = [dense(found, base.shapes) for found in vectors]
    steps = Steps(objective, settings, **SEEDS)

    def backward(number):
        step = steps.step(number)
        for source, batch in zip(step.sources, step.batches, strict=True):
            moved = {
                f"{model.base_model_prefix}.{name}": p + differences[source][name]
                for name, p in backbone_parameters(model).items()
            }
            labels = batch.pop("labels")
            logits = torch.func.functional_call(model, moved, (), batch).logits
            (cross_entropy(logits, labels, reduction="sum") / step.labels).backward()
        for name, parameter in backbone.items() if mask is not None else ():
            parameter.grad *= mask.dense(name) if name in mask.index else 0

    model.train()
    plain_loop(
        train_only(model, backbone.values()), settings, settings.steps(*objective.sources), backward
    )
    return model


@pytest.mark.rounding
@SPARSE
def test_training_is_a_plain_loop_through_the_sums_of_weights_and_vectors(base, vectors, sparse):
    """In float64; steps of several sources, and of one."""
    objective, settings = task(base, accumulation=2)
    mask = uniform(without_key_bias(base.maskable), 900, 0) if sparse else None
    ours = model_for(base).double()
    fit(ours, objective, settings, mask=mask, session=Session(**SEEDS), source_vectors=vectors)
    plain = plain_training(base, objective, settings, vectors, mask)
    assert_close(snapshot(ours), snapshot(plain))


@pytest.mark.rounding
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@SPARSE
def test_a_batch_sees_exactly_the_base_and_its_vector_and_nothing_drifts(
    base, vectors, sparse, precision, monkeypatch
):
    """Bits, in every batch of every step, validation included (with the first source's vector);
    afterwards those of the base. In bfloat16, too, vectors are added to float32 weights."""
    objective, settings = task(base, learning_rate=1e-300, evaluate_every=5, epochs=1)
    model = model_for(base)
    start = snapshot(model)
    bare = {n: p.detach().clone() for n, p in backbone_parameters(model).items()}
    expected = [{n: bare[n] + d for n, d in dense(v, base.shapes).items()} for v in vectors]
    seen = Counter()

    def look(learner):
        here = backbone_parameters(learner.model)
        (which,) = (
            number
            for number, weights in enumerate(expected)
            if not differing({name: here[name] for name in weights}, weights)
        )
        return which

    forward, validate = Classifying.forward, type(objective).validate

    def spied_forward(learner, *given, **more):
        seen[look(learner)] += 1
        return forward(learner, *given, **more)

    def spied_validate(objective, learner, device):
        seen["validation", look(learner)] += 1
        return validate(objective, learner, device)

    monkeypatch.setattr(Classifying, "forward", spied_forward)
    monkeypatch.setattr(type(objective), "validate", spied_validate)
    session = Session(engine=Engine(precision=precision))
    mask = chosen(base, sparse)
    fit(model, objective, settings, mask=mask, session=session, source_vectors=vectors)
    assert {0, 1, 2, ("validation", 0)} == set(seen)
    assert seen["validation", 0] == 2
    assert differing(snapshot(model), start) == set()


@SPARSE
def test_what_does_not_train_keeps_its_bits(base, vectors, sparse):
    """Under vectors that touch it, weight decay and dropout."""
    objective, settings = task(base, weight_decay=0.1, evaluate_every=3)
    model = classifier(base)
    start = {n: p.detach().clone() for n, p in backbone_parameters(model).items()}
    mask = uniform(base.maskable, 900, 0) if sparse else everything(base.maskable)
    fit(model, objective, settings, mask=mask if sparse else None, source_vectors=vectors)
    for name, parameter in backbone_parameters(model).items():
        moves = mask.dense(name) if name in mask.index else torch.zeros_like(parameter).bool()
        assert torch.equal(parameter[~moves], start[name][~moves]), name
    assert any(not torch.equal(p, start[n]) for n, p in backbone_parameters(model).items())


def test_the_best_checkpoint_is_that_with_the_vector_of_the_first_source(base, vectors):
    objective, settings = task(base, evaluate_every=2, learning_rate=3e-2, epochs=3)
    model, tokenizer = model_for(base), load_tokenizer(base)
    outcome = fit(model, objective, settings, source_vectors=vectors)
    with vectors[0].applied(model):
        found = evaluate(model, items(16, 9), tokenizer, 32)["macro_f1"]
    assert found == pytest.approx(outcome["best"]["macro_f1"])
    values = [entry["macro_f1"] for entry in outcome["history"]]
    assert outcome["best"]["macro_f1"] == max(values) > min(values)


@SPARSE
def test_interrupted_training_goes_on_with_the_same_bits(
    base, vectors, sparse, tmp_path, monkeypatch
):
    monkeypatch.setenv("DEFTX_CHECKPOINT_MINUTES", "0")

    def run(**given):
        objective, settings = task(base, accumulation=2, evaluate_every=2, epochs=1)
        model = classifier(base)
        outcome = fit(
            model, objective, settings, mask=chosen(base, sparse), source_vectors=vectors,
            session=Session(order_seed=1, **given),
        )  # fmt: skip
        return outcome, snapshot(model)

    outcome, weights = run()
    assert outcome["steps"] == 5
    again, resumed = killed_and_resumed(run, tmp_path / "m.safetensors", (1, 4))
    assert again == outcome and differing(resumed, weights) == set()


def test_there_is_a_vector_or_none_for_each_source(base, vectors):
    objective, settings = task(base)
    with pytest.raises(ValueError, match="2 source vectors for 3 sources"):
        fit(model_for(base), objective, settings, source_vectors=vectors[:2])


# The stages

TRAINING = "{learning_rate: 0.01, batch_size: 8, accumulation: 2, epochs: 1, max_length: 32}"


@pytest.fixture
def files(base, vectors, tmp_path):
    for name, count, seed in (("ind", 37, 0), ("ace", 20, 1), ("jav", 9, 2), ("valid", 16, 9)):
        write_data(tmp_path, items(count, seed), name)
    for name, found in zip(("ind", "ace", "jav"), vectors, strict=True):
        if found is not None:
            found.save(tmp_path / f"{name}.safetensors", base=base.identity, target=f"lang-{name}")
    save_mask(tmp_path / "mask.safetensors", chosen(base, True), base)
    return tmp_path


def command(base, files, stage, train=("ind", "ace", "jav"), vectors=("ind", "jav"), **options):
    given = {
        "target": "task-x", "classes": "[low, high]", "task": TRAINING, "start": "lt-sft",
        "sources": "[ind, ace, jav]", "with-vectors": "[ind, jav]", "base": base.folder,
        "valid": files / "valid.parquet", "out": files / f"{stage}/sft_model.safetensors",
    }  # fmt: skip
    if stage == "sparse":
        given |= {"method": "m", "mask": files / "mask.safetensors"}
    words = [stage, "--train", *(files / f"{name}.parquet" for name in train)]
    words += ["--source-vector", *(files / f"{name}.safetensors" for name in vectors)]
    for name, value in {**given, **options}.items():
        words += [f"--{name}", value]
    return [str(word) for word in words]


def test_the_stages_train_on_several_sources_and_leave_no_vector_behind(base, files, vectors):
    """θ1 and φ are relative to θ0, as training in memory gives them."""
    for stage in ("full", "sparse"):
        assert main(command(base, files, stage)) == 0
    found = SparseDelta.load(files / "sparse")
    params, inputs = (found.provenance[key] for key in ("params", "inputs"))
    assert params["sources"] == ["ind", "ace", "jav"] and params["with_vectors"] == ["ind", "jav"]
    assert set(inputs) == {
        "mask", "train.ind", "train.ace", "train.jav", "valid",
        "source_vector.ind", "source_vector.jav",
    }  # fmt: skip
    assert json.loads((files / "sparse/sft_config.json").read_text())["k"] == 900
    assert not (files / "sparse/README.md").exists()

    known = {name: params[name] for name in Params.model_fields if name in params}
    paths = [files / f"{name}.parquet" for name in ("ind", "ace", "jav")]
    made = Params(**known)
    model, objective = prepare(made, base, paths, files / "valid.parquet", None)
    assert objective.sources == SIZES
    with Checkpoint(files / "other.safetensors", {}) as state:
        session = session_of(made, "sparse", state)
        settings, mask = made.training, found.mask
        fit(model, objective, settings, mask=mask, session=session, source_vectors=vectors)
    weights, start = backbone_parameters(model), start_weights(base, None)
    for name, index in found.mask.index.items():
        phi = (weights[name].detach() - start[name]).view(-1)[index]
        assert torch.equal(found.values[name], phi), name
    theta1 = load_file(files / "full/sft_model.safetensors")
    for name in base.layer_norms:  # the vectors have entries of theirs
        assert torch.equal(theta1[name], start[name]), name


def test_a_single_file_needs_no_language(base, files):
    """And has the same bits with one, without a vector."""
    outs = []
    for sources in ("null", "[ind]"):
        out = files / f"one-{len(outs)}.safetensors"
        outs.append(out)
        words = command(
            base, files, "full", train=["ind"], vectors=[],
            **{"sources": sources, "with-vectors": "[]", "out": out},
        )  # fmt: skip
        assert main(words) == 0
    assert differing(*map(load_file, outs)) == set()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train": ["ind", "ace"]}, "2 training files, expected 3, one for each of ['ind', 'ace'"),
        ({"vectors": ["ind"]}, "1 source vectors, expected 2, one for each of ['ind', 'jav']"),
        ({"vectors": ["jav", "ind"]}, "the vector of lang-jav, expected that of lang-ind"),
        ({"sources": "null", "with-vectors": "[]", "vectors": []}, "`sources` must say their"),
        ({"sources": "[ind, ace, ind]"}, "sources: ind is there more than once"),
        ({"with-vectors": "[ind, mad]"}, "with_vectors: mad is none of the sources"),
        ({"sources": "[]", "with-vectors": "[]"}, "sources: no language"),
        ({"start-vector": "ind.safetensors"}, "a start vector and source vectors"),
    ],
)
def test_sources_that_do_not_fit_are_refused(base, files, changes, message, capsys):
    if "start-vector" in changes:
        changes = {"start-vector": files / changes["start-vector"]}
    for stage in ("full", "sparse"):
        assert main(command(base, files, stage, **changes)) == 1
        assert message in capsys.readouterr().err


def test_a_source_vector_of_another_base_is_refused(base, files, vectors, capsys):
    other = {**base.identity, "id": "other", "hash": "0" * 64}
    vectors[0].save(files / "ind.safetensors", base=other, target="lang-ind")
    assert main(command(base, files, "sparse")) == 1
    assert "ind.safetensors: made for base other@" in capsys.readouterr().err


def test_a_language_has_one_file(base, files, capsys):
    settings = "{batch_size: 8, max_length: 16, min_steps: 0, max_steps: 2}"
    words = [
        "full", "--base", base.folder, "--target", "lang-ind", "--language", settings,
        "--sources", "[ind, ace]", "--out", files / "x.safetensors",
        "--train", files / "ind.parquet", files / "ace.parquet",
    ]  # fmt: skip
    assert main([str(word) for word in words]) == 1
    assert "lang-ind: 2 training files, a language has one" in capsys.readouterr().err
