"""Laws of adapters, against plain forward passes and plain loops over full logits."""

import math
from contextlib import closing

import pytest
import torch
from conftest import sentences, without_dropout
from training import (
    CLASSES,
    NEVER,
    assert_close,
    batch_in_order,
    differing,
    examples_in_order,
    in_order,
    items,
    language,
    language_settings,
    plain_loop,
    plain_masked_loss,
    snapshot,
    structure,
    task,
    task_settings,
    train_only,
    write_data,
)
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    CamembertConfig,
    CamembertForMaskedLM,
    ModernBertConfig,
    ModernBertForSequenceClassification,
    RobertaConfig,
    RobertaForMaskedLM,
    RobertaForSequenceClassification,
    XLMRobertaConfig,
    XLMRobertaForMaskedLM,
)

from deftx.core.parameters import head_parameters
from deftx.engine.session import Session
from deftx.engine.settings import Engine
from deftx.engine.update import Rules
from deftx.models.load import load_classifier, load_masked_lm, load_tokenizer
from deftx.models.predict import evaluate
from deftx.stages.adapter.file import load_adapter, stacked
from deftx.stages.adapter.math import (
    BEFORE_DECODER,
    AdapterModule,
    Invertible,
    fresh_adapter,
    installed,
)
from deftx.stages.adapter.run import Params, adapter, fit_adapter
from deftx.stages.adapter.settings import Adapter
from deftx.store.errors import ArtefactError
from deftx.store.items import load_labelled
from deftx.store.seeds import stream
from deftx.store.tensors import TensorFile, save_tensors

SETTINGS = Adapter(task_reduction=8)
SHAPE = {
    "vocab_size": 60,
    "hidden_size": 12,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 20,
    "max_position_embeddings": 40,
    "pad_token_id": 1,
}


