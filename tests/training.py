"""What tests of training share: tiny data and models, plain loops as oracles, and comparisons."""

import copy

import pytest
import torch
from conftest import KillError, kill_before, sentences

from deftx.core.mask import mask_layout, mask_tensors
from deftx.core.parameters import backbone_parameters, head_parameters
from deftx.engine.checkpoint import Checkpoint
from deftx.engine.language import masked_language_modelling
from deftx.engine.settings import LanguageTraining, TaskTraining
from deftx.engine.task import classification
from deftx.models.load import load_classifier, load_masked_lm, load_tokenizer
from deftx.store.items import write_items
from deftx.store.tensors import save_tensors

CLASSES = ["low", "high"]
TASK = {"learning_rate": 1e-2, "batch_size": 8, "epochs": 2, "max_length": 32}
LANGUAGE = {
    "learning_rate": 5e-3, "batch_size": 8, "epochs": 2, "min_steps": 0, "max_length": 16,
    "evaluate_every": 5,
}  # fmt: skip
NEVER = 10**6
"""Evaluate so seldom that training ends with its last weights."""


# Data and models


def items(count, seed=0):
    """Labelled sentences of different lengths."""
    lines = [line[: 12 + 7 * (i % 9)] for i, line in enumerate(sentences(count, seed))]
    return [{"id": str(i), "text": s, "label": int("la" in s)} for i, s in enumerate(lines)]


def write_data(folder, made, name="labelled"):
    """The items in a file, and their sentences alone in `text.parquet`."""
    write_items(folder / "text.parquet", [{"id": i["id"], "text": i["text"]} for i in made])
    labelled = [{**item, "label": CLASSES[item["label"]]} for item in made]
    write_items(folder / f"{name}.parquet", labelled)
    return folder


def task_settings(**changes):
    return TaskTraining(**{**TASK, **changes})


def language_settings(**changes):
    return LanguageTraining(**{**LANGUAGE, **changes})


def classifier(base):
    return load_classifier(base, CLASSES, seed=3)


def task(base, count=60, valid=10, **changes):
    """A classifier, its objective and settings."""
    settings = task_settings(**changes)
    objective = classification(items(count), items(valid, 1), load_tokenizer(base), settings)
    return classifier(base), objective, settings


def language(base, count=60, **changes):
    """A language model, its objective and settings."""
    settings = language_settings(**changes)
    objective = masked_language_modelling(sentences(count), load_tokenizer(base), settings)
    return load_masked_lm(base), objective, settings


def save_mask(path, mask, base):
    save_tensors(
        path, mask_tensors(mask), layout=mask_layout(mask), base=base.identity, stage="mask"
    )


# Tensors by name


def snapshot(model):
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def structure(model):
    """What putting something into a model and taking it out must leave."""
    return [(name, type(m), len(m._forward_hooks)) for name, m in model.named_modules()]


def dense(vector, shapes):
    """A sparse vector, or None, as dense tensors of these shapes."""
    tensors = {name: torch.zeros(shape) for name, shape in shapes.items()}
    if vector is not None:
        vector.add_to(tensors)
    return tensors


def is_key_bias(name):
    """Softmax does not see the biases of keys: their gradient is rounding, which AdamW turns into
    steps as large as any."""
    return name.endswith("key.bias")


def without_key_bias(tensors):
    return {name: tensor for name, tensor in tensors.items() if not is_key_bias(name)}


def differing(ours, theirs):
    """The names of tensors whose bits differ."""
    assert ours.keys() == theirs.keys()
    return {name for name in ours if not torch.equal(ours[name], theirs[name])}


def assert_close(ours, plain, relative=1e-10):
    """Relative to the norm of each tensor, since single entries that nearly cancel have no digits
    to compare. The default is for float64."""
    assert ours.keys() == plain.keys()
    for name, expected in without_key_bias(plain).items():
        assert ours[name].dtype == expected.dtype, name
        difference, size = (float(t.detach().norm()) for t in (ours[name] - expected, expected))
        assert difference <= relative * (size + 1e-3), (name, difference, size)


