"""Predictions of a classifier, and putting a composed model together."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from deftx.backbone import backbone_parameters, head_parameters
from deftx.task_metric import accuracy_and_f1
from deftx.task_objective import PREDICTED_AT_ONCE, encode, logits


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
    """Logits (items, classes), float32 on the CPU, in the order of the items."""
    return logits(model, encode(items, tokenizer, max_length), tokenizer, batch_size)


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