def random(module, spread=0.3, seed=7):
    """The module with weights and biases that all matter."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(0, spread, generator=generator)
    return module


def language_adapter(model, settings=SETTINGS, seed=1):
    return random(fresh_adapter(model, settings, language=True, seed=0), seed=seed)


def task_adapter(model, settings=SETTINGS, seed=2):
    return random(fresh_adapter(model, settings, language=False, seed=0), seed=seed)


def some_batch(base, count=3):
    return load_tokenizer(base)(sentences(count), return_tensors="pt", padding=True)


# What is computed


@pytest.mark.rounding
@pytest.mark.parametrize("hidden", [12, 13])
@pytest.mark.parametrize("non_linearity", ["relu", "gelu", "swish", "tanh"])
def test_the_inverse_is_exact(hidden, non_linearity):
    invertible = random(Invertible(hidden, 2, non_linearity).double(), 1.0)
    features = torch.randn(3, 5, hidden, dtype=torch.float64)
    moved = invertible(features)
    torch.testing.assert_close(invertible.inverse(moved), features, rtol=0, atol=1e-12)
    assert float((moved - features).detach().norm()) > 1


ACTIVATIONS = {
    "relu": lambda x: x.clamp(min=0),
    "gelu": lambda x: x * (1 + torch.erf(x / 2**0.5)) / 2,
    "swish": lambda x: x * torch.sigmoid(x),
    "tanh": torch.tanh,
}


def plain_part(weights, part, ends, x, function):
    down, up = (f"{part}.{end}" for end in ends)
    middle = function(x @ weights[f"{down}.weight"].T + weights[f"{down}.bias"])
    return middle @ weights[f"{up}.weight"].T + weights[f"{up}.bias"]


def plain_forward(model, ids, language, task, drop_last, function):
    """MAD-X written down layer by layer from the names and tensors of the adapters' files; logits
    of the language model."""
    layers = model.base_model.encoder.layer
    x = model.base_model.embeddings(input_ids=ids)
    half = x.shape[-1] // 2
    f, g = (lambda x, n=n: plain_part(language, f"invertible.{n}", "02", x, function) for n in "fg")
    y1 = x[..., :half] + f(x[..., half:])
    x = torch.cat([y1, x[..., half:] + g(y1)], dim=-1)
    for number, layer in enumerate(layers):
        x = layer.attention(x)[0]
        h = layer.output.dense(layer.intermediate(x))
        norm = layer.output.LayerNorm
        for weights in (language, task) if number < len(layers) - drop_last else ():
            if weights is not None:
                part = f"layers.{number}"
                h = h + plain_part(weights, part, ("down", "up"), norm(h + x), function)
        x = norm(h + x)
    if isinstance(model, BertForMaskedLM):
        head, transformed = model.cls.predictions, model.cls.predictions.transform(x)
    else:
        head = model.lm_head
        transformed = head.layer_norm(torch.nn.functional.gelu(head.dense(x)))
    y1, y2 = transformed[..., :half], transformed[..., half:]
    x2 = y2 - g(y1)
    return head.decoder(torch.cat([y1 - f(x2), x2], dim=-1))


ENDS = {"bos_token_id": 0, "eos_token_id": 2}
MASKED_LM = {
    "bert": lambda: BertForMaskedLM(BertConfig(**SHAPE)),
    "camembert": lambda: CamembertForMaskedLM(CamembertConfig(**SHAPE, **ENDS)),
    "roberta": lambda: RobertaForMaskedLM(RobertaConfig(**SHAPE, **ENDS)),
    "xlm-roberta": lambda: XLMRobertaForMaskedLM(XLMRobertaConfig(**SHAPE, **ENDS)),
}


@pytest.mark.rounding
@pytest.mark.parametrize("kind", BEFORE_DECODER)
@pytest.mark.parametrize("drop_last", [0, 1])
@torch.no_grad()
def test_a_stack_computes_what_mad_x_says(kind, drop_last):
    """In every model type that takes adapters, with every non-linearity and attention; with
    random biases and LayerNorms, so that nothing is applied once instead of twice."""
    model = random(MASKED_LM[kind]().eval(), 0.2).double()
    ids = torch.randint(4, SHAPE["vocab_size"], (3, 9))
    seen = []
    for non_linearity, attention in zip(ACTIVATIONS, ("eager", "sdpa") * 2, strict=True):
        model.set_attn_implementation(attention)
        settings = Adapter(task_reduction=4, non_linearity=non_linearity, drop_last=drop_last)
        language, task = (
            make(model, settings).double() for make in (language_adapter, task_adapter)
        )
        assert len(task.layers) == 3 - drop_last and len(language.layers) == 3
        for stack, above in ([language], None), ([language, task], task.state_dict()):
            with installed(model, stack, drop_last):
                found = model(input_ids=ids).logits
            plain = plain_forward(
                model, ids, language.state_dict(), above, drop_last, ACTIVATIONS[non_linearity]
            )
            assert_close({"logits": found}, {"logits": plain})
            seen.append(found)
    assert all(not torch.allclose(seen[0], other, atol=1e-3) for other in seen[1:])


def test_sizes_are_the_papers():
    """On XLM-R base: 590,976 weights a layer and 295,680 in the invertible adapter of a language,
    74,544 a layer of a task; the last layer left out."""
    language = AdapterModule(Adapter(), 768, 12, language=True)
    task = AdapterModule(Adapter(), 768, 11, language=False)
    count = lambda module: sum(p.numel() for p in module.parameters())  # noqa: E731
    assert count(language.layers[0]) == 590_976 and count(language) == 7_387_776
    assert count(task.layers[0]) == 74_544 and count(task) == 11 * 74_544
    none = AdapterModule(Adapter(invertible_reduction=None), 768, 12, language=True)
    assert none.invertible is None and count(none) == 12 * 590_976


def test_fresh_weights_are_a_pure_function_of_the_seed(base):
    model = load_masked_lm(base)
    one, same, other = (fresh_adapter(model, SETTINGS, language=True, seed=s) for s in (3, 3, 4))
    weights = torch.cat([p.flatten() for n, p in one.named_parameters() if "weight" in n])
    assert abs(float(weights.detach().std()) - 0.02) < 1e-3
    assert all((p == 0).all() for n, p in one.named_parameters() if "bias" in n)
    assert differing(snapshot(one), snapshot(same)) == set()
    assert not torch.equal(one.layers[0].down.weight, other.layers[0].down.weight)
    # A task's adapter with fewer layers begins like that with more.
    whole, dropped = (
        fresh_adapter(model, Adapter(drop_last=n), language=False, seed=3) for n in (0, 1)
    )
    assert torch.equal(whole.layers[0].up.weight, dropped.layers[0].up.weight)


# Putting them into a model


CLASSIFIERS = {
    "bert": lambda: BertForSequenceClassification(BertConfig(**SHAPE)),
    "roberta": lambda: RobertaForSequenceClassification(RobertaConfig(**SHAPE, **ENDS)),
}


@pytest.mark.rounding
@pytest.mark.parametrize("make", [*MASKED_LM.values(), *CLASSIFIERS.values()])
def test_a_model_is_as_it_was_after_the_block(make):
    """Also after an error; and inside of the block its parameters have their names."""
    model = make().eval()
    before, shape, names = snapshot(model), structure(model), list(model.state_dict())
    ids = torch.randint(4, SHAPE["vocab_size"], (3, 9))
    expected = model(input_ids=ids).logits
    with (
        pytest.raises(ZeroDivisionError),
        installed(model, [language_adapter(model), task_adapter(model)], 1),
    ):
        assert list(snapshot(model)) == list(before) and list(model.state_dict()) == names
        assert not torch.allclose(model(input_ids=ids).logits, expected, atol=1e-3)
        1 / 0  # noqa: B018
    assert structure(model) == shape
    assert torch.equal(model(input_ids=ids).logits, expected)
    assert differing(snapshot(model), before) == set()


@pytest.mark.rounding
@pytest.mark.filterwarnings("ignore:.gradient_checkpointing_enable:FutureWarning")
def test_gradients_reach_adapters_alone_and_checkpointing_changes_none(base):
    """transformers' gradient checkpointing computes each layer a second time, adapters included."""
    model = load_masked_lm(base).double()
    model.requires_grad_(False)
    adapters = [language_adapter(model).double(), task_adapter(model).double()]
    batch = some_batch(base)
    found = []
    without_dropout(model).train()
    for checkpointing in (False, True):
        if checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        with installed(model, adapters, 1):
            model(**batch).logits.pow(2).mean().backward()
        found.append({f"{i}.{n}": p.grad for i, a in enumerate(adapters)
                      for n, p in a.named_parameters()})  # fmt: skip
        for module in adapters:
            module.zero_grad(set_to_none=True)
    assert all(p.grad is None for p in model.parameters())
    # The language's bottleneck in the last layer is left out.
    unused = {name for name, gradient in found[0].items() if gradient is None}
    assert unused == {f"0.layers.1.{end}.{kind}" for end in ("down", "up")
                      for kind in ("weight", "bias")}  # fmt: skip
    used = [{n: g for n, g in gradients.items() if n not in unused} for gradients in found]
    assert all(gradient.abs().sum() > 0 for gradient in used[0].values())
    assert_close(*used)


