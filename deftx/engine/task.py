"""Classification of sentences, of pairs of them, or of their words."""

from collections.abc import Sequence

import torch
from torch.nn.functional import cross_entropy
from torch.utils.data import ConcatDataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from deftx.engine.objective import (
    Batch,
    Learner,
    Objective,
    at_least_float32,
    rounded_up,
)
from deftx.engine.settings import TaskTraining
from deftx.models.predict import outputs, padded, scores
from deftx.models.token_arrays import IGNORED, Example, Examples, Tokens
from deftx.models.tokens import encode
from deftx.store.items import Items

FEW_LENGTHS = 32
"""Lengths are rounded up to a multiple of this where code is compiled for each."""


class Classification(Objective):
    """Classifying sentences, pairs of sentences, or words."""

    def __init__(
        self,
        train: Examples,
        valid: Tokens,
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
            nothing = torch.full_like(examples[0]["labels"], IGNORED)
            filling = {**examples[0], "labels": nothing}
            examples = [*examples, *[filling] * (rows - len(examples))]
        batch = padded(examples, self._tokenizer, length)
        batch.pop("places", None)
        return batch

    def labels(self, example: Example) -> int:
        """One, or the number of words that are predicted in the example."""
        return int((example["labels"] != IGNORED).sum())

    def learner(self, model: PreTrainedModel, low: torch.dtype = torch.float32) -> "Classifying":
        """Cross-entropy of the model's logits."""
        return Classifying(model)

    def validate(self, learner: Learner, device: torch.device) -> dict[str, float]:
        """`accuracy`, `macro_f1`, and of entities `entity_f1`."""
        found, _ = outputs(learner.model, self.valid, self._tokenizer)
        return scores(found, self.valid, [*(learner.model.config.id2label or {}).values()])


class Classifying(Learner):
    """Batch → the sum of the cross-entropies of its examples."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, labels: torch.Tensor, **inputs: torch.Tensor) -> torch.Tensor:
        """`labels` (batch,) or (batch, length), and the model's inputs (batch, length)."""
        found = at_least_float32(self.model(**inputs).logits).flatten(0, -2)
        return cross_entropy(found, labels.flatten(), ignore_index=IGNORED, reduction="sum")


def classification(
    train: Items | Tokens,
    valid: Items | Tokens,
    tokenizer: PreTrainedTokenizerBase,
    settings: TaskTraining,
) -> Classification:
    """The objective of sentences or pairs of sentences with labels, or of sentences whose words
    have tags; items, in a list or a `datasets.Dataset`, have `text`, perhaps `text_pair`, and
    `label` as a number, or `words` and `tags` as numbers, or are tokens already."""
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
