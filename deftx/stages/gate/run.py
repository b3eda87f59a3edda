"""Stage `gate`: learn by how much each weight of the linear layers counts."""

from pathlib import Path

from deftx.engine.processes import is_first
from deftx.engine.target import TargetParams, prepare
from deftx.models.base import Base
from deftx.stages.gate.settings import Gate
from deftx.stages.gate.train import fit_gates
from deftx.store.artefact import digests
from deftx.store.tensors import save_tensors


class Params(TargetParams):
    """What is trained and how, by which method."""

    method: str
    gate: Gate = Gate()


def gate(
    params: Params,
    *,
    base: Path,
    train: Path,
    valid: Path | None = None,
    start_vector: Path | None = None,
    out: Path,
) -> None:
    """S, of which the gates are σ(S), learned at θs with all weights fixed but the head's.

    Interrupted training goes on where it was. Source: the first step of Ada-SFT (the SC-SFT
    paper, section 3.4). Raises as `prepare` and `fit_gates` do, and CheckpointError if another
    process is training the same.
    """
    encoder = Base.load(base)
    inputs = digests(train=train, valid=valid, start=start_vector)
    with params.checkpoint("gate", out, encoder, inputs) as state:
        ready = prepare(params, "gate", encoder, train, valid, start_vector)
        learned, outcome = fit_gates(
            ready.model, ready.objective, params.training, params.gate, ready.session(state)
        )
        if not is_first():
            return
        save_tensors(
            out,
            learned,
            method=params.method,
            **params.provenance("gate", encoder, inputs, outcome),
        )
        state.remove()