def test_what_does_not_fit_is_refused_before_anything_is_changed(base):
    model = load_classifier(base, CLASSES, seed=0)
    shape, fitting = structure(model), task_adapter(model)
    sizes = {"hidden size 16 does not fit a base of hidden size 32": (16, 2),
             "3 layers does not fit a base of 2 layers": (32, 3)}  # fmt: skip
    for message, size in sizes.items():
        module = AdapterModule(SETTINGS, *size, language=True)
        with pytest.raises(ValueError, match=message), installed(model, [module, fitting], 1):
            pass
    with pytest.raises(ValueError, match=r"1 layers does not fit .* the first 2"):
        installed(model, [fitting], 0).__enter__()
    with installed(model, [fitting], 1), pytest.raises(ValueError, match="has adapters already"):
        installed(model, [fitting], 1).__enter__()
    with pytest.raises(ValueError, match="drop_last is 2, the base has 2 layers"):
        fresh_adapter(model, Adapter(drop_last=2), language=False, seed=0)
    assert structure(model) == shape
    config = ModernBertConfig(**SHAPE, **ENDS, cls_token_id=0, sep_token_id=2)
    with pytest.raises(ValueError, match=r"'modernbert'.* bert, camembert, roberta, xlm"):
        task_adapter(ModernBertForSequenceClassification(config))


# Training


def plain(model):
    return without_dropout(model).double()


def module_and_below(model, objective):
    """A fresh adapter and, for a task, the language's below it."""
    is_language = objective.best == "loss"
    module = fresh_adapter(model, SETTINGS, language=is_language, seed=5)
    return module, None if is_language else language_adapter(model)


def trained(made, **given):
    """The outcome and the adapter; the model is trained in place."""
    module, below = module_and_below(*made[:2])
    session = Session(order_seed=1, draw_seed=2, dropout_seed=3, **given)
    drop_last = 0 if below is None else 1
    outcome = fit_adapter(*made, module, below=below, drop_last=drop_last, session=session)
    return outcome, module


