"""Laws of training, against plain loops over dense tensors."""

import numpy as np
import pytest
import torch
from conftest import sentences

from deftx.backbone import backbone_parameters, head_parameters, layer_norm_names
from deftx.encoder import load_classifier, load_masked_lm, load_tokenizer
from deftx.language_objective import masked_language_modelling
from deftx.packed import PackedEntries
from deftx.selection import uniform
from deftx.settings.training import LanguageTraining, TaskTraining
from deftx.task_objective import classification
from deftx.trainer import L1, MaskedTrainer, only_positions
from deftx.training import fit

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


def no_dropout(model):
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return model


def maskable(model):
    frozen = layer_norm_names(model)
    return {n: tuple(p.shape) for n, p in backbone_parameters(model).items() if n not in frozen}


def snapshot(model):
    return {name: p.detach().clone() for name, p in model.named_parameters()}


SEEDS = {"order_seed": 1, "dropout_seed": 2}


def plain_sparse_loop(model, objective, settings, mask):
    """Dense gradients times the mask, AdamW, clipping, linear decay: the slow way, float32."""
    backbone, head = backbone_parameters(model), head_parameters(model)
    dense = {n: mask.dense(n) for n in mask.index}
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    trained = [backbone[n].requires_grad_(True) for n in sorted(dense)]
    trained += [p.requires_grad_(True) for p in head.values()]
    optimizer = torch.optim.AdamW(trained, lr=settings.learning_rate, weight_decay=0.0)
    steps = settings.steps(len(objective.train))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda s: max(0.0, 1 - s / steps))
    model.train()
    step = 0
    while step < steps:
        for first in range(0, len(objective.train), settings.batch_size):
            batch = objective.collate(objective.train[first : first + settings.batch_size])
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
    """The Trainer without shuffling, so that a plain loop can follow it."""
    monkeypatch.setattr(
        MaskedTrainer,
        "_get_train_sampler",
        lambda self, dataset=None: torch.utils.data.SequentialSampler(self.train_dataset),
    )


def test_sparse_training_equals_plain_loop_with_masked_gradients(base, tokenizer, in_order):
    settings = task_settings(evaluate_every=1000)
    objective = classification(items(32, 1), items(8, 2), tokenizer, settings)
    models = [no_dropout(load_classifier(base, CLASSES, seed=3)) for _ in range(2)]
    mask = uniform(maskable(models[0]), 700, 0)
    fit(models[0], objective, settings, mask=mask, **SEEDS)
    plain_sparse_loop(models[1], objective, settings, mask)
    for (name, fast), slow in zip(
        models[0].named_parameters(), models[1].parameters(), strict=True
    ):
        torch.testing.assert_close(fast, slow, rtol=1e-6, atol=1e-7, msg=name)


def test_packed_adamw_has_the_bits_of_masked_dense_adamw():
    weights = {"a": torch.nn.Parameter(torch.randn(9, 7)), "b": torch.nn.Parameter(torch.randn(11))}
    plain = {name: torch.nn.Parameter(weight.detach().clone()) for name, weight in weights.items()}
    mask = uniform({name: tuple(w.shape) for name, w in weights.items()}, 31, 0)
    packed = PackedEntries(weights, mask)
    fast = torch.optim.AdamW([packed.values], lr=1e-2, weight_decay=0.0)
    slow = torch.optim.AdamW(plain.values(), lr=1e-2, weight_decay=0.0)
    for _ in range(20):
        inputs = torch.randn(7)
        for tensors in (weights, plain):
            ((tensors["a"] @ inputs).pow(2).sum() + (tensors["b"] ** 3).sum()).backward()
        for name in plain:
            plain[name].grad *= mask.dense(name)
        for optimizer in (fast, slow):
            optimizer.step()
            optimizer.zero_grad()
        packed.write_back()
    assert all(torch.equal(weights[name], plain[name]) for name in plain)
    assert sum(s["exp_avg"].numel() for s in fast.state.values()) == 31


def test_outside_mask_untouched_with_weight_decay(base, tokenizer):
    settings = task_settings(weight_decay=0.1)
    model = load_classifier(base, CLASSES, seed=3)
    objective = classification(items(32, 1), items(8, 2), tokenizer, settings)
    before, mask = snapshot(model), uniform(maskable(model), 300, 0)
    fit(model, objective, settings, mask=mask, **SEEDS)
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
    objective = masked_language_modelling(sentences(60), tokenizer, settings, seed=5)
    fit(model, objective, settings, **SEEDS)
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
        fit(model, objective, settings, order_seed=order, dropout_seed=2)
        results.append(snapshot(model))
    assert all(torch.equal(results[0][n], results[1][n]) for n in results[0])
    assert any(not torch.equal(results[0][n], results[2][n]) for n in results[0])


