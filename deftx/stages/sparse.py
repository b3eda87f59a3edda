"""Stage `sparse`: re-train only the chosen entries, from the start weights again."""

from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from transformers import PreTrainedModel

from deftx.artefact import digests, write_json
from deftx.backbone import backbone_parameters, head_parameters, weights_of
from deftx.base import Base
from deftx.engine.checkpoint import Checkpoint
from deftx.engine.processes import is_first
from deftx.engine.sparse_training import fit_entries
from deftx.mask import Mask, load_mask
from deftx.sparse_delta import SparseDelta
from deftx.target import TargetParams, prepare
from deftx.tensor_file import TensorFile
from deftx.vectors import dense_vector, head_of


class Params(TargetParams):
    """What is trained and how, by which method."""

    method: str
    retrain: bool = Field(default=True, description="false: φ is the pruned difference itself")
    learning_rate: float | None = Field(
        default=None, description="instead of that of the target's settings"
    )


def sparse(
    params: Params,
    *,
    base: Path,
    mask: Path,
    train: Path,
    valid: Path | None = None,
    start_vector: Path | None = None,
    delta: Path | None = None,
    out: Path,
) -> None:
    """φ = θ2 − θs at the entries of the mask, and the head of a task in full, with
    `sft_config.json` beside it. `delta` is read only with `retrain: false`.

    Interrupted training goes on where it was. Source: the second phase of LT-SFT (Ansell et al.
    2022, section 3). Raises as `prepare` and `fit` do, ArtefactError if the mask was made for
    another base, and CheckpointError if another process is training the same.
    """
    encoder = Base.load(base)
    chosen_file = TensorFile(mask)
    encoder.check(chosen_file.provenance, mask)
    chosen = load_mask(chosen_file)
    inputs = {
        "mask": chosen_file.content,
        **digests(train=train, valid=valid, start=start_vector),
    }
    if not params.retrain:
        if delta is None:
            raise ValueError("retrain: false needs the difference (--delta)")
        file = TensorFile(delta)
        dense = dense_vector(file, encoder, start_vector)
        pruned = SparseDelta.from_dense(dense, chosen, head_of(file))
        _write(out, params, encoder, pruned, inputs, {"trained": len(chosen)})
        return
    facts = {**params.recorded(), "base": encoder.identity}
    with Checkpoint.of_stage("sparse", out, facts, inputs) as state:
        ready = prepare(params, "sparse", encoder, train, valid, start_vector)
        settings = params.training
        if params.learning_rate is not None:
            settings = settings.model_copy(update={"learning_rate": params.learning_rate})
        before = _entries(ready.model, chosen)
        outcome = fit_entries(ready.model, ready.objective, settings, chosen, ready.session(state))
        if not is_first():
            return
        after = _entries(ready.model, chosen)
        phi = SparseDelta(
            chosen,
            {name: after[name] - before[name] for name in before},
            weights_of(head_parameters(ready.model)),
        )
        _write(out, params, encoder, phi, inputs, outcome)
        state.remove()


def _entries(model: PreTrainedModel, mask: Mask) -> dict[str, torch.Tensor]:
    """The chosen entries of a model's weights."""
    weights = {name: weight.detach() for name, weight in backbone_parameters(model).items()}
    return SparseDelta.from_dense(weights, mask).values


def _write(
    out: Path,
    params: Params,
    base: Base,
    phi: SparseDelta,
    inputs: dict[str, str],
    outcome: dict[str, Any],
) -> None:
    if not params.classes:  # the head of a language model serves no task
        phi = SparseDelta(phi.mask, phi.values)
    provenance = {
        "stage": "sparse",
        "method": params.method,
        "target": params.target,
        "start": params.start,
        "seed": params.seed,
        "base": base.identity,
        "params": params.recorded(),
        "inputs": inputs,
        "outcome": outcome,
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    write_json(out.parent / "sft_config.json", _config(params, base, phi))
    phi.save(out, **provenance)


def _config(params: Params, base: Base, phi: SparseDelta) -> dict[str, object]:
    """What a reader needs to use the vector, under the names that PEFT gives such facts."""
    return {
        "format": 1,
        "base_model_name_or_path": base.identity["id"],
        "revision": base.identity["revision"],
        "base_hash": base.identity["hash"],
        "task_type": "SEQ_CLS" if params.classes else "MASKED_LM",
        "labels": params.classes,
        "max_length": params.training.max_length,
        "method": params.method,
        "target": params.target,
        "start": params.start,
        "seed": params.seed,
        "k": len(phi),
    }
