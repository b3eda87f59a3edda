"""The sparse phase: only chosen entries train, packed into vectors.

Weights stay dense, but optimiser state exists for K entries only. AdamW on the packed vectors
gives the same bits as AdamW on dense tensors with masked gradients and no decay; with decay it
leaves every other entry alone, which masked gradients do not.
"""

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import accumulate, groupby
from typing import Any, cast

import torch
from torch.nn.functional import embedding
from transformers import PreTrainedModel

from deftx.core.mask import Mask
from deftx.core.parameters import backbone_parameters, matrices, shapes_of
from deftx.core.sparse_delta import SparseDelta
from deftx.engine.loop import freeze, train_with_head
from deftx.engine.objective import Objective, at_least_float32
from deftx.engine.passes import Hooks
from deftx.engine.session import Session, resolve
from deftx.engine.settings import Training
from deftx.engine.sources import around_source
from deftx.store.errors import ArtefactError


def fit_entries(
    model: PreTrainedModel,
    objective: Objective,
    settings: Training,
    mask: Mask,
    session: Session | None = None,
    round_vector: SparseDelta | None = None,
    source_vectors: Sequence[SparseDelta | None] = (),
) -> dict[str, Any]:
    """Train the entries of the backbone that the mask chooses, and the head in full, in place.
    Every other weight keeps its bits whatever the settings. The best checkpoint is left in place.

    `round_vector`, whose entries the mask must choose, and `source_vectors`: see `fit_everything`.
    Returns and raises what `train_with_head` does; and ArtefactError if the mask or a vector does
    not fit.
    """
    session = session or Session()
    total = freeze(model, session.engine.attention)
    # What vectors are added to must have all its bits.
    exact = any(vector is not None for vector in source_vectors)
    low = torch.float32 if exact else resolve(session.engine, model.device).low
    with closing(PackedEntries(model, mask, low)) as packed:

        def begin() -> None:
            if round_vector is not None:
                round_vector.put_head(model)
                packed.add(round_vector)

        return train_with_head(
            model,
            {name: p for name, p in packed.named_parameters(recurse=False) if len(p)},
            objective,
            settings,
            session,
            total=total,
            low=low,
            hooks=Hooks(
                begin,
                around_source(model, objective, source_vectors),
                packed.gathering,
                packed.write_back,
            ),
        )


class PackedEntries(torch.nn.Module):
    """The entries of a model's backbone that `mask` chooses, packed. While this is open the model
    computes with them: put each forward and backward pass inside `gathering`, call `write_back`
    after each step of an optimiser over `values` and `rows`, and `close` at the end.

    Attributes:
        values: float32 parameter (k,): the chosen entries of all tensors but the word embeddings;
            the weights themselves, not differences.
        rows: float32 parameter (K - k,): those of the word embeddings, by position. Their
            gradient is computed only for the rows that a batch looks up.

    Args:
        low: dtype of the matrices of linear layers on the device while this is open;
            bfloat16 is what autocast would make of them anew in every step.

    Raises ArtefactError if the mask does not fit.
    """

    def __init__(
        self, model: PreTrainedModel, mask: Mask, low: torch.dtype = torch.float32
    ) -> None:
        super().__init__()
        weights = backbone_parameters(model)
        mask.check_fits(shapes_of(weights))
        words = cast(torch.nn.Embedding, model.get_input_embeddings())
        device = words.weight.device
        index = {name: mask.index[name].to(device) for name in sorted(mask.index)}
        self._index = dict(index)
        word_name = next((name for name in index if weights[name] is words.weight), "")
        nothing = torch.empty(0, dtype=torch.int64, device=device)
        word_index = index.pop(word_name, nothing)
        self.rows = torch.nn.Parameter(words.weight.detach().view(-1)[word_index])
        # Names in the order of their dtype, so that each dtype is one slice of `values`.
        lowered = matrices(model) if low != torch.float32 else {}
        self._names = sorted(index, key=lambda name: (name in lowered, name))
        self._chosen = [(weights[name], index[name]) for name in self._names]
        self.values = torch.nn.Parameter(
            torch.cat([w.detach().view(-1)[i] for w, i in self._chosen] or [words.weight[:0, 0]])
        )
        for parameter in (self.values, self.rows):  # of BitFit no entry is a word's
            parameter.requires_grad_(len(parameter) > 0)
        self._originals = [(w, w.detach().cpu()) for w in lowered.values()]
        for weight, _ in self._originals:
            weight.data = weight.detach().to(low)
        self._flats = [_Flat(list(few)) for _, few in groupby(self._chosen, lambda c: c[0].dtype)]
        # In tuples, where the tree of modules does not find them.
        self._model, self._words = (model,), (words,)
        self._embedding = (_PackedEmbedding(words, self.rows, word_index),)
        model.set_input_embeddings(self._embedding[0])

    @contextmanager
    def gathering(self) -> Iterator[None]:
        """Around the forward and backward pass of a batch: adds its gradients to those of `values`
        and `rows`. Dense gradients exist inside only."""
        for flat in self._flats:
            flat.attach()
        try:
            yield
        finally:
            parts = [flat.take() for flat in self._flats]
        if parts:
            found = torch.cat(parts)
            self.values.grad = found if self.values.grad is None else self.values.grad.add_(found)

    @torch.no_grad()
    def add(self, vector: SparseDelta) -> None:
        """Add the differences of a vector to the entries; the dense weights have them after
        `write_back`. Raises ArtefactError, before anything is changed, if the vector has an entry
        that the mask does not choose."""
        lengths = [len(index) for _, index in self._chosen]
        packed = dict(zip(self._names, self.values.split(lengths), strict=True))
        places = {}
        for name, index in vector.mask.index.items():
            wanted = index.to(self.rows.device)
            chosen = self._index.get(name, wanted[:0])
            place = places[name] = torch.searchsorted(chosen, wanted)
            if not ((place < len(chosen)).all() and torch.equal(chosen[place], wanted)):
                raise ArtefactError(
                    f"the vector has entries of {name} that the mask does not choose"
                )
        for name, place in places.items():
            values = vector.values[name].to(self.values)
            packed.get(name, self.rows).index_add_(0, place, values)

    @torch.no_grad()
    def write_back(self) -> None:
        """Put the entries into the dense weights; every other entry keeps its bits."""
        parts = self.values.split([len(flat.index) for flat in self._flats])
        for flat, values in zip(self._flats, parts, strict=True):
            flat.storage.index_copy_(0, flat.index, values.to(flat.storage.dtype))
        self._embedding[0].write_back()

    @torch.no_grad()
    def close(self) -> None:
        """Leave the model as it was made, in float32, with the entries as they now are."""
        self._embedding[0].write_back()
        self._model[0].set_input_embeddings(self._words[0])
        for flat in self._flats:
            flat.close()
        for weight, original in self._originals:
            weight.data = original.to(weight.device)
        parts = self.values.split([len(index) for _, index in self._chosen])
        for (weight, index), values in zip(self._chosen, parts, strict=True):
            weight.view(-1)[index] = values


