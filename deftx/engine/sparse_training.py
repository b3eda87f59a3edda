"""The sparse phase: only chosen entries train."""

from contextlib import closing
from typing import Any

from transformers import PreTrainedModel

from deftx.backbone import head_parameters
from deftx.engine.objective import Objective
from deftx.engine.packed import PackedEntries
from deftx.engine.resolved import resolve
from deftx.engine.session import Session
from deftx.engine.trainer import freeze, train
from deftx.mask import Mask
from deftx.settings.training import Training


def fit_entries(
    model: PreTrainedModel,
    objective: Objective,
    settings: Training,
    mask: Mask,
    session: Session | None = None,
) -> dict[str, Any]:
    """Train the entries of the backbone that the mask chooses, and the head in full, in place.
    Every other weight keeps its bits whatever the settings. The best checkpoint is left in place.

    Returns and raises what `train` in trainer.py does, with `trained`, the number of entries, and
    `trained_head`; and ArtefactError if the mask does not fit.
    """
    session = session or Session()
    total = freeze(model, session.engine.attention)
    head = head_parameters(model)
    for parameter in head.values():
        parameter.requires_grad_(True)
    low = resolve(session.engine, model.device).low
    with (
        closing(PackedEntries(model, mask, low)) as packed,
        closing(objective.learner(model, low)) as learner,
    ):
        learner.packed = packed  # where the Trainer's clipping and zeroing see them
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
            around_batch=packed.gathering,
            after_step=packed.write_back,
        )
    return {
        **outcome,
        "trained": len(mask),
        "trained_head": sum(parameter.numel() for parameter in head.values()),
    }
