"""Laws of training, against plain loops over dense tensors."""

import numpy as np
import pytest
import torch
from conftest import sentences, without_dropout
from torch.nn.functional import cross_entropy
from training import (
    NEVER,
    assert_close,
    batch_in_order,
    classifier,
    differing,
    in_order,
    items,
    language,
    language_settings,
    plain_loop,
    plain_masked_loss,
    snapshot,
    task,
    task_settings,
    train_only,
    without_key_bias,
)

from deftx.core.parameters import backbone_parameters, head_parameters, layer_norm_names
from deftx.engine.decoder import decoder_loss
from deftx.engine.fit import fit
from deftx.engine.language import loss_of_base, masked_language_modelling
from deftx.engine.session import Session
from deftx.engine.settings import LanguageTraining
from deftx.engine.sparse import PackedEntries
from deftx.engine.update import Rules
from deftx.models.load import load_masked_lm, load_tokenizer
from deftx.models.predict import evaluate
from deftx.models.tokens import encode_text
from deftx.stages.mask.math import uniform

SEEDS = Session(order_seed=1, draw_seed=5, dropout_seed=2)
WORDS = "embeddings.word_embeddings.weight"


@pytest.fixture
def tokenizer(base):
    return load_tokenizer(base)


def double(model):
    return without_dropout(model).double()


@pytest.mark.rounding
def test_sparse_training_equals_plain_loop_with_masked_gradients(base, monkeypatch):
    in_order(monkeypatch)
    model, objective, settings = task(base, count=32, evaluate_every=NEVER)
    plain = double(classifier(base))
    mask = uniform(without_key_bias(base.maskable), 700, 0)
    fit(double(model), objective, settings, mask=mask, session=SEEDS)
    chosen = [(backbone_parameters(plain)[name], mask.dense(name)) for name in mask.index]
    trained = train_only(plain, [weight for weight, _ in chosen])

    def backward(step):
        plain.train()(**batch_in_order(objective, settings, step)).loss.backward()
        for weight, places in chosen:
            weight.grad *= places

    plain_loop(trained, settings, 8, backward)
    assert_close(snapshot(model), snapshot(plain))


@pytest.mark.rounding
def test_packed_adamw_has_the_bits_of_masked_dense_adamw(base):
    """With the same random gradients."""
    fast, slow, start = (load_masked_lm(base) for _ in range(3))
    mask = uniform(base.maskable, 500, 0)
    packed = PackedEntries(fast.requires_grad_(False), mask)
    dense = backbone_parameters(slow)
    trained = {name: dense[name] for name in mask.index}
    optimizers = [
        torch.optim.AdamW(parameters, lr=1e-2, weight_decay=0.0)
        for parameters in ([packed.values, packed.rows], trained.values())
    ]
    for _ in range(20):
        gradients = {name: torch.randn(base.maskable[name]) for name in sorted(mask.index)}
        for name, parameter in trained.items():
            parameter.grad = gradients[name] * mask.dense(name)
        chosen = {n: g.view(-1)[mask.index[n]] for n, g in gradients.items()}
        packed.rows.grad = chosen.pop(WORDS)
        packed.values.grad = torch.cat(list(chosen.values()))
        for optimizer in optimizers:
            optimizer.step()
        packed.write_back()
    found = {**backbone_parameters(fast), WORDS: fast.get_input_embeddings().weight}
    found, dense = ({name: tensors[name] for name in base.maskable} for tensors in (found, dense))
    assert differing(found, dense) == set()
    assert differing(dense, {n: backbone_parameters(start)[n] for n in dense}) == set(mask.index)
    assert sum(s["exp_avg"].numel() for s in optimizers[0].state.values()) == 500


@pytest.mark.rounding
def test_packed_gradients_are_the_masked_dense_ones(base, tokenizer):
    """Up to the order of sums, also where tokens repeat or pad; and two batches add up."""
    fast, slow = (double(load_masked_lm(base)) for _ in range(2))
    mask = uniform(base.maskable, 2000, 0)
    packed = PackedEntries(fast.requires_grad_(False), mask)
    found = {}
    for seed in (1, 2):
        batch = tokenizer([*sentences(4, seed), "ba"], return_tensors="pt", padding=True)
        loss = fast(**batch).logits.pow(2).mean()
        gradients = packed.gather(torch.autograd.grad(loss, packed.leaves()))
        found = {name: gradient + found.get(name, 0) for name, gradient in gradients.items()}
        slow(**batch).logits.pow(2).mean().backward()
    dense = backbone_parameters(slow)
    expected = {n: dense[n].grad.view(-1)[i] for n, i in sorted(mask.index.items())}
    rows, values = expected.pop(WORDS), torch.cat(list(expected.values()))
    assert 0 < int((rows != 0).sum()) < len(rows)
    assert_close(found, {"values": values, "rows": rows})


