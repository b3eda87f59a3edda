"""Laws of training, against plain loops over dense tensors."""

import numpy as np
import pytest
import torch
from conftest import sentences, without_dropout
from transformers import TrainerCallback

from deftx.core.parameters import backbone_parameters, head_parameters, layer_norm_names
from deftx.engine.fit import fit
from deftx.engine.guards import L1
from deftx.engine.language import masked_language_modelling
from deftx.engine.masked_tokens import decoder_loss
from deftx.engine.session import Session
from deftx.engine.settings import LanguageTraining, TaskTraining
from deftx.engine.sparse import PackedEntries
from deftx.engine.task import classification
from deftx.models.load import load_classifier, load_masked_lm, load_tokenizer
from deftx.stages.mask.math import uniform

CLASSES = ["low", "high"]


def items(count, seed):
    lines = sentences(count, seed)
    return [{"id": str(i), "text": s, "label": int("la" in s)} for i, s in enumerate(lines)]


@pytest.fixture
def tokenizer(base):
    return load_tokenizer(base)


def task_settings(**changes):
    defaults = {"learning_rate": 1e-2, "batch_size": 8, "epochs": 2, "max_length": 32}
    return TaskTraining(**{**defaults, **changes})


def maskable(model):
    frozen = layer_norm_names(model)
    return {n: tuple(p.shape) for n, p in backbone_parameters(model).items() if n not in frozen}


def snapshot(model):
    return {name: p.detach().clone() for name, p in model.named_parameters()}


SEEDS = Session(order_seed=1, draw_seed=5, dropout_seed=2)


def assert_equal_to_rounding(ours, plain, name="", relative=1e-10):
    """In float64, relative to the norm of the tensor: single entries that nearly cancel have no
    digits to compare."""
    assert ours.dtype == plain.dtype == torch.float64
    ours, plain = ours.detach(), plain.detach()
    assert float((ours - plain).norm()) <= relative * float(plain.norm()) + 1e-12, name


def without_gradient(name):
    """Softmax does not see the bias of keys: its gradient is rounding, of which AdamW makes steps
    as large as any."""
    return name.endswith("key.bias")


def plain_sparse_loop(model, objective, settings, mask):
    """Dense gradients times the mask, AdamW, clipping, linear decay: the slow way, float32."""
    backbone, head = backbone_parameters(model), head_parameters(model)
    dense = {n: mask.dense(n) for n in mask.index}
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    trained = [backbone[n].requires_grad_(True) for n in sorted(dense)]
    trained += [p.requires_grad_(True) for p in head.values()]
    optimizer = torch.optim.AdamW(trained, lr=settings.learning_rate, weight_decay=0.0)
    steps = settings.steps(len(objective))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda s: max(0.0, 1 - s / steps))
    model.train()
    step = 0
    while step < steps:
        for first in range(0, len(objective), settings.batch_size):
            few = range(first, min(first + settings.batch_size, len(objective)))
            batch = objective.collate(objective.examples(few, seed=0))
            model(**batch).loss.backward()
            for name, chosen in dense.items():
                backbone[name].grad *= chosen
            torch.nn.utils.clip_grad_norm_(trained, settings.clip)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            step += 1


@pytest.fixture
def in_order(monkeypatch):
    """Examples in the order they have, so that a plain loop can follow."""
    monkeypatch.setattr("deftx.engine.steps._order", lambda examples, seed: torch.arange(examples))


def test_sparse_training_equals_plain_loop_with_masked_gradients(base, tokenizer, in_order):
    settings = task_settings(evaluate_every=1000)
    objective = classification(items(32, 1), items(8, 2), tokenizer, settings)
    models = [without_dropout(load_classifier(base, CLASSES, seed=3)).double() for _ in range(2)]
    shapes = {n: s for n, s in maskable(models[0]).items() if not without_gradient(n)}
    mask = uniform(shapes, 700, 0)
    fit(models[0], objective, settings, mask=mask, session=SEEDS)
    plain_sparse_loop(models[1], objective, settings, mask)
    for (name, fast), slow in zip(
        models[0].named_parameters(), models[1].parameters(), strict=True
    ):
        assert_equal_to_rounding(fast, slow, name)


