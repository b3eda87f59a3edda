"""Stage `gated`: train the weights behind learned gates, from the start weights again."""

from pathlib import Path

from deftx.core.delta import Delta
from deftx.core.parameters import matrices, weights_of
from deftx.engine.job import training_job
from deftx.engine.params import MethodParams
from deftx.models.base import Base
from deftx.stages.gate.math import gate_values
from deftx.stages.gate.settings import Gate
from deftx.stages.gate.train import fit_gated
from deftx.store.errors import ArtefactError
from deftx.store.tensors import TensorFile


class Params(MethodParams):
    """What is trained and how, by which method."""

    gate: Gate = Gate()


def gated(
    params: Params,
    *,
    base: Path,
    gates: Path,
    train: Path,
    valid: Path | None = None,
    start_vector: Path | None = None,
    out: Path,
) -> None:
    """W ⊙ M − θs of every matrix of the linear layers, and the head of a task in full. `gates` is
    a gate artefact of the same settings.

    Source: the second step of Ada-SFT (the SC-SFT paper, section 3.4). Raises as `training_job` and
    `fit_gated` do, and ArtefactError if the gates were made for another base or other settings.
    """
    encoder = Base.load(base)
    learned = TensorFile(gates)
    encoder.check(learned.provenance, gates)
    stage, found = learned.provenance["stage"], learned.provenance["params"].get("gate")
    if stage != "gate":
        raise ArtefactError(f"{gates}: expected a gate artefact, this is of stage {stage}")
    for key, expected in params.gate.model_dump().items():
        if found[key] != expected:
            raise ArtefactError(
                f"{gates}: gates of {key} {found[key]!r}, expected {key} {expected!r}"
            )
    with training_job(
        "gated",
        params,
        encoder,
        out,
        train=train,
        valid=valid,
        start_vector=start_vector,
        inputs={"gates": learned.content},
    ) as job:
        weights = matrices(job.model)
        before = weights_of(weights)
        values = gate_values(learned, weights, params.gate)
        outcome = fit_gated(job.model, job.objective, params.training, values, job.session)
        job.save({**Delta.between(before, weights_of(weights)), **job.head()}, outcome)
