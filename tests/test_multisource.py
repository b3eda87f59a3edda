"""Training on several sources, each with its vector in the weights, against torch's own
functional calls of a model with other weights."""

import json
from collections import Counter

import pytest
import torch
from conftest import KillBefore, KillError, sentences, without_dropout
from safetensors.torch import load_file

from deftx.cli.main import main
from deftx.core.mask import mask_layout, mask_tensors
from deftx.core.parameters import backbone_parameters, layer_norm_names
from deftx.core.sparse_delta import SparseDelta
from deftx.engine.checkpoint import Checkpoint
from deftx.engine.fit import fit
from deftx.engine.session import Session
from deftx.engine.settings import Engine, TaskTraining
from deftx.engine.steps import Steps
from deftx.engine.task import Classifying, classification_of_sources
from deftx.models.load import load_classifier, load_tokenizer
from deftx.models.predict import evaluate
from deftx.models.vectors import start_weights
from deftx.stages.mask.math import everything, uniform
from deftx.store.items import write_items
from deftx.store.tensors import save_tensors

CLASSES = ["low", "high"]
SIZES = (37, 20, 9)
NEVER = 1e-300
"""A learning rate that moves no float32."""


def items(count, seed):
    lines = [line[: 12 + 7 * (i % 9)] for i, line in enumerate(sentences(count, seed))]
    return [{"id": str(i), "text": s, "label": int("la" in s)} for i, s in enumerate(lines)]


def task(base, sizes=SIZES, **changes):
    defaults = {"learning_rate": 1e-2, "batch_size": 8, "epochs": 2, "max_length": 32}
    settings = TaskTraining(**{**defaults, "evaluate_every": 1000, **changes})
    train = [items(size, number) for number, size in enumerate(sizes)]
    tokenizer = load_tokenizer(base)
    return classification_of_sources(train, items(16, 9), tokenizer, settings), settings


def vector(base, seed, k=2000):
    """Of a language; normalisation layers too, which never train."""
    mask = uniform(base.shapes, k, seed)
    generator = torch.Generator().manual_seed(seed)
    values = {
        name: 0.05 * torch.randn(len(index), generator=generator)
        for name, index in mask.index.items()
    }
    return SparseDelta(mask, values)


@pytest.fixture
def vectors(base):
    """Of three sources the second has none. They overlap."""
    first, third = vector(base, 1), vector(base, 2)
    assert any(
        set(first.mask.index[name].tolist()) & set(third.mask.index[name].tolist())
        for name in first.mask.index.keys() & third.mask.index.keys()
    )
    return [first, None, third]


def model_for(base):
    return without_dropout(load_classifier(base, CLASSES, seed=3))


def without_key_bias(base):
    """Its gradient is nothing but rounding, of which AdamW makes steps as large as any."""
    return {n: s for n, s in base.maskable.items() if not n.endswith("key.bias")}


def dense(found, base):
    """A vector as dense tensors over the backbone."""
    tensors = {name: torch.zeros(shape) for name, shape in base.shapes.items()}
    if found is not None:
        found.add_to(tensors)
    return tensors


def snapshot(model):
    return {name: p.detach().clone() for name, p in model.named_parameters()}


# The order