def test_packed_adamw_has_the_bits_of_masked_dense_adamw(base):
    """Given equal gradients: random ones."""
    fast, slow = load_masked_lm(base), load_masked_lm(base)
    shapes = maskable(fast)
    mask = uniform(shapes, 500, 0)
    for parameter in fast.parameters():
        parameter.requires_grad_(False)
    packed = PackedEntries(fast, mask)
    dense = backbone_parameters(slow)
    trained = {name: dense[name] for name in mask.index}
    optimizers = [
        torch.optim.AdamW([packed.values, packed.rows], lr=1e-2, weight_decay=0.0),
        torch.optim.AdamW(trained.values(), lr=1e-2, weight_decay=0.0),
    ]
    words = "embeddings.word_embeddings.weight"
    for _ in range(20):
        gradients = {name: torch.randn(shapes[name]) for name in sorted(mask.index)}
        for name, parameter in trained.items():
            parameter.grad = gradients[name] * mask.dense(name)
        chosen = {n: g.view(-1)[mask.index[n]] for n, g in gradients.items()}
        packed.rows.grad = chosen.pop(words)
        packed.values.grad = torch.cat(list(chosen.values()))
        for optimizer in optimizers:
            optimizer.step()
        packed.write_back()
    fast_weights = backbone_parameters(fast)
    assert not torch.equal(fast_weights[words].flatten()[0], torch.tensor(0.0))
    for name in shapes:
        expected = (
            dense[name]
            if name in trained
            else load_masked_lm(base).get_parameter(f"roberta.{name}")
        )
        found = fast.get_input_embeddings().weight if name == words else fast_weights[name]
        assert torch.equal(found, expected), name
    assert sum(s["exp_avg"].numel() for s in optimizers[0].state.values()) == 500


def test_packed_gradients_are_the_masked_dense_ones(base, tokenizer):
    """Of every tensor, word embeddings with repeated and padding tokens too, bit for bit but for
    the order of sums; and two batches add up."""
    fast, slow = (without_dropout(load_masked_lm(base)).double() for _ in range(2))
    mask = uniform(maskable(fast), 2000, 0)
    for parameter in fast.parameters():
        parameter.requires_grad_(False)
    packed = PackedEntries(fast, mask)
    for seed in (1, 2):
        batch = tokenizer([*sentences(4, seed), "ba"], return_tensors="pt", padding=True)
        with packed.gathering():
            fast(**batch).logits.pow(2).mean().backward()
        slow(**batch).logits.pow(2).mean().backward()
    dense = backbone_parameters(slow)
    expected = {n: dense[n].grad.view(-1)[i] for n, i in sorted(mask.index.items())}
    rows = expected.pop("embeddings.word_embeddings.weight")
    assert 0 < int((rows != 0).sum()) < len(rows)
    assert_equal_to_rounding(packed.rows.grad, rows)
    assert_equal_to_rounding(packed.values.grad, torch.cat(list(expected.values())))
    assert all(p.grad is None for p in backbone_parameters(fast).values() if p is not packed.rows)


@pytest.mark.parametrize("words", [True, False])
def test_a_mask_of_words_alone_or_of_no_words_trains(base, tokenizer, words):
    """BitFit chooses no word embedding."""
    model = load_masked_lm(base)
    shapes = {n: s for n, s in maskable(model).items() if ("word_embeddings" in n) == words}
    mask, before = uniform(shapes, 200, 0), snapshot(model)
    objective = masked_language_modelling(sentences(40), tokenizer, language_settings())
    assert fit(model, objective, language_settings(), mask=mask)["trained"] == 200
    moved = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    moved = {n.removeprefix("roberta.") for n in moved if n.startswith("roberta.")}
    assert moved and moved <= set(mask.index)


def test_closing_leaves_the_model_as_it_was_made(base):
    for low in (torch.float32, torch.bfloat16):
        model = load_masked_lm(base)
        before, names = snapshot(model), [type(m) for m in model.modules()]
        mask = uniform(maskable(model), 700, 0)
        packed = PackedEntries(model, mask, low)
        with torch.no_grad():
            packed.values += 1
            packed.rows += 1
        packed.write_back()
        packed.close()
        assert [type(m) for m in model.modules()] == names
        for name, parameter in model.named_parameters():
            short = name.removeprefix("roberta.")
            expected = before[name].clone()
            if short in mask.index and name.startswith("roberta."):
                expected.view(-1)[mask.index[short]] += 1
            assert torch.equal(parameter, expected), name