class _Flat:
    """Tensors of one dtype moved into one storage, and their gradients into another, so that one
    call gathers or scatters the entries of all: on a GPU two hundred small calls of each kind
    would cost more than the arithmetic of a step."""

    def __init__(self, chosen: list[tuple[torch.nn.Parameter, torch.Tensor]]) -> None:
        self._weights = [weight for weight, _ in chosen]
        sizes = [weight.numel() for weight in self._weights]
        self.storage = torch.cat([weight.detach().view(-1) for weight in self._weights])
        self._gradients = torch.zeros_like(self.storage)
        pairs = zip(self._weights, self._gradients.split(sizes), strict=True)
        self._views = [(weight, part.view_as(weight)) for weight, part in pairs]
        starts = accumulate(sizes, initial=0)
        self.index = torch.cat([i + start for (_, i), start in zip(chosen, starts, strict=False)])
        for part, weight in zip(self.storage.split(sizes), self._weights, strict=True):
            weight.data = part.view_as(weight)
            weight.requires_grad_(True)

    def attach(self) -> None:
        for weight, view in self._views:
            weight.grad = view

    def take(self) -> torch.Tensor:
        """The gradients of the entries, float32; those of the tensors are gone after this."""
        found = at_least_float32(self._gradients.index_select(0, self.index))
        self._gradients.zero_()
        for weight in self._weights:
            weight.grad = None
        return found

    def close(self) -> None:
        for weight in self._weights:
            weight.data = weight.detach().clone()
            weight.requires_grad_(False)


class _PackedEmbedding(torch.nn.Module):
    """Word embeddings whose gradient is computed for chosen entries only."""

    def __init__(
        self, words: torch.nn.Embedding, rows: torch.nn.Parameter, index: torch.Tensor
    ) -> None:
        super().__init__()
        self.weight, self.rows, self.padding_idx = words.weight, rows, words.padding_idx
        self._index = index
        width = words.weight.shape[1]
        self._row, self._column = index // width, index % width

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return _LookUp.apply(
            self.rows, self.weight, tokens, self._row, self._column, self.padding_idx
        )

    def write_back(self) -> None:
        self.weight.view(-1).index_copy_(0, self._index, self.rows)


class _LookUp(torch.autograd.Function):
    """Rows of an embedding; backward gives the gradient of chosen entries alone.

    The dense gradient of XLM-R's word embeddings has 192 million entries; a batch of
    2,048 tokens touches less than one in a hundred. Shapes do not depend on the tokens, so nothing
    waits for the device.
    """

    @staticmethod
    def forward(
        ctx: Any,
        entries: torch.Tensor,
        weight: torch.Tensor,
        tokens: torch.Tensor,
        row: torch.Tensor,
        column: torch.Tensor,
        padding_idx: int | None,
    ) -> torch.Tensor:
        ctx.save_for_backward(tokens, row, column)
        ctx.vocabulary, ctx.padding_idx = weight.shape[0], padding_idx
        return embedding(tokens, weight)

    @staticmethod
    def backward(ctx: Any, slope: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        tokens, row, column = ctx.saved_tensors
        tokens, width = tokens.reshape(-1), slope.shape[-1]
        slope = at_least_float32(slope.reshape(-1, width))
        if ctx.padding_idx is not None:
            slope = slope * (tokens != ctx.padding_idx).unsqueeze(1)
        # Every token of the vocabulary that occurs gets one of its own places in the batch.
        place = tokens.new_full((ctx.vocabulary,), -1)
        place[tokens] = torch.arange(len(tokens), device=tokens.device)
        sums = torch.zeros_like(slope).index_add_(0, place[tokens], slope)
        found = place[row]
        gradient = sums.view(-1)[found.clamp(min=0) * width + column] * (found >= 0)
        return gradient, None, None, None, None, None
