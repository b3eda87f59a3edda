"""Stage `compose`: φ_T + φ_L, or for dense vectors the recipe of their sum."""

from pathlib import Path
from typing import Any

from pydantic import Field

from deftx.core.parameters import head_of, stored_head
from deftx.core.sparse_delta import SparseDelta
from deftx.models.base import Base
from deftx.models.vectors import kind_of
from deftx.stages.compose.settings import Combine, Evaluated
from deftx.store.tensors import TensorFile, save_tensors


class Params(Evaluated):
    """Which vectors are added, and how they are weighted."""

    task_scale: float = 1.0
    language_scale: float = 1.0
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
    """Write task_scale · φ_T + language_scale · φ_L with the head of φ_T.

    Where a vector is not sparse, or the two are combined in another way, only the head and a recipe
    with the checksums of the inputs are written, and `evaluate` combines them in memory. Without a
    language vector the result is the task vector.

    Raises ArtefactError if a vector was made for another base, or the two have different seeds.
    """
    encoder = Base.load(base)
    given = [(task_vector, params.task_scale), (language_vector, params.language_scale)]
    files = [(TensorFile(path), scale) for path, scale in given if path is not None]
    for file, _ in files:
        encoder.check(file.provenance, file.path)
    outcomes = [file.provenance.get("outcome", {}) for file, _ in files]
    provenance: dict[str, Any] = {
        "stage": "compose",
        **params.identity(),
        "base": encoder.identity,
        "params": params.model_dump(),
        "inputs": {
            role: file.content for role, (file, _) in zip(("task", "language"), files, strict=False)
        },
        # None where the vector's file does not record it.
        "trained": {
            "task": outcomes[0].get("trained"),
            "language": outcomes[1].get("trained") if len(outcomes) > 1 else 0,
            "head": outcomes[0].get("trained_head"),
        },
    }
    if params.combine is None and all(kind_of(file) == "sparse" for file, _ in files):
        vectors = [SparseDelta.read(file) * scale for file, scale in files]
        total = vectors[0] if len(vectors) == 1 else vectors[0] + vectors[1]
        total.save(out, **provenance)
    else:
        head = stored_head(head_of(files[0][0]))
        recipe = [
            {"stage": file.provenance["stage"], "content": file.content, "scale": scale}
            for file, scale in files
        ]
        save_tensors(out, head, recipe=recipe, **provenance)
