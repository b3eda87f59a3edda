"""The sparse phase: only chosen entries train."""

from typing import Any

from transformers import PreTrainedModel

from deftx.backbone import backbone_parameters, head_parameters
from deftx.mask import Mask
from deftx.objective import Objective
from deftx.packed import PackedEntries
from deftx.settings.training import Training
from deftx.trainer import freeze, train


def fit_entries(
    model: PreTrainedModel,
    objective: Objective,
    settings: Training,
    mask: Mask,
    *,
    order_seed: int = 0,
    dropout_seed: int = 0,
) -> dict[str, Any]:
    """Train the entries of the backbone that the mask chooses, and the head in full, in place.
    Every other weight keeps its bits whatever the settings. The best checkpoint is left in place.

    Returns and raises what `deftx.trainer.train` does, with `trained`, the number of entries, and
    `trained_head`; and ArtefactError if the mask does not fit.
    """
    total = freeze(model)
    packed = PackedEntries(backbone_parameters(model), mask)
    head = list(head_parameters(model).values())
    # Registered on the model, so that the Trainer's clipping and zeroing see it.
    model.register_parameter("packed_entries", packed.values)
    try:
        outcome = train(
            model,
            [packed.values, *head],
            objective,
            settings,
            total=total,
            order_seed=order_seed,
            dropout_seed=dropout_seed,
            after_step=packed.write_back,
        )
    finally:
        packed.write_back()
        packed.close()
        del model.packed_entries
    return {
        **outcome,
        "trained": len(mask),
        "trained_head": sum(parameter.numel() for parameter in head),
    }
