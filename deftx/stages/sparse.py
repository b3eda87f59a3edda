"""Stage `sparse`: re-train only the chosen entries, from the start weights again."""

from pathlib import Path

from pydantic import Field

from deftx.artefact import read_manifest, write_json, write_text
from deftx.backbone import backbone_parameters, head_parameters, weights_of
from deftx.base import Base
from deftx.card import model_card
from deftx.delta import Delta
from deftx.mask import load_mask
from deftx.sparse_delta import SparseDelta
from deftx.sparse_training import fit_entries
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
    `sft_config.json` and a README beside it. `delta` is read only with `retrain: false`.

    Source: the second phase of LT-SFT (Ansell et al. 2022, section 3). Raises as `prepare` and
    `fit` do, and ArtefactError if the mask was made for another base.
    """
    encoder = Base.load(base)
    chosen_file = TensorFile(mask)
    encoder.check(chosen_file.provenance, mask)
    chosen = load_mask(chosen_file)
    if params.retrain:
        ready = prepare(params, "sparse", encoder, train, valid, start_vector)
        settings = params.training
        if params.learning_rate is not None:
            settings = settings.model_copy(update={"learning_rate": params.learning_rate})
        outcome = fit_entries(ready.model, ready.objective, settings, chosen, **ready.seeds)
        after = weights_of(backbone_parameters(ready.model))
        phi = SparseDelta.from_dense(
            Delta.between(ready.start, after), chosen, weights_of(head_parameters(ready.model))
        )
    else:
        if delta is None:
            raise ValueError("retrain: false needs the difference (--delta)")
        outcome = {"trained": len(chosen)}
        file = TensorFile(delta)
        dense = dense_vector(file, encoder, start_vector)
        phi = SparseDelta.from_dense(dense, chosen, head_of(file))
    if not params.classes:  # the head of a language model serves no task
        phi = SparseDelta(phi.mask, phi.values)
    provenance = {
        "stage": "sparse",
        "method": params.method,
        "target": params.target,
        "start": params.start,
        "seed": params.seed,
        "base": encoder.identity,
        "params": params.model_dump(),
        "inputs": {
            "mask": chosen_file.content,
            **{
                name: read_manifest(path)["sha256"]
                for name, path in (("train", train), ("valid", valid), ("start", start_vector))
                if path is not None
            },
        },
        "outcome": outcome,
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    write_json(out.parent / "sft_config.json", _config(params, encoder, phi))
    write_text(out.parent / "README.md", model_card(provenance, len(phi)))
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
