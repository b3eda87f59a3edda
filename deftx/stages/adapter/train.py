"""Training of an adapter: the model stays as it is."""

from typing import Any

from transformers import PreTrainedModel

from deftx.engine.objective import Objective
from deftx.engine.session import Session
from deftx.engine.settings import Training
from deftx.engine.trainer import freeze, train_with_head
from deftx.stages.adapter.math import AdapterModule, installed


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
    Every other weight keeps its bits; the model is left with the head of the best checkpoint and
    without adapters. Returns and raises what `train_with_head` and `installed` do.
    """
    session = session or Session()
    total = freeze(model, session.engine.attention)
    stack = [adapter] if below is None else [below.requires_grad_(False), adapter]
    entries = {f"adapter.{name}": p for name, p in adapter.named_parameters()}
    total += sum(parameter.numel() for parameter in entries.values())
    with installed(model, stack, drop_last):
        return train_with_head(
            model, entries, objective, settings, session, total=total, part=adapter
        )
