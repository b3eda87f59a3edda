"""The full phase: all weights train."""

from typing import Any

from transformers import PreTrainedModel

from deftx.backbone import backbone_parameters, head_parameters, layer_norm_names
from deftx.objective import Objective
from deftx.settings.training import Training
from deftx.trainer import freeze, train


def fit_everything(
    model: PreTrainedModel,
    objective: Objective,
    settings: Training,
    *,
    order_seed: int = 0,
    dropout_seed: int = 0,
) -> dict[str, Any]:
    """Train the backbone but for its normalisation layers, and the head, in place; a frozen
    decoder stays frozen. Leaves the model at its best checkpoint.

    Returns and raises what `deftx.trainer.train` does, with `trained`, the number of backbone
    entries, and `trained_head`.
    """
    total, norms = freeze(model), layer_norm_names(model)
    backbone = [p for name, p in backbone_parameters(model).items() if name not in norms]
    head = list(head_parameters(model).values())
    outcome = train(
        model,
        [*backbone, *head],
        objective,
        settings,
        total=total,
        order_seed=order_seed,
        dropout_seed=dropout_seed,
    )
    return {
        **outcome,
        "trained": sum(parameter.numel() for parameter in backbone),
        "trained_head": sum(parameter.numel() for parameter in head),
    }
