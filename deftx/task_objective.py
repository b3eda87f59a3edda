"""Classification of sentences, or of pairs of them."""

from collections.abc import Sequence

from transformers import DataCollatorWithPadding, PreTrainedTokenizerBase

from deftx.metrics import accuracy_and_f1
from deftx.objective import Example, Objective
from deftx.settings.training import TaskTraining


def classification(
    train: Sequence[Example],
    valid: Sequence[Example],
    tokenizer: PreTrainedTokenizerBase,
    settings: TaskTraining,
) -> Objective:
    """Sentences or pairs of sentences with labels; items have `text`, perhaps `text_pair`, and
    `label` as a number. Padded to the longest of each batch."""
    return Objective(
        encode(train, tokenizer, settings.max_length),
        encode(valid, tokenizer, settings.max_length),
        DataCollatorWithPadding(tokenizer),
        best=settings.metric,
        score=accuracy_and_f1,
    )


def encode(
    items: Sequence[Example], tokenizer: PreTrainedTokenizerBase, max_length: int
) -> list[Example]:
    """Items as token ids, cut to `max_length`, with the label under `labels`."""
    pairs = [item["text_pair"] for item in items] if "text_pair" in items[0] else None
    encoded = tokenizer(
        [item["text"] for item in items], pairs, truncation=True, max_length=max_length
    )
    return [
        {**{key: encoded[key][i] for key in encoded}, "labels": item["label"]}
        for i, item in enumerate(items)
    ]
