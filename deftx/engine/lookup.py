"""Word embeddings whose gradient is that of the rows which a batch looks up.

The dense gradient of XLM-R's word embeddings has 192 million entries; a batch of 2,048 tokens
touches less than one in a hundred. Shapes do not depend on the tokens, so nothing waits for the
device.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple, cast

import torch
from torch.nn.functional import embedding
from transformers import PreTrainedModel

from deftx.engine.objective import at_least_float32


class RowGradient(NamedTuple):
    """The gradient of a table (v, h): `slope` (t, h) belongs to row `tokens` (t,), where rows may
    occur more than once; every other row's is 0."""

    tokens: torch.Tensor
    slope: torch.Tensor

    def by_row(self, vocabulary: int) -> tuple[torch.Tensor, torch.Tensor]:
        """(place, sums): the gradient of row r, in float32, is `sums[place[r]]`, and 0 where
        `place`, int64 (v,), is -1. Every token that occurs has one of its own places in the
        batch; `sums` is 0 at the others."""
        place = self.tokens.new_full((vocabulary,), -1)
        place[self.tokens] = torch.arange(len(self.tokens), device=place.device)
        sums = at_least_float32(torch.zeros_like(self.slope))
        return place, sums.index_add_(0, place[self.tokens], at_least_float32(self.slope))

    def dense(self, vocabulary: int) -> torch.Tensor:
        """The gradient of the whole table."""
        slope = at_least_float32(self.slope)
        return slope.new_zeros(vocabulary, slope.shape[1]).index_add_(0, self.tokens, slope)


def row_gradient(tokens: torch.Tensor, slope: torch.Tensor, padding_idx: int | None) -> RowGradient:
    """The gradient of a table from that of its rows at `tokens`, of any shape; padding has none."""
    tokens, slope = tokens.reshape(-1), at_least_float32(slope.reshape(-1, slope.shape[-1]))
    if padding_idx is not None:
        slope = slope * (tokens != padding_idx).unsqueeze(1)
    return RowGradient(tokens, slope)


class LookUp(torch.nn.Module):
    """In the place of a model's word embeddings until `close`. What is differentiated is not the
    table but `found`, the rows that were looked up last; `gradient` makes one of the other.

    Without `trains` nothing is remembered.
    """

    def __init__(self, model: PreTrainedModel, trains: bool = True) -> None:
        super().__init__()
        self._trains = trains
        words = cast(torch.nn.Embedding, model.get_input_embeddings())
        self.weight, self.padding_idx = words.weight, words.padding_idx
        self.found: torch.Tensor = self.weight[:0]
        self._tokens: torch.Tensor = self.found
        # In tuples, where the tree of modules does not find them.
        self._model, self._words = (model,), (words,)
        model.set_input_embeddings(self)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Rows of the table."""
        rows = embedding(tokens, self.weight.detach())
        if self._trains and torch.is_grad_enabled():
            self._tokens, self.found = tokens, rows.requires_grad_()
        return rows

    def gradient(self, slope: torch.Tensor) -> RowGradient:
        """The gradient of the table from that of `found`; padding has none."""
        tokens, self._tokens = self._tokens, self.weight[:0]
        self.found = self.weight[:0]  # its memory is needed
        return row_gradient(tokens, slope, self.padding_idx)

    def close(self) -> None:
        """Put the embeddings back."""
        self._model[0].set_input_embeddings(self._words[0])


def _look_up(weight: torch.Tensor, padding_idx: int | None, tokens: torch.Tensor) -> torch.Tensor:
    return _Rows.apply(weight, tokens, padding_idx)


class _Rows(torch.autograd.Function):
    """Rows of a small table."""

    @staticmethod
    def forward(
        ctx: Any, weight: torch.Tensor, tokens: torch.Tensor, padding_idx: int | None
    ) -> torch.Tensor:
        ctx.save_for_backward(tokens)
        ctx.rows, ctx.padding_idx = len(weight), padding_idx
        return embedding(tokens, weight)

    @staticmethod
    def backward(ctx: Any, slope: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (tokens,) = ctx.saved_tensors
        return row_gradient(tokens, slope, ctx.padding_idx).dense(ctx.rows), None, None


@contextmanager
def small_tables_by_row(model: PreTrainedModel) -> Iterator[None]:
    """Inside, the gradients of a backbone's tables of positions and of types are added up row by
    row. PyTorch's own kernel takes a GPU several times as long where rows occur often."""
    words = model.get_input_embeddings()
    modules = model.base_model.modules()
    tables = [m for m in modules if type(m) is torch.nn.Embedding and m is not words]
    for table in tables:
        # An attribute of the module, which is found before the method of its class.
        vars(table)["forward"] = partial(_look_up, table.weight, table.padding_idx)
    try:
        yield
    finally:
        for table in tables:
            del vars(table)["forward"]


class WithLookUp:
    """Parameters of a model that train, its word embeddings by a `LookUp`; `close` at the end.

    Attributes:
        rows: the name of the word embeddings.
    """

    def __init__(
        self, model: PreTrainedModel, trained: Mapping[str, torch.nn.Parameter], rows: str
    ) -> None:
        self.rows, self._lookup = rows, LookUp(model)
        self._others = {name: p for name, p in trained.items() if name != rows}

    def leaves(self) -> list[torch.Tensor]:
        """What a backward pass differentiates."""
        return [*self._others.values(), self._lookup.found]

    def gather(
        self, slopes: Sequence[torch.Tensor | None]
    ) -> dict[str, torch.Tensor | RowGradient | None]:
        """The gradients of the parameters by name, from those of `leaves`."""
        found = dict[str, torch.Tensor | RowGradient | None](
            zip(self._others, slopes[:-1], strict=True)
        )
        last = slopes[-1]
        return {**found, self.rows: None if last is None else self._lookup.gradient(last)}

    def close(self) -> None:
        """Put the embeddings back."""
        self._lookup.close()


def trained_rows(model: PreTrainedModel, trained: Mapping[str, torch.nn.Parameter]) -> str | None:
    """The name of the word embeddings, if they train and nothing but looking up uses them."""
    words, decoder = model.get_input_embeddings(), model.get_output_embeddings()
    if type(words) is not torch.nn.Embedding or words.max_norm is not None:
        return None
    if decoder is not None and decoder.weight is words.weight:
        return None
    return next((name for name, p in trained.items() if p is words.weight), None)
