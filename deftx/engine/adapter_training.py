"""Training of an adapter: the model stays as it is."""

from contextlib import closing
from typing import Any

from transformers import PreTrainedModel

from deftx.adapters import AdapterModule, installed
from deftx.backbone import head_parameters
from deftx.engine.objective import Objective
from deftx.engine.resolved import resolve
from deftx.engine.session import Session
from deftx.engine.trainer import freeze, train
from deftx.settings.training import Training


def fit_adapter(
    model: PreTrainedModel,
    objective: Objective,
    settings: Training,
    adapter: AdapterModule,
    *,
    below: AdapterModule | None = None,
    drop_last: int = 0,
    session: Session | None = None,
) -> dict[str, Any]:
    """Train an adapter, and the head of the model, in place: in all layers but the last
    `drop_last`, on top of the frozen adapter `below` (that of the source language, for a task).
    Every other weight keeps its bits. The best checkpoint is left in place; the model has no
    adapters afterwards.

    Returns and raises what `train` in trainer.py does, with `trained`, the number of the adapter's
    entries, and `trained_head`; and ValueError as `installed` does.
    """
    session = session or Session()
    total = freeze(model, session.engine.attention)
    head = head_parameters(model)
    stack = [adapter] if below is None else [below.requires_grad_(False), adapter]
    low = resolve(session.engine, model.device).low
    with closing(objective.learner(model, low)) as learner, installed(model, stack, drop_last):
        learner.adapter = adapter  # where the Trainer's clipping and zeroing see it
        entries = {f"adapter.{name}": p for name, p in adapter.named_parameters()}
        trained = {**entries, **{f"head.{name}": p for name, p in head.items()}}
        for parameter in trained.values():
            parameter.requires_grad_(True)
        count = sum(parameter.numel() for parameter in entries.values())
        outcome = train(learner, trained, objective, settings, session, total=total + count)
    return {
        **outcome,
        "trained": count,
        "trained_head": sum(parameter.numel() for parameter in head.values()),
    }
