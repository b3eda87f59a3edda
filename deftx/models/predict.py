"""Predictions of a classifier, and the two metrics by which training chooses its best checkpoint.

These metrics are apart from `deftx.report.metrics`: an edit of what is only reported leaves
training and predictions alone.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn.functional import pad
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from deftx.models.token_arrays import IGNORED, Example, Tokens
from deftx.models.tokens import encode
from deftx.store.items import Items, as_items

PREDICTED_AT_ONCE = 64
"""Examples that go through the model at a time in prediction."""


def evaluate(
    model: PreTrainedModel,
    items: Items | Tokens,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int = 128,
    batch_size: int = PREDICTED_AT_ONCE,
) -> dict[str, float]:
    """Scores in [0, 1], see `scores`, on items with `text`, perhaps `text_pair`, and `label`, or
    with `words` and `tags`: a list, a `datasets.Dataset`, or their tokens.

    Raises InputError if a Dataset numbers its classes in another order than the model.
    """
    if not isinstance(items, Tokens):
        items = as_items(items, [*(model.config.id2label or {}).values()])
    examples = encode(items, tokenizer, max_length)
    found = predict(model, examples, tokenizer, max_length, batch_size)
    return scores(found, examples, [*(model.config.id2label or {}).values()])


def predict(
    model: PreTrainedModel,
    items: Items | Tokens,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int = 128,
    batch_size: int = PREDICTED_AT_ONCE,
) -> torch.Tensor:
    """Logits (items, classes), float32 on the CPU, in the order of the items, a list or a
    `datasets.Dataset`: these have `text` and perhaps `text_pair`, and need no label. Of items with
    `words`, logits (words, classes) of all words in order."""
    return predict_and_pool(model, items, tokenizer, max_length, batch_size)[0]


def predict_and_pool(
    model: PreTrainedModel,
    items: Items | Tokens,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int = 128,
    batch_size: int = PREDICTED_AT_ONCE,
) -> tuple[torch.Tensor, torch.Tensor]:
    """What `predict` returns, and the mean of the backbone's last hidden states over the tokens of
    each item, (items, hidden). Both float32 on the CPU, in the order of the items."""
    examples = encode(items, tokenizer, max_length)
    logits, pooled = outputs(model, examples, tokenizer, batch_size)
    return logits, examples.of_items(pooled)


@torch.no_grad()
def outputs(
    model: PreTrainedModel,
    examples: Sequence[Example],
    tokenizer: PreTrainedTokenizerBase,
    batch_size: int = PREDICTED_AT_ONCE,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (predictions, classes) and mean states (examples, hidden) of examples as `encode`
    makes them, whose labels are not used. An example has a prediction at each of its `places`, or
    without these one. The model is put into evaluation mode. Examples of similar length go
    together, so that little is padded."""
    model.eval()
    states: list[torch.Tensor] = []
    watch = model.base_model.register_forward_hook(
        lambda _, __, output: states.append(output.last_hidden_state)
    )
    order = sorted(range(len(examples)), key=lambda i: (len(examples[i]["input_ids"]), i))
    found: list[torch.Tensor] = []
    pooled: list[torch.Tensor] = []
    try:
        for first in range(0, len(order), batch_size):
            few = [examples[i] for i in order[first : first + batch_size]]
            batch = padded(few, tokenizer, len(few[-1]["input_ids"]))
            batch.pop("labels", None)
            places = batch.pop("places", None)
            batch = {name: tensor.to(model.device) for name, tensor in batch.items()}
            logits = model(**batch).logits.float().cpu()
            if places is None:
                found += logits.split(1)
            else:
                found += logits[places].split(places.sum(1).tolist())
            here = batch["attention_mask"].unsqueeze(2)
            pooled.append(((states.pop() * here).sum(1) / here.sum(1)).float().cpu())
    finally:
        watch.remove()
    back = torch.tensor(order).argsort()
    return torch.cat([found[i] for i in back.tolist()]), torch.cat(pooled)[back]


def padded(
    examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase, length: int
) -> dict[str, torch.Tensor]:
    """Examples as one batch, padded to a length, with its `attention_mask`."""
    lengths = torch.tensor([len(example["input_ids"]) for example in examples])
    fill = {
        "input_ids": tokenizer.pad_token_id,
        "token_type_ids": tokenizer.pad_token_type_id,
        "labels": IGNORED,
        "places": False,
    }
    batch = {}
    for name, first in examples[0].items():
        values = [example[name] for example in examples]
        if first.dim():
            values = [pad(value, (0, length - len(value)), value=fill[name]) for value in values]
        batch[name] = torch.stack(values)
    batch["attention_mask"] = (torch.arange(length) < lengths.unsqueeze(1)).long()
    return batch


def scores(logits: torch.Tensor, tokens: Tokens, classes: Sequence[str]) -> dict[str, float]:
    """Accuracy, macro-F1 and what else is usual for such items, in [0, 1], of logits (predictions,
    classes)."""
    assert tokens.labels is not None, "items without labels have no score"
    more = tokens.more_scores(logits.argmax(1).numpy(), classes)
    return {**accuracy_and_f1(logits.numpy(), tokens.labels.numpy()), **more}


def accuracy_and_f1(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Accuracy and macro-F1 in [0, 1] of logits (n, classes) against labels (n,). A class that is
    neither present nor predicted counts with F1 = 0."""
    found, classes = logits.argmax(axis=1), logits.shape[1]
    right = np.bincount(labels[found == labels], minlength=classes)
    either = np.bincount(labels, minlength=classes) + np.bincount(found, minlength=classes)
    f1 = 2 * right / np.maximum(either, 1)
    return {"accuracy": float((found == labels).mean()), "macro_f1": float(f1.mean())}