def test_outside_mask_untouched_with_weight_decay(base, tokenizer):
    settings = task_settings(weight_decay=0.1)
    model = load_classifier(base, CLASSES, seed=3)
    objective = classification(items(32, 1), items(8, 2), tokenizer, settings)
    before, mask = snapshot(model), uniform(maskable(model), 300, 0)
    fit(model, objective, settings, mask=mask, session=SEEDS)
    prefix = model.base_model_prefix + "."
    for name, parameter in model.named_parameters():
        if name.startswith(prefix):
            short = name.removeprefix(prefix)
            chosen = (
                mask.dense(short) if short in mask.index else torch.zeros_like(parameter).bool()
            )
            assert torch.equal(parameter[~chosen], before[name][~chosen]), name
            # What is zero and has no gradient (padding) stays: decay multiplies.
            moved = (parameter != before[name]) | (before[name] == 0)
            assert moved[chosen].all(), name


def test_full_training_moves_everything_but_layer_norm_and_decoder(base, tokenizer):
    settings = LanguageTraining(
        learning_rate=1e-2, batch_size=4, epochs=1, min_steps=0, max_length=16, evaluate_every=50
    )
    model = load_masked_lm(base)
    before, frozen = snapshot(model), layer_norm_names(model)
    objective = masked_language_modelling(sentences(60), tokenizer, settings)
    fit(model, objective, settings, session=SEEDS)
    assert frozen
    for name, parameter in model.named_parameters():
        short = name.removeprefix(model.base_model_prefix + ".")
        still = short in frozen or name == "lm_head.decoder.weight"
        assert torch.equal(parameter, before[name]) == still, name
    decoder = model.get_output_embeddings().weight
    assert not torch.equal(decoder, model.get_input_embeddings().weight)


def test_same_seeds_same_bits_and_other_seeds_others(base, tokenizer):
    settings = task_settings()
    results = []
    for order in (1, 1, 2):
        model = load_classifier(base, CLASSES, seed=3)
        objective = classification(items(32, 1), items(8, 2), tokenizer, settings)
        fit(model, objective, settings, session=Session(order_seed=order))
        results.append(snapshot(model))
    assert all(torch.equal(results[0][n], results[1][n]) for n in results[0])
    assert any(not torch.equal(results[0][n], results[2][n]) for n in results[0])


def language_settings(**changes):
    defaults = {
        "learning_rate": 1e-3,
        "batch_size": 4,
        "epochs": 1,
        "min_steps": 0,
        "max_length": 16,
        "evaluate_every": 50,
    }
    return LanguageTraining(**{**defaults, **changes})


def test_the_loss_at_masked_positions_is_the_whole_models(base, tokenizer):
    """Its gradients too, of every parameter but the frozen decoder; padding included."""
    settings = language_settings(packed=False)
    objective = masked_language_modelling(sentences(40), tokenizer, settings)
    lengths = [len(example["input_ids"]) for example in objective._train]
    examples = objective.examples([0, 1, 2, lengths.index(min(lengths))], seed=3)
    assert len({len(example["input_ids"]) for example in examples}) > 1
    few, every = (without_dropout(load_masked_lm(base)).double() for _ in range(2))
    for rows in (0, 6):
        for model in (few, every):
            model.zero_grad()
        learner = objective.learner(few)
        loss = learner(**objective.collate(examples, rows))
        loss.backward()
        learner.close()
        batch = tokenizer.pad(
            {"input_ids": [example["input_ids"].tolist() for example in examples]},
            return_tensors="pt",
        )
        labels = torch.nn.utils.rnn.pad_sequence(
            [example["labels"] for example in examples], batch_first=True, padding_value=-100
        )
        logits = every(**batch).logits
        plain = torch.nn.functional.cross_entropy(
            logits.view(-1, logits.shape[-1]), labels.view(-1), reduction="sum"
        )
        plain.backward()
        assert_equal_to_rounding(loss, plain)
        for (name, one), other in zip(few.named_parameters(), every.parameters(), strict=True):
            if name != "lm_head.decoder.weight" and not without_gradient(name):
                assert_equal_to_rounding(one.grad, other.grad, name)


