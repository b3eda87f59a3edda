"""Laws of learned gates, against finite differences and plain loops."""

from functools import partial

import pytest
import torch
from conftest import sentences, without_dropout
from pydantic import ValidationError
from torch.func import functional_call
from training import (
    CLASSES,
    NEVER,
    assert_close,
    batch_in_order,
    classifier,
    differing,
    in_order,
    items,
    language_settings,
    plain_loop,
    snapshot,
    task,
    task_settings,
    train_only,
    write_data,
)
from transformers import (
    AlbertConfig,
    AlbertModel,
    BertConfig,
    BertModel,
    DistilBertConfig,
    DistilBertModel,
    ModernBertConfig,
    ModernBertModel,
)

from deftx.core.parameters import head_of, head_parameters, matrices
from deftx.engine.session import Session
from deftx.engine.task import classification
from deftx.models.backbone import base_weights
from deftx.models.load import load_classifier, load_masked_lm, load_tokenizer
from deftx.models.predict import evaluate, predict
from deftx.models.vectors import dense_vector
from deftx.stages.compose.apply import add_dense
from deftx.stages.gate import run as gate_stage
from deftx.stages.gate.math import FUNCTIONS as SQUASH
from deftx.stages.gate.math import block_of, gate_name, gate_values, initial_gates
from deftx.stages.gate.settings import Gate
from deftx.stages.gate.train import Gating, fit_gated, fit_gates, gated
from deftx.stages.gated import run as gated_stage
from deftx.store.errors import ArtefactError
from deftx.store.seeds import stream
from deftx.store.tensors import TensorFile, save_tensors

GRANULARITIES = pytest.mark.parametrize("granularity", ["entry", "matrix", "block"])
SESSION = Session(order_seed=1, draw_seed=2, dropout_seed=3)


def shapes(model):
    return {name: tuple(weight.shape) for name, weight in matrices(model).items()}


def random_gates(model):
    return {name: torch.rand(shape) for name, shape in shapes(model).items()}


def double(model):
    return without_dropout(model).double()


def plain_phase(model, objective, settings, trained, weights_of_step):
    """Train `trained`, parameters or a group of them, and the head; the model computes with the
    backbone's tensors that `weights_of_step()` gives."""
    group = trained if isinstance(trained, dict) else {"params": trained}
    train_only(model, group["params"])
    prefix = model.base_model_prefix

    def backward(step):
        weights = {f"{prefix}.{name}": tensor for name, tensor in weights_of_step().items()}
        batch = batch_in_order(objective, settings, step)
        functional_call(model, weights, kwargs=batch).loss.backward()

    model.train()
    groups = [group, {"params": list(head_parameters(model).values())}]
    plain_loop(groups, settings, settings.steps(len(objective)), backward)


# Gates


@pytest.mark.rounding
@GRANULARITIES
@pytest.mark.parametrize("function", ["sigmoid", "hard-sigmoid"])
def test_gradients_of_gates_are_finite_differences(base, granularity, function):
    gate = Gate(granularity=granularity, function=function, initial=1.5)
    model = classifier(base).double().eval()
    batch = load_tokenizer(base)(sentences(6), return_tensors="pt", padding=True)
    labels = torch.tensor([0, 1, 1, 0, 1, 0])
    learned = {
        name: torch.nn.Parameter(s.double() + 0.3 * torch.randn(s.shape, dtype=torch.float64))
        for name, s in initial_gates(shapes(model), gate).items()
    }
    squash = SQUASH[gate.function]
    gates = {name: Gating(learned[gate_name(name, gate)], squash) for name in shapes(model)}

    def loss():
        with gated(model, gates):
            return torch.nn.functional.cross_entropy(model(**batch).logits, labels)

    loss().backward()
    # The quotient is wrong by ε · loss / step < 1e-10 for rounding, and by step² = 1e-10 times the
    # third derivative.
    step = 1e-5
    for s in learned.values():
        place = int(s.grad.abs().argmax())  # of all entries the one with most to compare
        flat, found = s.detach().view(-1), []
        for change in (step, -2 * step):
            flat[place] += change
            found.append(loss().item())
        numeric = (found[0] - found[1]) / (2 * step)
        assert numeric != 0
        assert s.grad.view(-1)[place].item() == pytest.approx(numeric, rel=1e-4, abs=1e-10)
        flat[place] += step


