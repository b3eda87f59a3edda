"""Stage `compose`: φ_T + φ_L, or for dense vectors the recipe of their sum."""

from pathlib import Path
from typing import Any

from pydantic import Field

from deftx.core.parameters import head_of, stored_head
from deftx.core.sparse_delta import SparseDelta
from deftx.models.base import Base
from deftx.models.vectors import kind_of
from deftx.stages.compose.math import by_depth
from deftx.stages.compose.settings import Combine, Depth, Evaluated
from deftx.store.strict import absent
from deftx.store.tensors import TensorFile, save_tensors


class Params(Evaluated):
    """Which vectors are added, and how they are weighted."""

    task_scale: float = 1.0
    language_scale: float = 1.0
    task_depth: Depth | None = Field(
        default=None, exclude_if=absent, description="scales of the task's vector by depth"
    )
    language_depth: Depth | None = Field(
        default=None, exclude_if=absent, description="scales of the language's vector by depth"
    )
    combine: Combine | None = Field(
        default=None, description="how the two become one; default: their sum"
    )


def compose(
    params: Params,
    *,
    base: Path,
    task_vector: Path,
    language_vector: Path | None = None,
    out: Path,
) -> None:
    """Write task_scale · φ_T + language_scale · φ_L with the head of φ_T, each vector scaled by
    depth where that is asked for.

    Where a vector is not sparse, or the two are combined in another way, only the head and a recipe
    with the checksums of the inputs are written, and `evaluate` combines them in memory. Without a
    language vector the result is the task vector.

    Raises ArtefactError if a vector was made for another base; InputError as `by_depth` and
    `Base.check_own_layers` do.
    """
    encoder = Base.load(base)
    given = [
        (task_vector, params.task_scale, params.task_depth),
        (language_vector, params.language_scale, params.language_depth),
    ]
    files = [(TensorFile(path), scale, depth) for path, scale, depth in given if path is not None]
    for file, _, depth in files:
        encoder.check(file.provenance, file.path)
        if depth is not None:
            encoder.check_own_layers("depth")
    outcomes = [file.provenance.get("outcome", {}) for file, _, _ in files]
    provenance: dict[str, Any] = {
        "stage": "compose",
        **params.identity(),
        "base": encoder.identity,
        "params": params.model_dump(),
        "inputs": {
            role: file.content
            for role, (file, _, _) in zip(("task", "language"), files, strict=False)
        },
        # None where the vector's file does not record it.
        "trained": {
            "task": outcomes[0].get("trained"),
            "language": outcomes[1].get("trained") if len(outcomes) > 1 else 0,
            "head": outcomes[0].get("trained_head"),
        },
    }
    if params.combine is None and all(kind_of(file) == "sparse" for file, _, _ in files):
        vectors = [
            by_depth(SparseDelta.read(file) * scale, depth, encoder.known_as)
            for file, scale, depth in files
        ]
        total = vectors[0] if len(vectors) == 1 else vectors[0] + vectors[1]
        total.save(out, **provenance)
    else:
        head = stored_head(head_of(files[0][0]))
        recipe = []
        for file, scale, depth in files:
            part = {"stage": file.provenance["stage"], "content": file.content, "scale": scale}
            recipe.append(part if depth is None else {**part, "depth": depth.model_dump()})
        save_tensors(out, head, recipe=recipe, **provenance)