@pytest.mark.parametrize("tile", [1, 2, 64])
def test_the_decoder_loss_equals_autograd_however_few_logits_exist(tile, monkeypatch):
    monkeypatch.setattr("deftx.engine.masked_tokens.LOGITS_AT_ONCE", 1)
    monkeypatch.setattr("deftx.engine.masked_tokens.TILE", tile)
    features, bias = (
        torch.randn(size, dtype=torch.float64, requires_grad=True) for size in ((7, 5), (30,))
    )
    weight, targets = torch.randn(30, 5).double(), torch.tensor([3, -100, 0, 29, 3, -100, 7])
    found = []
    for loss in (
        decoder_loss(features, weight, bias, targets),
        torch.nn.functional.cross_entropy(
            features @ weight.T + bias, targets, ignore_index=-100, reduction="sum"
        ),
    ):
        found.append([loss, *torch.autograd.grad(3 * loss, (features, bias))])
    for ours, plain in zip(*found, strict=True):
        assert_equal_to_rounding(ours, plain)
    with torch.no_grad():
        assert decoder_loss(features, weight, bias, targets) == found[0][0]


def test_a_model_whose_decoder_trains_learns_its_decoder(base, tokenizer):
    """As in pretraining, where it is tied to the word embeddings."""
    model = load_masked_lm(base)
    model.get_output_embeddings().weight.requires_grad_(True)
    objective = masked_language_modelling(sentences(40), tokenizer, language_settings())
    learner = objective.learner(model)
    learner(**objective.collate(objective.examples([0, 1], seed=0))).backward()
    assert model.get_output_embeddings().weight.grad.abs().sum() > 0


def test_l1_gradient_equals_autograd():
    sizes = ((5, 3), (4,))
    parameters = [torch.nn.Parameter(torch.randn(size, dtype=torch.float64)) for size in sizes]
    l1 = L1(parameters, 0.1, 1000)
    start = [p.detach().clone() for p in parameters]
    for parameter in parameters:
        parameter.data += torch.randn_like(parameter)
        parameter.grad = torch.zeros_like(parameter)
    l1.add_gradient()
    closed = [p.grad.clone() for p in parameters]
    for parameter in parameters:
        parameter.grad = None
    loss = sum((p - s).abs().sum() for p, s in zip(parameters, start, strict=True)) * 0.1 / 1000
    loss.backward()
    for parameter, gradient in zip(parameters, closed, strict=True):
        assert_equal_to_rounding(gradient, parameter.grad)


def test_l1_counts_every_parameter_and_reaches_the_optimiser(base, tokenizer, monkeypatch):
    seen = {}
    original = L1.__init__

    def spy(self, parameters, weight, total):
        seen.update(total=total, trained=sum(p.numel() for p in parameters))
        original(self, parameters, weight, total)

    monkeypatch.setattr(L1, "__init__", spy)
    finals = []
    for weight in (0.0, 1e5):
        settings = LanguageTraining(
            learning_rate=1e-3,
            batch_size=4,
            epochs=1,
            min_steps=0,
            max_length=16,
            evaluate_every=50,
            l1=weight,
        )
        model = load_masked_lm(base)
        everything = sum(p.numel() for p in model.parameters())
        objective = masked_language_modelling(sentences(40), tokenizer, settings)
        start = snapshot(model)
        fit(model, objective, settings, mask=uniform(maskable(model), 300, 0), session=SEEDS)
        end = snapshot(model)
        finals.append(sum(float((end[n] - start[n]).abs().sum()) for n in end))
    assert seen["total"] == everything
    assert finals[1] < 0.7 * finals[0]  # so strong a pull keeps the weights near their start


def test_gradient_accumulation_equals_the_larger_batch(base, tokenizer, in_order):
    results = []
    for batch, accumulation in ((8, 1), (4, 2)):
        settings = task_settings(batch_size=batch, accumulation=accumulation)
        model = without_dropout(load_classifier(base, CLASSES, seed=3)).double()
        objective = classification(items(32, 1), items(8, 2), tokenizer, settings)
        shapes = {n: s for n, s in maskable(model).items() if not without_gradient(n)}
        outcome = fit(model, objective, settings, mask=uniform(shapes, 300, 0), session=SEEDS)
        assert outcome["steps"] == 8
        results.append(snapshot(model))
    for name in results[0]:
        assert_equal_to_rounding(results[0][name], results[1][name], name)


