"""The sparse phase: only chosen entries train, packed into vectors.

Weights stay dense, but optimiser state exists for K entries only. AdamW on the packed vectors
gives the same bits as AdamW on dense tensors with masked gradients and no decay; with decay it
leaves every other entry alone, which masked gradients do not.
"""

from collections.abc import Sequence
from contextlib import closing
from itertools import accumulate, groupby, islice
from typing import Any, cast

import torch
from transformers import PreTrainedModel

from deftx.core.mask import Mask
from deftx.core.parameters import backbone_parameters, linear_parameters, shapes_of
from deftx.core.sparse_delta import SparseDelta
from deftx.engine.lookup import LookUp, RowGradient
from deftx.engine.loop import freeze, train_with_head
from deftx.engine.objective import Objective, at_least_float32
from deftx.engine.passes import Hooks
from deftx.engine.session import Session, resolve
from deftx.engine.settings import Training
from deftx.engine.sources import around_source
from deftx.models.device import has_kernels
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
    resolved = resolve(session.engine, model.device)
    low = torch.float32 if exact else resolved.low
    with closing(PackedEntries(model, mask, low, at_once=resolved.fused)) as packed:

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
                begin=begin,
                around_source=around_source(model, objective, source_vectors),
                leaves=packed.leaves,
                gather=packed.gather,
                after_step=packed.write_back,
            ),
        )


SMALL = 2**20
"""So many gradients are put together sooner than gathered from tensor by tensor, on a CPU too."""


class PackedEntries(torch.nn.Module):
    """The entries of a model's backbone that `mask` chooses, packed. While this is open the model
    computes with them: differentiate `leaves` and `gather` their gradients, call `write_back`
    after each step of an optimiser over `values` and `rows`, and `close` at the end.

    Attributes:
        values: float32 parameter (k,): the chosen entries of all tensors but the word embeddings;
            the weights themselves, not differences.
        rows: float32 parameter (K - k,): those of the word embeddings, by position. Their
            gradient is computed only for the rows that a batch looks up.

    Args:
        low: dtype of linear layers on the device while this is open;
            bfloat16 is what autocast would make of them anew in every step.
        at_once: gather from the gradients of all tensors in one call, after putting them together;
            on a CPU this takes longer than a call for each.

    Raises ArtefactError if the mask does not fit.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        mask: Mask,
        low: torch.dtype = torch.float32,
        at_once: bool = False,
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
        lowered = linear_parameters(model) if low != torch.float32 else {}
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
        self._flats = [
            _Flat(list(few), at_once) for _, few in groupby(self._chosen, lambda c: c[0].dtype)
        ]
        # In a tuple, where the tree of modules does not find it.
        width = words.weight.shape[1]
        self._word_index = word_index
        self._row, self._column = word_index // width, word_index % width
        self._lookup = (LookUp(model, trains=len(self.rows) > 0),)

    @property
    def _words(self) -> LookUp:
        return self._lookup[0]

    def leaves(self) -> list[torch.Tensor]:
        """What a backward pass differentiates: the dense weights, and the rows looked up."""
        weights: list[torch.Tensor] = [weight for flat in self._flats for weight in flat.weights]
        return [*weights, self._words.found] if len(self.rows) else weights

    def gather(self, slopes: Sequence[torch.Tensor | None]) -> dict[str, torch.Tensor | None]:
        """The gradients of `values` and `rows` by name, from those of `leaves`; what is empty has
        none."""
        given, found = iter(slopes), dict[str, torch.Tensor | None]()
        parts = [flat.take(list(islice(given, len(flat.weights)))) for flat in self._flats]
        if parts:
            found["values"] = torch.cat(parts) if len(parts) > 1 else parts[0]
        if len(self.rows):
            slope = next(given)
            found["rows"] = None if slope is None else self._rows_of(self._words.gradient(slope))
        return found

    def _rows_of(self, gradient: RowGradient) -> torch.Tensor:
        place, sums = gradient.by_row(self._words.weight.shape[0])
        if sums.is_cuda and has_kernels():
            from deftx.engine.kernels import entries_of_rows

            return entries_of_rows(place, sums, self._row, self._column)
        here = place[self._row]
        at = here.clamp(min=0) * sums.shape[1] + self._column
        return sums.view(-1)[at] * (here >= 0)

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
        self._words.weight.view(-1).index_copy_(0, self._word_index, self.rows)

    @torch.no_grad()
    def close(self) -> None:
        """Leave the model as it was made, in float32, with the entries as they now are."""
        self._words.weight.view(-1).index_copy_(0, self._word_index, self.rows)
        self._words.close()
        for flat in self._flats:
            flat.close()
        for weight, original in self._originals:
            weight.data = original.to(weight.device)
        parts = self.values.split([len(index) for _, index in self._chosen])
        for (weight, index), values in zip(self._chosen, parts, strict=True):
            weight.view(-1)[index] = values


class _Flat:
    """Tensors of one dtype moved into one storage, so that one call gathers or scatters the
    entries of all: on a GPU two hundred small calls of each kind would cost more than the
    arithmetic of a step."""

    def __init__(
        self, chosen: list[tuple[torch.nn.Parameter, torch.Tensor]], at_once: bool
    ) -> None:
        self.weights = [weight for weight, _ in chosen]
        self._chosen = [index for _, index in chosen]
        sizes = [weight.numel() for weight in self.weights]
        self._at_once = at_once or sum(sizes) <= SMALL
        self.storage = torch.cat([weight.detach().view(-1) for weight in self.weights])
        starts = accumulate(sizes, initial=0)
        self.index = torch.cat([i + start for (_, i), start in zip(chosen, starts, strict=False)])
        for part, weight in zip(self.storage.split(sizes), self.weights, strict=True):
            weight.data = part.view_as(weight)
            weight.requires_grad_(True)

    def take(self, slopes: Sequence[torch.Tensor | None]) -> torch.Tensor:
        """The gradients of the entries, float32, from those of the tensors."""
        pairs = zip(slopes, self.weights, strict=True)
        dense = [(torch.zeros_like(w) if s is None else s).reshape(-1) for s, w in pairs]
        if self._at_once:
            found = torch.cat(dense).index_select(0, self.index)
        else:
            parts = zip(dense, self._chosen, strict=True)
            found = torch.cat([slope.index_select(0, index) for slope, index in parts])
        return at_least_float32(found)

    def close(self) -> None:
        for weight in self.weights:
            weight.data = weight.detach().clone()
            weight.requires_grad_(False)
