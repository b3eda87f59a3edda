"""Classification of sentences, or of pairs of them."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from deftx.engine.objective import IGNORED, Batch, Example, Learner, Objective, rounded_up
from deftx.engine.training_settings import TaskTraining
from deftx.models.metric import accuracy_and_f1

PREDICTED_AT_ONCE = 64
"""Examples that go through the model at a time in prediction."""


FEW_LENGTHS = 32
"""Lengths are rounded up to a multiple of this where code is compiled for each."""


class Classification(Objective):
    """Classifying sentences or pairs of sentences."""

    def __init__(
        self,
        train: Sequence[Example],
        valid: Sequence[Example],
        tokenizer: PreTrainedTokenizerBase,
        settings: TaskTraining,
        sources: tuple[int, ...] = (),
    ) -> None:
        self._train, self.valid, self._tokenizer = train, valid, tokenizer
        self._max_length, self.best = settings.max_length, settings.metric
        self._sources = sources or (len(train),)

    def __len__(self) -> int:
        return len(self._train)

    @property
    def sources(self) -> tuple[int, ...]:
        """How many training examples each source has."""
        return self._sources

    def examples(self, indices: Sequence[int], seed: int) -> list[Example]:
        """Items as they are; nothing is drawn."""
        return [self._train[i] for i in indices]

    def collate(self, examples: Sequence[Example], rows: int = 0) -> Batch:
        """The model's inputs and `labels`. Rows that fill up are the first example again, without
        its label."""
        length = max(len(example["input_ids"]) for example in examples)
        if rows:
            length = min(rounded_up(length, FEW_LENGTHS), self._max_length)
            filling = {**examples[0], "labels": torch.tensor(IGNORED)}
            examples = [*examples, *[filling] * (rows - len(examples))]
        return padded(examples, self._tokenizer, length)

    def labels(self, example: Example) -> int:
        """One."""
        return 1

    def learner(self, model: PreTrainedModel, low: torch.dtype = torch.float32) -> "Classifying":
        """Cross-entropy of the model's logits."""
        return Classifying(model)

    def validate(self, learner: Learner, device: torch.device) -> dict[str, float]:
        """`accuracy` and `macro_f1`."""
        found = logits(learner.model, self.valid, self._tokenizer)
        return accuracy_and_f1(
            found.numpy(), torch.stack([example["labels"] for example in self.valid]).numpy()
        )


class Classifying(Learner):
    """Batch → the sum of the cross-entropies of its examples."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, labels: torch.Tensor, **inputs: torch.Tensor) -> torch.Tensor:
        """`labels` (batch,), and the model's inputs (batch, length)."""
        found = self.model(**inputs).logits.float()
        return cross_entropy(found, labels, ignore_index=IGNORED, reduction="sum")

    def close(self) -> None:
        """Nothing to put back."""


def classification(
    train: Sequence[dict[str, Any]],
    valid: Sequence[dict[str, Any]],
    tokenizer: PreTrainedTokenizerBase,
    settings: TaskTraining,
) -> Classification:
    """The objective of sentences or pairs of sentences with labels; items have `text`, perhaps
    `text_pair`, and `label` as a number."""
    return classification_of_sources([train], valid, tokenizer, settings)


def classification_of_sources(
    train: Sequence[Sequence[dict[str, Any]]],
    valid: Sequence[dict[str, Any]],
    tokenizer: PreTrainedTokenizerBase,
    settings: TaskTraining,
) -> Classification:
    """As `classification`, on the items of several sources."""
    return Classification(
        [example for few in train for example in encode(few, tokenizer, settings.max_length)],
        encode(valid, tokenizer, settings.max_length),
        tokenizer,
        settings,
        sources=tuple(map(len, train)),
    )


def encode(
    items: Sequence[dict[str, Any]], tokenizer: PreTrainedTokenizerBase, max_length: int
) -> list[Example]:
    """Items as token ids, cut to `max_length`, with the label under `labels`."""
    pairs = [item["text_pair"] for item in items] if "text_pair" in items[0] else None
    encoded = tokenizer(
        [item["text"] for item in items], pairs, truncation=True, max_length=max_length
    )
    columns = [name for name in encoded if name != "attention_mask"]
    return [
        {
            **{name: torch.tensor(encoded[name][i]) for name in columns},
            "labels": torch.tensor(item["label"]),
        }
        for i, item in enumerate(items)
    ]


def padded(examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase, length: int) -> Batch:
    """Examples as one batch, padded to a length."""
    lengths = torch.tensor([len(example["input_ids"]) for example in examples])
    fill = {"input_ids": tokenizer.pad_token_id, "token_type_ids": tokenizer.pad_token_type_id}
    batch = {}
    for name, first in examples[0].items():
        values = [example[name] for example in examples]
        if first.dim():
            pads = [length - len(value) for value in values]
            values = [
                torch.nn.functional.pad(value, (0, pad), value=fill[name])
                for value, pad in zip(values, pads, strict=True)
            ]
        batch[name] = torch.stack(values)
    batch["attention_mask"] = (torch.arange(length) < lengths.unsqueeze(1)).long()
    return batch


@torch.no_grad()
def logits(
    model: PreTrainedModel,
    examples: Sequence[Example],
    tokenizer: PreTrainedTokenizerBase,
    batch_size: int = PREDICTED_AT_ONCE,
) -> torch.Tensor:
    """Logits (examples, classes), float32 on the CPU, in the order of the examples."""
    found: dict[int, torch.Tensor] = {}
    for chosen, batch in batches_to_predict(model, examples, tokenizer, batch_size):
        found.update(zip(chosen, model(**batch).logits.float().cpu(), strict=True))
    return torch.stack([found[i] for i in range(len(examples))])


def batches_to_predict(
    model: PreTrainedModel,
    examples: Sequence[Example],
    tokenizer: PreTrainedTokenizerBase,
    batch_size: int,
) -> Iterator[tuple[list[int], Batch]]:
    """Numbers of examples and the inputs made of them, on the model's device; the model in
    evaluation mode. Examples of similar length go together, so that little is padded."""
    model.eval()
    device = next(model.parameters()).device
    order = sorted(range(len(examples)), key=lambda i: (len(examples[i]["input_ids"]), i))
    for first in range(0, len(order), batch_size):
        chosen = order[first : first + batch_size]
        longest = len(examples[chosen[-1]]["input_ids"])
        batch = padded([examples[i] for i in chosen], tokenizer, longest)
        del batch["labels"]
        yield chosen, {name: tensor.to(device) for name, tensor in batch.items()}
