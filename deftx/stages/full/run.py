"""Stage `full`: fine-tune everything, once for all methods."""

from pathlib import Path

from deftx.core.parameters import backbone_parameters, head_parameters, stored_head
from deftx.engine.full import fit_everything
from deftx.engine.processes import is_first
from deftx.engine.source_settings import SourceLanguages
from deftx.engine.sources import Sources
from deftx.engine.target import TargetParams, load_round_vector, prepare
from deftx.models.base import Base
from deftx.stages.full.settings import Round
from deftx.store.artefact import digests
from deftx.store.tensors import save_tensors


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
    """θ1: all weights after fine-tuning, LayerNorm frozen, and the head under `head.`

    A later round begins with the vector of the one before (`round_vector`). With several training
    files, one for each source of a task, the vector of a source (`source_vector`) is in the weights
    while its batches are computed, and not in θ1.

    Interrupted training goes on where it was. Source: the first phase of LT-SFT (Ansell et al.
    2022, section 3). Raises as `prepare`, `load_round_vector`, `Sources` and `fit` do, and
    CheckpointError if another process is training the same.
    """
    encoder = Base.load(base)
    sources = Sources.of(params, train, source_vector, start_vector)
    begin = load_round_vector(params, params.round, encoder, round_vector)
    inputs = {
        **sources.digests(),
        **digests(valid=valid, start=start_vector, round_vector=round_vector),
    }
    with params.checkpoint("full", out, encoder, inputs) as state:
        phase = params.phase("full")
        ready = prepare(params, phase, encoder, sources.train, valid, start_vector)
        outcome = fit_everything(
            ready.model,
            ready.objective,
            params.training,
            ready.session(state),
            begin,
            sources.load_vectors(encoder),
        )
        if not is_first():
            return
        tensors = {n: p.detach() for n, p in backbone_parameters(ready.model).items()}
        tensors |= stored_head(head_parameters(ready.model))
        save_tensors(
            out,
            tensors,
            **params.provenance("full", encoder, inputs, outcome),
        )
        state.remove()
