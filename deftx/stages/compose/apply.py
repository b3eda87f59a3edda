"""A model with what was composed in it: a sparse vector, a recipe of others, or adapters."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from transformers import PreTrainedModel

from deftx.core.delta import Changed
from deftx.core.sparse_delta import SparseDelta
from deftx.core.vector_files import SFT_STAGES
from deftx.models.backbone import backbone_parameters, put_head
from deftx.models.base import Base
from deftx.models.vectors import dense_vector, head_of
from deftx.stages.adapter.file import load_adapter, stacked
from deftx.stages.compose.math import merged
from deftx.stages.compose.settings import Combine
from deftx.store.errors import ArtefactError
from deftx.store.seeds import stream
from deftx.store.tensors import TensorFile

Vector = Mapping[str, torch.Tensor]


@contextmanager
def composed(
    model: PreTrainedModel,
    file: TensorFile,
    base: Base,
    *,
    vectors: Sequence[Path] = (),
    start_vector: Path | None = None,
) -> Iterator[PreTrainedModel]:
    """A fresh classifier of the base with what the stage `compose` wrote; what is not sparse stays
    in the model afterwards.

    `vectors` are those of the recipe, the task's first; `start_vector` is what the task was trained
    on: the vector of the source language, or its adapter.

    Raises ArtefactError if an input was made for another base or is not the one of the recipe.
    """
    base.check(file.provenance, file.path)
    recipe = file.provenance.get("recipe")
    if recipe is None:
        with SparseDelta.read(file).applied(model):
            yield model
        return
    files = _ingredients(file, vectors)
    if recipe[0]["stage"] == "adapter":
        # Without one of its own a language gets the adapter that the task's was trained on.
        below = files[1] if len(files) > 1 else start_vector and TensorFile(start_vector)
        language = load_adapter(below, base) if below else None
        with stacked(model, language, load_adapter(files[0], base)):
            yield model
        return
    parts = [
        # Only a task starts elsewhere than at the base.
        _scaled(_whole(each, base, None if number else start_vector), part["scale"])
        for number, (each, part) in enumerate(zip(files, recipe, strict=True))
    ]
    combine = file.provenance["params"]["combine"]
    if combine is not None and len(parts) > 1:  # a language without text has no vector
        made = file.provenance
        seed = stream(made["seed"], made["task"], made["language"])
        parts = [merged(parts[0], parts[1], Combine.model_validate(combine), seed)]
    add_dense(model, parts, head_of(file))
    yield model


@torch.no_grad()
def add_dense(
    model: PreTrainedModel, vectors: Sequence[Vector], head: Mapping[str, torch.Tensor]
) -> None:
    """Add vectors to the backbone, summed first and added once, and put the head in."""
    for name, weight in backbone_parameters(model).items():
        parts = [vector[name] for vector in vectors if name in vector]
        if parts:
            weight.add_(sum(parts[1:], parts[0]).to(weight.device))
    put_head(model, head)


def _ingredients(file: TensorFile, paths: Sequence[Path]) -> list[TensorFile]:
    """The files that a recipe names."""
    recipe = file.provenance["recipe"]
    if len(paths) != len(recipe):
        raise ArtefactError(f"{file.path}: needs {len(recipe)} vectors, {len(paths)} were given")
    files = [TensorFile(path) for path in paths]
    for each, part in zip(files, recipe, strict=True):
        if each.content != part["content"]:
            raise ArtefactError(
                f"{each.path}: content {each.content[:12]}, expected {part['content'][:12]}"
            )
    return files


def _whole(file: TensorFile, base: Base, start: Path | None) -> Vector:
    """A vector of any kind as dense tensors by name."""
    if file.provenance["stage"] not in SFT_STAGES:
        return dense_vector(file, base, start)
    sparse = SparseDelta.read(file)
    dense = {name: torch.zeros(shape) for name, shape in sparse.mask.shapes.items()}
    sparse.add_to(dense)
    return dense


def _scaled(vector: Vector, scale: float) -> Vector:
    return vector if scale == 1 else Changed(vector, lambda _, tensor: tensor * scale)