def one_forward_pass(model, ids):
    """Logits in float64, and how far those of a pass in float32 may be from them.

    A sum of n products in float32 is the exact sum for weights that are changed by at most n · ε.
    So the bound is the change of logits when all weights change by 2⁻¹², scaled to n · ε, n being
    the longest sum; twice that, for what is between the matrices.
    """
    exact = copy.deepcopy(model).double().eval()
    moved = copy.deepcopy(exact)
    longest = max(p.shape[-1] for p in backbone_parameters(model).values() if p.ndim == 2)
    with torch.no_grad():
        for parameter in moved.parameters():
            parameter *= 1 + 2**-12 * torch.randn_like(parameter).sign()
        logits, others = (m(**ids).logits for m in (exact, moved))
    scale = 2 * longest * torch.finfo(torch.float32).eps * 2**12
    return logits, scale * float((logits - others).abs().max())


def distance(ours, plain):
    """Of all tensors together, relative to their distance from zero."""
    difference = sum((ours[n] - plain[n]).norm() ** 2 for n in plain) ** 0.5
    return float(difference / sum(t.norm() ** 2 for t in plain.values()) ** 0.5)


# Oracles


def in_order(monkeypatch):
    """Train on examples in the order they have, so that a plain loop can follow."""
    monkeypatch.setattr("deftx.engine.steps._order", lambda examples, seed: torch.arange(examples))


def examples_in_order(objective, settings, step, seed=0):
    size, epoch = settings.batch_size * settings.accumulation, settings.steps_per_epoch
    first = step % epoch(len(objective)) * size
    return objective.examples(range(first, min(first + size, len(objective))), seed)


def batch_in_order(objective, settings, step):
    return objective.collate(examples_in_order(objective, settings, step))


def train_only(model, parameters):
    """The parameters and those of the head, which alone require a gradient afterwards."""
    trained = [*parameters, *head_parameters(model).values()]
    model.requires_grad_(False)
    for parameter in trained:
        parameter.requires_grad_(True)
    return trained


def plain_loop(trained, settings, steps, backward):
    """The slow way: AdamW with linear decay on the clipped gradients that `backward(step)` leaves
    in what is trained."""
    optimizer = torch.optim.AdamW(trained, lr=settings.learning_rate, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: max(0, 1 - step / steps))
    for step in range(steps):
        optimizer.zero_grad()
        backward(step)
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        torch.nn.utils.clip_grad_norm_(parameters, settings.clip)
        optimizer.step()
        schedule.step()


def plain_masked_loss(model, tokenizer, examples):
    """The sum of the cross-entropy over the logits at all positions."""
    tokens = [example["input_ids"].tolist() for example in examples]
    batch = tokenizer.pad({"input_ids": tokens}, return_tensors="pt")
    labels = torch.nn.utils.rnn.pad_sequence(
        [example["labels"] for example in examples], batch_first=True, padding_value=-100
    )
    logits = model(**batch).logits.flatten(0, 1)
    return torch.nn.functional.cross_entropy(logits, labels.flatten(), reduction="sum")


def killed_and_resumed(run, out, steps):
    """What `run` returns after it was killed at the beginning of each of the steps."""
    for step in steps:
        with Checkpoint(out, {}) as checkpoint, pytest.raises(KillError):
            run(checkpoint=checkpoint, before_step=kill_before(step))
        assert len(list(checkpoint.folder.glob("*.safetensors"))) <= 1
    with Checkpoint(out, {}) as checkpoint:
        assert steps[-1] < 2 or checkpoint.load()[1]["step"] == steps[-1] - 1
        found = run(checkpoint=checkpoint)
        checkpoint.remove()
    assert not (out.parent / ".checkpoints").exists()
    return found
