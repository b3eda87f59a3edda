"""The sparse phase: only chosen entries train."""

from collections.abc import Sequence
from contextlib import closing
from typing import Any

import torch
from transformers import PreTrainedModel

from deftx.core.mask import Mask
from deftx.core.sparse_delta import SparseDelta
from deftx.engine.objective import Objective
from deftx.engine.packed import PackedEntries
from deftx.engine.resolved import resolve
from deftx.engine.session import Session
from deftx.engine.source_vectors import around_source
from deftx.engine.trainer import freeze, train_with_head
from deftx.engine.training_settings import Training


def fit_entries(
    model: PreTrainedModel,
    objective: Objective,
    settings: Training,
    mask: Mask,
    session: Session | None = None,
    round_vector: SparseDelta | None = None,
    source_vectors: Sequence[SparseDelta | None] = (),
) -> dict[str, Any]:
    """Train the entries of the backbone that the mask chooses, and the head in full, in place.
    Every other weight keeps its bits whatever the settings. The best checkpoint is left in place.

    `round_vector`, of which the mask chooses every entry, and `source_vectors`: as in
    `fit_everything`.

    Returns and raises what `train_with_head` does; and ArtefactError if the mask or a vector does
    not fit.
    """
    session = session or Session()
    total = freeze(model, session.engine.attention)
    # What vectors are added to must have all its bits.
    exact = any(vector is not None for vector in source_vectors)
    low = torch.float32 if exact else resolve(session.engine, model.device).low
    with closing(PackedEntries(model, mask, low)) as packed:

        def begin() -> None:
            if round_vector is not None:
                round_vector.put_head(model)
                packed.add(round_vector)

        return train_with_head(
            model,
            {name: p for name, p in packed.named_parameters(recurse=False) if len(p)},
            objective,
            settings,
            session,
            total=total,
            part=packed,
            low=low,
            begin=begin,
            around_source=around_source(model, objective, source_vectors),
            around_batch=packed.gathering,
            after_step=packed.write_back,
        )
