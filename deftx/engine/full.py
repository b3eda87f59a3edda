"""The full phase: all weights train."""

from collections.abc import Sequence
from contextlib import ExitStack, closing
from typing import Any

from transformers import PreTrainedModel

from deftx.core.parameters import backbone_parameters, layer_norm_names, linear_parameters
from deftx.core.sparse_delta import SparseDelta
from deftx.engine.lookup import WithLookUp, trained_rows
from deftx.engine.loop import freeze, train_with_head
from deftx.engine.objective import Objective
from deftx.engine.passes import Hooks
from deftx.engine.session import Session, resolve
from deftx.engine.settings import Training
from deftx.engine.sources import around_source


def fit_everything(
    model: PreTrainedModel,
    objective: Objective,
    settings: Training,
    session: Session | None = None,
    round_vector: SparseDelta | None = None,
    source_vectors: Sequence[SparseDelta | None] = (),
) -> dict[str, Any]:
    """Train the backbone but for its normalisation layers, and the head, in place; a frozen
    decoder stays frozen. Leaves the model at its best checkpoint.

    `round_vector`: training begins with it added to the weights and its head in place, while the
    L1 term holds the weights as they are given. `source_vectors`: see `around_source`.

    Returns and raises what `train_with_head` does; and ArtefactError if a vector does not fit.
    """
    session = session or Session()
    total, norms = freeze(model, session.engine.attention), layer_norm_names(model)
    backbone = {n: p for n, p in backbone_parameters(model).items() if n not in norms}

    def begin() -> None:
        if round_vector is not None:
            round_vector.put_head(model)
            round_vector.add_to(backbone_parameters(model))

    around = around_source(model, objective, source_vectors)
    hooks = Hooks(begin, around)
    with ExitStack() as stack:
        fused = resolve(session.engine, model.device).fused
        rows = trained_rows(model, backbone) if fused else None
        if rows is not None:
            words = stack.enter_context(closing(WithLookUp(model, backbone, rows)))
            hooks = Hooks(begin, around, words.leaves, words.gather)
        return train_with_head(
            model,
            backbone,
            objective,
            settings,
            session,
            total=total,
            # What vectors are added to must have all its bits.
            lowered=linear_parameters(model) if around is None else (),
            rows=rows,
            hooks=hooks,
        )
