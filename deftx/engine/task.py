"""Classification of sentences, or of pairs of them."""

from collections.abc import Sequence

import torch
from torch.nn.functional import cross_entropy
from torch.utils.data import ConcatDataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from deftx.engine.objective import (
    IGNORED,
    Batch,
    Learner,
    Objective,
    at_least_float32,
    rounded_up,
)
from deftx.engine.settings import TaskTraining
from deftx.models.predict import accuracy_and_f1, outputs, padded
from deftx.models.tokens import Example, Examples, Tokens, encode
from deftx.store.items import Items

FEW_LENGTHS = 32
"""Lengths are rounded up to a multiple of this where code is compiled for each."""


class Classification(Objective):
    """Classifying sentences or pairs of sentences."""

    def __init__(
        self,
        train: Examples,
        valid: Sequence[Example],
        tokenizer: PreTrainedTokenizerBase,
        settings: TaskTraining,
        sources: tuple[int, ...] = (),
    ) -> None:
        super().__init__(train, sources)
        self.valid, self._tokenizer = valid, tokenizer
        self._max_length, self.best = settings.max_length, settings.metric

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
        found, _ = outputs(learner.model, self.valid, self._tokenizer)
        labels = torch.stack([example["labels"] for example in self.valid])
        return accuracy_and_f1(found.numpy(), labels.numpy())


class Classifying(Learner):
    """Batch → the sum of the cross-entropies of its examples."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, labels: torch.Tensor, **inputs: torch.Tensor) -> torch.Tensor:
        """`labels` (batch,), and the model's inputs (batch, length)."""
        found = at_least_float32(self.model(**inputs).logits)
        return cross_entropy(found, labels, ignore_index=IGNORED, reduction="sum")


def classification(
    train: Items | Tokens,
    valid: Items | Tokens,
    tokenizer: PreTrainedTokenizerBase,
    settings: TaskTraining,
) -> Classification:
    """The objective of sentences or pairs of sentences with labels; items, in a list or a
    `datasets.Dataset`, have `text`, perhaps `text_pair`, and `label` as a number, or
    are tokens already."""
    return classification_of_sources([train], valid, tokenizer, settings)


def classification_of_sources(
    train: Sequence[Items | Tokens],
    valid: Items | Tokens,
    tokenizer: PreTrainedTokenizerBase,
    settings: TaskTraining,
) -> Classification:
    """As `classification`, on the items of several sources."""
    sources = [encode(few, tokenizer, settings.max_length) for few in train]
    return Classification(
        sources[0] if len(sources) == 1 else ConcatDataset(sources),  # type: ignore[arg-type] # any sequence will do
        encode(valid, tokenizer, settings.max_length),
        tokenizer,
        settings,
        sources=tuple(map(len, train)),
    )