@pytest.mark.rounding
@pytest.mark.parametrize("kind", ["xlm-roberta", "bert"])
@pytest.mark.parametrize("learner_first", [True, False])
def test_the_loss_at_masked_positions_is_that_of_all_logits(base, kind, learner_first):
    """With the inverse, whether the learner takes the decoder out before or after the adapters are
    put in; gradients of the adapter and of the head too, padding included."""
    tokenizer = load_tokenizer(base)
    model, objective, _ = language(base, packed=False)
    lengths = [len(example["input_ids"]) for example in objective.examples(range(54), 0)]
    examples = objective.examples([0, 1, 2, lengths.index(min(lengths))], seed=3)
    models = [model, load_masked_lm(base)]
    if kind == "bert":
        config = BertConfig(**{**SHAPE, "vocab_size": model.config.vocab_size})
        for i in range(2):
            torch.manual_seed(1)
            models[i] = BertForMaskedLM(config)
            decoder = models[i].get_output_embeddings()
            decoder.weight = torch.nn.Parameter(decoder.weight.detach(), requires_grad=False)
    fast, slow = map(plain, models)
    one, other = (language_adapter(model) for model in models)
    if learner_first:
        with closing(objective.learner(fast)) as learner, installed(fast, [one]):
            loss = learner(**objective.collate(examples))
            loss.backward()
    else:
        with installed(fast, [one]), closing(objective.learner(fast)) as learner:
            loss = learner(**objective.collate(examples))
            loss.backward()
    with installed(slow, [other]):
        expected = plain_masked_loss(slow, tokenizer, examples)
        expected.backward()
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=0)
    with torch.no_grad():  # the inverse matters
        without = language_adapter(slow, Adapter(invertible_reduction=None))
        with installed(slow, [without]):
            assert abs(float(plain_masked_loss(slow, tokenizer, examples) - expected)) > 0.01
    before_decoder = BEFORE_DECODER[fast.config.model_type]
    for modules in ((one, other), [m.get_submodule(before_decoder) for m in (fast, slow)]):
        found = [{name: p.grad for name, p in m.named_parameters()} for m in modules]
        assert all(gradient.abs().sum() > 0 for gradient in found[1].values())
        assert_close(*found)


@pytest.mark.rounding
@pytest.mark.parametrize("kind", [language, task])
def test_training_equals_a_plain_loop(base, kind, monkeypatch):
    in_order(monkeypatch)
    changes = {"learning_rate": 1e-3, "evaluate_every": NEVER}
    changes |= {"l1": 0.0} if kind is language else {"accumulation": 2}
    (model, *given), (slow, objective, settings) = (kind(base, **changes) for _ in range(2))
    _, module = trained((plain(model), *given))
    plain_module, below = module_and_below(plain(slow), objective)
    stack = [plain_module] if below is None else [below.requires_grad_(False), plain_module]
    tokenizer = load_tokenizer(base)

    def backward(step):
        if below is not None:
            loss = slow(**batch_in_order(objective, settings, step)).loss
        else:
            seed = stream(2, "step", str(step))
            examples = examples_in_order(objective, settings, step, seed)
            total = plain_masked_loss(slow, tokenizer, examples)
            loss = total / sum(objective.labels(example) for example in examples)
        loss.backward()

    parameters = train_only(slow, plain_module.parameters())
    with installed(slow, stack, len(stack) - 1):
        slow.train()
        plain_loop(parameters, settings, settings.steps(len(objective)), backward)
    assert_close(head_parameters(model), head_parameters(slow))
    assert_close(snapshot(module), snapshot(plain_module))


def test_l1_counts_the_adapter_among_all_parameters(base, monkeypatch):
    """N of the L1 term, and what it holds: adapter and head."""
    seen = []

    def noting(*given):
        seen.append(Rules(*given))
        return seen[-1]

    monkeypatch.setattr("deftx.engine.loop.Rules", noting)
    made = model, *_ = language(base, l1=0.1, max_steps=1)
    _, module = trained(made)
    every = [*model.parameters(), *module.parameters()]
    held = len(head_parameters(model)) + len(list(module.parameters()))
    (rules,) = seen
    assert (len(rules.rates), rules.l1) == (held, 0.1)
    assert rules.total == sum(p.numel() for p in every)


