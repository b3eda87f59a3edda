"""Training as a user of the library calls it: all weights, or the entries of a mask."""

from collections.abc import Sequence
from typing import Any

from transformers import PreTrainedModel

from deftx.core.mask import Mask
from deftx.core.sparse_delta import SparseDelta
from deftx.engine.full import fit_everything
from deftx.engine.objective import Objective
from deftx.engine.session import Session
from deftx.engine.settings import Training
from deftx.engine.sparse import fit_entries


def fit(
    model: PreTrainedModel,
    objective: Objective,
    settings: Training,
    *,
    mask: Mask | None = None,
    session: Session | None = None,
    round_vector: SparseDelta | None = None,
    source_vectors: Sequence[SparseDelta | None] = (),
) -> dict[str, Any]:
    """Train `model` in place and leave it at its best checkpoint: by `fit_everything`, or with a
    mask by `fit_entries`, which explain the vectors. The stages call these two directly, so
    that an edit of the sparse phase does not make the full phase stale."""
    if mask is None:
        return fit_everything(model, objective, settings, session, round_vector, source_vectors)
    return fit_entries(model, objective, settings, mask, session, round_vector, source_vectors)
