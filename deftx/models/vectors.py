"""Reading what a vector can be made from: θ1, a denoised difference, a gated or a sparse vector."""

from collections.abc import Mapping
from pathlib import Path

import torch

from deftx.core.delta import Delta, Only
from deftx.core.denoised import Denoised
from deftx.core.sparse_delta import SparseDelta
from deftx.models.backbone import BaseWeights
from deftx.models.base import Base
from deftx.store.errors import ArtefactError
from deftx.store.tensors import TensorFile


def start_weights(base: Base, start: Path | None) -> Mapping[str, torch.Tensor]:
    """θs by backbone name: θ0, plus the start vector if there is one. Raises ArtefactError if the
    vector was made for another base."""
    weights = BaseWeights(base)
    if start is None:
        return weights
    vector = SparseDelta.load(start)
    base.check(vector.provenance, start)
    moved = dict(weights)
    vector.add_to(moved)
    return moved


def full_delta(file: TensorFile, base: Base, start: Path | None) -> Delta:
    """δ = θ1 − θs of a `full` artefact over the backbone. Raises ArtefactError if it was made for
    another base."""
    base.check(file.provenance, file.path)
    return Delta.between(start_weights(base, start), file)


def dense_vector(file: TensorFile, base: Base, start: Path | None) -> Mapping[str, torch.Tensor]:
    """A whole difference by backbone name, from a `full` or a `denoise` artefact; from `gated` and
    `lora`, over the matrices of linear layers alone. Raises ArtefactError if it is none, or was
    made for another base."""
    stage = file.provenance["stage"]
    if stage == "full":
        return full_delta(file, base, start)
    if stage not in ("denoise", "gated", "lora"):
        raise ArtefactError(
            f"{file.path}: expected a full, denoise, gated or lora artefact, this is of stage "
            f"{stage}"
        )
    base.check(file.provenance, file.path)
    if stage == "gated":
        return Only(file, (name for name in file if not name.startswith("head.")))
    return Denoised(file)


def head_of(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors stored under `head.`, without that prefix."""
    return {n.removeprefix("head."): tensors[n] for n in tensors if n.startswith("head.")}