@pytest.mark.parametrize("words", [True, False])
def test_a_mask_of_words_alone_or_of_no_words_trains(base, words):
    """BitFit chooses no word embedding."""
    model, objective, settings = language(base)
    shapes = {n: s for n, s in base.maskable.items() if ("word_embeddings" in n) == words}
    mask, before = uniform(shapes, 200, 0), snapshot(model)
    assert fit(model, objective, settings, mask=mask)["trained"] == 200
    moved = {n for n in differing(snapshot(model), before) if n.startswith("roberta.")}
    assert moved and {n.removeprefix("roberta.") for n in moved} <= set(mask.index)


@pytest.mark.parametrize("low", [torch.float32, torch.bfloat16])
def test_closing_leaves_the_model_as_it_was_made(base, low):
    model = load_masked_lm(base)
    before, modules = snapshot(model), [type(m) for m in model.modules()]
    mask = uniform(base.maskable, 700, 0)
    packed = PackedEntries(model, mask, low)
    with torch.no_grad():
        packed.values += 1
        packed.rows += 1
    packed.write_back()
    packed.close()
    assert [type(m) for m in model.modules()] == modules
    for name, index in mask.index.items():
        before[f"roberta.{name}"].view(-1)[index] += 1
    assert differing(snapshot(model), before) == set()


def test_only_chosen_entries_and_head_have_optimiser_state(base, monkeypatch):
    optimizers, original = [], torch.optim.AdamW.__init__

    def spy(self, *given, **options):
        original(self, *given, **options)
        optimizers.append(self)

    monkeypatch.setattr(torch.optim.AdamW, "__init__", spy)
    model, *given = task(base)
    fit(model, *given, mask=uniform(base.maskable, 300, 0), session=SEEDS)
    (optimizer,) = optimizers
    moments = sum(state["exp_avg"].numel() for state in optimizer.state.values())
    assert moments == 300 + sum(p.numel() for p in head_parameters(model).values())


def test_every_chosen_entry_moves_under_weight_decay_and_nothing_else_of_the_backbone(base):
    model, *given = task(base, weight_decay=0.1)
    mask, before = uniform(base.maskable, 300, 0), snapshot(model)
    fit(model, *given, mask=mask, session=SEEDS)
    for name, parameter in backbone_parameters(model).items():
        start = before[f"roberta.{name}"]
        chosen = mask.dense(name) if name in mask.index else torch.zeros(start.shape).bool()
        # What is zero and has no gradient (padding) stays: decay multiplies.
        assert ((parameter != start) | (start == 0))[chosen].all(), name
        assert torch.equal(parameter[~chosen], start[~chosen]), name


@pytest.mark.rounding
@pytest.mark.parametrize("kind", [language, task])
def test_same_seeds_same_bits_and_other_seeds_others(base, kind):
    """The order of examples, dropout, and for a language the masked tokens."""
    seeds = {"order_seed": 1, "dropout_seed": 2, "draw_seed": 5}
    changes = [{}, {}, {"order_seed": 2}, {"dropout_seed": 3}]
    changes += [{"draw_seed": 6}] if kind is language else []
    results = []
    for change in changes:
        model, *given = kind(base, count=24, evaluate_every=NEVER)
        fit(model, *given, session=Session(**{**seeds, **change}))
        results.append(snapshot(model))
    first, same, *others = results
    assert not differing(first, same)
    assert all(differing(first, other) for other in others)


def test_full_training_moves_everything_but_layer_norm_and_decoder(base):
    model, objective, settings = language(base)
    before, frozen = snapshot(model), {f"roberta.{name}" for name in layer_norm_names(model)}
    fit(model, objective, settings, session=SEEDS)
    still = before.keys() - differing(snapshot(model), before)
    assert frozen and still == {*frozen, "lm_head.decoder.weight"}
    decoder = model.get_output_embeddings().weight
    assert not torch.equal(decoder, model.get_input_embeddings().weight)


@pytest.mark.rounding
def test_the_loss_at_masked_positions_is_the_whole_models(base, tokenizer):
    """Its gradients too, of every parameter but the frozen decoder; padding included."""
    few, objective, _ = language(base, packed=False)
    every, few = double(load_masked_lm(base)), double(few)
    lengths = [len(example["input_ids"]) for example in objective.examples(range(54), 0)]
    examples = objective.examples([0, 1, 2, lengths.index(min(lengths))], seed=3)
    assert len({len(example["input_ids"]) for example in examples}) > 1
    for rows in (0, 6):
        found = []
        learner = objective.learner(few)
        for model, loss in (
            (few, learner(**objective.collate(examples, rows))),
            (every, plain_masked_loss(every, tokenizer, examples)),
        ):
            model.zero_grad()
            loss.backward()
            gradients = {n: p.grad for n, p in model.named_parameters()}
            gradients.pop("lm_head.decoder.weight")
            found.append({"loss": loss, **gradients})
        learner.close()
        assert_close(*found)


