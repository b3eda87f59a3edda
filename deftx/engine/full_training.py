"""The full phase: all weights train."""

from contextlib import closing
from typing import Any

from transformers import PreTrainedModel

from deftx.backbone import backbone_parameters, head_parameters, layer_norm_names
from deftx.engine.objective import Objective
from deftx.engine.resolved import resolve
from deftx.engine.session import Session
from deftx.engine.trainer import freeze, train
from deftx.settings.training import Training


def fit_everything(
    model: PreTrainedModel,
    objective: Objective,
    settings: Training,
    session: Session | None = None,
) -> dict[str, Any]:
    """Train the backbone but for its normalisation layers, and the head, in place; a frozen
    decoder stays frozen. Leaves the model at its best checkpoint.

    Returns and raises what `train` in trainer.py does, with `trained`, the number of backbone
    entries, and `trained_head`.
    """
    session = session or Session()
    total, norms = freeze(model, session.engine.attention), layer_norm_names(model)
    backbone = {n: p for n, p in backbone_parameters(model).items() if n not in norms}
    head = head_parameters(model)
    trained = {**backbone, **{f"head.{name}": p for name, p in head.items()}}
    for parameter in trained.values():
        parameter.requires_grad_(True)
    low = resolve(session.engine, model.device).low
    with closing(objective.learner(model, low)) as learner:
        outcome = train(learner, trained, objective, settings, session, total=total)
    return {
        **outcome,
        "trained": sum(parameter.numel() for parameter in backbone.values()),
        "trained_head": sum(parameter.numel() for parameter in head.values()),
    }
