"""Stage `full`: fine-tune everything, once for all methods."""

from pathlib import Path

from deftx.artefact import digests
from deftx.backbone import backbone_parameters, head_parameters
from deftx.base import Base
from deftx.engine.checkpoint import Checkpoint
from deftx.engine.full_training import fit_everything
from deftx.engine.processes import is_first
from deftx.target import TargetParams, prepare
from deftx.tensor_file import save_tensors


class Params(TargetParams):
    """What is trained and how."""


def full(
    params: Params,
    *,
    base: Path,
    train: Path,
    valid: Path | None = None,
    start_vector: Path | None = None,
    out: Path,
) -> None:
    """θ1: all weights after fine-tuning, LayerNorm frozen, and the head under `head.`

    Interrupted training goes on where it was. Source: the first phase of LT-SFT (Ansell et al.
    2022, section 3). Raises as `prepare` and `fit` do, and CheckpointError if another process is
    training the same.
    """
    encoder = Base.load(base)
    inputs = digests(train=train, valid=valid, start=start_vector)
    facts = {**params.recorded(), "base": encoder.identity}
    with Checkpoint.of_stage("full", out, facts, inputs) as state:
        ready = prepare(params, "full", encoder, train, valid, start_vector)
        outcome = fit_everything(
            ready.model, ready.objective, params.training, ready.session(state)
        )
        if not is_first():
            return
        tensors = {n: p.detach() for n, p in backbone_parameters(ready.model).items()}
        tensors |= {f"head.{n}": p.detach() for n, p in head_parameters(ready.model).items()}
        save_tensors(
            out,
            tensors,
            stage="full",
            target=params.target,
            start=params.start,
            seed=params.seed,
            base=encoder.identity,
            params=params.recorded(),
            inputs=inputs,
            outcome=outcome,
        )
        state.remove()