@pytest.mark.parametrize("accumulation", [1, 3])
def test_an_epoch_has_every_example_once_in_portions_of_one_source(base, accumulation):
    """Each source comes up as often as it has portions, in an order that each epoch shuffles."""
    objective, settings = task(base, epochs=3, accumulation=accumulation)
    portions = [5, 3, 2]
    assert settings.steps_per_epoch(*SIZES) == -(-sum(portions) // accumulation)
    steps = Steps(objective, settings, 0, order_seed=1, draw_seed=2)
    assert len(steps) == 3 * settings.steps_per_epoch(*SIZES)
    orders = []
    for epoch in range(3):
        seen, order = [], []
        for step in range(len(steps) // 3):
            indices = steps._indices(epoch * len(steps) // 3 + step)
            sources = [sum(i >= end for end in (37, 57)) for i in indices]
            runs = [indices[at : at + 8] for at in range(0, len(indices), 8)]
            if accumulation == 1:
                assert len(runs) == 1 and len(set(sources)) == 1
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
    given = {"order_seed": 1, "draw_seed": 2}
    for number in range(4):
        indices = Steps(objective, settings, 0, **given)._indices(number)
        shares = [
            Steps(objective, settings, 0, **given, share=(rank, processes)).step(number, parts)
            for rank in range(processes)
        ]
        assert all(share["labels"] == len(indices) for share in shares)
        limit = max(1, 8 // (processes * parts))
        found = []
        for share in shares:
            assert share["sources"] == sorted(share["sources"])
            for source, batch in zip(share["sources"], share["batches"], strict=True):
                assert len(batch["input_ids"]) <= limit
                found += [(source, tuple(row[row != 1].tolist())) for row in batch["input_ids"]]
        expected = [
            (sum(i >= end for end in (37, 57)), tuple(e["input_ids"].tolist()))
            for i, e in zip(indices, objective.examples(indices, 0), strict=True)
        ]
        assert sorted(found) == sorted(expected)


def test_a_step_does_not_depend_on_the_steps_before(base):
    objective, settings = task(base, epochs=3, accumulation=2)
    whole, later = (
        Steps(objective, settings, first, order_seed=1, draw_seed=2) for first in (0, 7)
    )
    for number in range(len(later)):
        one, other = later[number], whole[number + 7]
        assert one["sources"] == other["sources"] and one["labels"] == other["labels"]
        for ours, theirs in zip(one["batches"], other["batches"], strict=True):
            assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_one_source_is_batched_as_without_sources(base):
    """Whether or not its language has a vector."""
    one, settings = task(base, sizes=(40,))
    assert one.sources == (40,) and settings.steps(*one.sources) == settings.steps(40) == 10
    steps = Steps(one, settings, 0, order_seed=1, draw_seed=2)
    assert steps[0]["sources"] == [0] * len(steps[0]["batches"])
    assert sorted(i for s in range(5) for i in steps._indices(s)) == list(range(40))


# The weights


def plain_loop(base, objective, settings, vectors, mask=None):
    """Gradients through p + φ of the source, by a functional call: no weight is ever moved but by
    AdamW; dense, times the mask."""
    model = model_for(base)
    frozen = layer_norm_names(model)
    backbone = {n: p for n, p in backbone_parameters(model).items() if n not in frozen}
    prefix = model.base_model_prefix + "."
    head = {n: p for n, p in model.named_parameters() if not n.startswith(prefix)}
    trained = [*backbone.values(), *head.values()]
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    for parameter in trained:
        parameter.requires_grad_(True)
    differences = [dense(found, base) for found in vectors]
    steps = Steps(objective, settings, 0, order_seed=1, draw_seed=2)
    optimizer = torch.optim.AdamW(trained, lr=settings.learning_rate, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda s: max(0.0, 1 - s / len(steps)))
    model.train()
    first = None
    for step in steps:
        for source, batch in zip(step["sources"], step["batches"], strict=True):
            moved = {
                prefix + name: p + differences[source][name]
                for name, p in backbone_parameters(model).items()
            }
            labels = batch.pop("labels")
            logits = torch.func.functional_call(model, moved, (), batch).logits
            loss = torch.nn.functional.cross_entropy(logits, labels, reduction="sum")
            (loss / step["labels"]).backward()
        for name, parameter in backbone.items():
            if mask is not None:
                chosen = mask.index.get(name, torch.empty(0, dtype=torch.int64))
                kept = parameter.grad.view(-1)[chosen].clone()
                parameter.grad.zero_().view(-1)[chosen] = kept
        first = first or {n: p.grad.clone() for n, p in {**backbone, **head}.items()}
        torch.nn.utils.clip_grad_norm_(trained, settings.clip)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    return model, first


class FirstGradient:
    """The gradients that the first step of an optimiser sees."""

    def __init__(self, monkeypatch):
        self.found = None
        original = torch.optim.AdamW.step

        def step(optimizer, *given, **more):
            if self.found is None:
                (group,) = optimizer.param_groups
                self.found = [p.grad.clone() for p in group["params"]]
            return original(optimizer, *given, **more)

        monkeypatch.setattr(torch.optim.AdamW, "step", step)


@pytest.mark.parametrize("sparse", [False, True])
def test_training_is_a_plain_loop_through_the_sums_of_weights_and_vectors(
    base, vectors, sparse, monkeypatch
):
    """The gradient of the first step, and all weights at the end; steps of several sources, and of
    one."""
    objective, settings = task(base, accumulation=2, clip=1e9)
    mask = uniform(without_key_bias(base), 900, 0) if sparse else None
    seen = FirstGradient(monkeypatch)
    ours = model_for(base)
    session = Session(order_seed=1, draw_seed=2)
    fit(ours, objective, settings, mask=mask, session=session, source_vectors=vectors)
    gradient = torch.cat([g.flatten() for g in seen.found])
    monkeypatch.undo()
    plain, first = plain_loop(base, objective, settings, vectors, mask)
    if sparse:  # packed: word embeddings, then all others
        names = sorted(mask.index, key=lambda name: "word_embeddings" not in name)
        parts = [first.pop(name).view(-1)[mask.index[name]] for name in names]
        parts += [g for n, g in first.items() if n not in base.shapes]
    else:
        parts = list(first.values())
    expected = torch.cat([part.flatten() for part in parts])
    assert (gradient - expected).norm() <= 1e-6 * expected.norm()
    for (name, fast), slow in zip(ours.named_parameters(), plain.parameters(), strict=True):
        if not name.endswith("key.bias"):
            difference = float((fast - slow).detach().norm())
            assert difference <= 2e-5 * float(slow.detach().norm()), name


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("sparse", [False, True])
def test_a_batch_sees_exactly_the_base_and_its_vector_and_nothing_drifts(
    base, vectors, sparse, precision, monkeypatch
):
    """Bits, in every batch of every step, validation included (with the first source's vector);
    afterwards those of the base. In bfloat16, too, vectors are added to float32 weights."""
    objective, settings = task(base, learning_rate=NEVER, evaluate_every=5, epochs=1)
    model = model_for(base)
    start = snapshot(model)
    bare = {n: p.detach().clone() for n, p in backbone_parameters(model).items()}
    expected = [
        {n: bare[n] + d for n, d in dense(found, base).items()} if found else bare
        for found in vectors
    ]
    seen = Counter()

    def look(learner):
        here = backbone_parameters(learner.model)
        which = [
            number
            for number, weights in enumerate(expected)
            if all(torch.equal(here[n], w) for n, w in weights.items())
        ]
        assert len(which) == 1
        return which[0]

    forward, validate = Classifying.forward, type(objective).validate

    def spied_forward(learner, *given, **more):
        seen[look(learner)] += 1
        return forward(learner, *given, **more)

    def spied_validate(objective, learner, device):
        seen["validation", look(learner)] += 1
        return validate(objective, learner, device)

    monkeypatch.setattr(Classifying, "forward", spied_forward)
    monkeypatch.setattr(type(objective), "validate", spied_validate)
    fit(
        model,
        objective,
        settings,
        mask=uniform(base.maskable, 900, 0) if sparse else None,
        session=Session(engine=Engine(precision=precision)),
        source_vectors=vectors,
    )
    assert {0, 1, 2, ("validation", 0)} == set(seen)
    assert seen["validation", 0] == 2
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, start[name]), name


@pytest.mark.parametrize("sparse", [False, True])
def test_what_does_not_train_keeps_its_bits(base, vectors, sparse):
    """Under vectors that touch it, weight decay and dropout."""
    objective, settings = task(base, weight_decay=0.1, evaluate_every=3)
    model = load_classifier(base, CLASSES, seed=3)
    start = {n: p.detach().clone() for n, p in backbone_parameters(model).items()}
    mask = uniform(base.maskable, 900, 0) if sparse else everything(base.maskable)
    fit(model, objective, settings, mask=mask if sparse else None, source_vectors=vectors)
    for name, parameter in backbone_parameters(model).items():
        moves = mask.dense(name) if name in mask.index else torch.zeros_like(parameter).bool()
        assert torch.equal(parameter[~moves], start[name][~moves]), name
    assert any(not torch.equal(p, start[n]) for n, p in backbone_parameters(model).items())


@pytest.mark.parametrize("sparse", [False, True])
def test_one_source_with_its_vector_is_training_from_that_start(base, sparse):
    """φ = θ − θ0 here and θ − θs there. fl(fl(θ0 + x) + φs) and fl(fl(θ0 + φs) + x) differ by two
    roundings a step, which AdamW passes on: measured 6e-7 of the norm of what moved, bound 2e-5."""
    objective, settings = task(base, sizes=(40,))
    mask = uniform(without_key_bias(base), 900, 0) if sparse else None
    found = vector(base, 1)
    moved = []
    for started in (False, True):
        model = model_for(base)
        if started:
            found.add_to(backbone_parameters(model))
        start = snapshot(model)
        given = {} if started else {"source_vectors": [found]}
        outcome = fit(model, objective, settings, mask=mask, session=Session(order_seed=1), **given)
        moved.append(
            {
                n: p.detach() - start[n]
                for n, p in model.named_parameters()
                if not n.endswith("key.bias")
            }
        )
        moved[-1]["best"] = torch.tensor(outcome["best"]["macro_f1"])
    ours, theirs = moved
    assert ours.pop("best") == theirs.pop("best")
    difference = sum((ours[n] - theirs[n]).norm() ** 2 for n in theirs) ** 0.5
    length = sum(t.norm() ** 2 for t in theirs.values()) ** 0.5
    assert 0 < difference <= 2e-5 * length, float(difference / length)


def test_vectors_change_what_is_learned(base, vectors):
    objective, settings = task(base, epochs=0.5)
    ends = []
    for given in ((), vectors, [None, None, None]):
        model = model_for(base)
        fit(model, objective, settings, session=Session(order_seed=1), source_vectors=given)
        ends.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert torch.equal(ends[0], ends[2]) and not torch.equal(ends[0], ends[1])


def test_the_best_checkpoint_is_that_with_the_vector_of_the_first_source(base, vectors):
    objective, settings = task(base, evaluate_every=2, learning_rate=3e-2, epochs=3)
    model, tokenizer = model_for(base), load_tokenizer(base)
    outcome = fit(model, objective, settings, source_vectors=vectors)
    with vectors[0].applied(model):
        found = evaluate(model, items(16, 9), tokenizer, 32)["macro_f1"]
    assert found == pytest.approx(outcome["best"]["macro_f1"])
    values = [entry["macro_f1"] for entry in outcome["history"]]
    assert outcome["best"]["macro_f1"] == max(values) > min(values)


@pytest.mark.parametrize("sparse", [False, True])
def test_interrupted_training_goes_on_with_the_same_bits(
    base, vectors, sparse, tmp_path, monkeypatch
):
    monkeypatch.setenv("DEFTX_CHECKPOINT_MINUTES", "0")
    mask = uniform(base.maskable, 900, 0) if sparse else None

    def run(**given):
        objective, settings = task(base, accumulation=2, evaluate_every=2, epochs=1)
        model = load_classifier(base, CLASSES, seed=3)
        outcome = fit(
            model, objective, settings, mask=mask, session=Session(order_seed=1, **given),
            source_vectors=vectors,
        )  # fmt: skip
        return outcome, snapshot(model)

    expected, weights = run()
    assert expected["steps"] == 5
    for step in (1, 4):
        with (
            Checkpoint(tmp_path / "m.safetensors", {}) as checkpoint,
            pytest.raises(KillError),
        ):
            run(checkpoint=checkpoint, callbacks=[KillBefore(step)])
    with Checkpoint(tmp_path / "m.safetensors", {}) as checkpoint:
        outcome, resumed = run(checkpoint=checkpoint)
    assert outcome == expected
    assert all(torch.equal(weights[name], resumed[name]) for name in weights)


def test_there_is_a_vector_or_none_for_each_source(base, vectors):
    objective, settings = task(base)
    with pytest.raises(ValueError, match="2 source vectors for 3 sources"):
        fit(model_for(base), objective, settings, source_vectors=vectors[:2])


# The stages

TRAINING = "{learning_rate: 0.01, batch_size: 8, accumulation: 2, epochs: 1, max_length: 32}"


@pytest.fixture
def files(base, vectors, tmp_path):
    for name, count, seed in (("ind", 37, 0), ("ace", 20, 1), ("jav", 9, 2), ("valid", 16, 9)):
        rows = [{**item, "label": CLASSES[item["label"]]} for item in items(count, seed)]
        write_items(tmp_path / f"{name}.parquet", rows)
    for name, found in zip(("ind", "ace", "jav"), vectors, strict=True):
        if found is not None:
            found.save(tmp_path / f"{name}.safetensors", base=base.identity, target=f"lang-{name}")
    mask = uniform(base.maskable, 900, 0)
    save_tensors(
        tmp_path / "mask.safetensors", mask_tensors(mask), layout=mask_layout(mask),
        base=base.identity, stage="mask",
    )  # fmt: skip
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

    from deftx.engine.job import prepare, session_of
    from deftx.stages.sparse.run import Params

    known = {name: params[name] for name in Params.model_fields if name in params}
    paths = [files / f"{name}.parquet" for name in ("ind", "ace", "jav")]
    made = Params(**known)
    model, objective = prepare(made, base, paths, files / "valid.parquet", None)
    assert objective.sources == SIZES
    with Checkpoint(files / "other.safetensors", {}) as state:
        fit(
            model,
            objective,
            made.training,
            mask=found.mask,
            session=session_of(made, "sparse", state),
            source_vectors=vectors,
        )
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
    one, other = map(load_file, outs)
    assert all(torch.equal(one[name], other[name]) for name in one)


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
