"""Reading a vector, whatever its file holds: a sparse vector, weights, or a difference."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import torch

from deftx.core.delta import Delta
from deftx.core.low_rank import DeltaFile
from deftx.core.sparse_delta import SparseDelta
from deftx.models.backbone import base_weights
from deftx.models.base import Base
from deftx.store.errors import ArtefactError
from deftx.store.tensors import TensorFile

Vector = Mapping[str, torch.Tensor]
"""Name of a parameter → dense difference, float32."""

Kind = Literal["sparse", "weights", "modules", "difference"]


def kind_of(file: TensorFile) -> Kind:
    """What a vector's file holds: chosen entries; fine-tuned weights; modules that are put into a
    model, as adapters are; or dense or factored differences, which is what the file of every other
    family is taken for."""
    if "layout" in file.provenance:
        return "sparse"
    kinds: dict[str, Kind] = {"full": "weights", "adapter": "modules"}
    return kinds.get(file.provenance["stage"], "difference")


def read_vector(file: TensorFile, base: Base, start: Path | None = None) -> SparseDelta | Vector:
    """The vector in a file: sparse, or else a mapping whose tensors are computed when asked for.
    `start` is the vector that the training of weights began with, and is read for these alone.

    Raises ArtefactError if the file was made for another base, or holds no difference of its
    weights.
    """
    base.check(file.provenance, file.path)
    if (kind := kind_of(file)) == "sparse":
        return SparseDelta.read(file)
    if kind == "weights":
        return Delta.between(start_weights(base, start), file)
    found = DeltaFile(file)
    if kind == "modules" or not any(name in base.shapes for name in found):
        raise ArtefactError(
            f"{file.path}: expected a vector, this file of stage {file.provenance['stage']} holds "
            "no difference of the base's weights"
        )
    return found


def dense_vector(file: TensorFile, base: Base, start: Path | None = None) -> Vector:
    """The vector in a file as dense tensors, which are computed when asked for; of a sparse one
    only the tensors that it has entries of. Raises as `read_vector` does."""
    found = read_vector(file, base, start)
    return found.dense() if isinstance(found, SparseDelta) else found


def start_weights(base: Base, start: Path | None) -> Vector:
    """θs by backbone name: θ0, plus the start vector if there is one. Raises ArtefactError if the
    vector was made for another base."""
    weights = base_weights(base)
    if start is None:
        return weights
    vector = SparseDelta.load(start)
    base.check(vector.provenance, start)
    moved = dict(weights)
    vector.add_to(moved)
    return moved
