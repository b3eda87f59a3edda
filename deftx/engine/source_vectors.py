"""Vectors of sources, each in the weights while batches of its source are computed."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from transformers import PreTrainedModel

from deftx.core.sparse_delta import SparseDelta
from deftx.engine.objective import Objective
from deftx.store.errors import InputError


def around_source(
    model: PreTrainedModel, objective: Objective, vectors: Sequence[SparseDelta | None]
) -> Callable[[int], AbstractContextManager[Any]]:
    """Number of a source → a block inside of which its vector (without head) is in the model's
    weights, which have their former bits afterwards: what an optimiser moves is never the sum, and
    nothing drifts. A source whose vector is None, or any if `vectors` is empty, is computed with
    the weights as they are. The vectors lie on the model's device, 12 bytes an entry.

    Source: LT-SFT's training on several sources, which subtracts the vector again, so that weights
    drift by rounding. Raises InputError unless there is one for each source of the objective.
    """
    if vectors and len(vectors) != len(objective.sources):
        raise InputError(
            f"{len(vectors)} source vectors for {len(objective.sources)} sources: give each source "
            "its vector or None"
        )
    here = [v if v is None else SparseDelta(v.mask, v.values).to(model.device) for v in vectors]

    def around(source: int) -> AbstractContextManager[Any]:
        vector = here[source] if here else None
        return nullcontext() if vector is None else vector.applied(model)

    return around
