"""Predictions of a classifier, and putting a composed model together."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from transformers import DataCollatorWithPadding, PreTrainedModel, PreTrainedTokenizerBase

from deftx.backbone import backbone_parameters, head_parameters
from deftx.metrics import accuracy_and_f1
from deftx.task_objective import encode


def evaluate(
    model: PreTrainedModel,
    items: Sequence[dict[str, Any]],
    tokenizer: PreTrainedTokenizerBase,
    max_length: int = 128,
    batch_size: int = 64,
) -> dict[str, float]:
    """Accuracy and macro-F1 in [0, 1] on items with `text`, perhaps `text_pair`, and `label`."""
    logits = predict(model, items, tokenizer, max_length, batch_size)
    return accuracy_and_f1(logits.numpy(), torch.tensor([i["label"] for i in items]).numpy())


@torch.no_grad()
def predict(
    model: PreTrainedModel,
    items: Sequence[dict[str, Any]],
    tokenizer: PreTrainedTokenizerBase,
    max_length: int = 128,
    batch_size: int = 64,
) -> torch.Tensor:
    """Logits (items, classes), float32 on the CPU, in the order of the items.

    Items of similar length go through together, so that little is padded.
    """
    model.eval()
    device = next(model.parameters()).device
    examples = encode(items, tokenizer, max_length)
    collate = DataCollatorWithPadding(tokenizer)
    order = sorted(range(len(examples)), key=lambda i: (len(examples[i]["input_ids"]), i))
    logits: dict[int, torch.Tensor] = {}
    for first in range(0, len(order), batch_size):
        chosen = order[first : first + batch_size]
        batch = collate([{k: v for k, v in examples[i].items() if k != "labels"} for i in chosen])
        output = model(**{key: value.to(device) for key, value in batch.items()}).logits
        logits.update(zip(chosen, output.float().cpu(), strict=True))
    return torch.stack([logits[i] for i in range(len(examples))])


@torch.no_grad()
def add_dense(
    model: PreTrainedModel,
    vectors: Sequence[tuple[Mapping[str, torch.Tensor], float]],
    head: Mapping[str, torch.Tensor],
) -> None:
    """Add Σ scale · vector to the backbone, summed first and added once, and put the head in."""
    weights, heads = backbone_parameters(model), head_parameters(model)
    for name, weight in weights.items():
        parts = [vector[name] * scale for vector, scale in vectors if name in vector]
        if parts:
            weight.add_(sum(parts[1:], parts[0]).to(weight.device))
    for name, tensor in head.items():
        heads[name].copy_(tensor)
