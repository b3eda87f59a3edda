"""Stage `gate`: learn by how much each weight of the linear layers counts."""

from pathlib import Path

from deftx.engine.job import training_job
from deftx.engine.params import TargetParams
from deftx.models.base import Base
from deftx.stages.gate.settings import Gate
from deftx.stages.gate.train import fit_gates


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
    """S, learned at θs with all weights fixed but the head's; the gates are σ(S).

    Source: the first step of Ada-SFT (the SC-SFT paper, section 3.4). Raises as `training_job` and
    `fit_gates` do.
    """
    encoder = Base.load(base)
    with training_job(
        "gate", params, encoder, out, train=train, valid=valid, start_vector=start_vector
    ) as job:
        job.save(*fit_gates(job.model, job.objective, params.training, params.gate, job.session))
