"""Text and labelled items as token ids: flat arrays, in memory or mapped from an artefact.

Design choice. A tensor per item would take more memory than its tokens, in every job again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, overload

import numpy as np
import torch

Example = dict[str, torch.Tensor]
"""One example: `input_ids` (length,), and what else its model and its loss need."""

IGNORED = -100
"""The label of what does not count, as in PyTorch and transformers."""

STORED = {
    "input_ids": torch.int32,
    "token_type_ids": torch.uint8,
    "special_tokens_mask": torch.bool,
    "places": torch.bool,
}
"""What a token has, and how it is stored: its number, its sentence of a pair where the tokenizer
counts them, in text whether the tokenizer added it, and in items with several predictions whether
one is made there."""


class Examples(Protocol):
    """Examples by number."""

    def __len__(self) -> int: ...
    def __getitem__(self, number: int, /) -> Example: ...


@dataclass(frozen=True, eq=False)
class Tokens(Sequence[Example]):
    """Items as tokens. Item i is made when it is asked for: int64 (length,) for each column (bool
    for masks), and its label as `labels` ().

    Attributes:
        columns: name in STORED → the values of all tokens, (tokens,).
        starts, ends: where each item starts and ends in these, int64 (items,).
        labels: number of each item's class, int64 (items,); None for text.
        ids: of the items of a file, as `encode_ids` writes them; None where they are unknown.
        counts: what was done to items that a reader may want to know of, by name.
    """

    columns: Mapping[str, torch.Tensor]
    starts: torch.Tensor
    ends: torch.Tensor
    labels: torch.Tensor | None = None
    ids: torch.Tensor | None = None
    counts: Mapping[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.starts)

    @overload
    def __getitem__(self, which: int) -> Example: ...
    @overload
    def __getitem__(self, which: slice) -> "Tokens": ...
    def __getitem__(self, which: int | slice) -> "Example | Tokens":
        if isinstance(which, slice):
            return replace(
                self,
                starts=self.starts[which],
                ends=self.ends[which],
                labels=None if self.labels is None else self.labels[which],
                ids=None,
            )
        return self.example(which)

    def example(self, which: int) -> Example:
        """Item `which`."""
        start, end = int(self.starts[which]), int(self.ends[which])
        found = {name: values[start:end] for name, values in self.columns.items()}
        example = {n: v if v.dtype == torch.bool else v.long() for n, v in found.items()}
        return example if self.labels is None else {**example, "labels": self.labels[which]}

    def blocks(self, length: int) -> "Tokens":
        """The items, which follow each other, run together and cut into blocks of `length` tokens.
        The last block starts early enough to be as long as the others, so that nothing of a small
        corpus is lost and nothing is padded; a text shorter than that is one short block."""
        first, last = int(self.starts[0]), int(self.ends[-1])
        starts = torch.arange(first, last, length).clamp(max=max(first, last - length))
        return Tokens(self.columns, starts, (starts + length).clamp(max=last))

    def tensors(self) -> dict[str, torch.Tensor]:
        """All that a file of the stage `tokens` has of them, but for the ids."""
        labels = {} if self.labels is None else {"labels": self.labels}
        return {**self.columns, "ends": self.ends, **labels}

    @property
    def grouping(self) -> dict[str, torch.Tensor]:
        """How predictions belong to items, if an item may have several: `ends` (items,), their
        number up to the end of each."""
        return {}

    def of_items(self, pooled: torch.Tensor) -> torch.Tensor:
        """A mean of states of each example as one of each item: (examples, n) → (items, n)."""
        return pooled

    def more_scores(self, found: np.ndarray, classes: Sequence[str]) -> dict[str, float]:
        """Scores of predicted classes beside accuracy and macro-F1, by name."""
        return {}