def test_the_best_checkpoint_is_kept(base, tokenizer):
    """A learning rate that destroys the model late: the end is not the best."""
    settings = task_settings(epochs=3, evaluate_every=1, learning_rate=0.05)
    model = load_classifier(base, CLASSES, seed=3)
    objective = classification(items(32, 1), items(40, 2), tokenizer, settings)
    outcome = fit(model, objective, settings, session=SEEDS)
    values = [entry["macro_f1"] for entry in outcome["history"]]
    assert [entry["step"] for entry in outcome["history"]] == list(range(1, 13))
    assert outcome["best"]["macro_f1"] == max(values)
    assert outcome["best_step"] == 1 + int(np.argmax(values))
    from deftx.models.predict import evaluate

    assert evaluate(model, items(40, 2), tokenizer, 32)["macro_f1"] == pytest.approx(max(values))


def test_a_loss_that_is_not_finite_stops_with_the_step(base, tokenizer):
    settings = task_settings()
    model = load_classifier(base, CLASSES, seed=3)
    head_parameters(model)["classifier.out_proj.bias"].data.fill_(float("nan"))
    objective = classification(items(32, 1), items(8, 2), tokenizer, settings)
    with pytest.raises(FloatingPointError, match="step 1: the loss is nan"):
        fit(model, objective, settings, session=SEEDS)


def test_dropout_is_on_from_the_first_step_and_after_evaluations(base, tokenizer):
    """Models come from disk in evaluation mode."""
    seen = []

    class Watch(TrainerCallback):
        def on_pre_optimizer_step(self, args, state, control, model, **_):
            seen.append({module.training for module in model.modules()})

    settings = task_settings(evaluate_every=1)
    model = load_classifier(base, CLASSES, seed=3)
    objective = classification(items(32, 1), items(8, 2), tokenizer, settings)
    fit(model, objective, settings, session=Session(callbacks=[Watch()]))
    assert seen == [{True}] * 8


@pytest.mark.parametrize(
    ("changes", "steps"),
    [
        ({"epochs": 2}, 8),
        ({"epochs": 2, "max_steps": 5}, 5),
        ({"epochs": 1, "min_steps": 9}, 9),
        ({"epochs": 1, "min_steps": 9, "max_steps": 3}, 3),
        ({"epochs": 0.5}, 2),
        ({"epochs": 2, "accumulation": 3}, 4),
    ],
)
def test_steps_follow_epochs_within_their_bounds(changes, steps):
    assert task_settings(**changes).steps(32) == steps


def test_held_out_lines_are_the_first_and_masked_once(base, tokenizer):
    settings = LanguageTraining(max_length=16, held_out=0.1)
    lines = sentences(50)
    one, two = (masked_language_modelling(lines, tokenizer, settings) for _ in range(2))
    held_out = [t for line in tokenizer(lines[:5])["input_ids"] for t in line]
    columns = [
        [t for block in objective.valid for t in block[name].tolist()]
        for objective in (one, two)
        for name in ("input_ids", "labels")
    ]
    assert columns[:2] == columns[2:]
    tokens, labels = columns[:2]
    original = [t if label == -100 else label for t, label in zip(tokens, labels, strict=True)]
    assert original == held_out[: len(held_out) // 16 * 16] + held_out[-16:]
    share = sum(label != -100 for label in labels) / len(labels)
    assert 0.05 < share < 0.3


def test_too_little_text_is_an_error(base, tokenizer):
    with pytest.raises(ValueError, match="the text has 1 lines: at least 2"):
        masked_language_modelling(["one"], tokenizer, LanguageTraining())


def test_only_chosen_tensors_and_head_have_optimiser_state(base, tokenizer, monkeypatch):
    states = []
    original = torch.optim.AdamW.__init__

    def spy(self, parameters, **options):
        original(self, parameters, **options)
        states.append(self)

    monkeypatch.setattr(torch.optim.AdamW, "__init__", spy)
    settings = task_settings()
    model = load_classifier(base, CLASSES, seed=3)
    objective = classification(items(32, 1), items(8, 2), tokenizer, settings)
    fit(model, objective, settings, mask=uniform(maskable(model), 300, 0), session=SEEDS)
    moments = sum(s["exp_avg"].numel() for s in states[-1].state.values())
    assert moments == 300 + sum(p.numel() for p in head_parameters(model).values())