@pytest.mark.rounding
def test_functions_are_those_of_their_formulas():
    s = torch.linspace(-8, 8, 33, dtype=torch.float64)
    for function, plain in (
        ("sigmoid", 1 / (1 + torch.exp(-s))),
        ("hard-sigmoid", (s / 6 + 0.5).clamp(0, 1)),
    ):
        found = gate_values({"a.gate": s}, ["a"], Gate(function=function, initial=0.0))
        assert_close(found, {"a": plain})


@pytest.mark.parametrize(("function", "initial"), [("hard-sigmoid", 4.0), ("sigmoid", -20.0)])
def test_gates_that_could_never_move_are_refused(function, initial):
    with pytest.raises(ValidationError, match=f"initial is {initial}: {function} is flat there"):
        Gate(function=function, initial=initial)
    slope = torch.full((), initial, requires_grad=True)
    values = gate_values({"a.gate": slope}, ["a"], Gate.model_construct(function=function))
    values["a"].backward()
    assert abs(slope.grad.item()) < 1e-8


TINY = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 24, "vocab_size": 30}
ENCODERS = {
    "bert": lambda: BertModel(BertConfig(**TINY, num_hidden_layers=3)),
    "modernbert": lambda: ModernBertModel(
        ModernBertConfig(**TINY, num_hidden_layers=3, pad_token_id=1)
    ),
    "distilbert": lambda: DistilBertModel(
        DistilBertConfig(dim=16, n_layers=3, n_heads=2, hidden_dim=24, vocab_size=30)
    ),
}


@pytest.mark.parametrize("name", ENCODERS)
def test_blocks_are_the_layers_of_any_architecture(name):
    """Blocks are inferred from names; they equal what the layers themselves hold."""
    model = ENCODERS[name]()
    found = {}
    for matrix in matrices(model):
        found.setdefault(block_of(matrix), set()).add(matrix)
    layers = next(m for m in model.modules() if isinstance(m, torch.nn.ModuleList) and len(m) == 3)
    linear = [{id(m.weight) for m in layer.modules() if type(m) is torch.nn.Linear}
              for layer in layers]  # fmt: skip
    ids = {matrix: id(weight) for matrix, weight in matrices(model).items()}
    assert [{ids[m] for m in found[block]} for block in sorted(found)] == linear


def test_a_matrix_outside_of_all_blocks_is_its_own_and_shared_layers_are_one():
    """ALBERT has both: one group of layers used several times, and a projection before it."""
    sizes = {**TINY, "embedding_size": 8, "num_hidden_layers": 3}
    model = AlbertModel(AlbertConfig(**sizes))
    projection = "encoder.embedding_hidden_mapping_in.weight"
    assert {block_of(name) for name in matrices(model)} == {
        projection,
        "encoder.albert_layer_groups.0",
    }


@GRANULARITIES
def test_gates_are_as_many_as_their_granularity_says(base, granularity):
    model = classifier(base)
    names, gate = shapes(model), Gate(granularity=granularity)
    learned = initial_gates(names, gate)
    expected = {
        "entry": {f"{name}.gate": shape for name, shape in names.items()},
        "matrix": {f"{name}.gate": () for name in names},
        "block": {f"encoder.layer.{i}.gate": () for i in (0, 1)},
    }[granularity]
    assert {name: tuple(s.shape) for name, s in learned.items()} == expected
    assert all(bool((s == 4.0).all()) for s in learned.values())


# Phases


@pytest.mark.rounding
@GRANULARITIES
def test_the_first_phase_equals_a_plain_loop_over_gates_and_head(base, monkeypatch, granularity):
    in_order(monkeypatch)
    gate = Gate(granularity=granularity, initial=2.0, learning_rate=5e-2)
    model, objective, settings = task(base, count=48, evaluate_every=NEVER)
    found, outcome = fit_gates(double(model), objective, settings, gate, SESSION)
    plain = double(classifier(base))
    weights = {name: p.detach() for name, p in matrices(plain).items()}
    learned = {n: s.double() for n, s in initial_gates(shapes(plain), gate).items()}

    def products():
        return {n: w * torch.sigmoid(learned[gate_name(n, gate)]) for n, w in weights.items()}

    group = {"params": list(learned.values()), "lr": gate.learning_rate}
    plain_phase(plain, objective, settings, group, products)
    assert outcome["trained"] == sum(s.numel() for s in found.values())
    if granularity == "block":  # one number for all of a block's matrices
        assert outcome["trained"] == 2
    moved = [{n: s.detach() - 2.0 for n, s in gates.items()} for gates in (found, learned)]
    assert all(m.abs().max() > 1e-3 for m in moved[1].values())
    assert_close(*moved)
    assert_close(head_parameters(model), head_parameters(plain))


