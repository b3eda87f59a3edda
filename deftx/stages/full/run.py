"""Stage `full`: fine-tune everything, once for all methods."""

from pathlib import Path

from deftx.core.parameters import backbone_parameters, head_parameters, stored_head
from deftx.engine.full import fit_everything
from deftx.engine.job import training_job
from deftx.engine.params import SourceLanguages, TargetParams
from deftx.engine.sources import Sources, load_round_vector
from deftx.models.base import Base
from deftx.stages.full.settings import Round
from deftx.store.artefact import digests


class Params(TargetParams, SourceLanguages, Round):
    """What is trained and how."""


def full(
    params: Params,
    *,
    base: Path,
    train: Path | list[Path],
    valid: Path | None = None,
    start_vector: Path | None = None,
    round_vector: Path | None = None,
    source_vector: list[Path] | None = None,
    out: Path,
) -> None:
    """Write θ1: all weights after fine-tuning, LayerNorm frozen, and the head under `head.`

    A later round begins with the vector of the one before (`round_vector`). With several training
    files, one for each source of a task, the vector of a source (`source_vector`) is in the weights
    while its batches are computed, and not in θ1.

    Source: the first phase of LT-SFT (Ansell et al. 2022, section 3). Raises as `training_job`,
    `load_round_vector`, `Sources` and `fit_everything` do.
    """
    encoder = Base.load(base)
    sources = Sources.of(params, train, source_vector, start_vector)
    begin = load_round_vector(params, params.round, encoder, round_vector)
    with training_job(
        "full",
        params,
        encoder,
        out,
        train=sources.train,
        valid=valid,
        start_vector=start_vector,
        inputs={**sources.digests(), **digests(round_vector=round_vector)},
        phase=params.phase("full"),
    ) as job:
        vectors = sources.load_vectors(encoder)
        outcome = fit_everything(
            job.model, job.objective, params.training, job.session, begin, vectors
        )
        backbone = {n: p.detach() for n, p in backbone_parameters(job.model).items()}
        job.save({**backbone, **stored_head(head_parameters(job.model))}, outcome)
