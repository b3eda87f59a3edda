"""Stage `mean`: the mean of one target's vectors over several seeds."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from deftx.core.parameters import head_of, stored_head
from deftx.core.sparse_delta import SparseDelta
from deftx.models.base import Base
from deftx.models.vectors import dense_vector, kind_of
from deftx.stages.mean.math import mean_of_dense, mean_of_sparse
from deftx.store.errors import ArtefactError
from deftx.store.strict import Strict
from deftx.store.tensors import TensorFile, save_tensors


class Params(Strict):
    """Whose vectors are averaged, and over which seeds."""

    method: str
    target: str = Field(description="lang-<language> or task-<task>")
    start: str = Field(default="base", description="base, or the method of the source's vector")
    seeds: Annotated[list[int], Field(min_length=2)]


def mean(
    params: Params,
    *,
    base: Path,
    vectors: list[Path],
    start_vector: list[Path] | None = None,
    out: Path,
) -> None:
    """Write the mean of the vectors, one for each seed in their order, and for a task that of their
    heads: sparse vectors over the union of their masks, all others as a dense difference.
    `start_vector` are what weights started from, one for each seed.

    Raises ArtefactError if a vector was made for another base, target or seed, or if the heads are
    known to be drawn from different seeds.
    """
    encoder = Base.load(base)
    files = [TensorFile(path) for path in vectors]
    if len(files) != len(params.seeds):
        raise ArtefactError(f"{len(files)} vectors were given, one for each of {params.seeds}")
    for file, seed in zip(files, params.seeds, strict=True):
        _check(params, file, seed, encoder)
    outcomes = [file.provenance.get("outcome", {}) for file in files]
    outcome = {name: outcomes[0].get(name) for name in ("trained", "trained_head")}
    known: dict[str, Any] = {
        "stage": "mean",
        **params.model_dump(include={"method", "target", "start"}),
        "base": encoder.identity,
        "params": params.model_dump(),
        "inputs": {
            f"seed{seed}": file.content for seed, file in zip(params.seeds, files, strict=True)
        },
    }
    if all(kind_of(file) == "sparse" for file in files):
        phi = mean_of_sparse([SparseDelta.read(file) for file in files])
        phi.save(out, outcome={**outcome, "trained": len(phi)}, **known)
        return
    starts: Sequence[Path | None] = start_vector or [None] * len(files)
    differences = mean_of_dense(
        [dense_vector(file, encoder, start) for file, start in zip(files, starts, strict=True)]
    )
    head = stored_head(mean_of_dense([head_of(file) for file in files]))
    save_tensors(out, {**differences, **head}, outcome=outcome, **known)


def _check(params: Params, file: TensorFile, seed: int, base: Base) -> None:
    """Whether a vector is that of the target with a seed, and has a head that may be averaged."""
    facts = file.provenance
    base.check(facts, file.path)
    for name, expected in {"target": params.target, "start": params.start, "seed": seed}.items():
        if facts.get(name) != expected:
            raise ArtefactError(
                f"{file.path}: its {name} is {facts.get(name)}, expected {expected}"
            )
    task = facts["params"].get("task")
    if task and task.get("head_seed") is None:
        raise ArtefactError(
            f"{file.path}: its head was drawn from its own seed; a mean needs heads that start "
            "alike: train with head_seed"
        )