def test_logits_at_masked_positions_are_the_full_models(base, tokenizer):
    model = load_masked_lm(base).eval()
    batch = tokenizer(sentences(4), return_tensors="pt", padding=True)
    chosen = torch.rand(batch["input_ids"].shape) < 0.3
    everywhere = model(**batch).logits
    with only_positions(model, chosen):
        few = model(**batch).logits[0]
    torch.testing.assert_close(few, everywhere[chosen], rtol=1e-5, atol=1e-6)


def test_l1_gradient_equals_autograd():
    parameters = [torch.nn.Parameter(torch.randn(5, 3)), torch.nn.Parameter(torch.randn(4))]
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
        torch.testing.assert_close(gradient, parameter.grad, rtol=1e-6, atol=0)


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
        objective = masked_language_modelling(sentences(40), tokenizer, settings, seed=5)
        start = snapshot(model)
        fit(model, objective, settings, mask=uniform(maskable(model), 300, 0), **SEEDS)
        end = snapshot(model)
        finals.append(sum(float((end[n] - start[n]).abs().sum()) for n in end))
    assert seen["total"] == everything
    assert finals[1] < 0.7 * finals[0]  # so strong a pull keeps the weights near their start


def test_gradient_accumulation_equals_the_larger_batch(base, tokenizer, in_order):
    results = []
    for batch, accumulation in ((8, 1), (4, 2)):
        settings = task_settings(batch_size=batch, accumulation=accumulation)
        model = no_dropout(load_classifier(base, CLASSES, seed=3))
        objective = classification(items(32, 1), items(8, 2), tokenizer, settings)
        outcome = fit(model, objective, settings, mask=uniform(maskable(model), 300, 0), **SEEDS)
        assert outcome["steps"] == 8
        results.append(snapshot(model))
    for name in results[0]:
        torch.testing.assert_close(results[0][name], results[1][name], rtol=1e-4, atol=1e-6)


def test_the_best_checkpoint_is_kept(base, tokenizer):
    """A learning rate that destroys the model late: the end is not the best."""
    settings = task_settings(epochs=3, evaluate_every=1, learning_rate=0.05)
    model = load_classifier(base, CLASSES, seed=3)
    objective = classification(items(32, 1), items(40, 2), tokenizer, settings)
    outcome = fit(model, objective, settings, **SEEDS)
    values = [entry["macro_f1"] for entry in outcome["history"]]
    assert [entry["step"] for entry in outcome["history"]] == list(range(1, 13))
    assert outcome["best"]["macro_f1"] == max(values)
    assert outcome["best_step"] == 1 + int(np.argmax(values))
    from deftx.evaluation import evaluate

    assert evaluate(model, items(40, 2), tokenizer, 32)["macro_f1"] == pytest.approx(max(values))


def test_a_loss_that_is_not_finite_stops_with_the_step(base, tokenizer):
    settings = task_settings()
    model = load_classifier(base, CLASSES, seed=3)
    head_parameters(model)["classifier.out_proj.bias"].data.fill_(float("nan"))
    objective = classification(items(32, 1), items(8, 2), tokenizer, settings)
    with pytest.raises(FloatingPointError, match="step 1: the loss is nan"):
        fit(model, objective, settings, **SEEDS)


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
    one, two = (masked_language_modelling(lines, tokenizer, settings, seed) for seed in (1, 2))
    assert one.valid == two.valid
    held_out = tokenizer(lines[:5])["input_ids"]
    tokens = [t for block in one.valid for t in block["input_ids"]]
    labels = [t for block in one.valid for t in block["labels"]]
    original = [t if label == -100 else label for t, label in zip(tokens, labels, strict=True)]
    assert original == [t for line in held_out for t in line]
    share = sum(label != -100 for label in labels) / len(labels)
    assert 0.05 < share < 0.3


def test_too_little_text_is_an_error(base, tokenizer):
    with pytest.raises(ValueError, match="the text has 1 lines: at least 2"):
        masked_language_modelling(["one"], tokenizer, LanguageTraining(), 0)


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
    fit(model, objective, settings, mask=uniform(maskable(model), 300, 0), **SEEDS)
    moments = sum(s["exp_avg"].numel() for s in states[-1].state.values())
    assert moments == 300 + sum(p.numel() for p in head_parameters(model).values())