@pytest.mark.rounding
@pytest.mark.parametrize("ones", [False, True])
def test_the_second_phase_equals_a_plain_loop_over_linear_layers_and_head(base, monkeypatch, ones):
    """With gates of 1 that is full fine-tuning of the linear layers alone. σ reaches 1 where
    hard-sigmoid is flat."""
    in_order(monkeypatch)
    model, objective, settings = task(base, count=48, evaluate_every=NEVER)
    gates = {name: gate.double() for name, gate in random_gates(model).items()}
    if ones:
        flat = {f"{n}.gate": torch.full(s, 9.0).double() for n, s in shapes(model).items()}
        gates = gate_values(flat, shapes(model), Gate(function="hard-sigmoid", initial=0.0))
    outcome = fit_gated(double(model), objective, settings, gates, SESSION)
    plain = double(classifier(base))
    weights = matrices(plain)
    assert outcome["trained"] == sum(w.numel() for w in weights.values())

    def products():
        return {} if ones else {n: w * gates[n] for n, w in weights.items()}

    plain_phase(plain, objective, settings, list(weights.values()), products)
    with torch.no_grad():
        for name, weight in weights.items():
            weight.mul_(gates[name])
    assert_close(snapshot(model), snapshot(plain))
    start = snapshot(double(classifier(base)))
    full_names = {f"roberta.{name}" for name in weights}
    assert differing(snapshot(model), start) == full_names | set(head_parameters(model))


def test_the_best_checkpoint_of_the_gated_model_is_what_its_weights_are_after_it(base):
    """A learning rate that destroys the model late: the end is not the best."""
    model, *given = task(base, count=48, valid=40, epochs=3, evaluate_every=1, learning_rate=0.05)
    outcome = fit_gated(model, *given, random_gates(model), SESSION)
    values = [entry["macro_f1"] for entry in outcome["history"]]
    assert outcome["best"]["macro_f1"] == max(values) > values[-1]
    found = evaluate(model, items(40, 1), load_tokenizer(base), 32)
    assert found["macro_f1"] == pytest.approx(max(values))


def test_gates_that_do_not_fit_are_named(base):
    model, objective, settings = task(base)
    gates = random_gates(model)
    name = "encoder.layer.1.output.dense.weight"
    with pytest.raises(ArtefactError, match=rf"{name}: the gate has shape \(2,\), expected \(32"):
        fit_gated(model, objective, settings, {**gates, name: torch.ones(2)})
    del gates[name]
    with pytest.raises(ArtefactError, match=f"{name}: there is no gate for this matrix"):
        fit_gated(model, objective, settings, gates)


# Stages


@pytest.fixture
def files(tmp_path):
    return write_data(tmp_path, items(60))


TASK = task_settings(epochs=1)
TARGETS = {
    "task": {"target": "task-x", "classes": CLASSES, "task": TASK},
    "language": {"target": "lang-qaa", "language": language_settings(epochs=1)},
}


def run(files, base, kind="task", gate=None, expected=None, folder="", **changes):
    """Run both stages of a target; the paths of the gates and of the vector."""
    given, gate = TARGETS[kind], gate or Gate()
    data = files / ("labelled.parquet" if kind == "task" else "text.parquet")
    paths = {"base": base.folder, "train": data, "valid": data if kind == "task" else None}
    first, second = (files / folder / f"{kind}-{s}.safetensors" for s in ("gate", "gated"))
    gate_stage.gate(gate_stage.Params(**given, method="ada-sft", gate=gate), **paths, out=first)
    params = gated_stage.Params(**given, method="ada-sft", gate=expected or gate, **changes)
    gated_stage.gated(params, **paths, gates=first, out=second)
    return first, second