@pytest.mark.rounding
@pytest.mark.parametrize("tile", [1, 2, 64])
def test_the_decoder_loss_equals_autograd_however_few_logits_exist(tile, monkeypatch):
    monkeypatch.setattr("deftx.engine.decoder.LOGITS_AT_ONCE", {"cpu": 1})
    monkeypatch.setattr("deftx.engine.decoder.TILE", tile)
    features, bias = (
        torch.randn(size, dtype=torch.float64, requires_grad=True) for size in ((7, 5), (30,))
    )
    weight, targets = torch.randn(30, 5).double(), torch.tensor([3, -100, 0, 29, 3, -100, 7])
    logits = features @ weight.T + bias
    found = []
    for loss in (
        decoder_loss(features, weight, bias, targets),
        cross_entropy(logits, targets, ignore_index=-100, reduction="sum"),
    ):
        gradients = torch.autograd.grad(3 * loss, (features, bias))
        found.append(dict(zip(("loss", "features", "bias"), (loss, *gradients), strict=True)))
    assert_close(*found)
    with torch.no_grad():
        assert decoder_loss(features, weight, bias, targets) == found[0]["loss"]


def test_a_model_whose_decoder_trains_learns_its_decoder(base):
    """As in pretraining, where it is tied to the word embeddings."""
    model, objective, _ = language(base)
    model.get_output_embeddings().weight.requires_grad_(True)
    learner = objective.learner(model)
    learner(**objective.collate(objective.examples([0, 1], seed=0))).backward()
    assert model.get_output_embeddings().weight.grad.abs().sum() > 0


def test_l1_counts_every_parameter_and_reaches_the_optimiser(base, monkeypatch):
    seen, distances = [], []

    def noting(*given):
        seen.append(Rules(*given))
        return seen[-1]

    monkeypatch.setattr("deftx.engine.loop.Rules", noting)
    for weight in (0.0, 1e5):
        model, objective, settings = language(base, learning_rate=1e-3, l1=weight)
        start = snapshot(model)
        fit(model, objective, settings, mask=uniform(base.maskable, 300, 0), session=SEEDS)
        end = snapshot(model)
        distances.append(sum(float((end[n] - start[n]).abs().sum()) for n in end))
    assert seen[1].total == sum(p.numel() for p in model.parameters())
    assert distances[1] < 0.7 * distances[0]  # so strong a pull keeps weights near their start


def test_the_best_checkpoint_is_kept(base, tokenizer):
    """A learning rate that destroys the model late: the end is not the best."""
    model, *given = task(base, 32, valid=40, epochs=3, evaluate_every=1, learning_rate=0.05)
    outcome = fit(model, *given, session=SEEDS)
    values = [entry["macro_f1"] for entry in outcome["history"]]
    assert [entry["step"] for entry in outcome["history"]] == list(range(1, 13))
    assert outcome["best"]["macro_f1"] == max(values)
    assert outcome["best_step"] == 1 + int(np.argmax(values))
    assert evaluate(model, items(40, 1), tokenizer, 32)["macro_f1"] == pytest.approx(max(values))


def test_a_loss_that_is_not_finite_stops_with_the_step(base):
    model, *given = task(base)
    head_parameters(model)["classifier.out_proj.bias"].data.fill_(float("nan"))
    with pytest.raises(FloatingPointError, match="step 1: the loss is nan"):
        fit(model, *given, session=SEEDS)


def test_dropout_is_on_from_the_first_step_and_after_evaluations(base):
    """Models come from disk in evaluation mode."""
    seen, made = [], task(base, count=32, evaluate_every=1)

    def watch(_):
        seen.append({module.training for module in made[0].modules()})

    fit(*made, session=Session(before_step=watch))
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
    lines, settings = sentences(50), language_settings(held_out=0.1)
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


def test_the_loss_of_a_base_is_the_mean_over_masked_tokens_of_held_out_lines(base, tokenizer):
    settings = language_settings(held_out=0.5)
    text = encode_text(sentences(50), tokenizer, None)
    blocks = masked_language_modelling(text, tokenizer, settings).valid
    model, losses = load_masked_lm(base).double().eval(), []
    with torch.no_grad():
        for block in blocks:
            logits = model(block["input_ids"].long().unsqueeze(0)).logits[0].log_softmax(-1)
            losses += [-logits[i, t].item() for i, t in enumerate(block["labels"]) if t != -100]
    expected = sum(losses) / len(losses)
    assert loss_of_base(base, text, settings) == pytest.approx(expected, rel=1e-5)


def test_too_little_text_is_an_error(tokenizer):
    with pytest.raises(ValueError, match="the text has 1 lines: at least 2"):
        masked_language_modelling(["one"], tokenizer, LanguageTraining())
