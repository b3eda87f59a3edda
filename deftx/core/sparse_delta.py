"""Sparse vectors of languages and tasks: their algebra, and the SFT file (docs/format.md)."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any, Self, TypeVar

import torch

from deftx.core.mask import Mask, load_mask, mask_layout, mask_tensors
from deftx.core.parameters import (
    Model,
    backbone_parameters,
    head_of,
    head_parameters,
    put_head,
    shapes_of,
    stored_head,
)
from deftx.store.errors import ArtefactError, InputError
from deftx.store.lazy import Lazy
from deftx.store.tensors import TensorFile, save_tensors

AnyModel = TypeVar("AnyModel", bound=Model)


@dataclass(frozen=True)
class SparseDelta:
    """φ: differences at the entries of a mask and, for a task, its head in full.

    Attributes:
        mask: where the differences are.
        values: tensor name → (k_i,) float32, in the order of `mask.index[name]`.
        head: parameter name → dense tensor; empty for a language.
        provenance: what the file's metadata says; empty for a vector made in memory.
    """

    mask: Mask
    values: dict[str, torch.Tensor]
    head: dict[str, torch.Tensor] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def from_dense(
        cls,
        delta: Mapping[str, torch.Tensor],
        mask: Mask,
        head: Mapping[str, torch.Tensor] | None = None,
    ) -> Self:
        """The entries of `delta` that the mask chooses; each tensor is read once. Raises
        ArtefactError if they do not fit."""
        index, values = {}, {}
        for name, places in mask.index.items():
            dense = {name: delta[name]} if name in delta else {}
            Mask({}, {name: mask.shapes[name]}).check_fits(shapes_of(dense))
            index[name] = places.to(dense[name].device)
            values[name] = dense[name].reshape(-1).index_select(0, index[name])
        return cls(Mask(index, mask.shapes), values, dict(head or {}))

    def to(self, device: torch.device) -> Self:
        """The vector with positions and values on a device; the head stays where it is."""
        index = {name: places.to(device) for name, places in self.mask.index.items()}
        values = {name: value.to(device) for name, value in self.values.items()}
        return type(self)(Mask(index, self.mask.shapes), values, self.head, self.provenance)

    def __len__(self) -> int:
        """K, the number of entries (head excluded)."""
        return len(self.mask)

    def __add__(self, other: Self) -> Self:
        """The sum: entries of either, values added where both have one. Raises InputError if both
        carry a head, ArtefactError if their bases or a tensor's shapes differ."""
        if self.head and other.head:
            raise InputError("both vectors carry a head; a sum has room for one")
        mine, theirs = (v.provenance.get("base", {}).get("hash") for v in (self, other))
        if mine and theirs and mine != theirs:
            raise ArtefactError(f"vectors of different bases: {mine[:12]} and {theirs[:12]}")
        mask, sums = summed([self, other])
        values = {name: total.float() for name, total in sums.items()}
        return type(self)(mask, values, {**self.head, **other.head})

    def __mul__(self, scale: float) -> Self:
        """The vector with its values scaled; the head stays as it is."""
        values = {name: value * scale for name, value in self.values.items()}
        return type(self)(self.mask, values, self.head, self.provenance)

    __rmul__ = __mul__

    def add_to(self, weights: Mapping[str, torch.Tensor]) -> None:
        """Add the differences to `weights` in place, without the head. Raises ArtefactError, before
        anything is changed, if a tensor is absent or has another shape."""
        self.mask.check_fits(shapes_of(weights), "vector")
        with torch.no_grad():
            for name, index in self.mask.index.items():
                flat = weights[name].view(-1)
                device = flat.device
                flat.index_add_(0, index.to(device), self.values[name].to(device, flat.dtype))

    def dense(self) -> Lazy:
        """The tensors that have an entry, in full: name → float32, zero elsewhere."""

        def filled(name: str) -> torch.Tensor:
            index, values = self.mask.index[name], self.values[name]
            flat = values.new_zeros(prod(self.mask.shapes[name])).index_add_(0, index, values)
            return flat.view(self.mask.shapes[name])

        return Lazy(sorted(self.mask.index), filled)

    def put_head(self, model: Model) -> None:
        """Put the head, if there is one, in place of the model's. Raises ArtefactError, before
        anything is changed, if it does not fit."""
        expected = shapes_of(head_parameters(model))
        Mask({}, shapes_of(self.head)).check_fits(expected, "head of the vector")
        put_head(model, self.head)

    @contextmanager
    def applied(self, model: AnyModel) -> Iterator[AnyModel]:
        """The model with the differences added and the head in place; after the block every weight
        has its former bits. Raises ArtefactError if the vector does not fit the model."""
        weights, heads = backbone_parameters(model), head_parameters(model)
        self.mask.check_fits(shapes_of(weights), "vector")
        with torch.no_grad():
            former = self.from_dense(weights, self.mask)
        former_head = {n: heads[n].detach().clone() for n in self.head if n in heads}
        try:
            self.put_head(model)
            self.add_to(weights)
            yield model
        finally:
            put_head(model, former_head)
            with torch.no_grad():
                for name, old in former.values.items():
                    weights[name].view(-1).index_copy_(0, former.mask.index[name], old)

    def save(self, path: Path | str, **provenance: Any) -> None:
        """Write the vector to a safetensors file at `path`, losslessly, with its manifest."""
        tensors = mask_tensors(self.mask)
        tensors |= {f"{name}.values": value.float() for name, value in self.values.items()}
        tensors |= stored_head(self.head)
        save_tensors(path, tensors, layout=mask_layout(self.mask), k=len(self), **provenance)

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Read a vector from a file, or from the folder that holds `sft_model.safetensors`. Raises
        ArtefactError if the file is missing, corrupt or not a vector."""
        path = Path(path)
        return cls.read(TensorFile(path / "sft_model.safetensors" if path.is_dir() else path))

    @classmethod
    def read(cls, file: TensorFile) -> Self:
        """Read a vector from a file that is open. Raises ArtefactError if it holds none."""
        mask = load_mask(file)
        values = {}
        for name, index in mask.index.items():
            if f"{name}.values" not in file:
                raise ArtefactError(
                    f"{file.path}: {name} has positions but no values: not a vector"
                )
            value = values[name] = file[f"{name}.values"]
            if value.dtype != torch.float32 or value.shape != index.shape:
                raise ArtefactError(
                    f"{file.path}: {name}.values is {value.dtype} of shape {tuple(value.shape)}, "
                    f"expected torch.float32 of shape {tuple(index.shape)}, one for each position"
                )
        return cls(mask, values, head_of(file), file.provenance)


def summed(vectors: Sequence[SparseDelta]) -> tuple[Mask, dict[str, torch.Tensor]]:
    """The union of the masks of vectors, and at each of its entries the sum of their values, in
    float64, without heads. A sum of two values that is rounded to float32 is their sum in float32.
    Raises ArtefactError if a tensor's shapes differ."""
    shapes = {name: shape for each in vectors for name, shape in each.mask.shapes.items()}
    for vector in vectors:
        vector.mask.check_fits(shapes, "the vectors disagree")
    index, values = {}, {}
    for name in sorted({name for vector in vectors for name in vector.mask.index}):
        parts = [vector for vector in vectors if name in vector.mask.index]
        every = torch.cat([part.mask.index[name] for part in parts])
        index[name], place = torch.unique(every, return_inverse=True)
        sums = torch.zeros(len(index[name]), dtype=torch.float64)
        found = torch.cat([part.values[name] for part in parts]).double()
        values[name] = sums.index_add_(0, place, found)
    return Mask(index, shapes), values
