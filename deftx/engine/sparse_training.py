"""The sparse phase: only chosen entries train."""

from collections.abc import Sequence
from contextlib import closing
from typing import Any

import torch
from transformers import PreTrainedModel

from deftx.backbone import head_parameters
from deftx.engine.objective import Objective
from deftx.engine.packed import PackedEntries
from deftx.engine.resolved import resolve
from deftx.engine.session import Session
from deftx.engine.source_vectors import around_source
from deftx.engine.trainer import freeze, train
from deftx.mask import Mask
from deftx.settings.training import Training
from deftx.sparse_delta import SparseDelta


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

    Returns and raises what `train` in trainer.py does, with `trained`, the number of entries, and
    `trained_head`; and ArtefactError if the mask or a vector does not fit.
    """
    session = session or Session()
    total = freeze(model, session.engine.attention)
    head = head_parameters(model)
    for parameter in head.values():
        parameter.requires_grad_(True)
    # What vectors are added to must have all its bits.
    exact = any(vector is not None for vector in source_vectors)
    low = torch.float32 if exact else resolve(session.engine, model.device).low
    with (
        closing(PackedEntries(model, mask, low)) as packed,
        closing(objective.learner(model, low)) as learner,
    ):
        learner.packed = packed  # where the Trainer's clipping and zeroing see them

        def begin() -> None:
            if round_vector is not None:
                round_vector.put_head(model)
                packed.add(round_vector)

        outcome = train(
            learner,
            {
                **{name: p for name, p in packed.named_parameters(recurse=False) if len(p)},
                **{f"head.{name}": p for name, p in head.items()},
            },
            objective,
            settings,
            session,
            total=total,
            begin=begin,
            around_source=around_source(model, objective, source_vectors),
            around_batch=packed.gathering,
            after_step=packed.write_back,
        )
    return {
        **outcome,
        "trained": len(mask),
        "trained_head": sum(parameter.numel() for parameter in head.values()),
    }
