"""A model with what was composed in it: a sparse vector, a recipe of others, or adapters."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from deftx.core.parameters import backbone_parameters, head_of, put_head
from deftx.core.sparse_delta import SparseDelta
from deftx.models.base import Base
from deftx.models.vectors import Vector, dense_vector, kind_of
from deftx.stages.adapter.file import load_adapter, stacked
from deftx.stages.compose.math import by_depth, merged
from deftx.stages.compose.settings import Combine, Depth
from deftx.store.errors import ArtefactError
from deftx.store.lazy import Lazy
from deftx.store.seeds import stream
from deftx.store.tensors import TensorFile


@contextmanager
def composed(
    model: PreTrainedModel,
    file: TensorFile,
    base: Base,
    *,
    vectors: Sequence[Path] = (),
    start_vector: Path | None = None,
) -> Iterator[PreTrainedModel]:
    """A fresh classifier of the base with what the stage `compose` wrote. A sparse vector and
    adapters are removed after the block; other vectors stay. `vectors` are those of the recipe, the
    task's first; `start_vector` is the vector or adapter of the source language that the task was
    trained on.

    Raises ArtefactError if an input was made for another base or is not the one of the recipe.
    """
    base.check(file.provenance, file.path)
    if "recipe" not in file.provenance:
        with SparseDelta.read(file).applied(model):
            yield model
        return
    recipe = file.provenance["recipe"]
    if len(vectors) != len(recipe):
        raise ArtefactError(f"{file.path}: needs {len(recipe)} vectors, {len(vectors)} were given")
    files = [TensorFile(path) for path in vectors]
    for each, part in zip(files, recipe, strict=True):
        if each.content != part["content"]:
            raise ArtefactError(
                f"{each.path}: content {each.content[:12]}, expected {part['content'][:12]}"
            )
    if kind_of(files[0]) == "modules":
        # A language without an adapter of its own takes the one that the task's was trained on.
        below = files[1] if len(files) > 1 else start_vector and TensorFile(start_vector)
        language = load_adapter(below, base) if below else None
        with stacked(model, language, load_adapter(files[0], base)):
            yield model
        return
    # Only a task starts elsewhere than at the base.
    starts = [start_vector, None]
    parts = [
        _scaled(dense_vector(each, base, start), part, base)
        for each, start, part in zip(files, starts, recipe, strict=False)
    ]
    combine = file.provenance["params"]["combine"]
    if combine is not None and len(parts) > 1:  # a language without text has no vector
        made = file.provenance
        seed = stream(made["seed"], made["task"], made["language"])
        way = Combine.model_validate(combine)
        parts = [merged(parts[0], parts[1], way, seed, base.known_as)]
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


def _scaled(vector: Vector, part: Mapping[str, Any], base: Base) -> Vector:
    """A vector as its part of a recipe says."""
    scale, depth = part["scale"], part.get("depth")
    found = vector if scale == 1 else Lazy(vector, lambda name: vector[name] * scale)
    return by_depth(found, depth and Depth.model_validate(depth), base.known_as)
