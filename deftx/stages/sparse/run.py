"""Stage `sparse`: re-train only the chosen entries, from the start weights again."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import torch
from pydantic import Field, model_validator
from transformers import PreTrainedModel

from deftx.core.mask import Mask, load_mask
from deftx.core.parameters import backbone_parameters, head_of, head_parameters, weights_of
from deftx.core.places import in_lower_part
from deftx.core.sparse_delta import SparseDelta
from deftx.core.vector_files import write_sft_config
from deftx.engine.job import facts, training_job
from deftx.engine.params import MethodParams, SourceLanguages
from deftx.engine.sources import Sources, load_round_vector
from deftx.engine.sparse import fit_entries
from deftx.models.base import Base
from deftx.models.vectors import dense_vector
from deftx.stages.full.settings import RoundOf
from deftx.stages.sparse.settings import KeepLower
from deftx.store.artefact import digests
from deftx.store.errors import InputError
from deftx.store.tensors import TensorFile
from deftx.tasks.heads import task_type


class Params(MethodParams, SourceLanguages, RoundOf):
    """What is trained and how, by which method."""

    retrain: bool = Field(default=True, description="false: φ is the pruned difference itself")
    keep_lower: KeepLower = None

    @model_validator(mode="after")
    def _rounds_train(self) -> Self:
        if self.rounds > 1 and not self.retrain:
            raise ValueError(f"rounds is {self.rounds}: with retrain: false there is one")
        return self


def sparse(
    params: Params,
    *,
    base: Path,
    mask: Path,
    train: Path | list[Path],
    valid: Path | None = None,
    start_vector: Path | None = None,
    round_vector: Path | None = None,
    source_vector: list[Path] | None = None,
    delta: Path | None = None,
    out: Path,
) -> None:
    """φ = θ2 − θs at the entries of the mask, and the head of a task in full, with
    `sft_config.json` beside it. With `keep_lower` φ has those of the lower part only, though all
    train. `delta` is read only with `retrain: false`.

    A later round begins with the vector of the one before (`round_vector`), which φ contains. For
    several training files and `source_vector` see `full`.

    Source: the second phase of LT-SFT (Ansell et al. 2022, section 3). Raises as `training_job`,
    `load_round_vector`, `Sources` and `fit_entries` do, and ArtefactError if the mask was made for
    another base.
    """
    encoder = Base.load(base)
    chosen_file = TensorFile(mask)
    encoder.check(chosen_file.provenance, mask)
    chosen = kept = load_mask(chosen_file)
    if params.keep_lower is not None:
        kept = chosen.only(in_lower_part(encoder.known_as, params.keep_lower))
    sources = Sources.of(params, train, source_vector, start_vector)
    begin = load_round_vector(params, params.round, encoder, round_vector)
    inputs = {
        "mask": chosen_file.content,
        **sources.digests(),
        **digests(round_vector=round_vector),
    }
    if not params.retrain:
        if delta is None:
            raise InputError("retrain: false needs the difference (--delta)")
        difference = TensorFile(delta)
        dense = dense_vector(difference, encoder, start_vector)
        phi = SparseDelta.from_dense(dense, kept, head_of(difference))
        inputs |= digests(valid=valid, start=start_vector)
        outcome = {"trained": len(phi), "trained_head": sum(map(torch.numel, phi.head.values()))}
        _write(out, params, phi, {**facts("sparse", params, encoder, inputs), "outcome": outcome})
        return
    with training_job(
        "sparse",
        params,
        encoder,
        out,
        train=sources.train,
        valid=valid,
        start_vector=start_vector,
        inputs=inputs,
        phase=params.phase("sparse"),
    ) as job:
        before = _entries(job.model, kept)
        vectors = sources.load_vectors(encoder)
        outcome = fit_entries(
            job.model, job.objective, params.training, chosen, job.session, begin, vectors
        )
        after = _entries(job.model, kept)
        values = {name: after[name] - before[name] for name in before}
        if job.writes:
            phi = SparseDelta(kept, values, weights_of(head_parameters(job.model)))
            _write(out, params, phi, job.provenance(outcome))


def _entries(model: PreTrainedModel, mask: Mask) -> dict[str, torch.Tensor]:
    """The chosen entries of a model's weights, on the CPU."""
    weights = {name: weight.detach() for name, weight in backbone_parameters(model).items()}
    return SparseDelta.from_dense(weights, mask).to(torch.device("cpu")).values


def _write(out: Path, params: Params, phi: SparseDelta, provenance: Mapping[str, Any]) -> None:
    # The head of a language model serves no task, but the next round goes on with it.
    if not params.classes and params.round == params.rounds:
        phi = SparseDelta(phi.mask, phi.values)
    write_sft_config(
        out.parent,
        provenance["base"],
        params.classes,
        task_type(params.classes, params.kind),
        max_length=params.training.max_length,
        k=len(phi),
        **params.model_dump(include={"method", "target", "start", "seed"}),
    )
    phi.save(out, **provenance)