def test_bf16_stays_within_bounds_of_fp32(base):
    losses = [
        trained(language(base), engine=Engine(precision=precision))[0]["best"]["loss"]
        for precision in ("fp32", "bf16")
    ]
    assert losses[0] != losses[1] and abs(losses[0] - losses[1]) < 0.02 * losses[0]


# The stage, its files, and evaluation


@pytest.fixture(scope="module")
def files(base_folder, tmp_path_factory):
    """Data, and the adapters of two languages and of a task on the first, as the stage makes them;
    the call that made the task's."""
    folder = write_data(tmp_path_factory.mktemp("adapters"), items(8) * 10)  # to be learned
    reading = language_settings(learning_rate=3e-2, epochs=8, held_out=0.1)
    for key, seed in (("qaa", 1), ("qab", 2)):
        params = Params(
            method="mad-x", target=f"lang-{key}", seed=seed, language=reading, adapter=SETTINGS
        )
        out = folder / f"{key}.safetensors"
        adapter(params, base=base_folder, train=folder / "text.parquet", out=out)

    def train_task(out, **changes):
        given = {"method": "mad-x", "target": "task-x", "seed": 1, "classes": CLASSES,
                 "task": task_settings(), "adapter": SETTINGS}  # fmt: skip
        below = changes.pop("language_adapter", folder / "qaa.safetensors")
        adapter(
            Params(**{**given, **changes}),
            base=base_folder, train=folder / "labelled.parquet",
            valid=folder / "labelled.parquet", language_adapter=below, out=out,
        )  # fmt: skip
        return TensorFile(out)

    train_task(folder / "task.safetensors")
    return folder, train_task


def stored(files, name):
    return TensorFile(files[0] / f"{name}.safetensors")


def test_the_files_hold_what_format_says(files, base):
    language, task = stored(files, "qaa"), stored(files, "task")
    bottleneck = {f"{end}.{kind}" for end in ("down", "up") for kind in ("weight", "bias")}
    halves = {f"invertible.{f}.{i}.{kind}" for f in "fg" for i in (0, 2)
              for kind in ("weight", "bias")}  # fmt: skip
    assert set(language) == {f"layers.{i}.{name}" for i in (0, 1) for name in bottleneck} | halves
    head = {f"head.{name}" for name in head_parameters(load_classifier(base, CLASSES, 0))}
    assert set(task) == {f"layers.0.{name}" for name in bottleneck} | head
    assert language["layers.1.down.weight"].shape == (16, 32)
    assert language["invertible.f.0.weight"].shape == (8, 16)
    assert task["layers.0.down.weight"].shape == (4, 32)
    for file in (language, task):
        facts = file.provenance
        assert facts["stage"] == "adapter" and facts["start"] == "base"
        assert facts["base"] == base.identity and facts["method"] == "mad-x"
        body = sum(file[n].numel() for n in file if not n.startswith("head."))
        assert facts["outcome"]["trained"] == body
    assert language.provenance["params"]["adapter"] == {
        "language_reduction": 2, "invertible_reduction": 2, "non_linearity": "relu"
    }  # fmt: skip
    assert task.provenance["params"]["adapter"] == {
        "task_reduction": 8, "non_linearity": "relu", "drop_last": 1
    }  # fmt: skip
    assert task.provenance["inputs"]["language_adapter"] == language.content


def test_training_lowers_the_held_out_loss(files):
    history = stored(files, "qaa").provenance["outcome"]["history"]
    assert history[-1]["loss"] < history[0]["loss"] - 0.2 < math.log(150) - 0.2
    assert stored(files, "qaa").content != stored(files, "qab").content


def test_the_same_call_writes_the_same_bytes(files, tmp_path):
    folder, train_task = files
    train_task(tmp_path / "again.safetensors")
    again = (tmp_path / "again.safetensors").read_bytes()
    assert again == (folder / "task.safetensors").read_bytes()
    assert not (tmp_path / ".checkpoints").exists()


@pytest.mark.rounding
def test_fresh_weights_depend_on_seed_and_target_alone(files, tmp_path):
    """Hardly trained, by a method of another name and learning rate."""
    still = task_settings(max_steps=1)
    found = files[1](tmp_path / "t.safetensors", method="other", task=still, learning_rate=1e-12)
    seed = stream(1, "task-x", "adapter")
    expected = AdapterModule(SETTINGS, 32, 1, language=False, seed=seed)
    for name, tensor in expected.state_dict().items():
        # A step of AdamW is about the learning rate, and half an ulp of what is near 0.02 is 1e-9.
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=2e-9)
    assert found.provenance["params"]["learning_rate"] == 1e-12