@pytest.mark.rounding
@pytest.mark.parametrize("granularity", ["entry", "block"])
def test_the_vector_on_the_start_weights_gives_the_logits_of_the_gated_model(
    files, base, granularity
):
    """The gated model trained again by hand, through the library, from the same start."""
    gate = Gate(granularity=granularity, initial=1.0)
    first, second = run(files, base, gate=gate)
    learned, vector = TensorFile(first), TensorFile(second)
    head = stream(0, "task-x", "head")
    model, other = (load_classifier(base, CLASSES, head) for _ in range(2))
    delta = dense_vector(vector, base, None)
    assert set(delta) == set(matrices(model)) and len(delta) == 12
    add_dense(model, [delta], head_of(vector))
    objective = classification(items(60), items(60), load_tokenizer(base), TASK)
    seed = partial(stream, 0, "task-x", "gated")
    seeds = {"order_seed": seed("order"), "draw_seed": seed("masks")}
    session = Session(**seeds, dropout_seed=seed("dropout"))
    gates = gate_values(learned, shapes(other), gate)
    assert gate_name("encoder.layer.0.output.dense.weight", gate) in learned
    outcome = fit_gated(other, objective, TASK, gates, session)
    assert outcome == vector.provenance["outcome"]
    tokenizer = load_tokenizer(base)
    found, expected = (predict(m, items(60), tokenizer, 32) for m in (model, other))
    plain = predict(load_classifier(base, CLASSES, head), items(60), tokenizer, 32)
    assert (expected - plain).abs().max() > 0.1
    # The weights differ by two roundings, one of the vector and one of its sum with the start: of
    # the logits' change that is about 1e-6.
    start, ours = base_weights(base), matrices(model)
    for name, weight in matrices(other).items():
        parts = delta[name].abs() + start[name].abs()
        assert ((ours[name] - weight).abs() <= torch.finfo(torch.float32).eps * parts).all(), name
    assert (found - expected).norm() < 1e-3 * (expected - plain).norm()
    assert differing(head_of(vector), head_parameters(other)) == set()


def test_a_vector_of_a_language_has_the_linear_layers_and_no_head(files, base):
    first, second = run(files, base, "language", Gate(granularity="block"))
    learned, vector = TensorFile(first), TensorFile(second)
    assert list(learned) == ["encoder.layer.0.gate", "encoder.layer.1.gate"]
    names = set(shapes(load_masked_lm(base)))
    assert set(vector) == names == set(dense_vector(vector, base, None))
    assert all(t.dtype == torch.float32 and bool(t.any()) for t in vector.values())
    for file, stage, trained in ((learned, "gate", 2), (vector, "gated", 14336)):
        facts = file.provenance
        assert (facts["stage"], facts["method"], facts["target"]) == (stage, "ada-sft", "lang-qaa")
        assert facts["base"] == base.identity and facts["params"]["gate"]["granularity"] == "block"
        assert facts["outcome"]["trained"] == trained
        assert facts["outcome"]["best_step"] and len(facts["inputs"]["train"]) == 64
    assert vector.provenance["inputs"]["gates"] == learned.content


@pytest.mark.rounding
def test_the_vector_of_weights_that_do_not_move_is_the_gates_alone(files, base):
    """θs ⊙ M − θs, with steps too small to be seen."""
    first, second = run(files, base, gate=Gate(granularity="matrix"), learning_rate=1e-20)
    learned, vector = TensorFile(first), TensorFile(second)
    found = dict(dense_vector(vector, base, None))
    start = {name: base_weights(base)[name] for name in found}
    gates = {name: torch.sigmoid(learned[f"{name}.gate"]) for name in found}
    assert not differing(found, {n: start[n] * gates[n] - start[n] for n in found})


def test_same_parameters_same_bytes(files, base):
    for one, other in zip(run(files, base), run(files, base, folder="again"), strict=True):
        assert one.read_bytes() == other.read_bytes()
    assert not list(files.rglob(".checkpoints"))


def test_gates_of_another_base_or_of_other_settings_are_refused(files, base):
    with pytest.raises(
        ArtefactError, match=r"task-gate\.safetensors: gates of granularity 'block', expected .*'en"
    ):
        run(files, base, gate=Gate(granularity="block"), expected=Gate())
    learned = TensorFile(files / "task-gate.safetensors")
    facts = {k: v for k, v in learned.provenance.items() if k not in ("format", "version")}
    params = gated_stage.Params(**TARGETS["task"], method="m", gate=Gate(granularity="block"))

    def refused(match, **changed):
        other = files / "other.safetensors"
        save_tensors(other, learned, **{**facts, **changed})
        with pytest.raises(ArtefactError, match=match):
            gated_stage.gated(
                params, base=base.folder, gates=other, train=files / "labelled.parquet",
                valid=files / "labelled.parquet", out=files / "out.safetensors",
            )  # fmt: skip

    refused("made for base mini@None", base={"id": "mini", "revision": None, "hash": "0" * 64})
    refused("expected a gate artefact, this is of stage mask", stage="mask")
    with pytest.raises(ArtefactError, match="expected a vector, this file of stage gate holds no"):
        dense_vector(learned, base, None)
