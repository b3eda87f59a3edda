"""Predictions of a classifier."""

from collections.abc import Sequence
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from deftx.engine.task import PREDICTED_AT_ONCE, batches_to_predict, encode
from deftx.models.metric import accuracy_and_f1


def evaluate(
    model: PreTrainedModel,
    items: Sequence[dict[str, Any]],
    tokenizer: PreTrainedTokenizerBase,
    max_length: int = 128,
    batch_size: int = PREDICTED_AT_ONCE,
) -> dict[str, float]:
    """Accuracy and macro-F1 in [0, 1] on items with `text`, perhaps `text_pair`, and `label`."""
    found = predict(model, items, tokenizer, max_length, batch_size)
    return accuracy_and_f1(found.numpy(), torch.tensor([i["label"] for i in items]).numpy())


def predict(
    model: PreTrainedModel,
    items: Sequence[dict[str, Any]],
    tokenizer: PreTrainedTokenizerBase,
    max_length: int = 128,
    batch_size: int = PREDICTED_AT_ONCE,
) -> torch.Tensor:
    """Logits (items, classes), float32 on the CPU, in the order of the items: these have `text` and
    perhaps `text_pair`, and need no label."""
    return predict_and_pool(model, items, tokenizer, max_length, batch_size)[0]


@torch.no_grad()
def predict_and_pool(
    model: PreTrainedModel,
    items: Sequence[dict[str, Any]],
    tokenizer: PreTrainedTokenizerBase,
    max_length: int = 128,
    batch_size: int = PREDICTED_AT_ONCE,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (items, classes) and what the model makes of each item, (items, hidden): the mean of
    the backbone's last hidden states over its tokens. Both float32 on the CPU, in the order of the
    items."""
    # What is predicted needs no label; one is asked for by `encode`, and the model never sees it.
    examples = encode([{"label": 0, **item} for item in items], tokenizer, max_length)
    found: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
    states: list[torch.Tensor] = []
    watch = model.base_model.register_forward_hook(
        lambda _, __, output: states.append(output.last_hidden_state)
    )
    try:
        for chosen, batch in batches_to_predict(model, examples, tokenizer, batch_size):
            logits = model(**batch).logits.float().cpu()
            here = batch["attention_mask"].unsqueeze(2)
            pooled = ((states.pop() * here).sum(1) / here.sum(1)).float().cpu()
            found.update(zip(chosen, zip(logits, pooled, strict=True), strict=True))
    finally:
        watch.remove()
    in_order = [found[i] for i in range(len(items))]
    return torch.stack([each for each, _ in in_order]), torch.stack([each for _, each in in_order])