def test_settings_of_the_other_kind_change_nothing():
    one, other = Adapter(), Adapter(task_reduction=4, drop_last=0)
    assert one.relevant(language=True) == other.relevant(language=True)
    assert one.relevant(language=False) != other.relevant(language=False)
    other = Adapter(language_reduction=4, invertible_reduction=None)
    assert one.relevant(language=False) == other.relevant(language=False)
    assert one.relevant(language=True) != other.relevant(language=True)


@pytest.mark.rounding
def test_evaluation_stacks_what_was_trained_and_swaps_languages(files, base):
    """The head is the stored one; another language changes logits and nothing of the task; in the
    end the model is the one it was."""
    model = load_classifier(base, CLASSES, seed=9).eval()
    before, shape = snapshot(model), structure(model)
    languages = {n: load_adapter(stored(files, n), base) for n in ("qaa", "qab")}
    task, content = load_adapter(stored(files, "task"), base), stored(files, "task").content
    batch = some_batch(base, 20)
    found = []
    for below in (*languages.values(), languages["qaa"], None):
        with stacked(model, below, task), torch.no_grad():
            found.append(model(**batch).logits)
            assert all(torch.equal(p, task.head[n]) for n, p in head_parameters(model).items())
    assert torch.equal(found[0], found[2])
    for other in (found[1], found[3]):
        assert not torch.allclose(found[0], other, atol=1e-3)
    module = snapshot(task.module)
    assert differing(module, {n: stored(files, "task")[n] for n in module}) == set()
    assert stored(files, "task").content == content
    assert structure(model) == shape and differing(snapshot(model), before) == set()
    # By hand: the base's model with the stored head, and the stack.
    heads = head_parameters(model)
    with torch.no_grad():
        for name, tensor in task.head.items():
            heads[name].copy_(tensor)
        with installed(model, [languages["qaa"].module, task.module], 1):
            assert torch.equal(model(**batch).logits, found[0])


def test_a_trained_stack_is_as_good_as_its_best_checkpoint(files, base):
    model = load_classifier(base, CLASSES, seed=0)
    items = load_labelled(files[0] / "labelled.parquet", CLASSES)
    task, below = (load_adapter(stored(files, n), base) for n in ("task", "qaa"))
    with stacked(model, below, task):
        found = evaluate(model, items, load_tokenizer(base), max_length=32)
    best = stored(files, "task").provenance["outcome"]["best"]
    assert found["macro_f1"] == pytest.approx(best["macro_f1"])


def test_files_that_do_not_fit_are_refused(files, base, tmp_path):
    folder, train_task = files
    task, language = (load_adapter(stored(files, n), base) for n in ("task", "qaa"))
    tensors = dict(stored(files, "qaa"))
    facts = {"stage": "adapter", "base": base.identity}
    other = {"id": "other", "revision": None, "hash": "0" * 64}
    out = tmp_path / "t.safetensors"
    for changed, message in (
        ({"base": other}, "made for base other@None"),
        ({"stage": "sparse"}, "expected an adapter, this is of stage sparse"),
    ):
        path = tmp_path / "wrong.safetensors"
        save_tensors(path, tensors, **{**facts, **changed})
        with pytest.raises(ArtefactError, match=message):
            load_adapter(TensorFile(path), base)
        with pytest.raises(ArtefactError, match=message):
            train_task(out, language_adapter=path)
    with pytest.raises(ArtefactError, match="adapter of task-x, expected that of a language"):
        train_task(out, language_adapter=folder / "task.safetensors")
    with pytest.raises(ValueError, match="lang-qaa: only a task is trained on a language's"):
        train_task(out, classes=None, target="lang-qaa")
    two, three = (load_classifier(base, classes, seed=0) for classes in (CLASSES, ["a", "b", "c"]))
    for model, below, above, message in (
        (two, task, task, "has a head"),
        (two, None, language, "has no tensors"),
        (three, None, task, "head of the task"),
    ):
        with pytest.raises(ValueError, match=message):
            stacked(model, below, above).__enter__()
    assert list(tmp_path.glob("t.safetensors*")) == []
